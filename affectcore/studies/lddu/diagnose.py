"""The study's executor: trains and scores as ever, and looks at what latents, spreads and gates came to be.

An arm asks for it by `execute="affectcore.studies.lddu.diagnose:train_and_diagnose"` and by its option `diagnose`, a
list of words of DIAGNOSES; each adds an entry of its name to `extra`, of LDDU unless said otherwise:

| word | what it adds |
|---|---|
| `spread` | does the length of the spreads rank the errors, beside entropy, and on a world beside the truth |
| `draws` | (any model) hits under drawn groups, so that intervals over items can be computed without their targets |
| `latent` | how far rows of the contrastive loss part by emotion and by modality; seed 0: their map |
| `gate` | scores with other gates at test, and errors where the info classifier is right or wrong, sure or unsure |
| `corruption` | spreads, gate and scores when one modality is corrupted at test |
| `dropout` | aleatoric and epistemic entropy by drop-out left on |
| `intensity` | scores by intensity and by number of emotions, and whether spreads follow intensity |
| `votes` | spread and entropies against raters' disagreement, given the inputs' |
| `posterior` | (any model, on the world) scores of exact posteriors that know, ignore or mistake the noise scales |

u: length of all modalities' spreads of a label; e: |probability - label|. Rank correlations are taken label by label
and averaged. Numbers carry six significant digits; what is not defined is null. Draws come from streams of the run's
seed, none of which training uses.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from affectcore.data.corruption import make_corruption
from affectcore.data.missing import make_missing
from affectcore.data.schema import Batch
from affectcore.errors import AffectError, ConfigError
from affectcore.evaluation.calibration import risk_coverage
from affectcore.evaluation.metrics import metric
from affectcore.evaluation.statistics import item_weights
from affectcore.models.lddu import LDDU, LDDUOutput
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.streams import rng
from affectcore.studies.brief import short
from affectcore.studies.execute import Fitted, modules, train_and_score
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec
from affectcore.training.loop import CHUNK
from affectcore.training.recipe import preset
from affectcore.training.selection import threshold

__all__ = ["modules", "train_and_diagnose"]

Array = NDArray[np.float64]
Said = Mapping[str, Array]
DIAGNOSES = ("spread", "draws", "latent", "gate", "corruption", "dropout", "intensity", "votes", "posterior")
ANY_MODEL = ("draws", "posterior")
F1, AUROC = metric("multi_label", "micro_f1"), metric("multi_label", "auroc_macro")
ITEMS = 1000  # test items that are corrupted, or predicted with drop-out
CLIPS = 400  # test items whose rows are compared
DRAWS = 250
PASSES = 10  # with drop-out
BINS = 10


def train_and_diagnose(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Return what `train_and_score` returns, with the diagnoses that the arm's options ask for."""
    options = dict(specs[0].options)
    asked = options.pop("diagnose", ())
    unknown = [*options, *(d for d in asked if d not in DIAGNOSES)]
    if unknown:
        raise ConfigError(f"{specs[0].label}: option {unknown[0]!r} is unknown: diagnose takes {', '.join(DIAGNOSES)}")
    return train_and_score(specs, device, inspect=inspect if asked else None)


def inspect(f: Fitted) -> dict[str, Any]:
    """Return what goes into `extra`."""
    out: dict[str, Any] = {}
    valid, test = (f.data.split(k, f.selection) for k in ("valid", "test"))
    y = valid.target.numpy()
    t = _tuned(f, y, f.scores["valid", "clean"])
    asked = f.spec.options["diagnose"]
    if "draws" in asked:
        out["draws"] = hits(f, test, f.scores["test", "clean"] >= t)
    if "posterior" in asked:
        out["posterior"] = posterior(f, valid, test)
    if isinstance(f.model, LDDU) and set(asked) - set(ANY_MODEL):
        out |= _of_lddu(f, f.model, valid, test, t)
    return cast(dict[str, Any], short(out))


def _of_lddu(f: Fitted, model: LDDU, valid: Batch, test: Batch, t: float) -> dict[str, Any]:
    asked, out = f.spec.options["diagnose"], {}
    said, y, seed = outputs(model, test), test.target.double().numpy(), f.spec.seed
    if "spread" in asked:
        out["spread"] = spread(f, test, said, y, t)
        if "draws" in asked:
            out["spread"]["draws"] = drawn_ranks(f, test, said, y)
    if "latent" in asked:
        out["latent"] = latent(said, y, seed, len(model.shape.dims))
    if "gate" in asked and "direct" in said and "centre" in said and "uncertain" in said:
        out["gate"] = gates(f, outputs(model, valid), valid.target.double().numpy(), said, y, t)
    some = _some(test, seed)
    if "corruption" in asked:
        out["corruption"] = corrupted(model, test, some, seed, t)
    if "dropout" in asked:
        out["dropout"] = decomposed(f, model, some)
    if "intensity" in asked:
        out["intensity"] = by_intensity(test, said, y, t)
    if "votes" in asked:
        out["votes"] = votes(model, test, said, seed)
    return out


def _tuned(f: Fitted, y: NDArray[np.generic], scores: NDArray[np.floating]) -> float:
    """The threshold with the best micro F1 among those of the recipe: the run's own where its rule tunes it."""
    grid = preset("lddu").thresholds if f.spec.recipe is None else preset(f.spec.recipe).thresholds
    return threshold(y, scores, "micro_f1", f.spec.recipe_overrides.get("thresholds", grid))[0]


# --- what the model says ---------------------------------------------------------------------------------------------


def outputs(model: LDDU, batch: Batch, words: Callable[[int, int], torch.Tensor] | None = None) -> dict[str, Array]:
    """Return probabilities "p" and, where there are such parts, logits "direct", "centre", "uncertain" (N, q), "gate"
    and "norm" (N, q), the spreads' lengths "spreads" (N, M, q), rows "row" (N, M, q, F) of the contrastive loss, and
    expected intensities "ordinal" (N, q).

    words(count, chunk): noise to leave drop-out on; none by default.
    """
    like = next(model.parameters()).detach()
    batch = batch.to(like.device, like.dtype)
    parts: list[dict[str, torch.Tensor]] = []
    with torch.no_grad():
        for i, rows in enumerate(torch.arange(len(batch), device=like.device).split(CHUNK)):
            chunk, tape = batch.rows(rows), Tape(like, training=words is not None)
            o = cast(LDDUOutput, model(chunk, tape))
            if words is not None:
                o = cast(LDDUOutput, model(chunk, Pool(words(tape.words, i), like)))
            found = {
                "p": o.prediction.sigmoid(), "direct": o.direct, "centre": o.centre, "uncertain": o.uncertain,
                "gate": o.gate, "norm": o.norm, "spreads": o.spread.norm(dim=-1), "row": o.latent.row,
                "ordinal": None if o.ordinal is None else o.ordinal.sigmoid().sum(-1),
            }  # fmt: skip
            parts.append({k: v for k, v in found.items() if v is not None})
    return {k: torch.cat([p[k] for p in parts]).double().cpu().numpy() for k in parts[0]}


def _some(test: Batch, seed: int) -> Batch:
    rows = np.sort(rng(seed, "diagnose", "items").permutation(len(test))[:ITEMS])
    return test.rows(torch.from_numpy(rows))


# --- ranks -----------------------------------------------------------------------------------------------------------


def entropy(p: Array) -> Array:
    """Return the entropy of binary probabilities, in bits."""
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-(q * np.log2(q) + (1 - q) * np.log2(1 - q)))


def correlation(a: Array, b: Array, *given: Array) -> float:
    """Return Spearman's rank correlation of two arrays (N,) or the mean over the columns of (N, q) where it is defined.

    given: further arrays, whose ranks are regressed out of both: the partial correlation.
    """
    if a.ndim == 1:
        a, b, given = a[:, None], b[:, None], tuple(x[:, None] for x in given)
    found = []
    for j in range(a.shape[1]):
        x, y, *others = (rankdata(v[:, j]) - (len(v) + 1) / 2 for v in (a, b, *given))  # ranks have this mean
        if others:
            base, _ = np.linalg.qr(np.column_stack(others))
            x, y = (v - base @ (base.T @ v) for v in (x, y))
        size = np.sqrt((x @ x) * (y @ y))
        found.append(float(x @ y / size) if size > 1e-9 * len(x) ** 2 else np.nan)
    return _mean(found)


def _mean(x: Sequence[float] | Array) -> float:
    a = np.asarray(x, float)
    a = a[np.isfinite(a)]
    return float(a.mean()) if len(a) else float("nan")


def area(score: Array, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC, mean over the columns that have both."""
    found = []
    for s, y in zip(score.T, positive.T):
        n, m = int(y.sum()), int((~y).sum())
        if n and m:
            found.append((rankdata(s)[y].sum() - n * (n + 1) / 2) / (n * m))
    return _mean(found)


# --- diagnoses -------------------------------------------------------------------------------------------------------


def spread(f: Fitted, test: Batch, said: Said, y: Array, t: float) -> dict[str, Any]:
    """Return what u is worth as uncertainty.

    rho: correlation with e of u, "entropy" of the probability, "given": u given the entropy, "shuffled": u of another
    item, and on a world of the mean log noise scale ("scale") and, if the arm asks for `posterior`, of the entropy of
    the exact posterior ("posterior").
    with_p: of u with the info classifier's probability, or without one the final one. wrong: area under the ROC of u
    and of entropy for wrong labels. aurc, curve: of risk against coverage, of u, entropy and the best order; curves at
    tenths of the items. deciles: mean e in tenths of u and of entropy. size: mean, standard deviation over items,
    smallest and largest u, mean over labels. noise: (M, M), modality's own spread against modality's log noise scale.
    """
    u, p = said["norm"], said["p"]
    e, h, wrong = np.abs(p - y), entropy(p), (p >= t) != (y > 0.5)
    other = rng(f.spec.seed, "diagnose", "shuffled").permutation(len(y))
    rho = {"u": correlation(u, e), "entropy": correlation(h, e), "given": correlation(u, e, h),
           "shuffled": correlation(u[other], e)}  # fmt: skip
    out: dict[str, Any] = {
        "rho": rho,
        "with_p": correlation(u, expit(said["direct"]) if "direct" in said else p),
        "wrong": {"u": area(u, wrong), "entropy": area(h, wrong)},
        "size": [u.mean(), u.std(0).mean(), u.min(0).mean(), u.max(0).mean()],
        "deciles": {k: _deciles(x, e) for k, x in (("u", u), ("entropy", h))},
    }
    orders = {"u": u, "entropy": h, "best": wrong.astype(float)}
    curves = {k: [risk_coverage(-x[:, j], wrong[:, j]).risk for j in range(y.shape[1])] for k, x in orders.items()}
    at = np.maximum(np.arange(1, BINS + 1) * len(y) // BINS, 1) - 1
    out["aurc"] = {k: np.mean(c) for k, c in curves.items()}
    out["curve"] = {k: np.mean(c, 0)[at] for k, c in curves.items()}
    if f.world is not None and "scale" in f.world.factors:
        scale = np.log(f.world.known(test)["scale"])
        if "posterior" in f.spec.options["diagnose"]:
            exact = entropy(f.world.oracle(f.world.data.split("test", f.selection)))
            rho["posterior"] = correlation(exact, e)
        rho["scale"] = correlation(np.repeat(scale.mean(1)[:, None], y.shape[1], 1), e)
        own = said["spreads"].mean(2)  # (N, M)
        out["noise"] = [
            [correlation(own[:, m], scale[:, k]) for k in range(scale.shape[1])] for m in range(own.shape[1])
        ]
    return out


def _deciles(x: Array, e: Array) -> Array:
    """Mean e in tenths of the items by x, mean over labels."""
    order = np.argsort(x, 0, kind="stable")
    parts = np.array_split(np.take_along_axis(e, order, 0), BINS)
    return np.array([part.mean() if len(part) else np.nan for part in parts])


def _group_weights(f: Fitted, test: Batch) -> Array:
    """Weights (DRAWS, N) of items under drawn groups: the same for all runs that score the same items."""
    group = test.group.numpy()
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    seed = f.spec.seed if f.spec.data.source == "world" else 0
    stream = rng(seed, "diagnose", "draws", f.spec.data.name)
    return np.asarray(item_weights(members, ("groups",), DRAWS, stream), np.float64)


def hits(f: Fitted, test: Batch, predicted: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what micro F1 is made of, (hits, predicted, present) summed over items and labels: [0] as it is, then
    under DRAWS draws of groups. Sums of folds add up, so F1 over all folds and its interval follow from them."""
    y = test.target.numpy() > 0.5
    each = np.stack([(predicted & y).sum(1), predicted.sum(1), y.sum(1)], 1)
    weights = np.concatenate([np.ones((1, len(y))), _group_weights(f, test)])
    return dict(zip(("hits", "predicted", "present"), (weights @ each).T.round().astype(int)))


def drawn_ranks(f: Fitted, test: Batch, said: Said, y: Array) -> dict[str, Array]:
    """Return the correlations with e of u ("u"), of entropy and of u given entropy under draws of groups, (DRAWS,)."""
    u, p = said["norm"], said["p"]
    e, h = np.abs(p - y), entropy(p)
    rows = [np.repeat(np.arange(len(y)), w.astype(int)) for w in _group_weights(f, test)]
    return {
        "u": np.array([correlation(u[r], e[r]) for r in rows]),
        "entropy": np.array([correlation(h[r], e[r]) for r in rows]),
        "given": np.array([correlation(u[r], e[r], h[r]) for r in rows]),
    }


def latent(said: Said, y: Array, seed: int, modalities: int) -> dict[str, Any]:
    """Return how the rows of present labels of (at most 400) test items lie.

    silhouette by "emotion", by "modality", by "both", and by modality after each modality's mean is taken away
    ("centred") or with modalities "shuffled". gap: mean distance of an emotion's centres in two modalities over that of
    two emotions' in one. map, seed 0 alone: t-SNE coordinates of the rows with their emotions and modalities.
    """
    keep = rng(seed, "diagnose", "clips").permutation(len(y))[:CLIPS]
    item, emotion = np.nonzero(y[keep] > 0.5)
    x = np.concatenate([said["row"][keep][item, m, emotion] for m in range(modalities)])
    label, of = np.tile(emotion, modalities), np.repeat(np.arange(modalities), len(emotion))
    middle = np.stack([x[of == m].mean(0) for m in range(modalities)])[of]
    present = [int(j) for j in np.unique(emotion)]
    centre = {(j, m): x[(label == j) & (of == m)].mean(0) for j in present for m in range(modalities)}
    sides = list(combinations(range(modalities), 2))
    across = [_far(centre[j, a], centre[j, b]) for j in present for a, b in sides]
    within = [_far(centre[i, m], centre[j, m]) for m in range(modalities) for i, j in combinations(present, 2)]
    out: dict[str, Any] = {
        "silhouette": {
            "emotion": _silhouette(x, label), "modality": _silhouette(x, of),
            "both": _silhouette(x, label * modalities + of), "centred": _silhouette(x - middle, of),
            "shuffled": _silhouette(x, rng(seed, "diagnose", "modalities").permutation(of)),
        },
        "gap": _mean(across) / _mean(within) if within and _mean(within) > 0 else np.nan,
    }  # fmt: skip
    if seed == 0:
        few = rng(seed, "diagnose", "map").permutation(len(x))[:CLIPS]
        perplexity = min(30.0, max(1.0, len(few) / 4))
        xy = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(x[few])
        out["map"] = {"xy": xy.round(2), "emotion": label[few], "modality": of[few]}
    return out


def _far(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b))


def _silhouette(x: Array, labels: NDArray[np.integer]) -> float:
    return float(silhouette_score(x, labels)) if 1 < len(np.unique(labels)) < len(x) else float("nan")


def gates(f: Fitted, on_valid: Said, y_valid: Array, said: Said, y: Array, t: float) -> dict[str, Any]:
    """Return scores with other gates at test, [micro F1 at the run's threshold, macro AUROC] by name, and bins.

    "as trained"; "label": g = y; "certain": g = 1 - |p - y|; "inverted": 1 - p; "shuffled": another item's p, "mixed
    r": (1 - r) p + r of another's; "entropy", "half", "mu" and "sigma" as in the model. bins: info classifier right or
    wrong at its own threshold, sure or unsure by the median entropy: [share, wrong final labels, wrong by the center
    classifier alone, wrong by the uncertainty classifier alone, mean u], thresholds tuned on validation.
    """
    p, c, s = (expit(said[k]) for k in ("direct", "centre", "uncertain"))
    other = p[rng(f.spec.seed, "diagnose", "other").permutation(len(p))]
    g = {
        "label": y, "certain": 1 - np.abs(p - y), "p": p, "inverted": 1 - p, "shuffled": other,
        "entropy": 1 - entropy(p), "half": np.full_like(p, 0.5), "mu": np.ones_like(p), "sigma": np.zeros_like(p),
    }  # fmt: skip
    g |= {f"mixed {r:g}": (1 - r) * p + r * other for r in (0.25, 0.5, 0.75)}
    out = {"as trained": _scores(y, said["p"], t)}
    out |= {name: _scores(y, w * c + (1 - w) * s, t) for name, w in g.items()}
    own = {k: _tuned(f, y_valid, expit(on_valid[k])) for k in ("direct", "centre", "uncertain")}
    right, sure = (p >= own["direct"]) == (y > 0.5), entropy(p) <= np.median(entropy(p))
    wrong = [(q >= at) != (y > 0.5) for q, at in ((said["p"], t), (c, own["centre"]), (s, own["uncertain"]))]
    bins = {
        f"{a}, {b}": [k.mean(), *(w[k].mean() if k.any() else np.nan for w in (*wrong, said["norm"]))]
        for a, one in (("right", right), ("wrong", ~right)) for b, two in (("sure", sure), ("unsure", ~sure))
        for k in (one & two,)
    }  # fmt: skip
    return {"scores": out, "bins": bins}


def _scores(y: Array, p: Array, t: float) -> list[float]:
    truth = y.astype(np.int64)
    return [F1(truth, (p >= t).astype(np.int64)), AUROC(truth, p)]


def corrupted(model: LDDU, test: Batch, some: Batch, seed: int, t: float) -> dict[str, Any]:
    """Return, by "clean" and "KIND MODALITY": scores [micro F1, AUROC], mean log length of every modality's spread,
    correlation of u with e, mean gate. Kinds: noise of .5, 1 and 2 standard deviations, shuffled time, the modality of
    another item, none of it."""
    out, where = {}, {int(i): k for k, i in enumerate(test.index)}
    rows = torch.tensor([where[int(i)] for i in some.index])

    def noise(s: float) -> Callable[[str], Callable[[Batch], Batch]]:
        return lambda m: make_corruption("gaussian", s, seed, modalities=(m,))

    kinds = {f"noise {s:g}": noise(s) for s in (0.5, 1.0, 2.0)}
    kinds["shuffled"] = lambda m: make_corruption("time_shuffle", 1.0, seed, modalities=(m,))
    kinds["swapped"] = lambda m: make_corruption("swap", 1.0, seed, modalities=(m,))
    kinds["absent"] = lambda m: cast(Callable[[Batch], Batch], make_missing("without", 1.0, seed, absent=(m,)))

    def read(batch: Batch) -> dict[str, Any]:
        said, y = outputs(model, batch), batch.target.double().numpy()
        return {
            "scores": _scores(y, said["p"], t),
            "spreads": np.log(said["spreads"].clip(1e-12)).mean((0, 2)),
            "rho": correlation(said["norm"], np.abs(said["p"] - y)),
            "gate": said["gate"].mean(),
        }

    out["clean"] = read(some)
    for kind, make in kinds.items():
        for m in test.modalities:
            whole = make(m)(test) if kind == "swapped" else None  # partners are found in a whole split
            out[f"{kind} {m}"] = read(make(m)(some) if whole is None else whole.rows(rows))
    return out


def decomposed(f: Fitted, model: LDDU, some: Batch) -> dict[str, Any]:
    """Return "u", "aleatoric" (mean entropy over PASSES with drop-out), "epistemic" (entropy of the mean less that):
    each [mean, correlation with e, on a world also that of the item's mean with its mean log noise scale]."""
    parts, y = uncertainties(model, some, f.spec.seed), some.target.double().numpy()
    e = np.abs(parts.pop("mean") - y)
    out = {k: [v.mean(), correlation(v, e)] for k, v in parts.items()}
    if f.world is not None and "scale" in f.world.factors:
        scale = np.log(f.world.known(some)["scale"]).mean(1)
        for k, v in parts.items():
            out[k].append(correlation(v.mean(1), scale))
    return out


def uncertainties(model: LDDU, batch: Batch, seed: int) -> dict[str, Array]:
    """Return u without drop-out, and mean probability, aleatoric and epistemic entropy in bits over passes with it."""
    each = []
    like = next(model.parameters()).detach()
    for k in range(PASSES):
        words = lambda count, chunk, k=k: fill([seed], count, like.device, "diagnose", "dropout", k, chunk)[0]  # noqa: E731
        each.append(outputs(model, batch, words)["p"])
    p = np.stack(each)
    aleatoric = entropy(p).mean(0)
    return {"u": outputs(model, batch)["norm"], "mean": p.mean(0), "aleatoric": aleatoric,
            "epistemic": entropy(p.mean(0)) - aleatoric}  # fmt: skip


def by_intensity(test: Batch, said: Said, y: Array, t: float) -> dict[str, Any]:
    """Return by intensity below .5, below 1, and 1 or more: [area under the ROC against absent, recall], mean over
    labels; micro F1 of items with one emotion or none and with more; correlation of intensity with -u where present;
    and with an ordinal head the mean error of its expected intensity."""
    level, p, u = test.extras["intensity"].double().numpy(), said["p"], said["norm"]
    there, absent = y > 0.5, y < 0.5
    out: dict[str, Any] = {}
    for name, low, high in (("weak", 0.0, 0.5), ("middle", 0.5, 0.99), ("strong", 0.99, 9.0)):
        mine = there & (level > low) & (level <= high)
        areas = [
            area(p[k, j : j + 1], mine[k, j : j + 1]) for j in range(y.shape[1]) for k in (mine[:, j] | absent[:, j],)
        ]
        out[name] = [_mean(areas), float((p >= t)[mine].mean()) if mine.any() else np.nan]
    for name, rows in (("few", y.sum(1) <= 1), ("several", y.sum(1) > 1)):
        out[name] = F1(y[rows].astype(np.int64), (p[rows] >= t).astype(np.int64)) if rows.any() else np.nan
    each = [correlation(level[k, j], -u[k, j]) for j in range(y.shape[1]) for k in (there[:, j],) if k.sum() > 2]
    out["rho"] = _mean(each)
    if "ordinal" in said:
        out["error"] = np.abs(said["ordinal"] - np.minimum(level, 3)).mean()
    return out


def votes(model: LDDU, test: Batch, said: Said, seed: int) -> dict[str, Any]:
    """Return for "u", "entropy", "aleatoric", "epistemic" (means over labels): rank correlation with the entropy of the
    audio-visual votes, and the same given the entropies of the voice's and the face's votes; "inputs": the correlation
    of these two with it. The features must be the readers' own, shares of votes first."""
    share = test.extras["av_share"].double().numpy()
    disagreement = _shannon(share)
    given = [_shannon(test.features[m][:, 0, : share.shape[1]].double().numpy()) for m in test.modalities]
    parts = {k: v for k, v in uncertainties(model, test, seed).items() if k != "mean"}
    parts["entropy"] = entropy(said["p"])
    out: dict[str, Any] = {
        k: [correlation(v.mean(1), disagreement), correlation(v.mean(1), disagreement, *given)]
        for k, v in parts.items()
    }
    return out | {"inputs": [correlation(x, disagreement) for x in given]}


def _shannon(share: Array) -> Array:
    q = share / np.maximum(share.sum(1, keepdims=True), 1e-12)
    return np.asarray(-(q * np.log2(np.maximum(q, 1e-12))).sum(1))


def posterior(f: Fitted, valid: Batch, test: Batch) -> dict[str, float]:
    """Return the micro F1 of exact posteriors, threshold tuned on validation: "known" noise scales, the "typical" scale
    for every item (uncertainty ignored), and the scales of "another" item."""
    assert f.world is not None
    raw = {k: f.world.data.split(k, f.selection) for k in ("valid", "test")}
    out = {}
    for name in ("known", "typical", "another"):
        p = {}
        for k, batch in raw.items():
            scale = f.world.known(batch, shuffled=name == "another")["scale"]
            p[k] = f.world.truth.oracle(batch, {"scale": np.ones_like(scale) if name == "typical" else scale})
        at = _tuned(f, valid.target.numpy(), p["valid"])
        out[name] = F1(test.target.numpy().astype(np.int64), (p["test"] >= at).astype(np.int64))
    return out
