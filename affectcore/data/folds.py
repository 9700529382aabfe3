"""Repeated, grouped, stratified K-fold splits: no group (speaker, video, participant) is ever in two parts.

The splitters are scikit-learn's. Stratification needs one class per sample, so a regression target is cut into fifths
and a label set (multi-label) stands for itself if it is frequent, for its rarest label otherwise.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from affectcore import streams
from affectcore.data.schema import AffectData, Task
from affectcore.errors import ConfigError

By = Literal["group", "environment", "sample"]
Ints = NDArray[np.int64]


def strata(task: Task, target: NDArray[np.generic], least: int = 10) -> Ints:
    """Return one class number per sample to stratify by, (N,).

    regression: fifths of the values; single_label: the class; multi_label: the label set where at least `least` samples
    have it, else its rarest label (a set without labels that is rare joins the others that are).
    """
    if task.kind == "single_label":
        return np.asarray(target, np.int64)
    if task.kind == "regression":
        score = np.asarray(target, np.float64)
        edges = np.unique(np.quantile(score, [0.2, 0.4, 0.6, 0.8]))
        return np.searchsorted(edges, score, side="right").astype(np.int64)
    y = np.asarray(target).astype(np.int64)
    sets, code, count = np.unique(y, axis=0, return_inverse=True, return_counts=True)
    prevalence = y.sum(0)
    for s in np.flatnonzero(count < least):
        labels = np.flatnonzero(sets[s])
        rarest = labels[np.argmin(prevalence[labels])] if len(labels) else -1
        code[code == s] = len(sets) + 1 + rarest
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def grouped(
    classes: Ints, groups: Ints, k: int, n_folds: int, seed: int, valid_share: float, stratify: bool = True
) -> dict[str, Ints]:
    """Return the row numbers of train, valid and test of fold `k` in 0..n_folds-1.

    The test part is fold k; `valid_share` of the remaining samples, by group, becomes valid (at least one group).
    `n_folds` equal to the number of groups leaves one group out. Raises ConfigError where there are too few groups.
    """
    count = len(np.unique(groups))
    if not 2 <= n_folds <= count or count < 3 or not 0 <= k < n_folds:
        rule = "must be 0 <= k < n_folds, with 2 <= n_folds <= the number of groups, which must be 3 or more"
        raise ConfigError(f"fold {k} of {n_folds} with {count} groups: {rule}")
    if not 0 < valid_share < 1:
        raise ConfigError(f"valid_share = {valid_share}: must lie between 0 and 1")
    rest, test = _parts(classes, groups, n_folds, streams.key(seed, "folds"), stratify)[k]
    left = len(np.unique(groups[rest]))
    if left < 2:
        raise ConfigError(f"fold {k} of {n_folds} with {count} groups: leaves {left} to train and validate on, needs 2")
    inner = min(max(round(1 / valid_share), 2), left)
    few, some = _parts(classes[rest], groups[rest], inner, streams.key(seed, "folds", "valid", k), stratify)[0]
    return {"train": rest[few], "valid": rest[some], "test": test}


def _parts(classes: Ints, groups: Ints, n: int, seed: int, stratify: bool) -> list[tuple[Ints, Ints]]:
    """Split by group, each group's rows together; `n` parts, none empty and none with nearly all groups."""
    state = seed % 2**32
    count = len(np.unique(groups))
    code, size = np.unique(classes, return_inverse=True, return_counts=True)[1:]
    code[np.isin(code, np.flatnonzero(size < n))] = size.argmax()  # too few for one in each part
    kind = StratifiedGroupKFold if stratify and n < count and size.max() >= n else GroupKFold
    parts = list(kind(n, shuffle=True, random_state=state).split(code, code, groups))
    if any(len(t) == 0 or len(np.unique(groups[a])) < min(2, count - 1) for a, t in parts):
        # stratification may starve a part where groups are few and large; plain grouping counts groups
        parts = list(GroupKFold(n, shuffle=True, random_state=state).split(code, code, groups))
    return [(a.astype(np.int64), t.astype(np.int64)) for a, t in parts]


def fold(
    data: AffectData,
    k: int,
    n_folds: int = 10,
    seed: int = 0,
    *,
    by: By = "group",
    valid_share: float = 0.15,
    stratify: bool = True,
) -> AffectData:
    """Return the data under the splits of fold `k`: every resident sample is in exactly one of train, valid, test.

    by: what may not be in two parts. seed: another seed is another repetition; folds of one seed have disjoint test
    parts that cover everything. Raises ConfigError for too few groups or a missing environment.
    """
    b = data._all
    codes = {"group": b.group, "environment": b.environment, "sample": b.index}
    if by not in codes or codes[by] is None:
        raise ConfigError(f"{data.name}: cannot fold by {by!r}: use group, sample, or environment where there is one")
    classes = strata(data.task, b.target.numpy())
    groups = codes[by].numpy()  # type: ignore[union-attr]
    return data.with_splits(grouped(classes, groups, k, n_folds, seed, valid_share, stratify))


def folds(
    data: AffectData,
    n_folds: int = 10,
    repeats: int = 1,
    seed: int = 0,
    *,
    by: By = "group",
    valid_share: float = 0.15,
    stratify: bool = True,
) -> Iterator[tuple[int, int, AffectData]]:
    """Yield (repetition, fold, data) of repeated K-fold; repetition r uses seed + r."""
    for r in range(repeats):
        for k in range(n_folds):
            yield r, k, fold(data, k, n_folds, seed + r, by=by, valid_share=valid_share, stratify=stratify)
