"""MMSA-format pickles: aligned and unaligned MOSI, MOSEI and SIMS, CIDer's shifted splits, cross-corpus files.

A dict of splits train, valid, test; each a dict of audio (N, T, D), vision (N, T, D), regression_labels (N,), id (N,)
and text (N, T, D) frozen BERT vectors, text_bert (N, 3, T) token ids, attention mask and segment ids, or both;
unaligned files add audio_lengths and vision_lengths, SIMS adds labels per modality, some add classification_labels.
Read by the restricted unpickler.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.data.readers import unpickle
from affectcore.data.readers.bundles import SEVEN, choice, codes, sentiment_target
from affectcore.data.readers.problems import Problem
from affectcore.data.schema import AffectData, Task
from affectcore.errors import DataError

Array = NDArray[Any]
SPLITS = ("train", "valid", "test")
UNIMODAL = {"T": "text", "A": "audio", "V": "vision"}
_CLASSES = {2: ("negative", "positive"), 3: ("negative", "neutral", "positive"), 7: SEVEN}
_ZERO = "use zero_length='drop' or 'one_step' to go on by name"
_INF = "use nonfinite='zero' to set such values to 0 by name, as the published loaders do for audio"


def _text_mask(part: dict[str, Any]) -> Array:
    """(N,) number of tokens by the attention mask, or by the last step that is not all zero where there is none."""
    if "text_bert" in part:
        return np.asarray(np.asarray(part["text_bert"])[:, 1].sum(1)).astype(np.int64)
    x = np.asarray(part["text"])
    used = (x != 0).any(2)
    return np.where(used.any(1), x.shape[1] - used[:, ::-1].argmax(1), 0)


def _steps(part: dict[str, Any]) -> int:
    return int(np.shape(part["text_bert"])[2] if "text_bert" in part else np.shape(part["text"])[1])


def _length(part: dict[str, Any], modality: str) -> Array:
    """(N,) existing steps. Aligned files carry no lengths of audio and vision: the text's are theirs."""
    if modality != "text" and f"{modality}_lengths" in part:
        return np.asarray(part[f"{modality}_lengths"]).astype(np.int64).reshape(-1)
    return _text_mask(part)


def problems(
    raw: object, file: str, *, nonfinite: str = "error", zero_length: str = "error", scale: float | None = None
) -> Iterator[Problem]:
    """Yield what is wrong with the content of an MMSA pickle, the gravest first in each split."""
    if not isinstance(raw, dict) or not {"train", "valid", "test"} <= set(raw):
        found = f"a {type(raw).__name__}" + (f" of {', '.join(map(str, raw))}"[:80] if isinstance(raw, dict) else "")
        yield Problem(file, "the file", "must be a dict of train, valid and test", found)
        return
    shapes: dict[str, tuple[int, ...]] = {}
    ids: list[str] = []
    for split in SPLITS:
        part = raw[split]
        if not isinstance(part, dict):
            yield Problem(file, split, "must be a dict", type(part).__name__)
            continue
        broken = list(_split_problems(part, split, file, shapes, scale))
        yield from broken
        if broken:
            continue
        ids += map(str, part["id"])
        for m in ("text", "audio", "vision"):
            if m not in part:
                continue
            rows = np.flatnonzero(_length(part, m) < 1)
            if len(rows) and zero_length == "error":
                rule, found = "must have a length of at least 1", f"0 (and {len(rows) - 1} more)"
                yield Problem(file, f"{split}/{m}", rule, found, int(rows[0]), _ZERO)
            bad = ~np.isfinite(np.asarray(part[m], np.float32))
            if bad.any() and nonfinite == "error":
                row, step, column = np.argwhere(bad)[0]
                found = (
                    f"{np.asarray(part[m])[row, step, column]} at step {step}, feature {column} ({bad.sum()} in all)"
                )
                yield Problem(file, f"{split}/{m}", "must be finite", found, int(row), _INF)
    seen: set[str] = set()
    for i in ids:
        if i in seen:  # an id is never shown: its row is enough
            yield Problem(file, "id", "must be unique over all splits", "a repeated one", ids.index(i))
            return
        seen.add(i)


def _split_problems(
    part: dict[str, Any], split: str, file: str, shapes: dict[str, tuple[int, ...]], scale: float | None
) -> Iterator[Problem]:
    def problem(key: str, rule: str, found: object = "", row: int | None = None) -> Problem:
        return Problem(file, f"{split}/{key}", rule, str(found), row)

    needed = ["audio", "vision", "regression_labels", "id"]
    missing = [k for k in needed if k not in part]
    if "text" not in part and "text_bert" not in part:
        missing.insert(0, "text or text_bert")
    if missing:
        have = ", ".join(map(str, part))[:200]
        yield problem(missing[0], "is missing", f"only {have}")
        return
    labels = _numbers(part["regression_labels"])
    if labels is None or labels.ndim != 1 or len(labels) == 0:
        yield problem(
            "regression_labels", "must be numbers of shape (N,), N at least 1", _shape(part["regression_labels"])
        )
        return
    n, most = len(labels), scale or (1.0 if "regression_labels_T" in part else 3.0)
    outside = np.flatnonzero(~(np.abs(labels) <= most))
    if len(outside):
        row = int(outside[0])
        yield problem("regression_labels", f"must lie in -{most:g}..{most:g}", labels[row], row)
    if len(part["id"]) != n:
        yield problem("id", f"must have {n} rows like regression_labels", len(part["id"]))
        return
    for key, ndim in {"text": 3, "text_bert": 3, "audio": 3, "vision": 3}.items():
        if key not in part:
            continue
        x = _numbers(part[key])
        if x is None or x.ndim != ndim or len(x) != n or 0 in x.shape:
            yield problem(key, f"must be numbers of shape ({n}, steps, features)", _shape(part[key]))
            return
        if key == "text_bert" and x.shape[1] != 3:
            yield problem(key, f"must have shape ({n}, 3, steps): ids, attention mask, segments", x.shape)
            return
        if key == "text_bert" and not np.isin(x[:, 1], (0, 1)).all():
            row = int(np.argwhere(~np.isin(x[:, 1], (0, 1)))[0, 0])
            yield problem(key, "must have an attention mask of 0 and 1 in its second row", "another value", row)
            return
        if shapes.setdefault(key, x.shape[1:]) != x.shape[1:]:
            yield problem(key, f"must have the shape (N, {shapes[key]}) of the splits before", x.shape)
            return
    if "text" in part and "text_bert" in part and np.shape(part["text"])[1] != np.shape(part["text_bert"])[2]:
        yield problem("text", "must have as many steps as text_bert", _shape(part["text"]))
    for m in ("audio", "vision"):
        steps = np.shape(part[m])[1]
        if f"{m}_lengths" in part:
            k = _numbers(part[f"{m}_lengths"])
            if k is None or k.size != n:
                yield problem(f"{m}_lengths", f"must be {n} whole numbers", _shape(part[f"{m}_lengths"]))
                return
            wrong = np.flatnonzero((k.reshape(-1) < 0) | (k.reshape(-1) > steps) | (k.reshape(-1) % 1 != 0))
            if len(wrong):
                row = int(wrong[0])
                yield problem(f"{m}_lengths", f"must be whole numbers in 0..{steps}", k.reshape(-1)[row], row)
        elif steps != _steps(part):
            rule = f"is missing, and {m} is not aligned with the text ({steps} steps against {_steps(part)})"
            yield problem(f"{m}_lengths", rule)
    if "classification_labels" in part:
        c = _numbers(part["classification_labels"])
        wrong = (
            np.flatnonzero((c < 0) | (c > 6) | (c % 1 != 0)) if c is not None and c.shape == (n,) else np.array([-1])
        )
        if len(wrong):
            row, known = int(wrong[0]), c is not None and c.shape == (n,)
            found = c[row] if known and c is not None else _shape(part["classification_labels"])
            yield problem("classification_labels", "must be class numbers 0..6", found, row if known else None)


def _numbers(x: object) -> Array | None:
    try:
        a = np.asarray(x)
        return a if a.dtype.kind in "biuf" else a.astype(np.float64) if a.dtype.kind == "O" else None
    except (ValueError, TypeError):
        return None


def _shape(x: object) -> str:
    return f"shape {x.shape}, {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"


def load(
    path: str | Path,
    *,
    target: Literal[
        "sentiment",
        "sentiment_nonnegative",
        "sentiment_positive",
        "sentiment_class3",
        "sentiment_class7",
        "file_classes",
    ] = "sentiment",
    text: Literal["auto", "vectors", "tokens"] = "auto",
    nonfinite: Literal["error", "zero"] = "error",
    zero_length: Literal["error", "drop", "one_step"] = "error",
    scale: float | None = None,
    name: str | None = None,
) -> AffectData:
    """Return an MMSA-format file: text, audio, vision as sequences, official splits, videos as groups.

    target: the sentiment score or a class made of it by a named rule (`bundles.sentiment_target`); "file_classes" takes
    the file's own classification_labels. text: "vectors" (T, 768) frozen; "tokens" (T, 3): ids, attention mask,
    segments as floats; "auto": vectors where there are any. Token ids are also in extras["text_bert"] (N, 3, T).
    nonfinite: "zero" sets NaN and infinite values to 0. zero_length: "drop" leaves such samples out, "one_step" keeps
    them with one step that is not observed. scale: labels lie in -scale..scale (default 1 for SIMS, else 3).
    Lengths: text by its attention mask (with [CLS] and [SEP]); audio and vision by the file, or by the text where the
    file is aligned. extras: label_text, label_audio, label_vision where SIMS gives them.
    """
    path = Path(path)
    label = name or path.stem
    choice(label, "text", text, ("auto", "vectors", "tokens"))
    choice(label, "nonfinite", nonfinite, ("error", "zero"))
    choice(label, "zero_length", zero_length, ("error", "drop", "one_step"))
    raw = unpickle.read(path)
    for problem in problems(raw, str(path), nonfinite=nonfinite, zero_length=zero_length, scale=scale):
        raise DataError(str(problem))
    parts: list[dict[str, Any]] = [raw[s] for s in SPLITS]
    first, notes = parts[0], []
    vectors = "text" in first if text == "auto" else text == "vectors"
    if ("text" if vectors else "text_bert") not in first:
        raise DataError(f"{path}: text={text!r} needs the field {'text' if vectors else 'text_bert'}, which is missing")

    def joined(key: str, dtype: type = np.float32) -> Array:
        return np.concatenate([np.asarray(p[key], dtype) for p in parts])

    x = {"text": joined("text") if vectors else joined("text_bert").transpose(0, 2, 1).copy()}
    x |= {m: joined(m) for m in ("audio", "vision")}
    length = {m: np.concatenate([_length(p, m) for p in parts]) for m in x}
    observed = {}
    for m, v in x.items():
        bad = ~np.isfinite(v)
        if bad.any():
            v[bad] = 0
            notes.append(
                f"{int(bad.sum())} values of {m} that were not finite set to 0 ({bad.any((1, 2)).sum()} samples)"
            )
        observed[m] = np.arange(v.shape[1]) < length[m][:, None]
        length[m] = np.maximum(length[m], 1)
    split = np.concatenate([np.full(len(p["regression_labels"]), s) for p, s in zip(parts, SPLITS)])
    score = joined("regression_labels").reshape(-1)
    video = np.array(
        [str(i).split("$_$")[0] if "$_$" in str(i) else str(i).rsplit("_", 1)[0] for p in parts for i in p["id"]]
    )
    extras = {"text_bert": joined("text_bert", np.int64)} if "text_bert" in first else {}
    for key, m in UNIMODAL.items():
        if all(f"regression_labels_{key}" in p for p in parts):
            extras[f"label_{m}"] = joined(f"regression_labels_{key}").reshape(-1)
    most = scale or (1.0 if "regression_labels_T" in first else 3.0)
    if target == "file_classes":
        if "classification_labels" not in first:
            raise DataError(f"{path}: train/classification_labels is missing, which target='file_classes' needs")
        y: Array = joined("classification_labels", np.int64)
        count = next(c for c in _CLASSES if c > y.max())
        task = Task("single_label", _CLASSES[count])
    else:
        task, y = sentiment_target(label, target, score, -most, most)
    keep = np.ones(len(y), bool)
    for m in x:
        empty = ~observed[m].any(1)
        if empty.any():
            keep &= ~empty | (zero_length == "one_step")
            done = "dropped" if zero_length == "drop" else "kept with one step that is not observed"
            notes.append(f"{int(empty.sum())} samples with {m} of length 0 {done}")
    crossing = len(set.intersection(*(set(video[split == s]) for s in ("train", "test"))))
    if crossing:
        notes.append(f"{crossing} videos have clips both in train and in test: the split is not by video")
    rows = np.flatnonzero(keep)
    return AffectData(
        label, task, {m: v[rows] for m, v in x.items()}, y[rows],
        {s: np.flatnonzero(split[rows] == s) for s in SPLITS},
        lengths={m: k[rows] for m, k in length.items()}, observed={m: o[rows] for m, o in observed.items()},
        group=codes(video[rows]), extras={k: v[rows] for k, v in extras.items()}, notes=notes,
    )  # fmt: skip
