"""Task, Batch, AffectData: what is refused, and the locked test split."""

from typing import Any

import numpy as np
import pytest
import torch

from affectcore.data.schema import AffectData, Selection, Task
from affectcore.errors import ConfigError, DataError, TestLocked

EMOTION = Task("single_label", ("calm", "angry", "glad"))


def parts(n: int = 12) -> dict[str, Any]:
    r = np.random.default_rng(0)
    return {
        "name": "toy",
        "task": EMOTION,
        "features": {"text": r.normal(size=(n, 5, 3)), "audio": r.normal(size=(n, 4, 2))},
        "target": np.arange(n) % 3,
        "splits": {"train": np.arange(6), "valid": np.arange(6, 8), "test": np.arange(8, n)},
        "lengths": {"text": np.arange(n) % 5 + 1},
    }


def changed(**parts_changed: Any) -> AffectData:
    return AffectData(**(parts() | parts_changed))


def test_padding_and_missing_are_different() -> None:
    seen = np.arange(5) < (np.arange(12) % 5 + 1)[:, None]
    seen[4, 2] = False  # row 4 has five steps, one of them missing
    x = parts()["features"]
    x["text"][4, 2] = np.nan
    batch = changed(features=x, observed={"text": seen}).split("train")
    assert batch.valid("text")[4].tolist() == [True] * 5
    assert batch.observed["text"][4].tolist() == [True, True, False, True, True]
    assert batch.features["text"][4, 2].tolist() == [0, 0, 0]
    assert bool((batch.features["text"][~batch.observed["text"]] == 0).all())
    assert bool(batch.observed["audio"].all())


def test_test_split_is_locked_until_a_selection_is_frozen() -> None:
    data = changed()
    with pytest.raises(TestLocked, match="toy: split 'test' is locked"):
        data.split("test")
    with pytest.raises(TestLocked):
        data.split("test", "valid_best")  # type: ignore[arg-type]
    assert len(data.split("test", Selection("valid_best", 3))) == 4
    assert Selection("oracle_test_epoch").leaky
    assert not Selection("valid_best").leaky


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {}}, "at least one modality"),
        ({"features": {"text": np.zeros((12, 3))}}, r"features\['text'\] has shape \(12, 3\)"),
        ({"features": {"text": np.zeros((11, 5, 3))}}, r"expected \(12, steps, features\)"),
        ({"features": {"text": np.full((12, 5, 3), np.inf)}}, r"features\['text'\] row 0 step 0 is NaN or infinite"),
        ({"lengths": {"text": np.zeros(12, int)}}, "length 0 is refused"),
        ({"lengths": {"text": np.full(12, 6)}}, r"whole numbers in 1\.\.5"),
        ({"lengths": {"text": np.ones(3, int)}}, r"got \(3,\)"),
        ({"observed": {"text": np.ones((12, 5), bool)}}, "True beyond a sequence's length"),
        ({"observed": {"text": np.ones((12, 4), bool)}}, r"observed\['text'\] has shape"),
        ({"target": np.full(12, 3)}, r"integers 0\.\.2"),
        ({"target": np.zeros(12)}, "integers"),
        ({"group": np.arange(3)}, "group has 3 rows, expected 12"),
        ({"splits": {"train": [0, 1], "valid": [1]}}, "'train' and 'valid' share rows"),
        ({"splits": {"train": [0, 0]}}, "holds a row twice"),
        ({"splits": {"train": [12]}}, r"row numbers 0\.\.11"),
        ({"splits": {"train": []}}, "at least one"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        changed(**change)


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [
        (Task("regression", ("sentiment",)), np.full(12, 3.1), r"values in \[-3, 3\]"),
        (Task("regression", ("sentiment",)), np.full(12, np.nan), "row 0 is NaN"),
        (Task("multi_label", ("a", "b")), np.full((12, 2), 0.5), r"0 or 1 of shape \(N, 2\)"),
        (Task("multi_label", ("a", "b")), np.zeros(12), r"got \(12,\)"),
    ],
)
def test_targets_follow_the_task(task: Task, target: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        changed(task=task, target=target)


@pytest.mark.parametrize(
    "arguments",
    [("ranking", ("a",)), ("single_label", ("a",)), ("multi_label", ("a", "a")), ("regression", ("s",), 1.0, 1.0)],
)
def test_bad_tasks_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError):
        Task(*arguments)


def test_hiding_values_never_shows_what_was_hidden() -> None:
    batch = changed().split("train")
    hidden = batch.with_observed({"text": torch.zeros(6, 5, dtype=torch.bool)})
    assert float(hidden.features["text"].abs().sum()) == 0
    assert torch.equal(hidden.features["audio"], batch.features["audio"])
    again = hidden.with_observed({"text": torch.ones(6, 5, dtype=torch.bool)})
    assert not bool(again.observed["text"].any())
    assert torch.equal(hidden.valid("text"), batch.valid("text"))  # a hidden step still exists


def test_rows_keep_everything_together() -> None:
    data = changed(environment=np.arange(12) % 2, extras={"scale": np.arange(12.0)})
    batch = data.split("test", Selection("fixed")).rows(torch.tensor([3, 0]))
    assert batch.index.tolist() == [11, 8]
    assert batch.extras["scale"].tolist() == [11, 8]
    assert batch.environment is not None
    assert batch.environment.tolist() == [1, 0]
    assert batch.target.tolist() == [2, 2]
    assert batch.to("cpu", torch.float64).features["text"].dtype == torch.float64


def test_new_splits_share_the_samples_and_keep_the_lock() -> None:
    data = changed()
    fold = data.with_splits({"train": np.arange(4, 12), "test_ood": np.arange(4), "test": np.arange(2)})
    assert fold.splits == {"train": 8, "test_ood": 4, "test": 2}  # test parts may overlap each other
    with pytest.raises(TestLocked):
        fold.split("test_ood")
    with pytest.raises(ConfigError, match="'valid' is unknown, it has train, test_ood, test"):
        fold.split("valid")


def test_transformed_features_stay_zero_where_nothing_was_observed() -> None:
    data = changed().map_features({"text": lambda x: torch.cat([x, x], -1) + 1})
    batch = data.split("train")
    assert data.dims == {"text": 6, "audio": 2}
    assert float(batch.features["text"][~batch.observed["text"]].abs().sum()) == 0
    with pytest.raises(ConfigError, match="'vision' is unknown"):
        data.map_features({"vision": lambda x: x})
    with pytest.raises(DataError, match="finite values"):
        data.map_features({"text": lambda x: x / 0})
    assert data.only(("audio",)).modalities == ("audio",)
    with pytest.raises(ConfigError):
        data.only(("audio", "smell"))


def test_fingerprint_sees_every_change() -> None:
    base = changed().fingerprint()
    assert base == changed().fingerprint()
    x = parts()["features"]
    x["audio"][11, 3, 1] += 1e-3
    others = [
        changed(features=x),
        changed(target=np.arange(12)[::-1] % 3),
        changed(splits={"train": np.arange(7)}),
        changed(group=np.zeros(12, int)),
        changed(task=Task("single_label", ("calm", "angry", "sad"))),
        changed(lengths={"text": np.full(12, 5)}),
    ]
    assert len({base, *(o.fingerprint() for o in others)}) == 7


def test_vmap_takes_batches() -> None:
    batch = changed().split("train")
    two = batch.map(lambda x: torch.stack([x, x]))
    total = torch.func.vmap(lambda b: b.features["text"].sum() + b.valid("audio").sum())(two)
    torch.testing.assert_close(total, torch.stack([batch.features["text"].sum() + 24] * 2))
