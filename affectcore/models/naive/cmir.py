"""Naive CmIR: every environment a copy of its own through the whole encoder, every pair of them compared in turn.

There is no published code; the order is that of the text's equations, layers are torch's own, time first.
"""

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.cmir import TABLE_7, CmIR, Drop, Encoder, Network, pairwise_l1
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear
from affectcore.nn.attention import sinusoids

ENVIRONMENTS = {"width": 150, "hidden": 128, "alpha": 1.0}
CASES = {
    "cmir": Case("cmir", batch=48, preset="paper", shape="mosi_mag", twin=True),
    "cmir_mosei": Case("cmir", batch=50, preset="paper", shape="mosei", settings=TABLE_7["mosei"], twin=True),
    "cmir_clean": Case("cmir", batch=48, preset="clean", shape="mosi_mag"),
    "cmir_environments_5": Case(
        "cmir", 50, "paper", "mosei", part="environments", settings=ENVIRONMENTS | {"count": 5}
    ),
    "cmir_environments_10": Case(
        "cmir", 50, "paper", "mosei", part="environments", settings=ENVIRONMENTS | {"count": 10}
    ),
}


class NaiveLayer(nn.Module):
    def __init__(self, layer: Any, attention: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(layer.attention.features, layer.attention.heads, dropout=attention)
        self.attention.load_state_dict(layer.attention.state_dict())
        self.norms = nn.ModuleList([nn.LayerNorm(layer.attention.features) for _ in range(2)])
        for mine, his in zip(self.norms, (layer.norm_attention, layer.norm_network)):
            mine.load_state_dict(his.state_dict())
        self.up, self.down = linear(layer.up), linear(layer.down)

    def forward(self, x: Tensor, relu: float, residual: float) -> Tensor:
        y = self.norms[0](x)
        x = x + F.dropout(self.attention(y, y, y)[0], residual, self.training)
        y = F.dropout(F.relu(self.up(self.norms[1](x))), relu, self.training)
        return x + F.dropout(self.down(y), residual, self.training)


class NaiveSteps(nn.Module):
    """A convolution and a transformer, or a linear layer: (B, T, D) to the mean over all T steps (B, d)."""

    def __init__(self, steps: Any, config: Any) -> None:
        super().__init__()
        self.config, self.layers = config, nn.ModuleList()
        if steps.kind == "linear":
            self.project: nn.Module = linear(steps.project)
            return
        conv = steps.project
        self.project = nn.Conv1d(conv.in_channels, conv.out_channels, config.kernel, padding=config.kernel // 2)
        self.project.load_state_dict(conv.state_dict())
        self.layers.extend(NaiveLayer(x, config.attention_dropout) for x in steps.transformer.layers)
        self.norm = nn.LayerNorm(config.width)
        self.norm.load_state_dict(steps.transformer.norm.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        c = self.config
        if not len(self.layers):
            return cast(Tensor, self.project(x).mean(1))
        x = self.project(x.transpose(1, 2)).permute(2, 0, 1)
        x = math.sqrt(c.width) * x + sinusoids(len(x), c.width, x).unsqueeze(1)
        x = F.dropout(x, c.embed_dropout, self.training)
        for layer in self.layers:
            x = layer(x, c.relu_dropout, c.residual_dropout)
        out: Tensor = self.norm(x).mean(0)
        return out


def network(net: Network) -> nn.Sequential:
    """Return a copy of a network as torch's own layers."""
    layers: list[nn.Module] = []
    for i, layer in enumerate(net.layers):
        layers.append(linear(layer))
        if i in net.relu:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class NaiveEncoder(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.body = nn.Sequential(linear(encoder.first), nn.ReLU(), linear(encoder.second), nn.ReLU())
        self.invariant, self.spurious = linear(encoder.invariant), linear(encoder.spurious)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.invariant(h), self.spurious(h)


def invariance(encoder: Any, x: Tensor, count: int, alpha: float) -> Tensor:
    """Return R_inv of one modality, Eq. 3-4, from X (B, d) and its environments."""
    codes = [encoder(x)[0]]
    for e in range(1, count + 1):
        codes.append(encoder(x + alpha * e * torch.randn_like(x))[0])
    total = torch.zeros_like(x[0, 0])
    for a, b in combinations(codes, 2):
        total = total + (a - b).abs().sum(1).mean()
    return total


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0)


class NaiveCmIR(Twin):
    def __init__(self, model: CmIR) -> None:
        super().__init__(model)
        self.steps = nn.ModuleList(NaiveSteps(s, model.config) for s in model.steps)
        self.encoders = nn.ModuleList(NaiveEncoder(cast(Encoder, g)) for g in model.encoders)
        self.decoders = nn.ModuleList(network(cast(Network, r)) for r in model.decoders)
        self.predictor = network(model.predictor)

    def pooled(self, batch: Batch) -> list[Tensor]:
        return [steps(x) for steps, x in zip(self.steps, batch.features.values())]

    def _predict(self, codes: list[Tensor]) -> Tensor:
        y: Tensor = self.predictor(torch.cat(codes, 1)).squeeze(1)
        return y

    def forward(self, batch: Batch) -> Tensor:
        return self._predict([g(x)[0] for g, x in zip(self.encoders, self.pooled(batch))])

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        c, xs = self.config, self.pooled(batch)
        codes = [g(x) for g, x in zip(self.encoders, xs)]
        loss = F.mse_loss(self._predict([inv for inv, _ in codes]), batch.target)
        for g, r, x, (inv, spu) in zip(self.encoders, self.decoders, xs, codes):
            products = standard(inv) @ standard(spu).t()
            diagonal = torch.diag(products.diagonal())
            decorrelation = (diagonal + c.alpha_dec * (products - diagonal)).norm()
            loss = loss + c.invariance_weight * invariance(g, x, c.count, c.alpha)
            loss = loss + c.decorrelation_weight * decorrelation
            loss = loss + c.reconstruction_weight * F.mse_loss(r(torch.cat([inv, spu], 1)), x)
        yield loss


def environments(model: CmIR, batch: Batch) -> tuple[Callable[[], object], Callable[[], object]]:
    """R_inv of all modalities and its gradient, from given X: all environments in one batch, or one by one."""
    c = model.config
    x = torch.randn(len(model.modalities), len(batch), c.width)
    naive = [NaiveEncoder(cast(Encoder, g)) for g in model.encoders]
    e = torch.arange(1, c.count + 1, dtype=x.dtype).view(-1, 1, 1, 1)

    def ours() -> None:
        variants = torch.cat([x.unsqueeze(0), x + c.alpha * e * torch.randn(c.count, *x.shape)])
        (pairwise_l1(model.encode(variants, Drop())[0]) / len(batch)).backward()

    def theirs() -> None:
        torch.stack([invariance(g, v, c.count, c.alpha) for g, v in zip(naive, x)]).sum().backward()

    return ours, theirs


TWIN, PARTS = NaiveCmIR, {"environments": environments}
