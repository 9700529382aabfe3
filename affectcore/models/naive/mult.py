"""Naive MulT: every pair of modalities by `nn.MultiheadAttention`, time first, norms applied again in every layer."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.mult import MulT
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear
from affectcore.nn.crossmodal import PreNormLayer

CASES = {
    "mult_aligned": Case("mult", batch=16),
    "mult_unaligned": Case("mult", batch=4, shape="mosi_unaligned"),
    "mult_aligned_clean": Case("mult", batch=16, preset="clean"),
    "mult_unaligned_clean": Case("mult", batch=4, preset="clean", shape="mosi_unaligned"),
}


class NaiveLayer(nn.Module):
    """Time first, `nn.MultiheadAttention`, the layer's norm applied to queries, keys and values one by one."""

    def __init__(self, layer: PreNormLayer, dropout: float, relu: float = 0.0, residual: float = 0.0) -> None:
        super().__init__()
        d, heads = layer.attention.features, layer.attention.heads
        self.attention = nn.MultiheadAttention(d, heads, dropout=dropout)
        self.attention.load_state_dict(layer.attention.state_dict())
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.norms[0].load_state_dict(layer.norm_attention.state_dict())
        self.norms[1].load_state_dict(layer.norm_network.state_dict())
        self.up, self.down = linear(layer.up), linear(layer.down)
        self.relu, self.residual = relu, residual

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, future: Tensor) -> Tensor:
        keys, values = self.norms[0](keys), self.norms[0](values)
        mixed = self.attention(self.norms[0](x), keys, values, attn_mask=future)[0]  # averages weights, as published
        x = x + F.dropout(mixed, self.residual, self.training)
        h = F.dropout(F.relu(self.up(self.norms[1](x))), self.relu, self.training)
        out: Tensor = x + F.dropout(self.down(h), self.residual, self.training)
        return out


class NaiveStack(nn.Module):
    def __init__(
        self, stack: Any, dropout: float, embed_dropout: float, relu: float = 0.0, residual: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NaiveLayer(layer, dropout, relu, residual) for layer in stack.layers)
        self.norm = nn.LayerNorm(stack.norm.normalized_shape)
        self.norm.load_state_dict(stack.norm.state_dict())
        self.p = embed_dropout

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        scale = math.sqrt(x.shape[-1])
        source = x if memory is None else memory
        future = torch.full((len(x), len(source)), -math.inf, dtype=x.dtype).triu(1 + abs(len(source) - len(x)))
        x = F.dropout(scale * x, self.p, self.training)
        if memory is not None:
            keys, values = (F.dropout(scale * memory, self.p, self.training) for _ in range(2))
        for layer in self.layers:
            x = layer(x, x, x, future) if memory is None else layer(x, keys, values, future)
        out: Tensor = self.norm(x)
        return out


class NaiveMulT(Twin):
    def __init__(self, model: MulT) -> None:
        super().__init__(model)
        c, names = model.config, model.shape.modalities
        rates = {"audio": c.attention_dropout_audio, "vision": c.attention_dropout_vision}
        p = [rates.get(m, c.attention_dropout) for m in names]
        self.config, self.names, self.pairs = c, names, model.pairs
        self.project = nn.ModuleList()
        for conv in cast(list[nn.Conv1d], model.project):
            self.project.append(nn.Conv1d(conv.in_channels, conv.out_channels, c.kernel, bias=False))
            self.project[-1].load_state_dict(conv.state_dict())
        self.cross = nn.ModuleList(NaiveStack(s, p[j], c.embed_dropout) for (_, j), s in zip(model.pairs, model.cross))
        self.memory = nn.ModuleList(NaiveStack(s, c.attention_dropout, c.embed_dropout) for s in model.memory)
        self.first, self.second, self.last = (linear(x) for x in (model.first, model.second, model.last))

    def forward(self, batch: Batch) -> Tensor:
        x = []
        for m, conv in zip(self.names, self.project):
            v = batch.features[m].transpose(1, 2)
            x.append(conv(F.dropout(v, self.config.text_dropout, self.training) if m == "text" else v).permute(2, 0, 1))
        z: list[list[Tensor]] = [[] for _ in x]
        for (i, j), stack in zip(self.pairs, self.cross):
            z[i].append(stack(x[i], x[j]))
        h = torch.cat([memory(torch.cat(parts, 2))[-1] for parts, memory in zip(z, self.memory)], 1)
        out = h + self.second(F.dropout(F.relu(self.first(h)), self.config.output_dropout, self.training))
        y: Tensor = self.last(out).squeeze(1)
        return y


TWIN = NaiveMulT
