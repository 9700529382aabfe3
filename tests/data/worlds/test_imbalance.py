"""The imbalance world: exact class totals, structural equations, interventions, exact posterior."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from worlds_help import FROZEN, loss

from affectcore.data.worlds import Sizes, make
from affectcore.data.worlds.imbalance import DIFFICULTIES, MODALITIES, STRUCTURES, TOTALS, Settings, intervene
from affectcore.errors import ConfigError

HEADLINE = DIFFICULTIES["headline"]


def bincount(batch):
    return torch.bincount(batch.target, minlength=6).tolist()


def test_exact_class_totals(draw):
    data = draw("imbalance").data
    assert bincount(data.split("train")) == [1293, 340, 195, 33, 35, 60]
    assert bincount(data.split("valid")) == [280, 66, 48, 7, 7, 11]
    assert bincount(data.split("test_published", FROZEN)) == [277, 76, 36, 8, 12, 11]
    assert TOTALS.sum() == 2795
    assert TOTALS[:3].tolist() == [1850, 482, 279]
    assert TOTALS[3:].sum() == 184
    test = bincount(data.split("test", FROZEN))
    assert np.allclose(np.array(test) / 6000, TOTALS / 2795, atol=1 / 6000)


def test_extra_samples_join_training_and_change_nothing_else():
    sizes = Sizes(60, 20, 900)
    plain, more = (make("imbalance", 1, replace(HEADLINE, extra=e), sizes) for e in ((), (0, 0, 0, 5, 6, 7)))
    x, y = plain.data.split("train"), more.data.split("train")
    assert torch.bincount(y.target[60:], minlength=6).tolist() == [0, 0, 0, 5, 6, 7]
    for m in MODALITIES:
        assert torch.equal(x.features[m], y.features[m][:60])
        assert float(y.features[m][60:].abs().sum()) > 0
    assert not set(y.group[60:].tolist()) & set(more.data.split("test", FROZEN).group.tolist())
    a, b = (w.data.split("test", FROZEN) for w in (plain, more))
    assert torch.equal(a.features["text"], b.features["text"])
    assert np.array_equal(plain.oracle(a), more.oracle(b))
    with pytest.raises(ConfigError, match="extra"):
        replace(HEADLINE, extra=(1, 2))


def residual(y, x):
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    return y - x @ np.linalg.lstsq(x, y, rcond=None)[0]


def partial(world, i, j, given):
    """Correlation of the factors of modalities i and j, factor by factor, given the class and other modalities."""
    h, y = world.factors["latent"], world.factors["label"]
    r = []
    for k in range(h.shape[2]):
        x = np.concatenate([np.eye(6)[y][:, 1:], h[:, given, k]], 1)
        r.append(np.corrcoef(residual(h[:, i, k], x), residual(h[:, j, k], x))[0, 1])
    return float(np.mean(r))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_independences_of_each_structure(draw, structure):
    w = draw("imbalance", 0, replace(HEADLINE, structure=structure))
    t, a, v = 0, 1, 2
    near, far = 0.03, 0.1
    if structure == "chain":
        assert abs(partial(w, t, v, [a])) < near < far < partial(w, t, v, [])
    elif structure == "fork":
        assert abs(partial(w, a, v, [t])) < near < far < partial(w, a, v, [])
    elif structure == "collider":
        assert abs(partial(w, t, a, [])) < near < far < -partial(w, t, a, [v])
    elif structure == "confounder":
        assert partial(w, t, v, [a]) > far  # no observed modality explains it away
        assert abs(partial(w, t, a, [])) < near
    else:
        assert abs(partial(w, t, v, [a])) < near
        assert partial(w, t, a, []) > far


@pytest.mark.parametrize("structure", STRUCTURES)
def test_equations_hold_and_noise_is_independent_of_parents(draw, structure):
    w = draw("imbalance", 0, replace(HEADLINE, structure=structure))
    h, truth = w.factors["latent"], w.truth
    direct = (
        truth.means[w.factors["label"]] + truth.speaker[:, None] * w.factors["speaker"][:, None] + w.factors["noise"]
    )
    assert np.allclose(h - np.einsum("ij,nik->njk", truth.graph, h), direct)
    assert np.abs(np.corrcoef(w.factors["noise"].reshape(len(h), -1).T) - np.eye(12)).max() < 0.05


@pytest.mark.parametrize(
    ("structure", "cause", "moved"),
    [
        ("chain", "text", {"audio": 0.6, "vision": 0.24}),
        ("chain", "audio", {"vision": 0.4}),
        ("fork", "text", {"audio": 0.6, "vision": 0.4}),
        ("collider", "vision", {}),
        ("confounder", "text", {}),
        ("cycle", "audio", {"text": 0.4}),
    ],
)
def test_interventions_move_descendants_by_the_path_weights_and_nothing_else(draw, structure, cause, moved):
    w = draw("imbalance", 0, replace(HEADLINE, structure=structure), Sizes(300, 100, 500))
    batch = w.data.split("train")
    up, down = (intervene(w, batch, cause, np.full(4, x)) for x in (1.0, 0.0))
    for i, m in enumerate(MODALITIES):
        b = w.truth.blocks[m]
        seen = batch.observed[m].numpy()
        change = (b.inner(up.features[m].numpy()) - b.inner(down.features[m].numpy())) @ b.directions.T
        want = w.truth.gain[i] * (1.0 if m == cause else moved.get(m, 0.0))
        assert np.allclose(change[seen], want, atol=5e-3)
        assert not up.features[m][~batch.observed[m]].any()


def test_intervening_at_the_factual_value_changes_nothing_in_the_mean(draw):
    w = draw("imbalance", 0, HEADLINE, Sizes(300, 100, 500))
    one = w.data.split("train").rows(torch.tensor([7]))
    same = intervene(w, one, "text", w.known(one)["latent"][0, 0])
    assert all(torch.allclose(same.features[m], one.features[m], atol=1e-4) for m in MODALITIES)


@pytest.mark.parametrize("structure", ["chain", "confounder", "cycle"])
def test_posterior_equals_brute_force_gaussians(structure):
    """p(x | class) of the whole hidden-frame pattern written as one dense Gaussian, no shortcut of the library."""
    s = Settings(structure=structure, factors=2, steps=4, dims=(3, 4, 2), signal=(1.0, 0.8, 0.9), missing_frames=0.4)
    w = make("imbalance", 5, s, Sizes(60, 20, 40))
    batch = w.data.split("test", FROZEN)
    got = w.oracle(batch)
    hide = batch.observed["audio"].clone()
    hide[::3] = False  # whole modality lost for some
    batch = batch.with_observed({"audio": hide})
    got_hidden = w.oracle(batch)
    truth = w.truth
    reach = np.linalg.inv(np.eye(3) - truth.graph.T)
    over = reach @ (np.eye(3) + np.outer(truth.speaker, truth.speaker)) @ reach.T
    for n in range(12):
        log_p = np.log(truth.prior)
        x, rows, load = [], [], []
        for i, m in enumerate(MODALITIES):
            b, o = truth.blocks[m], np.flatnonzero(batch.observed[m][n].numpy())
            x.append(b.inner(batch.features[m][n : n + 1].numpy())[0, o].ravel())
            e = b.rho ** np.abs(o[:, None] - o[None])
            rows.append(np.kron(e, np.eye(b.dim)))
            factor = np.kron(np.ones((len(o), 1)), truth.gain[i] * b.directions.T)  # (T' D, k)
            load.append(np.kron(np.eye(3)[i : i + 1], factor))  # against (3, k) flattened
        loading = np.concatenate(load)
        size = [len(r) for r in rows]
        noise = np.zeros((sum(size), sum(size)))
        for r, end in zip(rows, np.cumsum(size)):
            noise[end - len(r) : end, end - len(r) : end] = r
        cov = loading @ np.kron(over, np.eye(2)) @ loading.T + noise
        for c in range(6):
            mean = loading @ (reach @ truth.means[c]).ravel()
            log_p[c] += multivariate_normal(mean, cov).logpdf(np.concatenate(x))
        want = np.exp(log_p - log_p.max())
        assert np.allclose(got_hidden[n], want / want.sum(), atol=1e-5)
    assert not np.allclose(got, got_hidden)


def test_posterior_is_calibrated(draw):
    """Bayes' analytic loss: the mean of the posterior's own entropy must equal the loss it meets."""
    w = draw("imbalance", 0, "easy")
    test = w.data.split("test", FROZEN)
    p = w.oracle(test)
    entropy = -(p * np.log(p)).sum(1)
    assert loss(p, test) == pytest.approx(entropy.mean(), abs=4 * entropy.std() / np.sqrt(len(test)) + 0.01)


@pytest.mark.parametrize(
    ("field", "value"),
    [("structure", "tree"), ("coefficients", (1.0, 0.2)), ("signal", (1, 1, 0)), ("gain", (1, 1)), ("factors", 0),
     ("steps", 0), ("dims", (24, 3, 12)), ("missing_frames", 1.0), ("speaker", 0.5)],
)  # fmt: skip
def test_bad_settings(field, value):
    with pytest.raises(ConfigError) as e:
        replace(HEADLINE, **{field: value})
    assert str(e.value).startswith(f"{field} = {value!r}: ")
    assert "\n" not in str(e.value)
