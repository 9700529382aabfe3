"""World "recovery": any number of modalities that share a latent by a known correlation.

    s ~ N(0, I_k);  h_m = sqrt(rho) s + sqrt(1 - rho) n_m         so corr(h_m, h_m') = rho, factor by factor
    Y = mean + sd (<w, s> + tau eps) / sqrt(1 + tau^2), |w| = 1
    u_t = gain_m h_m along the block's directions + AR(1) noise   see `base`

Everything is jointly Gaussian in u, so E[Y | observed values] is exact for every subset of modalities and steps: the
oracle is Bayes at every missing rate, and `Truth.recover` is the best possible recovery of a hidden modality.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import AffectData, Batch, Task
from affectcore.data.worlds.base import (
    Array,
    Block,
    Sizes,
    World,
    ar_noise,
    consecutive,
    groups,
    lengths,
    modality_block,
    partners,
    require,
)  # fmt: skip
from affectcore.streams import rng

NAME = "recovery"
NAMES = ("text", "audio", "vision", "physiology", "posture", "computer", "gaze", "touch")
# Mean and sd of sentiment in CMU-MOSEI, all segments (measured).
SENTIMENT_MEAN, SENTIMENT_SD = 0.152, 1.112


def modality_names(n: int) -> tuple[str, ...]:
    """Return n modality names: text, audio, vision, ..., then modality_9 and so on."""
    return tuple(NAMES[i] if i < len(NAMES) else f"modality_{i + 1}" for i in range(n))


@dataclass(frozen=True)
class Settings:
    """What defines a recovery world beside its seed.

    modalities: how many, >= 2; rho: correlation of the factors between any two modalities, in (0, 1); tau: label noise,
    > 0; factors: k; gain: strength of a factor in one step of text, audio and every further modality, in units of the
    step noise, > 0; dims: features of text, audio and every further modality; steps: longest sequence; video: mean
    samples per video, >= 1.
    """

    modalities: int = 3
    rho: float = 0.6
    tau: float = 0.6
    factors: int = 4
    gain: tuple[float, float, float] = (0.8, 0.28, 0.6)
    dims: tuple[int, int, int] = (24, 16, 12)
    steps: int = 12
    video: float = 7.0

    def __post_init__(self) -> None:
        require(self.modalities >= 2, "modalities", self.modalities, "at least 2")
        require(0 < self.rho < 1, "rho", self.rho, "a correlation in (0, 1)")
        require(self.tau > 0, "tau", self.tau, "a positive number")
        require(self.factors >= 1, "factors", self.factors, "at least 1")
        require(len(self.gain) == 3 and min(self.gain) > 0, "gain", self.gain, "three positive numbers")
        rule = f"three numbers, each at least the number of factors, {self.factors}"
        require(len(self.dims) == 3 and min(self.dims) >= self.factors, "dims", self.dims, rule)
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(self.video >= 1, "video", self.video, "a mean number of samples, at least 1")


DIFFICULTIES = {"easy": Settings(rho=0.85), "headline": Settings(), "hard": Settings(rho=0.3)}
SIZES = Sizes(4000, 1000, 6000)


@dataclass(frozen=True)
class Truth:
    """The known constants: rho, label weights (k,), tau, gain (M,), blocks by modality."""

    rho: float
    weights: Array
    tau: float
    gain: Array
    blocks: dict[str, Block]

    def evidence(self, batch: Batch) -> tuple[Array, Array]:
        """Return what the observed values say about h: precision (B, M) and potential (B, M, k)."""
        n, names = len(batch), list(self.blocks)
        precision, potential = np.zeros((n, len(names))), np.zeros((n, len(names), len(self.weights)))
        for i, m in enumerate(names):
            if m in batch.features:
                p, b = self.blocks[m].evidence(batch.features[m].numpy(), batch.observed[m].numpy())
                precision[:, i], potential[:, i] = self.gain[i] ** 2 * p[:, 0, 0], self.gain[i] * b
        return precision, potential

    def posterior(self, precision: Array, potential: Array) -> Array:
        """Return E[h | evidence] (B, M, k)."""
        m = precision.shape[1]
        inverse = np.linalg.inv(self.rho * np.ones((m, m)) + (1 - self.rho) * np.eye(m))
        return np.asarray(np.linalg.solve(inverse + precision[:, :, None] * np.eye(m), potential))

    def oracle(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        h = self.posterior(*self.evidence(batch))
        m = h.shape[1]
        s = np.sqrt(self.rho) / (1 + (m - 1) * self.rho) * h.sum(1)  # E[s | h]: all modalities weigh the same
        return np.asarray(SENTIMENT_MEAN + SENTIMENT_SD * (s @ self.weights) / np.sqrt(1 + self.tau**2))

    def recover(self, batch: Batch) -> Array:
        """Return E[h_m | observed values of the other modalities] (B, M, k): the best recovery of each modality."""
        precision, potential = self.evidence(batch)
        out = np.empty_like(potential)
        for i in range(precision.shape[1]):
            others = np.arange(precision.shape[1]) != i
            out[:, i] = self.posterior(precision * others, potential * others[:, None])[:, i]
        return out

    def mechanism(self, world: World, batch: Batch, shuffled: bool) -> dict[str, NDArray[Any]]:
        """The true factors (B, M, k), a perfect recovery; shuffled: those of another sample."""
        return {"latent": world.known(batch, shuffled=shuffled)["latent"]}


def build(seed: int, settings: Settings, sizes: Sizes) -> World:
    """Return the recovery world of this seed. Splits train, valid, test."""
    s = settings
    names = modality_names(s.modalities)
    kind = np.minimum(np.arange(s.modalities), 2)  # every further modality is as strong and as wide as vision
    w = rng(seed, "world", NAME, "weights").standard_normal(s.factors)
    blocks = {m: modality_block(seed, NAME, m, s.dims[kind[i]], s.factors) for i, m in enumerate(names)}
    truth = Truth(s.rho, w / np.linalg.norm(w), s.tau, np.array(s.gain)[kind], blocks)

    parts = consecutive({"train": sizes.train, "valid": sizes.valid, "test": sizes.test})
    features: dict[str, list[NDArray[np.float32]]] = {m: [] for m in names}
    length, y, latent, shared = [], [], [], []
    group: list[NDArray[np.int64]] = []
    for part, rows in parts.items():
        n, stream = len(rows), ("world", NAME, part)
        shared.append(rng(seed, *stream, "shared").standard_normal((n, s.factors)))
        label = shared[-1] @ truth.weights + s.tau * rng(seed, *stream, "label noise").standard_normal(n)
        y.append(SENTIMENT_MEAN + SENTIMENT_SD * label / np.sqrt(1 + s.tau**2))
        length.append(lengths(rng(seed, *stream, "lengths"), n, s.steps))
        code = groups(rng(seed, *stream, "groups"), n, s.video)
        group.append(code + (group[-1][-1] + 1 if group else 0))
        h = np.empty((n, s.modalities, s.factors))
        for i, m in enumerate(names):
            own = rng(seed, *stream, "own", m).standard_normal((n, s.factors))
            h[:, i] = np.sqrt(s.rho) * shared[-1] + np.sqrt(1 - s.rho) * own
            u = ar_noise(rng(seed, *stream, "noise", m), n, s.steps, blocks[m].dim, blocks[m].rho)
            u += (truth.gain[i] * h[:, i] @ blocks[m].directions).astype(np.float32)[:, None]
            features[m].append(blocks[m].render(u))
        latent.append(h)
    data = AffectData(
        f"world/{NAME}",
        Task("regression", ("sentiment",), -8.0, 8.0),
        {m: np.concatenate(x) for m, x in features.items()},
        np.concatenate(y),
        parts,
        lengths=dict.fromkeys(names, np.concatenate(length)),
        group=np.concatenate(group),
    )
    factors = {"latent": np.concatenate(latent), "shared": np.concatenate(shared)}
    return World(NAME, seed, s, data, truth, factors, "bayes", partners(seed, NAME, parts))
