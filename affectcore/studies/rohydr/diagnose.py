"""The study's executor: trains and scores as ever, and looks at what was recovered.

An arm asks for it by `execute="affectcore.studies.rohydr.diagnose:train_and_diagnose"` and by its options:

| option | value | what it does |
|---|---|---|
| `diagnose` | words of DIAGNOSES | adds these entries to `extra` |
| `headline` | words of DIAGNOSES | the same, on the headline world alone |
| `probe` | true | adds to every epoch the share of right signs on validation with one modality left |

In `extra` always: `subsets[condition][name] = [share of right decisions, samples]` on test, by the modalities at hand
("text+audio"), for conditions that hide modalities; "right" is the sign of a score (targets of 0 left out) or the
class. "shuffled" is the same for a model whose denoisers are shown another sample's streams at test. Everything else
is read off at most ITEMS test samples, or FEWER. Numbers carry six significant digits.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from torch import Tensor

from affectcore.data.missing import EachStep, Only, PublishedRandomMR, RandomMR, RandomSubset, make_missing
from affectcore.data.schema import Batch
from affectcore.errors import AffectError, ConfigError
from affectcore.evaluation import metrics
from affectcore.evaluation.recovery import r2
from affectcore.models.contract import AffectModel, Progress
from affectcore.models.rohydr import GROUPS, RoHyDR, RoHyDROutput
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.nn.pooling import masked_mean
from affectcore.studies.brief import short
from affectcore.studies.execute import Fitted, modules, train_and_score
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import Condition, RunSpec

__all__ = ["modules", "train_and_diagnose"]

DIAGNOSES = ("shuffled", "recovery", "audit", "steps", "gradients")
ITEMS, FEWER, CHUNK = 1000, 500, 2000
MOSI = 686  # test samples of CMU-MOSI, on which the audit draws its masks
DRAWS = 200
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SAMPLERS = (("ddim", 1), ("ddim", 2), ("ddim", 4), ("ddim", 10), ("ddim", 50), ("dpm", 4), ("euler", 10))
Floats = NDArray[np.float64]


def train_and_diagnose(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Return what `train_and_score` returns, with the diagnoses that the arm's options ask for."""
    options = dict(specs[0].options)
    for name, value in options.items():
        known = DIAGNOSES if name in ("diagnose", "headline") else (False, True) if name == "probe" else ()
        for v in value if isinstance(value, list | tuple) else [value]:
            if v not in known:
                raise ConfigError(f"{specs[0].label}: option {name} = {v!r} is unknown")
    return train_and_score(specs, device, inspect=inspect, probe=probe if options.get("probe") else None)


def inspect(f: Fitted) -> dict[str, Any]:
    """Return what goes into `extra`."""
    options = f.spec.options
    look = [*options.get("diagnose", ()), *(options.get("headline", ()) if "headline" in f.spec.data.name else ())]
    test = f.data.split("test", f.selection)
    hiding = [c for c in f.spec.conditions if (c.protocol or "").startswith("missing/")]
    out: dict[str, Any] = {"subsets": {c.name: by_subset(f, test, c, f.scores["test", c.name]) for c in hiding}}
    if isinstance(f.model, RoHyDR) and look:
        more, fewer = (test.rows(torch.arange(min(n, len(test)))) for n in (ITEMS, FEWER))
        train = f.data.split("train")
        with torch.no_grad():
            if "shuffled" in look:
                out["shuffled"] = {c.name: shuffled(f, test, c) for c in hiding}
            if "recovery" in look:
                out["recovery"] = recovery(f.model, train, fewer, f.spec.seed)
            if "audit" in look:
                out["audit"] = audit(f.model, more, f.spec.seed)
            if "steps" in look:
                out["steps"] = steps(f.model, fewer, f.spec.seed)
        if "gradients" in look:
            out["gradients"] = gradients(f.model, train, f.spec.seed)
    return cast(dict[str, Any], short(out))


def probe(model: AffectModel, valid: Batch) -> dict[str, float]:
    """Return the share of right signs on validation where every sample keeps one modality, the same at every epoch."""
    n = len(valid.modalities)
    hidden = RandomSubset((n - 1) / n, 0)(valid)
    said = passed(model, hidden, 0).prediction
    return {"acc2": right(said.cpu().numpy(), valid.target.cpu().numpy())[0]}


# --- what the model says ---------------------------------------------------------------------------------------------


def passed(model: Any, batch: Batch, seed: int, *purpose: int) -> RoHyDROutput:
    """Return one pass in evaluation; whatever it draws is of the stream (seed, "diagnose", *purpose)."""
    like = next(model.parameters()).detach()
    batch, tape = batch.to(like.device, like.dtype), Tape(like, training=False)
    out = model(batch, tape)
    if tape.words:  # with the fixed noise nothing is drawn: the dry run was the run
        words = fill([seed], tape.words, like.device, "diagnose", *purpose)[0]
        out = model(batch, Pool(words, like, training=False))
    return cast(RoHyDROutput, out)


def changed(model: Any, **settings: Any) -> Any:
    """Return the model under other settings of its evaluation; weights are shared, the model itself stays."""
    other = copy.copy(model)
    other.config = replace(model.config, **settings)
    return other


def right(said: NDArray[Any], target: NDArray[Any]) -> tuple[float, int]:
    """Return the share of right decisions and how many were scored; NaN where none was."""
    if said.ndim == 1:
        scored = target != 0
        hit = ((said > 0) == (target > 0))[scored]
    else:
        hit = said.argmax(1) == target
    return (float(hit.mean()) if len(hit) else float("nan")), len(hit)


def available(batch: Batch) -> list[str]:
    """Return for every sample the modalities it has, "text+audio"; "" for none."""
    there = np.stack([batch.observed[m].any(-1).cpu().numpy() for m in batch.modalities], -1)
    return ["+".join(np.array(batch.modalities)[row]) for row in there]


def change_of(f: Fitted, c: Condition) -> Any:
    """Return the missing protocol of a condition for a run."""
    name, seed = str(c.protocol).partition("/")[2], f.spec.seed if c.seed is None else c.seed
    return make_missing(name, c.rate, seed, **dict(c.options))


def by_subset(f: Fitted, test: Batch, c: Condition, said: NDArray[Any]) -> dict[str, Any]:
    """Return [share of right decisions, samples] by the modalities at hand in a condition."""
    names, y = np.array(available(change_of(f, c)(test))), test.target.numpy()
    return {str(k): right(said[names == k], y[names == k]) for k in np.unique(names)}


def shuffled(f: Fitted, test: Batch, c: Condition) -> dict[str, Any]:
    """Return `by_subset` of the model whose denoisers are shown the streams of the sample before."""
    model, hidden = changed(f.model, condition="shuffled"), change_of(f, c)(test)
    said = [
        passed(model, hidden.rows(rows), f.spec.seed, i).prediction.cpu().numpy()
        for i, rows in enumerate(torch.arange(len(hidden)).split(CHUNK))
    ]
    return by_subset(f, test, c, np.concatenate(said))


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all non-empty subsets, the smallest first."""
    return [s for k in range(1, len(names) + 1) for s in combinations(names, k)]


# --- diagnoses -------------------------------------------------------------------------------------------------------


def pooled(x: Tensor, batch: Batch, m: str) -> Floats:
    """Return the mean of a stream over the steps that exist, (N, d)."""
    return masked_mean(x, batch.valid(m).to(x.device)).double().cpu().numpy()


def recovery(model: RoHyDR, train: Batch, test: Batch, seed: int) -> dict[str, Any]:
    """Return, by modality, how its recovered stream compares with the true one.

    probe: share of right signs on test of a ridge regression of the target on the pooled true stream, fitted on train,
    given [the true stream, the recovered one, the one recovered from another sample's streams, from none]; others: of
    one on the true streams of all other modalities; r2, linear: by subset at hand, R^2 of the pooled recovered stream,
    and of a ridge regression from the pooled streams at hand to the pooled stream, fitted on train; auc: area of a
    quadratic two-sample classifier on first steps, out of fold, of [recovered, other true, mean] against true ones;
    variance: over four noise draws, of the pooled stream in units of the true one's, [before the reconstructor, after,
    of the mean of the four before]; halves: log ratio of the variance of two draws to that of the other two.
    """
    names, full, known = model.names, passed(model, test, seed), passed(model, train, seed)
    if not full.recovered:
        return {}
    y, y_train = test.target.numpy(), train.target.numpy()
    truth = {m: pooled(full.truth[i], test, m) for i, m in enumerate(names)}
    fitted = {m: pooled(known.truth[i], train, m) for i, m in enumerate(names)}
    out: dict[str, Any] = {}
    for p, i in enumerate(model.targets):
        m, others = names[i], [o for o in names if o != names[i]]
        hidden = Only(1.0, present=tuple(others))(test)
        found = passed(model, hidden, seed)
        apart, none = (passed(changed(model, condition=c), hidden, seed) for c in ("shuffled", "none"))
        mine = pooled(found.recovered[p], test, m)
        of_true = Ridge().fit(fitted[m], y_train)
        of_others = Ridge().fit(np.hstack([fitted[o] for o in others]), y_train)
        said = [truth[m], mine, *(pooled(o.recovered[p], test, m) for o in (apart, none))]
        entry: dict[str, Any] = {
            "probe": [right(of_true.predict(x), y)[0] for x in said],
            "others": right(of_others.predict(np.hstack([truth[o] for o in others])), y)[0],
            "r2": {}, "linear": {},
        }  # fmt: skip
        for s in subsets(others):
            seen = found if len(s) == len(others) else passed(model, Only(1.0, present=s)(test), seed)
            straight = Ridge().fit(np.hstack([fitted[o] for o in s]), fitted[m])
            entry["r2"]["+".join(s)] = r2(truth[m], pooled(seen.recovered[p], test, m))
            entry["linear"]["+".join(s)] = r2(truth[m], straight.predict(np.hstack([truth[o] for o in s])))
        first = full.truth[i][:, 0].double().cpu().numpy()
        mean = np.broadcast_to(known.truth[i][:, 0].double().cpu().numpy().mean(0), first.shape)
        entry["auc"] = [two_sample(first, x) for x in (found.recovered[p][:, 0].double().cpu().numpy(), first, mean)]
        few = hidden.rows(torch.arange(min(FEWER // 2, len(hidden))))
        entry["variance"], entry["halves"] = uncertainty(model, few, m, p, i, truth[m], seed)
        out[m] = entry
    return out


def uncertainty(
    model: RoHyDR, hidden: Batch, m: str, p: int, i: int, truth: Floats, seed: int
) -> tuple[list[float], float]:
    """Return `variance` and `halves` of `recovery`; the draws of a model that draws nothing do not vary."""
    loose = changed(model, draws=1)
    before, after = [], []
    for k in range(4):
        o = passed(loose, hidden, seed, k)
        before.append(pooled(model._unscaled(i, o.samples[p], hidden.valid(m)), hidden, m))
        after.append(pooled(o.recovered[p], hidden, m))
    unit = truth.var(0).mean()
    raw, mended = np.stack(before), np.stack(after)
    spread = [float(x.var(0, ddof=1).mean() / unit) for x in (raw, mended)]
    pairs = [float(x.var(0, ddof=1).mean()) for x in (raw[:2], raw[2:])]
    halves = float(np.log(pairs[0] / pairs[1])) if min(pairs) > 0 else 0.0
    return [*spread, spread[0] / 4], halves


def two_sample(truth: Floats, other: Floats) -> float:
    """Return the area under the ROC of a quadratic classifier of true rows against others, halves trained on in turn.

    True rows are the even samples, the others the odd ones, so that no sample is on both sides.
    """
    x = np.concatenate([truth[::2], other[1::2]])
    y = np.concatenate([np.ones(len(truth[::2])), np.zeros(len(other[1::2]))])
    fold, areas = np.arange(len(x)) // 2 % 2, []
    for k in (0, 1):
        c = QuadraticDiscriminantAnalysis(reg_param=0.1).fit(x[fold != k], y[fold != k])
        areas.append(roc_auc_score(y[fold == k], c.predict_proba(x[fold == k])[:, 1]))
    return float(np.mean(areas))


def audit(model: RoHyDR, test: Batch, seed: int) -> dict[str, Any]:
    """Return what the drawing of masks alone does to the accuracy of one trained model.

    subsets: share of right signs by subset, every sample under each; curve: {rate: {acc2, f1, acc7}} under one draw per
    sample; sample, batch: {rate: [[acc2, realised rate] of each of 200 draws]} on the first 686 samples, drawn per
    sample and, as published, per batch of 32.
    """
    y = test.target.numpy()
    said = {
        "+".join(s): passed(model, Only(1.0, present=s)(test), seed).prediction.numpy() for s in subsets(model.names)
    }
    out: dict[str, Any] = {
        "subsets": {k: right(v, y)[0] for k, v in said.items()}, "curve": {}, "sample": {}, "batch": {},
    }  # fmt: skip

    def mixed(names: Sequence[str]) -> Floats:
        return np.array([said[k][j] for j, k in enumerate(names)], float)

    for rate in RATES:
        found = mixed(available(RandomMR(rate, seed)(test)))
        scored = {n: metrics.metric("regression", n)(y, found) for n in ("acc2_non_zero", "f1_non_zero", "acc7")}
        out["curve"][f"{rate:g}"] = {k.removesuffix("_non_zero"): v for k, v in scored.items()}
    few = test.rows(torch.arange(min(MOSI, len(test))))
    for rate in (0.3, 0.5, 0.7):
        for name, kind in (("sample", RandomMR), ("batch", PublishedRandomMR)):
            drawn = []
            for k in range(DRAWS):
                names = available(kind(rate, 1000 * seed + k)(few))
                left = np.mean([1 - (n.count("+") + 1) / len(model.names) for n in names])
                drawn.append([right(mixed(names), y[: len(names)])[0], float(left)])
            out[name][f"{rate:g}"] = drawn
    return out


def steps(model: RoHyDR, test: Batch, seed: int) -> list[dict[str, Any]]:
    """Return accuracy with one modality left and milliseconds of a batch of 128, by sampler and number of its steps.

    spread: mean over samples of the prediction's deviation over three noise draws. One row for models that do not
    sample. Milliseconds are the least of three, CPU time.
    """
    n = len(model.names)
    hidden = RandomSubset((n - 1) / n, seed)(test)
    y, few = test.target.numpy(), hidden.rows(torch.arange(min(128, len(hidden))))
    samples, exploding = model.config.recovery == "diffusion", model.config.process == "exploding"
    chosen = [s for s in SAMPLERS if samples and not (exploding and s[0] == "euler")]
    rows = []
    for name, count in chosen or [(model.config.recovery, 0)]:
        one = changed(model, sampler=name, sampling_steps_test=count) if chosen else model
        said = passed(one, hidden, seed).prediction.numpy()
        taken = []
        for _ in range(3):
            start = time.process_time()
            passed(one, few, seed)
            taken.append(1000 * (time.process_time() - start))
        row = {"sampler": name, "steps": count, "acc2": right(said, y)[0], "ms": min(taken)}
        if chosen and count <= 10:
            loose = changed(one, draws=1)
            row["spread"] = float(np.std([passed(loose, few, seed, k).prediction.numpy() for k in range(3)], 0).mean())
        rows.append(row)
    return rows


def gradients(model: RoHyDR, train: Batch, seed: int, batches: int = 3, size: int = 120) -> dict[str, Any]:
    """Return norms and cosines of the three groups' gradients on what they share, at the selected epoch.

    norms: {part: {group: [one a batch]}} for the reconstructors and the fusion, weights as in training; cosine: {part:
    [generator with classifier, or rebuilding with classifier, one a batch]}; summed: how many times the noise loss
    grows where it is summed over features and steps.
    """
    like = next(model.parameters()).detach()
    hide, last = EachStep(RandomSubset(0.5, 0)), Progress(1, 10**6, 10**6, 1)
    parts = {k: [p for n, p in model.named_parameters() if n.startswith(k)] for k in ("reconstructors", "fusion")}
    norms: dict[str, dict[str, list[float]]] = {k: {g: [] for g in GROUPS} for k in parts}
    cosine: dict[str, list[float]] = {k: [] for k in parts}
    weights = model._fixed_weights(last)
    for b in range(batches):
        batch = hide(train.rows(torch.arange(b * size, (b + 1) * size) % len(train)), seed, b)
        batch, tape = batch.to(like.device, like.dtype), Tape(like)
        with torch.no_grad():
            model(batch, tape)
        o = model(batch, Pool(fill([seed], tape.words, like.device, "diagnose", "gradients", b)[0], like))
        terms, _ = model._terms(o, batch, tuple(GROUPS))
        for part, leaves in parts.items():
            flat = {}
            for g, members in GROUPS.items():
                loss = torch.stack([weights[k] * terms[k] for k in members if k in terms]).sum()
                found = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
                flat[g] = torch.cat([x.flatten() for x in found]).double()
                norms[part][g].append(float(flat[g].norm()))
            first = flat["generator" if part == "reconstructors" else "rebuilding"]
            cosine[part].append(float(torch.nn.functional.cosine_similarity(first, flat["classifier"], 0)))
    size_of = model.config.width * max(model.steps)
    return {"norms": norms, "cosine": cosine, "summed": size_of}
