"""Measures of representations against definitions written out, scikit-learn, torch and simulation."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from affectcore.errors import EvaluationError
from affectcore.evaluation.latent import (
    active_units,
    effective_rank,
    fisher_ratio,
    gaussian_denoising_loss,
    kl_to_normal,
    scatter_ratio,
)

RNG = np.random.default_rng(3)
Y = np.repeat([0, 1, 2], (40, 12, 8))
X = RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)) + RNG.normal(size=(3, 5))[Y]


def test_active_units_are_those_that_move():
    mu = RNG.normal(size=(400, 4)) * (1, 0.5, 0.05, 0) + 7
    assert active_units(mu) == 2
    assert active_units(mu, least=1e-4) == 3


def test_kl_is_torchs():
    mu, v = RNG.normal(size=(2, 30, 4))
    normal = torch.distributions.Normal
    p = normal(torch.from_numpy(mu), torch.from_numpy(np.exp(v / 2)))
    want = torch.distributions.kl_divergence(p, normal(0.0, 1.0)).numpy()
    np.testing.assert_allclose(kl_to_normal(mu, v), want, rtol=1e-12)


def test_effective_rank_counts_directions():
    assert effective_rank(RNG.normal(size=(9, 1)) * RNG.normal(size=(1, 7)) + 4) == pytest.approx(1)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T  # four orthogonal columns of equal length
    assert effective_rank(signs + 3) == pytest.approx(4)
    s = np.linalg.svd(X - X.mean(0), compute_uv=False)
    p = s / s.sum()
    assert effective_rank(X) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
    assert effective_rank(X * 1e-3 + 1) == pytest.approx(effective_rank(X), rel=1e-6)
    assert np.isnan(effective_rank(np.ones((5, 3))))


def test_scatter_ratio_is_that_of_the_scatter_matrices():
    lda = LinearDiscriminantAnalysis(solver="eigen", store_covariance=True).fit(X, Y)  # S_w = sum of n_c S_c / N
    within = np.trace(lda.covariance_)
    between = sum((c == Y).mean() * ((X[c == Y].mean(0) - X.mean(0)) ** 2).sum() for c in range(3))
    assert scatter_ratio(X, Y) == pytest.approx(between / within, rel=1e-10)
    assert np.isnan(scatter_ratio(np.eye(3)[Y], Y))


def test_fisher_ratio_is_its_definition():
    rare, rest = X[Y > 0], X[Y == 0]
    gap = ((rare.mean(0) - rest.mean(0)) ** 2).sum()
    want = gap / (np.trace(np.cov(rare.T, bias=True)) + np.trace(np.cov(rest.T, bias=True)))
    assert fisher_ratio(X, Y, (1, 2)) == pytest.approx(want, rel=1e-12)
    assert fisher_ratio(X, Y, (0,)) == pytest.approx(want, rel=1e-12)
    assert np.isnan(fisher_ratio(X, Y, (5,)))


def test_the_gaussian_denoising_loss_is_what_the_best_linear_denoiser_pays():
    """Against the denoiser itself, averaged over 40,000 draws of the noise for each of a few rows."""
    bars, mean, s = np.array([0.05, 0.3, 0.7, 0.95]), X.mean(0), np.cov(X.T)
    rows = X[:4]
    want = []
    for x, bar in zip(rows, bars):
        a, sd = np.sqrt(bar), np.sqrt(1 - bar)
        eps = RNG.normal(size=(40_000, 5))
        w = sd * np.linalg.inv(bar * s + (1 - bar) * np.eye(5))
        want.append(((((a * (x - mean) + sd * eps) @ w.T) - eps) ** 2).mean())
    np.testing.assert_allclose(gaussian_denoising_loss(rows, bars, mean, s), want, rtol=0.02)


def test_the_optimum_for_standard_normal_latents_is_the_mean_of_alpha_bar():
    bars = RNG.uniform(0.01, 0.99, 400_000)
    got = gaussian_denoising_loss(RNG.normal(size=(400_000, 2)), bars, np.zeros(2), np.eye(2)).mean()
    assert got == pytest.approx(bars.mean(), rel=3e-3)
    x = RNG.normal(size=(2000, 3)) * (2, 1, 0.1)  # on the rows it was fitted to: mean of a^2 l / (a^2 l + s^2), exact
    got = gaussian_denoising_loss(x, np.full(2000, 0.4), x.mean(0), np.cov(x.T, bias=True)).mean()
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    assert got == pytest.approx((0.4 * values / (0.4 * values + 0.6)).mean(), rel=1e-9)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(EvaluationError, match="x has 60 rows, y has 59"):
        scatter_ratio(X, Y[1:])
    with pytest.raises(EvaluationError, match="do not fit"):
        gaussian_denoising_loss(X, np.ones(3) / 2, X.mean(0), np.eye(5))
