"""Naive MMIM: packed `nn.LSTM`, both stages from the raw input, covariances as means of outer products."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from affectcore.data.schema import Batch
from affectcore.models.baselines.mmim import MMIM
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear

CASES = {"mmim": Case("mmim", batch=32), "mmim_clean": Case("mmim", batch=32, preset="clean")}


class NaiveMMIM(Twin):
    def __init__(self, model: MMIM) -> None:
        super().__init__(model)
        self.others = model.others
        self.encoders = nn.ModuleDict()
        for m, e in cast(Any, model.encoders).items():
            rnn = nn.LSTM(self.shape.dims[m], e.rnn.hidden, bidirectional=True, batch_first=True)
            rnn.load_state_dict(e.rnn.state_dict())
            self.encoders[m] = nn.ModuleList([rnn, linear(e.project)])
        self.bounds = nn.ModuleDict()
        for m, b in cast(Any, model.bounds).items():
            mean, variance = (nn.Sequential(linear(x), nn.ReLU(), linear(y)) for x, y in (b.mean, b.variance))
            self.bounds[m] = nn.ModuleList([mean, variance, nn.Sequential(linear(b.project), nn.Tanh())])
        self.predict = nn.ModuleDict({m: linear(x) for m, x in cast(Any, model.predict).items()})
        self.first, self.second, self.last = (linear(x) for x in (model.first, model.second, model.last))
        self.memory: dict[str, tuple[Tensor, Tensor]] = {}

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        out = {}
        for m, x in batch.features.items():
            if m not in self.encoders:
                out[m] = x[:, 0]
                continue
            rnn, project = cast(Any, self.encoders[m])
            packed = pack_padded_sequence(x, batch.lengths[m], batch_first=True, enforce_sorted=False)
            out[m] = project(torch.cat(list(rnn(packed)[1][0]), 1))
        return out

    def fused(self, vectors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x = F.dropout(torch.cat(list(vectors.values()), 1), self.config.dropout, self.training)
        z = torch.tanh(self.second(torch.tanh(self.first(x))))
        return z, self.last(z).squeeze(1)

    def forward(self, batch: Batch) -> Tensor:
        return self.fused(self.vectors(batch))[1]

    def lld(self, vectors: dict[str, Tensor]) -> Tensor:
        text = vectors[next(iter(vectors))]
        total = torch.zeros(())
        for m in self.others:
            mean, variance, _ = cast(Any, self.bounds[m])
            total = total + (-((mean(text) - vectors[m]) ** 2) / 2 / torch.exp(variance(text))).sum(-1).mean()
        return total

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        yield -self.lld(self.vectors(batch))
        vectors = self.vectors(batch)
        z, y = self.fused(vectors)
        nce = torch.zeros(())
        for m, x in vectors.items():
            guess = self.predict[m](z)
            guess, x = guess / guess.norm(dim=1, keepdim=True), x / x.norm(dim=1, keepdim=True)
            nce = nce - ((x * guess).sum(-1) - torch.logsumexp(x @ guess.t(), -1)).mean()
        entropy = torch.zeros(())
        for m in self.others:
            code = cast(Any, self.bounds[m])[2](vectors[m])
            classes = code[batch.target > 0], code[batch.target < 0]
            for k, c in enumerate(classes):
                if m in self.memory:
                    c = torch.cat([self.memory[m][k], c])
                centred = c - c.mean(0)
                if len(c) > c.shape[1]:
                    entropy = entropy + 0.25 * torch.logdet((centred[:, :, None] @ centred[:, None]).mean(0))
            self.memory[m] = classes[0].detach(), classes[1].detach()
        c = self.config
        yield F.l1_loss(y, batch.target) + c.alpha * nce - c.beta * self.lld(vectors) - c.beta * entropy


TWIN = NaiveMMIM
