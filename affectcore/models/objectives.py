"""Objectives over any backbone: what is made small when the data come from several environments, or none is known.

    registry.build("vrex", shape, environments=3, backbone="mlp")

| symbol | name | shape |
|---|---|---|
| e(i) in 0 .. K-1 | `batch.environment` | (B,) |
| l_i, f_i | loss and prediction of a sample | (B,), (B,) or (B, C) |
| z_i | `representation(output)`: what the model's head reads, else its prediction | (B, H) |
| R_e = mean of l_i with e(i) = e | risk | (K,) |
| g_i = d l_i(w f_i) / dw at w = 1 | `slopes`, in closed form | (B,) |

Means over e run over the environments that the batch holds, each weighing the same whatever its size.

| name | what is made small |
|---|---|
| erm | mean l_i, or mean_e R_e (`environments` > 0) [vapnik1998statistical] |
| irm | mean_e R_e + w mean_e G_e², G_e the mean of g_i in e: IRMv1 [arjovsky2019invariant] |
| vrex | mean_e R_e + w var_e R_e [krueger2021out] |
| ib_irm | irm + v mean_e mean_h var_{i in e} z_ih [ahuja2021invariance] |
| groupdro | sum_e q_e R_e, q_e <- q_e exp(eta R_e) / sum [sagawa2020distributionally] |
| coral | mean_e R_e + w mean over pairs of ‖cov_e z - cov_e' z‖² (and of the means) [sun2016deep] |
| eiil | ERM for a share of training; then irm on two groups by that model, frozen [creager2021environment] |
| mixup | l at s x_i + (1 - s) x_j and the targets mixed alike, s ~ Beta(alpha, alpha) [zhang2018mixup] |
| rdrop | mean of two passes with other drop-out + alpha / 2 of their mean two-way KL [liang2021rdrop] |

`clean` has the forms and default weights of DomainBed (facebookresearch/DomainBed, read at commit 026d588), against
whose formulas the tests check; `paper` the form of the paper where it differs:
1. irm, ib_irm, `halves`: the square of G_e is estimated without bias, as the product of its means over two halves of
   the environment's samples. `paper`: the square of the batch's mean.
2. coral, `means`: the distance of the means is added, and squares are averaged over all H² entries. `paper`:
   covariances alone, divided by 4 H².
Differences from DomainBed: its minibatches hold equally many samples of each environment, ours are drawn from all; its
annealing counts 500 of 5000 steps, ours is that share of training (`anneal`); it starts Adam anew when the weight
jumps, we do not. An environment of one sample adds no variance and no product of halves.
eiil: the published code learns sample weights by 10,000 gradient steps that maximise the sum of the soft environments'
squared slopes. That sum is convex in the weights, and its maximum is known: the samples with g_i > 0 against the
others. So it is computed, batch by batch. The published code starts the second phase from new weights, ours goes on.
mixup mixes what is observed, step by step; a step is observed if it is in either sample. Beta is drawn from 4096
equally likely quantiles. A regression's and a label set's targets are mixed, a class's losses are.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.models.wrapper import Quiet, Wrapper, WrapperConfig
from affectcore.nn.average import frozen_copy
from affectcore.nn.losses import sample_loss, two_way_kl

Terms = dict[str, Tensor]


def representation(output: Output) -> Tensor:
    """Return (B, H): what the head reads where the model says it, else the prediction."""
    z = output.prediction if output.representation is None else output.representation
    return z if z.ndim > 1 else z.unsqueeze(-1)


def one_hot(environment: Tensor | None, count: int, like: Tensor, label: str) -> Tensor:
    """Return (B, K) membership. An environment beyond 0 .. K-1 makes every loss NaN, which stops a run."""
    if environment is None:
        raise ConfigError(f"{label}: the data name no environments (`environment`)")
    hot = (environment.unsqueeze(-1) == torch.arange(count, device=environment.device)).to(like.dtype)
    return torch.where(hot.sum(-1, keepdim=True) > 0, hot, torch.nan)


def over_present(values: Tensor, present: Tensor) -> Tensor:
    """Return the mean of (K,) values where present, 0 if nowhere."""
    return torch.where(present, values, 0).sum() / present.sum().clamp(min=1)


def risks(loss: Tensor, hot: Tensor) -> tuple[Tensor, Tensor]:
    """Return (K,) mean losses by environment (0 where there is no sample) and (K,) bool presence."""
    n = hot.sum(0)
    return (loss @ hot) / n.clamp(min=1), n != 0  # NaN of a wrong environment stays


def slopes(kind: str, f: Tensor, y: Tensor) -> Tensor:
    """Return (B,): the derivative at w = 1 of a sample's task loss at the prediction w f."""
    if kind == "regression":
        return torch.sign(f - y) * f
    if kind == "single_label":
        return (f.softmax(-1) * f).sum(-1) - f.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return ((torch.sigmoid(f) - y) * f).mean(-1)


def irm_penalty(g: Tensor, hot: Tensor, halves: bool) -> Tensor:
    """Return the mean over environments of the squared mean slope, or of the product of two halves' means."""
    if not halves:
        mean, present = risks(g, hot)
        return over_present(mean.square(), present)
    even = 1 - (hot.cumsum(0) - hot) % 2  # (B, K): every other sample of its environment
    (one, _), (two, present) = risks(g, hot * even), risks(g, hot * (1 - even))
    return over_present(one * two, present)


def moments(z: Tensor, hot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means (K, H), unbiased covariances (K, H, H) of (B, H), and whether an environment has two samples."""
    n = hot.sum(0)
    mean = (hot.mT @ z) / n.clamp(min=1).unsqueeze(-1)
    away = (z - mean.unsqueeze(-2)) * hot.mT.unsqueeze(-1)  # (K, B, H)
    return mean, away.mT @ away / (n - 1).clamp(min=1).view(-1, 1, 1), n > 1


def coral_penalty(z: Tensor, hot: Tensor, means: bool) -> Tensor:
    """Return the mean distance of covariances (and means) over pairs of environments with two samples or more."""
    mean, cov, enough = moments(z, hot)
    first, second = torch.triu_indices(len(enough), len(enough), 1, device=z.device)
    distance = (cov[first] - cov[second]).square().mean((-2, -1))
    distance = distance + (mean[first] - mean[second]).square().mean(-1) if means else distance / 4
    return over_present(distance, enough[first] & enough[second])


# --- several environments ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ERMConfig(WrapperConfig):
    environments: int = 0  # 0: all samples weigh the same; K: every environment does


@dataclass(frozen=True)
class EnvironmentConfig(WrapperConfig):
    environments: int = 2  # K, numbered from 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.environments < 1:
            raise ConfigError(f"environments = {self.environments} must be a whole number >= 1")


@dataclass(frozen=True)
class PenaltyConfig(EnvironmentConfig):
    weight: float = 1.0  # of the penalty after `anneal`
    before: float = 1.0  # and before
    anneal: float = 0.1  # share of training; DomainBed: 500 of 5000 steps


class Objective(Wrapper):
    """Replaces the task's loss by the mean of the environments' risks; `penalty` is added where a subclass has one."""

    def replaced(self, output: Output, batch: Batch, progress: Progress) -> tuple[Terms, Terms]:
        c = self.config
        hot = one_hot(batch.environment, c.environments, output.prediction, self.label)
        loss = sample_loss(self.shape.task, output.prediction, batch.target)
        each, present = risks(loss, hot)
        return {c.term: over_present(each, present), **self.penalty(output, batch, hot, each, present)}, {}

    def penalty(self, output: Output, batch: Batch, hot: Tensor, each: Tensor, present: Tensor) -> Terms:
        return {}

    def weights(self, progress: Progress) -> dict[str, float]:
        return {**super().weights(progress), **self.own_weights(progress)}

    def own_weights(self, progress: Progress) -> dict[str, float]:
        c = self.config
        if not self.added:
            return {}
        return dict.fromkeys(self.added, c.before + (c.weight - c.before) * (progress.fraction >= c.anneal))


class ERM(Objective):
    Config: ClassVar = ERMConfig
    PRESETS: ClassVar = {"clean": ERMConfig()}

    def replaced(self, output: Output, batch: Batch, progress: Progress) -> tuple[Terms, Terms]:
        return super().replaced(output, batch, progress) if self.config.environments else ({}, {})


@dataclass(frozen=True)
class IRMConfig(PenaltyConfig):
    weight: float = 100.0  # DomainBed: 100
    halves: bool = True  # difference 1


class IRM(Objective):
    Config: ClassVar = IRMConfig
    PRESETS: ClassVar = {"clean": IRMConfig(), "paper": IRMConfig(halves=False)}
    added: ClassVar[tuple[str, ...]] = ("irm",)

    def penalty(self, output: Output, batch: Batch, hot: Tensor, each: Tensor, present: Tensor) -> Terms:
        g = slopes(self.shape.task.kind, output.prediction, batch.target)
        return {"irm": irm_penalty(g, hot, self.config.halves)}


@dataclass(frozen=True)
class VRExConfig(PenaltyConfig):
    weight: float = 10.0  # DomainBed: 10


class VREx(Objective):
    Config: ClassVar = VRExConfig
    PRESETS: ClassVar = {"clean": VRExConfig()}
    added: ClassVar[tuple[str, ...]] = ("variance",)

    def penalty(self, output: Output, batch: Batch, hot: Tensor, each: Tensor, present: Tensor) -> Terms:
        return {"variance": over_present((each - over_present(each, present)).square(), present)}


@dataclass(frozen=True)
class IBIRMConfig(IRMConfig):
    bottleneck: float = 100.0  # weight of the variance after `anneal`, 0 before; DomainBed: 100


class IBIRM(IRM):
    Config: ClassVar = IBIRMConfig
    PRESETS: ClassVar = {"clean": IBIRMConfig(), "paper": IBIRMConfig(halves=False)}
    added: ClassVar[tuple[str, ...]] = ("irm", "bottleneck")

    def penalty(self, output: Output, batch: Batch, hot: Tensor, each: Tensor, present: Tensor) -> Terms:
        mean, _, enough = moments(z := representation(output), hot)
        squares = ((z - hot @ mean).square().mean(-1) @ hot) / (hot.sum(0) - 1).clamp(min=1)
        return {**super().penalty(output, batch, hot, each, present), "bottleneck": over_present(squares, enough)}

    def own_weights(self, progress: Progress) -> dict[str, float]:
        c = self.config
        return {**super().own_weights(progress), "bottleneck": c.bottleneck * (progress.fraction >= c.anneal)}


@dataclass(frozen=True)
class GroupDROConfig(EnvironmentConfig):
    eta: float = 0.01  # rate of the weights of environments, > 0; DomainBed and the paper: 0.01


class GroupDRO(Objective):
    q: Tensor
    Config: ClassVar = GroupDROConfig
    PRESETS: ClassVar = {"clean": GroupDROConfig()}

    def __init__(self, config: GroupDROConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.register_buffer("q", torch.full((config.environments,), 1 / config.environments))

    def replaced(self, output: Output, batch: Batch, progress: Progress) -> tuple[Terms, Terms]:
        hot = one_hot(batch.environment, self.config.environments, output.prediction, self.label)
        each, _ = risks(sample_loss(self.shape.task, output.prediction, batch.target), hot)
        grown = self.q * (self.config.eta * each.detach()).exp()  # an absent environment's risk is 0
        q = grown / grown.sum()
        return {self.config.term: (q * each).sum()}, {"groupdro.q": q}

    def remember(self, memo: Memo) -> None:
        if "groupdro.q" in memo:
            self.q.copy_(memo["groupdro.q"])
        self.backbone.remember({k: v for k, v in memo.items() if k != "groupdro.q"})


@dataclass(frozen=True)
class CORALConfig(PenaltyConfig):
    means: bool = True  # difference 2


class CORAL(Objective):
    Config: ClassVar = CORALConfig
    PRESETS: ClassVar = {"clean": CORALConfig(), "paper": CORALConfig(means=False)}
    added: ClassVar[tuple[str, ...]] = ("coral",)

    def penalty(self, output: Output, batch: Batch, hot: Tensor, each: Tensor, present: Tensor) -> Terms:
        return {"coral": coral_penalty(representation(output), hot, self.config.means)}


# --- environments unknown ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EIILConfig(WrapperConfig):
    reference: float = 0.3  # share of training by ERM, after which the model is the reference; in (0, 1)
    weight: float = 100.0  # of the penalty afterwards
    halves: bool = True  # difference 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.reference < 1:
            raise ConfigError(f"eiil: reference = {self.reference} must be in (0, 1)")


@dataclass(frozen=True)
class EIILOutput(Output):
    """inner: the backbone's output; reference: predictions of the frozen model, in training."""

    inner: Output
    reference: Tensor | None


class EIIL(Objective):
    Config: ClassVar = EIILConfig
    PRESETS: ClassVar = {"clean": EIILConfig(), "paper": EIILConfig(halves=False)}
    added: ClassVar[tuple[str, ...]] = ("irm",)

    def __init__(self, config: EIILConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.frozen = cast(AffectModel, frozen_copy(self.backbone))

    def forward(self, batch: Batch, noise: Noise) -> EIILOutput:
        inner: Output = self.backbone(batch, noise)
        reference = self.frozen(batch, Quiet(noise)).prediction.detach() if noise.training else None
        return EIILOutput(inner.prediction, inner, reference, representation=inner.representation)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[Terms, Memo]:
        o, kind = cast(EIILOutput, output), self.shape.task.kind
        terms, memo = self.backbone.losses(o.inner, batch, progress)
        loss = sample_loss(self.shape.task, o.prediction, batch.target)
        first = loss.new_zeros(()) + (progress.fraction < self.config.reference)
        reference = o.prediction.detach() if o.reference is None else o.reference
        up = slopes(kind, reference, batch.target) > 0
        hot = torch.stack([~up, up], -1).to(loss.dtype)
        task = first * loss.mean() + (1 - first) * over_present(*risks(loss, hot))
        penalty = irm_penalty(slopes(kind, o.prediction, batch.target), hot, self.config.halves)
        return self.merged(terms, {self.config.term: task, "irm": penalty}), {**memo, "eiil.first": first}

    def own_weights(self, progress: Progress) -> dict[str, float]:
        return {"irm": self.config.weight * (progress.fraction >= self.config.reference)}

    def remember(self, memo: Memo) -> None:
        self.backbone.remember({k: v for k, v in memo.items() if k != "eiil.first"})
        if "eiil.first" in memo:
            now: dict[str, Tensor] = dict(self.backbone.named_parameters(remove_duplicate=False))
            now |= dict(self.backbone.named_buffers(remove_duplicate=False))
            for name, old in self.frozen.named_buffers(remove_duplicate=False):
                old.copy_(torch.where(memo["eiil.first"] > 0, now[name], old))


# --- no environments -----------------------------------------------------------------------------------------------

QUANTILES = 4096


@dataclass(frozen=True)
class MixupConfig(WrapperConfig):
    alpha: float = 0.2  # > 0; towards 0: no mixing; paper, ImageNet: 0.2, DomainBed: 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise ConfigError(f"mixup: alpha = {self.alpha} must be > 0")


@dataclass(frozen=True)
class MixupOutput(Output):
    """inner: the backbone's output for the mixed batch; share: of the first sample, a scalar; partner: (B,) rows."""

    inner: Output
    mixed: Batch
    share: Tensor
    partner: Tensor


class Mixup(Wrapper):
    quantiles: Tensor
    Config: ClassVar = MixupConfig
    PRESETS: ClassVar = {"clean": MixupConfig()}

    def __init__(self, config: MixupConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
        self.register_buffer("quantiles", torch.tensor(beta.ppf(middle, config.alpha, config.alpha)).float())

    def forward(self, batch: Batch, noise: Noise) -> Output:
        if not noise.training:
            return super().forward(batch, noise)
        share = self.quantiles.gather(0, (noise.uniform(1) * QUANTILES).long())[0]
        partner = noise.uniform(len(batch)).argsort()
        mixed = self.mix(batch, partner, share)
        inner: Output = self.backbone(mixed, noise)
        return MixupOutput(inner.prediction, inner, mixed, share, partner, representation=inner.representation)

    def mix(self, batch: Batch, partner: Tensor, share: Tensor) -> Batch:
        """Return the batch mixed with its rows `partner`; classes stay those of the first sample."""
        other = batch.rows(partner)
        x = {
            m: share * v.masked_fill(~batch.observed[m].unsqueeze(-1), 0)
            + (1 - share) * other.features[m].masked_fill(~other.observed[m].unsqueeze(-1), 0)
            for m, v in batch.features.items()
        }
        observed = {m: o | other.observed[m] for m, o in batch.observed.items()}
        lengths = {m: torch.maximum(n, other.lengths[m]) for m, n in batch.lengths.items()}
        soft = self.shape.task.kind != "single_label"
        target = share * batch.target + (1 - share) * other.target if soft else batch.target
        return replace(batch, features=x, observed=observed, lengths=lengths, target=target)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[Terms, Memo]:
        if not isinstance(output, MixupOutput):
            return self.backbone.losses(output, batch, progress)
        terms, memo = self.backbone.losses(output.inner, output.mixed, progress)
        if self.shape.task.kind == "single_label":
            swapped = replace(output.mixed, target=batch.target[output.partner])
            others, _ = self.backbone.losses(output.inner, swapped, progress)
            terms = {k: output.share * v + (1 - output.share) * others[k] for k, v in terms.items()}
        return terms, memo


@dataclass(frozen=True)
class RDropConfig(WrapperConfig):
    alpha: float = 1.0  # weight of the divergence beside the sum of two losses, >= 0; paper: 0.1 to 5 by task

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < 0:
            raise ConfigError(f"rdrop: alpha = {self.alpha} must be >= 0")


@dataclass(frozen=True)
class RDropOutput(Output):
    """inner: the backbone's outputs of the two passes."""

    inner: tuple[Output, Output]


class RDrop(Wrapper):
    Config: ClassVar = RDropConfig
    PRESETS: ClassVar = {"clean": RDropConfig()}
    added: ClassVar[tuple[str, ...]] = ("consistency",)

    def forward(self, batch: Batch, noise: Noise) -> Output:
        if not noise.training:
            return super().forward(batch, noise)
        one, two = self.backbone(batch, noise), self.backbone(batch, noise)
        return RDropOutput(one.prediction, (one, two), representation=one.representation)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[Terms, Memo]:
        one, two = output.inner if isinstance(output, RDropOutput) else (output, output)
        (first, _), (second, memo) = (self.backbone.losses(o, batch, progress) for o in (one, two))
        terms = {k: (v + second[k]) / 2 for k, v in first.items()}
        apart = two_way_kl(self.shape.task, one.prediction, two.prediction).mean()
        return self.merged(terms, {"consistency": apart}), memo

    def weights(self, progress: Progress) -> dict[str, float]:
        return {**super().weights(progress), "consistency": self.config.alpha / 2}
