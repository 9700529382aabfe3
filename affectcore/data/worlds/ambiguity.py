"""World "ambiguity": label sets that co-occur as in CMU-MOSEI, expressed weakly or strongly, in noise of known scale.

    y ~ maximum-entropy law with MOSEI's label pairs and numbers of labels;  a_j = level of emotion j if present, else 0
    u_t = gain_m * sum_j a_j p_mj(t) v_mj + s_m * AR(1) noise,   log s_m normal, partly shared between modalities

The oracle knows each sample's noise scales s_m (a predictor has to estimate them from the noise, which has steps x dims
values a sample) and is the exact posterior of each label given them: it sums over all 4^6 level sets.
`extras["intensity"]` (N, 6) is what raters' averages are in MOSEI: the level of a recorded emotion, 0 where none is.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

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

NAME = "ambiguity"
MODALITIES = ("text", "audio", "vision")
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
# CMU-MOSEI, all 23,259 segments (measured): segments with both labels, diagonal = with the label.
SEGMENTS = 23259
PAIRS = np.array([
    [12465, 1739, 1506, 1315, 1015, 908],
    [1739, 5998, 1669, 733, 1914, 899],
    [1506, 1669, 4997, 629, 2288, 460],
    [1315, 733, 629, 2320, 794, 252],
    [1015, 1914, 2288, 794, 4097, 328],
    [908, 899, 460, 252, 328, 1913],
])  # fmt: skip
CARDINALITY = np.array([0.1499, 0.4865, 0.2433, 0.0918, 0.0245, 0.0037, 0.0003])  # share with 0..6 labels
# Level of an emotion given that it is present: 1/3, 2/3, or 1 and more (mean 4/3), by emotion.
LEVELS = np.array([1 / 3, 2 / 3, 4 / 3])
LEVEL_SHARES = np.array([
    [0.355, 0.213, 0.432], [0.477, 0.329, 0.194], [0.393, 0.275, 0.332],
    [0.694, 0.215, 0.091], [0.464, 0.272, 0.264], [0.604, 0.290, 0.106],
])  # fmt: skip
SETS = (np.arange(64)[:, None] >> np.arange(6)) & 1  # (64, 6): bit j of the number says whether emotion j is present


@dataclass(frozen=True)
class Settings:
    """What defines an ambiguity world beside its seed.

    gain: strength of a fully expressed emotion in text, audio, vision, in units of the median step noise, > 0;
    spread: sd of log noise scale over samples, >= 0 (0: every sample alike); shared: correlation of log noise scales
    between modalities, in [0, 1]; flips: probability that a label is recorded wrongly, in [0, 0.5), in every split;
    steps: longest sequence; dims: features, each at least 6; video: mean samples per video, >= 1.
    intensity: "true", or "shuffled": the recorded levels of an emotion change places within a split (control).
    """

    gain: tuple[float, float, float] = (0.8, 0.4, 0.6)
    spread: float = 0.5
    shared: float = 0.5
    flips: float = 0.0
    steps: int = 12
    dims: tuple[int, int, int] = (24, 16, 12)
    video: float = 7.0
    intensity: Literal["true", "shuffled"] = "true"

    def __post_init__(self) -> None:
        require(
            len(self.gain) == 3 and all(x > 0 for x in self.gain),
            "gain",
            self.gain,
            "three positive numbers, one per modality",
        )
        require(self.spread >= 0, "spread", self.spread, "a standard deviation, at least 0")
        require(0 <= self.shared <= 1, "shared", self.shared, "a correlation in [0, 1]")
        require(0 <= self.flips < 0.5, "flips", self.flips, "a probability in [0, 0.5)")
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(len(self.dims) == 3 and min(self.dims) >= 6, "dims", self.dims, "three numbers, each at least 6")
        require(self.video >= 1, "video", self.video, "a mean number of samples, at least 1")
        require(self.intensity in ("true", "shuffled"), "intensity", self.intensity, "true or shuffled")


DIFFICULTIES = {
    "easy": Settings(gain=(2.0, 1.0, 1.2), spread=0.4),
    "headline": Settings(),
    "hard": Settings(gain=(0.5, 0.2, 0.3), spread=0.8, flips=0.1),
}
SIZES = Sizes(4000, 1000, 6000)


@lru_cache(maxsize=1)
def label_sets() -> Array:
    """Return the probabilities (64,) of the label sets `SETS`: maximum entropy given MOSEI's pairs, cardinalities."""
    pairs = [(i, j) for i in range(6) for j in range(i, 6)]
    f = np.stack([SETS[:, i] * SETS[:, j] for i, j in pairs] + [SETS.sum(1) == n for n in range(7)], 1).astype(float)
    target = np.concatenate([[PAIRS[i, j] / SEGMENTS for i, j in pairs], CARDINALITY / CARDINALITY.sum()])

    def dual(weights: Array) -> tuple[float, Array]:
        score = f @ weights
        p = np.exp(score - logsumexp(score))
        ridge = 1e-7  # published counts and shares are rounded apart, so no law meets all of them exactly
        return logsumexp(score) - target @ weights + ridge * weights @ weights, f.T @ p - target + 2 * ridge * weights

    best = minimize(dual, np.zeros(f.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14})
    score = f @ best.x
    return np.asarray(np.exp(score - logsumexp(score)))


@lru_cache(maxsize=1)
def level_sets() -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return all level sets (4096, 6), the log probability of each, and whether each emotion is present in it."""
    number = np.arange(4**6)[:, None] // 4 ** np.arange(6) % 4  # 0 absent, 1..3 the level
    present = number > 0
    log_p = np.log(label_sets())[present @ (1 << np.arange(6))]
    log_p = log_p + np.where(present, np.log(LEVEL_SHARES)[np.arange(6), np.maximum(number - 1, 0)], 0.0).sum(1)
    return np.where(present, LEVELS[np.maximum(number - 1, 0)], 0.0), log_p, present


@dataclass(frozen=True)
class Truth:
    """The known constants: gain (3,), profiles by modality (T, 6), blocks by modality, probability of a flip."""

    gain: Array
    profiles: dict[str, Array]
    blocks: dict[str, Block]
    flips: float

    def oracle(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        levels, log_p, present = level_sets()
        precision, potential = np.zeros((len(batch), 6, 6)), np.zeros((len(batch), 6))
        for m, name in enumerate(MODALITIES):
            if name not in batch.features:
                continue
            x, o = batch.features[name].numpy(), batch.observed[name].numpy()
            p, b = self.blocks[name].evidence(x, o, self.profiles[name])
            scale = known["scale"][:, m]  # u / s has noise of scale 1 and factors a / s
            precision += p * (self.gain[m] / scale)[:, None, None] ** 2
            potential += b * (self.gain[m] / scale**2)[:, None]
        products = (levels[:, :, None] * levels[:, None, :]).reshape(len(levels), 36).T
        out = np.empty((len(batch), 6))
        for rows in np.array_split(np.arange(len(batch)), max(1, len(batch) // 500)):
            score = potential[rows] @ levels.T - 0.5 * precision[rows].reshape(-1, 36) @ products + log_p
            score = np.exp(score - score.max(1, keepdims=True))
            out[rows] = score @ present / score.sum(1, keepdims=True)
        return np.asarray(self.flips + (1 - 2 * self.flips) * out)

    def mechanism(self, world: World, batch: Batch, shuffled: bool) -> dict[str, NDArray[Any]]:
        """The true noise scales (B, 3); shuffled: those of another sample."""
        return {"scale": world.known(batch, shuffled=shuffled)["scale"]}


def build(seed: int, settings: Settings, sizes: Sizes) -> World:
    """Return the ambiguity world of this seed. Splits train, valid, test."""
    s = settings
    # No further tails: noise of varying scale is heavy-tailed already.
    blocks = {m: modality_block(seed, NAME, m, d, 6, tails=False) for m, d in zip(MODALITIES, s.dims)}
    profiles = {}
    for m in MODALITIES:  # each emotion rises and falls around a moment of its own in every modality; mean square 1
        centre = rng(seed, "world", NAME, "profiles", m).uniform(0, s.steps, 6)
        bump = 0.5 + np.exp(-0.5 * ((np.arange(s.steps)[:, None] + 0.5 - centre) / max(s.steps / 4, 1)) ** 2)
        profiles[m] = bump / np.sqrt((bump**2).mean(0))
    truth = Truth(np.array(s.gain), profiles, blocks, s.flips)

    parts = consecutive({"train": sizes.train, "valid": sizes.valid, "test": sizes.test})
    features: dict[str, list[NDArray[np.float32]]] = {m: [] for m in MODALITIES}
    length, clean, target, level, scale, intensity = [], [], [], [], [], []
    group: list[NDArray[np.int64]] = []
    for part, rows in parts.items():
        n, key = len(rows), ("world", NAME, part)
        sets = rng(seed, *key, "label sets").choice(64, n, p=label_sets() / label_sets().sum())
        clean.append(SETS[sets])
        pick = rng(seed, *key, "levels").random((n, 6, 1))
        number = (pick > LEVEL_SHARES.cumsum(1)[None, :, :2]).sum(-1)
        level.append(np.where(clean[-1] == 1, LEVELS[number], 0.0))
        flip = rng(seed, *key, "flips").random((n, 6)) < s.flips
        target.append(np.where(flip, 1 - clean[-1], clean[-1]))
        recorded = np.where(target[-1] == 1, np.maximum(level[-1], LEVELS[0]), 0.0)  # a false one is a weak one
        if s.intensity == "shuffled":
            for j in range(6):
                with_it = np.flatnonzero(target[-1][:, j])
                recorded[with_it, j] = recorded[rng(seed, *key, "shuffled levels", j).permutation(with_it), j]
        intensity.append(recorded)
        z = rng(seed, *key, "noise scales").standard_normal((n, 4))
        scale.append(np.exp(s.spread * (np.sqrt(s.shared) * z[:, 3:] + np.sqrt(1 - s.shared) * z[:, :3])))
        length.append(lengths(rng(seed, *key, "lengths"), n, s.steps))
        code = groups(rng(seed, *key, "groups"), n, s.video)
        group.append(code + (group[-1][-1] + 1 if group else 0))
        for i, m in enumerate(MODALITIES):
            u = ar_noise(rng(seed, *key, "noise", m), n, s.steps, blocks[m].dim, blocks[m].rho)
            u *= scale[-1][:, i, None, None].astype(np.float32)
            signal = (s.gain[i] * level[-1])[:, None, :] * profiles[m]  # (n, T, 6)
            u += signal.astype(np.float32) @ blocks[m].directions.astype(np.float32)
            features[m].append(blocks[m].render(u))
    steps = np.concatenate(length)
    data = AffectData(
        f"world/{NAME}",
        Task("multi_label", EMOTIONS),
        {m: np.concatenate(x) for m, x in features.items()},
        np.concatenate(target),
        parts,
        lengths=dict.fromkeys(MODALITIES, steps),
        group=np.concatenate(group),
        extras={"intensity": np.concatenate(intensity).astype(np.float32)},
    )
    factors = {"scale": np.concatenate(scale), "level": np.concatenate(level), "clean": np.concatenate(clean)}
    return World(NAME, seed, s, data, truth, factors, "oracle", partners(seed, NAME, parts))
