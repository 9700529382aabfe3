"""World, Sizes and the parts every world is built from: redundant, autocorrelated, heavy-tailed feature blocks.

A modality's values are made in three invertible steps, so that exact posteriors can be computed from them again:

    u_t = sum_j a_j p_j(t) v_j + s e_t   factors a along directions v with temporal profiles p; AR(1) noise e, scale s
    z_t = u_t @ mixing                   redundancy: few effective directions; columns of unit variance (s = 1, a = 0)
    x_t = sinh(tail * z_t) / tail        heavy tails, column by column

Symbols: N samples, T steps, D features, k factors, M modalities, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import AffectData, Batch
from affectcore.errors import ConfigError
from affectcore.streams import rng

Array = NDArray[np.float64]
Oracle = Literal["bayes", "oracle"]

# Words per segment of CMU-MOSEI (measured): median 17, quartiles 12 and 25; a log-normal meets p5 to p95 within 2.
LENGTH_MEDIAN, LENGTH_SIGMA = 17.0, 0.544


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Raise ConfigError naming the setting, its value and the rule unless `ok`."""
    if not ok:
        raise ConfigError(f"{name} = {value!r}: {rule}")


@dataclass(frozen=True)
class Sizes:
    """Samples per split. Scores on a world are read from at least 6,000 test items."""

    train: int
    valid: int
    test: int = 6000

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            n = getattr(self, name)
            require(isinstance(n, int) and n >= 2, f"sizes.{name}", n, "a whole number of samples, at least 2")


@dataclass(frozen=True)
class World:
    """Data with everything that made them.

    truth: the world's known constants (graph, directions, laws); factors: what is known of every sample, by name, rows
    as in `batch.index` (a model never sees them); kind: what `oracle` is, "bayes" where no predictor of the values
    can do better on the split `test`, "oracle" where it knows more than the values (stable factors, noise scales).
    """

    name: str
    seed: int
    settings: Any
    data: AffectData
    truth: Any
    factors: Mapping[str, NDArray[Any]]
    kind: Oracle
    partner: NDArray[np.int64]  # another row of the same part, for the shuffled controls

    def oracle(self, batch: Batch) -> Array:
        """Return the ceiling's scores, (B,) or (B, C), from the world's raw values; hidden values count as missing."""
        scores: Array = self.truth.oracle(batch, self.known(batch))
        return scores

    def bayes(self, batch: Batch) -> Array:
        """Return the Bayes-optimal scores of items from their own law; ConfigError where no exact form is known."""
        if self.kind == "bayes":
            return self.oracle(batch)
        if not hasattr(self.truth, "bayes"):
            raise ConfigError(f"world {self.name}: no exact Bayes scores are known, use oracle")
        scores: Array = self.truth.bayes(batch, self.known(batch))
        return scores

    def constant(self, n: int = 1) -> Array:
        """Return the floor's scores, (n,) or (n, C): the training mean or shares, best in squared and log loss."""
        y = self.data.split("train").target.numpy()
        c = self.data.task.outputs
        if self.data.task.kind == "regression":
            return np.full(n, y.mean(dtype=np.float64))
        share = np.bincount(y, minlength=c) / len(y) if self.data.task.kind == "single_label" else y.mean(0)
        return np.tile(share.astype(np.float64), (n, 1))

    def known(self, batch: Batch, *, shuffled: bool = False) -> dict[str, NDArray[Any]]:
        """Return the true factors of the batch's rows; shuffled: those of another sample of the same part."""
        rows = batch.index.numpy()
        rows = self.partner[rows] if shuffled else rows
        return {k: v[rows] for k, v in self.factors.items()}

    def mechanism(self, batch: Batch, *, shuffled: bool = False) -> dict[str, NDArray[Any]]:
        """Return the oracle form of the mechanism that the world tests (positive control), rows as in the batch.

        shuffled: the same with its tie to the sample or to the truth broken (negative control).
        """
        made: dict[str, NDArray[Any]] = self.truth.mechanism(self, batch, shuffled)
        return made


@dataclass(frozen=True)
class Entry:
    """One world of the registry: how to build it and what it is for."""

    name: str
    summary: str
    section: str  # which paper asks for it, and where
    task: str
    build: Callable[[int, Any, Sizes], World]
    settings: type
    difficulties: Mapping[str, Any]
    sizes: Sizes


def partners(seed: int, name: str, parts: Mapping[str, NDArray[np.integer]]) -> NDArray[np.int64]:
    """Return for every row another row of its part, drawn without a fixed point."""
    other = np.empty(sum(map(len, parts.values())), np.int64)
    for part, rows in parts.items():
        order = rng(seed, "world", name, part, "partner").permutation(np.asarray(rows))
        other[order] = np.roll(order, 1)
    return other


def consecutive(sizes: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of parts stored one after the other."""
    ends = np.cumsum(list(sizes.values()))
    return {k: np.arange(e - n, e) for (k, n), e in zip(sizes.items(), ends)}


def counts(shares: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return n split by shares, in whole numbers of sum n: the shares themselves where they are counts of sum n."""
    exact = np.asarray(shares, np.float64) / np.sum(shares) * n
    whole = np.floor(exact + 1e-9).astype(np.int64)
    first = np.argsort(-(exact - whole), kind="stable")[: n - int(whole.sum())]
    whole[first] += 1
    return whole


def lengths(g: np.random.Generator, n: int, steps: int, rate: float = 1.0) -> NDArray[np.int64]:
    """Return n sequence lengths in 1..steps: MOSEI's words per segment times `rate` frames a word, cut at `steps`."""
    words = np.exp(np.log(LENGTH_MEDIAN) + LENGTH_SIGMA * g.standard_normal(n))
    return np.clip(np.rint(words * rate), 1, steps).astype(np.int64)


def groups(g: np.random.Generator, n: int, mean: float) -> NDArray[np.int64]:
    """Return group codes of n samples in runs of geometric length with this mean, numbered from 0."""
    new = g.random(n) < 1 / mean
    new[0] = True
    return np.cumsum(new) - 1


def ar_noise(g: np.random.Generator, n: int, steps: int, dim: int, rho: float) -> NDArray[np.float32]:
    """Return stationary AR(1) noise (n, steps, dim) of unit variance and lag-one correlation `rho`."""
    e = g.standard_normal((n, steps, dim), np.float32)
    if rho:
        e[:, 1:] *= np.float32(np.sqrt(1 - rho**2))
        for t in range(1, steps):
            e[:, t] += np.float32(rho) * e[:, t - 1]
    return e


def participation_ratio(correlation: Array) -> float:
    """Return (sum of eigenvalues)^2 / sum of their squares: the effective number of independent directions, 1..D."""
    return float(np.trace(correlation) ** 2 / np.sum(correlation**2))


def redundant_mixing(g: np.random.Generator, dim: int, participation: float) -> Array:
    """Return a (D, D) map from white u to columns of unit variance with participation ratio `participation` * D.

    A random rotation of a power-law spectrum whose exponent is found by bisection.
    """
    q, _ = np.linalg.qr(g.standard_normal((dim, dim)))
    order = np.arange(1, dim + 1, dtype=np.float64)

    def mixing(exponent: float) -> Array:
        raw = order[:, None] ** (-exponent / 2) * q
        return np.asarray(raw / np.sqrt((raw**2).sum(0)))

    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        m = mixing(middle)
        if participation_ratio(m.T @ m) > participation * dim:
            low = middle
        else:
            high = middle
    return mixing(high)


@dataclass(frozen=True)
class Block:
    """How one modality's values are made of its factors, and back.

    mixing: (D, D); directions: (k, D) rows v_j in the space of u; tail: (D,) strength of the heavy tail of each column,
    0 = none; rho: lag-one correlation of the noise.
    """

    mixing: Array
    directions: Array
    tail: Array
    rho: float

    @property
    def dim(self) -> int:
        return len(self.mixing)

    def render(self, u: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the values (N, T, D) of the inner values u."""
        x = np.asarray(u, np.float32) @ self.mixing.astype(np.float32)
        for d in np.flatnonzero(self.tail):
            x[..., d] = np.sinh(self.tail[d] * x[..., d]) / self.tail[d]
        return x

    def inner(self, x: NDArray[np.floating]) -> Array:
        """Return the inner values u (N, T, D) of the values x."""
        z = np.array(x, np.float64)
        for d in np.flatnonzero(self.tail):
            z[..., d] = np.arcsinh(self.tail[d] * z[..., d]) / self.tail[d]
        return np.asarray(z @ np.linalg.inv(self.mixing))

    def evidence(
        self, x: NDArray[np.floating], observed: NDArray[np.bool_], profiles: Array | None = None
    ) -> tuple[Array, Array]:
        """Return what the observed steps say about the factors a: precision (N, k, k) and potential (N, k) with

            log p(x | a) = potential . a - a' precision a / 2 + terms without a       (noise scale 1)

        profiles: (T, k) temporal profiles p_j(t), constant 1 by default. Noise between observed steps t' < t is
        correlated by rho^(t - t'), so hidden steps in between are integrated out exactly.
        """
        steps = np.arange(observed.shape[1])
        last = np.maximum.accumulate(np.where(observed, steps, -1), 1)
        before = np.concatenate([np.full((len(observed), 1), -1), last[:, :-1]], 1)  # previous observed step, or -1
        r = np.where(before >= 0, self.rho ** np.maximum(steps - before, 1).astype(np.float64), 0.0)
        scale = np.where(observed, 1 / np.sqrt(1 - r**2), 0.0)

        p = np.ones((len(steps), len(self.directions))) if profiles is None else profiles
        a = self.inner(x) @ self.directions.T  # (N, T, k)
        previous = np.take_along_axis(a, np.maximum(before, 0)[..., None], 1)
        a = (a - r[..., None] * previous) * scale[..., None]
        c = (p[None] - r[..., None] * p[np.maximum(before, 0)]) * scale[..., None]  # whitened profiles
        gram = self.directions @ self.directions.T
        return np.einsum("ntj,ntl->njl", c, c) * gram, (c * a).sum(1)


def block(
    g: np.random.Generator,
    dim: int,
    factors: int,
    *,
    participation: float,
    rho: float,
    tail: float,
    tail_first: float = 0,
) -> Block:
    """Return a random block whose factors enter along orthonormal directions in the more variable half of u.

    tail_first: the tail of column 0 where it is heavier than the others (pitch among audio features).
    """
    half = max(factors, dim // 2)
    require(half <= dim, "dims", dim, f"at least the number of factors, {factors}")
    directions = np.zeros((factors, dim))
    directions[:, :half] = np.linalg.qr(g.standard_normal((half, factors)))[0].T
    tails = np.full(dim, float(tail))
    tails[0] = max(tail, tail_first)
    return Block(redundant_mixing(g, dim, participation), directions, tails, rho)


# Effective share of D, lag-one correlation, tail of text, audio, vision (measured); further modalities as vision.
PARTICIPATION = {"text": 0.11, "audio": 0.38, "vision": 0.33}
RHO = {"text": 0.08, "audio": 0.22, "vision": 0.47}
TAIL = {"text": 0.15, "audio": 0.66, "vision": 0.0}
TAIL_PITCH = 1.0


def modality_block(seed: int, world: str, modality: str, dim: int, factors: int, *, tails: bool = True) -> Block:
    """Return the block of a named modality with the calibrated redundancy, autocorrelation and (if asked) tails."""
    like = modality if modality in PARTICIPATION else "vision"
    return block(
        rng(seed, "world", world, "block", modality), dim, factors,
        participation=PARTICIPATION[like], rho=RHO[like], tail=TAIL[like] * tails,
        tail_first=TAIL_PITCH * tails if modality == "audio" else 0.0,
    )  # fmt: skip
