"""Schedules and steps against numbers of `diffusers`, samplers against denoisers that know the answer.

Golden numbers: diffusers 0.42.1, DDPMScheduler, DDIMScheduler and DPMSolverMultistepScheduler (order 2, dpmsolver++,
trailing, euler_at_final), 20 training steps, no clipping, float64 samples (its betas are float32, hence 1e-7; the
solver's sigmas too, hence 3e-7), on x = sin(1.7 k), k < 6, a network that says sin(x + t / 10), normals sin(0.9 k + 1).
"""

import math

import pytest
import torch

from affectcore.errors import ConfigError
from affectcore.nn import diffusion as d

K = torch.arange(6, dtype=torch.float64)
X, NORMAL = torch.sin(1.7 * K), torch.sin(0.9 * K + 1)
T = 20
BARS = {"linear": d.alpha_bars(d.linear_betas(T)), "cosine": d.alpha_bars(d.cosine_betas(T))}
ONE = torch.ones((), dtype=torch.float64)


def network(bars, kind="eps"):
    return lambda x, t: d.estimates(kind, torch.sin(x + 0.1 * t), x, bars[t].sqrt(), (1 - bars[t]).sqrt())


def near(found, expected, tolerance=1e-7):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)


def test_schedules_of_a_thousand_steps():
    where = [0, 10, 500, 998]
    near(d.alpha_bars(d.linear_betas(1000))[where], [0.99989998, 0.99780649, 0.07779665, 4.118194e-5], 3e-7)
    near(d.alpha_bars(d.cosine_betas(1000))[where], [0.99995869, 0.99927884, 0.49228504, 2.428766e-6], 3e-7)
    assert d.cosine_betas(1000, low=1e-4, high=0.9999)[[0, -1]].tolist() == [1e-4, 0.9999]


def test_ddpm_step():
    bars = BARS["linear"]
    x0 = network(bars)(X, 7)[0]
    mean = d.ddpm_step(X, x0, bars[7], bars[6], torch.zeros_like(X))
    near(mean, [-0.0278583525, 0.9524420934, -0.2750894301, -0.9195918266, 0.4557477962, 0.7583400721])
    near(d.ddpm_step(X, x0, bars[7], bars[6], torch.ones_like(X)) - mean, [0.074948006146] * 6)
    last = d.ddpm_step(X, network(bars)(X, 0)[0], bars[0], ONE, NORMAL)  # no noise enters the last step
    near(last, [0.0, 0.9833445962, -0.2530260639, -0.9178694690, 0.4893953092, 0.7913636696])


@pytest.mark.parametrize(
    ("schedule", "kind", "times", "expected"),
    [
        ("linear", "leading", [16, 12, 8, 4, 0],
         [-0.2528901794, 0.7453207522, -0.4658272675, -0.9863708953, 0.2029164736, 0.5231462347]),
        ("linear", "trailing", [19, 15, 11, 7, 3],
         [-0.3098293358, 0.7619646988, -0.5295027354, -1.0543115489, 0.1712799648, 0.5179232563]),
        ("cosine", "leading", [16, 12, 8, 4, 0],
         [-1.6476997244, 2.2693294107, -2.3084461845, -5.0043623412, -0.6866594829, 0.2996304203]),
    ],
)  # fmt: skip
def test_ddim_samples(schedule, kind, times, expected):
    assert d.spacing(T, 5, kind) == times
    near(d.ddim(X, network(BARS[schedule]), BARS[schedule], times), expected, 1e-7 if schedule == "linear" else 2e-7)


def test_ddim_step_with_noise_and_with_velocity():
    bars = BARS["linear"]
    found = d.ddim_step(*network(bars)(X, 12), bars[12], bars[8], 0.7, NORMAL)
    near(found, [-0.0292623111, 1.0098752564, -0.3267056004, -1.0332538125, 0.2836468581, 0.6340287841])
    x0, eps = network(bars, "v")(X, 12)
    near(x0, [-0.2635905992, 0.7211501271, -0.4742363410, -0.9645935971, 0.1932785143, 0.5085527033])
    found = d.ddim_step(x0, eps, bars[12], bars[8])
    near(found, [-0.0843084390, 0.9140250037, -0.3277790546, -0.9465113614, 0.4023187238, 0.7129055070])
    v = d.target("v", X, NORMAL, bars[12].sqrt(), (1 - bars[12]).sqrt())
    near(v, [0.8071185652, 0.6272147084, 0.3935822616, -0.2463757077, -1.0928648446, -0.9025578488])


def test_dpm_solver():
    times = d.spacing(T, 10)
    assert times == [19, 17, 15, 13, 11, 9, 7, 5, 3, 1]
    found = d.dpm_solver(X, network(BARS["linear"]), BARS["linear"], times)
    near(found, [-0.2517279568, 0.7271034609, -0.4589784744, -0.9720039643, 0.1910286681, 0.5053977039], 3e-7)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_what_a_network_is_trained_to_say_gives_back_both_parts(kind):
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    x = d.noised(X, NORMAL, alpha, sigma)
    x0, eps = d.estimates(kind, d.target(kind, X, NORMAL, alpha, sigma), x, alpha, sigma)
    torch.testing.assert_close((x0, eps), (X, NORMAL))
    bounded = d.estimates(kind, d.target(kind, X, NORMAL, alpha, sigma), x, alpha, sigma, clip=0.5)
    torch.testing.assert_close(bounded, (X.clamp(-0.5, 0.5), NORMAL))


@pytest.mark.parametrize("schedule", BARS)
@pytest.mark.parametrize("n", [1, 7, T])
def test_samplers_with_a_denoiser_that_knows_the_answer_return_it(schedule, n):
    bars = BARS[schedule]

    def oracle(x, t):
        return X, (x - bars[t].sqrt() * X) / (1 - bars[t]).sqrt()

    times, start = d.spacing(T, n), NORMAL
    normals = torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(d.ddim(start, oracle, bars, times), X)
    torch.testing.assert_close(d.ddim(start, oracle, bars, times, 1.0, normals), X)
    torch.testing.assert_close(d.ddpm(start, oracle, bars, times, normals), X)
    torch.testing.assert_close(d.dpm_solver(start, oracle, bars, times), X)
    stopped = d.ddim(start, oracle, bars, times, to_data=False)  # the noise of the last time stays
    assert (stopped - X).abs().max() > 0.1 * float((1 - bars[times[-1]]).sqrt()) if n > 1 else True


def test_the_orders_of_the_solvers_on_gaussian_data():
    bars, c = d.alpha_bars(d.linear_betas(1000)), 0.5  # data N(0, c^2): everything is known

    def ideal(x, t):
        a, s2 = bars[t].sqrt(), 1 - bars[t]
        x0 = a * c * c * x / (bars[t] * c * c + s2)
        return x0, (x - a * x0) / s2.sqrt()

    top = bars[-1]
    truth = X * c / (top * c * c + 1 - top).sqrt()  # the probability flow maps quantiles to quantiles

    def wrong(sampler, n):
        return float((sampler(X, ideal, bars, d.spacing(1000, n, "linspace")) - truth).abs().max())

    for sampler, order in ((d.ddim, 1), (d.dpm_solver, 2)):  # halving the step divides the error by 2^order
        assert wrong(sampler, 80) / wrong(sampler, 160) == pytest.approx(2**order, rel=0.25)
    assert wrong(d.dpm_solver, 250) < 0.25 * wrong(d.ddim, 250) < 2e-3


def test_ddpm_over_all_steps_keeps_the_variance_of_gaussian_data():
    bars, c, g = d.alpha_bars(d.linear_betas(1000)), 0.5, torch.Generator().manual_seed(1)

    def ideal(x, t):
        a, s2 = bars[t].sqrt(), 1 - bars[t]
        x0 = a * c * c * x / (bars[t] * c * c + s2)
        return x0, (x - a * x0) / s2.sqrt()

    x, normals = (torch.randn(*s, 4000, dtype=torch.float64, generator=g) for s in ((), (1000,)))
    assert float(d.ddpm(x, ideal, bars, d.spacing(1000, 1000), normals).std()) == pytest.approx(c, rel=0.03)


def test_euler_maruyama_of_the_exploding_sde():
    g, c = torch.Generator().manual_seed(2), 0.8
    assert float(d.exploding_sigma(torch.tensor(1.0, dtype=torch.float64))) == pytest.approx(9.85, abs=5e-3)
    n, steps = 20000, 300
    x = torch.randn(n, dtype=torch.float64, generator=g) * d.exploding_sigma(ONE)
    normals = torch.randn(steps, n, dtype=torch.float64, generator=g)

    def score(x, t):
        return -x / (c * c + d.exploding_sigma(torch.tensor(t, dtype=torch.float64)) ** 2)

    out = d.euler_maruyama(x, score, steps, normals)
    assert float(out.std()) == pytest.approx(c, rel=0.05)
    again = d.euler_maruyama(x, score, steps, torch.cat([normals[:-1], normals[-1:] * 99]))
    assert torch.equal(out, again)  # the last mean is returned


def test_forward_process_by_time_and_its_rates():
    bars, x = BARS["cosine"], torch.ones(3, 2, 4, dtype=torch.float64)
    alpha, sigma = d.rates(bars, torch.tensor([0, 10, 19]), x)
    assert alpha.shape == (3, 1, 1)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    torch.testing.assert_close(d.noised(x, 2 * x, alpha, sigma)[1], (alpha + 2 * sigma)[1].expand(2, 4))


def test_guidance_embedding_and_errors():
    c, u = X, NORMAL
    assert torch.equal(d.guided(c, u, 0.0), u)
    torch.testing.assert_close(d.guided(c, u, 1.0), c)
    torch.testing.assert_close(d.guided(c, u, 3.0), 3 * c - 2 * u)
    e = d.timestep_embedding(torch.tensor([5.0], dtype=torch.float64), 6)[0].tolist()
    w = [1, 10000**-0.5, 1e-4]
    assert e == pytest.approx([math.sin(5 * i) for i in w] + [math.cos(5 * i) for i in w])
    assert d.spacing(1000, 50, "leading")[:2] == [980, 960]  # never begins at 999
    assert d.spacing(1000, 50)[0] == d.spacing(1000, 50, "linspace")[0] == 999
    with pytest.raises(ConfigError, match=r"21 steps must lie in 1\.\.20"):
        d.spacing(20, 21)
    with pytest.raises(ConfigError, match="needs normals"):
        d.ddim_step(c, u, ONE * 0.2, ONE * 0.5, eta=0.5)
