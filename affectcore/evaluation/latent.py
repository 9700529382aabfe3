"""How a representation is used and laid out: capacity, divergence from its prior, separation of classes.

| symbol | name | shape |
|---|---|---|
| x | items, or steps of items, by features | (N, d) |
| mu, log sigma^2 | posterior means and log variances | (N, d) |
| y | class numbers | (N,) |
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import Floats, Ints, finite, labels, same_shape


def active_units(mu: ArrayLike, least: float = 0.01) -> int:
    """Return the number of dimensions whose mean varies by more than `least` over rows (Burda et al. 2016)."""
    return int((finite(mu, "mu", 2).var(0) > least).sum())


def kl_to_normal(mu: ArrayLike, log_variance: ArrayLike) -> Floats:
    """Return KL(N(mu, sigma^2) || N(0, 1)) of every row and dimension (N, d), in nats."""
    m, v = finite(mu, "mu", 2), finite(log_variance, "log_variance", 2)
    same_shape(m, v, "mu and log_variance")
    return 0.5 * (m**2 + np.exp(v) - 1 - v)


def effective_rank(x: ArrayLike) -> float:
    """Return exp of the entropy of the centred rows' singular values, scaled to sum 1: in 1..d (Roy & Vetterli 2007).

    NaN where all rows are equal.
    """
    a = finite(x, "x", 2)
    a = a - a.mean(0)
    s = np.sqrt(np.linalg.eigvalsh(a.T @ a).clip(0))
    s = s[s > 1e-7 * s.max()]  # below lies the rounding of the product
    if not len(s):
        return float("nan")
    p = s / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def scatter_ratio(x: ArrayLike, y: ArrayLike) -> float:
    """Return between-class over within-class scatter: sum of n_c |m_c - m|^2 / sum of |x_i - m_c(i)|^2.

    NaN where no row differs from its class's mean.
    """
    a, c = _rows(x, y)
    within = sum(float(((a[c == k] - a[c == k].mean(0)) ** 2).sum()) for k in np.unique(c))
    return float(((a - a.mean(0)) ** 2).sum() / within - 1) if within > 0 else float("nan")


def fisher_ratio(x: ArrayLike, y: ArrayLike, classes: Sequence[int]) -> float:
    """Return |m_1 - m_0|^2 / (tr S_1 + tr S_0) of the rows of `classes` (1) against the others (0).

    Means and covariances of the two groups. No direction is fitted, so few rows do not raise it. NaN where a group is
    empty or neither varies.
    """
    a, c = _rows(x, y)
    mine = np.isin(c, list(classes))
    if mine.all() or not mine.any():
        return float("nan")
    one, other = a[mine], a[~mine]
    spread = one.var(0).sum() + other.var(0).sum()
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() / spread) if spread > 0 else float("nan")


def gaussian_denoising_loss(x: ArrayLike, bars: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> Floats:
    """Return (N,), what the best denoiser of N(mean, covariance) pays per feature at rows x, expected over the noise.

    x_t = a x + s eps with a^2 = bars (N,), s^2 = 1 - bars. That denoiser is linear, s (a^2 S + s^2)^-1 (x_t - a m), so
    along an eigenvector of S with eigenvalue l, at distance c from the mean, with D = a^2 l + s^2,

        E (eps^ - eps)^2 = (a^2 l / D)^2 + (a s c / D)^2,        a^2 l / D on average where x has that law.

    For N(0, I) latents the average is a^2: their optimum is the mean of alpha-bar over times. bars in [0, 1).
    """
    rows, bar = finite(x, "x", 2), finite(bars, "bars", 1)[:, None]
    m, s = finite(mean, "mean", 1), finite(covariance, "covariance", 2)
    if len(bar) != len(rows) or m.shape != rows.shape[1:] or s.shape != (len(m), len(m)):
        raise EvaluationError(f"x {rows.shape}, bars ({len(bar)},), mean {m.shape}, covariance {s.shape} do not fit")
    values, vectors = np.linalg.eigh(s)
    values = values.clip(0)
    c = (rows - m) @ vectors
    d = bar * values + 1 - bar
    return np.asarray(((bar * values / d) ** 2 + bar * (1 - bar) * (c / d) ** 2).mean(1))


def _rows(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Ints]:
    a, c = finite(x, "x", 2), labels(y, None, "y")
    if len(a) != len(c):
        raise EvaluationError(f"x has {len(a)} rows, y has {len(c)}")
    return a, c
