"""Ridge recovery against scikit-learn, brute-force leave-one-out and exact linear relations."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from small_data import make

from affectcore.data.schema import AffectData, Selection, Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.ridge_recovery import left_out_errors, ridge
from affectcore.models.contract import Shape

DONE = Selection("fixed")


def linked(noise=0.0, n=300, missing=0.0, seed=0):
    """Three modalities, b and c linear in a (plus noise), the target linear in all."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, 5))
    b = a @ rng.normal(size=(5, 4)) + 1 + noise * rng.normal(size=(n, 4))
    c = a @ rng.normal(size=(5, 3)) - 2 + noise * rng.normal(size=(n, 3))
    y = np.clip(a[:, 0] + b[:, 0] / 3 + c[:, 0] / 3, -3, 3)
    there = rng.random((n, 3)) >= missing
    x = {m: v[:, None] for m, v in zip("abc", (a, b, c))}
    seen = {m: there[:, [i]] for i, m in enumerate("abc")}
    splits = {"train": range(n // 2), "valid": range(n // 2, 3 * n // 4), "test": range(3 * n // 4, n)}
    return AffectData("linked", Task("regression", ("y",)), x, y, splits, observed=seen)


def fitted(data, preset="clean", **settings):
    model = registry.build("ridge_recovery", Shape.of(data), preset, **settings)
    model.fit(data, 0)
    return model


def without(batch, *gone):
    return batch.with_observed({m: torch.zeros_like(batch.observed[m]) for m in gone})


def test_the_solution_is_scikit_learns_and_alpha_the_best_left_out():
    rng = np.random.default_rng(0)
    x, y, alphas = rng.normal(size=(25, 7)), rng.normal(size=(25, 3)), (0.1, 3.0, 50.0)
    y += x @ rng.normal(size=(7, 3)) * 0.4
    (weight, offset), alpha = ridge(x, y, alphas)
    errors = []
    for a in alphas:
        left = [Ridge(alpha=a).fit(np.delete(x, i, 0), np.delete(y, i, 0)).predict(x[i : i + 1])[0] for i in range(25)]
        errors.append(((np.array(left) - y) ** 2).mean())
    assert alpha == alphas[int(np.argmin(errors))]
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(left_out_errors(u, s, y - y.mean(0), alphas), errors, rtol=1e-10)
    oracle = Ridge(alpha=alpha).fit(x, y)
    np.testing.assert_allclose(weight, oracle.coef_.T, atol=1e-10)
    np.testing.assert_allclose(offset, oracle.intercept_, atol=1e-10)


@pytest.mark.parametrize("alphas", [(1e-8,), (1e3,), (1e-8, 1e3)])
def test_leave_one_out_formula_picks_the_weak_penalty_for_an_exact_relation(alphas):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 6))
    assert ridge(x, x @ rng.normal(size=(6, 2)), alphas)[1] == alphas[0]


def test_an_exact_linear_relation_is_recovered_for_every_subset_that_determines_it():
    data = linked(missing=0.3)
    model = fitted(data, recovery_alpha=(1e-8, 1.0))
    complete = linked().split("test", DONE)
    for gone in (("b",), ("c",), ("b", "c")):
        found = model.recover(without(complete, *gone))
        for m in "abc":
            np.testing.assert_allclose(found[m], complete.features[m][:, 0], atol=1e-4)
    assert model.alphas[("a", "c"), "b"] == 1e-8


def test_every_pattern_has_its_own_regression_on_the_samples_that_have_it():
    data = linked(noise=0.5, missing=0.3)
    model = fitted(data, recovery_alpha=(2.0,))
    train, test = data.split("train"), linked(noise=0.5).split("test", DONE)
    x = {m: train.features[m][:, 0].double().numpy() for m in "abc"}
    there = {m: train.observed[m][:, 0].numpy() for m in "abc"}
    for given, m in ((("b",), "a"), (("b", "c"), "a"), (("a",), "c")):
        both = np.logical_and.reduce([there[g] for g in (*given, m)])
        assert both.sum() < len(train)
        known = np.concatenate([x[g] for g in given], 1)[both]
        shown = without(test, *(set("abc") - set(given)))
        source = np.concatenate([shown.features[g][:, 0].double().numpy() for g in given], 1)
        expected = Ridge(alpha=2.0).fit(known, x[m][both]).predict(source)
        np.testing.assert_allclose(model.recover(shown)[m], expected, atol=1e-9)


def test_nothing_there_or_too_few_samples_give_the_training_means():
    data = linked(missing=0.3)
    train, test = data.split("train"), data.split("test", DONE)
    means = {m: train.features[m][train.observed[m]].double().mean(0).numpy() for m in "abc"}
    for found in (
        fitted(data).recover(without(test, *"abc")),
        fitted(data, fewest=10_000).recover(without(test, *"bc")),
    ):
        for m in "bc":
            rows = np.ones(len(test), bool)
            np.testing.assert_allclose(found[m][rows], np.tile(means[m], (len(test), 1)), atol=1e-6)


def test_the_other_fillings():
    data = linked(noise=0.2)
    train, test = data.split("train"), data.split("test", DONE)
    shown = without(test, "a")
    near = fitted(data, "nearest").recover(shown)["a"]
    known = torch.cat([train.features[m][:, 0] for m in "bc"], 1)
    closest = torch.cdist(torch.cat([test.features[m][:, 0] for m in "bc"], 1), known).argmin(1)
    np.testing.assert_allclose(near, train.features["a"][closest, 0], atol=1e-6)
    assert not fitted(data, "zero").recover(shown)["a"].any()
    mean = fitted(data, "mean").recover(shown)["a"]
    np.testing.assert_allclose(mean, np.tile(train.features["a"].mean((0, 1)), (len(test), 1)), atol=1e-6)


def test_recovery_beats_filling_in_proportion_to_what_the_modalities_share():
    gain = {}
    for noise in (0.0, 30.0):
        data = linked(noise=noise, n=1200)
        test = without(data.split("test", DONE), "a")
        error = {p: np.abs(fitted(data, p).predict(test) - test.target.numpy()).mean() for p in ("clean", "mean")}
        gain[noise] = error["clean"] / error["mean"]
    assert gain[0.0] < 0.5
    assert gain[30.0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", ["pooled", "aligned", "unaligned"])
@pytest.mark.parametrize("kind", ["regression", "single_label", "multi_label"])
def test_it_predicts_any_task_at_any_size_and_keeps_what_is_there(size, kind):
    data = make(size, kind, 60)
    model = fitted(data, fewest=3)
    test = data.split("test", DONE)
    assert np.isfinite(model.predict(test)).all()
    assert len(model.predict(test)) == len(test)
    first = test.modalities[0]
    found, rows = model.recover(test)[first], test.observed[first].any(-1).numpy()
    plain = registry.build("linear", Shape.of(data)).features(test)[:, : found.shape[1]]
    np.testing.assert_array_equal(found[rows], plain[rows])


def test_penalties_must_be_positive():
    with pytest.raises(ConfigError, match="recovery_alpha must hold positive numbers"):
        fitted(linked(), recovery_alpha=())
