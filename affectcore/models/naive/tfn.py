"""Naive TFN: the outer product by two batched products, torch's own layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.tfn import TFN
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import NaiveEncoders, linear

CASES = {"tfn": Case("tfn", batch=32), "tfn_clean": Case("tfn", batch=32, preset="clean")}


class NaiveTFN(Twin):
    def __init__(self, model: TFN) -> None:
        super().__init__(model)
        self.encoders = NaiveEncoders(model.encoders)
        self.post = nn.ModuleList(linear(x) for x in model.post)
        self.dropout = nn.Dropout(model.config.post_dropout)

    def forward(self, batch: Batch) -> Tensor:
        fused, *others = self.encoders(batch)
        for z in others:
            fused = torch.bmm(fused.unsqueeze(2), z.unsqueeze(1)).view(len(z), -1)
        h = F.relu(self.post[0](self.dropout(fused)))
        y = torch.sigmoid(self.post[2](F.relu(self.post[1](h)))).squeeze(1)
        return y * (self.shape.task.high - self.shape.task.low) + self.shape.task.low


TWIN = NaiveTFN
