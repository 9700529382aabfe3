"""Constant: the best prediction that looks at no feature, the floor of every comparison.

Symbols: y training targets (N,) or (N, C); prediction: median or mean of y (regression), class shares (labels).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import AffectData, Batch, Selection
from affectcore.models.contract import Shape


@dataclass(frozen=True)
class Config:
    statistic: Literal["median", "mean"] = "median"  # of a regression target: least absolute or least squared error


class Constant:
    """Estimator: `fit`, then `predict` gives scores, (N,) for regression and (N, C) probabilities for labels."""

    def __init__(self, config: Config, shape: Shape) -> None:
        self.config, self.shape = config, shape
        self.scores = np.zeros(shape.task.outputs)

    def fit(self, data: AffectData, seed: int) -> Selection:
        """Estimate the constant on the training split; nothing is selected and nothing drawn."""
        y = data.split("train").target.numpy()
        if self.shape.task.kind == "regression":
            self.scores = np.atleast_1d(np.median(y) if self.config.statistic == "median" else np.mean(y))
        elif self.shape.task.kind == "single_label":
            self.scores = np.bincount(y, minlength=self.shape.task.outputs) / len(y)
        else:
            self.scores = y.mean(0)
        return Selection("fixed")

    def predict(self, batch: Batch) -> NDArray[np.float64]:
        """Return the same scores for every sample."""
        scores = np.tile(self.scores.astype(np.float64), (len(batch), 1))
        return scores[:, 0] if self.shape.task.kind == "regression" else scores


CLEAN = Config()
PRESETS = {"clean": CLEAN}
