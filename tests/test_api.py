"""The front door's own work: curves and paired tests against direct computation, arrays to data, wrong input."""

import numpy as np
import pytest

from affectcore import api
from affectcore.data.missing import make_missing
from affectcore.errors import ConfigError, DataError, EvaluationError
from affectcore.evaluation.metrics import balanced_accuracy, decide
from affectcore.evaluation.statistics import hierarchical_bootstrap


@pytest.fixture(scope="module")
def data() -> api.AffectData:
    return api.world("recovery", train=120, valid=60, test=300)


@pytest.fixture(scope="module")
def mlp(data: api.AffectData) -> api.Trained:
    return api.train("mlp", data, epochs=6, seeds=3, settings={"hidden": 16})


@pytest.fixture(scope="module")
def weak(data: api.AffectData) -> api.Trained:
    return api.train("mlp", data, epochs=1, seeds=3, settings={"hidden": 2})


def test_a_curve_is_the_metric_of_the_masked_split(data: api.AffectData, mlp: api.Trained) -> None:
    table = api.robustness(mlp, data, "rmm", rates=(0, 0.5, 1), draws=400)
    test = data.split("test", mlp.selection)
    for row in table.itertuples():
        p = mlp.predict(make_missing("rmm", row.rate)(test))
        errors = np.abs(p - test.target.numpy())
        assert row.value == pytest.approx(errors.mean())
        assert row.low < row.value < row.high
        codes = np.unique(test.group.numpy(), return_inverse=True)[1]
        grouped = {"groups": codes} if codes.max() + 1 < len(codes) else {}
        draws = hierarchical_bootstrap(errors, np.random.default_rng(0), draws=4000, **grouped)
        low, high = np.quantile(draws, [0.025, 0.975])
        assert (row.low, row.high) == pytest.approx((low, high), rel=0.05)
    assert list(table["value"]) == sorted(table["value"])  # the more is hidden, the larger the error
    median = np.median(data.split("train").target.numpy())
    assert table["floor"].iloc[0] == pytest.approx(np.abs(test.target.numpy() - median).mean())
    assert set(table["model"]) == {"mlp"}


def test_a_paired_test_knows_the_better_model(data: api.AffectData, mlp: api.Trained, weak: api.Trained) -> None:
    forth, back = api.paired_test(mlp, weak, data), api.paired_test(weak, mlp, data)
    assert forth.above_zero
    assert forth.p < 0.05
    assert forth.estimate == pytest.approx(-back.estimate)
    assert forth.interval95 == pytest.approx(tuple(-x for x in reversed(back.interval95)))
    assert forth.n_items == 300
    same = api.paired_test(mlp, mlp, data)
    assert (same.estimate, same.interval95) == (0.0, (0.0, 0.0))
    worse = api.paired_test(mlp, mlp, data, missing="rmm", rate=1.0)  # the same masks on both sides
    assert worse.estimate == 0.0


def test_classes_and_named_metrics() -> None:
    data = api.world("lexicon", train=120, valid=60, test=200)
    mlp = api.train("mlp", data, epochs=2, seeds=2, settings={"hidden": 8})
    test = data.split("test", mlp.selection)
    table = api.robustness({"a": mlp}, data, rates=(0.3,), draws=200)
    s = mlp.predict(make_missing("rmm", 0.3)(test))
    want = np.mean([balanced_accuracy(test.target.numpy(), decide("single_label", x)) for x in s])
    assert table["value"].iloc[0] == pytest.approx(want)
    assert table["floor"].iloc[0] == pytest.approx(1 / 3)
    auroc = api.robustness(mlp, data, rates=(0,), metric="auroc_macro", draws=200)
    assert auroc["low"].iloc[0] <= auroc["value"].iloc[0] <= auroc["high"].iloc[0]
    with pytest.raises(EvaluationError, match="depends on the order of the items"):
        api.robustness(mlp, data, rates=(0,), metric="batch_averaged_macro_recall_64", draws=50)
    linear = api.train("linear", data, seeds=1)
    assert api.robustness(linear, data, rates=(0,), draws=100)["seeds"].iloc[0] == 1


def test_label_sets_have_a_default_too() -> None:
    data = api.world("ambiguity", train=120, valid=60, test=200)
    mlp = api.train("mlp", data, epochs=1, seeds=2, settings={"hidden": 8})
    row = api.robustness(mlp, data, rates=(0,), draws=100).iloc[0]
    assert row["metric"] == "auroc_macro"
    assert row["low"] <= row["value"] <= row["high"]


def test_hiding_in_training_and_scaling_change_the_model(data: api.AffectData, mlp: api.Trained) -> None:
    test = data.split("test", mlp.selection)
    hidden = api.train("mlp", data, epochs=6, seeds=3, settings={"hidden": 16}, missing="rmm", rate=0.5)
    raw = api.train("mlp", data, epochs=6, seeds=3, settings={"hidden": 16}, scale=False)
    again = api.train("mlp", data, epochs=6, seeds=3, settings={"hidden": 16})
    assert np.array_equal(again.predict(test), mlp.predict(test))
    assert not np.allclose(hidden.predict(test), mlp.predict(test))
    assert not np.allclose(raw.predict(test), mlp.predict(test))
    mean, sd = mlp.scale["text"]
    train = data.split("train")
    seen = train.features["text"][train.observed["text"]]
    np.testing.assert_allclose(mean, seen.mean(0), atol=1e-5)
    np.testing.assert_allclose(sd, seen.std(0, unbiased=False), rtol=1e-4)


def test_arrays_become_data_whose_groups_never_cross() -> None:
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(90, 3)), rng.integers(0, 12, 90)
    x[5] = np.nan
    task = api.Task("regression", ("mood",), 0, 1)
    data = api.from_arrays({"face": x}, rng.random(90), task, group=group)
    parts = {s: set(data.split(s, api.Selection("x")).group.tolist()) for s in ("train", "valid", "test")}
    assert not parts["train"] & parts["valid"]
    assert not parts["test"] & (parts["train"] | parts["valid"])
    assert sum(data.splits.values()) == 90
    assert not data._all.observed["face"][5].any()
    x[6, 0] = np.nan
    with pytest.raises(DataError, match=r"features\['face'\] row 6 step 0 is NaN or infinite"):
        api.from_arrays({"face": x}, rng.random(90), task)


def test_wrong_input_is_named(data: api.AffectData, mlp: api.Trained, weak: api.Trained) -> None:
    with pytest.raises(ConfigError, match="model 'cidre' is unknown: use affect_diff"):
        api.train("cidre", data)
    with pytest.raises(ConfigError, match="protocol 'rmn' is unknown: use rmfm"):
        api.train("mlp", data, missing="rmn")
    with pytest.raises(ConfigError, match="recipe 'tiny' is unknown"):
        api.train("mlp", data, recipe="tiny")
    with pytest.raises(ConfigError, match="linear has no training steps"):
        api.train("linear", data, missing="rmm")
    with pytest.raises(ConfigError, match="seeds = 0 must be a number >= 1"):
        api.train("mlp", data, seeds=0)
    with pytest.raises(ConfigError, match="at least one model and one rate"):
        api.robustness({}, data)
    with pytest.raises(EvaluationError, match="accuracy"):
        api.robustness(mlp, data, metric="accuracy")
    fewer = api.train("mlp", data, epochs=1, seeds=2, settings={"hidden": 2})
    with pytest.raises(EvaluationError, match=r"seeds \(0, 1\), b with \(0, 1, 2\): a paired test needs the same"):
        api.paired_test(fewer, weak, data)
    other = api.world("lexicon", train=60, valid=30, test=60)
    with pytest.raises(EvaluationError, match="was trained for another task than"):
        api.robustness(mlp, other)
