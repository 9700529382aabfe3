"""How close a world comes to real data: statistics measured on it beside those of CMU-MOSEI and CMU-MOSI.

Targets are measured on real data or published; each row says where.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kurtosis
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affectcore.data.schema import Batch, Selection
from affectcore.data.worlds import ambiguity, imbalance, lexicon
from affectcore.data.worlds.base import PARTICIPATION, Array, World, participation_ratio

SELECTION = Selection("fixed")  # nothing is trained on what is measured here
SEGMENTS, VIDEOS = "measured, MOSEI segments", "measured, MOSEI videos"


@dataclass(frozen=True)
class Row:
    """One statistic: its target and the target's source, what the world shows, and how far apart they may be.

    An infinite tolerance says that the statistic is shown and not calibrated.
    """

    statistic: str
    target: float
    source: str
    measured: float
    tolerance: float

    @property
    def met(self) -> bool:
        return abs(self.measured - self.target) <= self.tolerance


def pooled(batch: Batch, modality: str) -> Array:
    """Return means over observed steps, (B, D)."""
    total = batch.features[modality].numpy().sum(1, dtype=np.float64)
    return np.asarray(total / np.maximum(batch.observed[modality].numpy().sum(1), 1)[:, None])


def lag_one(batch: Batch, modality: str) -> float:
    """Return the lag-one autocorrelation inside a sample: every column centred within the sample, all pooled."""
    x, seen = batch.features[modality].numpy(), batch.observed[modality].numpy()[..., None]
    x = (x - x.sum(1, keepdims=True) / np.maximum(seen.sum(1, keepdims=True), 1)) * seen
    both = seen[:, 1:] & seen[:, :-1]
    return float((x[:, 1:] * x[:, :-1]).sum() / (x[:, 1:] ** 2 * both).sum())


def canonical_correlation(a: Array, b: Array, components: int = 10) -> float:
    """Return the leading canonical correlation of held-out samples: 10 principal components each, 5 folds."""
    out = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(a):
        left, right = (make_pipeline(StandardScaler(), PCA(min(components, x.shape[1]))).fit(x[train]) for x in (a, b))
        cca = CCA(1).fit(left.transform(a[train]), right.transform(b[train]))
        u, v = cca.transform(left.transform(a[test]), right.transform(b[test]))
        out.append(np.corrcoef(u[:, 0], v[:, 0])[0, 1])
    return float(np.mean(out))


def values(batch: Batch, modality: str) -> NDArray[np.float32]:
    """Return the observed steps, (steps, D)."""
    seen: NDArray[np.float32] = batch.features[modality].numpy()[batch.observed[modality].numpy()]
    return seen


def _sequences(world: World, correlated: bool) -> list[Row]:
    train = world.data.split("train")
    rows = []
    length = train.lengths["text"].numpy()
    cut = world.data.steps["text"]
    for q, real in ((5, 6.0), (25, 12.0), (50, 17.0)):
        name = f"words, percentile {q}" + (f" (cut at {cut})" if real > cut else "")
        rows.append(Row(name, min(real, cut), SEGMENTS, float(np.percentile(length, q)), 1.0))
    lags = {"text": (-0.023, "GloVe"), "audio": (0.107, "COVAREP"), "vision": (0.348, "Facet")}
    # Measured at word level where there is one row a word; other blocks at the level of the clip.
    ratios = {"text": (0.108, "GloVe mean"), "audio": (0.380, "COVAREP"), "vision": (0.331, "Facet")}
    tails = {"text": (0.10, "MOSEI BERT"), "audio": (4.20, "MOSEI COVAREP"), "vision": (-0.39, "Facet")}
    for m in (m for m in train.modalities if m in PARTICIPATION):
        target, block = lags[m]
        # Words of the lexicon are independent given the class: centring alone leaves -1 / length.
        tolerance = np.inf if world.name == "lexicon" and m == "text" else 0.08
        rows.append(Row(f"{m}: lag-1 autocorrelation", target, f"measured, {block}", lag_one(train, m), tolerance))
    for m in (m for m in train.modalities if m in PARTICIPATION):
        target, block = ratios[m]
        x = values(train, m)
        share = participation_ratio(np.asarray(np.corrcoef(x.T))) / x.shape[1]
        rows.append(Row(f"{m}: participation ratio / dims", target, f"measured, {block}", share, 0.1))
    for m in (m for m in train.modalities if m in PARTICIPATION):
        target, block = tails[m]
        tail = float(np.median(kurtosis(values(train, m), axis=0)))
        # In the ambiguity world the spread of noise scales is the mechanism, and it sets the tails.
        tolerance = np.inf if world.name == "ambiguity" else 1.5
        rows.append(Row(f"{m}: median excess kurtosis", target, f"measured, {block}", tail, tolerance))
    if correlated:
        pairs = {("text", "audio"): 0.28, ("text", "vision"): 0.45, ("audio", "vision"): 0.29}
        for (a, b), target in pairs.items():
            r = canonical_correlation(pooled(train, a), pooled(train, b))
            # In the ambiguity world the modalities share the emotions and nothing else.
            tolerance = np.inf if world.name == "ambiguity" else 0.12
            rows.append(Row(f"{a}-{b}: canonical correlation", target, VIDEOS, r, tolerance))
    return rows


def _imbalance(world: World) -> list[Row]:
    data = world.data
    y = np.concatenate([data.split(s, SELECTION).target.numpy() for s in ("train", "valid")])
    y = np.concatenate([y, data.split("test_published", SELECTION).target.numpy()])
    rows = [
        Row(f"{c}: samples", float(n), "published file, 2,795 samples", float((y == i).sum()), 0.0)
        for i, (c, n) in enumerate(zip(imbalance.CLASSES, imbalance.TOTALS))
    ]
    train, test = data.split("train"), data.split("test", SELECTION)
    x, xt = (np.concatenate([pooled(b, m) for m in b.modalities], 1) for b in (train, test))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced", max_iter=500))
    score = balanced_accuracy_score(test.target.numpy(), probe.fit(x, train.target.numpy()).predict(xt))
    rows.append(Row("balanced accuracy, weighted linear probe", 0.285, "wanted .25 to .32", float(score), 0.035))
    pairs = [canonical_correlation(pooled(train, a), pooled(train, b)) for a, b in combinations(train.modalities, 2)]
    rows.append(Row("mean canonical correlation", 0.34, VIDEOS, float(np.mean(pairs)), 0.12))
    return rows + _sequences(world, correlated=False)


def _ambiguity(world: World) -> list[Row]:
    y = world.factors["clean"]
    n = ambiguity.SEGMENTS
    rows = [
        Row(f"{e}: share", ambiguity.PAIRS[i, i] / n, SEGMENTS, float(y[:, i].mean()), 0.02)
        for i, e in enumerate(ambiguity.EMOTIONS)
    ]
    for i, j in combinations(range(6), 2):
        phi = np.corrcoef(y[:, i], y[:, j])[0, 1]
        p, a, b = (ambiguity.PAIRS[k] / n for k in ((i, j), (i, i), (j, j)))
        real = (p - a * b) / np.sqrt(a * (1 - a) * b * (1 - b))
        name = f"{ambiguity.EMOTIONS[i]}, {ambiguity.EMOTIONS[j]}: phi"
        rows.append(Row(name, float(real), SEGMENTS, float(phi), 0.04))
    for k in range(4):
        share = float((y.sum(1) == k).mean())
        rows.append(Row(f"samples with {k} emotions", ambiguity.CARDINALITY[k], SEGMENTS, share, 0.02))
    return rows + _sequences(world, correlated=True)


def _environments(world: World) -> list[Row]:
    train, test = world.data.split("train"), world.data.split("test_e2", SELECTION)
    error = float(np.mean((world.oracle(test) - test.target.numpy()) ** 2))
    target = world.truth.bayes_error
    sd = float(train.target.std())
    return [
        Row("sentiment: standard deviation", 1.112, SEGMENTS, sd, 0.15),
        Row("squared error of E[Y | c]", target, "tau^2 / (1 + tau^2) and the like", error, 0.03),
    ]


def _lexicon(world: World) -> list[Row]:
    train, ood = world.data.split("train"), world.data.split("test_ood", SELECTION)
    y, c = train.target.numpy(), world.data.task.outputs
    shares = np.array(lexicon.COUNTS[c]["train"])
    rows = [
        Row(f"{name}: share", shares[i] / shares.sum(), "published split, MOSEI", float((y == i).mean()), 0.005)
        for i, name in enumerate(world.data.task.names)
    ]

    def distance(batch: Batch) -> float:
        x, t = pooled(batch, "text"), batch.target.numpy()
        return float(np.linalg.norm(x[t == c - 1].mean(0) - x[t == 0].mean(0)))

    ratio = distance(ood) / distance(train)
    rows.append(Row("text distance negative-positive, OOD / train", 0.574, "published re-split, MOSEI", ratio, 0.25))
    return rows + _sequences(world, correlated=False)


def _recovery(world: World) -> list[Row]:
    y = world.data.split("train").target.numpy()
    return [
        Row("sentiment: mean", 0.152, SEGMENTS, float(y.mean()), 0.06),
        Row("sentiment: standard deviation", 1.112, SEGMENTS, float(y.std()), 0.05),
        *_sequences(world, correlated=True),
    ]


TABLES: dict[str, Callable[[World], list[Row]]] = {
    "imbalance": _imbalance,
    "environments": _environments,
    "ambiguity": _ambiguity,
    "lexicon": _lexicon,
    "recovery": _recovery,
}


def calibration(world: World) -> list[Row]:
    """Return the world's statistics beside those of real data. Targets are for the headline settings."""
    return TABLES[world.name](world)
