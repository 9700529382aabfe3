"""CLUE, counterfactual reasoning over any model: the text's direct effect is learned, then subtracted [sun2022clue].

| symbol | name | shape |
|---|---|---|
| o_m | `inner.prediction`, of the backbone | (B, C) |
| o_t | `text`, two bidirectional LSTMs and four layers on the text alone | (B, C) |
| c | `constant`, a learned number in the backbone's place | (1,) |
| o_1 | `total` = log sigmoid(o_m + o_t), the total effect | (B, C) |
| o_2 | `direct` = log sigmoid(c + o_t), the direct effect of the text | (B, C) |
| alpha | `alpha`; in evaluation prediction = o_1 - alpha o_2 | |

Losses: those of the backbone, where "task" is that of o_1; "text", the task's loss of o_t; "constant", which brings
o_2 to o_1 and moves c alone (cross-entropy between their softmaxes). Any backbone with one optimisation stage.
Published for single-label tasks; a regression and several labels use o_1 = o_m + o_t and o_2 = c + o_t, "constant" is
then the mean square of their difference. Where a text is missing, o_t comes from the zero state.

Differences from the published code (Teng-Sun/CLUE_model), which therefore has no preset here: it reads word vectors
(300 numbers), here the batch's text features; where a base has a loss on o_m, it keeps it beside that of o_1, which
here replaces it; its alpha is chosen on the out-of-distribution test set from 0, 0.25 ... 3, here it is a setting.
Not run beside the published code, whose bases need BERT.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    backbone: str = "mlp"  # name of a gradient model with one optimisation stage; code: MISA, Self-MM, MAG-BERT
    backbone_preset: str = "clean"
    backbone_settings: tuple[tuple[str, Any], ...] = ()  # that differ from its preset, (name, value) pairs
    text_hidden: int = 300  # state of each LSTM and direction; code 300
    hidden: int = 128  # of the layers after them; code 128
    alpha: float = 1.0  # share of the direct effect that is subtracted, >= 0; chosen on validation
    fusion: Literal["sum", "hm"] = "sum"  # hm: log(s / (1 + s)), s = sigmoid(o_m) sigmoid(o_t); single_label alone
    constant_loss: bool = True  # learn c; off: it stays 1


@dataclass(frozen=True)
class CLUEOutput(Output):
    """inner: the backbone's output; text, total, direct: predictions of the branches; learned: direct, text stopped."""

    inner: Output
    text: Tensor
    total: Tensor
    direct: Tensor
    learned: Tensor


class TextBranch(nn.Module):
    """Two bidirectional LSTMs, the final states of both through four layers: (B, T, D) to (B, C)."""

    def __init__(self, features: int, state: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = LSTM(features, state, True), LSTM(2 * state, state, True)
        self.norm = nn.LayerNorm(2 * state)
        self.layers = nn.ModuleList(nn.Linear(4 * state if i == 0 else hidden, hidden) for i in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        states, end = self.first(x, observed)
        h = torch.cat([end, self.second(self.norm(states), observed)[1]], -1)
        for layer, norm in zip(self.layers, self.norms):
            h = norm(F.relu(layer(h)))
        out: Tensor = self.last(h)
        return out


class CLUE(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        if "text" not in shape.dims:
            raise ConfigError(f"clue: needs a text, the data have {', '.join(shape.modalities)}")
        if config.fusion not in ("sum", "hm"):
            raise ConfigError(f"clue: fusion {config.fusion!r} must be one of sum, hm")
        if config.fusion == "hm" and shape.task.kind != "single_label":
            raise ConfigError(f"clue: fusion 'hm' needs a single_label task, got {shape.task.kind}")
        if registry.entry(config.backbone).kind != "gradient":
            raise ConfigError(f"clue: backbone {config.backbone!r} is not trained by gradients")
        self.backbone: AffectModel = registry.build(
            config.backbone, shape, config.backbone_preset, **dict(config.backbone_settings)
        )
        if len(self.backbone.stages()) > 1:
            raise ConfigError(f"clue: backbone {config.backbone!r} has several optimisation stages, one is needed")
        self.branch = TextBranch(shape.dims["text"], config.text_hidden, config.hidden, shape.task.outputs)
        self.constant = nn.Parameter(torch.ones(1), requires_grad=config.constant_loss)

    def forward(self, batch: Batch, noise: Noise) -> CLUEOutput:
        inner = self.backbone(batch, noise)
        text = as_prediction(self.shape.task, self.branch(batch.features["text"], batch.observed["text"]))
        c = self.constant.expand_as(text)
        total, direct = self.fuse(inner.prediction, text), self.fuse(c, text)
        prediction = total if noise.training else total - self.config.alpha * direct
        return CLUEOutput(prediction, inner, text, total, direct, self.fuse(c, text.detach()))

    def fuse(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the joint score of a branch a and the text's b."""
        if self.shape.task.kind != "single_label":
            return a + b
        if self.config.fusion == "sum":
            return F.logsigmoid(a + b)
        log = F.logsigmoid(a) + F.logsigmoid(b)
        return log - torch.log1p(log.exp())

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, task = cast(CLUEOutput, output), self.shape.task
        terms, memo = self.backbone.losses(o.inner, batch, progress)
        terms = {**terms, "task": task_loss(task, o.total, batch.target), "text": task_loss(task, o.text, batch.target)}
        if self.config.constant_loss:
            total = o.total.detach()
            if task.kind == "single_label":
                terms["constant"] = -(total.softmax(-1) * o.learned.log_softmax(-1)).sum(-1).mean()
            else:
                terms["constant"] = (total - o.learned).square().mean()
        return terms, memo

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return self.backbone.weights(progress)

    def remember(self, memo: Memo) -> None:
        self.backbone.remember(memo)


CLEAN = Config()
PRESETS = {"clean": CLEAN}
