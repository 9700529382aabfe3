"""What holds for every world: floor < models < ceiling, monotone difficulty, determinism, errors."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from worlds_help import FROZEN, loss, pool

from affectcore.data.worlds import WORLDS, Sizes, make
from affectcore.errors import ConfigError

SMALL = Sizes(600, 200, 1000)
names = pytest.mark.parametrize("name", list(WORLDS))


def models(kind: str):
    if kind == "regression":
        return {"linear": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7))),
                "boosting": HistGradientBoostingRegressor(max_iter=30, max_depth=3, random_state=0)}  # fmt: skip
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300))
    boosting = HistGradientBoostingClassifier(max_iter=15, max_depth=3, random_state=0)
    if kind == "multi_label":
        return {"linear": MultiOutputClassifier(linear), "boosting": MultiOutputClassifier(boosting)}
    return {"linear": linear, "boosting": boosting}


def scores(model, x, kind):
    if kind == "regression":
        return model.predict(x)
    p = model.predict_proba(x)
    return np.stack([q[:, 1] for q in p], 1) if kind == "multi_label" else p


@names
@pytest.mark.parametrize("which", ["linear", "boosting"])
def test_floor_model_ceiling(draw, name, which):
    world = draw(name)
    train, test = world.data.split("train"), world.data.split("test", FROZEN)
    kind = world.data.task.kind
    rows = slice(None) if which == "linear" else slice(2000)  # boosting is slow and still a model
    model = models(kind)[which].fit(pool(train)[rows], train.target.numpy()[rows])
    ceiling = world.bayes(test) if hasattr(world.truth, "bayes") else world.oracle(test)
    floor = loss(world.constant(len(test)), test)
    assert loss(ceiling, test) < loss(scores(model, pool(test), kind), test) < floor


@names
def test_constant_is_the_best_constant(draw, name):
    train = draw(name).data.split("train")
    best = draw(name).constant(len(train))
    assert best.shape == ((len(train),) if draw(name).data.task.kind == "regression" else (len(train), best.shape[1]))
    g = np.random.default_rng(0)
    for _ in range(20):
        other = best + g.normal(0, 0.01, best.shape[1:])
        if train.target.ndim == 1 and best.ndim == 2:
            other = other / other.sum(1, keepdims=True)
        assert loss(best, train) < loss(other, train)


@pytest.mark.parametrize(
    "name", [n for n in WORLDS if n != "environments"]
)  # its ceiling is the same at any difficulty
def test_oracle_gains_over_the_floor_shrink_with_difficulty(draw, name):
    gains = []
    for difficulty in ("easy", "headline", "hard"):
        gain = []
        for seed in range(2):
            world = draw(name, seed, difficulty, Sizes(600, 200, 2000))
            test = world.data.split("test", FROZEN)
            gain.append(1 - loss(world.oracle(test), test) / loss(world.constant(len(test)), test))
        gains.append(np.mean(gain))
    assert gains[0] > gains[1] > gains[2] > 0


@names
def test_oracle_with_everything_hidden_is_no_better_than_the_floor(draw, name):
    world = draw(name, 0, "headline", SMALL)
    test = world.data.split("test", FROZEN)
    hidden = test.with_observed({m: test.observed[m] & False for m in test.modalities})
    got = world.oracle(hidden)
    assert np.allclose(got, got[0], atol=1e-9)
    assert loss(got, test) == pytest.approx(loss(world.constant(len(test)), test), rel=0.06)


@names
def test_hiding_modalities_never_helps_the_oracle(draw, name):
    world = draw(name)
    test = world.data.split("test", FROZEN)
    full = loss(world.oracle(test), test)
    for m in test.modalities:
        assert full < loss(world.oracle(test.with_observed({m: test.observed[m] & False})), test) + 1e-9


@names
def test_same_seed_same_world_and_every_seed_its_own(name):
    a, b, c = make(name, 3, sizes=SMALL), make(name, 3, sizes=SMALL), make(name, 4, sizes=SMALL)
    assert a.data.fingerprint() == b.data.fingerprint() != c.data.fingerprint()
    assert all(np.array_equal(a.factors[k], b.factors[k]) for k in a.factors)


@names
def test_training_rows_do_not_depend_on_the_number_of_test_rows(name):
    small, large = (make(name, 1, sizes=Sizes(600, 200, n)).data.split("train") for n in (500, 900))
    assert all(bool((small.features[m] == large.features[m]).all()) for m in small.modalities)
    assert bool((small.target == large.target).all())
    assert bool((small.group == large.group).all())


@names
def test_groups_stay_inside_a_split(draw, name):
    data = draw(name, 0, "headline", SMALL).data
    seen = [set(data.split(s, FROZEN).group.tolist()) for s in ("train", "valid", "test")]
    assert not seen[0] & seen[1]
    assert not seen[2] & (seen[0] | seen[1])


@names
def test_shuffled_mechanism_has_the_same_form_and_other_values(draw, name):
    world = draw(name, 0, "headline", SMALL)
    train = world.data.split("train")
    true, shuffled = world.mechanism(train), world.mechanism(train, shuffled=True)
    assert true.keys() == shuffled.keys()
    for k, v in true.items():
        assert v.shape == shuffled[k].shape
        assert len(v) == len(train)
        assert not np.array_equal(v, shuffled[k])


@names
def test_mechanism_and_oracle_go_with_the_sample_not_the_batch(draw, name):
    import torch

    world = draw(name, 0, "headline", SMALL)
    test = world.data.split("test", FROZEN)
    rows = torch.arange(40).flip(0)
    assert np.allclose(world.oracle(test)[:40][::-1], world.oracle(test.rows(rows)), atol=1e-9)
    for shuffled in (False, True):
        whole, part = (world.mechanism(b, shuffled=shuffled) for b in (test, test.rows(rows)))
        assert all(np.allclose(whole[k][:40][::-1], part[k]) for k in whole)


@names
def test_partner_is_another_row_of_the_same_split(draw, name):
    world = draw(name, 0, "headline", SMALL)
    train = world.data.split("train").index.numpy()
    assert set(world.partner[train]) == set(train)
    assert not np.any(world.partner[train] == train)


@names
def test_headline_world_has_the_registered_sizes(draw, name):
    world = draw(name)
    splits = world.data.splits
    assert splits["train"] == WORLDS[name].sizes.train
    assert splits["test"] >= 6000


def test_unknown_world_difficulty_settings_and_sizes():
    with pytest.raises(ConfigError, match="'imbalanced' is unknown: use one of imbalance"):
        make("imbalanced", 0)
    with pytest.raises(ConfigError, match=r"'medium'.*easy, headline or hard"):
        make("imbalance", 0, "medium")
    with pytest.raises(ConfigError, match="own Settings"):
        make("imbalance", 0, WORLDS["ambiguity"].difficulties["easy"])
    with pytest.raises(ConfigError, match=r"sizes\.test = 1: .*at least 2"):
        Sizes(10, 10, 1)
