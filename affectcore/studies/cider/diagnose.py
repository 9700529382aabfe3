"""The study's executor: trains and scores as ever, and looks at what was learned, mostly by scoring the model again.

An arm asks for it by `execute="affectcore.studies.cider.diagnose:train_and_look"` and by `options`: "look", a list of
words of LOOKS; "also", conditions of ALSO in which the model is scored beside the spec's own, without predictions being
kept; "of", the parts that are scored so beside valid. Parts: "valid"; "iid", a test set of the training distribution;
"ood", one whose words go with other labels, where the data have one. Accuracy of signs ("acc2") leaves neutral samples
out; deciding for neutral is an error.

In `extra` always: `acc2[part][condition]` and `auilc[part]`, the area under acc2 over the rates of RMFM.

| look | entry of `extra` |
|---|---|
| tau | `tau[kind][part][condition]`: acc2 and accuracy at every tau of TAUS, complete samples, see `counterfactuals` |
| tau_all | the same for more kinds, and for words on incomplete samples; "words, probabilities" subtracts those |
| causal | `causal`: acc2 on ood, complete samples: spurious words or as many others hidden; class means exchanged |
| parts | `parts`: area on iid with audio and vision hidden, and with those of another sample |
| bounds | `bounds[part]`: acc2 of the better constant; on a world, of the exact posteriors, see `bounds` |
| modes | `modes[mode]`: acc2 on iid at every rate of MODE_RATES, six modes; "only" per subset of modalities |
| order | `order`: how far log-probabilities and decisions move with the order and the size of a batch |
| means | `means[variant]`: acc2 on ood (or iid) with other class means and shares in evaluation |
| grid | `grid`: what a dictionary of bias words keeps and brings, for every rule of GRID, see `grid` |
| sensors | `sensors[shift]`: acc2 under shifts of audio or vision: factual, and with three counterfactuals |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affectcore.data.corruption import feature_scale, make_corruption
from affectcore.data.missing import make_missing
from affectcore.data.schema import Batch
from affectcore.errors import AffectError, ConfigError
from affectcore.evaluation.robustness import auilc
from affectcore.models.cider import CIDer, bias_words, class_statistics
from affectcore.models.contract import AffectModel
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.streams import rng
from affectcore.studies.brief import short
from affectcore.studies.execute import Fitted, modules, train_and_score
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import Condition, RunSpec
from affectcore.training.loop import CHUNK

__all__ = ["modules", "train_and_look"]

LOOKS = ("tau", "tau_all", "causal", "parts", "bounds", "modes", "order", "means", "grid", "sensors")
TAUS = tuple(round(0.1 * i, 1) for i in range(31))
ITEMS = 2000  # test items of the looks that illustrate: tau_all on incomplete samples, modes, means, grid, sensors
_RATES = [("rmfm", r) for r in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)] + [("rmm", 0.5)]
ALSO = {f"{mode} {r:g}": Condition(f"{mode} {r:g}", f"missing/{mode}", r) for mode, r in _RATES}
TAU_RATES = (0.5, 0.9, 1.0)  # of incomplete samples whose tau is swept
MODE_RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MODES = ("rmfm", "rmfm_same", "rmm", "tmfm", "stmfm")
SUBSETS = ("text", "audio", "vision", "text+audio", "text+vision", "audio+vision", "text+audio+vision")
TOKENS = {"tokens": (0, 1, 2), "token_ids": (0, 1)}  # extras that number words, with the numbers that are no words
PUBLISHED = {"normalised": False, "neutral": False, "stale": True}  # how the published code finds bias words
GRID = {"cv": (0.0, 0.1, 0.3, 0.5, 1.0), "most": (25, 50, 100, 200, None), "normalised": (True, False)}
Floats = NDArray[np.float64]
Change = Callable[[Batch], Batch]


def train_and_look(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Return what `train_and_score` returns, with what the arm's options ask for. Raises ConfigError for others."""
    known = {"look": LOOKS, "also": tuple(ALSO), "of": ("iid", "ood")}
    for name, value in specs[0].options.items():
        if unknown := [x for x in value if x not in known.get(name, ())]:
            legal = "; ".join(f"{k}: {', '.join(v)}" for k, v in known.items())
            raise ConfigError(f"{specs[0].label}: option {name} = {unknown[0]!r} is unknown: use {legal}")
    return train_and_score(specs, device, inspect=inspect)


def inspect(f: Fitted) -> dict[str, Any]:
    """Return what goes into `extra`."""
    look = f.spec.options.get("look", ())
    out: dict[str, Any] = {"acc2": {}, "auilc": {}}
    for part, split in parts(f).items():
        batch = f.data.split(split, f.selection)
        found = {c.name: acc2(batch.target.numpy(), f.scores[split, c.name]) for c in f.spec.conditions}
        if part in ("valid", *f.spec.options.get("of", ())):
            found |= {c.name: scored(f, masked(c, f.spec.seed)(batch)) for c in conditions(f) if c.name not in found}
        out["acc2"][part], out["auilc"][part] = found, area([c for c in conditions(f) if c.name in found], found)
    looks: dict[str, Callable[[Fitted], Any]] = {
        "causal": causal, "parts": without_others, "bounds": bounds, "modes": modes, "order": order, "means": means,
        "grid": grid, "sensors": sensors,
    }  # fmt: skip
    if "tau" in look or "tau_all" in look:
        out["tau"] = tau(f, "tau_all" in look)
    out |= {name: looks[name](f) for name in look if name in looks}
    return cast(dict[str, Any], short(out))


# --- scores ----------------------------------------------------------------------------------------------------------


def parts(f: Fitted) -> dict[str, str]:
    """Return the splits by the part they play."""
    if "test_ood" in f.data.splits:
        return {"valid": "valid", "iid": "test", "ood": "test_ood"}
    if "test_iid" in f.data.splits:
        return {"valid": "valid", "iid": "test_iid", "ood": "test"}
    return {"valid": "valid", "iid": "test"}


def batch_of(f: Fitted, part: str, most: int | None = None) -> Batch:
    """Return a part's samples, all or `most` of them, always the same ones of a seed."""
    batch = f.data.split(parts(f)[part], f.selection)
    if most is None or len(batch) <= most:
        return batch
    return batch.rows(torch.from_numpy(np.sort(rng(f.spec.seed, "look", part).permutation(len(batch))[:most])))


def conditions(f: Fitted) -> tuple[Condition, ...]:
    """Return the spec's conditions and those that are scored beside them."""
    return (*f.spec.conditions, *(ALSO[name] for name in f.spec.options.get("also", ())))


def shifted(f: Fitted) -> str:
    """Return the part where words mislead, or the test set of data that have none."""
    return "ood" if "ood" in parts(f) else "iid"


def acc2(y: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the accuracy on samples that are not neutral; of three classes, neutral is the middle one."""
    kept = y != 1 if scores.shape[1] == 3 else np.ones(len(y), bool)
    return float((scores.argmax(1) == y)[kept].mean())


def area(conditions: Sequence[Condition], values: Mapping[str, float]) -> float | None:
    """Return the area under values over the rates of RMFM, None unless these run from 0 to 1."""
    rates = {0.0 if c.protocol is None else c.rate: c.name for c in conditions if c.protocol in (None, "missing/rmfm")}
    if min(rates, default=1) > 0 or max(rates) < 1:
        return None
    return float(auilc(sorted(rates), [values[rates[r]] for r in sorted(rates)]))


def log_scores(model: AffectModel, batch: Batch, seed: int, size: int = CHUNK) -> Floats:
    """Return log-probabilities (N, C) in evaluation, `size` samples at a time."""
    like = next(model.parameters()).detach()
    out: list[Tensor] = []
    with torch.no_grad():
        for i, rows in enumerate(torch.arange(len(batch)).split(size)):
            given = batch.rows(rows).to(like.device, like.dtype)
            tape = Tape(like, training=False)
            prediction = model(given, tape).prediction
            if tape.words:  # few models draw in evaluation: else the dry run was the run
                words = fill([seed], tape.words, like.device, "evaluate", i)[0]
                prediction = model(given, Pool(words, like, training=False)).prediction
            out.append(prediction.log_softmax(-1).double().cpu())
    return np.asarray(torch.cat(out).numpy())


def scored(f: Fitted, batch: Batch) -> float:
    """Return acc2 of the model on a batch."""
    return acc2(batch.target.numpy(), log_scores(f.model, batch, f.spec.seed))


def masked(c: Condition, seed: int) -> Change:
    """Return the change that a condition makes to a batch."""
    if c.protocol is None:
        return lambda batch: batch
    return make_missing(c.protocol.partition("/")[2], c.rate, seed if c.seed is None else c.seed, **dict(c.options))


# --- counterfactual texts --------------------------------------------------------------------------------------------


def tokens_of(batch: Batch) -> tuple[Tensor, tuple[int, ...]]:
    """Return a batch's word numbers (N, T), and the numbers that are no words."""
    for name, special in TOKENS.items():
        if name in batch.extras:
            return batch.extras[name], special
    raise ConfigError(f"counterfactual texts need one of the extras {', '.join(TOKENS)}, has {', '.join(batch.extras)}")


def dictionary(f: Fitted, **rule: Any) -> tuple[int, ...]:
    """Return the bias words of the training split."""
    train = f.data.split("train")
    tokens, special = tokens_of(train)
    return bias_words(tokens.numpy(), train.target.numpy(), special=special, **rule)


def keeping(words: Sequence[int]) -> Change:
    """Return the change that hides every word but these."""

    def change(batch: Batch) -> Batch:
        tokens, _ = tokens_of(batch)
        kept = torch.isin(tokens, torch.tensor(list(words), dtype=tokens.dtype))
        return batch.with_observed({"text": kept[:, : batch.observed["text"].shape[1]]})

    return change


def spurious(f: Fitted, shuffled: bool, keep: bool = True) -> Change:
    """Return the change that keeps (or hides) the truly spurious words of a world, or as many other words."""

    def change(batch: Batch) -> Batch:
        assert f.world is not None
        marked = torch.from_numpy(f.world.mechanism(batch, shuffled=shuffled)["spurious"])
        return batch.with_observed({"text": marked if keep else ~marked})

    return change


def counterfactuals(f: Fitted, more: bool) -> dict[str, Change | None]:
    """Return what is subtracted, by kind; None stands for the training shares of the classes.

    words: all words but the bias words hidden; oracle: all but the truly spurious ones (world); shuffled: all but as
    many words taken at random. more: also published (bias words as the published code finds them), blank (no text) and
    prior.
    """
    words = dictionary(f)
    out: dict[str, Change | None] = {"words": keeping(words)}
    if f.world is not None:
        out |= {"oracle": spurious(f, False)}
    tokens, special = tokens_of(f.data.split("train"))
    known = np.setdiff1d(np.unique(tokens.numpy()), special)
    out["shuffled"] = keeping(rng(f.spec.seed, "look", "words").permutation(known)[: len(words)].tolist())
    if more:
        out |= {"published": keeping(dictionary(f, **PUBLISHED)), "blank": keeping(()), "prior": None}
    return out


def tau(f: Fitted, more: bool) -> dict[str, Any]:
    """Return acc2 and accuracy at every tau: {kind: {part: {condition: {"acc2": [...], "accuracy": [...]}}}}."""
    train = f.data.split("train").target.numpy()
    prior = np.log(np.bincount(train, minlength=f.data.task.outputs).clip(0.5) / len(train))
    kinds = counterfactuals(f, more)
    out: dict[str, Any] = {k: {} for k in kinds} | ({"words, probabilities": {}} if more else {})
    for part, split in parts(f).items():
        for c in conditions(f):
            complete = c.protocol is None
            if not complete and (not more or c.protocol != "missing/rmfm" or c.rate not in TAU_RATES):
                continue
            batch = masked(c, f.spec.seed)(batch_of(f, part, None if complete else ITEMS))
            y = batch.target.numpy()
            if complete:
                factual = np.log(np.asarray(f.scores[split, c.name], float).clip(1e-30))
            else:
                factual = log_scores(f.model, batch, f.spec.seed)
            for kind in kinds if complete else ("words",):
                change = kinds[kind]
                other = prior if change is None else log_scores(f.model, change(batch), f.spec.seed)
                out[kind].setdefault(part, {})[c.name] = swept(y, factual, other)
                if kind == "words" and more:
                    found = swept(y, np.exp(factual), np.exp(other))
                    out["words, probabilities"].setdefault(part, {})[c.name] = found
    return out


def swept(y: NDArray[np.integer], factual: Floats, other: Floats) -> dict[str, list[float]]:
    """Return acc2 and accuracy of factual - tau * other, by tau."""
    scores = [factual - t * other for t in TAUS]
    return {"acc2": [acc2(y, s) for s in scores], "accuracy": [float((s.argmax(1) == y).mean()) for s in scores]}


# --- looks -----------------------------------------------------------------------------------------------------------


def causal(f: Fitted) -> dict[str, float]:
    """Return acc2 on ood: "hidden" and "shuffled" words, and "rolled": class means of another class (CIDer alone)."""
    batch = batch_of(f, "ood")
    out = {k: scored(f, spurious(f, k == "shuffled", keep=False)(batch)) for k in ("hidden", "shuffled")}
    if isinstance(f.model, CIDer) and f.model.config.head == "mixture":
        classes = f.model.classes
        kept = classes.total.clone(), classes.count.clone()
        classes.total.copy_(kept[0].roll(1, 0))
        classes.count.copy_(kept[1].roll(1, 0))
        out["rolled"] = scored(f, batch)
        classes.total.copy_(kept[0])
        classes.count.copy_(kept[1])
    return out


def without_others(f: Fitted) -> dict[str, float | None]:
    """Return the area on iid with text "alone", and with audio and vision "swapped" between samples."""
    others = tuple(m for m in f.data.split("train").modalities if m != "text")
    changes: dict[str, Change] = {
        "alone": make_missing("only", 1.0, f.spec.seed, present=("text",)),
        "swapped": make_corruption("swap", 1.0, f.spec.seed, modalities=others),
    }
    whole = batch_of(f, "iid")
    rates = [c for c in conditions(f) if c.protocol in (None, "missing/rmfm")]
    out = {}
    for name, change in changes.items():
        batch = change(whole)
        out[name] = area(rates, {c.name: scored(f, masked(c, f.spec.seed)(batch)) for c in rates})
    return out


def bounds(f: Fitted) -> dict[str, Any]:
    """Return the floor of every part and, on a world, the exact posteriors' acc2 per condition, with their areas."""
    out: dict[str, Any] = {}
    for part in parts(f):
        whole = batch_of(f, part)
        y = whole.target.numpy()
        signs = np.bincount(y, minlength=f.data.task.outputs)[[0, -1]]
        out[part] = {"floor": signs.max() / signs.sum()}
        if f.world is None:
            continue
        raw = f.world.data.split(parts(f)[part], f.selection)
        for name, posterior in (("bayes", f.world.bayes), ("oracle", f.world.oracle)):
            found = {c.name: acc2(y, posterior(masked(c, f.spec.seed)(raw))) for c in conditions(f)}
            out[part][name] = found | {"auilc": area(conditions(f), found)}
    return out


def modes(f: Fitted) -> dict[str, Any]:
    """Return acc2 on iid by mode and rate; modes that need aligned data are left out where these are not."""
    batch = batch_of(f, "iid", ITEMS)
    aligned = len({x.shape[1] for x in batch.features.values()}) == 1
    out: dict[str, Any] = {}
    for mode in MODES if aligned else MODES[:3]:
        out[mode] = [scored(f, make_missing(mode, r, f.spec.seed)(batch)) for r in MODE_RATES]
    known = set(batch.modalities)
    subsets = [s for s in SUBSETS if set(s.split("+")) <= known]
    out["only"] = {s: scored(f, make_missing(f"only:{s}", 1.0, f.spec.seed)(batch)) for s in subsets}
    return out


def order(f: Fitted) -> dict[str, Any]:
    """Return the largest and the mean change of log-probabilities, and the share of decisions that change: with the
    samples in another order, and with batches of 32 and of 1 instead of CHUNK."""
    batch, seed = batch_of(f, "iid", 2 * CHUNK), f.spec.seed
    usual = log_scores(f.model, batch, seed)
    shuffle = rng(seed, "look", "order").permutation(len(batch))
    out = {}
    for name, rows, size in (("order", shuffle, CHUNK), ("32", np.arange(len(batch)), 32), ("1", np.arange(64), 1)):
        found = log_scores(f.model, batch.rows(torch.from_numpy(rows)), seed, size)
        change = np.abs(found - usual[rows])
        moved = (found.argmax(1) != usual[rows].argmax(1)).mean()
        out[name] = {"largest": change.max(), "mean": change.mean(), "decisions": moved}
    return out


def means(f: Fitted) -> dict[str, float]:
    """Return acc2 with the evaluation's class means and shares exchanged; on ood, or on iid where there is none."""
    model = f.model
    if not isinstance(model, CIDer) or model.config.head != "mixture":
        raise ConfigError(f"{f.spec.label}: look 'means' needs CIDer with a mixture head")
    batch, head = batch_of(f, shifted(f), ITEMS), model.network.head
    of_split, _ = class_statistics(batch_of(f, shifted(f)), f.data.task, model.config.padded)
    variants: dict[str, dict[str, Any]] = {
        "train": {"evaluation_prior": "train", "evaluation_means": "class"},
        "uniform shares": {"evaluation_prior": "uniform", "evaluation_means": "class"},
        "average of means": {"evaluation_prior": "train", "evaluation_means": "average"},
        "both, as published": {"evaluation_prior": "uniform", "evaluation_means": "average"},
        "means of the test split": {
            "evaluation_prior": "train", "evaluation_means": "class", "evaluation_class_means": of_split,
        },
    }  # fmt: skip
    kept, out = head.config, {}
    for name, changes in variants.items():
        head.config = replace(kept, **changes)
        out[name] = scored(f, batch)
    head.config = kept
    return out


def grid(f: Fitted) -> list[dict[str, Any]]:
    """Return for every rule of GRID: words it takes, share of occurrences kept, on a world the shares of its words that
    are spurious, and of the spurious words that it takes, and acc2 with tau chosen on valid and at the best tau."""
    valid, batch = batch_of(f, "valid"), batch_of(f, shifted(f), ITEMS)
    base = {id(b): log_scores(f.model, b, f.spec.seed) for b in (valid, batch)}
    tokens, special = tokens_of(batch)
    real = ~np.isin(tokens.numpy(), special)
    role = None if f.world is None else f.world.truth.role
    known: dict[tuple[int, ...], dict[str, Any]] = {}
    rows = []
    for normalised in GRID["normalised"]:
        for cv in GRID["cv"]:
            for most in GRID["most"]:
                rule = {
                    "cv": cv,
                    "most": most,
                    "normalised": normalised,
                    "neutral": normalised,
                    "stale": not normalised,
                }
                words = tuple(sorted(dictionary(f, **rule)))
                if words not in known:
                    change = keeping(words)
                    curves = {
                        k: swept(b.target.numpy(), base[id(b)], log_scores(f.model, change(b), f.spec.seed))["acc2"]
                        for k, b in (("valid", valid), ("test", batch))
                    }
                    found = {"words": len(words), "kept": np.isin(tokens.numpy(), words)[real].mean()}
                    found |= {"gain": curves["test"][int(np.argmax(curves["valid"]))] - curves["test"][0]}
                    found |= {"best": max(curves["test"]) - curves["test"][0]}
                    if role is not None:
                        taken = np.isin(np.arange(len(role)), words)
                        found["precision"] = (role[taken] == 2).mean() if taken.any() else np.nan
                        found["recall"] = taken[role == 2].mean()
                    known[words] = found
                rows.append({"cv": cv, "most": most, "normalised": normalised, **known[words]})
    return rows


def sensors(f: Fitted) -> dict[str, Any]:
    """Return acc2 on iid under shifts that leave the text alone: "factual", and with the counterfactual text, audio and
    vision subtracted, each with its own tau, chosen on valid; "unshifted" is the first entry.

    A counterfactual audio or vision is the training mean at every step.
    """
    train, seed = f.data.split("train"), f.spec.seed
    others = [m for m in train.modalities if m != "text"]
    mean = {m: train.features[m][train.observed[m]].mean(0) for m in others}
    scale = feature_scale(train)

    def replaced(m: str) -> Change:
        return lambda b: replace(b, features={**b.features, m: mean[m] * b.observed[m].unsqueeze(-1).float()})

    kinds: dict[str, Change] = {"text": keeping(dictionary(f))} | {m: replaced(m) for m in others}
    shifts: dict[str, Change] = {"unshifted": lambda b: b}
    for m in others:
        for s in (1.0, 3.0):
            shifts[f"{m} noise {s:g}"] = make_corruption("gaussian", s, seed, modalities=(m,), scale=scale)
        shifts[f"{m} scaled"] = _affine(m, 1.7, 0.0, scale[m])
        shifts[f"{m} offset"] = _affine(m, 1.0, 1.0, scale[m])
        shifts[f"{m} other sample"] = make_corruption("swap", 1.0, seed, modalities=(m,))
    valid, whole = batch_of(f, "valid"), batch_of(f, "iid", ITEMS)
    chosen = {}
    factual = log_scores(f.model, valid, seed)
    for k, change in kinds.items():
        curve = swept(valid.target.numpy(), factual, log_scores(f.model, change(valid), seed))["acc2"]
        chosen[k] = TAUS[int(np.argmax(curve))]
    out: dict[str, Any] = {"tau": chosen}
    for name, shift in shifts.items():
        batch = shift(whole)
        y, plain = batch.target.numpy(), log_scores(f.model, batch, seed)
        out[name] = {"factual": acc2(y, plain)}
        for k, change in kinds.items():
            t = chosen[k]
            other = plain if t == 0 else plain - t * log_scores(f.model, change(batch), seed)
            out[name][k] = acc2(y, other)
    return out


def _affine(modality: str, factor: float, offset: float, scale: Tensor) -> Change:
    """Return x -> factor * x + offset * scale on the observed steps of a modality."""

    def change(b: Batch) -> Batch:
        x = (factor * b.features[modality] + offset * scale) * b.observed[modality].unsqueeze(-1).float()
        return replace(b, features={**b.features, modality: x})

    return change
