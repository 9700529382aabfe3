"""Several predictions instead of one, over any backbone: members trained apart, or drop-out left on.

    registry.build("ensemble", shape, members=5, backbone="mlp")
    registry.build("mc_dropout", shape, draws=20, backbone="mlp")

ensemble     K backbones from other initial weights, with drop-out of their own, on the same batches
             [lakshminarayanan2017simple]. Their losses are averaged, so each is trained as if alone, but that a recipe
             that clips the norm clips the norm of all. The paper's members see other orders of the data and adversarial
             samples as well; for orders of their own train seeds and average them
             (`affectcore.training.ensemble.predict_ensemble`).
mc_dropout   trained as the backbone; in evaluation the mean of `draws` passes with drop-out on, statistics of batch
             normalisation frozen [gal2016dropout]. draws = 0: one pass without, the backbone itself. The draws belong
             to a batch's rows, so a prediction depends on the sample's place by the noise of finitely many draws.

Both average probabilities (regression: values) and return the mean as a prediction: its logarithm, for label sets its
log-odds. `UncertainOutput.each` holds the single predictions, `disagreement` says how far they are apart.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch, Task
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.models.wrapper import Wrapper, WrapperConfig


def mean_prediction(task: Task, each: Tensor) -> Tensor:
    """Return the prediction whose probabilities (regression: value) are the mean over the first axis of (K, B, ...)."""
    if task.kind == "regression":
        return each.mean(0)
    log_k = torch.log(torch.tensor(float(len(each)), dtype=each.dtype, device=each.device))
    if task.kind == "single_label":
        return each.log_softmax(-1).logsumexp(0) - log_k
    yes, no = (nn.functional.logsigmoid(x).logsumexp(0) for x in (each, -each))
    return yes - no


def disagreement(task: Task, each: Tensor) -> Tensor:
    """Return (B,): what the (K, B, ...) predictions do not share.

    Classes and labels: entropy of the mean less mean entropy, in nats (labels: summed), which is the mutual information
    of prediction and member. Regression: variance over members.
    """
    if task.kind == "regression":
        return each.var(0, correction=0)
    if task.kind == "multi_label":
        each = torch.stack([each, torch.zeros_like(each)], -1)  # (K, B, C, 2): log-odds as two classes
    p = each.softmax(-1)
    gap = _entropy(p.mean(0)) - _entropy(p).mean(0)
    return gap if task.kind == "single_label" else gap.sum(-1)


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


@dataclass(frozen=True)
class UncertainOutput(Output):
    """each: (K, B, ...) the single predictions; inner: the backbones' outputs."""

    each: Tensor
    inner: tuple[Output, ...]


# --- ensemble ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EnsembleConfig(WrapperConfig):
    members: int = 5  # K, >= 1; paper: 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members < 1:
            raise ConfigError(f"ensemble: members = {self.members} must be a whole number >= 1")


class Ensemble(Wrapper):
    Config: ClassVar = EnsembleConfig
    PRESETS: ClassVar = {"clean": EnsembleConfig()}

    def __init__(self, config: EnsembleConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.others = nn.ModuleList(self.built(shape) for _ in range(config.members - 1))

    @property
    def members(self) -> list[AffectModel]:
        return [self.backbone, *(cast(AffectModel, m) for m in self.others)]

    def forward(self, batch: Batch, noise: Noise) -> UncertainOutput:
        inner = tuple(cast(Output, m(batch, noise)) for m in self.members)
        each = torch.stack([o.prediction for o in inner])
        return UncertainOutput(mean_prediction(self.shape.task, each), each, inner)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        inner = cast(UncertainOutput, output).inner
        terms: dict[str, Tensor] = {}
        memo: dict[str, Tensor] = {}
        for k, (member, o) in enumerate(zip(self.members, inner)):
            found, state = member.losses(o, batch, progress)
            for name, v in found.items():
                terms[name] = terms.get(name, v.new_zeros(())) + v / len(inner)
            memo |= {f"{k}/{name}": v for name, v in state.items()}
        return terms, memo

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        return self.losses(self(batch, noise), batch, progress)

    def stages(self) -> tuple[Stage, ...]:
        homes = ["backbone", *(f"others.{k}" for k in range(len(self.others)))]
        outer: list[Stage] = []
        for s in super().stages():
            names = [p.removeprefix("backbone.") for p in s.parameters]
            every = tuple(f"{h}.{p}" for h in homes for p in names)
            outer.append(Stage(s.name, every, s.losses, s.optimizer, s.keep_gradients))
        return tuple(outer)

    def remember(self, memo: Memo) -> None:
        for k, member in enumerate(self.members):
            own = f"{k}/"
            member.remember({n.removeprefix(own): v for n, v in memo.items() if n.startswith(own)})


# --- drop-out left on ----------------------------------------------------------------------------------------------


class Dropping:
    """Noise of an evaluation with drop-out on: `training` stays False, so that batch statistics are the stored ones."""

    training = False

    def __init__(self, noise: Noise) -> None:
        self.normal, self.uniform = noise.normal, noise.uniform

    def dropout(self, x: Tensor, p: float) -> Tensor:
        if p == 0:
            return x
        return x * 0 if p == 1 else x * ((self.uniform(*x.shape) >= p).to(x.dtype) / (1 - p))


@dataclass(frozen=True)
class MCDropoutConfig(WrapperConfig):
    draws: int = 20  # passes in evaluation, >= 0; paper: 10 to 1000 by task

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 0:
            raise ConfigError(f"mc_dropout: draws = {self.draws} must be a whole number >= 0")


class MCDropout(Wrapper):
    Config: ClassVar = MCDropoutConfig
    PRESETS: ClassVar = {"clean": MCDropoutConfig()}

    @property
    def label(self) -> str:
        return "mc_dropout"

    def forward(self, batch: Batch, noise: Noise) -> Output:
        if noise.training or self.config.draws == 0:
            return super().forward(batch, noise)
        passes: Any = (self.backbone(batch, Dropping(noise)) for _ in range(self.config.draws))
        inner = tuple(cast(Output, o) for o in passes)
        each = torch.stack([o.prediction for o in inner])
        return UncertainOutput(mean_prediction(self.shape.task, each), each, inner)
