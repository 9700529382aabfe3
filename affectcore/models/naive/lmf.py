"""Naive LMF: one factor after the other, torch's own layers."""

from typing import cast

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.lmf import LMF
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import NaiveEncoders

CASES = {"lmf": Case("lmf", batch=64), "lmf_clean": Case("lmf", batch=64, preset="clean")}


class NaiveLMF(Twin):
    def __init__(self, model: LMF) -> None:
        super().__init__(model)
        self.encoders = NaiveEncoders(model.encoders)
        self.factors = nn.ParameterList([p.detach().clone() for p in model.factors])
        self.mix = nn.Parameter(cast(Tensor, model.mix).detach().clone())
        self.bias = nn.Parameter(model.bias.detach().clone())

    def forward(self, batch: Batch) -> Tensor:
        product: Tensor | float = 1.0
        for z, factor in zip(self.encoders(batch), self.factors):
            product = product * torch.matmul(z, factor)
        return (torch.matmul(self.mix, cast(Tensor, product).permute(1, 0, 2)).squeeze(1) + self.bias).squeeze(1)


TWIN = NaiveLMF
