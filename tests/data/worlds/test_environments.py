"""The environments world: laws of every regime, counterfactual pairs, exact conditionals, shift that reverses."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from worlds_help import FROZEN, loss, pool

from affectcore.data.worlds import Sizes, make
from affectcore.data.worlds.environments import CONTROLS, DIFFICULTIES, MODALITIES, Settings
from affectcore.errors import ConfigError

SMALL = Sizes(3000, 300, 3000)
HEADLINE = DIFFICULTIES["headline"]
SPLITS = ("train", "test_e0", "test_e2", "test_ood")


def parts(world):
    for name in SPLITS:
        batch = world.data.split(name, FROZEN)
        yield batch, world.known(batch), batch.target.numpy().astype(float)


def test_error_of_the_stable_predictor_is_the_published_constant(draw):
    w = draw("environments")
    assert w.truth.bayes_error == pytest.approx(0.36 / 1.36)
    for batch, _, y in parts(w):
        assert loss(w.oracle(batch), batch) == pytest.approx(0.265, abs=4 * y.var() * 0.265 / np.sqrt(len(y)) + 0.004)


@pytest.mark.parametrize("regime", "ABCD")
@pytest.mark.parametrize("sharing", [0.0, 0.5])
def test_conditional_means_equal_least_squares_on_the_true_factors(draw, regime, sharing):
    """Everything is jointly Gaussian, so a regression on the factors estimates the same function."""
    w = draw("environments", 0, replace(HEADLINE, regime=regime, sharing=sharing), SMALL)
    for name in ("test_e0", "test_ood"):
        batch = w.data.split(name, FROZEN)
        known, y = w.known(batch), batch.target.numpy()
        c = known["causal"].reshape(len(y), -1)
        both = np.concatenate([c, known["spurious"].reshape(len(y), -1)], 1)
        fit = LinearRegression().fit(both, y).predict(both)
        assert np.corrcoef(fit, w.bayes(batch))[0, 1] > 0.995
        assert loss(w.bayes(batch), batch) == pytest.approx(loss(fit, batch), rel=0.03)
        stable = LinearRegression().fit(c, y).predict(c)
        assert loss(w.oracle(batch), batch) == pytest.approx(loss(stable, batch), rel=0.03)
        assert loss(w.oracle(batch), batch) == pytest.approx(w.truth.bayes_error, rel=0.1)


def test_redraws_are_the_numbered_counterfactuals(draw):
    several = draw("environments", 0, replace(HEADLINE, redraws=3), SMALL).data.split("train")
    one = draw("environments", 0, HEADLINE, SMALL).data.split("train")
    w = draw("environments", 0, HEADLINE, SMALL)
    for m in MODALITIES:
        x = several.extras[f"counterfactual/{m}"].numpy()
        assert x.shape == (len(several), 3, 1, 16)
        for k in range(3):
            pairs = w.truth.counterfactual(several.index.numpy(), w.known(several), draw=k)
            assert np.allclose(x[:, k], pairs[m])
        assert np.allclose(x[:, 0], one.extras[f"counterfactual/{m}"].numpy())
    assert not draw("environments", 0, replace(HEADLINE, redraws=0), SMALL).data.split("train").extras


def test_redrawn_nuisance_keeps_what_the_label_hangs_on(draw):
    w = draw("environments", 0, replace(HEADLINE, redrawn="nuisance"), SMALL)
    train = w.data.split("train")
    known = w.known(train)
    for i, m in enumerate(MODALITIES):
        x = train.extras[f"counterfactual/{m}"].numpy()[:, 0] * w.truth.scale[m] + w.truth.centre[m]
        z = np.where((u := x @ w.truth.second[m]) > 0, u, u / 0.3) @ w.truth.first[m] / 2
        assert np.allclose(z[:, :2], known["causal"][:, i], atol=1e-3)
        assert np.allclose(z[:, 2:4], known["spurious"][:, i], atol=1e-3)
        assert abs(np.corrcoef(z[:, 4], known["nuisance"][:, i, 0])[0, 1]) < 0.08
    with pytest.raises(ConfigError, match="redrawn"):
        replace(HEADLINE, redrawn="causal")


@pytest.mark.parametrize("regime", "ABCD")
def test_law_of_the_spurious_factor(draw, regime):
    w = draw("environments", 0, replace(HEADLINE, regime=regime), SMALL)
    for _, known, y in parts(w):
        for e in np.unique(known["environment"]):
            rows = known["environment"] == e
            s = known["spurious"][rows]
            r = np.mean([np.corrcoef(s[:, i, j], y[rows])[0, 1] for i in range(3) for j in range(2)])
            beta = w.truth.betas[e]
            if regime == "A":
                assert r == pytest.approx(0, abs=0.06)
                assert s.mean(0) == pytest.approx(w.truth.mus[e], abs=0.15)
            elif regime == "C":
                assert r == pytest.approx(beta * 0.6 / w.truth.label_sd, abs=0.06)
            else:
                assert r == pytest.approx(beta, abs=0.06)
            eta = w.truth.etas[e] if regime == "D" else 0.0
            assert y[rows].mean() == pytest.approx(eta, abs=0.08)
            assert y[rows].std() == pytest.approx(1, abs=0.06)
        assert abs(np.corrcoef(known["causal"][:, 0, 0], known["nuisance"][:, 0, 0])[0, 1]) < 0.06


def test_counterfactuals_share_cause_and_nuisance_and_lose_the_label(draw):
    w = draw("environments", 0, HEADLINE, SMALL)
    train = w.data.split("train")
    known, y = w.known(train), train.target.numpy()
    pairs = w.mechanism(train)
    for i, m in enumerate(MODALITIES):
        assert np.allclose(pairs[m], train.extras[f"counterfactual/{m}"].numpy())
        assert not np.allclose(pairs[m], w.truth.counterfactual(train.index.numpy(), known, draw=1)[m])
        x = pairs[m][:, 0] * w.truth.scale[m] + w.truth.centre[m]
        z = x @ w.truth.second[m]
        z = np.where(z > 0, z, z / 0.3) @ w.truth.first[m] / 2  # the inverse of the mixing
        assert np.allclose(z[:, :2], known["causal"][:, i], atol=1e-4)
        assert np.allclose(z[:, 4:], known["nuisance"][:, i], atol=1e-4)
        redrawn = z[:, 2:4]
        assert np.abs(np.corrcoef(np.column_stack([redrawn, y]).T)[:2, 2]).max() < 0.07
        assert np.abs(redrawn - known["spurious"][:, i]).mean() > 0.5


def test_spurious_factors_help_in_training_and_mislead_out_of_distribution(draw):
    w = draw("environments", 0, DIFFICULTIES["hard"])
    train = w.data.split("train")

    def spurious(batch):
        return w.known(batch)["spurious"].reshape(len(batch), -1)

    model = Ridge().fit(spurious(train), train.target.numpy())
    scores = {s: (w.data.split(s, FROZEN)) for s in ("test", "test_ood")}
    r = {s: np.corrcoef(model.predict(spurious(b)), b.target.numpy())[0, 1] for s, b in scores.items()}
    assert r["test"] > 0.8
    assert r["test_ood"] < -0.8


def test_worst_case_error_of_least_squares_grows_with_difficulty_and_vanishes_in_the_control(draw):
    worst = {}
    cases = {**DIFFICULTIES, **CONTROLS}
    for name, settings in cases.items():
        w = draw("environments", 0, settings)
        train, ood = w.data.split("train"), w.data.split("test_ood", FROZEN)
        worst[name] = loss(Ridge().fit(pool(train), train.target.numpy()).predict(pool(ood)), ood)
    assert worst["interventional"] < worst["easy"] < worst["headline"] < worst["hard"] < worst["one_environment"]
    assert worst["interventional"] < 0.4


def test_masked_modality_has_no_cause(draw):
    w = draw("environments", 0, replace(HEADLINE, masked="text"), SMALL)
    batch = w.data.split("test_e2", FROZEN)
    hidden = batch.with_observed({"text": batch.observed["text"] & False})
    assert np.allclose(w.oracle(batch), w.oracle(hidden))


def test_linear_mixing_is_linear():
    w = make("environments", 0, replace(HEADLINE, mixing="linear"), Sizes(200, 50, 50))
    train = w.data.split("train")
    z = np.concatenate([w.known(train)[k][:, 0] for k in ("causal", "spurious", "nuisance")], 1)
    x = train.features["text"].numpy()[:, 0]
    assert np.allclose(LinearRegression().fit(z, x).predict(z), x, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("regime", "E"), ("train_betas", ()), ("test_betas", (1.0,)), ("tau", 0), ("gamma", -1), ("eta", -0.1),
     ("sharing", 1.0), ("mixing", "cubic"), ("masked", "face"), ("causal", 0), ("dim", 7), ("video", 0)],
)  # fmt: skip
def test_bad_settings(field, value):
    with pytest.raises(ConfigError) as e:
        Settings(**{field: value})
    assert str(e.value).startswith(f"{field} = {value!r}: ")
