"""Linear: regularised logistic or ridge regression on the means over observed steps, modalities concatenated.

Features should be scaled first (`affectcore.data.transform`), so that one penalty suits all and zero, which stands for
a missing modality, is a typical value. The strength of the penalty is chosen on the validation split alone.

Symbols: x_m (N, D_m) mean over observed steps; C inverse penalty of the logistic regression, one for all labels;
alpha penalty of the ridge regression.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from affectcore.data.schema import AffectData, Batch, Selection
from affectcore.errors import ConfigError
from affectcore.models.contract import Shape
from affectcore.nn.pooling import masked_mean


@dataclass(frozen=True)
class Config:
    C: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)  # candidates, labels; one candidate needs no validation
    alpha: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # candidates, regression
    balanced: bool = False  # weight samples by inverse class frequency
    iterations: int = 3000  # most steps of the logistic solver


class Linear:
    """Estimator: `fit`, then `predict` gives scores, (N,) for regression and (N, C) probabilities for labels."""

    def __init__(self, config: Config, shape: Shape) -> None:
        self.config, self.shape = config, shape
        self.strength: float | None = None  # the chosen C or alpha
        self._models: list[Any] = []

    def fit(self, data: AffectData, seed: int) -> Selection:
        """Fit every candidate on the training split, keep the best on validation; deterministic, `seed` is unused.

        Validation score: mean AUROC of the classes (one against the rest), or minus the mean absolute error. Of equal
        scores the stronger penalty wins. Raises ConfigError if there is a choice but no validation split.
        """
        regression = self.shape.task.kind == "regression"
        grid = sorted(self.config.alpha, reverse=True) if regression else sorted(self.config.C)
        if not grid or min(grid) <= 0:
            raise ConfigError(f"linear: {'alpha' if regression else 'C'} must hold positive numbers, got {grid}")
        train = data.split("train")
        x, y = self.features(train), train.target.numpy()
        if len(grid) == 1:
            self.strength, self._models = grid[0], self._solve(x, y, grid[0])
            return Selection("fixed")
        if "valid" not in data.splits:
            raise ConfigError(f"linear: choosing among {len(grid)} penalties needs a split named valid")
        valid = data.split("valid")
        x_valid, y_valid = self.features(valid), valid.target.numpy()
        best = -np.inf
        for strength in grid:
            models = self._solve(x, y, strength)
            value = self._quality(y_valid, self._scores(models, x_valid))
            if value > best:
                best, self.strength, self._models = value, strength, models
        return Selection("valid_best", value=float(best))

    def predict(self, batch: Batch) -> NDArray[np.float64]:
        """Return the scores of a batch."""
        if not self._models:
            raise ConfigError("linear: predict was called before fit")
        return self._scores(self._models, self.features(batch))

    def features(self, batch: Batch) -> NDArray[np.float64]:
        """Return the pooled and concatenated features, (N, sum of D_m)."""
        pooled = [masked_mean(batch.features[m], batch.observed[m]) for m in self.shape.modalities]
        return np.concatenate([p.double().numpy() for p in pooled], 1)

    def _solve(self, x: NDArray[np.float64], y: NDArray[Any], strength: float) -> list[Any]:
        if self.shape.task.kind == "regression":
            return [Ridge(alpha=strength).fit(x, y)]
        weight = "balanced" if self.config.balanced else None
        models: list[Any] = []
        for column in [y] if self.shape.task.kind == "single_label" else list(y.T.astype(np.int64)):
            if len(np.unique(column)) == 1:  # a label that never varies in training: its share, for every sample
                models.append(int(column[0]))
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties are candidates, not results
                models.append(
                    LogisticRegression(C=strength, max_iter=self.config.iterations, class_weight=weight).fit(x, column)
                )
        return models

    def _scores(self, models: list[Any], x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.shape.task.kind == "regression":
            return np.asarray(models[0].predict(x), dtype=np.float64)
        scores = np.zeros((len(x), self.shape.task.outputs))
        if self.shape.task.kind == "multi_label":
            for c, model in enumerate(models):
                scores[:, c] = model if isinstance(model, int) else model.predict_proba(x)[:, 1]
        elif isinstance(models[0], int):
            scores[:, models[0]] = 1
        else:
            scores[:, models[0].classes_] = models[0].predict_proba(x)
        return scores

    def _quality(self, y: NDArray[Any], scores: NDArray[np.float64]) -> float:
        if self.shape.task.kind == "regression":
            return -float(np.abs(y - scores).mean())
        one_hot = y if self.shape.task.kind == "multi_label" else np.eye(self.shape.task.outputs)[y]
        seen = [c for c in range(one_hot.shape[1]) if 0 < one_hot[:, c].sum() < len(one_hot)]
        if not seen:
            raise ConfigError("linear: the validation split holds one class only, so no penalty can be chosen on it")
        return float(np.mean([roc_auc_score(one_hot[:, c], scores[:, c]) for c in seen]))


CLEAN = Config()
PRESETS = {"clean": CLEAN}
