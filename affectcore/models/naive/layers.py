"""What several naive twins share: copies of layers, the published encoders of TFN and LMF, BERT-like encoders."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.encoders import Encoders, PooledEncoder, SequenceEncoder
from affectcore.nn.attention import sinusoids
from affectcore.nn.transformer import PostNormLayer, Transformer


def linear(layer: Any) -> nn.Linear:
    """Return a copy of a linear layer."""
    out = nn.Linear(layer.in_features, layer.out_features)
    out.load_state_dict(layer.state_dict())
    return out


class NaiveEncoders(nn.Module):
    """Text through `nn.LSTM`; other modalities averaged over all steps, `nn.BatchNorm1d`, three layers."""

    def __init__(self, encoders: Encoders) -> None:
        super().__init__()
        self.modalities, self.each = encoders.modalities, nn.ModuleList()
        for e in encoders.each:
            if isinstance(e, SequenceEncoder):
                rnn = nn.LSTM(e.features, e.rnn.hidden, batch_first=True)
                rnn.load_state_dict(e.rnn.state_dict())
                self.each.append(nn.ModuleList([rnn, linear(e.project)]))
            elif isinstance(e, PooledEncoder) and e.norm is not None:
                norm = nn.BatchNorm1d(len(e.norm.weight))
                state = e.norm.state_dict()
                state["running_mean"], state["running_var"] = state.pop("mean"), state.pop("variance")
                norm.load_state_dict(state, strict=False)
                self.each.append(nn.ModuleList([norm, nn.Dropout(e.dropout), *(linear(x) for x in e.layers)]))

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


class NaiveHead(nn.Module):
    """Copy of a head of Self-MM or TETFN: features and output of its three layers."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.first, self.second, self.last = linear(head.first), linear(head.second), linear(head.last)
        self.drop = nn.Dropout(head.p)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.first(self.drop(x)))
        return h, self.last(F.relu(self.second(h)))


class NaiveLabels:
    """Labels of each modality as published: maps over all training samples, means over all of them after every step."""

    def __init__(self, labels: Any, rows: int) -> None:
        self.maps = [torch.zeros(rows, n) for n in labels.sizes]
        self.labels = [torch.zeros(rows) for _ in labels.sizes]
        self.centres = [[torch.zeros(n), torch.zeros(n)] for n in labels.sizes]
        self.bound, self.epoch, self.first = labels.bound, 0, labels.first
        self.started = False

    def losses(self, outputs: list[Tensor], batch: Batch) -> Tensor:
        """Return the sum of the heads' losses; outputs: of the fused head, then of each modality's."""
        index = batch.index
        if not self.started:  # the published code initialises all labels before the first epoch
            for y in self.labels:
                y[index] = batch.target
        total = torch.zeros(())
        for k, out in enumerate(outputs):
            own = self.labels[k][index]
            weight = torch.ones_like(own) if k == 0 else torch.tanh((own - self.labels[0][index]).abs())
            total = total + (weight * (out.view(-1) - own).abs()).mean()
        return total

    @torch.no_grad()
    def update(self, features: list[Tensor], index: Tensor) -> None:
        if self.epoch >= self.first:
            deltas = []
            for f, (plus, minus) in zip(features, self.centres):
                near, far = torch.norm(f - plus, dim=-1), torch.norm(f - minus, dim=-1)
                deltas.append((far - near) / (near + 1e-8))
            y, n = self.labels[0][index], self.epoch + 1
            for k in range(1, len(features)):
                alpha = deltas[k] / (deltas[0] + 1e-8)
                new = (0.5 * alpha * y + 0.5 * (y + deltas[k] - deltas[0])).clamp(-self.bound, self.bound)
                self.labels[k][index] = (n - 1) / (n + 1) * self.labels[k][index] + 2 / (n + 1) * new
        for k, f in enumerate(features):
            self.maps[k][index] = f
            sides = self.labels[k] > 0, self.labels[k] < 0
            self.centres[k] = [self.maps[k][s].mean(0) for s in sides]


class NaiveLayer(nn.Module):
    """A post-norm layer with three projections, scores and mask written out, as in published BERT-like encoders."""

    def __init__(self, layer: PostNormLayer, p: float, p_attention: float) -> None:
        super().__init__()
        a = layer.attention
        self.heads, self.p, self.p_attention = a.heads, p, p_attention
        self.projections = nn.ModuleList(nn.Linear(a.features, a.features) for _ in range(3))
        with torch.no_grad():
            for f, w, b in zip(self.projections, a.in_proj_weight.chunk(3), a.in_proj_bias.chunk(3)):
                cast(nn.Linear, f).weight.copy_(w)
                cast(nn.Linear, f).bias.copy_(b)
        self.out, self.up, self.down = linear(a.out_proj), linear(layer.up), linear(layer.down)
        self.norms = nn.ModuleList(_norm(x) for x in (layer.norm_attention, layer.norm_network))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).permute(0, 2, 1, 3) for f in self.projections)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
        weights = F.dropout(scores.softmax(-1), self.p_attention, self.training)
        mixed = (weights @ v).permute(0, 2, 1, 3).contiguous().flatten(2)
        x = self.norms[0](F.dropout(self.out(mixed), self.p, self.training) + x)
        h = self.up(x)
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        out: Tensor = self.norms[1](F.dropout(self.down(h), self.p, self.training) + x)
        return out


class NaiveTransformer(nn.Module):
    """Linear map, learned positions, norm and layers; nothing is masked."""

    def __init__(self, encoder: Transformer, p: float, p_attention: float) -> None:
        super().__init__()
        self.embed, self.norm, self.p = linear(encoder.embed), _norm(encoder.norm), p
        self.positions = nn.Embedding(*encoder.positions.shape)
        self.positions.load_state_dict({"weight": encoder.positions})
        self.layers = nn.ModuleList(NaiveLayer(x, p, p_attention) for x in cast(list[PostNormLayer], encoder.layers))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1]).unsqueeze(0).expand(len(x), -1)
        x = F.dropout(self.norm(self.embed(x) + self.positions(places)), self.p, self.training)
        mask = x.new_zeros(len(x), 1, 1, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        return x


def _norm(layer: nn.LayerNorm) -> nn.LayerNorm:
    out = nn.LayerNorm(layer.normalized_shape, layer.eps)
    out.load_state_dict(layer.state_dict())
    return out


class NaivePreNormLayer(nn.Module):
    """Time first, `nn.MultiheadAttention`, the layer's norm applied to queries, keys and values one by one."""

    def __init__(self, layer: Any, attention: float, inner: float, residual: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(layer.attention.features, layer.attention.heads, dropout=attention)
        self.attention.load_state_dict(layer.attention.state_dict())
        self.norms = nn.ModuleList(copy_norm(n) for n in (layer.norm_attention, layer.norm_network))
        self.up, self.down = linear(layer.up), linear(layer.down)
        self.inner, self.residual = inner, residual

    def forward(self, x: Tensor, memory: Tensor | None, future: Tensor | None) -> Tensor:
        q = self.norms[0](x)
        k, v = (q, q) if memory is None else (self.norms[0](memory), self.norms[0](memory))
        mixed = self.attention(q, k, v, attn_mask=future)[0]  # averages the weights, as published
        x = x + F.dropout(mixed, self.residual, self.training)
        h = F.dropout(F.relu(self.up(self.norms[1](x))), self.inner, self.training)
        return x + F.dropout(self.down(h), self.residual, self.training)


class NaivePreNormStack(nn.Module):
    """A stack of `affectcore.nn.crossmodal` in the published order: positions drawn up anew, norms in every layer."""

    def __init__(
        self,
        stack: Any,
        embed: float,
        attention: float,
        inner: float,
        residual: float,
        positions: bool,
        skip_zero: bool,
        future: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NaivePreNormLayer(layer, attention, inner, residual) for layer in stack.layers)
        self.norm = copy_norm(stack.norm)
        self.p, self.positions, self.skip_zero, self.future = embed, positions, skip_zero, future

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """x (T, B, D), memory (S, B, D)."""
        source = x if memory is None else memory
        mask = None
        if self.future:
            mask = torch.full((len(x), len(source)), -math.inf, dtype=x.dtype).triu(1 + abs(len(source) - len(x)))
        if memory is not None:
            memory = self._placed(memory)
        x = self._placed(x)
        for layer in self.layers:
            x = layer(x, memory, mask)
        out: Tensor = self.norm(x)
        return out

    def _placed(self, x: Tensor) -> Tensor:
        y = x * math.sqrt(x.shape[-1])
        if self.positions:
            code = sinusoids(len(x), x.shape[-1], x).unsqueeze(1)
            y = y + (torch.where(x[..., :1] == 0, torch.zeros_like(code), code) if self.skip_zero else code)
        return F.dropout(y, self.p, self.training)


def copy_norm(norm: Any) -> nn.LayerNorm:
    """Return a copy of a layer norm."""
    out = nn.LayerNorm(norm.normalized_shape, norm.eps)
    out.load_state_dict(norm.state_dict())
    return out


def hidden_view(batch: Batch, rates: dict[str, Any], ends: tuple[str, ...]) -> Batch:
    """Return the batch with steps hidden by torch's global generator, at a rate a modality or (B, 1) rates."""
    kept = {}
    for m, seen in batch.observed.items():
        kept[m] = torch.rand(seen.shape) > rates[m]
        if m in ends:
            kept[m][:, 0] = True
            kept[m][torch.arange(len(batch)), batch.lengths[m] - 1] = True
    return batch.with_observed(kept)
