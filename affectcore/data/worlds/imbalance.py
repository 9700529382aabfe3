"""World "imbalance": six very unequal classes, three modalities tied by known linear equations.

    h_text, h_audio, h_vision = class means + graph' h + speaker + noise       k factors each, the same graph for all
    u_t = gain * h_m along the block's directions + AR(1) noise                see `base`

Structures (weights a, b): chain text -a-> audio -b-> vision; fork audio <-a- text -b-> vision; collider text -a->
vision <-b- audio; confounder text <-a- hidden speaker -b-> vision, no edge; cycle text -a-> audio -b-> text, vision
apart.

Given the class everything is Gaussian, so the posterior of the class is exact, whatever is hidden: the oracle is Bayes.
Class totals are those of the tensor file behind the published Affect-Diff runs (2,795 samples).
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

NAME = "imbalance"
MODALITIES = ("text", "audio", "vision")
CLASSES = ("happy", "sad", "angry", "fear", "disgust", "surprise")
# Samples per class; test_published are the first 420 rows of test.
PUBLISHED = {
    "train": (1293, 340, 195, 33, 35, 60),
    "valid": (280, 66, 48, 7, 7, 11),
    "test_published": (277, 76, 36, 8, 12, 11),
}
TOTALS = np.sum(list(PUBLISHED.values()), axis=0)  # 1850, 482, 279, 48, 54, 82
VALENCE = np.array([0.585, -0.342, -0.415, -0.017, -0.548, -0.063])  # correlation with sentiment (measured)
STRUCTURES = ("chain", "fork", "collider", "confounder", "cycle")


@dataclass(frozen=True)
class Settings:
    """What defines an imbalance world beside its seed.

    structure: which equations tie the modalities, see the module; coefficients: their two weights, each in (-1, 1);
    signal: length of the class means of text, audio, vision in units of a factor's own noise, > 0; gain: strength of a
    factor in one step, in units of the step noise, > 0; factors: per modality; steps: longest sequence; dims: features;
    missing_frames: share of vision frames lost by the tracker, in [0, 1); speaker: mean samples per speaker, >= 1;
    extra: further training samples per class, or () for none: what a perfect generator of rare classes would add.
    """

    structure: str = "chain"
    coefficients: tuple[float, float] = (0.6, 0.4)
    signal: tuple[float, float, float] = (0.35, 0.2, 0.3)
    gain: tuple[float, float, float] = (0.5, 0.4, 0.4)
    factors: int = 4
    steps: int = 12
    dims: tuple[int, int, int] = (24, 16, 12)
    missing_frames: float = 0.05
    speaker: float = 3.0
    extra: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.structure in STRUCTURES, "structure", self.structure, f"one of {', '.join(STRUCTURES)}")
        require(
            len(self.coefficients) == 2 and all(-1 < c < 1 for c in self.coefficients),
            "coefficients", self.coefficients, "two numbers in (-1, 1)",
        )  # fmt: skip
        for name in ("signal", "gain"):
            v = getattr(self, name)
            require(len(v) == 3 and all(x > 0 for x in v), name, v, "three positive numbers, one per modality")
        require(self.factors >= 1, "factors", self.factors, "at least 1")
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(
            len(self.dims) == 3 and min(self.dims) >= self.factors, "dims", self.dims,
            f"three numbers, each at least the number of factors, {self.factors}",
        )  # fmt: skip
        require(0 <= self.missing_frames < 1, "missing_frames", self.missing_frames, "a share in [0, 1)")
        require(self.speaker >= 1, "speaker", self.speaker, "a mean number of samples, at least 1")
        require(
            len(self.extra) in (0, len(CLASSES)) and all(isinstance(n, int) and n >= 0 for n in self.extra),
            "extra", self.extra, f"() or {len(CLASSES)} whole numbers, at least 0",
        )  # fmt: skip


DIFFICULTIES = {
    "easy": Settings(signal=(1.6, 1.0, 1.3)),
    "headline": Settings(signal=(0.6, 0.35, 0.5)),
    "hard": Settings(signal=(0.35, 0.2, 0.3)),
}
SIZES = Sizes(1956, 419, 6000)


@dataclass(frozen=True)
class Truth:
    """The known constants.

    graph: (3, 3), graph[i, j] is the weight of the edge i -> j (rows are causes), modalities in order; speaker: (3,)
    weights of the hidden speaker; means: (C, 3, k) direct class effects; prior: (C,) class shares of training;
    gain: (3,); blocks: by modality.
    """

    graph: Array
    speaker: Array
    means: Array
    prior: Array
    gain: Array
    blocks: dict[str, Block]

    def solve(self, direct: Array, do: dict[int, Array] | None = None) -> Array:
        """Return the factors h (N, 3, k) that solve the equations for the direct terms (class, speaker, noise).

        do: modality number -> (k,) values that it is set to, its own equation removed.
        """
        graph, direct = self.graph.copy(), direct.copy()
        for m, value in (do or {}).items():
            graph[:, m] = 0
            direct[:, m] = value
        return np.asarray(np.einsum("ij,njk->nik", np.linalg.inv(np.eye(3) - graph.T), direct))

    @property
    def covariance(self) -> Array:
        """(3, 3) covariance of one factor over modalities given the class."""
        reach = np.linalg.inv(np.eye(3) - self.graph.T)
        return np.asarray(reach @ (np.eye(3) + np.outer(self.speaker, self.speaker)) @ reach.T)

    def log_likelihood(self, batch: Batch) -> Array:
        """Return log p(observed values | class) up to a constant of the sample, (B, C)."""
        n, k = len(batch), self.means.shape[-1]
        precision, potential = np.zeros((n, 3)), np.zeros((n, 3, k))
        for m, name in enumerate(MODALITIES):
            if name not in batch.features:
                continue
            p, q = self.blocks[name].evidence(batch.features[name].numpy(), batch.observed[name].numpy())
            precision[:, m], potential[:, m] = p[:, 0, 0] * self.gain[m] ** 2, q * self.gain[m]
        mean = np.einsum("ij,cjk->cik", np.linalg.inv(np.eye(3) - self.graph.T), self.means)  # (C, 3, k)
        inverse = np.linalg.inv(self.covariance)
        # With h ~ N(mean, S) and evidence (J, b):  log p = b'' V b'' / 2 - mean' S^-1 mean / 2,  b'' = b + S^-1 mean,
        # V = (S^-1 + J)^-1; terms without the class dropped.
        v = np.linalg.inv(inverse + precision[:, :, None] * np.eye(3))
        pull = np.einsum("ij,cjk->cik", inverse, mean)
        out = np.einsum("nik,nij,cjk->nc", potential, v, pull)
        out += 0.5 * np.einsum("cik,nij,cjk->nc", pull, v, pull) - 0.5 * np.einsum("cik,cik->c", pull, mean)
        return np.asarray(out)

    def oracle(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        score = self.log_likelihood(batch) + np.log(self.prior)
        score = np.exp(score - score.max(1, keepdims=True))
        return np.asarray(score / score.sum(1, keepdims=True))

    def mechanism(self, world: World, batch: Batch, shuffled: bool) -> dict[str, NDArray[Any]]:
        """The true graph for every sample; shuffled: another graph of the same weights with the modalities renamed."""
        graph = self.graph
        if shuffled:
            g = rng(world.seed, "world", NAME, "shuffled graph")
            renamed = [self.graph[np.ix_(p, p)] for p in ([0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])]
            others = [r for r in renamed if not np.array_equal(r != 0, graph != 0)]
            if others:  # the empty graph of "confounder" has no other form
                graph = others[g.integers(len(others))]
        return {"graph": np.tile(graph, (len(batch), 1, 1))}


def structure(name: str, a: float, b: float) -> tuple[Array, Array]:
    """Return the graph (3, 3), rows causes, and the speaker's weights (3,) of a named structure."""
    graph, speaker = np.zeros((3, 3)), np.zeros(3)
    text, audio, vision = 0, 1, 2
    if name == "chain":
        graph[text, audio], graph[audio, vision] = a, b
    elif name == "fork":
        graph[text, audio], graph[text, vision] = a, b
    elif name == "collider":
        graph[text, vision], graph[audio, vision] = a, b
    elif name == "cycle":
        graph[text, audio], graph[audio, text] = a, b
    else:
        speaker[text], speaker[vision] = a, b
    return graph, speaker


def class_means(g: np.random.Generator, k: int) -> Array:
    """Return class means (C, k) of mean length 1: first valence, then drawn coordinates."""
    valence = (VALENCE - VALENCE.mean()) / VALENCE.std()
    others = g.standard_normal((len(CLASSES), k - 1)) * (0.7 / np.sqrt(max(k - 1, 1)))
    means = np.concatenate([valence[:, None], others], 1)
    return np.asarray(means / np.linalg.norm(means, axis=1).mean())


def labels(seed: int, part: str, n: int) -> NDArray[np.int64]:
    """Return n class numbers in random order: exactly the published counts where n is the published size."""
    published = PUBLISHED.get(part, tuple(TOTALS))
    g = rng(seed, "world", NAME, part, "labels")
    if part == "test" and n >= 840:
        first = np.array(PUBLISHED["test_published"])
        rest = counts(TOTALS, n) - first
        return np.concatenate([g.permutation(np.repeat(np.arange(6), c)) for c in (first, rest)])
    return g.permutation(np.repeat(np.arange(6), counts(np.array(published), n)))


def build(seed: int, settings: Settings, sizes: Sizes) -> World:
    """Return the imbalance world of this seed. Splits train, valid, test; test_published (420 of test) from 840 on."""
    s, k = settings, settings.factors
    graph, speaker = structure(s.structure, *s.coefficients)
    g = rng(seed, "world", NAME, "class means")
    means = np.stack([class_means(g, k) * signal for signal in s.signal], 1)
    blocks = {m: modality_block(seed, NAME, m, d, k) for m, d in zip(MODALITIES, s.dims)}
    sizes_of = {"train": sizes.train, "valid": sizes.valid, "test": sizes.test}
    parts = consecutive(sizes_of | ({"extra": sum(s.extra)} if sum(s.extra) else {}))
    y = np.concatenate([labels(seed, part, len(rows)) for part, rows in parts.items() if part != "extra"])
    y = np.concatenate([y, np.repeat(np.arange(6), s.extra or 0)])
    prior = np.bincount(y[parts["train"]], minlength=6) / sizes.train
    # A sample too small to hold a class gives it half a count, so that the posterior stays defined.
    prior = np.maximum(prior, 0.5 / sizes.train)
    truth = Truth(graph, speaker, means, prior / prior.sum(), np.array(s.gain), blocks)

    features: dict[str, list[NDArray[np.float32]]] = {m: [] for m in MODALITIES}
    seen, length, people, noise, latent = [], [], [], [], []
    group: list[NDArray[np.int64]] = []
    for part, rows in parts.items():
        n, key = len(rows), ("world", NAME, part)
        length.append(lengths(rng(seed, *key, "lengths"), n, s.steps))
        code = groups(rng(seed, *key, "groups"), n, s.speaker)
        group.append(code + (group[-1][-1] + 1 if group else 0))
        people.append(rng(seed, *key, "speakers").standard_normal((n, k))[code])
        noise.append(rng(seed, *key, "structural noise").standard_normal((n, 3, k)))
        direct = means[y[rows]] + speaker[:, None] * people[-1][:, None] + noise[-1]
        latent.append(truth.solve(direct))
        frames = rng(seed, *key, "missing frames").random((n, s.steps)) >= s.missing_frames
        frames[:, 0] = True  # a face is always found once
        seen.append(frames)
        for i, m in enumerate(MODALITIES):
            u = ar_noise(rng(seed, *key, "noise", m), n, s.steps, blocks[m].dim, blocks[m].rho)
            u += (s.gain[i] * latent[-1][:, i] @ blocks[m].directions).astype(np.float32)[:, None]
            features[m].append(blocks[m].render(u))
    steps = np.concatenate(length)
    exists = np.arange(s.steps) < steps[:, None]
    splits = {k: rows for k, rows in parts.items() if k != "extra"}
    if "extra" in parts:
        splits["train"] = np.concatenate([parts["train"], parts["extra"]])
    if sizes.test >= 840:
        splits["test_published"] = parts["test"][:420]
    data = AffectData(
        f"world/{NAME}",
        Task("single_label", CLASSES),
        {m: np.concatenate(x) for m, x in features.items()},
        y,
        splits,
        lengths=dict.fromkeys(MODALITIES, steps),
        observed={"vision": exists & np.concatenate(seen)},
        group=np.concatenate(group),
    )
    factors = {
        "latent": np.concatenate(latent), "noise": np.concatenate(noise), "speaker": np.concatenate(people), "label": y,
    }  # fmt: skip
    return World(NAME, seed, s, data, truth, factors, "bayes", partners(seed, NAME, parts))


def intervene(world: World, batch: Batch, modality: str, value: Array) -> Batch:
    """Return the same samples, same noise, had the factors of `modality` been `value` (k,): do(h_modality = value).

    Effects reach the values of its descendants and of nothing else.
    """
    truth: Truth = world.truth
    known = world.known(batch)
    direct = truth.means[known["label"]] + truth.speaker[:, None] * known["speaker"][:, None] + known["noise"]
    change = truth.solve(direct, {MODALITIES.index(modality): value}) - known["latent"]
    features = dict(batch.features)
    for i, m in enumerate(MODALITIES):
        b = truth.blocks[m]
        u = b.inner(batch.features[m].numpy()) + (truth.gain[i] * change[:, i] @ b.directions)[:, None]
        x = batch.features[m].new_tensor(b.render(u))
        features[m] = x * batch.observed[m].unsqueeze(-1)
    return Batch(
        features, batch.lengths, batch.observed, batch.target, batch.index, batch.group, batch.environment, batch.extras
    )
