"""Is the diffusion prior a prior of the latents? Its loss against a Gaussian's, its samples, its round trips.

Everything is drawn from (seed, "diagnose", ...), so a run's numbers depend on its parameters and data alone, and all
conditions share items, noise levels and noise.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from affectcore.evaluation.latent import gaussian_denoising_loss
from affectcore.models.affect_diff import X0_BOUND, Z_BOUND, AffectDiff
from affectcore.nn import diffusion
from affectcore.nn.noise import Tape
from affectcore.streams import rng

Denoise = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x_t (n, d, L), t (n,), labels, strengths) to eps
ITEMS = 128  # latents whose denoising loss is measured
PER_CLASS = 8  # samples of a class at each guidance, and items of a class that make the round trip
STEPS = 10  # of DDIM
GUIDANCES = (0.0, 1.0, 3.0, 5.0)
DEPTHS = (0.1, 0.3, 0.5)  # of the round trips: times 100, 300, 500 of 1,000


def prior(
    model: AffectDiff, train: Mapping[str, Tensor], valid: Mapping[str, Tensor], target: Tensor, seed: int
) -> Any:
    """Return the diagnosis of the prior; train, valid: what the model said of the splits; target: of valid.

    loss["mu" | "z"]: mean squared error of the predicted noise at the latents' means or at one draw of them, with
        [true strengths and label, shuffled strengths, mean strengths, hidden label, wrong label, true ones and the
        averaged network that samples (None without one)]
    optimum: of N(0, I) latents. There x_t and eps are jointly Gaussian with E(eps | x_t) = s x_t and variance
        1 - s^2 = alpha-bar, so it is the mean of alpha-bar over the noise levels
    gaussian["mu" | "z"]: of the Gaussian with the training latents' mean and covariance, step by step (see
        `gaussian_denoising_loss`); it knows neither label nor strengths, nor what other steps say
    sampled: share of DDIM samples that the classifier takes for the class asked for, by guidance 0, 1, 3, 5
    depth, drift, kept, obeyed: round trips to time `depth` and back by DDIM under [true, hidden, another] label, no
        guidance: relative change |z' - z| / |z|, share of items still taken for their own class (or labels), share
        taken for the other one; rows are depths
    """
    draw = rng(seed, "diagnose", "prior")
    rows = torch.from_numpy(np.sort(draw.permutation(len(target))[:ITEMS])).to(target.device)
    latents = {"mu": lambda x: x["mu"], "z": lambda x: x["mu"] + _normals(draw, x["mu"]) * (0.5 * x["logvar"]).exp()}
    out: dict[str, Any] = {"loss": {}, "gaussian": {}}
    some = {k: v[rows] for k, v in valid.items()}
    y, strengths = target[rows], some["strengths"]
    wrong = other_labels(model, y, draw)
    mixed, mean = strengths[torch.from_numpy(draw.permutation(len(y)))], valid["strengths"].mean(0).expand_as(strengths)
    t = levels(len(y), model.config.diffusion_steps, draw).to(y.device)
    eps, like = _normals(draw, some["mu"].transpose(-1, -2)), some["mu"]
    own, none, bars = model.labels(y, like), no_label(model, y, like), model.bars[t]
    for name, of in latents.items():
        z, fitted = of(some), of(train)

        def loss(denoise: Denoise, labels: Tensor, told: Tensor, z: Tensor = z) -> float:
            return denoising_loss(denoise, z, some.get("seen"), model.bars, t, eps, labels, told)

        told = [(own, strengths), (own, mixed), (own, mean), (none, strengths), (model.labels(wrong, like), strengths)]
        out["loss"][name] = [loss(model.unet, *x) for x in told]
        out["loss"][name].append(None if model.config.ema_decay is None else loss(model.average, own, strengths))
        out["gaussian"][name] = gaussian_loss(fitted, train.get("seen"), z, some.get("seen"), bars)
    out["optimum"] = float((bars if "seen" not in some else bars.repeat_interleave(some["seen"].sum(-1))).mean())
    out["sampled"] = sampled(model, valid["strengths"].mean(0), like.shape[1], draw)
    return out | round_trips(model, valid, target, draw)


def denoising_loss(
    denoise: Denoise, z: Tensor, seen: Tensor | None, bars: Tensor, t: Tensor, eps: Tensor, labels: Tensor,
    strengths: Tensor,
) -> float:  # fmt: skip
    """Return the mean squared error of the noise in latents z (n, L, d) at times t (n,), over the steps that count."""
    x = z.transpose(-1, -2)
    x = _shown(diffusion.noised(x, eps, *diffusion.rates(bars, t, x)), seen)
    error = (denoise(x, t, labels, strengths) - eps).square().mean(-2)
    return float(error.mean() if seen is None else error[seen].mean())


def gaussian_loss(train: Tensor, train_seen: Tensor | None, z: Tensor, seen: Tensor | None, bars: Tensor) -> float:
    """Return what one Gaussian a step, fitted to train (N, L, d), pays on z (n, L, d) at alpha-bars (n,)."""
    paid = []
    for step in range(z.shape[1]):
        of_train = torch.ones_like(train[:, 0, 0]) > 0 if train_seen is None else train_seen[:, step]
        of_z = torch.ones_like(bars) > 0 if seen is None else seen[:, step]
        x = train[of_train, step].double().cpu().numpy()
        if len(x) < 2 or not of_z.any():
            continue
        covariance = np.cov(x.T, bias=True).reshape(x.shape[1], -1)
        held, at = (v.double().cpu().numpy() for v in (z[of_z, step], bars[of_z]))
        paid.append(gaussian_denoising_loss(held, at, x.mean(0), covariance))
    return float(np.concatenate(paid).mean())


def sampled(model: AffectDiff, strengths: Tensor, steps: int, draw: np.random.Generator) -> list[float]:
    """Return the share of samples of `steps` steps taken for their class, by guidance; all start from one noise."""
    classes, n = model.shape.task.outputs, len(GUIDANCES)
    asked = torch.arange(classes, device=strengths.device).repeat(PER_CLASS)
    start = _normals(draw, strengths.new_zeros(len(asked), model.config.latent, steps)).repeat(n, 1, 1)
    labels = F.one_hot(asked, classes + 1).to(start.dtype).repeat(n, 1)
    none = F.one_hot(torch.full_like(asked, classes), classes + 1).to(start.dtype).repeat(n, 1)
    scale = torch.tensor(GUIDANCES).to(start).repeat_interleave(len(asked)).view(-1, 1, 1)
    told, unet = strengths.expand(len(start), -1), sampler(model)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return diffusion.guided(unet(x, t, labels, told), unet(x, t, none, told), scale)  # type: ignore[arg-type]

    times = torch.tensor(diffusion.spacing(model.config.diffusion_steps, min(STEPS, model.config.diffusion_steps)))
    z = back(denoise, start, times.expand(len(start), -1).to(start.device), model.bars)
    right = classify(model, z, None).argmax(-1) == asked.repeat(n)
    return [float(x) for x in right.view(n, -1).double().mean(-1)]


def round_trips(
    model: AffectDiff, valid: Mapping[str, Tensor], target: Tensor, draw: np.random.Generator
) -> dict[str, Any]:
    """Noise the means of some items of every class to each depth and come back under three labels."""
    order, steps = draw.permutation(len(target)), model.config.diffusion_steps
    if model.shape.task.kind == "single_label":
        known = target.cpu().numpy()[order]
        order = np.concatenate([order[known == c][:PER_CLASS] for c in range(model.shape.task.outputs)])
    rows = torch.from_numpy(order[: PER_CLASS * model.shape.task.outputs]).to(target.device)
    y, mu = target[rows], valid["mu"][rows].clamp(-Z_BOUND, Z_BOUND)
    seen = valid["seen"][rows] if "seen" in valid else None
    other, depths = other_labels(model, y, draw), [max(1, round(d * steps)) for d in DEPTHS]
    copies = len(DEPTHS) * 3

    def every(x: Tensor) -> Tensor:
        return x.repeat(copies, *[1] * (x.ndim - 1))  # depth by depth, label by label

    labels = torch.cat([model.labels(y, mu), no_label(model, y, mu), model.labels(other, mu)]).repeat(len(DEPTHS), 1)
    told, shown, unet = every(valid["strengths"][rows]), None if seen is None else every(seen), sampler(model)
    times = torch.tensor([[round(d * (1 - i / STEPS)) for i in range(STEPS)] for d in depths])
    times = times.repeat_interleave(3 * len(y), 0).to(y.device)
    x = _shown(every(mu.transpose(-1, -2)), shown)
    eps = every(_normals(draw, mu.transpose(-1, -2)))
    noisy = diffusion.noised(x, eps, *diffusion.rates(model.bars, times[:, 0], x))
    z = _shown(back(lambda v, t: unet(_shown(v, shown), t, labels, told), noisy, times, model.bars), shown)
    logits = classify(model, z, shown)
    drift = ((z - x).square().sum((-1, -2)) / x.square().sum((-1, -2)).clamp(min=1e-12)).sqrt()
    kept, obeyed = (agreement(model, logits, every(v)) for v in (y, other))
    return {
        "depth": depths,
        "drift": drift.view(len(DEPTHS), 3, -1).mean(-1).tolist(),
        "kept": kept.view(len(DEPTHS), 3, -1).mean(-1).tolist(),
        "obeyed": obeyed.view(len(DEPTHS), 3, -1)[:, 2].mean(-1).tolist(),
    }


def back(denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor, bars: Tensor) -> Tensor:
    """Return the data that DDIM comes to from x (n, d, L) at times[:, 0] over the falling times (n, K)."""
    for i in range(times.shape[1]):
        t = times[:, i]
        x0, eps = diffusion.estimates("eps", denoise(x, t), x, *diffusion.rates(bars, t, x), X0_BOUND)
        then = bars[times[:, i + 1]] if i + 1 < times.shape[1] else torch.ones_like(bars[t])
        x = diffusion.ddim_step(x0, eps, bars[t].view(-1, 1, 1), then.view(-1, 1, 1))
    return x


def sampler(model: AffectDiff) -> Denoise:
    """Return the network that the model samples with."""
    denoise: Denoise = model.unet if model.config.ema_decay is None else model.average
    return denoise


def classify(model: AffectDiff, x: Tensor, seen: Tensor | None) -> Tensor:
    """Return the classifier's logits of latents x (n, d, L)."""
    z = x.transpose(-1, -2).clamp(-Z_BOUND, Z_BOUND)
    return model.classify(model.pool(z, seen), Tape(z, training=False))


def agreement(model: AffectDiff, logits: Tensor, y: Tensor) -> Tensor:
    """Return (n,): whether the decision is the class, or the share of labels decided right."""
    if model.shape.task.kind == "single_label":
        return (logits.argmax(-1) == y).double()
    return ((logits > 0) == (y > 0.5)).double().mean(-1)


def other_labels(model: AffectDiff, y: Tensor, draw: np.random.Generator) -> Tensor:
    """Return another class for every item, evenly drawn, or another item's labels."""
    classes = model.shape.task.outputs
    if model.shape.task.kind == "single_label":
        return (y + torch.from_numpy(draw.integers(1, classes, len(y))).to(y)) % classes
    return y.roll(1, 0)


def no_label(model: AffectDiff, y: Tensor, like: Tensor) -> Tensor:
    """Return the label weights (n, C + 1) of a hidden label."""
    return model.labels(y, like, torch.ones_like(like[:, 0, 0]) > 0)


def levels(n: int, steps: int, draw: np.random.Generator) -> Tensor:
    """Return n times that are spread evenly over 0..steps-1, in random order."""
    return torch.from_numpy(draw.permutation(((np.arange(n) + 0.5) / n * steps).astype(np.int64)))


def _shown(x: Tensor, seen: Tensor | None) -> Tensor:
    """x (n, d, L) with the steps that do not count set to 0, as in training."""
    return x if seen is None else x * seen.unsqueeze(-2).to(x.dtype)


def _normals(draw: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(draw.standard_normal(tuple(like.shape))).to(like)
