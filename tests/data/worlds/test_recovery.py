"""The recovery world: cross-modal correlation as set, any number of modalities, exact posterior and recovery."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from worlds_help import FROZEN, loss

from affectcore.data.worlds import Sizes, make
from affectcore.data.worlds.recovery import DIFFICULTIES, SENTIMENT_SD, Settings, modality_names
from affectcore.errors import ConfigError

HEADLINE = DIFFICULTIES["headline"]


@pytest.mark.parametrize("rho", [0.1, 0.6, 0.9])
def test_factors_have_the_correlation_set(draw, rho):
    h = draw("recovery", 0, replace(HEADLINE, rho=rho)).factors["latent"]
    for k in range(h.shape[2]):
        r = np.corrcoef(h[:, :, k].T)[np.triu_indices(3, 1)]
        assert r == pytest.approx(np.full(3, rho), abs=0.04)
    assert h.std((0, 2)) == pytest.approx(np.ones(3), abs=0.03)


@pytest.mark.parametrize("modalities", [2, 5, 9])
def test_any_number_of_modalities(modalities):
    w = make("recovery", 0, replace(HEADLINE, modalities=modalities), Sizes(200, 50, 100))
    assert w.data.modalities == modality_names(modalities)
    test = w.data.split("test", FROZEN)
    assert w.truth.recover(test).shape == (100, modalities, 4)
    assert loss(w.oracle(test), test) < loss(w.constant(100), test)


def test_posterior_equals_dense_gaussian_conditioning():
    s = Settings(modalities=4, factors=2, steps=3, dims=(3, 2, 2), rho=0.4)
    w = make("recovery", 3, s, Sizes(20, 5, 12))
    t = w.truth
    test = w.data.split("test", FROZEN)
    observed = {m: o.clone() for m, o in test.observed.items()}
    observed["audio"][::2] = False
    observed["vision"][:, 1] = False
    test = test.with_observed(observed)
    got, back = w.oracle(test), t.recover(test)
    names = list(t.blocks)
    for n in range(8):
        load, noise, x, owner = [], [], [], []
        for i, m in enumerate(names):
            b, o = t.blocks[m], np.flatnonzero(test.observed[m][n].numpy())
            x.append(b.inner(test.features[m][n : n + 1].numpy())[0, o].ravel())
            block = np.kron(np.ones((len(o), 1)), t.gain[i] * b.directions.T)
            load.append(np.kron(np.eye(4)[i : i + 1], block))
            noise.append(np.kron(b.rho ** np.abs(o[:, None] - o), np.eye(b.dim)))
            owner += [i] * len(x[-1])
        loading, value, owner = np.concatenate(load), np.concatenate(x), np.array(owner)
        error = np.zeros((len(value), len(value)))
        start = 0
        for e in noise:
            error[start : start + len(e), start : start + len(e)] = e
            start += len(e)
        h = np.kron(0.4 * np.ones((4, 4)) + 0.6 * np.eye(4), np.eye(2))
        cov = loading @ h @ loading.T + error
        to_y = np.sqrt(0.4) * np.kron(np.ones((1, 4)), t.weights[None]) @ loading.T  # Cov(<w, s>, x)
        want = 0.152 + SENTIMENT_SD / np.sqrt(1.36) * (to_y @ np.linalg.solve(cov, value))[0]
        assert got[n] == pytest.approx(want, abs=1e-5)
        for i in range(4):  # recovery of modality i from the others
            keep = owner != i
            cross = (h @ loading.T)[2 * i : 2 * i + 2][:, keep]
            assert back[n, i] == pytest.approx(cross @ np.linalg.solve(cov[np.ix_(keep, keep)], value[keep]), abs=1e-5)


def test_posterior_mean_is_calibrated_and_recovery_uncorrelated_with_its_error(draw):
    w = draw("recovery")
    test = w.data.split("test", FROZEN)
    p, y = w.oracle(test), test.target.numpy()
    slope = LinearRegression().fit(p[:, None], y).coef_[0]
    assert slope == pytest.approx(1, abs=0.05)
    h, back = w.known(test)["latent"], w.truth.recover(test)
    for i in range(3):
        error = (h - back)[:, i].ravel()
        assert abs(np.corrcoef(error, back[:, i].ravel())[0, 1]) < 0.02


def test_stronger_correlation_means_better_recovery(draw):
    share = []
    for d in ("hard", "headline", "easy"):
        w = draw("recovery", 0, d)
        test = w.data.split("test", FROZEN)
        h, back = w.known(test)["latent"][:, 0], w.truth.recover(test)[:, 0]
        share.append(1 - np.mean((h - back) ** 2) / h.var())
    assert 0 < share[0] < share[1] < share[2]


@pytest.mark.parametrize(
    ("field", "value"),
    [("modalities", 1), ("rho", 0.0), ("rho", 1.0), ("tau", 0), ("factors", 0), ("gain", (1, 0, 1)),
     ("dims", (24, 16, 3)),     ("steps", 0), ("video", 0)],
)  # fmt: skip
def test_bad_settings(field, value):
    with pytest.raises(ConfigError) as e:
        replace(HEADLINE, **{field: value})
    assert str(e.value).startswith(f"{field} = {value!r}: ")
