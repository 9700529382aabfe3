"""Every rule of the format: what is read, and the one line that names what breaks it."""

from collections.abc import Callable
from pathlib import Path

import make_predictions as make
import numpy as np
import pandas as pd
import pytest

from affectcore.audit.read import read
from affectcore.errors import AffectError, ConfigError, DataError

Save = Callable[..., Path]


def small() -> pd.DataFrame:
    return make.regression(n=6, seeds=2, groups=3)


def message(path: Path, task: str = "auto", **bounds: float) -> str:
    with pytest.raises(AffectError) as error:
        read(path, task, **bounds)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_regression_is_read_item_by_item(saved: Save) -> None:
    frame = make.regression(n=7, seeds=2)
    s = read(saved(frame))
    assert (s.task, s.items, s.rows, s.groups) == ("regression", 7, 28, 7)
    assert [(m.name, m.seeds) for m in s.models] == [("LMF", ("0", "1")), ("TFN", ("0", "1"))]
    for m in s.models:
        for k, seed in enumerate(m.seeds):
            rows = frame[(frame.model == m.name) & (frame.seed == int(seed))].sort_values("id")
            np.testing.assert_array_equal(m.prediction[k], rows.prediction)
            np.testing.assert_array_equal(s.target, rows.target)


def test_scores_decide_the_class_and_words_the_task(saved: Save) -> None:
    frame = make.single(n=20)
    s = read(saved(frame))
    assert (s.task, s.classes, s.group) == ("single_label", make.CLASSES, None)
    first = frame[(frame.model == "A") & (frame.seed == 1)]
    scores = first[[f"score_{c}" for c in make.CLASSES]].to_numpy()  # ids that are numbers are sorted as such
    np.testing.assert_allclose(s.models[0].scores[1], scores)
    np.testing.assert_array_equal(s.models[0].prediction[1], scores.argmax(1))
    words = frame[["id", "model", "seed", "target"]].assign(prediction=frame.target)
    assert read(saved(words)).task == "single_label"


def test_label_sets_are_read(saved: Save) -> None:
    frame = make.multi(n=20)
    s = read(saved(frame))
    assert (s.task, s.classes) == ("multi_label", make.LABELS)
    assert s.models[0].prediction.shape == (2, 20, 3)
    np.testing.assert_array_equal(s.models[0].prediction, s.models[0].scores >= 0.5)


def test_parquet_reads_as_csv(saved: Save) -> None:
    for frame in (make.regression(n=9), make.single(n=30), make.multi(n=30)):
        a, b = read(saved(frame)), read(saved(frame, "predictions.parquet"))
        np.testing.assert_array_equal(a.target, b.target)
        for x, y in zip(a.models, b.models):
            np.testing.assert_allclose(x.prediction, y.prediction)


def test_numbers_of_classes_may_be_written_as_floats(saved: Save) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "target": ["0", "1", "2"], "prediction": ["0.0", "1.0", "1"]})
    s = read(saved(frame))
    assert s.classes == ("0", "1", "2")
    np.testing.assert_array_equal(s.models[0].prediction[0], [0, 1, 1])


@pytest.mark.parametrize(
    ("target", "prediction", "task"),
    [
        ([0, 1, 2], [0.2, 1.4, 2.0], "regression"),
        ([-1, 0, 1], [-1, 0, 1], "regression"),
        ([0, 1, 2], [0, 1, 1], "single_label"),
        (["a", "b", "b"], ["a", "a", "b"], "single_label"),
    ],
)
def test_the_task_is_guessed_from_the_values(saved: Save, target: list, prediction: list, task: str) -> None:
    assert read(saved(pd.DataFrame({"id": [1, 2, 3], "target": target, "prediction": prediction}))).task == task


def test_whole_numbers_can_be_a_regression(saved: Save) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "target": [0, 1, 2], "prediction": [0, 1, 1]})
    assert read(saved(frame), "regression").task == "regression"


def test_a_class_that_no_item_has_is_declared_by_a_score(saved: Save) -> None:
    frame = pd.DataFrame({"id": [1, 2], "target": ["a", "b"], "prediction": ["c", "b"]})
    assert "row 2, column 'prediction': 'c' is an unknown label, known are 'a', 'b'" in message(saved(frame))
    frame[["score_a", "score_b", "score_c"]] = [[0, 0, 1], [0, 1, 0]]
    s = read(saved(frame))
    assert s.classes == ("a", "b", "c")
    assert s.models[0].scores is None  # decisions written as scores say nothing of probabilities


def change(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    out = frame.astype(object).copy()
    out.loc[row, column] = value
    return out


BROKEN: dict[str, tuple[Callable[[], pd.DataFrame], list[str]]] = {
    "no id": (lambda: small().drop(columns="id"), ["column 'id' is missing"]),
    "no target": (lambda: small().drop(columns="target"), ["column 'target' is missing"]),
    "no prediction": (lambda: small().drop(columns="prediction"), ["column 'prediction' is missing"]),
    "unknown column": (lambda: small().assign(text="x"), ["column 'text' is unknown", "known are id"]),
    "empty number": (lambda: change(small(), 3, "prediction", ""), ["row 5", "'prediction'", "is empty"]),
    "nan": (lambda: change(small(), 3, "prediction", "nan"), ["row 5", "'prediction'", "'nan'", "is not finite"]),
    "inf": (lambda: change(small(), 4, "target", "-inf"), ["row 6", "'target'", "'-inf'", "is not finite"]),
    "word": (lambda: change(small(), 0, "prediction", "high"), ["row 2", "'prediction'", "'high'", "is no number"]),
    "underscore": (lambda: change(small(), 0, "prediction", "1_0"), ["row 2", "'1_0'", "is no number"]),
    "no name": (lambda: change(small(), 2, "id", " "), ["row 4", "'id'", "is empty"]),
    "no seed": (lambda: change(small(), 2, "seed", ""), ["row 4", "'seed'", "is empty"]),
    "no group": (lambda: change(small(), 2, "group", "nan"), ["row 4", "'group'", "is not finite"]),
    "twice": (lambda: change(small(), 1, "id", "clip0"), ["row 3", "'clip0'", "given twice", "first in row 2"]),
    "seeds without a column": (lambda: small().drop(columns="seed"), ["given twice", "need a column 'seed'"]),
    "absent": (lambda: small().drop(index=7), ["'clip1'", "is absent for model 'LMF', seed '1'", "same items"]),
    "other ids": (lambda: change(small(), 23, "id", "clip9"), ["'clip9'", "is absent", "same items"]),
    "other target": (lambda: change(small(), 7, "target", 2.5), ["row 9", "'target'", "'2.5'", "'clip1'", "in row 3"]),
    "other group": (lambda: change(small(), 7, "group", "g"), ["row 9", "'group'", "'g'", "in row 3"]),
    "one value": (lambda: small().assign(target=1.5), ["column 'target'", "every item is '1.5'"]),
    "one class": (lambda: make.single(n=9).assign(target="sad"), ["every item is 'sad'"]),
    "unknown class": (lambda: change(make.single(n=9), 0, "target", "hapy"), ["row 2", "'hapy'", "unknown label"]),
    "sum": (lambda: change(make.single(n=9), 2, "score_sad", 0.999), ["row 4", "sum to", "must sum to 1"]),
    "logits": (lambda: change(make.single(n=9), 2, "score_sad", -1.5), ["row 4", "'score_sad'", "'-1.5'", "[0, 1]"]),
    "label 2": (lambda: change(make.multi(n=9), 2, "target_sad", 2), ["row 4", "'target_sad'", "'2'", "0 or 1"]),
    "label without target": (lambda: make.multi(n=9).drop(columns="target_sad"), ["'score_sad'", "without a target_"]),
    "score missing": (lambda: make.multi(n=9).drop(columns="score_sad"), ["column 'score_sad' is missing"]),
    "other label": (lambda: change(make.multi(n=9), 9, "target_sad", 7), ["row 11", "0 or 1"]),
    "labels constant": (
        lambda: make.multi(n=9).assign(target_happy=1, target_sad=0, target_angry=0), ["one value only"],
    ),
    "rows": (lambda: small().head(0), ["is empty"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_broken_input_is_named_in_one_line(saved: Save, case: str, name: str) -> None:
    build, parts = BROKEN[case]
    frame = build()
    text = message(saved(frame if name == "p.csv" else frame.astype(str), name))
    for part in [name, *parts]:
        assert part in text


def test_labels_of_one_item_must_agree(saved: Save) -> None:
    frame = make.multi(n=9)
    frame.loc[9, "target_sad"] = 1 - frame.loc[9, "target_sad"]
    text = message(saved(frame))
    assert "row 11, column 'target_sad'" in text
    assert "in row 2 for the same id '0'" in text


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("p.csv", b"", "is empty"),
        ("p.csv", b"id,target,prediction\n", "is empty"),
        ("p.csv", b"id;target;prediction\n1;2;3\n", "separated by commas"),
        ("p.csv", b"id,target,prediction\n1,2\n", "row 2: 2 fields, the header has 3"),
        ("p.csv", b"id,target,prediction\n1,2,3\n\n1,2,3,4\n", "row 4: 4 fields, the header has 3"),
        ("p.csv", b"id,target,target\n1,2,3\n", "'target' is given twice"),
        ("p.csv", b'id,target,prediction\n"1,2,3\n', "broken CSV"),
        ("p.csv", b"id,target,prediction\n\xff,2,3\n", "is not UTF-8"),
        ("p.parquet", b"no parquet", "is no Parquet file"),
        ("p.xlsx", b"x", "format '.xlsx' is unknown"),
        ("p", b"x", "is unknown, use .csv or .parquet"),
    ],
)
def test_files_of_another_form(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    text = message(tmp_path / name)
    assert part in text
    assert name in text


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "there is no such file" in message(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "there is no such file" in message(tmp_path / "folder.csv")


def test_task_and_bounds(saved: Save) -> None:
    path = saved(small())
    assert "task 'ranking' is unknown" in message(path, "ranking")
    assert "--low must be below --high" in message(path, low=1, high=-1)
    assert "lies outside --high 0.1" in message(path, high=0.1)
    assert "target_<label> are missing" in message(path, "multi_label")
    assert "'score_angry' is unknown for regression" in message(
        saved(make.single(n=9).assign(prediction=1)), "regression"
    )
    with pytest.raises(ConfigError, match="bound the targets of a regression"):
        read(saved(make.single(n=9)), low=0)


def test_a_long_value_is_cut(saved: Save) -> None:
    with pytest.raises(DataError) as error:
        read(saved(change(small(), 0, "prediction", "x" * 500)))
    assert len(str(error.value)) < 200
