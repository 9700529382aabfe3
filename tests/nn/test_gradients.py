"""Combined gradients and weights against their formulas, and the shared parts that go with them."""

import pytest
import torch

from affectcore.nn import diffusion as d
from affectcore.nn.gradients import gradnorm, inner, pcgrad
from affectcore.nn.normalisation import BatchNorm


def test_pcgrad_removes_what_conflicts_and_only_that():
    a = {"w": torch.tensor([1.0, 0.0]), "v": torch.tensor([1.0])}
    b = {"w": torch.tensor([-1.0, 1.0]), "v": torch.tensor([0.0])}
    assert float(inner(a, b)) == -1
    out = pcgrad([a, b])
    mine = {n: a[n] + 0.5 * b[n] for n in a}  # <a, b> / <b, b> = -1 / 2
    other = {n: b[n] + 0.5 * a[n] for n in a}  # <b, a> / <a, a> = -1 / 2
    for n in a:
        torch.testing.assert_close(out[n], mine[n] + other[n])
    assert float(inner(mine, b)) == pytest.approx(0, abs=1e-7)
    friend = {"w": torch.tensor([2.0, 0.0]), "v": torch.tensor([0.0])}
    assert torch.equal(pcgrad([a, friend])["w"], a["w"] + friend["w"])


def test_gradnorm_is_a_step_down_its_objective():
    w = torch.tensor([1.0, 0.8, 1.2], dtype=torch.float64, requires_grad=True)
    norms, progress = torch.tensor([3.0, 0.5, 1.0]).double(), torch.tensor([0.9, 0.4, 0.7]).double()
    target = (w * norms).mean().detach() * (progress / progress.mean()) ** 1.5
    (g,) = torch.autograd.grad((w * norms - target).abs().sum(), w)
    step = w.detach() - 0.025 * g
    torch.testing.assert_close(gradnorm(w.detach(), norms, progress, 1.5, 0.025), step * 3 / step.sum())


def test_batch_norm_over_some_rows():
    x, rows = torch.randn(7, 3, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    ours, native = BatchNorm(3).double(), torch.nn.BatchNorm1d(3).double()
    y, found = ours(x, True, rows)
    torch.testing.assert_close(y[rows], native(x[rows]))
    ours.remember(found)
    torch.testing.assert_close(ours.mean, native.running_mean)
    torch.testing.assert_close(ours.variance, native.running_var)
    one = torch.zeros(7, dtype=torch.bool)
    one[2] = True
    y, found = ours(x, True, one)  # a single row has no variance: the running ones stand in and stay
    torch.testing.assert_close(y, ours(x, False)[0])
    torch.testing.assert_close(found, torch.stack([ours.mean, ours.variance]))


def test_euler_maruyama_of_the_preserving_sde_keeps_the_variance_of_gaussian_data():
    bars, c, g = d.alpha_bars(d.linear_betas(1000)), 0.5, torch.Generator().manual_seed(3)

    def ideal(x, t):
        a, s2 = bars[t].sqrt(), 1 - bars[t]
        x0 = a * c * c * x / (bars[t] * c * c + s2)
        return x0, (x - a * x0) / s2.sqrt()

    x, normals = (torch.randn(*s, 4000, dtype=torch.float64, generator=g) for s in ((), (1000,)))
    times = d.spacing(1000, 1000)
    out = d.euler_maruyama_preserving(x, ideal, bars, times, normals)
    assert float(out.std()) == pytest.approx(c, rel=0.03)
    again = d.euler_maruyama_preserving(x, ideal, bars, times, torch.cat([normals[:-1], normals[-1:] * 99]))
    assert torch.equal(out, again)  # the last mean is returned
