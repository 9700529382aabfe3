"""Ridge recovery: what is missing is predicted linearly from what is there, then a linear model reads everything.

For every subset S of modalities that some sample has, and every modality m outside S, a ridge regression from the
features of S to those of m is solved in closed form on the training samples that have S and m; a sample that has S
gets x_m from it. The predictor is the registry's `linear` on the completed features. It is the plain form of
"recover, then predict": what a generative method adds must show against it.

| symbol | name | shape |
|---|---|---|
| x_m | mean over observed steps of modality m | (N, D_m) |
| mu_m | mean of x_m over the training samples that have m | (D_m,) |
| x_S | features of the modalities that are there, concatenated | (N, D_S) |
| W | (X'X + alpha I)^-1 X'Y, X and Y the centred x_S and x_m of samples that have both | (D_S, D_m) |

alpha is chosen per pair (S, m) among candidates by the exact leave-one-out error, from one singular value decomposition
and on training samples alone. Where fewer than `fewest` training samples have S and m, and where nothing is there, the
mean mu_m stands in. Features should be scaled first, so that one penalty suits all. No source is followed.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import AffectData, Batch, Selection
from affectcore.errors import ConfigError
from affectcore.models.baselines.linear import Config as LinearConfig
from affectcore.models.baselines.linear import Linear
from affectcore.models.contract import Shape
from affectcore.nn.pooling import masked_mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Config(LinearConfig):
    recovery: Literal["ridge", "mean", "nearest", "zero"] = (
        "ridge"  # nearest: x_m of the training sample closest in x_S
    )
    recovery_alpha: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)  # candidates for alpha
    fewest: int = 10  # training samples that a regression needs


class RidgeRecovery(Linear):
    """Estimator: `fit`, then `predict`; `recover` returns the completed features."""

    config: Config

    def __init__(self, config: Config, shape: Shape) -> None:
        if not config.recovery_alpha or min(config.recovery_alpha) <= 0:
            raise ConfigError(f"ridge_recovery: recovery_alpha must hold positive numbers, got {config.recovery_alpha}")
        super().__init__(config, shape)
        self._x: list[Array] = []  # training features by modality
        self._there: NDArray[np.bool_] = np.zeros((0, 0), bool)  # (N, M)
        self._means: list[Array] = []
        self._maps: dict[tuple[tuple[int, ...], int], tuple[Array, Array]] = {}
        self.alphas: dict[tuple[tuple[str, ...], str], float] = {}  # what was chosen, by (S, m)

    def fit(self, data: AffectData, seed: int) -> Selection:
        self._x, self._there = self._pooled(data.split("train"))
        self._means = [x[t].mean(0) if t.any() else x.mean(0) for x, t in zip(self._x, self._there.T)]
        self._maps, self.alphas = {}, {}
        return super().fit(data, seed)

    def features(self, batch: Batch) -> Array:
        return np.concatenate(list(self.recover(batch).values()), 1)

    def recover(self, batch: Batch) -> dict[str, Array]:
        """Return the pooled features by modality, (N, D_m) each, with every missing modality filled in."""
        x, there = self._pooled(batch)
        out = [v.copy() for v in x]
        for pattern in np.unique(there, axis=0):
            rows = (there == pattern).all(1)
            given = tuple(np.flatnonzero(pattern).tolist())
            for j in np.flatnonzero(~pattern).tolist():
                out[j][rows] = self._fill(given, j, [v[rows] for v in x])
        return dict(zip(self.shape.modalities, out))

    def _pooled(self, batch: Batch) -> tuple[list[Array], NDArray[np.bool_]]:
        names = self.shape.modalities
        x = [masked_mean(batch.features[m], batch.observed[m]).double().numpy() for m in names]
        return x, np.stack([batch.observed[m].any(-1).numpy() for m in names], 1)

    def _fill(self, given: tuple[int, ...], j: int, x: list[Array]) -> Array:
        kind, n = self.config.recovery, len(x[j])
        if kind == "zero":
            return np.zeros_like(x[j])
        both = self._there[:, [*given, j]].all(1)
        if kind == "mean" or not given or both.sum() < self.config.fewest:
            return np.broadcast_to(self._means[j], (n, len(self._means[j])))
        source = np.concatenate([x[i] for i in given], 1)
        if kind == "nearest":
            known = np.concatenate([self._x[i][both] for i in given], 1)
            distance = (known**2).sum(1) - 2 * source @ known.T  # up to a constant of each row
            return self._x[j][both][distance.argmin(1)]
        if (given, j) not in self._maps:
            known = np.concatenate([self._x[i][both] for i in given], 1)
            self._maps[given, j], alpha = ridge(known, self._x[j][both], self.config.recovery_alpha)
            names = self.shape.modalities
            self.alphas[tuple(names[i] for i in given), names[j]] = alpha
        weight, offset = self._maps[given, j]
        return source @ weight + offset


def ridge(x: Array, y: Array, alphas: tuple[float, ...]) -> tuple[tuple[Array, Array], float]:
    """Return ((W (D, K), offset (K,)), alpha), alpha of least leave-one-out error: x W + offset predicts y (N, K)."""
    mx, my = x.mean(0), y.mean(0)
    u, s, vt = np.linalg.svd(x - mx, full_matrices=False)
    alpha = alphas[int(np.argmin(left_out_errors(u, s, y - my, alphas)))]
    weight = vt.T @ ((s / (s**2 + alpha))[:, None] * (u.T @ (y - my)))
    return (weight, my - mx @ weight), alpha


def left_out_errors(u: Array, s: Array, y: Array, alphas: tuple[float, ...]) -> list[float]:
    """Return by alpha the mean squared error of each sample predicted without itself, X = U s V' and y centred.

    The fit is U diag(s^2 / (s^2 + alpha)) U'y plus the mean; a residual over 1 - its diagonal element is the error of a
    fit without that sample.
    """
    target, errors = u.T @ y, []
    for alpha in alphas:
        shrink = s**2 / (s**2 + alpha)
        leverage = (u**2 * shrink).sum(1) + 1 / len(u)
        errors.append(float((((y - (u * shrink) @ target) / (1 - leverage)[:, None]) ** 2).mean()))
    return errors


CLEAN = Config()
PRESETS = {
    "clean": CLEAN,
    "mean": replace(CLEAN, recovery="mean"),
    "nearest": replace(CLEAN, recovery="nearest"),
    "zero": replace(CLEAN, recovery="zero"),
}
