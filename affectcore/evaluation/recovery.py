"""Was the truth found? Scores for recovered factors, graphs, representations and missing features."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import Floats, choice, finite, same_shape


def _columns(values: ArrayLike, name: str) -> Floats:
    x = finite(values, name)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or len(x) < 2:
        raise EvaluationError(f"{name} must have shape (N, D) with N >= 2, got {x.shape}")
    return x


def _pair(a: ArrayLike, b: ArrayLike, names: tuple[str, str]) -> tuple[Floats, Floats]:
    x, y = _columns(a, names[0]), _columns(b, names[1])
    if len(x) != len(y):
        raise EvaluationError(f"{names[0]} has {len(x)} rows, {names[1]} has {len(y)}")
    return x, y


def factor_r2(truth: ArrayLike, estimate: ArrayLike) -> Floats:
    """Return R^2 = 1 - residual / total sum of squares of every factor (D,); below 0 is worse than the factor's mean.

    Both (N, D) or (N,). The mean is that of the rows given, so score held-out rows. NaN for a constant factor.
    """
    y, p = _pair(truth, estimate, ("truth", "estimate"))
    same_shape(y, p, "truth and estimate")
    total = ((y - y.mean(0)) ** 2).sum(0)
    return np.where(total > 0, 1 - ((y - p) ** 2).sum(0) / np.where(total > 0, total, 1), np.nan)


def r2(truth: ArrayLike, estimate: ArrayLike) -> float:
    """Return the mean of `factor_r2` over factors. Raises EvaluationError if a factor is constant."""
    value = factor_r2(truth, estimate)
    if np.isnan(value).any():
        raise EvaluationError(f"factor {int(np.isnan(value).argmax())} of the truth is constant, R^2 is not defined")
    return float(value.mean())


def normalised_mse(truth: ArrayLike, estimate: ArrayLike) -> float:
    """Return sum (truth - estimate)^2 / sum (truth - column mean)^2: 0 is exact, 1 is filling in the mean (NMSE)."""
    y, p = _pair(truth, estimate, ("truth", "estimate"))
    same_shape(y, p, "truth and estimate")
    total = ((y - y.mean(0)) ** 2).sum()
    if total == 0:
        raise EvaluationError("truth is constant, the normalised error is not defined")
    return float(((y - p) ** 2).sum() / total)


def correlation_table(
    factors: ArrayLike, latents: ArrayLike, kind: Literal["pearson", "spearman"] = "pearson"
) -> Floats:
    """Return |correlation| of every factor with every latent (D_factors, D_latents); 0 where a column is constant."""
    choice(kind, ("pearson", "spearman"), "correlation")
    x, z = _pair(factors, latents, ("factors", "latents"))
    if kind == "spearman":
        x, z = rankdata(x, axis=0), rankdata(z, axis=0)
    unit = []
    for v in (x, z):
        v = v - v.mean(0)
        norm = np.linalg.norm(v, axis=0)
        varies = norm > 1e-12 * (1 + np.abs(v).max())
        unit.append(np.where(varies, v / np.where(varies, norm, 1), 0))
    return np.clip(np.abs(unit[0].T @ unit[1]), 0, 1)


def mean_correlation_coefficient(
    factors: ArrayLike, latents: ArrayLike, kind: Literal["pearson", "spearman"] = "pearson"
) -> float:
    """Return MCC in [0, 1]: mean |correlation| of factors with their one-to-one best matched latents.

    factors (N, D), latents (N, K). The matching maximises the sum (Hungarian method); with K < D the factors left over
    count 0. 1 means recovered up to order, sign and scale. With K much larger than D or few rows chance matches are
    high: report it beside the value for shuffled rows.
    """
    table = correlation_table(factors, latents, kind)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(table))


def _graph(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    a = finite(values, name, 2)
    if a.shape[0] != a.shape[1] or not np.isin(a, (0, 1)).all():
        raise EvaluationError(f"{name} must be a square 0/1 adjacency matrix, got shape {a.shape}")
    if np.diag(a).any():
        raise EvaluationError(f"{name} has a self-loop at node {int(np.diag(a).argmax())}")
    return a.astype(bool)


def structural_hamming_distance(truth: ArrayLike, estimate: ArrayLike, *, reversed_edge: Literal[1, 2] = 1) -> int:
    """Return the number of edge insertions, deletions and reversals from `estimate` to `truth` (SHD).

    Adjacency matrices (K, K), [i, j] = 1 for i -> j. reversed_edge names the convention: 1 counts a turned edge once, 2
    counts it as a deletion and an insertion. A 2-cycle against a single edge is one error under both.
    """
    if reversed_edge not in (1, 2):
        raise EvaluationError(f"reversed_edge must be 1 or 2, got {reversed_edge}")
    a, b = _graph(truth, "truth"), _graph(estimate, "estimate")
    same_shape(a, b, "truth and estimate")
    wrong = a != b
    turned = np.triu(wrong & wrong.T & (a != a.T))  # both directions wrong, and one edge on either side
    return int(wrong.sum() - (2 - reversed_edge) * turned.sum())


def edge_scores(truth: ArrayLike, estimate: ArrayLike) -> tuple[float, float, float]:
    """Return precision, recall and F1 of the directed edges (0 where there are none)."""
    a, b = _graph(truth, "truth"), _graph(estimate, "estimate")
    same_shape(a, b, "truth and estimate")
    hits = (a & b).sum()
    return (
        float(hits / max(b.sum(), 1)), float(hits / max(a.sum(), 1)), float(2 * hits / max(a.sum() + b.sum(), 1)),
    )  # fmt: skip


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Return linear centred kernel alignment in [0, 1] of two representations (N, D1), (N, D2) of the same rows.

    ||X'Y||_F^2 / (||X'X||_F ||Y'Y||_F) with centred columns (Kornblith et al. 2019): invariant to rotation and common
    scale. It is biased upwards when D is not small against N: report it beside the value for shuffled rows.
    """
    a, b = _pair(x, y, ("x", "y"))
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    if scale == 0:
        raise EvaluationError("a representation is constant, CKA is not defined")
    return float(np.linalg.norm(a.T @ b) ** 2 / scale)
