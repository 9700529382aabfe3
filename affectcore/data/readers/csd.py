"""Computational sequences (.csd) of the CMU-MultimodalSDK: HDF5 files of one modality, aligned to words by time.

Layout: one root group (its name is the sequence's) with `data/VIDEO/features` (K, D) and `data/VIDEO/intervals` (K, 2)
in seconds, and `metadata`, which is not needed. A data set is made of three kinds: words (text vectors with the time of
each word), other sequences, and labels with the time of each segment.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from affectcore.data.folds import grouped, strata
from affectcore.data.readers.bundles import EMOTIONS, choice, sentiment_target
from affectcore.data.readers.problems import Problem
from affectcore.data.schema import AffectData, Task
from affectcore.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Weights = Literal["overlap", "count"]


@dataclass(frozen=True)
class Sequence:
    """One video's rows: intervals (K, 2) in seconds, features (K, D)."""

    intervals: Floats
    features: Floats


def problems(path: Path) -> list[Problem]:
    """Return what is wrong with a .csd file; videos are numbered, not named."""
    found: list[Problem] = []
    _read(path, found)
    return found


def read(path: str | Path) -> dict[str, Sequence]:
    """Return the sequence of every video in a .csd file. Features may hold NaN or infinities; intervals may not.

    Raises DataError for anything that is not a whole .csd file.
    """
    found: list[Problem] = []
    sequences = _read(Path(path), found)
    if found:
        raise DataError(str(found[0]))
    return sequences


def _read(path: Path, found: list[Problem]) -> dict[str, Sequence]:
    out: dict[str, Sequence] = {}
    try:
        with h5py.File(path, "r") as f:
            roots = [g for g in f.values() if isinstance(g, h5py.Group) and "data" in g]
            if len(roots) != 1 or not isinstance(roots[0]["data"], h5py.Group):
                found.append(
                    Problem(str(path), "the file", "must have one root group with a group 'data'", ", ".join(f))
                )
                return out
            for i, (video, g) in enumerate(roots[0]["data"].items()):
                problem = _video(str(path), i, g, video, out)
                if problem:
                    found.append(problem)
    except (OSError, RuntimeError, KeyError) as e:
        reason = (
            "no such file" if not path.is_file() else "is not a whole HDF5 file, it is truncated or of another format"
        )
        found.append(Problem(str(path), "the file", reason, str(e).splitlines()[0][:120]))
    if not out and not found:
        found.append(Problem(str(path), "data", "must hold at least one video"))
    return out


def _video(file: str, i: int, g: Any, video: str, out: dict[str, Sequence]) -> Problem | None:
    for key in ("features", "intervals"):
        if not isinstance(g, h5py.Group) or key not in g:
            return Problem(file, f"data/{key}", "is missing for a video", row=i)
    x, t = g["features"][()], np.asarray(g["intervals"][()])
    if x.dtype.kind not in "biuf":
        return Problem(file, "data/features", "must be numbers", str(x.dtype), i, "use the word vectors, not the words")
    x = x.reshape(len(x), -1) if x.ndim else x
    if x.ndim != 2 or t.ndim != 2 or t.shape[1] != 2 or t.dtype.kind not in "biuf":
        return Problem(file, "data", "must be features (K, D) and intervals (K, 2)", f"{x.shape} and {t.shape}", i)
    if len(x) != len(t) or len(x) == 0:
        return Problem(file, "data", "must have as many features as intervals, at least 1", f"{len(x)} and {len(t)}", i)
    if out and x.shape[1] != (known := next(iter(out.values())).features.shape[1]):
        return Problem(file, "data/features", f"must have {known} columns like the videos before", str(x.shape[1]), i)
    if not np.isfinite(t).all() or (t[:, 1] < t[:, 0]).any():
        row = int(np.argmax(~np.isfinite(t).all(1) | (t[:, 1] < t[:, 0])))
        return Problem(file, "data/intervals", "must be finite with start <= end", f"{t[row]} at interval {row}", i)
    out[video] = Sequence(t.astype(np.float64), x.astype(np.float64))
    return None


def align(source: Sequence, reference: Floats, weights: Weights = "overlap") -> tuple[Floats, NDArray[np.bool_]]:
    """Return (M, D) means of the source's rows over M reference intervals, and (M,) which of them any row overlaps.

    "overlap" weights a row by the seconds it shares with the interval, "count" gives each row that shares time the same
    weight. Values that are not finite are left out, column by column: a column without finite value is NaN; an interval
    that no row overlaps is 0. Rows may overlap each other and stand in any order.

    With the rows sorted by start a, those with a < end are a prefix, and those before which every end b <= start drop
    out: what is left is one run of rows per interval, so all weights together are one sparse (M, K) matrix.
    """
    order = np.argsort(source.intervals[:, 0], kind="stable")
    a, b = source.intervals[order].T
    start, end = reference.T
    first = np.searchsorted(np.maximum.accumulate(b), start, "right")
    count = np.maximum(np.searchsorted(a, end, "left") - first, 0)
    pointer = np.r_[0, np.cumsum(count)]
    row = np.arange(pointer[-1]) + np.repeat(first - pointer[:-1], count)
    shared = np.minimum(b[row], np.repeat(end, count)) - np.maximum(a[row], np.repeat(start, count))
    weight = np.maximum(shared, 0) if weights == "overlap" else (shared > 0).astype(np.float64)
    matrix = csr_array((weight, row, pointer), shape=(len(reference), len(a)))
    x = source.features[order]
    there = np.isfinite(x)
    total, mass = matrix @ np.where(there, x, 0), matrix @ there.astype(np.float64)
    mean = np.where(mass > 0, total / np.where(mass > 0, mass, 1), np.nan)
    covered = np.asarray(matrix.sum(1)).reshape(-1) > 0
    return np.where(covered[:, None], mean, 0), covered


def load(
    words: str | Path,
    labels: str | Path,
    sequences: Mapping[str, str | Path],
    *,
    target: Literal[
        "sentiment", "sentiment_nonnegative", "sentiment_positive", "sentiment_class7", "emotions", "emotion"
    ] = "sentiment",
    splits: Mapping[str, Items[str]] | None = None,
    weights: Weights = "overlap",
    max_words: int = 50,
    nonfinite: Literal["error", "skip"] = "error",
    name: str = "csd",
) -> AffectData:
    """Return segments as word sequences: text from `words`, each of `sequences` (modality -> file) averaged per word.

    labels: (K, 1) sentiment or (K, 7) sentiment and six emotions per segment; "emotions" is multi-label presence
    (intensity > 0), "emotion" the strongest one alone, the first of equals, without the segments that have none. A word
    belongs to the segment that holds its middle. splits: name -> videos (default: grouped fold
    0 of 5). Segments longer than max_words are cut; segments without words and videos that a file lacks are left out;
    a word with no overlapping row of a modality is not observed there. All of it is counted in the notes.
    nonfinite: "skip" leaves NaN and infinite values out of the means. Raises DataError, ConfigError.
    """
    choice(name, "weights", weights, ("overlap", "count"))
    choice(name, "nonfinite", nonfinite, ("error", "skip"))
    files = {"text": Path(words)} | {m: Path(p) for m, p in sequences.items()}
    read_in = {m: read(p) for m, p in files.items()}
    marks = read(labels)
    videos = [v for v in marks if all(v in s for s in read_in.values())]
    if not videos:
        raise DataError(f"{labels}: data must share at least one video with {', '.join(map(str, files.values()))}")
    notes = [f"{len(marks) - len(videos)} of {len(marks)} labelled videos are missing in another file: left out"]
    if nonfinite == "error":
        for m, s in read_in.items():
            for i, v in enumerate(videos):
                if not np.isfinite(s[v].features).all():
                    rule, hint = "must be finite", "use nonfinite='skip' to leave such values out of the means by name"
                    raise DataError(str(Problem(str(files[m]), "data/features", rule, "NaN or infinity", i, hint)))
    rows: dict[str, list[Floats]] = {m: [] for m in files}
    seen: dict[str, list[NDArray[np.bool_]]] = {m: [] for m in files}
    label, video_of, empty, cut, holes = [], [], 0, 0, dict.fromkeys(files, 0)
    for number, v in enumerate(videos):
        spoken = read_in["text"][v]
        order = np.argsort(spoken.intervals[:, 0], kind="stable")
        times = spoken.intervals[order]
        per_word = {m: align(read_in[m][v], times, weights) for m in sequences}
        per_word["text"] = (spoken.features[order], np.ones(len(times), bool))
        middle = times.mean(1)
        for (start, end), y in zip(marks[v].intervals, marks[v].features):
            inside = np.flatnonzero((middle >= start) & (middle < end))
            if len(inside) == 0:
                empty += 1
                continue
            cut += len(inside) > max_words
            inside = inside[:max_words]
            for m, (x, covered) in per_word.items():
                holes[m] += int((~np.isfinite(x[inside])).any(1).sum())
                rows[m].append(np.nan_to_num(x[inside], nan=0.0, posinf=0.0, neginf=0.0))
                seen[m].append(covered[inside])
            label.append(y)
            video_of.append(number)
    if not label:
        raise DataError(f"{labels}: data/intervals must hold the middle of at least one word of {words}")
    notes += [f"{empty} segments without words left out", f"{cut} segments cut after {max_words} words"]
    notes += [f"{k} words of {m} with a feature that was never finite: set to 0" for m, k in holes.items() if k]
    y, group = np.array(label), np.array(video_of, np.int64)
    length = np.array([len(r) for r in rows["text"]])
    features, observed = {}, {}
    for m in files:
        features[m] = np.zeros((len(y), length.max(), rows[m][0].shape[1]), np.float32)
        observed[m] = np.zeros((len(y), length.max()), bool)
        for row, (values, there) in enumerate(zip(rows[m], seen[m])):
            features[m][row, : len(values)], observed[m][row, : len(values)] = values, there
        notes.append(f"{int(sum((~s).sum() for s in seen[m]))} words without {m}: not observed")
    if target in ("emotions", "emotion") and y.shape[1] != 7:
        raise DataError(f"{labels}: target={target!r} needs 7 label columns, found {y.shape[1]}")
    if target == "emotions":
        task, goal = Task("multi_label", EMOTIONS), (y[:, 1:] > 0).astype(np.float32)
    elif target == "emotion":
        task, goal = Task("single_label", EMOTIONS), y[:, 1:].argmax(1)
        felt = y[:, 1:].max(1) > 0
        if not felt.any():
            raise DataError(f"{labels}: data/features must hold at least one emotion above 0 for target='emotion'")
        tied = int(((y[felt, 1:] == y[felt, 1:].max(1, keepdims=True)).sum(1) > 1).sum())
        notes += [f"{int((~felt).sum())} segments without emotion left out", f"{tied} ties go to the first emotion"]
        goal, group, length = goal[felt], group[felt], length[felt]
        features, observed = ({m: x[felt] for m, x in d.items()} for d in (features, observed))
    else:
        task, goal = sentiment_target(name, target, y[:, 0])
    if splits is None:
        parts = grouped(strata(task, goal), group, 0, 5, 0, 0.15)
        notes.append("no splits given: train/valid/test are fold 0 of 5 by video")
    else:
        code = {v: i for i, v in enumerate(videos)}
        parts = {k: np.flatnonzero(np.isin(group, [code[v] for v in vs if v in code])) for k, vs in splits.items()}
        for k, part in parts.items():
            if len(part) == 0:
                raise ConfigError(f"{name}: split {k!r} holds no segment")
    return AffectData(
        name, task, features, goal, parts, lengths=dict.fromkeys(features, length), observed=observed, group=group,
        notes=[n for n in notes if not n.startswith("0 ")],
    )  # fmt: skip


NAMES = {"text": ("wordvectors", "words", "text"), "labels": ("labels",), "audio": ("covarep", "opensmile", "audio"),
         "vision": ("facet", "openface", "vision", "video")}  # what a file's name says it holds  # fmt: skip


def folder(path: str | Path, **options: Any) -> AffectData:
    """Return `load` of the .csd files in a folder, told apart by their names, as the CMU-MultimodalSDK names them
    (..._TimestampedWordVectors.csd, ..._COVAREP.csd, ..._VisualFacet42.csd, ..._Labels.csd) or plainly (words.csd,
    labels.csd, audio.csd, vision.csd). Needs words, labels and at least one more; options are those of `load`.

    Raises DataError if a file's name says nothing, two say the same, or one that is needed is absent.
    """
    found: dict[str, Path] = {}
    for file in sorted(Path(path).glob("*.csd")):
        what = [k for k, words in NAMES.items() if any(w in file.stem.lower() for w in words)]
        if len(what) != 1:
            known = ", ".join(w for words in NAMES.values() for w in words)
            raise DataError(
                f"{file}: a .csd file's name must hold one of {known}; it says {' and '.join(what) or 'none'}"
            )
        if what[0] in found:
            raise DataError(f"{file}: {found[what[0]].name} is {what[0]} as well; a folder holds one file of each kind")
        found[what[0]] = file
    missing = [k for k in ("text", "labels") if k not in found]
    if missing or len(found) < 3:
        absent = " and ".join(missing) or "any modality beside text"
        raise DataError(f"{path}: a folder of .csd files needs words, labels and one more, {absent} is missing")
    rest: dict[str, str | Path] = {m: found[m] for m in ("audio", "vision") if m in found}
    return load(found["text"], found["labels"], rest, **{"name": Path(path).name} | options)
