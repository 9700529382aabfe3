"""Diffusion as pure functions: noise schedules, the forward process, parameterisations, sampler steps and samplers.

Everything is written for x_t = alpha_t x_0 + sigma_t eps, eps ~ N(0, I). A discrete variance-preserving process over
times 0..T-1 is given by its `bars`, alpha_bar_t = alpha_t^2 = 1 - sigma_t^2; the variance-exploding one by alpha = 1
and `exploding_sigma`. Nothing here draws: normals come in as tensors, a sampler's as one tensor (steps, *x.shape).
Schedules are float64; cast them to the model's type where they are stored.

Sources: Ho et al. (2020), Nichol and Dhariwal (2021), Song, Meng and Ermon (2021, DDIM), Song et al. (2021, score SDE),
Salimans and Ho (2022, v), Ho and Salimans (2022, guidance), Lu et al. (2022, DPM-Solver++).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from affectcore.errors import ConfigError

Kind = Literal["eps", "x0", "v"]
Denoise = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(x_t, t) to the estimates of x_0 and eps, as `estimates` returns them."""


# --- schedules -------------------------------------------------------------------------------------------------------


def linear_betas(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return (steps,) betas rising linearly from `first` to `last` (Ho et al. 2020, section 4)."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float = 0.008, low: float = 0.0, high: float = 0.999) -> Tensor:
    """Return (steps,) betas of alpha_bar = cos^2((t / T + s) / (1 + s) pi / 2), clipped to [low, high].

    Nichol and Dhariwal (2021), equation 17; they clip at 0.999 from above alone.
    """
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    bars = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - bars[1:] / bars[:-1]).clamp(low, high)


def alpha_bars(betas: Tensor) -> Tensor:
    """Return (T,), the products of 1 - beta up to each time."""
    return (1 - betas).cumprod(0)


def exploding_sigma(t: Tensor, base: float = 25.0) -> Tensor:
    """Return the deviation at t in [0, 1] of dx = base^t dw: sqrt((base^2t - 1) / (2 log base)) (Song et al. 2021)."""
    return ((base ** (2 * t) - 1) / (2 * math.log(base))).sqrt()


def spacing(steps: int, n: int, kind: Literal["leading", "trailing", "linspace"] = "trailing") -> list[int]:
    """Return n of the times 0..steps-1 to sample at, falling. Raises ConfigError unless 1 <= n <= steps.

    leading: multiples of steps // n, down to 0, which never begins at steps - 1 unless n = steps; trailing: begins at
    steps - 1; linspace: both ends (n >= 2).
    """
    if not 1 <= n <= steps:
        raise ConfigError(f"sampling: {n} steps must lie in 1..{steps}, the steps of the schedule")
    if kind == "leading":
        return [i * (steps // n) for i in reversed(range(n))]
    if kind == "trailing":
        return [round(steps - i * steps / n) - 1 for i in range(n)]
    return [round((steps - 1) * (1 - i / max(n - 1, 1))) for i in range(n)]


def timestep_embedding(t: Tensor, features: int) -> Tensor:
    """Return (B, features) from t (B,): sin then cos of t w_i, w_i = 10000^(-i / (features / 2 - 1))."""
    half = features // 2
    place = torch.arange(half, device=t.device, dtype=t.dtype)
    angle = t.unsqueeze(-1) * torch.exp(place * (-math.log(10000) / max(half - 1, 1)))
    return torch.cat([angle.sin(), angle.cos()], -1)


# --- the forward process and what a network predicts ------------------------------------------------------------------


def rates(bars: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma of times t (B,), int64, shaped to multiply x (B, ...)."""
    bar = bars[t].view(-1, *[1] * (x.ndim - 1))
    return bar.sqrt(), (1 - bar).sqrt()


def noised(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return x_t = alpha x_0 + sigma eps."""
    return alpha * x0 + sigma * eps


def target(kind: Kind, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return what a network of a kind is trained to say: eps, x_0 or v = alpha eps - sigma x_0."""
    return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}[kind]


def estimates(
    kind: Kind, said: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return the estimates of x_0 and eps from what a network said of x_t.

    clip bounds the estimate of x_0 alone; eps stays what the network said, as in the published samplers. For "v" the
    process must be variance preserving; for "eps" alpha must not be 0, for "x0" sigma must not be 0.
    """
    if kind == "eps":
        x0, eps = (x - sigma * said) / alpha, said
    elif kind == "x0":
        x0, eps = said, (x - alpha * said) / sigma
    else:
        x0, eps = alpha * x - sigma * said, sigma * x + alpha * said
    return (x0 if clip is None else x0.clamp(-clip, clip)), eps


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Return u + scale (c - u): classifier-free guidance, scale 1 is the conditional prediction."""
    return unconditional + scale * (conditional - unconditional)


# --- one step back, from alpha_bar `now` to alpha_bar `then` (nearer to the data; 1 is the data) ----------------------


def ddpm_step(x: Tensor, x0: Tensor, now: Tensor, then: Tensor, normal: Tensor) -> Tensor:
    """Return a draw of q(x_then | x_now, x_0) (Ho et al. 2020, equations 6 and 7, for any two times)."""
    kept = now / then
    mean = then.sqrt() * (1 - kept) / (1 - now) * x0 + kept.sqrt() * (1 - then) / (1 - now) * x
    return mean + ((1 - kept) * (1 - then) / (1 - now)).sqrt() * normal


def ddim_step(
    x0: Tensor, eps: Tensor, now: Tensor, then: Tensor, eta: float = 0.0, normal: Tensor | None = None
) -> Tensor:
    """Return the DDIM step (Song, Meng and Ermon 2021, equation 12): eta 0 is deterministic, eta 1 is DDPM's variance.

    Raises ConfigError for eta > 0 without normals.
    """
    if eta == 0:
        return then.sqrt() * x0 + (1 - then).sqrt() * eps
    if normal is None:
        raise ConfigError(f"sampling: eta {eta} > 0 needs normals")
    s = eta * ((1 - then) / (1 - now) * (1 - now / then)).clamp(min=0).sqrt()
    return then.sqrt() * x0 + (1 - then - s**2).clamp(min=0).sqrt() * eps + s * normal


def euler_maruyama_step(
    x: Tensor, score: Tensor, diffusion: Tensor, dt: float, normal: Tensor, drift: Tensor | float = 0.0
) -> Tensor:
    """Return x at t - dt of the reverse SDE dx = (f - g^2 score) dt + g dw (Song et al. 2021, equation 6), dt > 0."""
    return x - (drift - diffusion**2 * score) * dt + diffusion * math.sqrt(dt) * normal


# --- samplers ------------------------------------------------------------------------------------------------------


def _levels(bars: Tensor, times: Sequence[int], to_data: bool) -> list[Tensor]:
    last = [torch.ones_like(bars[0])] if to_data else []
    return [bars[t] for t in times] + last


def ddim(
    x: Tensor, denoise: Denoise, bars: Tensor, times: Sequence[int], eta: float = 0.0, normals: Tensor | None = None,
    to_data: bool = True,
) -> Tensor:  # fmt: skip
    """Return the sample that starts as x at times[0] and visits the falling `times`.

    to_data False stops at times[-1], noise level included, without the step to alpha_bar = 1.
    """
    levels = _levels(bars, times, to_data)
    for i, then in enumerate(levels[1:]):
        x0, eps = denoise(x, times[i])
        x = ddim_step(x0, eps, levels[i], then, eta, None if normals is None else normals[i])
    return x


def ddpm(x: Tensor, denoise: Denoise, bars: Tensor, times: Sequence[int], normals: Tensor) -> Tensor:
    """Return the ancestral sample that starts as x at times[0]; normals (len(times), *x.shape), the last unused."""
    levels = _levels(bars, times, True)
    for i, then in enumerate(levels[1:]):
        x = ddpm_step(x, denoise(x, times[i])[0], levels[i], then, normals[i])
    return x


def dpm_solver(x: Tensor, denoise: Denoise, bars: Tensor, times: Sequence[int]) -> Tensor:
    """Return the DPM-Solver++(2M) sample (Lu et al. 2022, algorithm 2), first order in the first and the last step.

    The last step goes to alpha_bar = 1, where log(alpha / sigma) is infinite; its limit is the estimate of x_0.
    """
    levels, before, h_before = _levels(bars, times, False), None, None
    for i, (now, then) in enumerate(pairwise(levels)):
        x0 = denoise(x, times[i])[0]
        h = 0.5 * ((then / (1 - then)).log() - (now / (1 - now)).log())
        d = x0
        if before is not None and h_before is not None:
            d = x0 + (x0 - before) * (0.5 * h / h_before)
        x = ((1 - then) / (1 - now)).sqrt() * x - then.sqrt() * torch.expm1(-h) * d
        before, h_before = x0, h
    return denoise(x, times[-1])[0]


def euler_maruyama(
    x: Tensor, score: Callable[[Tensor, float], Tensor], steps: int, normals: Tensor, base: float = 25.0,
    end: float = 1e-3,
) -> Tensor:  # fmt: skip
    """Return the last mean of the reverse variance-exploding SDE from t = 1 to `end` in `steps` equal steps.

    x: (B, ...), drawn with deviation `exploding_sigma(1)`; score(x, t); normals (steps, *x.shape), the last unused.
    """
    dt = (1 - end) / max(steps - 1, 1)
    for i in range(steps):
        t = 1 - i * dt
        normal = torch.zeros_like(x) if i == steps - 1 else normals[i]
        x = euler_maruyama_step(x, score(x, t), x.new_tensor(base**t), dt, normal)
    return x


def euler_maruyama_preserving(
    x: Tensor, denoise: Denoise, bars: Tensor, times: Sequence[int], normals: Tensor
) -> Tensor:
    """Return the last mean of the reverse variance-preserving SDE that starts as x at times[0] and visits `times`.

    A step from alpha_bar `now` to `then` integrates beta over it: h = log(then / now) is g^2 dt and the drift is
    -h x / 2. normals (len(times), *x.shape), the last unused.
    """
    levels = _levels(bars, times, True)
    for i, then in enumerate(levels[1:]):
        now = levels[i]
        h = (then / now).log()
        score = -denoise(x, times[i])[1] / (1 - now).sqrt()
        x = x + h * (0.5 * x + score)
        if i < len(times) - 1:
            x = x + h.sqrt() * normals[i]
    return x
