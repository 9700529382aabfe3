"""The ambiguity world: MOSEI's label sets, calibrated noise scales, exact posterior."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from worlds_help import FROZEN

from affectcore.data.worlds import Sizes, make
from affectcore.data.worlds.ambiguity import (
    CARDINALITY,
    DIFFICULTIES,
    LEVEL_SHARES,
    LEVELS,
    MODALITIES,
    PAIRS,
    SEGMENTS,
    SETS,
    Settings,
    label_sets,
)  # fmt: skip
from affectcore.errors import ConfigError


def test_label_law_has_mosei_pairs_and_cardinalities():
    p = label_sets()
    assert p.sum() == pytest.approx(1)
    assert np.allclose((SETS * p[:, None]).T @ SETS, PAIRS / SEGMENTS, atol=5e-4)
    assert np.allclose(np.bincount(SETS.sum(1), p, 7), CARDINALITY, atol=1e-3)


def test_label_law_predicts_label_sets_it_was_not_fitted_to():
    """Triples are not constrained: shares of whole sets (measured) within 1.5 points."""
    p = label_sets()

    def share(*labels):
        return p[sum(1 << j for j in labels)]

    happy, sad, anger, surprise, disgust = range(5)
    assert share(happy) == pytest.approx(0.3376, abs=0.015)
    assert share(sad, anger, disgust) == pytest.approx(0.0261, abs=0.01)
    assert share(happy, surprise) == pytest.approx(0.0334, abs=0.015)


def test_drawn_labels_follow_the_law(draw):
    y = draw("ambiguity").factors["clean"]
    assert np.allclose(y.T @ y / len(y), PAIRS / SEGMENTS, atol=0.012)
    level = draw("ambiguity").factors["level"]
    for j in range(6):
        present = level[:, j][y[:, j] == 1]
        assert np.allclose([(present == v).mean() for v in LEVELS], LEVEL_SHARES[j], atol=0.05)
        assert not level[:, j][y[:, j] == 0].any()


def test_noise_scale_is_that_of_the_values(draw):
    """With the expressed emotions taken out, the innovations of the values have exactly the recorded scale."""
    w = draw("ambiguity")
    train = w.data.split("train")
    known = w.known(train)
    for i, m in enumerate(MODALITIES):
        b = w.truth.blocks[m]
        u = b.inner(train.features[m].numpy())
        u -= (w.truth.gain[i] * known["level"][:, None] * w.truth.profiles[m]) @ b.directions
        o = train.observed[m].numpy()[..., None]
        estimate = np.sqrt((u**2 * o).sum((1, 2)) / (o.sum((1, 2)) * b.dim))
        ratio = np.log(estimate / known["scale"][:, i])
        assert abs(ratio.mean()) < 0.01
        assert ratio.std() < 0.15  # 12 steps x 12 columns or more estimate a scale within some per cent
    z = np.log(known["scale"])
    assert z.std(0) == pytest.approx(np.full(3, 0.5), abs=0.03)
    assert np.corrcoef(z.T)[np.triu_indices(3, 1)] == pytest.approx(np.full(3, 0.5), abs=0.05)


def test_noisier_samples_are_harder_for_the_oracle(draw):
    w = draw("ambiguity")
    test = w.data.split("test", FROZEN)
    p, y = w.oracle(test), test.target.numpy()
    nll = -np.log(np.where(y == 1, p, 1 - p)).mean(1)
    scale = np.log(w.known(test)["scale"]).mean(1)
    order = np.argsort(scale)
    assert nll[order[:2000]].mean() < nll[order[2000:4000]].mean() < nll[order[4000:]].mean()


def test_posterior_equals_brute_force():
    s = Settings(gain=(0.8, 0.5, 0.6), steps=3, dims=(6, 6, 6), flips=0.1)
    w = make("ambiguity", 2, s, Sizes(20, 5, 10))
    test = w.data.split("test", FROZEN)
    known = w.known(test)
    got = w.oracle(test)
    law = label_sets()
    levels = np.concatenate([[0.0], LEVELS])
    grid = np.array(np.meshgrid(*[range(4)] * 6, indexing="ij")).reshape(6, -1).T
    present = grid > 0
    prior = law[present @ (1 << np.arange(6))].copy()
    for j in range(6):
        prior *= np.where(present[:, j], LEVEL_SHARES[j][np.maximum(grid[:, j] - 1, 0)], 1)
    for n in range(3):
        log_p = np.log(prior)
        for i, m in enumerate(MODALITIES):
            b, k = w.truth.blocks[m], int(test.lengths[m][n])
            u = b.inner(test.features[m][n : n + 1].numpy())[0, :k].ravel()
            t = np.arange(k)
            cov = known["scale"][n, i] ** 2 * np.kron(b.rho ** np.abs(t[:, None] - t), np.eye(6))
            mean = np.einsum("gj,tj,jd->gtd", levels[grid], w.truth.profiles[m][:k], b.directions) * w.truth.gain[i]
            log_p += multivariate_normal(np.zeros(len(u)), cov).logpdf(u - mean.reshape(len(grid), -1))
        post = np.exp(log_p - log_p.max())
        want = post @ present / post.sum()
        assert np.allclose(got[n], 0.1 + 0.8 * want, atol=1e-5)


def test_intensity_is_the_recorded_level_and_shuffling_moves_it_among_those_with_the_label():
    sizes = Sizes(300, 60, 60)
    w, s = (make("ambiguity", 3, Settings(flips=0.2, intensity=i), sizes) for i in ("true", "shuffled"))
    train, other = w.data.split("train"), s.data.split("train")
    level, y = train.extras["intensity"].numpy(), train.target.numpy()
    assert ((level > 0) == (y == 1)).all()
    known = w.known(train)
    right = (y == 1) & (known["clean"] == 1)
    assert np.allclose(level[right], known["level"][right])
    assert np.allclose(level[(y == 1) & (known["clean"] == 0)], LEVELS[0])
    moved = other.extras["intensity"].numpy()
    assert (other.target.numpy() == y).all()
    assert all(np.array_equal(train.features[m], other.features[m]) for m in train.features)
    assert not np.array_equal(moved, level)
    assert np.array_equal(np.sort(moved, 0), np.sort(level, 0))


def test_oracle_is_calibrated_with_flipped_labels(draw):
    w = draw("ambiguity", 0, "hard")
    test = w.data.split("test", FROZEN)
    p, y = w.oracle(test).ravel(), test.target.numpy().ravel()
    assert (test.target.numpy() != w.known(test)["clean"]).mean() == pytest.approx(0.1, abs=0.01)
    for low in (0.1, 0.3, 0.5, 0.7):
        bin_ = (p >= low) & (p < low + 0.2)
        assert y[bin_].mean() == pytest.approx(p[bin_].mean(), abs=0.03)


@pytest.mark.parametrize(
    ("field", "value"),
    [("gain", (1, 1, -1)), ("spread", -0.1), ("shared", 1.5), ("flips", 0.5), ("steps", 0), ("dims", (24, 5, 12)),
     ("video", 0), ("intensity", "none")],
)  # fmt: skip
def test_bad_settings(field, value):
    with pytest.raises(ConfigError) as e:
        replace(DIFFICULTIES["headline"], **{field: value})
    assert str(e.value).startswith(f"{field} = {value!r}: ")
