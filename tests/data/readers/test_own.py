"""The own format: what is read, and one clear line with file, field, row and rule for everything that may be wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affectcore.data.readers import check, load, own
from affectcore.data.schema import Selection
from affectcore.errors import ConfigError, DataError

TEST = Selection("fixed")
HEAD = """
name = "mine"
table = "samples.npz"
[task]
kind = "{kind}"
names = {names}
target = "y"
"""


def write(
    folder: Path,
    columns: dict[str, Any],
    modalities: str,
    kind: str = "regression",
    names: str = '["s"]',
    rest: str = "",
) -> Path:
    np.savez(folder / "samples.npz", **columns)
    (folder / "affectcore.toml").write_text(HEAD.format(kind=kind, names=names) + rest + modalities)
    return folder


def base(n: int = 20) -> dict[str, Any]:
    r = np.random.default_rng(0)
    split = np.array(["train"] * 10 + ["valid"] * 5 + ["test"] * 5)
    return {"y": r.uniform(-3, 3, n), "x": r.normal(size=(n, 4, 3)), "split": split, "who": np.arange(n) // 5}


X = '\n[modalities.text]\nvalues = "x"\n'
FIELDS = '\n[fields]\nsplit = "split"\ngroup = "who"\n'


@pytest.mark.parametrize("table", ["npz", "parquet"])
def test_the_written_example_is_read_and_has_no_problem(tmp_path: Path, table: str) -> None:
    own.write_example(tmp_path / "example", table)  # type: ignore[arg-type]
    assert check(tmp_path / "example") == []
    data = load(tmp_path / "example")
    assert data.splits == {"test": 10, "train": 40, "valid": 10}
    assert data.dims == {"text": 4, "audio": 3}
    assert data.steps == {"text": 7, "audio": 1}
    assert not data._all.observed["audio"].all()
    assert len(data.group.unique()) == 12


def test_both_tables_hold_the_same_data(tmp_path: Path) -> None:
    for table in ("npz", "parquet"):
        own.write_example(tmp_path / table, table)  # type: ignore[arg-type]
    assert load(tmp_path / "npz").fingerprint() == load(tmp_path / "parquet").fingerprint()


def test_values_lengths_masks_and_codes(tmp_path: Path) -> None:
    c = base()
    c |= {"k": np.arange(20) % 4 + 1, "seen": np.random.default_rng(1).random((20, 4)) < 0.7, "site": np.arange(20) % 2}
    c["x"][~c["seen"]] = np.inf  # what is not observed may hold anything
    path = write(tmp_path, c, X + 'lengths = "k"\nobserved = "seen"\n' + FIELDS + 'environment = "site"\n')
    b = load(path).split("train")
    np.testing.assert_array_equal(b.lengths["text"], c["k"][:10])
    mask = c["seen"][:10] & (np.arange(4) < c["k"][:10, None])
    np.testing.assert_array_equal(b.observed["text"], mask)
    np.testing.assert_allclose(b.features["text"].numpy()[mask], c["x"][:10][mask], rtol=1e-6)
    np.testing.assert_array_equal(b.group, c["who"][:10])
    assert b.environment is not None
    np.testing.assert_array_equal(b.environment, c["site"][:10])


@pytest.mark.parametrize(
    ("kind", "names", "y"),
    [
        ("single_label", '["a", "b"]', np.array(["a", "b"] * 10)),
        ("single_label", '["a", "b"]', np.array([0, 1] * 10)),
        ("multi_label", '["a", "b", "c"]', np.arange(60).reshape(20, 3) % 2),
    ],
)
def test_labels_may_be_names_numbers_or_rows(tmp_path: Path, kind: str, names: str, y: np.ndarray) -> None:
    data = load(write(tmp_path, base() | {"y": y}, X + FIELDS, kind, names))
    expected = np.array([0, 1] * 10)[:10] if kind == "single_label" else y[:10]
    np.testing.assert_array_equal(data.split("train").target, expected)


def test_without_a_split_folds_by_group_are_made_and_said(tmp_path: Path) -> None:
    c = base(40) | {"who": np.arange(40) // 4, "split": np.arange(40)}
    data = load(write(tmp_path, c, X + '\n[fields]\ngroup = "who"\n'))
    assert "fold 0 of 5 by group" in data.notes[0]
    groups = [set(data.split(s, TEST).group.tolist()) for s in data.splits]
    assert sum(map(len, groups)) == 10


def test_groups_may_cross_by_name_alone(tmp_path: Path) -> None:
    c = base() | {"who": np.zeros(20)}
    with pytest.raises(DataError, match="must not cut a group into train and valid, found 1 that are"):
        load(write(tmp_path, c, X + FIELDS))
    data = load(write(tmp_path, c, X + FIELDS + "groups_may_cross = true\n"))
    assert data.notes == ("groups may cross the splits, as the file says",)


def _set(key: str, row: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(c: dict[str, Any]) -> None:
        c[key] = c[key].copy() if isinstance(value, float) or c[key].dtype.kind == "U" else c[key].astype(type(value))
        c[key][row] = value

    return change


def _put(**new: Any) -> Callable[[dict[str, Any]], None]:
    return lambda c: c.update(new)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], None], str, str, dict[str, str]]] = {
    "NaN": (_set("x", (3, 1, 2), np.nan), X + FIELDS, "x row 3 must be finite where it is observed, found nan", {}),
    "half a NaN step": (_set("x", (3, 1, 2), np.nan), X + 'nan = "missing"\n' + FIELDS, "a whole step may be NaN", {}),
    "infinity": (_set("x", (0, 0, 0), np.inf), X + 'nan = "missing"\n' + FIELDS, "x row 0 must be finite", {}),
    "label off the scale": (_set("y", 4, 3.5), X + FIELDS, "y row 4 must be finite in -3..3, found 3.5", {}),
    "NaN label": (_set("y", 4, np.nan), X + FIELDS, "y row 4 must be finite in -3..3, found nan", {}),
    "unknown label": (
        _put(y=np.array(["a", "b", "joy", "a"] * 5)), X + FIELDS, "y row 2 must be one of a, b, found 'joy'",
        {"kind": "single_label", "names": '["a", "b"]'},
    ),
    "class number": (
        _put(y=np.array([0, 1, 2, 1] * 5)), X + FIELDS, "y row 2 must be class numbers 0..1, found 2",
        {"kind": "single_label", "names": '["a", "b"]'},
    ),
    "label columns": (
        _put(y=np.zeros((20, 3))), X + FIELDS, "y must have shape (N, 2), one column a name, found (20, 3)",
        {"kind": "multi_label", "names": '["a", "b"]'},
    ),
    "label values": (
        _put(y=np.full((20, 2), 0.5)), X + FIELDS, "y row 0 must be 0 or 1",
        {"kind": "multi_label", "names": '["a", "b"]'},
    ),
    "missing field": (_put(), X.replace('"x"', '"z"') + FIELDS, "modalities.text.values must name a field", {}),
    "wrong dims": (_put(x=np.zeros(20)), X + FIELDS, "x must be numbers of shape (20, features)", {}),
    "rows": (_put(x=np.zeros((19, 4, 3))), X + FIELDS, "found (19, 4, 3)", {}),
    "zero length": (
        _put(k=np.arange(20) % 7 % 4), X + 'lengths = "k"\n' + FIELDS, "k row 0 must lie in 1..4, found 0", {},
    ),
    "long": (_put(k=np.full(20, 5)), X + 'lengths = "k"\n' + FIELDS, "k row 0 must lie in 1..4, found 5", {}),
    "offsets": (_put(o=np.arange(20)), X + 'offsets = "o"\n' + FIELDS, "o must be 21 rising whole numbers", {}),
    "mask": (_put(m=np.ones((20, 3), bool)), X + 'observed = "m"\n' + FIELDS, "m must be true or false of shape", {}),
    "split name": (_set("split", 7, "dev"), X + FIELDS, "split row 7 must be train, valid, test or", {}),
    "no valid": (_put(split=np.array(["train", "test"] * 10)), X + FIELDS, "must hold at least one valid sample", {}),
    "repeated id": (
        _put(id=np.array([*range(19), 3])), X + FIELDS + 'id = "id"\n', "id row 19 must be unique, found a", {},
    ),
    "NaN group": (
        _put(who=np.array([0, np.nan, *range(18)])), X + FIELDS, "who row 1 must be given for every row", {},
    ),
    "ids of other rows": (_put(id=np.arange(7)), X + FIELDS + 'id = "id"\n', "id must have 20 rows like", {}),
    "unknown field": (_put(), X + 'length = "k"\n' + FIELDS, "modalities.text.length is not a field", {}),
    "no modality": (_put(), "\n[modalities]\n" + FIELDS, "modalities must name at least one", {}),
    "kind": (_put(), X + FIELDS, "task task kind 'rank' is unknown", {"kind": "rank"}),
    "feature names": (_put(), X + 'names = ["a"]\n' + FIELDS, "modalities.text.names must be 3 names, found 1", {}),
    "nan": (_put(), X + 'nan = "drop"\n' + FIELDS, "modalities.text.nan must be error or missing, found drop", {}),
    "objects": (_put(x=np.array([{}] * 20, dtype=object)), X + FIELDS, "is not a whole npz file without pickled", {}),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_said_in_one_line(tmp_path: Path, what: str) -> None:
    change, modalities, message, more = BROKEN[what]
    columns = base()
    change(columns)
    path = write(tmp_path, columns, modalities, **more)
    with pytest.raises(DataError) as e:
        load(path)
    assert message in str(e.value)
    assert str(e.value).startswith(str(tmp_path))
    assert "\n" not in str(e.value)
    assert str(check(path)[0]) == str(e.value)


def test_check_lists_several_problems(tmp_path: Path) -> None:
    c = base() | {"k": np.zeros(20, int)}
    c["x"][2, 0, 0] = np.nan
    path = write(tmp_path, c, X + '\n[modalities.audio]\nvalues = "x"\nlengths = "k"\n' + FIELDS)
    assert [(p.field, p.row) for p in check(path)] == [("x", 2), ("k", 0)]


def test_files_that_are_absent_truncated_or_of_no_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a file, nor a folder, nor a known set"):
        load(tmp_path / "nowhere")
    assert "is missing" in str(check(tmp_path / "nowhere")[0])
    assert "must hold an affectcore.toml" in str(check(tmp_path)[0])
    path = write(tmp_path, base(), X + FIELDS)
    whole = (tmp_path / "samples.npz").read_bytes()
    for n in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "samples.npz").write_bytes(whole[:n])
        with pytest.raises(DataError, match=r"samples\.npz: the file is not a whole npz file"):
            load(path)
    (tmp_path / "samples.npz").unlink()
    with pytest.raises(DataError, match=r"samples\.npz: the file no such file"):
        load(path)
    (tmp_path / "affectcore.toml").write_text("name = ")
    with pytest.raises(DataError, match=r"affectcore\.toml: the file must be TOML"):
        load(path)


@pytest.mark.parametrize(("column", "row"), [("speaker", 3), ("id", 30), ("split", 7)])
def test_a_null_is_no_group_of_its_own(tmp_path: Path, column: str, row: int) -> None:
    file = own.write_example(tmp_path, "parquet").parent / "samples.parquet"
    table = pq.read_table(file)
    columns = {c: table[c].to_pylist() for c in table.column_names}
    columns[column][row] = None
    pq.write_table(pa.table(columns), file)
    with pytest.raises(DataError, match=rf"{column} row {row} must be given for every row"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"), [([], "a sequence of length 0|must lie in 1"), (None, "must be numbers")]
)
def test_an_empty_first_sequence_is_named(tmp_path: Path, value: object, message: str) -> None:
    file = own.write_example(tmp_path, "parquet").parent / "samples.parquet"
    table = pq.read_table(file)
    columns = {c: table[c].to_pylist() for c in table.column_names}
    columns["text"][0] = value
    pq.write_table(pa.table(columns), file)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    own.write_example(tmp_path, "parquet")
    whole = (tmp_path / "samples.parquet").read_bytes()
    (tmp_path / "samples.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"samples\.parquet: the file is not a readable Parquet file"):
        load(tmp_path)
    assert "samples.parquet" in str(check(tmp_path)[0])
