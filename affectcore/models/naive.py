"""Naive twins: the author presets of TFN, LMF and MulT in the published order of operations, with torch's own layers.

They are the oracle of the fast forms (equal outputs on the same weights, tested) and the yardstick of `bench`. Nobody
trains them: drop-out draws from torch's global generator. `twin(model)` makes one with the model's weights.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.encoders import Encoders, PooledEncoder, SequenceEncoder
from affectcore.models.baselines.lmf import LMF
from affectcore.models.baselines.mult import Layer, MulT
from affectcore.models.baselines.tfn import TFN


class NaiveEncoders(nn.Module):
    """Text through `nn.LSTM`; other modalities averaged over all steps, `nn.BatchNorm1d`, three layers."""

    def __init__(self, encoders: Encoders) -> None:
        super().__init__()
        self.modalities, self.each = encoders.modalities, nn.ModuleList()
        for e in encoders.each:
            if isinstance(e, SequenceEncoder):
                rnn = nn.LSTM(e.features, e.rnn.hidden, batch_first=True)
                rnn.load_state_dict(e.rnn.state_dict())
                self.each.append(nn.ModuleList([rnn, _linear(e.project)]))
            elif isinstance(e, PooledEncoder) and e.norm is not None:
                norm = nn.BatchNorm1d(len(e.norm.weight))
                state = e.norm.state_dict()
                state["running_mean"], state["running_var"] = state.pop("mean"), state.pop("variance")
                norm.load_state_dict(state, strict=False)
                self.each.append(nn.ModuleList([norm, nn.Dropout(e.dropout), *(_linear(x) for x in e.layers)]))

    def forward(self, batch: Batch) -> list[Tensor]:
        vectors = []
        for m, parts in zip(self.modalities, cast(list[Any], self.each)):
            x = batch.features[m]
            if isinstance(parts[0], nn.LSTM):
                vectors.append(parts[1](parts[0](x)[1][0].squeeze(0)))
                continue
            h = parts[1](parts[0](x.mean(1)))
            for layer in parts[2:]:
                h = F.relu(layer(h))
            vectors.append(h)
        return [torch.cat([v.new_ones(len(v), 1), v], 1) for v in vectors]  # each (B, H_m + 1)


class NaiveTFN(nn.Module):
    def __init__(self, model: TFN) -> None:
        super().__init__()
        self.encoders, self.task = NaiveEncoders(model.encoders), model.shape.task
        self.post = nn.ModuleList(_linear(x) for x in model.post)
        self.dropout = nn.Dropout(model.config.post_dropout)

    def forward(self, batch: Batch) -> Tensor:
        fused, *others = self.encoders(batch)
        for z in others:
            fused = torch.bmm(fused.unsqueeze(2), z.unsqueeze(1)).view(len(z), -1)
        h = F.relu(self.post[0](self.dropout(fused)))
        y = torch.sigmoid(self.post[2](F.relu(self.post[1](h)))).squeeze(1)
        return y * (self.task.high - self.task.low) + self.task.low


class NaiveLMF(nn.Module):
    def __init__(self, model: LMF) -> None:
        super().__init__()
        self.encoders = NaiveEncoders(model.encoders)
        self.factors = nn.ParameterList([p.detach().clone() for p in model.factors])
        self.mix = nn.Parameter(cast(Tensor, model.mix).detach().clone())
        self.bias = nn.Parameter(model.bias.detach().clone())

    def forward(self, batch: Batch) -> Tensor:
        product: Tensor | float = 1.0
        for z, factor in zip(self.encoders(batch), self.factors):
            product = product * torch.matmul(z, factor)
        return (torch.matmul(self.mix, cast(Tensor, product).permute(1, 0, 2)).squeeze(1) + self.bias).squeeze(1)


class NaiveLayer(nn.Module):
    """Time first, `nn.MultiheadAttention`, the layer's norm applied to queries, keys and values one by one."""

    def __init__(self, layer: Layer, dropout: float) -> None:
        super().__init__()
        d, heads = layer.attention.features, layer.attention.heads
        self.attention = nn.MultiheadAttention(d, heads, dropout=dropout)
        self.attention.load_state_dict(layer.attention.state_dict())
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.norms[0].load_state_dict(layer.norm_attention.state_dict())
        self.norms[1].load_state_dict(layer.norm_network.state_dict())
        self.up, self.down = _linear(layer.up), _linear(layer.down)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, future: Tensor) -> Tensor:
        keys, values = self.norms[0](keys), self.norms[0](values)
        x = (
            x + self.attention(self.norms[0](x), keys, values, attn_mask=future)[0]
        )  # averages the weights, as published
        out: Tensor = x + self.down(F.relu(self.up(self.norms[1](x))))
        return out


class NaiveStack(nn.Module):
    def __init__(self, stack: Any, dropout: float, embed_dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NaiveLayer(layer, dropout) for layer in stack.layers)
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


class NaiveMulT(nn.Module):
    def __init__(self, model: MulT) -> None:
        super().__init__()
        c, names = model.config, model.shape.modalities
        rates = {"audio": c.attention_dropout_audio, "vision": c.attention_dropout_vision}
        p = [rates.get(m, c.attention_dropout) for m in names]
        self.config, self.names, self.pairs = c, names, model.pairs
        self.project = nn.ModuleList()
        for conv in cast(list[nn.Conv1d], model.project):
            self.project.append(nn.Conv1d(conv.in_channels, conv.out_channels, c.kernel, bias=False))
            self.project[-1].load_state_dict(conv.state_dict())
        self.cross = nn.ModuleList(NaiveStack(s, p[j], c.embed_dropout) for (_, j), s in zip(model.pairs, model.cross))
        self.memory = nn.ModuleList(NaiveStack(s, q, c.embed_dropout) for q, s in zip(p, model.memory))
        self.first, self.second, self.last = (_linear(x) for x in (model.first, model.second, model.last))

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


def _linear(layer: Any) -> nn.Linear:
    out = nn.Linear(layer.in_features, layer.out_features)
    out.load_state_dict(layer.state_dict())
    return out


def twin(model: nn.Module) -> nn.Module:
    """Return the naive twin of a TFN, LMF or MulT in its author preset, with the same weights, for regression."""
    for kind, naive in ((TFN, NaiveTFN), (LMF, NaiveLMF), (MulT, NaiveMulT)):
        if isinstance(model, kind):
            before = torch.get_default_dtype()
            torch.set_default_dtype(next(model.parameters()).dtype)  # so that copied weights keep all their digits
            try:
                return naive(model)  # type: ignore[arg-type]
            finally:
                torch.set_default_dtype(before)
    raise ConfigError(f"{type(model).__name__} has no naive twin: there are TFN, LMF and MulT")
