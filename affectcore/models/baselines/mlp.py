"""MLP, early fusion: one hidden layer on the concatenated means over observed steps.

Symbols: x_m (B, D_m) mean over observed steps, zero for a missing modality; h (B, H) = ReLU(W [x_1 ... x_M] + b).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from affectcore.data.schema import Batch
from affectcore.models.contract import AffectModel, Noise, Output, Shape
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import masked_mean


@dataclass(frozen=True)
class Config:
    hidden: int = 64  # units of the hidden layer
    input_dropout: float = 0.5  # share of pooled features dropped; chosen on validation among 0.2 and 0.5
    dropout: float = 0.5  # share of hidden units dropped


class MLP(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.first = nn.Linear(sum(shape.dims.values()), config.hidden)
        self.last = nn.Linear(config.hidden, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> Output:
        x = torch.cat([masked_mean(batch.features[m], batch.observed[m]) for m in self.shape.modalities], -1)
        h = F.relu(self.first(noise.dropout(x, self.config.input_dropout)))  # (B, H)
        y = self.last(noise.dropout(h, self.config.dropout))
        return Output(as_prediction(self.shape.task, y), representation=h)


CLEAN = Config()
PRESETS = {"clean": CLEAN}
