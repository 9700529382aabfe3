"""DiCMoR: a missing stream from one at hand, by its flow and back by the missing one's [wang2023distribution].

| symbol | name | shape |
|---|---|---|
| X_m | `streams[m]`, after a convolution along time | (B, T_m, d) |
| F_m | `flows[m]`, invertible, step by step: z = F_m(x), log abs(det dz/dx) | |
| mu_c, sigma_c | `priors`, a normal of z for each class c, shared by all modalities | (K, d) |
| X^_m | `recovered[m]` = R_m(F_m^-1(F_j(X_j))), of several j by a 1x1 convolution | (B, T_m, d) |

Samples of one class have one distribution of z whatever the modality, so that what F_m^-1 makes of another modality's z
is distributed as m is. Streams at hand and recovered ones then meet in MulT's fusion and one residual head. Classes:
a regression's targets rounded, held within `limit`; a single label; of several labels all that are true, or none. They
serve in training alone.

    loss = task + 0.1 (sum over m of -log2 p(X_m | c) per step and feature + mean square of R_m's error)

What is missing is read from `batch.observed`; in training targets are `batch.complete()`, and a batch that remembers
nothing has modalities hidden by the model. Neither recovery loss reaches more than its own networks: the likelihood the
flows and priors, the error R_m and the 1x1 convolutions; the task's loss passes R_m, not the flows.
Step t of a missing stream is made of step t of those at hand, which asks for aligned data; beyond their end it is zero.

Differences from the published code (mdswyz/DiCMoR, commit 3d7e617), each with its switch, off in `clean`:
1. `mixing`: the code's flows hold a scale and shift and a 1x1 convolution in every step, as Glow has, and call neither.
   A coupling leaves the first half of the features as it is, so all 32 do: half of every recovered stream is another
   modality's, unchanged, before R_m. Clean calls them.
2. `floored`: a negative loss of likelihood counts as zero, and flows and priors rest from then on: for a normal
   of deviation .24 or less.
3. `padded`, `same_length`, `future_mask`, `skip_zero`: padding is read, the extractor's convolution drops the kernel's
   margin, the fusion looks ahead no further than |S - T| steps, steps whose first feature is 0 have no position.
4. `extractor`: never trained, loaded from a model of complete data; clean trains it by the task's loss.
5. `noisy_targets`: drop-out of the text's features reaches targets and likelihood.
6. `hide_by_batch`: one draw of the missing modalities for all samples of a batch (the code: as many batches lack one or
   two as a table says).
7. `unread`: 137,792 parameters that nothing reads: those of 1, a prior in each flow, the weights of the priors'
   convolutions of zeros, three layers.
At the MOSI shape the code and `author` have 3,524,817 parameters, `unread` included. On the same weights, with any
modalities missing and without drop-out, they differ in the prediction by at most 9e-8 and in the gradients of the whole
loss by 7e-8 (float64; the code's positions are float32), in likelihood and reconstruction error by rounding. Columns of
a pair's convolution follow the order of the modalities, the code's for text are (vision, audio).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch, Task
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.models.rohydr import Head
from affectcore.nn.crossmodal import Fusion, FusionSettings
from affectcore.nn.hiding import hide_each
from affectcore.nn.losses import as_prediction
from affectcore.nn.recovery import Reconstructor, SubsetCondition, convolve, fit, hidden


@dataclass(frozen=True)
class Config:
    width: int = 32  # d, even; code: 32 (MOSI), 64 (MOSEI)
    kernel: int = 5  # of the extractor along time; code: 5
    same_length: bool = True  # difference 3
    padded: bool = False  # difference 3
    extractor: Literal["frozen", "trained"] = "trained"  # difference 4
    text_dropout: float = 0.5  # of text features; code: 0.5 (MOSI), 0.2 (MOSEI)
    noisy_targets: bool = False  # difference 5
    hide: float = 0.5  # in [0, 1], share of a training batch that the model hides, if the batch remembers nothing
    hide_by_batch: bool = False  # difference 6
    couplings: int = 32  # of a flow; code: 32
    coupling_width: int = 64  # code: 64
    mixing: bool = True  # difference 1
    floored: bool = False  # difference 2
    limit: int = 3  # a regression's classes are -limit..limit; code: 3
    reconstructor_blocks: int = 20  # code: 20
    reduction: int = 16  # code: 16
    heads: int = 8  # code: 8
    layers: int = 4  # code: 4 (MOSI), 6 (MOSEI)
    memory_layers: int = 4  # code: the larger of 3 and `layers`
    positions: bool = True  # code: yes
    future_mask: bool = False  # difference 3
    skip_zero: bool = False  # difference 3
    embed_dropout: float = 0.2  # code: 0.2 (MOSI), 0 (MOSEI)
    attention_dropout: float = 0.3  # to text and other modalities, and to oneself; code: 0.3 (MOSI), 0.2 (MOSEI)
    attention_dropout_audio: float = 0.2  # code: 0.2 (MOSI), 0 (MOSEI)
    attention_dropout_vision: float = 0.0  # code: 0
    output_dropout: float = 0.5  # code: 0.5 (MOSI), 0.2 (MOSEI)
    recovery_weight: float = 0.1  # of both recovery losses; code: 0.1
    unread: bool = False  # difference 7


@dataclass(frozen=True)
class DiCMoROutput(Output):
    """available, hidden, (B, M) bool: at hand; not at hand and with a target. truth[m]: targets (B, T_m, d), in
    training; recovered[m]: stream that replaces a missing m."""

    available: Tensor
    hidden: Tensor
    recovered: tuple[Tensor, ...]
    truth: tuple[Tensor, ...] = ()


class Coupling(nn.Module):
    """Half of the features scaled and shifted by what a network says of the other half, (..., d).

    mixing: first all features are scaled and shifted, then turned by a square matrix.
    """

    def __init__(self, features: int, width: int, mixing: bool) -> None:
        super().__init__()
        if mixing:
            self.log_scale, self.shift = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.zeros(features))
            self.turn = nn.Parameter(nn.init.orthogonal_(torch.empty(features, features)))
        self.first, self.second = nn.Linear(features // 2, width), nn.Linear(width, width)
        self.last, self.gain = nn.Linear(width, features), nn.Parameter(torch.zeros(features))
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.05)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.mixing = mixing

    def _rates(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return log of the scale, below 0, and shift of the other half."""
        h = F.relu(self.second(F.relu(self.first(kept))))
        raw, shift = (self.last(h) * torch.exp(3 * self.gain)).chunk(2, -1)
        return F.logsigmoid(raw + 2), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log abs(det dy/dx), (...)."""
        fixed = torch.zeros_like(x[..., 0])
        if self.mixing:
            x = (self.log_scale.exp() * (x + self.shift)) @ self.turn.mT
            fixed = fixed + self.log_scale.sum() + torch.linalg.slogdet(self.turn)[1]
        kept, moved = x.chunk(2, -1)
        log_scale, shift = self._rates(kept)
        return torch.cat([kept, (moved + shift) * log_scale.exp()], -1), fixed + log_scale.sum(-1)

    def inverse(self, y: Tensor) -> Tensor:
        kept, moved = y.chunk(2, -1)
        log_scale, shift = self._rates(kept)
        x = torch.cat([kept, moved * (-log_scale).exp() - shift], -1)
        if self.mixing:
            x = (x @ torch.linalg.inv(self.turn).mT) * (-self.log_scale).exp() - self.shift
        return x


class Flow(nn.Module):
    def __init__(self, features: int, width: int, couplings: int, mixing: bool) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(features, width, mixing) for _ in range(couplings))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (..., d) and log abs(det dz/dx), (...)."""
        total = torch.zeros_like(x[..., 0])
        for coupling in self.couplings:
            x, more = coupling(x)
            total = total + more
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        for coupling in reversed(cast(list[Coupling], list(self.couplings))):
            z = coupling.inverse(z)
        return z


class DiCMoR(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        _check(config, shape)
        names, w, k = shape.modalities, config.width, config.kernel
        n, classes = len(names), _classes(config, shape.task)
        margin = k // 2 if config.same_length else 0
        self.project = nn.ModuleList(nn.Conv1d(size, w, k, padding=margin, bias=False) for size in shape.dims.values())
        self.flows = nn.ModuleList(Flow(w, config.coupling_width, config.couplings, config.mixing) for _ in names)
        self.priors, self.gains = (nn.Parameter(torch.zeros(classes, 2 * w)) for _ in range(2))
        self.subsets = SubsetCondition(n, w, range(n))
        blocks, reduction = config.reconstructor_blocks, config.reduction
        self.reconstructors = nn.ModuleList(Reconstructor(w, blocks, reduction) for _ in names)
        rates = {"audio": config.attention_dropout_audio, "vision": config.attention_dropout_vision}
        p = config.attention_dropout
        attention = tuple(rates.get(m, p) for m in names)
        settings = FusionSettings(
            w, config.heads, config.layers, config.memory_layers, config.embed_dropout, attention, p, 0.0, 0.0,
            config.positions, config.future_mask, config.skip_zero,
        )  # fmt: skip
        self.fusion = Fusion(n, settings)
        self.head = Head(self.fusion.features, shape.task.outputs, config.output_dropout)
        if config.unread:
            flow, wide = config.couplings * (w * w + 2 * w) + 2 * w * w + 4 * w, (n - 1) * w
            self.spare = nn.Parameter(torch.zeros(n * (flow + wide * wide + wide) + classes * 2 * w * w))

    def _extract(self, batch: Batch, noise: Noise | None) -> list[Tensor]:
        """Return all streams; without noise, no drop-out."""
        out = []
        for conv, m in zip(self.project, self.shape.modalities):
            mask = None if self.config.padded else batch.observed[m]
            x = hidden(batch.features[m], mask)
            if m == "text" and noise is not None:
                x = noise.dropout(x, self.config.text_dropout)
            x = convolve(conv, x, mask)
            out.append(x.detach() if self.config.extractor == "frozen" else x)
        return out

    def forward(self, batch: Batch, noise: Noise) -> DiCMoROutput:
        config, names, full = self.config, self.shape.modalities, batch.complete()
        there = torch.stack([full.observed[m].any(-1) for m in names], -1)
        available = torch.stack([batch.observed[m].any(-1) for m in names], -1)
        own = noise.training and not batch.remembers
        if own:
            u = noise.uniform(1 if config.hide_by_batch else len(there), len(names)).expand(there.shape)
            available = hide_each(there, u, config.hide)
        streams = self._extract(batch, noise)
        seen = [None if config.padded else batch.observed[m] for m in names]
        exist = [None if config.padded else batch.valid(m) for m in names]
        recovered = self._recover(streams, seen, exist, available)
        mixed, masks = [], []
        for i, x in enumerate(streams):
            here, mask, other = available[..., i, None], seen[i], exist[i]
            mixed.append(torch.where(here.unsqueeze(-1), x, recovered[i]))
            masks.append(None if mask is None or other is None else torch.where(here, mask, other))
        h = self.fusion(mixed, masks, noise)
        truth: list[Tensor] = []
        if noise.training:
            truth = (
                streams
                if own and config.noisy_targets
                else self._extract(full, noise if config.noisy_targets else None)
            )
        return DiCMoROutput(
            as_prediction(self.shape.task, self.head(h, noise)), available, there & ~available, tuple(recovered),
            tuple(x.detach() for x in truth), representation=h,
        )  # fmt: skip

    def _recover(
        self, streams: list[Tensor], seen: list[Tensor | None], exist: list[Tensor | None], available: Tensor
    ) -> list[Tensor]:
        flows = cast(list[Flow], list(self.flows))
        with torch.no_grad():
            z = [flow(x.detach())[0] for flow, x in zip(flows, streams)]
        out = []
        for i, x in enumerate(streams):
            with torch.no_grad():  # all sources at once
                taken = flows[i].inverse(torch.cat(z, -2)).split([v.shape[-2] for v in z], -2)
                back = [hidden(v, mask) for v, mask in zip(taken, seen)]
            one, _ = self.subsets(back, seen, available, i)
            out.append(self.reconstructors[i](hidden(fit(one, x.shape[-2]), exist[i]), exist[i]))
        return out

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, names, full = cast(DiCMoROutput, output), self.shape.modalities, batch.complete()
        masks = [full.observed[m] for m in names]
        if self.config.padded:
            masks = [torch.ones_like(x[..., 0], dtype=torch.bool) for x in o.truth]
        terms, memo = super().losses(output, batch, progress)
        terms = dict(terms)
        shares = memberships(self.config, self.shape.task, batch.target, self.priors)
        there = [full.observed[m].any(-1, keepdim=True) for m in names]
        bits = [self._bits(i, x, masks[i] & there[i], shares) for i, x in enumerate(o.truth)]
        terms["likelihood"] = torch.stack(bits).sum()
        errors = [
            hidden((r - x).square(), m).sum((-2, -1)) / (m.sum(-1).clamp(min=1) * x.shape[-1])
            for r, x, m in zip(o.recovered, o.truth, masks)
        ]
        gone = o.hidden.to(errors[0].dtype)
        terms["reconstruction"] = (torch.stack(errors, -1) * gone).sum() / gone.sum().clamp(min=1)
        return terms, memo

    def _bits(self, i: int, x: Tensor, mask: Tensor, shares: Tensor) -> Tensor:
        """Mean over the mask's steps and the features of -log2 p(x | class), x (B, T, d) of modality i, a scalar."""
        z, log_det = self.flows[i](hidden(x, mask))
        mean, log_sd = (self.priors * torch.exp(3 * self.gains)).chunk(2, -1)  # (K, d)
        error = (z.unsqueeze(-2) - mean) * (-log_sd).exp()  # (B, T, K, d)
        by_class = (-0.5 * error.square() - log_sd - 0.5 * math.log(2 * math.pi)).sum(-1)
        log_p = log_det + (by_class * shares.unsqueeze(-2)).sum(-1)
        there = mask.to(x.dtype)
        bits = -(log_p * there).sum() / (math.log(2) * x.shape[-1] * there.sum().clamp(min=1))
        return bits.clamp(min=0) if self.config.floored else bits

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return dict.fromkeys(("likelihood", "reconstruction"), self.config.recovery_weight)


def _classes(config: Config, task: Task) -> int:
    return {"regression": 2 * config.limit + 1, "single_label": task.outputs}.get(task.kind, task.outputs + 1)


def memberships(config: Config, task: Task, target: Tensor, like: Tensor) -> Tensor:
    """Return (B, K), in which share a sample belongs to each class; of multi_label the last is that of no label.

    like: anything of K rows and the type of the result.
    """
    if task.kind == "multi_label":
        labels = target.to(like.dtype)
        rows = torch.cat([labels, (labels.sum(-1, keepdim=True) == 0).to(like.dtype)], -1)
        return rows / rows.sum(-1, keepdim=True)
    place = target.round().clamp(-config.limit, config.limit) + config.limit if task.kind == "regression" else target
    return (place.unsqueeze(-1) == torch.arange(len(like), device=target.device)).to(like.dtype)


def _check(config: Config, shape: Shape) -> None:
    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"dicmor: {rule}")

    names = shape.modalities
    need(len(names) >= 2, f"needs two modalities or more, got {', '.join(names)} alone")
    need(config.extractor in ("frozen", "trained"), f"extractor {config.extractor!r} must be frozen or trained")
    need(config.width % 2 == 0, f"width {config.width} must be even: a coupling halves the features")
    need(0 <= config.hide <= 1, f"hide {config.hide} must lie in [0, 1]")
    need(config.limit >= 1, f"limit {config.limit} must be 1 or more")
    need(config.same_length or config.padded, "same_length False cuts steps: it needs padded True")
    need(not config.same_length or config.kernel % 2 == 1, f"kernel {config.kernel} must be odd to keep the length")
    short = [m for m in names if not config.same_length and shape.steps[m] < config.kernel]
    need(not short, f"{short} have fewer steps than the kernel {config.kernel}; set same_length")


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    same_length=False,
    padded=True,
    extractor="frozen",
    noisy_targets=True,
    hide_by_batch=True,
    mixing=False,
    floored=True,
    future_mask=True,
    skip_zero=True,
    unread=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
