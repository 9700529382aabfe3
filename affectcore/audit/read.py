"""Read a file of predictions, check every rule of the format, and say in one line what breaks one.

One row per model, seed and item. Columns (the appendix page *Audit* shows examples):

* `id` names the item; `model`, `seed` and `group` (video, speaker) are optional;
* regression: `target`, `prediction`, both numbers;
* one class per item: `target`, and `prediction`, or `score_<class>` for every class, or both;
* label sets: `target_<label>` (0 or 1), and `prediction_<label>` (0 or 1), or `score_<label>`, or both.

Scores are probabilities; those of one class per item sum to 1. Rows are counted with the header as row 1.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.errors import ConfigError, DataError
from affectcore.evaluation.metrics import KINDS, decide

Kind = Literal["regression", "single_label", "multi_label"]
Floats = NDArray[np.float64]
SUM_TOLERANCE = 1e-3
OPTIONAL = ("group", "seed", "model")
ASKED = "as asked for"


@dataclass(frozen=True)
class Predictions:
    """One model's runs. prediction (S, N) numbers or class numbers, or (S, N, L) of 0 and 1; scores (S, N, C) or none.

    disagree: predictions in the file that are not what the scores decide (arg-max, or 0.5 for label sets).
    """

    name: str
    seeds: tuple[str, ...]
    prediction: Floats
    scores: Floats | None
    disagree: int


@dataclass(frozen=True)
class Submission:
    """What a file holds. Items, models and seeds are in the order of their names, numbers by value.

    target (N,) numbers or class numbers, or (N, L) of 0 and 1. group (N,) numbers of groups, or none.
    """

    file: str
    rows: int
    task: Kind
    why: str
    classes: tuple[str, ...]
    target: Floats
    group: NDArray[np.int64] | None
    models: tuple[Predictions, ...]
    named_models: bool
    named_seeds: bool

    @property
    def items(self) -> int:
        return len(self.target)

    @property
    def groups(self) -> int | None:
        return None if self.group is None else int(self.group.max()) + 1


class _Table:
    """The file's columns as text, with the words for an error in one of them."""

    def __init__(self, path: Path, columns: dict[str, list[str]], rows: Sequence[int]) -> None:
        self.file, self.columns, self.rows = path.name, columns, rows

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> list[str]:
        return self.columns[name]

    def starting(self, prefix: str) -> list[str]:
        return [c for c in self.columns if c.startswith(prefix)]

    def error(self, column: str, at: int, rule: str) -> DataError:
        value = self.columns[column][at]
        shown = value if len(value) <= 40 else value[:37] + "..."
        return DataError(f"{self.file}, row {self.rows[at]}, column {column!r}: {shown!r} {rule}")

    def numbers(self, column: str) -> Floats:
        """Return the column as finite numbers."""
        text = self.columns[column]
        try:
            if any("_" in v for v in text):
                raise ValueError("Python reads 1_000 as a number, nobody else does")
            out = np.array([float(v) for v in text])
        except ValueError:
            at = next(i for i, v in enumerate(text) if not _is_number(v))
            rule = "is no number" if text[at].strip() else "is empty, a number is needed"
            raise self.error(column, at, rule) from None
        bad = np.flatnonzero(~np.isfinite(out))
        if len(bad):
            raise self.error(column, int(bad[0]), "is not finite")
        return out

    def binary(self, column: str) -> Floats:
        """Return the column as 0 and 1."""
        out = self.numbers(column)
        bad = np.flatnonzero((out != 0) & (out != 1))
        if len(bad):
            raise self.error(column, int(bad[0]), "must be 0 or 1")
        return out

    def shares(self, column: str) -> Floats:
        """Return the column as probabilities."""
        out = self.numbers(column)
        bad = np.flatnonzero((out < 0) | (out > 1))
        if len(bad):
            raise self.error(column, int(bad[0]), "must lie in [0, 1]: a logit needs a softmax or sigmoid first")
        return out

    def names(self, column: str) -> list[str]:
        """Return the column as names, whole numbers written one way ("1.0" is "1")."""
        text = self.columns[column]
        short = {v: _class_name(v) for v in set(text)}
        for v, name in short.items():
            if not name:
                raise self.error(column, text.index(v), "is empty, a name is needed")
            if name.lower() in ("nan", "inf", "-inf"):
                raise self.error(column, text.index(v), "is not finite")
        return [short[v] for v in text]


def read(path: Path | str, task: str = "auto", *, low: float | None = None, high: float | None = None) -> Submission:
    """Return the checked predictions of a .csv or .parquet file.

    `task` is one of regression, single_label, multi_label, or auto (see `guess`). low and high bound the targets of a
    regression. Raises DataError naming file, row, column, value and rule; ConfigError for an unknown task or bounds.
    """
    if task not in (*KINDS, "auto"):
        raise ConfigError(f"task {task!r} is unknown, use auto, {', '.join(KINDS)}")
    if low is not None and high is not None and not low < high:
        raise ConfigError(f"--low must be below --high, got {low:g} and {high:g}")
    table = _load(Path(path))
    if "id" not in table:
        raise DataError(f"{table.file}: the column 'id' is missing, there are {_list(table.columns)}")
    kind, why = guess(table) if task == "auto" else (_kind(task), ASKED)
    if kind != "regression" and (low is not None or high is not None):
        raise ConfigError(f"--low and --high bound the targets of a regression, {table.file} holds {kind}")
    _check_columns(table, kind)
    place, seeds_of, ids = _runs(table)
    if kind == "multi_label":
        classes, target, prediction, scores = _multi(table)
    elif kind == "single_label":
        classes, target, prediction, scores = _single(table)
    else:
        classes, scores = (), None
        target, prediction = table.numbers("target"), table.numbers("prediction")
        _in_bounds(table, target, low, high)
    _one_per_item(table, place, ids, "target" if kind != "multi_label" else None, target)
    group = None
    if "group" in table:
        codes = np.unique(np.array(table.names("group")), return_inverse=True)[1]
        _one_per_item(table, place, ids, "group", codes)
        group = codes[place[0]].astype(np.int64)
    targets = target[place[0]]
    _varies(table, kind, classes, targets)
    models, start = [], 0
    for name, seeds in seeds_of.items():
        at = place[start : start + len(seeds)]
        start += len(seeds)
        models.append(_predictions(kind, name, seeds, at, prediction, scores))
    named = "model" in table, "seed" in table
    return Submission(table.file, len(table.rows), kind, why, classes, targets, group, tuple(models), *named)


def guess(table: _Table) -> tuple[Kind, str]:
    """Return the task that the columns speak of, and why.

    Columns target_<label>: label sets. Columns score_<class>, or a target that is no number: one class per item. A
    target or prediction that is negative or no whole number: regression. Whole numbers from 0 on: one class per item.
    """
    if table.starting("target_"):
        return "multi_label", "there are columns target_<label>"
    if table.starting("score_"):
        return "single_label", "there are columns score_<class> and one target"
    for name in ("target", "prediction"):
        if name not in table:
            raise DataError(f"{table.file}: the column {name!r} is missing, there are {_list(table.columns)}")
    for name in ("target", "prediction"):
        values = {v for v in set(table[name]) if v.strip()}
        words = [v for v in values if not _is_number(v)]
        if len(words) > len(values) / 2:
            return "single_label", f"the {name} holds words"
    numbers = [float(v) for name in ("target", "prediction") for v in set(table[name]) if _is_number(v)]
    if any(v < 0 or v != np.floor(v) for v in numbers if np.isfinite(v)):
        return "regression", "target or prediction holds numbers that are negative or not whole"
    return "single_label", "target and prediction hold whole numbers from 0 on; --task regression says otherwise"


# --- the file ------------------------------------------------------------------------------------------------------


def _load(path: Path) -> _Table:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(
            f"{path.name}: the format {path.suffix or 'without a suffix'!r} is unknown, use .csv or .parquet"
        )
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        table = _load_csv(path) if path.suffix.lower() == ".csv" else _load_parquet(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not table.rows:
        raise DataError(f"{table.file}: is empty, a header and at least one row are needed")
    return table


def _load_csv(path: Path) -> _Table:
    rows, numbers = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            for count, row in enumerate(lines, start=2):
                if not row:
                    continue  # a blank line holds nothing
                if len(row) != len(header):
                    raise DataError(f"{path.name}, row {count}: {len(row)} fields, the header has {len(header)}")
                rows.append(row)
                numbers.append(count)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: is not UTF-8 text (byte {error.start}), save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path.name}, row {len(rows) + 2}: broken CSV ({error})") from None
    names = [name.strip() for name in header]
    if len(names) == 1 and any(sep in names[0] for sep in ";\t|"):
        raise DataError(f"{path.name}: the header {names[0][:60]!r} has no comma, columns are separated by commas")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{path.name}: the column {twice[0]!r} is given twice")
    columns = dict(zip(names, map(list, zip(*rows)))) if rows else {name: [] for name in names}
    return _Table(path, columns, numbers)


def _load_parquet(path: Path) -> _Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path.name}: is no Parquet file ({' '.join(str(error).split())[:100]})") from None
    columns = {}
    for name in table.column_names:
        if name.startswith("__index_level_"):  # the row numbers that pandas writes along
            continue
        values = table.column(name).to_pylist()
        columns[name] = ["" if v is None else str(int(v)) if isinstance(v, bool) else str(v) for v in values]
    return _Table(path, columns, range(2, table.num_rows + 2))


def _check_columns(table: _Table, kind: Kind) -> None:
    if kind == "regression":
        known, needed = {"target", "prediction"}, ["target", "prediction"]
    elif kind == "single_label":
        known = {"target", "prediction", *table.starting("score_")}
        needed = ["target"] if table.starting("score_") else ["target", "prediction"]
    else:
        targets = [c.removeprefix("target_") for c in table.starting("target_")]
        if not targets:
            raise DataError(f"{table.file}: columns target_<label> are missing, there are {_list(table.columns)}")
        known = {f"{p}_{c}" for p in ("target", "prediction", "score") for c in targets}
        given = [p for p in ("prediction_", "score_") if table.starting(p)] or ["prediction_"]
        needed = [f"{p}{c}" for p in given for c in targets]
    for name in needed:
        if name not in table:
            raise DataError(
                f"{table.file}: the column {name!r} is missing for {kind}, there are {_list(table.columns)}"
            )
    for name in table.columns:
        if name not in known | {"id", *OPTIONAL}:
            rule = "names a label without a target_ column" if kind == "multi_label" and "_" in name else "is unknown"
            raise DataError(
                f"{table.file}: the column {name!r} {rule} for {kind}, known are id, "
                f"{', '.join(sorted(known))}, group, seed, model: rename or drop it"
            )


# --- runs and items ------------------------------------------------------------------------------------------------


def _runs(table: _Table) -> tuple[NDArray[np.int64], dict[str, tuple[str, ...]], list[str]]:
    """Return the table row of (run, item), the seeds of every model, and the item ids.

    Runs are sorted by model and seed, items by id.
    """
    models = table.names("model") if "model" in table else ["model"] * len(table.rows)
    seeds = table.names("seed") if "seed" in table else ["-"] * len(table.rows)
    for at, value in enumerate(table["id"]):
        if not value.strip():
            raise table.error("id", at, "is empty, a name is needed")
    pairs = list(zip(models, seeds))
    runs = sorted(set(pairs), key=lambda run: (run[0], _number_first(run[1])))
    ids = sorted(set(table["id"]), key=_number_first)
    number, run_number = {v: i for i, v in enumerate(ids)}, {v: i for i, v in enumerate(runs)}
    item = np.array([number[v] for v in table["id"]])
    run = np.array([run_number[p] for p in pairs])
    place = np.full((len(runs), len(ids)), -1, dtype=np.int64)
    cell = run * len(ids) + item
    first, counts = np.unique(cell, return_index=True, return_counts=True)[1:]
    if (counts > 1).any():
        again = np.flatnonzero(cell == cell[first[counts > 1].min()])
        where = f"is given twice{_of_run(table, *pairs[again[0]])}, first in row {table.rows[again[0]]}"
        missing = [c for c in ("seed", "model") if c not in table]
        if missing:
            where += f": runs of several {missing[0]}s need a column {missing[0]!r}"
        raise table.error("id", int(again[1]), where)
    place.ravel()[cell] = np.arange(len(cell))
    if (place < 0).any():
        r, n = (int(v) for v in np.argwhere(place < 0)[0])
        other = int(place[:, n].max())
        raise table.error(
            "id", other, f"is absent{_of_run(table, *runs[r])}: all models and seeds need the same items"
        )  # fmt: skip
    of: dict[str, list[str]] = {}
    for model, seed in runs:
        of.setdefault(model, []).append(seed)
    return place, {m: tuple(s) for m, s in of.items()}, ids


def _of_run(table: _Table, model: str, seed: str) -> str:
    parts = [f"{c} {v!r}" for c, v in (("model", model), ("seed", seed)) if c in table]
    return f" for {', '.join(parts)}" if parts else ""


def _one_per_item(
    table: _Table, place: NDArray[np.int64], ids: list[str], column: str | None, values: NDArray[np.generic]
) -> None:
    """Raise DataError where an item's target or group differs between runs."""
    differs = values[place] != values[place[0]]
    if not differs.any():
        return
    where = np.argwhere(differs)[0]
    name = column or table.starting("target_")[int(where[2])]
    here, there = int(place[where[0], where[1]]), int(place[0, where[1]])
    what = f"is {table[name][there]!r} in row {table.rows[there]} for the same id {ids[where[1]]!r}"
    raise table.error(name, here, what)


# --- targets, predictions, scores ----------------------------------------------------------------------------------


def _single(table: _Table) -> tuple[tuple[str, ...], Floats, Floats | None, Floats | None]:
    score_columns = {_class_name(c.removeprefix("score_")): c for c in table.starting("score_")}
    target = table.names("target")
    predicted = table.names("prediction") if "prediction" in table else None
    classes = tuple(sorted(score_columns or set(target), key=_number_first))
    code = {name: i for i, name in enumerate(classes)}
    for column, values in (("target", target), ("prediction", predicted)):
        for at, value in enumerate(values or ()):
            if value not in code:
                rule = f"is an unknown label, known are {_list(classes)}"
                if not score_columns:
                    rule += " (the targets); a class that no item has is declared by columns score_<class>"
                raise table.error(column, at, rule)
    y = np.array([code[v] for v in target], dtype=np.float64)
    p = None if predicted is None else np.array([code[v] for v in predicted], dtype=np.float64)
    if not score_columns:
        return classes, y, p, None
    scores = np.stack([table.shares(score_columns[c]) for c in classes], axis=1)
    total = scores.sum(1)
    off = np.flatnonzero(np.abs(total - 1) > SUM_TOLERANCE)
    if len(off):
        rule = f"is part of scores that sum to {total[off[0]]:.4g}, they must sum to 1"
        raise table.error(score_columns[classes[0]], int(off[0]), rule)
    return classes, y, p, scores


def _multi(table: _Table) -> tuple[tuple[str, ...], Floats, Floats | None, Floats | None]:
    names = tuple(c.removeprefix("target_") for c in table.starting("target_"))
    target = np.stack([table.binary(f"target_{c}") for c in names], axis=1)
    prediction = scores = None
    if table.starting("prediction_"):
        prediction = np.stack([table.binary(f"prediction_{c}") for c in names], axis=1)
    if table.starting("score_"):
        scores = np.stack([table.shares(f"score_{c}") for c in names], axis=1)
    return names, target, prediction, scores


def _predictions(
    kind: Kind,
    name: str,
    seeds: tuple[str, ...],
    at: NDArray[np.int64],
    prediction: Floats | None,
    scores: Floats | None,
) -> Predictions:
    s = None if scores is None else scores[at]
    decided = None if s is None else np.stack([decide(kind, run) for run in s]).astype(np.float64)
    p = decided if prediction is None else prediction[at]
    if p is None:
        raise DataError("neither predictions nor scores")  # _check_columns has made sure of one
    differ = np.zeros(1, bool) if decided is None else p != decided
    if s is not None and np.isin(s, (0.0, 1.0)).all():
        s = None  # decisions written as scores: nothing to calibrate
    return Predictions(name, seeds, p, s, int((differ.any(-1) if kind == "multi_label" else differ).sum()))


def _in_bounds(table: _Table, target: Floats, low: float | None, high: float | None) -> None:
    for bound, sign, word in ((low, -1, "low"), (high, 1, "high")):
        if bound is None:
            continue
        out = np.flatnonzero(sign * (target - bound) > 0)
        if len(out):
            raise table.error("target", int(out[0]), f"lies outside --{word} {bound:g}")


def _varies(table: _Table, kind: Kind, classes: tuple[str, ...], target: Floats) -> None:
    if kind == "multi_label":
        if not ((target.min(0) == 0) & (target.max(0) == 1)).any():
            raise DataError(f"{table.file}: every target column holds one value only, so no metric tells models apart")
    elif np.ptp(target) == 0:
        value = classes[int(target[0])] if classes else f"{target[0]:g}"
        raise DataError(f"{table.file}, column 'target': every item is {value!r}, at least two values are needed")


def _kind(task: str) -> Kind:
    return "regression" if task == "regression" else "single_label" if task == "single_label" else "multi_label"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _class_name(text: str) -> str:
    name = text.strip()
    if _is_number(name) and np.isfinite(float(name)) and float(name) == int(float(name)):
        return str(int(float(name)))
    return name


def _number_first(name: str) -> tuple[bool, float, str]:
    """Sort key: numbers by value, then words."""
    return (False, float(name), name) if _is_number(name) else (True, 0.0, name)


def _list(names: Sequence[str] | dict[str, list[str]]) -> str:
    some = list(names)
    return ", ".join(map(repr, some[:12])) + (f" and {len(some) - 12} more" if len(some) > 12 else "")
