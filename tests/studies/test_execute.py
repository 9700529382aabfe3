"""The default executor: what is fitted on train, what is drawn by which seed, and when the test split is opened."""

from typing import Any

import numpy as np
import pytest
import torch

from affectcore.data import readers
from affectcore.data.schema import AffectData, Batch, Selection, Task
from affectcore.errors import TestLocked
from affectcore.evaluation.metrics import metric
from affectcore.studies import execute
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import CLEAN, Condition, DataSpec, RunSpec, Transform

N = 120


def made() -> AffectData:
    """Train, valid and test of other means, spreads and signs, so that what is fitted on the wrong one shows."""
    r = np.random.default_rng(0)
    part = np.repeat(["train", "valid", "test"], N // 3)
    y = np.abs(r.normal(1, 0.5, N)).clip(0.1, 3) * np.where(part == "test", -1, 1)
    mean, sd = (np.select([part == "train", part == "valid"], v, last) for v, last in (((0, 5), -5), ((1, 10), 3)))
    x = {m: ((y + r.normal(size=N)) * sd + mean)[:, None, None] * np.ones((1, 1, 2)) for m in ("text", "audio")}
    splits = {k: np.flatnonzero(part == k) for k in ("train", "valid", "test")}
    return AffectData("made", Task("regression", ("s",)), x, y, splits, group=np.arange(N) // 2)


@pytest.fixture(autouse=True)
def _reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(readers, "load", lambda name, **options: made())
    execute._cached.cache_clear()
    yield
    execute._cached.cache_clear()


def spec(model: str = "linear", seed: int = 0, **changes: Any) -> RunSpec:
    data = DataSpec("made", "reader", "made", **changes.pop("data", {}))
    return RunSpec(study="s", arm="a", profile="smoke", seed=seed, data=data, model=model, **changes)


def run(given: RunSpec) -> Outcome:
    (outcome,) = execute.train_and_score((given,))
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_scaler_is_fitted_on_the_training_part_of_the_fold(k: int) -> None:
    data = {"resplit": {"k": k, "n_folds": 3, "seed": 0}, "transforms": (Transform("standardise"),)}
    train = execute.load(spec(data=data).data, 0).split("train")
    assert len(train) != N // 3
    for m in train.modalities:
        torch.testing.assert_close(train.features[m].mean((0, 1)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(train.features[m].std((0, 1), correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_masks_follow_the_run_s_seed_unless_the_condition_has_its_own() -> None:
    conditions = (CLEAN, Condition("own", "missing/rmm", 0.5, seed=7), Condition("run's", "missing/rmm", 0.5))
    a, b = (run(spec(seed=s, conditions=conditions)).predictions.scores for s in (0, 1))
    for split in ("valid", "test"):
        np.testing.assert_array_equal(a[split, "clean"], b[split, "clean"])  # the model itself has no seed
        np.testing.assert_array_equal(a[split, "own"], b[split, "own"])
        assert (a[split, "run's"] != b[split, "run's"]).any()
        assert (a[split, "own"] != a[split, "run's"]).any()


def test_all_arms_of_a_seed_see_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[str, str], list[Any]] = {}
    real = execute.protocol

    def spied(c: Condition, seed: int, train: Batch) -> Any:
        change = real(c, seed, train)

        def keep(batch: Batch) -> Batch:
            out = change(batch)
            for m in out.modalities:
                seen.setdefault((c.name, m), []).append((out.index, out.observed[m]))
            return out

        return None if change is None else keep

    monkeypatch.setattr(execute, "protocol", spied)
    conditions = (Condition("half", "missing/rmm", 0.5),)
    for model, only in (("linear", ()), ("constant", ()), ("linear", ("audio",))):
        run(spec(model, conditions=conditions, data={"only": only}))
    for (_, m), masks in seen.items():
        assert len(masks) == {"text": 4, "audio": 6}[m]  # valid and test of two or three arms
        for index, mask in masks[2:]:
            first = next(x for x in masks if torch.equal(x[0], index))
            assert torch.equal(mask, first[1])


def test_the_floor_is_the_constant_that_is_best_on_train() -> None:
    floor = run(spec("constant")).bounds["floor"]
    assert floor["test"]["acc2_has_zero"] == 0  # all of train is positive, all of test negative
    assert floor["valid"]["acc2_has_zero"] == 1


def test_noise_is_measured_in_the_training_split_s_units() -> None:
    train = execute.load(spec().data, 0).split("train")
    change: Any = execute.protocol(Condition("noise", "corruption/gaussian", 1.0, {"scale": "train"}), 0, train)
    for m, scale in change.scale.items():
        np.testing.assert_allclose(scale, train.features[m].numpy().std((0, 1)), rtol=1e-5)


def test_a_tuned_threshold_is_the_one_that_scores() -> None:
    world = DataSpec("w", "world", "ambiguity", {"sizes": {"train": 80, "valid": 60, "test": 60}})
    given = RunSpec(
        study="s", arm="a", profile="smoke", seed=0, data=world, model="mlp", recipe="smoke",
        recipe_overrides={"selection": "valid_threshold", "metric": "micro_recall"},
    )  # fmt: skip
    o = run(given)
    threshold = o.history[o.epoch or 0]["threshold"]
    assert threshold != 0.5  # else this test could not tell
    assert o.metrics["valid"]["clean"]["micro_recall"] == pytest.approx(o.value)
    target, scores = o.predictions.target["test"], o.predictions.scores["test", "clean"].astype(float)
    want = metric("multi_label", "micro_recall")(target, (scores >= threshold).astype(int))
    assert o.metrics["test"]["clean"]["micro_recall"] == pytest.approx(want, abs=0.02)  # scores are kept in float16


def test_training_batches_are_changed_by_the_augmentation() -> None:
    recipe = {"recipe": "smoke", "recipe_overrides": {"epochs": 1}}
    plain, blind = (run(spec("mlp", augment=a, **recipe)) for a in (None, Condition("x", "missing/rmm", 1.0)))
    assert plain.history[0]["losses"] != blind.history[0]["losses"]


@pytest.mark.parametrize(("model", "recipe"), [("linear", None), ("mlp", "smoke")])
def test_the_test_split_is_opened_only_after_the_selection(
    model: str, recipe: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Selection | None]] = []
    real = AffectData.split

    def spied(self: AffectData, name: str, selection: Selection | None = None) -> Batch:
        asked.append((name, selection))
        return real(self, name, selection)

    monkeypatch.setattr(AffectData, "split", spied)
    o = run(spec(model, recipe=recipe))
    given = [s for name, s in asked if name == "test"]
    assert given
    assert set(given) == {Selection(o.rule, o.epoch, o.value)}  # the run's own, not one made up to get in
    with pytest.raises(TestLocked):
        execute.load(spec().data, 0).split("test")


def test_hooks_complete_the_model_look_at_the_run_and_probe_its_epochs() -> None:
    given = spec("mlp", recipe="smoke", recipe_overrides={"epochs": 2})

    def complete(spec: RunSpec, data: AffectData) -> dict[str, Any]:
        return {"hidden": len(data.split("train")) // 8}

    def inspect(f: execute.Fitted) -> dict[str, Any]:
        assert not f.model.training
        return {"hidden": f.model.config.hidden, "scores": f.scores["test", "clean"], "rule": f.selection.rule}

    (outcome,) = execute.train_and_score(
        (given,), complete=complete, inspect=inspect, probe=lambda model, valid: {"items": float(len(valid))}
    )
    assert isinstance(outcome, Outcome)
    assert outcome.extra["hidden"] == 5
    assert outcome.extra["config"]["hidden"] == 5
    assert outcome.extra["rule"] == outcome.rule
    np.testing.assert_array_equal(
        outcome.extra["scores"].astype(np.float16), outcome.predictions.scores["test", "clean"]
    )
    assert [e["probe"] for e in outcome.history] == [{"items": 40.0}] * 2
    plain = run(given)
    assert "probe" not in plain.history[0]
    assert plain.extra.keys() == {"config", "recipe"}


def test_an_estimator_is_looked_at_too() -> None:
    (outcome,) = execute.train_and_score((spec("constant"),), inspect=lambda f: {"model": type(f.model).__name__})
    assert isinstance(outcome, Outcome)
    assert outcome.extra["model"] == "Constant"


def test_the_ceiling_of_balanced_accuracy_is_that_of_the_posterior_over_the_shares() -> None:
    sizes = {"train": 400, "valid": 60, "test": 3000}
    data = DataSpec("w", "world", "imbalance", {"sizes": sizes, "settings": "easy"})
    loaded = execute._loaded(data, 0)
    o = run(RunSpec(study="s", arm="a", profile="smoke", seed=0, data=data, model="constant"))
    test = loaded.data.split("test", Selection(o.rule, o.epoch, o.value))
    assert loaded.world is not None
    y, likelihood = test.target.numpy(), loaded.world.truth.log_likelihood(test)  # the posterior without its prior
    ceiling = o.bounds["ceiling"]["test"]
    for name in ("balanced_accuracy", "batch_averaged_macro_recall_64"):
        assert ceiling[name] == pytest.approx(metric("single_label", name)(y, likelihood.argmax(1)), abs=1e-12)
    posterior = loaded.world.oracle(test).argmax(1)
    assert ceiling["balanced_accuracy"] > metric("single_label", "balanced_accuracy")(y, posterior) + 0.05
    assert ceiling["accuracy"] == metric("single_label", "accuracy")(y, posterior)  # the others are the posterior's
