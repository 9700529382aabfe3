"""Naive LNLN: view by view, three norms before every attention, all layers in full."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines import lnln
from affectcore.models.baselines.lnln import LNLN, reverse
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import copy_norm, hidden_view, linear
from affectcore.nn.losses import as_prediction, task_loss

CASES = {
    "lnln_aligned": Case("lnln", batch=32),
    "lnln_unaligned": Case("lnln", batch=8, shape="mosi_unaligned"),
    "lnln_aligned_clean": Case("lnln", batch=32, preset="clean"),
    "lnln_unaligned_clean": Case("lnln", batch=8, preset="clean", shape="mosi_unaligned"),
}


def _map(layer: Any) -> nn.Linear:
    out = nn.Linear(layer.in_features, layer.out_features, bias=False)
    out.load_state_dict(layer.state_dict())
    return out


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = (torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("bhij,bhjd->bhid", weights, v).transpose(1, 2).flatten(2)


class NaiveLayer(nn.Module):
    def __init__(self, layer: lnln.Layer) -> None:
        super().__init__()
        a = layer.attention
        self.heads = a.heads
        self.norms = nn.ModuleList(copy_norm(n) for n in (a.norm_q, a.norm_k, a.norm_v))
        self.maps = nn.ModuleList(_map(w) for w in (a.to_q, a.to_k, a.to_v))
        self.out, self.norm, self.up, self.down = (
            linear(a.out), copy_norm(layer.norm), linear(layer.up), linear(layer.down),
        )  # fmt: skip

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        keys = x if memory is None else memory
        q, k, v = (f(n(t)) for f, n, t in zip(self.maps, self.norms, (x, keys, keys)))
        x = self.out(_attend(q, k, v, self.heads)) + x
        out: Tensor = self.down(F.gelu(self.up(self.norm(x)))) + x
        return out


class NaiveEncoder(nn.Module):
    def __init__(self, encoder: lnln.Encoder) -> None:
        super().__init__()
        self.positions = nn.Parameter(encoder.positions.detach().clone())
        tokens = encoder.tokens
        self.tokens = None if tokens is None else nn.Parameter(tokens.detach().clone())
        self.layers = nn.ModuleList(NaiveLayer(cast(lnln.Layer, layer)) for layer in encoder.layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.tokens is not None:
            x = torch.cat([self.tokens.repeat(len(x), 1, 1), x], 1)
        states = [x + self.positions[: x.shape[1]]]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states


class NaiveHyper(nn.Module):
    def __init__(self, layer: lnln.HyperLayer) -> None:
        super().__init__()
        self.heads = layer.heads
        self.norm_dominant, self.norm_hyper = copy_norm(layer.norm_dominant), copy_norm(layer.norm_hyper)
        self.norms = nn.ModuleList(copy_norm(n) for n in layer.norms)
        self.to_q, self.out = _map(layer.to_q), linear(layer.out)
        self.to_k, self.to_v = (nn.ModuleList(_map(f) for f in maps) for maps in (layer.to_k, layer.to_v))

    def forward(self, hyper: Tensor, dominant: Tensor, others: list[Tensor]) -> Tensor:
        dominant, hyper = self.norm_dominant(dominant), self.norm_hyper(hyper)
        others = [n(x) for n, x in zip(self.norms, others)]
        q = self.to_q(dominant)
        shift = torch.zeros_like(q)
        for x, k, v in zip(others, self.to_k, self.to_v):
            shift = shift + _attend(q, k(x), v(x), self.heads)
        out: Tensor = hyper + self.out(shift)
        return out


class NaiveLNLN(Twin):
    def __init__(self, model: LNLN) -> None:
        super().__init__(model)
        self.names, self.others = model.shape.modalities, model.others
        self.embed = nn.ModuleList(linear(x) for x in model.embed)
        encoders = [*model.encode, *model.rebuild, model.proxy, model.check, model.language]
        copies = [NaiveEncoder(cast(lnln.Encoder, e)) for e in encoders]
        n = len(self.names)
        self.encode, self.rebuild = nn.ModuleList(copies[:n]), nn.ModuleList(copies[n : 2 * n])
        self.proxy, self.check, self.language = copies[2 * n :]
        self.check_hidden, self.check_out = linear(model.check_hidden), linear(model.check_out)
        self.judge_hidden, self.judge_out = linear(model.judge_hidden), linear(model.judge_out)
        self.hyper = nn.ModuleList(NaiveHyper(cast(lnln.HyperLayer, h)) for h in model.hyper)
        fusion = model.fusion
        starts = (model.proxy_start, model.hyper_start, fusion.token, fusion.positions_source, fusion.positions)
        self.starts = nn.ParameterList(p.detach().clone() for p in starts)
        self.fusion = nn.ModuleList(NaiveLayer(cast(lnln.Layer, layer)) for layer in fusion.layers)
        self.last = linear(model.last)

    def _tokens(self, batch: Batch) -> dict[str, Tensor]:
        layers = zip(self.names, self.embed, self.encode)
        return {m: encode(embed(batch.features[m]))[-1][:, : self.config.tokens] for m, embed, encode in layers}

    def _pass(self, view: Batch) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        tokens, n = self._tokens(view), self.config.tokens
        dominant, others = tokens[self.config.dominant], [tokens[m] for m in self.others]
        proxy_start, hyper, token, positions_source, positions = (p.repeat(len(view), 1, 1) for p in self.starts)
        checked = self.check(dominant)[-1][:, 0]
        w = torch.sigmoid(self.check_out(F.leaky_relu(self.check_hidden(checked), 0.1)))
        proxy = reverse(self.proxy(torch.cat([proxy_start, *others], 1))[-1][:, :n])
        corrected = proxy * (1 - w.unsqueeze(-1)) + dominant * w.unsqueeze(-1)
        states = self.language(corrected)
        for layer, state in zip(self.hyper, states):
            hyper = layer(hyper, state, others)
        source = torch.cat([token, hyper], 1) + positions_source
        x = torch.cat([token, states[-1]], 1) + positions
        for layer in self.fusion:
            x = layer(x, source)
        y = as_prediction(self.shape.task, self.last(torch.mean(x[:, 1:], 1)))
        return y, w, corrected, tokens

    def forward(self, batch: Batch) -> Tensor:
        return self._pass(batch)[0]

    def total(self, batch: Batch, view: Batch, rate: Tensor) -> Tensor:
        """Return the loss on a batch, a view of it and the dominant modality's rate (B, 1)."""
        c, task = self.config, self.shape.task
        y, w, corrected, tokens = self._pass(view)
        rebuilt = torch.cat([layer(tokens[m])[-1] for m, layer in zip(self.names, self.rebuild)], 1)
        complete = self._tokens(batch)
        tried = torch.cat([corrected, complete[c.dominant]]).flatten(0, 1)
        judged = self.judge_out(F.leaky_relu(self.judge_hidden(tried), 0.1))
        size = len(tried) // 2
        labels = torch.cat([torch.ones(size), torch.zeros(size)]).long()
        regression = task.kind == "regression"
        error = F.mse_loss(y, batch.target) if regression else task_loss(task, y, batch.target)
        return (
            c.task_weight * error
            + c.completeness_weight * F.mse_loss(w, 1 - rate)
            + c.adversarial_weight * F.cross_entropy(judged, labels)
            + c.reconstruction_weight * F.mse_loss(rebuilt, torch.cat([complete[m] for m in self.names], 1))
        )

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        c, rates = self.config, {}
        for m in self.names:
            spared = torch.rand(len(batch), 1) < c.complete_share
            rates[m] = torch.where(spared, 0.0, c.hide_rate * torch.rand(len(batch), 1))
        yield self.total(batch, hidden_view(batch, rates, c.ends), rates[c.dominant])


TWIN = NaiveLNLN
