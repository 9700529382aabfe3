"""The scikit-learn estimators: scikit-learn's checks, every form of X and y, every registered model, wrong input."""

from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from traits import traits

from affectcore.data.schema import Batch, Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.training.estimator import AffectClassifier, AffectRegressor, InputError, _split

QUICK = {"recipe_settings": {"epochs": 25, "patience": None, "lr": 3e-2, "batch_size": 64}, "settings": {"hidden": 16}}
# Of scikit-learn 1.9's checks these do not apply; all others pass.
NOT_APPLICABLE = {
    "check_array_api_input": "arrays of other libraries are turned into NumPy's; scikit-learn's switch for them is off",
    "check_classifiers_multilabel_output_format_decision_function": "there is no decision_function: scores are "
    "probabilities",
}


@parametrize_with_checks([AffectClassifier(**QUICK), AffectRegressor(**QUICK)])
def test_scikit_learns_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest:
        name = check.func.__name__
        assert name in NOT_APPLICABLE
        pytest.skip(NOT_APPLICABLE[name])


def sequences(n=60, seed=0):
    """Return three modalities with missing steps and modalities, and a signal that the first features carry."""
    rng = np.random.default_rng(seed)
    x = {m: rng.normal(size=(n, t, d)) for m, t, d in (("text", 4, 6), ("audio", 9, 3), ("vision", 7, 4))}
    signal = sum(v[:, :, 0].mean(1) for v in x.values())
    for v in x.values():
        v[rng.random(v.shape[:2]) < 0.15] = np.nan
    x["audio"][0] = np.nan
    return x, signal


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_registered_model_fits_and_predicts(name):
    x, signal = sequences(24)  # some models keep a row a sample: 24 in their small settings
    kinds = traits(name).kinds
    multi = next(iter(kinds), "single_label") == "multi_label"
    y = np.stack([signal > 0, signal > 0.5], 1).astype(int) if multi else np.digitize(signal, [-0.3, 0.3])
    settings = traits(name).small | kinds.get("multi_label" if multi else "single_label", {})
    gradient = registry.entry(name).kind == "gradient"
    clf = AffectClassifier(
        name, settings=settings if gradient else None, recipe_settings={"epochs": 1, "batch_size": 40}, valid_share=0.3
    ).fit(x, y, environment=np.arange(24) % 3)  # fmt: skip
    p = clf.predict_proba(x)
    assert p.shape == (24, 2 if multi else 3)
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    assert (p <= 1).all()
    if not multi:
        np.testing.assert_allclose(p.sum(1), 1)
    assert 0 <= clf.score(x, y) <= 1


def test_it_learns_from_sequences_with_missing_steps():
    x, signal = sequences(400)
    more, unseen = sequences(200, seed=1)
    quick = {"recipe_settings": {"epochs": 20, "lr": 1e-2}, "settings": {"hidden": 16}}
    clf = AffectClassifier(**quick).fit(x, np.where(signal > 0, "up", "down"))
    assert list(clf.classes_) == ["down", "up"]
    assert clf.score(more, np.where(unseen > 0, "up", "down")) > 0.75
    assert accuracy_score(np.where(unseen > 0, "up", "down"), clf.predict(more)) == clf.score(
        more, np.where(unseen > 0, "up", "down")
    )
    shuffled = np.random.default_rng(0).permutation(signal)  # control: nothing to learn
    assert AffectClassifier(**quick).fit(x, shuffled > 0).score(more, unseen > 0) < 0.65
    reg = AffectRegressor(bounds=(-9, 9), **quick).fit(x, signal)
    assert reg.score(more, unseen) == r2_score(unseen, reg.predict(more)) > 0.4
    multi = AffectClassifier(**quick).fit(x, np.stack([signal > 0, signal > 0.3], 1).astype(int))
    assert multi.predict(more).shape == (200, 2)
    assert (multi.predict(more) == np.stack([unseen > 0, unseen > 0.3], 1)).mean() > 0.75


def test_columns_mappings_and_frames_are_the_same_samples():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 7)), rng.integers(0, 2, 50)
    x[3, 4:] = np.nan  # one modality of one sample is missing
    quick = {"recipe_settings": {"epochs": 2}, "settings": {"hidden": 4}}
    columns = AffectClassifier(modalities={"text": slice(0, 4), "audio": [4, 5, 6]}, **quick).fit(x, y)
    mapping = AffectClassifier(**quick).fit({"text": x[:, :4], "audio": x[:, 4:]}, y)
    frame = pd.DataFrame(x, columns=list("abcdefg"))
    named = AffectClassifier(modalities={"text": list("abcd"), "audio": list("efg")}, **quick).fit(frame, y)
    want = columns.predict_proba(x)
    np.testing.assert_array_equal(mapping.predict_proba({"audio": x[:, 4:], "text": x[:, :4]}), want)  # any order
    np.testing.assert_array_equal(named.predict_proba(frame), want)
    np.testing.assert_array_equal(clone(columns).fit(x, y).predict_proba(x), want)  # the seed decides
    other = AffectClassifier(modalities={"text": slice(0, 4), "audio": [4, 5, 6]}, random_state=1, **quick).fit(x, y)
    assert not np.allclose(other.predict_proba(x), want)


def test_lists_of_unequal_sequences_are_padded_and_padding_is_not_missing():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, 30)
    ragged = [rng.normal(size=(t, 3)) for t in lengths]
    clf = AffectClassifier("mlp", recipe="smoke").fit({"audio": ragged}, rng.integers(0, 2, 30))
    assert clf.trained_.shape.steps == {"audio": 5}
    padded = np.full((30, 5, 3), np.nan)
    for row, s in zip(padded, ragged):
        row[: len(s)] = s
    np.testing.assert_allclose(clf.predict_proba({"audio": padded}), clf.predict_proba({"audio": ragged}), atol=1e-6)
    with pytest.raises(InputError, match="'audio' has sequences of 6 steps, the model was trained with at most 5"):
        clf.predict({"audio": np.zeros((2, 6, 3))})


def test_seeds_are_averaged_and_groups_never_cross():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    quick = {"recipe": "smoke", "settings": {"hidden": 4}}
    both = AffectClassifier(seeds=2, random_state=5, **quick).fit(x, y)
    each = both.trained_.predict(_batch(both, x))
    assert (both.trained_.seeds, len(each)) == ((5, 6), 2)
    np.testing.assert_allclose(both.predict_proba(x), each.mean(0), atol=1e-6)
    assert not np.allclose(each[0], each[1])
    scores = cross_val_score(
        AffectClassifier(**quick), x, y, groups=np.arange(60) // 6, cv=GroupKFold(3)
    )  # fmt: skip
    assert len(scores) == 3
    parts = _split(Task("single_label", ("a", "b")), y, np.arange(60) // 6, 0.15, 0)
    assert not set(parts["train"] // 6) & set(parts["valid"] // 6)
    assert sorted([*parts["train"], *parts["valid"]]) == list(range(60))


def _batch(clf, x):
    """Return samples with one step as the estimator hands them to its model."""
    rows = torch.arange(len(x))
    seen = torch.ones(len(x), 1, dtype=torch.bool)
    values = torch.as_tensor(x, dtype=torch.float32)[:, None]
    return Batch({"features": values}, {"features": torch.ones_like(rows)}, {"features": seen}, rows, rows, rows)


@pytest.mark.parametrize(
    ("params", "x", "y", "match"),
    [
        ({}, np.full((9, 2), np.nan), [0, 1] * 4 + [0], "NaN"),
        (
            {"modalities": {"a": [0, 1]}},
            [[1.0, np.nan]] * 9,
            [0, 1] * 4 + [0],
            "'a' row 0 step 0 contains NaN in 1 of 2",
        ),
        ({"modalities": {"a": [0, 9]}}, np.zeros((9, 2)), [0, 1] * 4 + [0], r"modalities\['a'\] names column 9"),
        ({"modalities": {"a": ["x"]}}, np.zeros((9, 2)), [0, 1] * 4 + [0], "names column 'x', which X has not"),
        ({"modalities": {"a": slice(5, 9)}}, np.zeros((9, 2)), [0, 1] * 4 + [0], "selects no column"),
        ({"modalities": {"a": [0]}}, {"a": np.zeros((9, 2))}, [0, 1] * 4 + [0], "leave out the parameter"),
        ({}, {}, [0, 1] * 4 + [0], "X is an empty mapping"),
        ({}, {"a": np.zeros((9, 2)), "b": np.zeros((8, 2))}, [0, 1] * 4 + [0], "inconsistent numbers of samples"),
        ({}, {"a": [["x", "y"]] * 9}, [0, 1] * 4 + [0], r"X\['a'\]: "),
        ({}, {"a": np.zeros((9, 2))}, [0, 1] * 4, "X has 9 samples of 'a', y has 8"),
        ({}, np.zeros((9, 2)), ["a"] * 9, "y holds 1 class, 'a'"),
        ({}, np.zeros((9, 2)), np.arange(18).reshape(9, 2), "y is multiclass-multioutput"),
        ({"valid_share": 1.5}, np.zeros((9, 2)), [0, 1] * 4 + [0], "valid_share = 1.5 must lie between 0 and 1"),
        ({"seeds": 0}, np.zeros((9, 2)), [0, 1] * 4 + [0], "seeds = 0 must be a whole number >= 1"),
    ],
)
def test_wrong_input_is_one_clear_line(params, x, y, match):
    with pytest.raises(ValueError, match=match) as e:
        AffectClassifier(**params).fit(x, y)
    assert "\n" not in str(e.value) or str(e.value).startswith("Input X contains NaN.")  # scikit-learn's own


def test_wrong_names_groups_and_bounds_are_named():
    x, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
    with pytest.raises(ConfigError, match="model 'mpl' is unknown: use affect_diff"):
        AffectClassifier("mpl").fit(x, y)
    with pytest.raises(ConfigError, match="setting 'width' is unknown"):
        AffectClassifier(settings={"width": 3}).fit(x, y)
    with pytest.raises(ConfigError, match="field 'epoch' is unknown"):
        AffectClassifier(recipe_settings={"epoch": 3}).fit(x, y)
    with pytest.raises(InputError, match="groups has 3 entries, X has 12 samples"):
        AffectClassifier().fit(x, y, groups=[1, 2, 3])
    with pytest.raises(InputError, match="groups has 1 group: two or more are needed"):
        AffectClassifier().fit(x, y, groups=np.zeros(12))
    with pytest.raises(InputError, match=r"bounds = \(0, 5\) must rise and hold every y, 0 to 11"):
        AffectRegressor(bounds=(0, 5)).fit(x, np.arange(12.0))
