"""Late fusion: one small network per modality, their outputs averaged over the modalities that are there.

Symbols: x_m (B, D_m) mean over observed steps; l_m (B, C) outputs of modality m; w (M,) weights, equal or the softmax
of learned scores; prediction sum_m w_m a_m l_m / sum_m w_m a_m, a_m = 1 where anything of modality m was observed.
If nothing at all was observed, the networks are averaged at the zero input.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import masked_softmax
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import masked_mean


@dataclass(frozen=True)
class Config:
    hidden: int = 64  # units of each modality's hidden layer; 0: a linear head
    input_dropout: float = 0.5  # share of pooled features dropped; chosen on validation among 0.2 and 0.5
    dropout: float = 0.5  # share of hidden units dropped
    learn_weights: bool = False  # weigh modalities by learned scores; equal weights otherwise
    fused: float = 0.0  # weight of the loss of the average
    unimodal: float = 1.0  # weight of the loss of each modality alone (present samples only)


@dataclass(frozen=True)
class LateOutput(Output):
    """unimodal[m]: (B, C) outputs of modality m; present: (B, M) bool."""

    unimodal: Mapping[str, Tensor]
    present: Tensor


class LateFusion(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        h, c = config.hidden, shape.task.outputs
        self.first = nn.ModuleList(nn.Linear(d, h) for d in shape.dims.values()) if h else None
        self.last = nn.ModuleList(nn.Linear(h or d, c) for d in shape.dims.values())
        self.scores = nn.Parameter(torch.zeros(len(shape.dims))) if config.learn_weights else None

    def forward(self, batch: Batch, noise: Noise) -> LateOutput:
        outputs = []
        for i, m in enumerate(self.shape.modalities):
            h = noise.dropout(masked_mean(batch.features[m], batch.observed[m]), self.config.input_dropout)
            if self.first is not None:
                h = noise.dropout(F.relu(self.first[i](h)), self.config.dropout)
            outputs.append(self.last[i](h))
        present = torch.stack([batch.observed[m].any(-1) for m in self.shape.modalities], -1)  # (B, M)
        none = ~present.any(-1, keepdim=True)
        scores = outputs[0].new_zeros(len(outputs)) if self.scores is None else self.scores
        weights = masked_softmax(scores.expand(present.shape), present | none)
        fused = (weights.unsqueeze(-1) * torch.stack(outputs, -2)).sum(-2)  # (B, C)
        named = dict(zip(self.shape.modalities, outputs))
        return LateOutput(as_prediction(self.shape.task, fused), named, present)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        if not isinstance(output, LateOutput):
            raise TypeError("late fusion needs its own output")
        task = self.shape.task
        terms = {"task": task_loss(task, output.prediction, batch.target)}
        for i, (m, outputs) in enumerate(output.unimodal.items()):
            weight = output.present[..., i].to(outputs.dtype)
            terms[f"task_{m}"] = task_loss(task, as_prediction(task, outputs), batch.target, weight)
        return terms, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return {"task": self.config.fused} | {f"task_{m}": self.config.unimodal for m in self.shape.modalities}


CLEAN = Config()
PRESETS = {"clean": CLEAN, "joint": Config(fused=1.0, unimodal=0.0, learn_weights=True)}
