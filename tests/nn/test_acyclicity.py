"""Penalties against closed walks counted one by one, and against every graph on three and four nodes."""

import itertools
import math

import numpy as np
import pytest
import torch

from affectcore.errors import ConfigError
from affectcore.nn import acyclicity as a

NAMES = ("exponential", "polynomial", "log_det")


def walks(b, steps):
    """The weighted number of closed walks of so many steps, each start counted, one walk at a time."""
    d = len(b)
    total = 0.0
    for nodes in itertools.product(range(d), repeat=steps):
        total += math.prod(b[i][j] for i, j in zip(nodes, (*nodes[1:], nodes[0])))
    return total


def has_cycle(edges, d):
    """Depth first: whether some node reaches itself."""
    reach = [{j for j in range(d) if edges[i][j]} for i in range(d)]
    for _ in range(d):
        reach = [r.union(*(reach[j] for j in r)) if r else r for r in reach]
    return any(i in r for i, r in enumerate(reach))


def graphs(d):
    places = [(i, j) for i in range(d) for j in range(d) if i != j]
    out = torch.zeros(2 ** len(places), d, d, dtype=torch.float64)
    for n, bits in enumerate(itertools.product((0.0, 1.0), repeat=len(places))):
        for (i, j), b in zip(places, bits):
            out[n, i, j] = b
    return out


def test_penalties_count_closed_walks():
    w = torch.tensor([[0, 0.5, 0.3], [0.4, 0, -0.6], [0.2, 0.7, 0]], dtype=torch.float64)
    b, longest = (w * w).tolist(), 9
    c = {k: walks(b, k) for k in range(1, longest + 1)}
    assert float(a.exponential(w)) == pytest.approx(sum(v / math.factorial(k) for k, v in c.items()), abs=1e-9)
    assert float(a.polynomial(w)) == pytest.approx(sum(math.comb(3, k) * c[k] / 3**k for k in (1, 2, 3)), abs=1e-12)
    s = 3.0
    assert float(a.log_det(w, s)) == pytest.approx(sum(v / (k * s**k) for k, v in c.items()), abs=1e-8)
    for name, s in (("log_det", 3.0), ("exponential", None), ("polynomial", None)):
        assert a.acyclicity(w, name) == (a.log_det(w, s) if s else getattr(a, name)(w))


@pytest.mark.parametrize("d", [3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_zero_exactly_where_there_is_no_cycle(name, d):
    every = graphs(d)
    cyclic = torch.tensor([has_cycle(g.tolist(), d) for g in every])
    assert int((~cyclic).sum()) == {3: 25, 4: 543}[d]  # OEIS A003024: labelled acyclic graphs
    h = a.acyclicity(every * 0.9, name)
    assert h[~cyclic].abs().max() < 1e-12
    assert h[cyclic].min() > 1e-3


def test_values_of_the_paper_s_start_and_of_its_drawn_graph():
    half = 0.5 * (1 - torch.eye(3, dtype=torch.float64))
    assert float(a.exponential(half)) == pytest.approx(0.2063, abs=5e-5)
    drawn = torch.tensor([[0, 0.26, 0.14], [0.31, 0, 0.22], [0.20, 0.17, 0]], dtype=torch.float64)
    assert float(a.exponential(drawn)) == pytest.approx(0.0088, abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_vmap(name):
    w = 0.4 * torch.rand(5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: a.acyclicity(x, name), w.requires_grad_())
    stacked = torch.func.vmap(torch.func.grad(lambda x: a.acyclicity(x, name)))(w)
    torch.testing.assert_close(stacked, torch.autograd.grad(a.acyclicity(w, name).sum(), w)[0])


def test_log_det_beyond_its_domain_is_not_finite():
    two_cycle = torch.tensor([[0.0, 1.2], [1.2, 0.0]])
    assert not torch.isfinite(a.log_det(two_cycle, 1.0))
    assert torch.isfinite(a.log_det(two_cycle, 2.0))


def test_multipliers_follow_the_published_rule():
    t = torch.tensor
    best, alpha, rho = a.multipliers(t(0.2), t(1.0), t(0.5), t(2.0))  # fell enough: accepted
    assert (float(best), float(alpha), float(rho)) == pytest.approx((0.2, 0.9, 2.0))
    best, alpha, rho = a.multipliers(t(0.3), t(1.0), t(0.5), t(2.0))  # did not: harder
    assert (float(best), float(alpha), float(rho)) == pytest.approx((1.0, 0.5, 20.0))
    best, alpha, rho = a.multipliers(t(0.3), t(1.0), t(0.5), t(50.0), most=50.0)  # as hard as allowed
    assert (float(best), float(alpha), float(rho)) == pytest.approx((0.3, 15.5, 50.0))
    assert float(a.augmented(t(0.2), t(3.0), t(10.0))) == pytest.approx(0.8)


def waves():
    """Four variables that follow 0 -> 1 -> 2 -> 3 and 0 -> 3, by formula."""
    k = np.arange(200)
    parts = [np.sin(1.7 * k), 0.8 * np.sin(2.3 * k + 1), 1.2 * np.sin(0.9 * k * k + 2), np.sin(3.1 * k + 0.1 * k * k)]
    w = np.zeros((4, 4))
    w[0, 1], w[1, 2], w[0, 3], w[2, 3] = 1.5, -1.0, 0.8, 1.1
    return np.stack(parts, 1) @ np.linalg.inv(np.eye(4) - w), w


def test_notears_gives_the_graph_of_gcastle():
    x, _ = waves()
    # gcastle 1.0.4, Notears(lambda1=0.1, w_threshold=0.3, h_tol=1e-8, rho_max=1e16): 1.297, -0.8934, 0.8469, the rest
    # below the threshold; it stops at another point of the same outer loop
    expected = np.zeros((4, 4))
    expected[0, 1], expected[1, 2], expected[2, 3] = 1.297, -0.8934, 0.8469
    np.testing.assert_allclose(a.notears(x), expected, atol=2e-3)


def test_notears_finds_a_planted_graph_and_refuses_what_it_cannot_read():
    rng = np.random.default_rng(0)
    w = np.zeros((4, 4))
    w[0, 1], w[1, 2], w[0, 3] = 1.5, -1.2, 1.0
    x = rng.normal(size=(2000, 4)) @ np.linalg.inv(np.eye(4) - w)
    np.testing.assert_allclose(a.notears(x, 0.02), w, atol=0.1)
    with pytest.raises(ConfigError, match="must hold finite numbers"):
        a.notears(np.full((5, 2), np.nan))
    with pytest.raises(ConfigError, match="'cubic' must be exponential"):
        a.acyclicity(torch.zeros(2, 2), "cubic")
