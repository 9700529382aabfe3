"""What the tests of the worlds share: a frozen selection, pooled features, losses."""

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import Batch, Selection

FROZEN = Selection("fixed")


def pool(batch: Batch) -> NDArray[np.float64]:
    """Means over observed steps, modalities side by side."""
    return np.concatenate(
        [
            batch.features[m].numpy().sum(1) / np.maximum(batch.observed[m].numpy().sum(1), 1)[:, None]
            for m in batch.modalities
        ],
        1,
    ).astype(np.float64)


def loss(scores: NDArray[np.float64], batch: Batch) -> float:
    """Log loss of probabilities (single- or multi-label) or mean squared error."""
    y = batch.target.numpy()
    if scores.ndim == 1:
        return float(np.mean((scores - y) ** 2))
    p = np.clip(scores, 1e-9, 1 - 1e-9)
    if y.ndim == 1:
        return float(-np.log(p[np.arange(len(y)), y]).mean())
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
