"""Checks that every metric shares: shapes, finite numbers, known labels. Each failure is one EvaluationError line."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import EvaluationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def finite(values: ArrayLike, name: str, ndim: int | None = None) -> Floats:
    """Return `values` as float64. Raises EvaluationError if not numeric, empty, NaN or infinite, or of another rank."""
    raw = np.asarray(values)
    if raw.dtype.kind not in "biuf":
        raise EvaluationError(f"{name} must hold numbers, got dtype {raw.dtype}")
    out = raw.astype(np.float64)
    if out.size == 0:
        raise EvaluationError(f"{name} is empty, at least one value is needed")
    if ndim is not None and out.ndim != ndim:
        raise EvaluationError(f"{name} must have {ndim} axes, got shape {out.shape}")
    bad = ~np.isfinite(out)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise EvaluationError(f"{name} holds {int(bad.sum())} NaN or infinite values, the first at row {where[0]}")
    return out


def same_shape(a: NDArray[Any], b: NDArray[Any], names: str) -> None:
    """Raise EvaluationError unless the two arrays have one shape."""
    if a.shape != b.shape:
        raise EvaluationError(f"{names} must have one shape, got {a.shape} and {b.shape}")


def real_pair(target: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    """Return regression target and prediction, both (N,) float64."""
    y, p = finite(target, "target", 1), finite(prediction, "prediction", 1)
    same_shape(y, p, "target and prediction")
    return y, p


def labels(values: ArrayLike, classes: int | None, name: str) -> Ints:
    """Return class numbers (N,) int64 in 0..classes-1; whole numbers stored as floats are accepted."""
    x = finite(values, name, 1)
    out = x.astype(np.int64)
    if (out != x).any():
        raise EvaluationError(f"{name} must hold class numbers, got {x[out != x][0]:g}")
    if out.min() < 0 or (classes is not None and out.max() >= classes):
        bad = out.min() if out.min() < 0 else out.max()
        top = "" if classes is None else str(classes - 1)
        raise EvaluationError(f"{name} holds the unknown label {bad}, known are 0..{top}")
    return out


def label_pair(target: ArrayLike, prediction: ArrayLike, classes: int | None) -> tuple[Ints, Ints]:
    """Return target and predicted class numbers, both (N,) int64."""
    y, p = labels(target, classes, "target"), labels(prediction, classes, "prediction")
    same_shape(y, p, "target and prediction")
    return y, p


def binary_matrix(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """Return a multi-label matrix (N, L) as bool; only 0 and 1 are accepted."""
    x = finite(values, name, 2)
    if not np.isin(x, (0.0, 1.0)).all():
        raise EvaluationError(f"{name} must hold 0 or 1, got {x[~np.isin(x, (0.0, 1.0))][0]:g}")
    return x.astype(np.bool_)


def matrix_pair(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return target and predicted label sets, both (N, L) bool."""
    y, p = binary_matrix(target, "target"), binary_matrix(prediction, "prediction")
    same_shape(y, p, "target and prediction")
    return y, p


def class_scores(target: ArrayLike, scores: ArrayLike) -> tuple[Ints, Floats]:
    """Return class numbers (N,) and scores (N, C), any real numbers: the larger the likelier."""
    s = finite(scores, "scores", 2)
    y = labels(target, s.shape[1], "target")
    if len(y) != len(s):
        raise EvaluationError(f"target has {len(y)} rows, scores have {len(s)}")
    return y, s


def label_scores(target: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Return multi-label targets and scores, both (N, L)."""
    y, s = binary_matrix(target, "target"), finite(scores, "scores", 2)
    same_shape(y, s, "target and scores")
    return y, s


def probabilities(values: ArrayLike, *, rows_sum_to_one: bool) -> Floats:
    """Return probabilities (N, C) in [0, 1]; rows must sum to 1 (within 1e-3) for a single-label task."""
    p = finite(values, "probability", 2)
    if p.min() < 0 or p.max() > 1:
        bad = p.min() if p.min() < 0 else p.max()
        raise EvaluationError(f"probability must lie in [0, 1], got {bad:g} (logits need a softmax or sigmoid first)")
    if rows_sum_to_one and np.abs(p.sum(1) - 1).max() > 1e-3:
        row = int(np.abs(p.sum(1) - 1).argmax())
        raise EvaluationError(f"probability row {row} sums to {p[row].sum():.4g}, it must sum to 1")
    return p


def choice(value: str, allowed: tuple[str, ...], name: str) -> None:
    """Raise EvaluationError unless `value` is one of the named conventions."""
    if value not in allowed:
        raise EvaluationError(f"{name} {value!r} is unknown, use one of {', '.join(allowed)}")
