"""Bring your own data: a folder with `affectcore.toml` and one table, an npz or a Parquet file.

The form is described in the book (appendix, "Your own data") and written by `write_example`. Everything is checked, and
every problem says file, field, row, value and rule; nothing is repaired.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.data.folds import grouped, strata
from affectcore.data.readers.bundles import arrays, codes
from affectcore.data.readers.problems import Problem
from affectcore.data.schema import AffectData, Task
from affectcore.errors import ConfigError, DataError

Array = NDArray[Any]
FILE = "affectcore.toml"
_TOP = {"name", "table", "description", "licence", "source", "task", "modalities", "fields"}
_TASK = {"kind", "names", "low", "high", "target"}
_MODALITY = {"values", "lengths", "offsets", "observed", "nan", "names"}
_FIELDS = {"id", "group", "split", "environment", "groups_may_cross"}
_SPLIT_RULE = "must be train, valid, test or a name that begins with test"


class _Stop(Exception):
    """What was found makes the rest unreadable."""


@dataclass
class _Folder:
    """The parsed TOML, the table's columns, and the problems met so far."""

    toml: Path
    spec: dict[str, Any] = field(default_factory=dict)
    table: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    found: list[Problem] = field(default_factory=list)

    def say(self, where: str, rule: str, value: object = "", row: int | None = None, hint: str = "") -> None:
        file = self.table if where in self.columns else str(self.toml)
        self.found.append(Problem(file, where, rule, str(value)[:80], row, hint))

    def column(self, where: str, name: object) -> Any:
        if name not in self.columns:
            have = ", ".join(self.columns)[:200]
            self.say(where, f"must name a field of {Path(self.table).name}", f"{name!r}", hint=f"it has {have}")
            raise _Stop
        return self.columns[str(name)]


def load(path: str | Path, *, name: str | None = None) -> AffectData:
    """Return the data set of a folder (or of its `affectcore.toml`). Raises DataError with the first problem."""
    data, found = _build(Path(path), name)
    if data is None or found:
        raise DataError(str(found[0]))
    return data


def problems(path: Path) -> list[Problem]:
    """Return everything found wrong with a folder in the own format."""
    return _build(path, None)[1]


def _build(path: Path, name: str | None) -> tuple[AffectData | None, list[Problem]]:
    f = _Folder(path / FILE if path.is_dir() else path)
    try:
        _parse(f)
        task, target = _task(f)
        values = {m: _modality(f, m, len(target)) for m in f.spec["modalities"]}
        splits, group, environment, note = _fields(f, task, target)
        if f.found:
            raise _Stop
        return AffectData(
            name or str(f.spec["name"]), task, {m: v[0] for m, v in values.items()}, target, splits,
            lengths={m: v[1] for m, v in values.items()}, observed={m: v[2] for m, v in values.items()},
            group=group, environment=environment, notes=note,
            feature_names={m: tuple(s["names"]) for m, s in f.spec["modalities"].items() if "names" in s},
        ), []  # fmt: skip
    except _Stop:
        return None, f.found
    except DataError as e:
        return None, [*f.found, Problem(str(f.toml), "data", str(e))]


def _parse(f: _Folder) -> None:
    try:
        f.spec = tomllib.loads(f.toml.read_text("utf-8"))
    except OSError:
        f.say("the file", "is missing: a folder in the own format holds it")
        raise _Stop from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        f.say("the file", "must be TOML", str(e))
        raise _Stop from None
    for key in ("name", "table", "task", "modalities"):
        if key not in f.spec:
            f.say(key, "is missing")
    _known(f, "", f.spec, _TOP)
    for key in ("task", "modalities", "fields"):
        if not isinstance(f.spec.get(key, {}), dict):
            f.say(key, "must be a table")
    if f.found:
        raise _Stop
    _known(f, "task.", f.spec["task"], _TASK)
    _known(f, "fields.", f.spec.get("fields", {}), _FIELDS)
    if not f.spec["modalities"]:
        f.say("modalities", "must name at least one")
    for m, s in f.spec["modalities"].items():
        if isinstance(s, dict):
            _known(f, f"modalities.{m}.", s, _MODALITY)
        if not isinstance(s, dict) or "values" not in s:
            f.say(f"modalities.{m}.values", "is missing")
    path = f.toml.parent / str(f.spec["table"])
    f.table = str(path)
    if path.suffix not in (".npz", ".parquet"):
        f.say("table", "must be a .npz or .parquet file", f.spec["table"])
    if f.found:
        raise _Stop
    try:
        f.columns = arrays(path) if path.suffix == ".npz" else _parquet(path)
    except DataError as e:
        f.found.append(Problem(str(path), "the file", str(e).removeprefix(f"{path}: ")))
        raise _Stop from None


def _parquet(path: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"{path}: is not a readable Parquet file ({str(e).splitlines()[0][:120]})") from e
    return {c: _column(table[c].to_pylist()) for c in table.column_names}


def _column(values: list[Any]) -> Any:
    """A Parquet column as an array, or as a list of (T_i, D) arrays where it holds nested lists."""
    filled = next((v for v in values if v), None)
    if isinstance(filled, list) and isinstance(filled[0], list) and None not in values:
        return [np.array(v, np.float32) if v else np.zeros((0, 0), np.float32) for v in values]
    try:
        return np.array(values)
    except ValueError:  # lists of unequal length
        return np.array([None] * len(values), object)


def _known(f: _Folder, prefix: str, found: Mapping[str, Any], allowed: set[str]) -> None:
    for key in set(found) - allowed:
        f.say(prefix + key, "is not a field of this format", hint=f"there are {', '.join(sorted(allowed))}")


def _task(f: _Folder) -> tuple[Task, Array]:
    t = f.spec["task"]
    for key in ("kind", "names", "target"):
        if key not in t:
            f.say(f"task.{key}", "is missing")
            raise _Stop
    try:
        task = Task(t["kind"], tuple(t["names"]), float(t.get("low", -3.0)), float(t.get("high", 3.0)))
    except (ConfigError, TypeError, ValueError) as e:
        f.say("task", str(e))
        raise _Stop from None
    where, y = str(t["target"]), f.column("task.target", t["target"])
    y = np.asarray(y)
    if len(y) == 0:
        f.say(where, "must hold at least one sample")
    elif task.kind == "single_label" and y.dtype.kind in "UO":
        number = {n: i for i, n in enumerate(task.names)}
        unknown = [i for i, v in enumerate(y) if str(v) not in number]
        if unknown:
            f.say(where, f"must be one of {', '.join(task.names)}", repr(str(y[unknown[0]])), unknown[0])
        else:
            y = np.array([number[str(v)] for v in y], np.int64)
    elif y.dtype.kind not in "biuf":
        f.say(where, "must hold numbers" + (" or class names" if task.kind == "single_label" else ""), y.dtype)
    elif y.ndim != 1 + (task.kind == "multi_label") or (y.ndim == 2 and y.shape[1] != task.outputs):
        shape = f"(N, {task.outputs}), one column a name" if task.kind == "multi_label" else "(N,)"
        f.say(where, f"must have shape {shape}", y.shape)
    elif task.kind == "single_label":
        wrong = np.flatnonzero((y % 1 != 0) | (y < 0) | (y >= task.outputs))
        if len(wrong):
            f.say(where, f"must be class numbers 0..{task.outputs - 1}", y[wrong[0]], int(wrong[0]))
        y = y.astype(np.int64)
    elif task.kind == "multi_label":
        wrong = np.flatnonzero(~np.isin(y, (0, 1)).all(1))
        if len(wrong):
            f.say(where, "must be 0 or 1", y[wrong[0]], int(wrong[0]))
    else:
        wrong = np.flatnonzero(~((y >= task.low) & (y <= task.high)))
        if len(wrong):
            f.say(where, f"must be finite in {task.low:g}..{task.high:g}", y[wrong[0]], int(wrong[0]))
    if f.found:
        raise _Stop
    return task, y


def _modality(f: _Folder, m: str, n: int) -> tuple[Array, Array, Array]:
    """Values (N, T, D), lengths (N,) and observed (N, T) of one modality; empty where a problem was found."""
    nothing = np.zeros((n, 1, 1)), np.ones(n, np.int64), np.ones((n, 1), bool)
    s, where = f.spec["modalities"][m], str(f.spec["modalities"][m]["values"])
    if s.get("nan", "error") not in ("error", "missing"):
        f.say(f"modalities.{m}.nan", "must be error or missing", s["nan"])
        return nothing
    try:
        x = f.column(f"modalities.{m}.values", s["values"])
        length = None if "lengths" not in s else np.asarray(f.column(f"modalities.{m}.lengths", s["lengths"]))
        offsets = None if "offsets" not in s else np.asarray(f.column(f"modalities.{m}.offsets", s["offsets"]))
        seen = None if "observed" not in s else np.asarray(f.column(f"modalities.{m}.observed", s["observed"]))
    except _Stop:
        return nothing
    if offsets is not None and isinstance(x, np.ndarray):
        rising = offsets.shape == (n + 1,) and offsets.dtype.kind in "iu" and (np.diff(offsets) >= 0).all()
        if not rising or offsets[0] != 0 or offsets[-1] != len(x):
            f.say(
                str(s["offsets"]), f"must be {n + 1} rising whole numbers from 0 to {len(x)}", f"shape {offsets.shape}"
            )
            return nothing
        x = [x[a:b] for a, b in pairwise(offsets)]
    if isinstance(x, list):
        if len(x) != n:
            f.say(where, f"must have {n} rows like the target", len(x))
            return nothing
        length = np.array([len(v) for v in x])
        width = {v.shape[1] for v in x if len(v)}
        if len(width) > 1:
            f.say(where, "must have the same number of features in every row", sorted(width))
            return nothing
        padded = np.zeros((n, max(int(length.max()), 1), *width), np.float32)
        for i, v in enumerate(x):
            padded[i, : len(v)] = v if len(v) else 0
        x = padded
    if x.dtype.kind not in "biuf" or x.ndim not in (2, 3) or len(x) != n or 0 in x.shape:
        f.say(where, f"must be numbers of shape ({n}, features) or ({n}, steps, features)", f"{x.shape} {x.dtype}")
        return nothing
    x = (x[:, None] if x.ndim == 2 else x).astype(np.float32)
    steps = x.shape[1]
    length = np.full(n, steps) if length is None else length
    if length.shape != (n,) or length.dtype.kind not in "iu":
        f.say(str(s.get("lengths", where)), f"must be {n} whole numbers", f"{length.shape} {length.dtype}")
        return nothing
    bad = np.flatnonzero((length < 1) | (length > steps))
    if len(bad):
        hint = "leave such samples out, or mark one step as not observed" if length[bad[0]] < 1 else ""
        f.say(str(s.get("lengths", where)), f"must lie in 1..{steps}", length[bad[0]], int(bad[0]), hint)
        return nothing
    exists = np.arange(steps) < length[:, None]
    if seen is None:
        seen = exists.copy()
    elif seen.shape not in ((n, steps), (n,)) or seen.dtype.kind not in "biu":
        f.say(
            str(s["observed"]), f"must be true or false of shape ({n}, {steps}) or ({n},)", f"{seen.shape} {seen.dtype}"
        )
        return nothing
    else:
        seen = exists & (seen.astype(bool) if seen.ndim == 2 else seen.astype(bool)[:, None])
    if s.get("nan") == "missing":
        seen &= ~np.isnan(x).all(2)
    broken = np.argwhere(~np.isfinite(x) & seen[..., None])
    if len(broken):
        row, step, column = map(int, broken[0])
        rule = "must be finite where it is observed" + (
            ", a whole step may be NaN" if s.get("nan") == "missing" else ""
        )
        found = f"{x[row, step, column]} at step {step}, feature {column}"
        f.say(where, rule, found, row, "" if "nan" in s else "set nan = 'missing' if NaN means not observed")
    if len(s.get("names", ())) not in (0, x.shape[2]):
        f.say(f"modalities.{m}.names", f"must be {x.shape[2]} names", len(s["names"]))
    return x, length.astype(np.int64), seen


def _fields(
    f: _Folder, task: Task, y: Array
) -> tuple[dict[str, NDArray[np.int64]], Array, Array | None, tuple[str, ...]]:
    given, n = f.spec.get("fields", {}), len(y)
    columns: dict[str, Array] = {}
    for key in ("id", "group", "split", "environment"):
        if key not in given:
            continue
        try:
            c = np.asarray(f.column(f"fields.{key}", given[key]))
        except _Stop:
            continue
        if c.shape != (n,):
            f.say(str(given[key]), f"must have {n} rows like the target", c.shape)
            continue
        absent = np.flatnonzero([v is None or v != v for v in c.tolist()])
        if len(absent):  # as text they would be one more group, "None"
            f.say(str(given[key]), "must be given for every row", "nothing", int(absent[0]))
        columns[key] = c.astype(str)
    if "id" in columns:
        first = np.unique(columns["id"], return_index=True)[1]
        repeated = np.setdiff1d(np.arange(n), first)
        if len(repeated):
            f.say(str(given["id"]), "must be unique", "a repeated id", int(repeated[0]))
    group = codes(columns["group"]) if "group" in columns else np.arange(n)
    environment = codes(columns["environment"]) if "environment" in columns else None
    if f.found:
        raise _Stop
    if "split" not in columns:
        try:
            splits = grouped(strata(task, y), group, 0, 5, 0, 0.15)
        except ConfigError as e:
            f.say("fields.split", f"is missing and cannot be made: {e}")
            raise _Stop from None
        return splits, group, environment, ("no split given: train/valid/test are fold 0 of 5 by group",)
    split = columns["split"]
    bad = [i for i, s in enumerate(split) if s not in ("train", "valid") and not s.startswith("test")]
    if bad:
        f.say(str(given["split"]), _SPLIT_RULE, repr(str(split[bad[0]])), bad[0])
    for s in ("train", "valid", "test"):
        if not any(v.startswith(s) for v in split):
            f.say(str(given["split"]), f"must hold at least one {s} sample")
    if not given.get("groups_may_cross", False):
        for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
            inside, other = (np.char.startswith(split, s) for s in (a, b))
            both = np.intersect1d(group[inside], group[other])
            if len(both):
                row = int(np.flatnonzero(other & np.isin(group, both))[0])
                hint = "split by group, or set fields.groups_may_cross = true to go on by name"
                f.say(str(given["split"]), f"must not cut a group into {a} and {b}", f"{len(both)} that are", row, hint)
    if f.found:
        raise _Stop
    crossing = ("groups may cross the splits, as the file says",) if given.get("groups_may_cross", False) else ()
    return {str(s): np.flatnonzero(split == s) for s in np.unique(split)}, group, environment, crossing


def write_example(folder: str | Path, table: Literal["npz", "parquet"] = "npz") -> Path:
    """Write a small generated data set in the own format into a new folder; return the path of its `affectcore.toml`.

    60 samples of 12 speakers: text as sequences, audio as one vector that is missing for some, a regression target.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    r = np.random.default_rng(0)
    n = 60
    speaker = np.repeat(np.arange(12), 5)
    score = np.clip(r.normal(0, 1.2, n), -3, 3).astype(np.float32)
    length = r.integers(2, 8, n)
    text = [(score[i] + r.normal(size=(length[i], 4))).astype(np.float32) for i in range(n)]
    audio = (score[:, None] * 0.5 + r.normal(size=(n, 3))).astype(np.float32)
    audio[r.random(n) < 0.15] = np.nan
    split = np.where(speaker < 8, "train", np.where(speaker < 10, "valid", "test"))
    names = {"id": np.array([f"s{i:02d}" for i in range(n)]), "speaker": np.array([f"p{s:02d}" for s in speaker])}
    plain = {**names, "split": split, "sentiment": score}
    if table == "npz":
        offsets = np.r_[0, np.cumsum(length)]
        np.savez(folder / "samples.npz", **plain, text=np.concatenate(text), text_offsets=offsets, audio=audio)  # type: ignore[arg-type]
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = {"text": [t.tolist() for t in text], "audio": audio.tolist()}
        pq.write_table(pa.table({k: list(v) for k, v in plain.items()} | lists), folder / "samples.parquet")
    (folder / FILE).write_text(_EXAMPLE.format(table=table, offsets='offsets = "text_offsets"\n' * (table == "npz")))
    return folder / FILE


_EXAMPLE = """\
name = "example"
table = "samples.{table}"
description = "Generated numbers in the form of a small corpus"
licence = "CC0-1.0"

[task]
kind = "regression"
names = ["sentiment"]
low = -3.0
high = 3.0
target = "sentiment"

[modalities.text]
values = "text"
{offsets}
[modalities.audio]
values = "audio"
nan = "missing"

[fields]
id = "id"
group = "speaker"
split = "split"
"""
