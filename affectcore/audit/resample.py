"""Draws of every metric under the hierarchical bootstrap, cheap because most metrics depend on sums over items.

A draw takes items (or whole groups) with replacement; it is a vector of counts. Whatever a metric needs of the items
(hits, a confusion table, moments) is a feature matrix (N, K), so all draws of all metrics are one matrix product,
`counts @ features`, followed by the metric's formula on the sums. With counts of 1 the formulas give the values of
`affectcore.evaluation.metrics`; the tests hold them to those on repeated rows. AUROC and average precision depend on
ranks and take weighted cumulative sums instead.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectcore.evaluation.metrics import SIMS_EDGES, round_sentiment
from affectcore.evaluation.statistics import item_weights
from affectcore.streams import rng

Floats = NDArray[np.float64]
BLOCK = 4_000_000  # elements of one block of counts
RANK_DRAWS = 500  # ranks cost a pass over all items per draw, class and seed
RANK_METRICS = ("auroc_macro", "mean_average_precision", "global_average_precision")


@dataclass(frozen=True)
class Draws:
    """counts (D, U): how often every unit is drawn. A unit is a group, or an item where no groups are known.

    unit (N,): the unit of every item.
    """

    counts: NDArray[np.int16]
    unit: NDArray[np.int64]
    order: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def make(cls, n: int, group: NDArray[np.int64] | None, draws: int, seed: int = 0) -> "Draws":
        """Return `draws` resamples of n items, or of their groups."""
        unit = np.arange(n) if group is None else group
        size = int(unit.max()) + 1
        generator = rng(seed, "audit", "items")
        step = max(1, BLOCK // size)
        parts = [
            item_weights([np.arange(size)], ("items",), min(step, draws - i), generator).astype(np.int16)
            for i in range(0, draws, step)
        ]
        order = np.argsort(unit, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(unit))[:-1]])
        return cls(np.concatenate(parts), unit, order, start)

    def sums(self, features: Floats) -> Floats:
        """Return the drawn sums (D, K) of features (N, K)."""
        by_unit = np.add.reduceat(features[self.order], self.start, axis=0)
        step = max(1, BLOCK // self.counts.shape[1])
        parts = [self.counts[i : i + step].astype(np.float64) @ by_unit for i in range(0, len(self.counts), step)]
        return np.concatenate(parts)

    def weights(self, i: int, j: int) -> Floats:
        """Return the counts of draws i..j-1 item by item, (j - i, N)."""
        return self.counts[i:j, self.unit].astype(np.float64)


def seed_shares(seeds: int, draws: int, seed: int = 0) -> Floats:
    """Return the weights (draws, S) of seeds drawn with replacement."""
    generator = rng(seed, "audit", "seeds", seeds)
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds


def metric_draws(
    kind: str, target: Floats, prediction: Floats, scores: Floats | None, draws: Draws
) -> dict[str, Floats]:
    """Return the draws (D,) of every metric of one run, NaN where a draw does not define it.

    Metrics of ranks have the first RANK_DRAWS draws only. Metrics that depend on the order of the items have none.
    """
    features, formulas = FORMS[kind]
    out = formulas(draws.sums(features(target, prediction)), target)
    if scores is not None:
        out |= _ranked(kind, target, scores, draws)
    return out


def _divide(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.full(np.broadcast_shapes(np.shape(a), np.shape(b)), np.nan), where=np.asarray(b) > 0)


def _mean_defined(values: Floats, defined: NDArray[np.bool_]) -> Floats:
    """Return the mean over the last axis of what is defined."""
    return _divide(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))


# --- regression ----------------------------------------------------------------------------------------------------

ROUNDED = (
    ("acc3", 3, "half_even"), ("acc5", 5, "half_even"), ("acc5_half_away", 5, "half_away"), ("acc7", 7, "half_even"),
    ("acc7_half_away", 7, "half_away"), ("acc7_sdk", 7, "sdk"),
)  # fmt: skip


def _regression_features(y: Floats, p: Floats) -> Floats:
    one, non_zero = np.ones(len(y)), (y != 0).astype(np.float64)
    columns = []
    for keep, sy, sp in ((one, y >= 0, p >= 0), (non_zero, y > 0, p > 0)):
        columns += [keep * (~sy & ~sp), keep * (~sy & sp), keep * (sy & ~sp), keep * (sy & sp)]
        u, v = y - y.mean(), p - p.mean()  # centred, so that the sums of squares lose no digits
        columns += [keep * x for x in (one, np.abs(y - p), u, v, u * u, v * v, u * v)]
    columns += [round_sentiment(y, k, how) == round_sentiment(p, k, how) for _, k, how in ROUNDED]  # type: ignore[arg-type]
    for edges in SIMS_EDGES.values():
        bins = [np.searchsorted(np.asarray(edges), np.clip(v, -1, 1), side="left") for v in (y, p)]
        columns.append(bins[0] == bins[1])
    return np.stack(columns, axis=1).astype(np.float64)


def _regression_formulas(s: Floats, target: Floats) -> dict[str, Floats]:
    out = {}
    for zero, at in (("has_zero", 0), ("non_zero", 11)):
        table = s[..., at : at + 4].reshape(*s.shape[:-1], 2, 2)
        n, error, u, v, uu, vv, uv = (s[..., at + 4 + i] for i in range(7))
        cells = _tables(table)
        out[f"acc2_{zero}"], out[f"f1_{zero}"] = cells["accuracy"], cells["weighted_f1"]
        if zero == "non_zero":
            out["f1_non_zero_swapped"] = cells["weighted_f1_swapped"]
        suffix = "" if zero == "has_zero" else "_non_zero"
        out[f"mae{suffix}"] = _divide(error, n)
        spread_u, spread_v = n * uu - u * u, n * vv - v * v
        tiny = 1e-20 * n * n
        both = np.where((spread_u > tiny) & (spread_v > tiny), spread_u * spread_v, 0.0)
        out[f"pearson{suffix}"] = np.clip(_divide(n * uv - u * v, np.sqrt(both)), -1, 1)
    rest = [name for name, _, _ in ROUNDED] + [f"acc_sims_{k}" for k in SIMS_EDGES]
    out |= {name: _divide(s[..., 22 + i], s[..., 4]) for i, name in enumerate(rest)}
    return out


# --- one class per item --------------------------------------------------------------------------------------------


def _single_features(y: Floats, p: Floats) -> Floats:
    c = int(max(y.max(), p.max())) + 1
    return np.eye(c * c)[(y * c + p).astype(np.int64)]


def _single_formulas(s: Floats, target: Floats) -> dict[str, Floats]:
    c = round(np.sqrt(s.shape[-1]))
    return _tables(s.reshape(*s.shape[:-1], c, c))


def _tables(table: Floats) -> dict[str, Floats]:
    """Return the metrics of confusion tables (..., C, C), rows are true classes."""
    hits, true, guessed = np.diagonal(table, axis1=-2, axis2=-1), table.sum(-1), table.sum(-2)
    f1 = np.where(true + guessed > 0, 2 * hits / np.maximum(true + guessed, 1), 0.0)
    n = true.sum(-1)
    return {
        "accuracy": _divide(hits.sum(-1), n),
        "balanced_accuracy": _mean_defined(hits / np.maximum(true, 1), true > 0),
        "macro_f1": _mean_defined(f1, true > 0),
        "weighted_f1": _divide((f1 * true).sum(-1), n),
        "weighted_f1_swapped": _divide((f1 * guessed).sum(-1), n),
    }


# --- label sets ----------------------------------------------------------------------------------------------------


def _multi_features(y: Floats, p: Floats) -> Floats:
    both, union, size = (y * p).sum(1), np.maximum(y, p).sum(1), (y + p).sum(1)
    empty = (union == 0).astype(np.float64)
    per_item = [np.ones(len(y)), 2 * both / np.maximum(size, 1), both / np.maximum(union, 1), empty,
                (y == p).all(1), (y == p).mean(1)]  # fmt: skip
    return np.concatenate([np.stack(per_item, axis=1), y * p, y, p], axis=1).astype(np.float64)


def _multi_formulas(s: Floats, target: Floats) -> dict[str, Floats]:
    n, f1, jaccard, empty, subset, right = (s[..., i] for i in range(6))
    hits, true, guessed = np.split(s[..., 6:], 3, axis=-1)
    label_f1 = np.where(true + guessed > 0, 2 * hits / np.maximum(true + guessed, 1), 0.0)
    negative = n[..., None] - true
    rejected = negative - guessed + hits
    balanced = (hits / np.maximum(true, 1) + rejected / np.maximum(negative, 1)) / 2
    all_hits, all_true, all_guessed = hits.sum(-1), true.sum(-1), guessed.sum(-1)
    return {
        "micro_f1": 2 * all_hits / np.maximum(all_true + all_guessed, 1),
        "macro_f1": _mean_defined(label_f1, true > 0),
        "weighted_f1": _divide((label_f1 * true).sum(-1), all_true),
        "micro_precision": all_hits / np.maximum(all_guessed, 1),
        "micro_recall": all_hits / np.maximum(all_true, 1),
        "micro_precision_swapped": all_hits / np.maximum(all_true, 1),
        "sample_f1_empty_0": f1 / n,
        "sample_f1_empty_1": (f1 + empty) / n,
        "jaccard_empty_0": jaccard / n,
        "jaccard_empty_1": (jaccard + empty) / n,
        "subset_accuracy": subset / n,
        "label_accuracy": right / n,
        "label_balanced_accuracy": _mean_defined(balanced, (true > 0) & (negative > 0)),
    }


FORMS: dict[str, tuple[Callable[[Floats, Floats], Floats], Callable[[Floats, Floats], dict[str, Floats]]]] = {
    "regression": (_regression_features, _regression_formulas),
    "single_label": (_single_features, _single_formulas),
    "multi_label": (_multi_features, _multi_formulas),
}


# --- ranks ---------------------------------------------------------------------------------------------------------


def _ranked(kind: str, target: Floats, scores: Floats, draws: Draws) -> dict[str, Floats]:
    y = np.eye(scores.shape[1])[target.astype(np.int64)] if kind == "single_label" else target
    columns = [_Ranks(y[:, j], scores[:, j]) for j in range(scores.shape[1])]
    whole = _Ranks(y.ravel(), scores.ravel()) if kind == "multi_label" else None
    many = min(RANK_DRAWS, len(draws.counts))
    step = max(1, BLOCK // scores.size)
    parts: list[dict[str, Floats]] = []
    for i in range(0, many, step):
        w = draws.weights(i, min(i + step, many))
        auroc = np.stack([c.auroc(w) for c in columns], axis=-1)
        part = {"auroc_macro": _mean_defined(auroc, ~np.isnan(auroc))}
        if whole is not None:
            precision = np.stack([c.average_precision(w) for c in columns], axis=-1)
            part["mean_average_precision"] = _mean_defined(precision, ~np.isnan(precision))
            part["global_average_precision"] = whole.average_precision(np.repeat(w, scores.shape[1], axis=1))
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Ranks:
    """Weighted AUROC and average precision of one column of scores, sorted once. Equal scores are taken together."""

    def __init__(self, y: Floats, s: Floats) -> None:
        self.order = np.argsort(-s, kind="stable")
        self.y = y[self.order].astype(bool)
        self.start = np.flatnonzero(np.diff(s[self.order], prepend=np.inf) != 0)

    def _tied(self, w: Floats) -> tuple[Floats, Floats]:
        """Return the weight of positives and of all items at every distinct score, highest first."""
        w = w[:, self.order]
        positive = w * self.y
        if len(self.start) == len(self.y):
            return positive, w
        return np.add.reduceat(positive, self.start, axis=1), np.add.reduceat(w, self.start, axis=1)

    def auroc(self, w: Floats) -> Floats:
        positive, every = self._tied(w)
        negative = every - positive
        total = negative.sum(1, keepdims=True)
        below = total - np.cumsum(negative, axis=1) + negative / 2
        return _divide((positive * below).sum(1), positive.sum(1) * total[:, 0])

    def average_precision(self, w: Floats) -> Floats:
        positive, every = self._tied(w)
        precision = np.cumsum(positive, axis=1) / np.maximum(np.cumsum(every, axis=1), 1)
        return _divide((positive * precision).sum(1), positive.sum(1))
