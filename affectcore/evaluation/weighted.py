"""Metrics under item weights, many weightings at once: the inner loop of a bootstrap over items or groups.

weights: (R, N), row r says how often draw r takes each item; returned: (R,), the metric of every draw. Equal, for whole
weights, to the metric of the items repeated that often. A draw on which a metric is undefined gives NaN.
"""

import numpy as np
from numpy.typing import ArrayLike

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import Floats, class_scores, finite, matrix_pair, real_pair

__all__ = [
    "weighted_accuracy", "weighted_auroc", "weighted_auroc_macro", "weighted_balanced_accuracy", "weighted_mae",
    "weighted_pearson", "weighted_sign_accuracy",
]  # fmt: skip


def _weights(weights: ArrayLike, n: int) -> Floats:
    w = finite(weights, "weights", 2)
    if w.shape[1] != n or (w < 0).any():
        raise EvaluationError(f"weights of shape {w.shape} must be >= 0, one column for each of {n} items")
    return w


def weighted_mae(weights: ArrayLike, target: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return the mean absolute error of every draw."""
    y, p = real_pair(target, prediction)
    w = _weights(weights, len(y))
    out: Floats = w @ np.abs(y - p) / w.sum(1)
    return out


def weighted_pearson(weights: ArrayLike, target: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return Pearson's correlation of every draw, NaN where either side is constant."""
    y, p = real_pair(target, prediction)
    w = _weights(weights, len(y))
    w = w / w.sum(1, keepdims=True)
    y, p = y - y.mean(), p - p.mean()  # centred, so that the one-pass moments lose no digits
    my, mp = w @ y, w @ p
    vy, vp = w @ y**2 - my**2, w @ p**2 - mp**2
    flat = (vy <= 1e-12 * np.square(y).max(initial=0)) | (vp <= 1e-12 * np.square(p).max(initial=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flat, np.nan, (w @ (y * p) - my * mp) / np.sqrt(vy * vp))


def weighted_sign_accuracy(weights: ArrayLike, target: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return the accuracy of the sign over targets other than 0 of every draw, NaN where a draw holds none.

    As the metric acc2_non_zero: a prediction of 0 counts as negative.
    """
    y, p = real_pair(target, prediction)
    w = _weights(weights, len(y)) * (y != 0)
    n = w.sum(1)
    return np.where(n > 0, w @ ((p > 0) == (y > 0)).astype(np.float64) / np.maximum(n, 1e-300), np.nan)


def weighted_accuracy(weights: ArrayLike, target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the accuracy of every draw; target (N,) class numbers, scores (N, C)."""
    y, s = class_scores(target, scores)
    w = _weights(weights, len(y))
    out: Floats = w @ (s.argmax(1) == y).astype(np.float64) / w.sum(1)
    return out


def weighted_balanced_accuracy(weights: ArrayLike, target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the mean recall of every draw, over the classes of `target` that the draw holds."""
    y, s = class_scores(target, scores)
    w = _weights(weights, len(y))
    hit = s.argmax(1) == y
    per_class = np.stack([w[:, y == c].sum(1) for c in np.unique(y)])
    hits = np.stack([w[:, (y == c) & hit].sum(1) for c in np.unique(y)])
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(per_class > 0, hits / per_class, np.nan), axis=0)


def weighted_auroc(weights: ArrayLike, target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the area under the ROC curve of every draw for one label (target 0 or 1); ties count half."""
    y, s = finite(target, "target", 1), finite(scores, "scores", 1)
    if y.shape != s.shape or not np.isin(y, (0, 1)).all():
        raise EvaluationError(f"target {y.shape} must hold 0 or 1, one for each of {s.shape} scores")
    w = _weights(weights, len(y))
    order = np.argsort(s, kind="stable")
    w, y, s = w[:, order], y[order], s[order]
    first = np.flatnonzero(np.r_[True, s[1:] != s[:-1]])  # where each run of equal scores begins
    positive = np.add.reduceat(w * y, first, axis=1)
    negative = np.add.reduceat(w * (1 - y), first, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(invalid="ignore"):
        out: Floats = (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))
    return out


def weighted_auroc_macro(weights: ArrayLike, target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the mean over labels of `weighted_auroc`, NaN where a label of the draw has one class alone."""
    y = np.asarray(target)
    s = finite(scores, "scores", 2)
    matrix_pair(y, s > 0.5)
    return np.mean([weighted_auroc(weights, y[:, c], s[:, c]) for c in range(y.shape[1])], axis=0)
