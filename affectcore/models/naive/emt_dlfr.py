"""Naive EMT-DLFR: view by view, modality by modality, direction by direction, packed `nn.LSTM`, all layers in full."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectcore.data.schema import Batch
from affectcore.models.baselines import emt_dlfr
from affectcore.models.baselines.emt_dlfr import EMTDLFR, EPS, interleaved_sinusoids
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import copy_norm, hidden_view, linear
from affectcore.nn.losses import as_prediction, task_loss

CASES = {
    "emt_dlfr_aligned": Case("emt_dlfr", batch=32),
    "emt_dlfr_unaligned": Case("emt_dlfr", batch=8, shape="mosi_unaligned"),
    "emt_dlfr_aligned_clean": Case("emt_dlfr", batch=32, preset="clean"),
    "emt_dlfr_unaligned_clean": Case("emt_dlfr", batch=8, preset="clean", shape="mosi_unaligned"),
}


def _copy(layer: Any) -> nn.Module:
    return nn.Identity() if isinstance(layer, nn.Identity) else _linear(layer)


def _linear(layer: nn.Linear) -> nn.Linear:
    out = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    out.load_state_dict(layer.state_dict())
    return out


class NaiveAttention(nn.Module):
    def __init__(self, a: emt_dlfr.Attention, p: float) -> None:
        super().__init__()
        self.heads, self.drop = a.heads, nn.Dropout(p)
        self.norm, self.norm_memory = copy_norm(a.norm), None if a.norm_memory is None else copy_norm(a.norm_memory)
        self.to_q, self.to_kv, self.out = _linear(a.to_q), _linear(a.to_kv), _linear(a.out)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        x = self.norm(x)
        context = x if context is None or self.norm_memory is None else self.norm_memory(context)
        q, (k, v) = self.to_q(x), self.to_kv(context).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        scores = torch.einsum("bid,bjd->bij", q, k) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask.repeat_interleave(self.heads, 0).unsqueeze(1), -torch.finfo(x.dtype).max)
        mixed = torch.einsum("bij,bjd->bid", self.drop(scores.softmax(-1)), v)
        out: Tensor = self.out(mixed.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2))
        return out


class NaiveUnit(nn.Module):
    def __init__(self, unit: emt_dlfr.Unit, p: float, p_network: float) -> None:
        super().__init__()
        self.across, self.within = NaiveAttention(unit.across, p), NaiveAttention(unit.within, p)
        self.norm, self.up, self.down = copy_norm(unit.norm), linear(unit.up), linear(unit.down)
        self.drop = nn.Dropout(p_network)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        x = self.across(x, context, context_mask) + x
        x = self.within(x, None, mask) + x
        value, gate = self.up(self.norm(x)).chunk(2, -1)
        out: Tensor = self.drop(self.down(value * F.gelu(gate))) + x
        return out


class NaiveAttraction(nn.Module):
    def __init__(self, a: emt_dlfr.Attraction) -> None:
        super().__init__()
        self.project, self.up, self.down = linear(a.project), _linear(a.up), linear(a.down)
        self.first, self.norm = nn.BatchNorm1d(a.project.out_features, affine=False), nn.BatchNorm1d(len(a.norm_bias))
        self.norm.load_state_dict({"weight": a.norm_weight, "bias": a.norm_bias}, strict=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.first(self.project(x))
        return self.down(F.relu(self.norm(self.up(z)))), z.detach()


class NaiveEMT(Twin):
    def __init__(self, model: EMTDLFR) -> None:
        super().__init__(model)
        c, self.names = model.config, model.shape.modalities
        self.recurrent = nn.ModuleDict()
        for m, rnn in model.recurrent.items():
            w = cast(Tensor, rnn.weight_ih_l0)
            self.recurrent[m] = nn.LSTM(w.shape[1], w.shape[0] // 4, batch_first=True)
            self.recurrent[m].load_state_dict(rnn.state_dict())
        self.shrink = nn.ModuleDict({m: _copy(x) for m, x in model.shrink.items()})
        self.project = nn.ModuleList(_copy(x) for x in model.project)
        self.unit = NaiveUnit(model.unit, c.attention_dropout, c.network_dropout)
        self.pool_hidden, self.pool_score = linear(model.pool_hidden), linear(model.pool_score)
        attract = {**model.attract, "tokens": model.attract_tokens}
        self.attract = nn.ModuleDict({k: NaiveAttraction(cast(emt_dlfr.Attraction, a)) for k, a in attract.items()})
        self.rebuild = nn.ModuleList(linear(x) for x in model.rebuild)
        self.post = nn.ModuleList(linear(x) for x in model.post)

    def _once(self, view: Batch) -> tuple[Tensor, dict[str, Any], list[Tensor]]:
        c = self.config
        x, vectors, masks = [], [], []
        for m in self.names:
            if m in c.encoded:
                vectors.append(view.features[m][:, 0])
                x.append(view.features[m][:, 1:])
                words = (view.lengths[m] - 2).clamp(min=1)
            else:
                packed = pack_padded_sequence(view.features[m], view.lengths[m], batch_first=True, enforce_sorted=False)
                states, (last, _) = self.recurrent[m](packed)
                states, _ = pad_packed_sequence(states, batch_first=True, total_length=view.features[m].shape[1])
                vectors.append(self.shrink[m](last.squeeze(0)))
                x.append(self.shrink[m](states))
                words = view.lengths[m]
            masks.append(torch.arange(x[-1].shape[1]) < words.unsqueeze(-1))
        tokens = torch.stack([p(v) for p, v in zip(self.project, vectors)], 1)
        x = [p(v) for p, v in zip(self.project, x)]
        x = [v + interleaved_sinusoids(v.shape[1], c.width, v) for v in x]
        for _ in range(c.layers):
            found, local = [], []
            for v, mask in zip(x, masks):
                local.append(self.unit(v, tokens, mask, None))
                found.append(self.unit(tokens, v, None, mask))
            stacked = torch.stack(found, 1).flatten(2)  # (B, M, M d)
            weights = torch.softmax(self.pool_score(torch.tanh(self.pool_hidden(stacked))), 1)
            tokens = torch.matmul(weights.transpose(1, 2), stacked).squeeze(1).unflatten(-1, (len(x), -1))
            x = local
        h = F.dropout(torch.cat([*vectors, tokens.flatten(1)], -1), c.post_dropout, self.training)
        y = self.post[2](F.relu(self.post[1](F.relu(self.post[0](h)))))
        pairs = {}
        if self.training:
            for k, v in {**dict(zip(self.names, vectors)), "tokens": tokens.flatten(1)}.items():
                pairs[k] = self.attract[k](v)
        return as_prediction(self.shape.task, y), pairs, x

    def forward(self, batch: Batch) -> Tensor:
        return self._once(batch)[0]

    def total(self, batch: Batch, view: Batch) -> Tensor:
        """Return the loss on a batch and a view of it."""
        c = self.config
        complete, pairs, _ = self._once(batch)
        y, pairs_view, x = self._once(view)
        loss = task_loss(self.shape.task, y, batch.target)
        attraction = task_loss(self.shape.task, complete, batch.target)
        similar = nn.CosineSimilarity(dim=1)
        for k, (p, z) in pairs.items():
            p_view, z_view = pairs_view[k]
            attraction = attraction - (similar(p_view, z).mean() + similar(p, z_view).mean()) * 0.5
        loss = loss + c.attraction_weight * attraction
        for m, v, layer in zip(self.names, x, self.rebuild):
            rebuilt, first = layer(v), 1 if m in c.encoded else 0
            mask = (batch.observed[m].to(v.dtype) - view.observed[m].to(v.dtype))[:, first:].unsqueeze(-1)
            mask, target = mask.expand(rebuilt.shape), batch.features[m][:, first:]
            error = F.smooth_l1_loss(rebuilt * mask, target * mask, reduction="sum") / (torch.sum(mask) + EPS)
            loss = loss + c.reconstruction_weight * error
        return loss

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        c = self.config
        yield self.total(batch, hidden_view(batch, dict.fromkeys(self.names, c.hide_rate), c.ends))


TWIN = NaiveEMT
