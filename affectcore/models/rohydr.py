"""RoHyDR: a missing stream is drawn by diffusion from those at hand, its fusion repaired adversarially [rohydr].

| symbol | name | shape |
|---|---|---|
| X_m | `features[m]` | (B, T_m, D_m) |
| x_gt | `truth[m]`, the extractor's view of what was there before anything was hidden | (B, T_m, d) |
| X_avail | `streams[m]` of the modalities at hand | (B, T_m, d) |
| HDDM | `denoisers`, noise in a missing stream given those at hand | |
| x^ | `samples[m]`, drawn by the reverse process | (B, T_m, d) |
| UR | `reconstructors` | |
| x_rec | `recovered[m]` = UR(x^) | (B, T_m, d) |
| f_gt, f_rec | `fused_truth`, `fused`: one fusion of x_gt, and of x_rec with X_avail | (B, M (M - 1) d) |
| MR | `mrec` (the paper's MR is also the missing rate) | |
| f~_rec | `rebuilt` = MR(f_rec) where something is missing, f_rec elsewhere | (B, M (M - 1) d) |
| D, C | `discriminator`, `head` | |

Any number of modalities of two or more. What is missing is read from `batch.observed` alone; in training the targets
are `batch.complete()`, what was there before a protocol hid it (`EachStep` keeps it). Without that memory the model
hides modalities of a training batch itself (`hide`), as the published code does. A modality that was never there has no
target: no loss asks for it.

Losses (weights in `weights`), means over the samples from which something with a target was hidden:
    diffusion       |eps - eps^|^2 of every hidden stream       reconstruction  |UR(x^) - x_gt|^2
    discriminator   -log D(f_gt) - log(1 - D(fake))             adversarial     -log D(f~_rec)
    fusion          |f_gt - f~_rec|_1            truth, recovered: task loss of C(f_gt), C(f~_rec)

Differences between `clean` and the public code of 29 May 2025 (`author_may`) and 20 December 2025 (`author_dec`), each
with its switch; the body of the paper could not be read, so the code stands for it (no `paper` preset):
 1. `denoiser`: May a score U-Net, December a transformer without attention to X_avail; clean the latter with it,
    which takes any set of modalities ("set").
 2. `process`, `sampler`: May a variance-exploding SDE and Euler-Maruyama; December DDPM training and DDIM.
 3. `sampling_schedule`: the last revision of December samples t = 49..0 of a schedule of 50 steps with a network
    trained on 1000; None, the repair, uses the schedule of training. `clip`: its samplers bound x_0 by 1.
 4. `condition_noise`: May adds the target's own noise to the condition in training, fresh noise in sampling.
 5. `summed`: May sums the squared error over features and steps. `standardise`: clean scales streams for the diffusion.
 6. `backprop`: December's later losses reach the denoisers through all steps of the sampler.
 7. `fake`: the code shows D the fusion before MR, Fig. 2 after it. `free_discriminator`: the main optimiser moves D
    too. `truth_moves`: f_gt is not detached in the fusion loss. `tanh`: of MR's output.
 8. `redrawn`: each stage hides other modalities; `reuse`: which stages share samples.
 9. `extractor`: the code never trains it; Fig. 2 in every stage; clean in the first share `pretraining` of the steps by
    `truth` alone. The authors load a checkpoint instead: load its tensors into `project`.
10. `noisy_targets`: text drop-out reaches the targets. `padded`: padding is read; `same_length`: convolutions keep it.
11. `positions`, `future_mask` of the fusion: off and on in the code; on and off in clean, where padding is hidden.
12. `draws`: the code draws once at test; clean starts every test sample from one fixed noise, so that a sample's
    prediction depends neither on chance nor on its company; n > 0 averages predictions over n draws.
Without a switch: stages 2a and 2b of the code share one forward pass; here their samples alone are shared, drop-out is
drawn twice. One mask may differ from sample to sample, so all denoisers run on all samples unless `recoverable` names
those that can be needed; columns of a pair's convolution follow the order of the modalities (the code: vision, audio).
On the same weights and start noise, with whole modalities missing, the codes' evaluation and these presets differ in
the prediction by at most 5e-8 (May, float64; the code's schedule is float32) and 3e-7 (December, float32), in f_rec by
3e-7 and 2e-6; both have the same parameters, 13,076,866 and 4,176,034 at the MOSI shape.
What saves time and changes no value: attention without drop-out is one kernel that takes the masks with it, conditions
are read once for all steps of a sampler, a target's own stream is no token of "set", and D's pass keeps no graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.nn import diffusion as d
from affectcore.nn.crossmodal import Fusion, FusionSettings
from affectcore.nn.gradients import gradnorm, pcgrad
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.normalisation import BatchNorm
from affectcore.nn.pooling import hide
from affectcore.nn.recovery import DiT, Reconstructor, ScoreUNet, SubsetCondition, convolve, fit, hidden

GROUPS = {
    "generator": ("diffusion", "reconstruction"),
    "rebuilding": ("adversarial", "fusion"),
    "classifier": ("truth", "recovered"),
}
CARRY = "carry."


@dataclass(frozen=True)
class Config:
    # streams
    width: int = 32  # d; code: 32
    kernel: int = 3  # of the extractor along time; code: 3
    same_length: bool = True  # difference 10
    padded: bool = False  # difference 10
    text_dropout: float = 0.2  # of text features before the extractor; code: 0.5
    noisy_targets: bool = False  # difference 10
    extractor: Literal["frozen", "pretrained", "trained"] = "pretrained"  # difference 9
    pretraining: float = 0.3  # share of the steps, in [0, 1], of extractor "pretrained"; code: a run of its own
    # what the model hides of a training batch that remembers nothing
    hide: float = 0.5  # probability of each modality, in [0, 1], at least one kept
    hide_by_batch: bool = False  # one draw for all samples; code: yes
    redrawn: bool = False  # difference 8
    recoverable: tuple[str, ...] = ()  # modalities that may be missing; () = all
    # recovery of streams
    recovery: Literal["diffusion", "regressor", "noise", "mean", "zero"] = "diffusion"  # what x^ is
    denoiser: Literal["unet", "dit", "set"] = "set"  # difference 1
    denoiser_width: int = 64  # of "dit" and "set"; code, December: 64
    denoiser_depth: int = 6  # code, December: 6
    denoiser_heads: int = 4  # a head of 16 features; code: 8 (May), 16 (December)
    denoiser_groups: int = 32  # of the U-Net's norms; code: 32
    shared_denoiser: bool = False  # "set": one network for all targets
    condition: Literal["available", "none", "shuffled"] = "available"  # controls: nothing, another sample's
    condition_noise: Literal["none", "shared", "independent"] = "none"  # difference 4
    process: Literal["preserving", "exploding"] = "preserving"  # difference 2
    diffusion_steps: int = 1000  # T of training; code, December: 1000
    sampling_schedule: int | None = None  # difference 3: steps of the sampler's own schedule; code, December: 50
    sampler: Literal["ddpm", "ddim", "euler", "dpm"] = "ddim"  # difference 2
    sampling_steps: int = 20  # in training; code: 100 (May), 50 (December)
    sampling_steps_test: int = 50  # code: 100, 50
    spacing: Literal["leading", "trailing", "linspace"] = "trailing"  # code, December: leading
    direct: bool = False  # x^ in training is the estimate of x_0 of the diffusion loss: no sampler
    clip: float | None = None  # difference 3; code, December: 1
    backprop: int = 0  # difference 6: last steps of the sampler that pass gradients
    summed: bool = False  # difference 5
    standardise: bool = True  # difference 5
    draws: int = 0  # difference 12: at test, 0 = the fixed noise
    reconstructor: bool = True  # UR
    reconstructor_blocks: int = 20  # code: 20
    reduction: int = 16  # of channel attention; code: 16
    # fusion
    heads: int = 8  # code: 8
    layers: int = 4  # code: 4 (MOSI), 6 (MOSEI)
    memory_layers: int = 4  # code: the larger of 3 and `layers`
    positions: bool = True  # difference 11
    future_mask: bool = False  # difference 11
    skip_zero: bool = False  # a step whose first feature is 0 has no position; not in the code, which has none
    embed_dropout: float = 0.2  # code: 0.5
    attention_dropout: float = 0.0  # code: 0.5
    relu_dropout: float = 0.0  # code: 0.5
    residual_dropout: float = 0.0  # code: 0.5
    # recovery of the fusion, and the head
    mrec: bool = True
    mrec_hidden: tuple[int, int] = (80, 96)  # code: (80, 96) (MOSI), (128, 64) (MOSEI)
    mrec_dropout: float = 0.4  # code: 0.4 (MOSI), 0.2 (MOSEI)
    tanh: bool = False  # difference 7
    discriminator_hidden: tuple[int, int] = (128, 64)  # code: (128, 64) (MOSI), (80, 32) (MOSEI)
    fake: Literal["rebuilt", "fused"] = "rebuilt"  # difference 7
    free_discriminator: bool = False  # difference 7
    truth_moves: bool = False  # difference 7
    output_dropout: float = 0.2  # of the head's residual block; code: 0.5
    # optimisation
    stages: Literal["three", "two_a", "two_b", "one", "fused"] = "three"  # (S1+S2), (S2+S3) joined; one pass for all
    reuse: Literal["all", "rebuilding", "none"] = "all"  # difference 8: stages that take the samples of an earlier one
    shared_optimizer: bool = False  # one optimiser for all stages but D's; code: yes
    weighting: Literal["fixed", "uncertainty", "dwa", "gradnorm", "pcgrad"] = "fixed"  # of the three groups of losses
    dwa_temperature: float = 2.0  # Liu et al. (2019): 2
    gradnorm_alpha: float = 1.5  # Chen et al. (2018): 0.5, 1.5
    gradnorm_rate: float = 0.025  # step of its weights
    reconstruction_weight: float = 1.0  # lambda_g; code: 1
    adversarial_weight: float = 0.5  # lambda_al in [0, 1]; code, MOSI: 0.5
    recovered_weight: float = 0.4  # lambda_c in [0, 1]; code, MOSI: 0.4
    discriminator_weight: float = 0.1  # code: 0.1


@dataclass(frozen=True)
class RoHyDROutput(Output):
    """What a pass computed; only the fields that were asked for.

    available, missing, hidden, (B, M) bool: at hand; not at hand; not at hand and with a target. recovered[m]: stream
    that replaces a missing m, () if nothing is recovered. samples[m]: x^ as carried between stages, standardised.
    """

    available: Tensor
    missing: Tensor
    hidden: Tensor
    samples: tuple[Tensor, ...] = ()
    recovered: tuple[Tensor, ...] = ()
    truth: tuple[Tensor, ...] = ()
    fused: Tensor | None = None
    rebuilt: Tensor | None = None
    fused_truth: Tensor | None = None
    truth_prediction: Tensor | None = None
    diffusion: Tensor | None = None
    fake: Tensor | None = None
    memo: Mapping[str, Tensor] = field(default_factory=dict)


class MRec(nn.Module):
    """Two hidden layers with batch normalisation; returns its statistics too."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        a, b = config.mrec_hidden
        self.first, self.second, self.last = nn.Linear(features, a), nn.Linear(a, b), nn.Linear(b, features)
        self.norm, self.p, self.tanh = BatchNorm(b), config.mrec_dropout, config.tanh

    def forward(self, x: Tensor, noise: Noise, rows: Tensor) -> tuple[Tensor, Tensor]:
        h = F.leaky_relu(noise.dropout(self.first(x), self.p), 0.2)
        h, statistics = self.norm(noise.dropout(self.second(h), self.p), noise.training, rows)
        y = self.last(F.leaky_relu(h, 0.2))
        return (y.tanh() if self.tanh else y), statistics


class Discriminator(nn.Module):
    """Logit that a fused vector is of complete data, (B,), and batch statistics."""

    def __init__(self, features: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        a, b = hidden
        self.norm = BatchNorm(features)
        self.layers = nn.ModuleList([nn.Linear(features, a), nn.Linear(a, b), nn.Linear(b, 1)])

    def forward(self, x: Tensor, training: bool, rows: Tensor) -> tuple[Tensor, Tensor]:
        h, statistics = self.norm(x, training, rows)
        first, second, last = self.layers
        return last(torch.tanh(second(F.leaky_relu(first(h), 0.2)))).squeeze(-1), statistics

    def frozen(self, x: Tensor, training: bool, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` without gradient to the weights."""
        fixed = {k: v.detach() for k, v in self.named_parameters()}
        out: tuple[Tensor, Tensor] = functional_call(self, fixed, (x, training, rows))
        return out


class Head(nn.Module):
    """A residual block and a linear layer."""

    def __init__(self, features: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, features), nn.Linear(features, features)
        self.last, self.p = nn.Linear(features, outputs), dropout

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        out: Tensor = self.last(x + self.second(noise.dropout(F.relu(self.first(x)), self.p)))
        return out


class RoHyDR(AffectModel):
    bars: Tensor
    sampling_bars: Tensor
    center: Tensor
    spread: Tensor
    open: Tensor
    sums: Tensor
    last: Tensor
    before: Tensor
    count: Tensor
    epoch: Tensor
    group_weights: Tensor
    first_losses: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        _check(config, shape)
        names, n, w, k = shape.modalities, len(shape.modalities), config.width, config.kernel
        self.names, self.targets = names, [i for i, m in enumerate(names) if m in (config.recoverable or names)]
        cut = 0 if config.same_length else k - 1
        self.steps = [shape.steps[m] - cut for m in names]
        margin = k // 2 if config.same_length else 0
        self.project = nn.ModuleList(nn.Conv1d(size, w, k, padding=margin, bias=False) for size in shape.dims.values())
        if config.recovery in ("diffusion", "regressor"):
            self._build_denoisers(config, n)
        if config.recovery != "zero":
            for i in self.targets:  # x_T of the test
                self.register_buffer(f"start_{i}", torch.randn(self.steps[i], w))
            if config.reconstructor:
                make = lambda: Reconstructor(w, config.reconstructor_blocks, config.reduction)  # noqa: E731
                self.reconstructors = nn.ModuleList(make() for _ in self.targets)
        if config.standardise:
            self.register_buffer("center", torch.zeros(n, w))
            self.register_buffer("spread", torch.ones(n, w))
        if config.extractor == "pretrained":
            self.register_buffer("open", torch.ones(()))
        self.fusion = Fusion(n, fusion_settings(config, n))
        features = self.fusion.features
        self.adversarial = config.mrec and config.adversarial_weight > 0
        if config.mrec:
            self.mrec = MRec(features, config)
        if self.adversarial:
            self.discriminator = Discriminator(features, config.discriminator_hidden)
        self.head = Head(features, shape.task.outputs, config.output_dropout)
        if config.weighting == "uncertainty":
            self.log_variances = nn.Parameter(torch.zeros(3))
        if config.weighting == "dwa":
            for name in ("sums", "last", "before"):
                self.register_buffer(name, torch.zeros(3))
            for name in ("count", "epoch"):
                self.register_buffer(name, torch.zeros(()))
        if config.weighting == "gradnorm":
            self.register_buffer("group_weights", torch.ones(3))
            self.register_buffer("first_losses", torch.zeros(3))

    def _build_denoisers(self, config: Config, n: int) -> None:
        w, longest = config.width, max(self.steps)
        width, depth, heads = config.denoiser_width, config.denoiser_depth, config.denoiser_heads
        if config.denoiser == "unet":
            causal, groups, skip_zero = config.future_mask, config.denoiser_groups, config.skip_zero
            unet = lambda: ScoreUNet(w, heads, causal=causal, groups=groups, skip_zero=skip_zero)  # noqa: E731
            nets: list[nn.Module] = [unet() for _ in self.targets]
        elif config.denoiser == "dit":
            nets = [DiT(w, self.steps[i], width, depth, heads, n, False) for i in self.targets]
        elif config.shared_denoiser:
            nets = [DiT(w, longest, width, depth, heads, n, True)]
        else:
            nets = [DiT(w, self.steps[i], width, depth, heads, n, True) for i in self.targets]
        self.denoisers = nn.ModuleList(nets)
        if config.denoiser != "set":
            self.subsets = SubsetCondition(n, w, self.targets)
        bars = d.alpha_bars(d.linear_betas(config.diffusion_steps))
        if config.process == "exploding":
            t = torch.arange(1, config.diffusion_steps + 1, dtype=torch.float64) / config.diffusion_steps
            bars = 1 / (1 + d.exploding_sigma(t) ** 2)
        self.register_buffer("bars", bars.to(torch.get_default_dtype()), persistent=False)
        own = config.sampling_schedule
        other = bars if own is None else d.alpha_bars(d.linear_betas(own))
        self.register_buffer("sampling_bars", other.to(torch.get_default_dtype()), persistent=False)

    # --- streams

    def _extract(self, i: int, features: Mapping[str, Tensor], observed: Mapping[str, Tensor], noise: Noise,
                 dropped: bool) -> Tensor:  # fmt: skip
        config, m = self.config, self.names[i]
        x, mask = features[m], None if config.padded else observed[m]
        x = hidden(x, mask)
        if m == "text" and dropped:
            x = noise.dropout(x, config.text_dropout)
        x = convolve(self.project[i], x, mask)
        if config.extractor == "frozen":
            return x.detach()
        return x

    def _gate(self, x: Tensor) -> Tensor:
        """Let the gradient of `truth` through to the extractor while it is open."""
        return x.detach() + self.open * (x - x.detach()) if self.config.extractor == "pretrained" else x

    def _fixed(self, x: Tensor) -> Tensor:
        return x if self.config.extractor == "trained" else x.detach()

    def _hide(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return available and hidden, (B, M) bool."""
        config, full = self.config, batch.complete()
        there = torch.stack([full.observed[m].any(-1) for m in self.names], -1)
        available = torch.stack([batch.observed[m].any(-1) for m in self.names], -1)
        if CARRY + "available" in batch.extras:
            available = batch.extras[CARRY + "available"] > 0
        elif noise.training and (not batch.remembers or config.redrawn):
            b, n = available.shape
            u = noise.uniform(1, n).expand(b, n) if config.hide_by_batch else noise.uniform(b, n)
            may = torch.tensor([i in self.targets for i in range(n)], device=u.device)
            u = torch.where(there, torch.where(may, u, u + 4), u - 4)  # what was never there is the first to be hidden
            rank = u.argsort(-1).argsort(-1)
            if batch.remembers:
                available = rank >= n - available.sum(-1, keepdim=True)
            else:
                available = (u >= config.hide) | (rank == n - 1)
            available = available & there
        return available, there & ~available

    # --- recovery of streams

    def _scaled(self, i: int, x: Tensor, mask: Tensor | None) -> Tensor:
        if not self.config.standardise:
            return x
        return hidden((x - self.center[i]) / self.spread[i], mask)

    def _unscaled(self, i: int, x: Tensor, mask: Tensor | None) -> Tensor:
        return hidden(x * self.spread[i] + self.center[i] if self.config.standardise else x, mask)

    def _net(self, p: int) -> Any:
        return self.denoisers[0 if self.config.shared_denoiser else p]

    def _context(self, p: int, streams: list[Tensor], masks: list[Tensor | None], available: Tensor,
                 noised: Any = None) -> Any:  # fmt: skip
        """What the denoiser of target number p reads; `noised` changes the one condition of "unet" and "dit"."""
        config, i = self.config, self.targets[p]
        if config.condition == "shuffled":
            streams, available = [x.roll(1, 0) for x in streams], available.roll(1, 0)
            masks = [None if m is None else m.roll(1, 0) for m in masks]
        elif config.condition == "none":
            streams, available = [torch.zeros_like(x) for x in streams], torch.zeros_like(available)
        if config.denoiser == "set":
            at_hand = torch.cat([available[:, :i], torch.zeros_like(available[:, :1]), available[:, i + 1 :]], -1)
            seen = [at_hand[:, j, None].expand(x.shape[:2]) for j, x in enumerate(streams)]
            seen = [s if m is None else s & m for s, m in zip(seen, masks)]
            return self._net(p).context([hide(x, s) for x, s in zip(streams, seen)], seen, self.steps[i], i)
        c, mask = self.subsets(streams, masks, available, i)
        if noised is not None:
            c = hidden(noised(c), mask)
        return self._net(p).context([c], [mask], self.steps[i])

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at times t (B,) of the exploding process, in [0, 1], shaped (B, 1, 1)."""
        return torch.ones_like(t).view(-1, 1, 1), d.exploding_sigma(t).view(-1, 1, 1)

    def _denoising_loss(
        self, p: int, y: Tensor, mask: Tensor | None, streams: list[Tensor], masks: list[Tensor | None],
        available: Tensor, noise: Noise,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return the loss per sample (B,) of target y (B, T, d), standardised, and the estimate of y."""
        config, b = self.config, len(y)
        if config.recovery == "regressor":
            t = torch.zeros_like(y[:, 0, 0])
            x0 = self._net(p)(torch.zeros_like(y), t, self._context(p, streams, masks, available), mask)
            return _squared(x0 - y, mask, config.summed), x0
        u, eps = noise.uniform(b), noise.normal(*y.shape)
        if config.process == "exploding":
            t = u * (1 - 1e-5) + 1e-5
            alpha, sigma = self._levels(t)
            t = t * 1000
        else:
            step = (u * config.diffusion_steps).long()
            alpha, sigma = d.rates(self.bars, step, y)
            t = step.to(y.dtype)
        x = d.noised(y, eps, alpha, sigma)

        def add(c: Tensor) -> Tensor:
            z = fit(eps, c.shape[1]) if config.condition_noise == "shared" else noise.normal(*c.shape)
            return d.noised(c, z, alpha, sigma)

        context = self._context(p, streams, masks, available, None if config.condition_noise == "none" else add)
        said = self._net(p)(x, t, context, mask)
        return _squared(said - eps, mask, config.summed), d.estimates("eps", said, x, alpha, sigma)[0]

    def _sample(
        self, p: int, mask: Tensor | None, streams: list[Tensor], masks: list[Tensor | None], available: Tensor,
        noise: Noise, fixed: bool,
    ) -> Tensor:  # fmt: skip
        """Return x^ (B, T, d), standardised. fixed: from the fixed noise, and none on the way."""
        config, i, b = self.config, self.targets[p], len(streams[0])
        shape = (b, streams[i].shape[1], config.width)
        if fixed:
            start = fit(getattr(self, f"start_{i}").unsqueeze(0), shape[1]).expand(shape)
        elif config.recovery in ("diffusion", "noise"):
            start = noise.normal(*shape)
        if config.recovery == "noise":
            return start
        if config.recovery == "mean":
            return torch.zeros(shape, dtype=streams[0].dtype, device=streams[0].device)
        net = self._net(p)
        if config.recovery == "regressor":
            zero = torch.zeros_like(streams[i])
            x0: Tensor = net(zero, zero[:, 0, 0], self._context(p, streams, masks, available), mask)
            return x0
        n = config.sampling_steps if noise.training else config.sampling_steps_test

        def normals() -> Tensor:
            return start.new_zeros(n, *shape) if fixed else noise.normal(n, *shape)

        kept = None if config.condition_noise != "none" else self._context(p, streams, masks, available)
        calls = [0]

        def say(x: Tensor, t: float, alpha: Any, sigma: Any) -> Tensor:
            def add(c: Tensor) -> Tensor:
                return c * alpha if fixed else d.noised(c, noise.normal(*c.shape), alpha, sigma)

            calls[0] += 1
            with torch.set_grad_enabled(torch.is_grad_enabled() and calls[0] > n - config.backprop):
                context = kept if kept is not None else self._context(p, streams, masks, available, add)
                out: Tensor = net(x, torch.full_like(x[:, 0, 0], t), context, mask)
            return out if calls[0] > n - config.backprop else out.detach()

        if config.process == "exploding" and config.sampler == "euler":

            def score(x: Tensor, t: float) -> Tensor:
                sigma = d.exploding_sigma(x.new_tensor(t))
                return -say(x, 1000 * t, 1.0, sigma) / sigma

            x = d.euler_maruyama(start * d.exploding_sigma(start.new_tensor(1.0)), score, n, normals())
            return x if config.backprop else x.detach()

        bars = self.sampling_bars

        def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            alpha, sigma = bars[t].sqrt(), (1 - bars[t]).sqrt()
            if config.process == "exploding":  # the network knows x / alpha
                said = say(x / alpha, (t + 1) * 1000 / config.diffusion_steps, 1.0, sigma / alpha)
            else:
                said = say(x, float(t), alpha, sigma)
            return d.estimates("eps", said, x, alpha, sigma, config.clip)

        times = d.spacing(len(bars), n, config.spacing)
        if config.sampler == "ddim":
            x = d.ddim(start, denoise, bars, times)
        elif config.sampler == "dpm":
            x = d.dpm_solver(start, denoise, bars, times)
        else:
            run = d.ddpm if config.sampler == "ddpm" else d.euler_maruyama_preserving
            x = run(start, denoise, bars, times, normals())
        return x if config.backprop else x.detach()

    # --- one pass

    def forward(self, batch: Batch, noise: Noise) -> RoHyDROutput:
        if noise.training:
            return self._pass(batch, noise, ("diffusion", "reconstruction", "rebuilding", "classification"))
        config = self.config
        draws = [self._pass(batch, noise, ("prediction",)) for _ in range(max(config.draws, 1))]
        mean = torch.stack([o.prediction for o in draws]).mean(0)
        return replace(draws[0], prediction=mean)

    def _pass(self, batch: Batch, noise: Noise, wanted: Sequence[str]) -> RoHyDROutput:
        """wanted: of diffusion (its loss), reconstruction (x_rec), rebuilding (f_gt, f~_rec), classification (both
        predictions), prediction (of f~_rec alone)."""
        config, n = self.config, len(self.names)
        available, gone = self._hide(batch, noise)
        full = batch.complete() if noise.training else batch
        shown = full if noise.training and (config.redrawn or not batch.remembers) else batch
        memo: dict[str, Tensor] = {}
        seen = [None if config.padded else shown.observed[m] for m in self.names]
        there = [None if config.padded else full.observed[m] for m in self.names]
        exist = [None if config.padded else batch.valid(m) for m in self.names]
        raw = [self._extract(i, shown.features, shown.observed, noise, True) for i in range(n)]
        truth = raw
        if noise.training and not config.noisy_targets:
            truth = [self._extract(i, full.features, full.observed, noise, False) for i in range(n)]
        at_hand = [self._fixed(x) for x in raw]
        y = [self._fixed(x) for x in truth]
        if config.standardise and noise.training:
            memo |= self._statistics(y, there, full)
        streams = [self._scaled(i, x, seen[i]) for i, x in enumerate(at_hand)]

        losses, samples = [], []
        train_nets = "diffusion" in wanted and config.recovery in ("diffusion", "regressor")
        for p, i in enumerate(self.targets if config.recovery != "zero" else []):
            carried = batch.extras.get(f"{CARRY}sample.{self.names[i]}")
            estimate = None
            if train_nets:
                target = self._scaled(i, y[i], there[i])
                loss, estimate = self._denoising_loss(p, target, there[i], streams, seen, available, noise)
                losses.append(_mean_over(loss, gone[..., i]))
            if carried is not None:
                samples.append(carried)
            elif estimate is not None and (config.direct or config.recovery == "regressor"):
                samples.append(estimate if config.backprop else estimate.detach())
            else:
                fixed = not noise.training and config.draws == 0
                samples.append(self._sample(p, exist[i], streams, seen, available, noise, fixed))
        recovered = []
        if wanted != ("diffusion",):
            for p, i in enumerate(self.targets if config.recovery != "zero" else []):
                x = self._unscaled(i, samples[p], exist[i])
                recovered.append(self.reconstructors[p](x, exist[i]) if config.reconstructor else x)
        out = RoHyDROutput(
            prediction=available, available=available, missing=~available, hidden=gone, samples=tuple(samples),
            recovered=tuple(recovered), truth=tuple(y), memo=memo,
            diffusion=torch.stack(losses).sum() if losses else None,
        )  # fmt: skip
        if not {"rebuilding", "classification", "prediction", "judging"} & set(wanted):
            return out
        mixed: list[Tensor] = []
        masks: list[Tensor | None] = []
        for i in range(n):
            here, mask, there_too = available[..., i, None], seen[i], exist[i]
            found = recovered[self.targets.index(i)] if i in self.targets and recovered else None
            other = torch.zeros_like(at_hand[i]) if found is None else found
            mixed.append(torch.where(here.unsqueeze(-1), at_hand[i], other))
            if mask is None or there_too is None:
                masks.append(None)
            else:
                masks.append(torch.where(here, mask, torch.zeros_like(mask) if found is None else there_too))
        fused = self.fusion(mixed, masks, noise)
        some = (~available).any(-1)
        rebuilt = fused
        if config.mrec and wanted != ("judging",):
            again, statistics = self.mrec(fused, noise, some)
            rebuilt = torch.where(some.unsqueeze(-1), again, fused)
            memo |= {"norm.mrec": statistics} if noise.training else {}
        elif config.mrec and config.fake == "rebuilt":
            again, statistics = self.mrec(fused, noise, some)
            rebuilt = torch.where(some.unsqueeze(-1), again, fused)
        out = replace(out, fused=fused, rebuilt=rebuilt, memo=memo)
        if {"rebuilding", "classification", "judging"} & set(wanted):
            open_streams = [self._gate(x) for x in truth] if "classification" in wanted else y
            out = replace(out, fused_truth=self.fusion(open_streams, there, noise))
        if {"classification", "prediction"} & set(wanted):
            task = self.shape.task
            out = replace(out, prediction=as_prediction(task, self.head(rebuilt, noise)))
            if "classification" in wanted:
                said = as_prediction(task, self.head(cast(Tensor, out.fused_truth), noise))
                out = replace(out, truth_prediction=said)
        return replace(out, fake=rebuilt if config.fake == "rebuilt" else fused)

    def _statistics(self, y: list[Tensor], masks: list[Tensor | None], full: Batch) -> dict[str, Tensor]:
        """Running mean and deviation of each stream's channels; a modality nobody has keeps its own."""
        center, spread = [], []
        for i, x in enumerate(y):
            mask = masks[i]
            w = torch.ones_like(x[..., :1]) if mask is None else mask.unsqueeze(-1).to(x.dtype)
            count = w.sum()
            mean = (x * w).sum((0, 1)) / count.clamp(min=1)
            dev = (((x - mean) * w).square().sum((0, 1)) / count.clamp(min=1) + 1e-6).sqrt()
            center.append(torch.where(count > 1, mean, self.center[i]))
            spread.append(torch.where(count > 1, dev, self.spread[i]))
        return {"center": torch.stack(center).detach(), "spread": torch.stack(spread).detach()}

    # --- losses

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o = cast(RoHyDROutput, output)
        terms, memo = self._terms(o, batch, ("generator", "discriminator", "rebuilding", "classifier"))
        return self._weighted(terms, {**o.memo, **memo, **self._pretraining(progress)}, progress)

    def _pretraining(self, progress: Progress) -> dict[str, Tensor]:
        if self.config.extractor != "pretrained":
            return {}
        done = (progress.step + 1) / max(progress.steps, 1)
        return {"open": torch.zeros_like(self.open) + 1.0 * (done < self.config.pretraining)}

    def _terms(
        self, o: RoHyDROutput, batch: Batch, groups: Sequence[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        config = self.config
        rows, training = o.hidden.any(-1), True
        terms: dict[str, Tensor] = {}
        memo: dict[str, Tensor] = {}
        if "generator" in groups:
            if o.diffusion is not None:
                terms["diffusion"] = o.diffusion
            if config.recovery != "zero" and config.reconstructor:
                parts = []
                for p, i in enumerate(self.targets):
                    m = self.names[i]
                    mask = None if config.padded else batch.complete().observed[m]
                    error = _squared(o.recovered[p] - o.truth[i], mask)
                    parts.append(_mean_over(error, o.hidden[..., i]))
                terms["reconstruction"] = torch.stack(parts).sum()
        if "discriminator" in groups and self.adversarial:
            real, s1 = self.discriminator(cast(Tensor, o.fused_truth).detach(), training, rows)
            fake, s2 = self.discriminator(cast(Tensor, o.fake).detach(), training, rows)
            terms["discriminator"] = _mean_over(F.softplus(-real) + F.softplus(fake), rows)
            memo |= {"norm.discriminator": s1, "norm.discriminator_fake": s2}
        if "rebuilding" in groups and config.mrec:
            if self.adversarial:
                judge = self.discriminator if config.free_discriminator else self.discriminator.frozen
                said, statistics = judge(cast(Tensor, o.rebuilt), training, rows)
                terms["adversarial"] = _mean_over(F.softplus(-said), rows)
                memo["norm.discriminator_rebuilt"] = statistics
            if config.adversarial_weight < 1:
                aim = cast(Tensor, o.fused_truth)
                aim = aim if config.truth_moves else aim.detach()
                terms["fusion"] = _mean_over((aim - cast(Tensor, o.rebuilt)).abs().mean(-1), rows)
        if "classifier" in groups:
            task = self.shape.task
            terms["truth"] = task_loss(task, cast(Tensor, o.truth_prediction), batch.target)
            terms["recovered"] = task_loss(task, o.prediction, batch.target)
        return terms, memo

    def weights(self, progress: Progress) -> Mapping[str, float]:
        config = self.config
        if config.weighting != "fixed":
            return {}
        return self._fixed_weights(progress)

    def _fixed_weights(self, progress: Progress) -> dict[str, float]:
        config = self.config
        g, a, c = config.reconstruction_weight, config.adversarial_weight, config.recovered_weight
        late = 1.0
        if config.extractor == "pretrained":  # before: the complete-data model alone
            late = 1.0 * ((progress.step + 1) / max(progress.steps, 1) >= config.pretraining)
        out = {"truth": 1 - c * late, "recovered": c * late}
        if config.recovery in ("diffusion", "regressor"):
            out["diffusion"] = late / (1 + g)
        if config.recovery != "zero" and config.reconstructor:
            out["reconstruction"] = late * g / (1 + g)
        if config.mrec:
            if self.adversarial:
                out["discriminator"], out["adversarial"] = late * config.discriminator_weight, late * a
            if a < 1:
                out["fusion"] = late * (1 - a)
        return out

    def _weighted(
        self, terms: dict[str, Tensor], memo: dict[str, Tensor], progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        """The terms, or with a weighting by group: the three groups' losses, scaled, beside D's."""
        config = self.config
        if config.weighting == "fixed":
            return terms, memo
        fixed = self._fixed_weights(progress)
        out, sums = {}, []
        for group, members in GROUPS.items():
            parts = [fixed[k] * terms[k] for k in members if k in terms]
            sums.append(torch.stack(parts).sum() if parts else torch.zeros_like(terms["truth"]))
            out[group] = sums[-1]
        loss = torch.stack(sums)
        if config.weighting == "uncertainty":
            for i, group in enumerate(GROUPS):
                out[group] = torch.exp(-self.log_variances[i]) * loss[i] + 0.5 * self.log_variances[i]
        elif config.weighting == "dwa":
            ratio = torch.where(self.before > 0, self.last / self.before.clamp(min=1e-12), torch.ones_like(self.last))
            scale = 3 * (ratio / config.dwa_temperature).softmax(-1)
            out = {group: scale[i] * loss[i] for i, group in enumerate(GROUPS)}
            memo["dwa.losses"] = loss.detach()
            memo["dwa.epoch"] = torch.zeros_like(self.epoch) + progress.epoch
        elif config.weighting == "gradnorm":
            out = {group: self.group_weights[i] * loss[i] for i, group in enumerate(GROUPS)}
            memo["gradnorm.losses"] = loss.detach()
        if "discriminator" in terms:
            out["discriminator"] = fixed["discriminator"] * terms["discriminator"]
        return out, memo

    # --- stages

    def _reached(self) -> dict[str, tuple[str, ...]]:
        """The parts that each group's losses move, by name prefix."""
        config = self.config
        held = {n.partition(".")[0] for n, _ in self.named_parameters()}
        recover = [p for p in ("denoisers", "subsets", "reconstructors") if p in held]
        through = recover if config.backprop else [p for p in ("reconstructors",) if p in recover]
        extractor = ["project"] if config.extractor == "trained" else []
        mrec = ["mrec"] if config.mrec else []
        free = ["discriminator"] if config.free_discriminator and self.adversarial else []
        own = ["project"] if config.extractor == "pretrained" else extractor
        return {
            "generator": (*recover, *extractor),
            "rebuilding": (*mrec, "fusion", *through, *free, *extractor),
            "classifier": ("head", "fusion", *mrec, *through, *own),
        }

    def stages(self) -> tuple[Stage, ...]:
        config, reached = self.config, self._reached()
        if config.stages == "fused":
            return (Stage("fused", separate=config.weighting in ("gradnorm", "pcgrad")),)
        joined: dict[str, tuple[tuple[str, ...], ...]] = {
            "three": (("generator",), ("rebuilding",), ("classifier",)),
            "two_a": (("generator",), ("rebuilding", "classifier")),
            "two_b": (("generator", "rebuilding"), ("classifier",)),
            "one": (("generator", "rebuilding", "classifier"),),
        }
        plan: list[tuple[str, ...]] = []  # stages by their groups; D's comes before that of the rebuilding
        for groups in joined[config.stages]:
            kept = tuple(g for g in groups if reached[g] and (g != "rebuilding" or config.mrec))
            if "rebuilding" in kept and self.adversarial:
                plan.append(("discriminator",))
            if kept:
                plan.append(kept)
        samples = [f"{CARRY}sample.{self.names[i]}" for i in self.targets] if config.recovery != "zero" else []
        out = []
        for i, groups in enumerate(plan):
            first = i == 0 if config.reuse == "all" else config.reuse == "rebuilding" and groups == ("discriminator",)
            hands = (CARRY + "available", *samples) if first and i < len(plan) - 1 else ()
            if groups == ("discriminator",):
                out.append(Stage("discriminator", ("discriminator",), hands=hands))
                continue
            parts = tuple(dict.fromkeys(p for g in groups for p in reached[g]))
            if config.weighting == "uncertainty":
                parts = (*parts, "log_variances")
            shared = "main" if config.shared_optimizer else ""
            separate = config.weighting in ("gradnorm", "pcgrad")
            out.append(Stage("+".join(groups), parts, optimizer=shared, hands=hands, separate=separate))
        return tuple(out)

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        if stage.name == "fused":
            return super().stage_losses(stage, batch, noise, progress)
        config, groups = self.config, tuple(stage.name.split("+"))
        if config.reuse == "rebuilding" and "rebuilding" not in groups:
            batch = replace(batch, extras={k: v for k, v in batch.extras.items() if not k.startswith(CARRY)})
        wanted = {
            "generator": ("diffusion", "reconstruction"),
            "discriminator": ("judging",),
            "rebuilding": ("rebuilding",),
            "classifier": ("classification",),
        }
        with torch.set_grad_enabled(torch.is_grad_enabled() and groups != ("discriminator",)):  # it reads values alone
            o = self._pass(batch, noise, tuple(w for g in groups for w in wanted[g]))
        terms, memo = self._terms(o, batch, groups)
        terms, memo = dict(terms), {**o.memo, **memo, **self._pretraining(progress)}
        if config.weighting != "fixed" and groups != ("discriminator",):
            terms, memo = cast(Any, self._weighted(terms, memo, progress))
        elif config.weighting != "fixed":
            terms = {k: self._fixed_weights(progress)[k] * v for k, v in terms.items()}
        if stage.hands:
            memo[CARRY + "available"] = o.available.to(o.truth[0].dtype)
            memo |= {f"{CARRY}sample.{self.names[i]}": x.detach() for i, x in zip(self.targets, o.samples)}
        return terms, memo

    def combine(
        self, stage: Stage, gradients: Mapping[str, Mapping[str, Tensor]], memo: Memo
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        grads = [dict(gradients[g]) for g in GROUPS if g in gradients]
        more: dict[str, Tensor] = {}
        if self.config.weighting == "pcgrad":
            total = pcgrad(grads)
        else:
            total = {n: sum(g[n] for g in grads) for n in grads[0]}  # type: ignore[misc]
            shared = [n for n in total if n.startswith("reconstructors.") or n.startswith("fusion.")]
            norms = torch.stack([torch.stack([g[n].square().sum() for n in shared]).sum().sqrt() for g in grads])
            more["gradnorm.norms"] = norms / self.group_weights.clamp(min=1e-6)
        if "discriminator" in gradients:
            total = {n: v + gradients["discriminator"][n] for n, v in total.items()}
        return total, more

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        if "norm.mrec" in memo:
            self.mrec.norm.remember(memo["norm.mrec"])
        for k in ("norm.discriminator", "norm.discriminator_fake", "norm.discriminator_rebuilt"):
            if k in memo:
                self.discriminator.norm.remember(memo[k])
        for k in ("center", "spread"):
            if k in memo:
                buffer = getattr(self, k)
                buffer.mul_(0.9).add_(memo[k], alpha=0.1)
        if "open" in memo:
            self.open.copy_(memo["open"])
        if "dwa.losses" in memo:
            self._remember_dwa(memo["dwa.losses"], memo["dwa.epoch"])
        if "gradnorm.norms" in memo:
            losses, norms = memo["gradnorm.losses"], memo["gradnorm.norms"]
            first = torch.where(self.first_losses > 0, self.first_losses, losses)
            self.first_losses.copy_(first)
            self.group_weights.copy_(
                gradnorm(self.group_weights, norms, losses / first.clamp(min=1e-12), self.config.gradnorm_alpha,
                         self.config.gradnorm_rate)
            )  # fmt: skip

    def _remember_dwa(self, losses: Tensor, epoch: Tensor) -> None:
        """Mean losses of the last two epochs, taken over when the epoch's number changes."""
        turned = epoch > self.epoch
        mean = self.sums / self.count.clamp(min=1)
        self.before.copy_(torch.where(turned, self.last, self.before))
        self.last.copy_(torch.where(turned, mean, self.last))
        self.sums.copy_(torch.where(turned, losses, self.sums + losses))
        self.count.copy_(torch.where(turned, torch.ones_like(self.count), self.count + 1))
        self.epoch.copy_(epoch)


def fusion_settings(config: Config, modalities: int) -> FusionSettings:
    p = config.attention_dropout
    return FusionSettings(
        config.width, config.heads, config.layers, config.memory_layers, config.embed_dropout, (p,) * modalities, p,
        config.relu_dropout, config.residual_dropout, config.positions, config.future_mask, config.skip_zero,
    )  # fmt: skip


def _mean_over(x: Tensor, rows: Tensor) -> Tensor:
    """Mean of x (B,) over the True of rows, 0 where there is none."""
    return (x * rows.to(x.dtype)).sum() / rows.sum().clamp(min=1)


def _squared(e: Tensor, mask: Tensor | None, summed: bool = False) -> Tensor:
    """Sum or mean of the squares of e (B, T, d) over features and the steps of the mask, (B,)."""
    total = hidden(e.square(), mask).sum((-2, -1))
    if summed:
        return total
    return total / (e.shape[-1] * (e.shape[-2] if mask is None else mask.sum(-1).clamp(min=1).to(e.dtype)))


def _check(config: Config, shape: Shape) -> None:
    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"rohydr: {rule}")

    for name, hint in get_type_hints(Config).items():
        if get_origin(hint) is Literal:
            value, known = getattr(config, name), get_args(hint)
            need(value in known, f"{name} {value!r} must be one of {', '.join(known)}")
    names = shape.modalities
    need(len(names) >= 2, f"needs two modalities or more, got {', '.join(names)} alone")
    unknown = [m for m in config.recoverable if m not in names]
    need(not unknown, f"recoverable {unknown} must be modalities of the data: {', '.join(names)}")
    for name in ("hide", "pretraining", "adversarial_weight", "recovered_weight"):
        need(0 <= getattr(config, name) <= 1, f"{name} {getattr(config, name)} must lie in [0, 1]")
    need(config.same_length or config.padded, "same_length False cuts steps: it needs padded True")
    need(not config.same_length or config.kernel % 2 == 1, f"kernel {config.kernel} must be odd to keep the length")
    short = [m for m in names if not config.same_length and shape.steps[m] < config.kernel]
    need(not short, f"{short} have fewer steps than the kernel {config.kernel}; set same_length")
    own = config.sampling_schedule
    need(own is None or config.process == "preserving", "sampling_schedule needs process 'preserving'")
    for name in ("sampling_steps", "sampling_steps_test"):
        n, most = getattr(config, name), own or config.diffusion_steps
        need(1 <= n <= most, f"{name} {n} must lie in 1..{most}, the steps of the sampler's schedule")
    need(config.condition_noise == "none" or config.denoiser != "set", "condition_noise needs denoiser 'unet' or 'dit'")
    need(not config.shared_denoiser or config.denoiser == "set", "shared_denoiser needs denoiser 'set'")
    need(config.denoiser != "set" or not config.padded, "denoiser 'set' hides padding: it needs padded False")
    need(not config.standardise or config.clip is None or config.clip > 0, f"clip {config.clip} must be positive")
    single = config.stages in ("one", "fused")
    need(config.weighting == "fixed" or single, f"weighting {config.weighting!r} needs stages 'one' or 'fused'")
    need(config.recovery != "mean" or config.standardise, "recovery 'mean' needs standardise")


CLEAN = Config()
MAY = replace(
    CLEAN,
    same_length=False,
    padded=True,
    text_dropout=0.5,
    noisy_targets=True,
    extractor="frozen",
    hide_by_batch=True,
    redrawn=True,
    denoiser="unet",
    denoiser_heads=8,
    condition_noise="shared",
    process="exploding",
    sampler="euler",
    sampling_steps=100,
    sampling_steps_test=100,
    summed=True,
    standardise=False,
    draws=1,
    positions=False,
    future_mask=True,
    embed_dropout=0.5,
    attention_dropout=0.5,
    relu_dropout=0.5,
    residual_dropout=0.5,
    tanh=True,
    fake="fused",
    free_discriminator=True,
    truth_moves=True,
    output_dropout=0.5,
    reuse="rebuilding",
    shared_optimizer=True,
)
DECEMBER = replace(
    MAY,
    denoiser="dit",
    denoiser_heads=16,
    condition_noise="none",
    process="preserving",
    sampling_schedule=50,
    sampler="ddim",
    sampling_steps=50,
    sampling_steps_test=50,
    spacing="leading",
    clip=1.0,
    backprop=50,
    reuse="none",
    summed=False,
)
PRESETS = {"clean": CLEAN, "author_may": MAY, "author_dec": DECEMBER}
