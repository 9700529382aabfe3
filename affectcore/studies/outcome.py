"""What an executor hands back: metrics, curves and per-item predictions of one run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import StoreError

Metrics = Mapping[str, Mapping[str, Mapping[str, float | None]]]


@dataclass(frozen=True)
class Predictions:
    """Per-item scores: scores[split, condition] of shape (N,) or (N, C); rows, target and group by split."""

    scores: Mapping[tuple[str, str], NDArray[np.float16]]
    rows: Mapping[str, NDArray[np.integer]]
    target: Mapping[str, NDArray[Any]]
    group: Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True)
class Outcome:
    """One finished run, before the runner adds hashes, versions and costs. Fields as in `store.RunRecord`."""

    data_hash: str
    rule: str
    epoch: int | None
    value: float | None
    history: tuple[Mapping[str, Any], ...]
    metrics: Metrics
    predictions: Predictions
    bounds: Metrics = field(default_factory=dict)
    parameters: int = 0
    fit_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


def half(scores: ArrayLike, where: str) -> NDArray[np.float16]:
    """Return scores in float16. Raises StoreError if one is not finite or too large (beyond 65504)."""
    with np.errstate(over="ignore"):
        short = np.asarray(scores).astype(np.float16)
    if not np.isfinite(short).all():
        raise StoreError(f"{where}: {int((~np.isfinite(short)).sum())} scores are NaN, infinite or beyond 65504")
    return short
