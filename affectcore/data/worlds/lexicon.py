"""World "lexicon": sentences whose words go with the label, some of them only where the training data come from.

    p(word | class, environment) ~ Zipf(word) * exp(strength_w(environment) * sign_w * position(class))
    stable words keep their strength; spurious words have `spurious` in training, `shift * spurious` out of distribution
    text step = embedding of its word; audio, vision: u_t = gain * position(class) along one direction + AR(1) noise

Words are independent given the class. Classes lie on an ordinal line. Audio and vision run word by word (aligned) or at
their own frame rates (unaligned).
`oracle` is the exact posterior from stable and neutral words, audio and vision: no shift of association can spoil it.
`bayes` is the exact posterior under the item's own law, spurious words included. Both know the class shares of the
item's environment. Token ids are in `batch.extras["tokens"]`; the text is hidden where `observed["text"]` says so.
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
    counts,
    groups,
    lengths,
    modality_block,
    partners,
    require,
)  # fmt: skip
from affectcore.streams import rng

NAME = "lexicon"
MODALITIES = ("text", "audio", "vision")
PAD, UNK, MASK, WORDS = 0, 1, 2, 3  # reserved token ids; words are numbered from WORDS
# Class counts of the CIDer splits of MOSEI: in distribution (train) and out of it (test; labels shift there, too).
COUNTS: dict[int, dict[str, tuple[int, ...]]] = {
    3: {"train": (4738, 3540, 8048), "ood": (1776, 1666, 1217)},
    7: {"train": (311, 1305, 2039, 6798, 4117, 1549, 207), "ood": (103, 437, 912, 1803, 990, 367, 46)},
}
CLASSES = {3: ("negative", "neutral", "positive"), 7: ("-3", "-2", "-1", "0", "+1", "+2", "+3")}
# Signed distances of the class means of MOSEI text from the grand mean, +3 as unit (measured); 0 in the middle.
POSITIONS = {3: np.array([-1.0, 0.0, 1.0]), 7: np.array([-1.84, -1.48, -0.796, 0.0, 0.621, 0.859, 1.22]) / 1.22}

POLARITY, LEAN = 5.0, 0.3  # length of stable words along sentiment; share of it for spurious words


@dataclass(frozen=True)
class Settings:
    """What defines a lexicon world beside its seed.

    classes: 3 or 7, on an ordinal line; stable, spurious: association of these words with the class, in log odds per
    unit of position, >= 0; shift: factor of the spurious association out of distribution, in [-1, 1] (1 no shift, 0
    gone, -1 reversed); label_shift: whether class shares shift too, as in the published re-split; words: vocabulary;
    stable_words, spurious_words: how many of them, even, >= 2; gain: strength of audio, vision in one step, in units of
    the step noise, > 0; aligned: one frame a word, or else audio_rate, vision_rate frames a word, >= 1; steps: most
    words; dims: features; video: mean samples per video, >= 1.
    """

    classes: int = 3
    stable: float = 1.2
    spurious: float = 1.2
    shift: float = -1.0
    label_shift: bool = False
    words: int = 400
    stable_words: int = 40
    spurious_words: int = 40
    gain: tuple[float, float] = (0.15, 0.2)
    aligned: bool = True
    audio_rate: int = 3
    vision_rate: int = 2
    steps: int = 12
    dims: tuple[int, int, int] = (24, 16, 12)
    video: float = 7.0

    def __post_init__(self) -> None:
        require(self.classes in COUNTS, "classes", self.classes, "3 or 7")
        for name in ("stable", "spurious"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "an association, at least 0")
        require(-1 <= self.shift <= 1, "shift", self.shift, "a factor in [-1, 1]")
        for name in ("stable_words", "spurious_words"):
            n = getattr(self, name)
            require(n >= 2 and n % 2 == 0, name, n, "an even number of words, at least 2")
        rule = f"more than the stable and spurious words, {self.stable_words + self.spurious_words}"
        require(self.words > self.stable_words + self.spurious_words, "words", self.words, rule)
        require(len(self.gain) == 2 and min(self.gain) > 0, "gain", self.gain, "two positive numbers, audio and vision")
        for name in ("audio_rate", "vision_rate", "steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(len(self.dims) == 3 and min(self.dims) >= 2, "dims", self.dims, "three numbers, each at least 2")
        require(self.video >= 1, "video", self.video, "a mean number of samples, at least 1")


DIFFICULTIES = {
    "easy": Settings(stable=2.0, spurious=0.6, shift=0.0),
    "headline": Settings(),
    "hard": Settings(stable=0.7, spurious=1.5),
}
SIZES = Sizes(4000, 1000, 6000)


@dataclass(frozen=True)
class Truth:
    """The known constants.

    role: (V,) 0 neutral or reserved, 1 stable, 2 spurious; sign: (V,); positions: (C,); prior: (2, C) class shares in
    and out of distribution; log_p: (2, C, V) log probability of each token; embedding: (V, D); gain: (2,) and blocks:
    audio, vision.
    """

    role: NDArray[np.int64]
    sign: Array
    positions: Array
    prior: Array
    log_p: Array
    embedding: NDArray[np.float32]
    gain: Array
    blocks: dict[str, Block]

    def posterior(self, batch: Batch, known: dict[str, NDArray[Any]], stable_only: bool) -> Array:
        e, tokens = known["environment"], known["tokens"]
        score = np.log(self.prior)[e]
        if "text" in batch.features:
            log_p = np.moveaxis(self.log_p, 1, 2)  # (2, V, C)
            if stable_only:  # law of a word given that it is not a spurious one: the same in both environments
                kept = np.where(self.role == 2, 0.0, np.exp(self.log_p)).sum(-1)  # (2, C)
                log_p = np.where((self.role == 2)[:, None], 0.0, log_p - np.log(kept)[:, None])
            seen = batch.observed["text"].numpy()
            score = score + np.where(seen[..., None], log_p[e[:, None], tokens], 0.0).sum(1)
        for i, m in enumerate(("audio", "vision")):
            if m in batch.features:
                p, b = self.blocks[m].evidence(batch.features[m].numpy(), batch.observed[m].numpy())
                a = self.gain[i] * self.positions
                score = score + b[:, :1] * a - 0.5 * p[:, 0, :1] * a**2
        score = np.exp(score - score.max(1, keepdims=True))
        return np.asarray(score / score.sum(1, keepdims=True))

    def oracle(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        return self.posterior(batch, known, stable_only=True)

    def bayes(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        return self.posterior(batch, known, stable_only=False)

    def mechanism(self, world: World, batch: Batch, shuffled: bool) -> dict[str, NDArray[Any]]:
        """Whether each token is a spurious word (B, T); shuffled: as many other words, marked at random."""
        spurious = self.role == 2
        if shuffled:
            spurious = spurious.copy()
            spurious[WORDS:] = rng(world.seed, "world", NAME, "shuffled words").permutation(spurious[WORDS:])
        return {"spurious": spurious[world.known(batch)["tokens"]]}


def sample_tokens(g: np.random.Generator, p: Array, y: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """Return tokens (N, steps) drawn from p (C, V) of each sample's class, by inverse cumulative probability."""
    u = g.random((len(y), steps))
    out = np.empty(u.shape, np.int64)
    for c, row in enumerate(p):
        edges = np.cumsum(row)
        out[y == c] = np.searchsorted(edges / edges[-1], u[y == c], side="right")
    return out


def deal_words(g: np.random.Generator, s: Settings) -> tuple[NDArray[np.int64], Array]:
    """Return role and sign (V,) of every token: stable and spurious words spread over frequent and rare ranks."""
    rank = np.arange(s.words)
    stable = rank[np.linspace(0, s.words - 1, s.stable_words).astype(int)]
    free = np.setdiff1d(rank, stable)
    spurious = free[np.linspace(0, len(free) - 1, s.spurious_words).astype(int)]
    role, sign = np.zeros(s.words, np.int64), np.zeros(s.words)
    for number, ranks in ((1, stable), (2, spurious)):
        role[ranks] = number
        sign[ranks] = np.resize([1.0, -1.0], len(ranks)) * g.choice([-1.0, 1.0])
    order = np.argsort(rank + 8 * g.random(s.words))  # neighbours in frequency change places
    pad = np.zeros(WORDS)
    return np.concatenate([pad.astype(np.int64), role[order]]), np.concatenate([pad, sign[order]])


def build(seed: int, settings: Settings, sizes: Sizes) -> World:
    """Return the lexicon world of this seed. Splits train, valid, test and, shifted, test_ood."""
    s = settings
    v, c = WORDS + s.words, s.classes
    positions = POSITIONS[c]
    g = rng(seed, "world", NAME, "vocabulary")
    role, sign = deal_words(g, s)
    zipf = np.zeros(v)
    zipf[WORDS:] = 1 / (np.arange(s.words) + 20.0)
    log_p = np.full((2, c, v), -np.inf)
    for e, factor in enumerate((1.0, s.shift)):
        strength = np.choose(role, [0.0, s.stable, s.spurious * factor])
        p = (zipf * np.exp(strength * sign * positions[:, None]))[:, WORDS:]
        log_p[e][:, WORDS:] = np.log(p / p.sum(1, keepdims=True))
    shares = np.array([COUNTS[c]["train"], COUNTS[c]["ood" if s.label_shift else "train"]], np.float64)
    prior = shares / shares.sum(1, keepdims=True)

    text = modality_block(seed, NAME, "text", s.dims[0], 1)
    u = rng(seed, "world", NAME, "embedding").standard_normal((v, 1, s.dims[0]))
    # Sentiment words share a direction of the embedding; spurious ones lean the same way, less. So the distance between
    # negative and positive texts shrinks out of distribution, as the published re-split reports.
    lean = np.choose(role, [0.0, POLARITY, POLARITY * LEAN]) * sign
    u += lean[:, None, None] * text.directions[0] / np.linalg.norm(text.directions[0] @ text.mixing)
    embedding = text.render(u)[:, 0]
    blocks = {m: modality_block(seed, NAME, m, d, 1) for m, d in zip(("audio", "vision"), s.dims[1:])}
    truth = Truth(role, sign, positions, prior, log_p, embedding, np.array(s.gain), blocks)

    rate = {"audio": 1, "vision": 1} if s.aligned else {"audio": s.audio_rate, "vision": s.vision_rate}
    parts = consecutive({"train": sizes.train, "valid": sizes.valid, "test": sizes.test, "test_ood": sizes.test})
    features: dict[str, list[NDArray[np.float32]]] = {m: [] for m in MODALITIES}
    length: dict[str, list[NDArray[np.int64]]] = {m: [] for m in MODALITIES}
    y, tokens, environment = [], [], []
    group: list[NDArray[np.int64]] = []
    for part, rows in parts.items():
        n, stream, e = len(rows), ("world", NAME, part), int(part == "test_ood")
        label = rng(seed, *stream, "labels").permutation(np.repeat(np.arange(c), counts(shares[e], n)))
        words = lengths(rng(seed, *stream, "lengths"), n, s.steps)
        token = sample_tokens(rng(seed, *stream, "words"), np.exp(log_p[e]), label, s.steps)
        token[np.arange(s.steps) >= words[:, None]] = PAD
        features["text"].append(embedding[token])
        length["text"].append(words)
        for i, m in enumerate(("audio", "vision")):
            x = ar_noise(rng(seed, *stream, "noise", m), n, s.steps * rate[m], blocks[m].dim, blocks[m].rho)
            x += (s.gain[i] * positions[label, None] * blocks[m].directions[0]).astype(np.float32)[:, None]
            features[m].append(blocks[m].render(x))
            # Frames of a word come and go with speaking rate: the last word may end early, never before it began.
            cut = 0 if rate[m] == 1 else rng(seed, *stream, "frames", m).integers(0, rate[m], n)
            length[m].append(words * rate[m] - cut)
        code = groups(rng(seed, *stream, "groups"), n, s.video)
        group.append(code + (group[-1][-1] + 1 if group else 0))
        y.append(label)
        tokens.append(token)
        environment.append(np.full(n, e))
    all_tokens = np.concatenate(tokens)
    data = AffectData(
        f"world/{NAME}",
        Task("single_label", CLASSES[c]),
        {m: np.concatenate(x) for m, x in features.items()},
        np.concatenate(y),
        parts,
        lengths={m: np.concatenate(k) for m, k in length.items()},
        group=np.concatenate(group),
        environment=np.concatenate(environment),
        extras={"tokens": all_tokens},
    )
    factors = {"tokens": all_tokens, "environment": np.concatenate(environment)}
    return World(NAME, seed, s, data, truth, factors, "oracle", partners(seed, NAME, parts))
