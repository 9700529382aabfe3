"""Naive TETFN: `nn.LSTM` and `nn.Conv1d`, the stacks of naive MulT with drop-out of what a layer adds."""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.tetfn import TETFN, Stack
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import NaiveHead, NaiveLabels, linear
from affectcore.models.naive.self_mm import ROWS
from affectcore.nn.attention import sinusoids

CASES = {"tetfn": Case("tetfn", batch=64), "tetfn_clean": Case("tetfn", batch=64, preset="clean")}


class NaiveStack(nn.Module):
    def __init__(self, stack: Stack, p: float, p_add: float, positions: bool) -> None:
        super().__init__()
        self.positions, self.p_add = positions, p_add
        self.layers = nn.ModuleList()
        for layer in cast(Any, stack.layers):
            attention = nn.MultiheadAttention(layer.attention.features, layer.attention.heads, dropout=p)
            attention.load_state_dict(layer.attention.state_dict())
            norms = nn.ModuleList(nn.LayerNorm(layer.attention.features) for _ in range(2))
            norms[0].load_state_dict(layer.norm_attention.state_dict())
            norms[1].load_state_dict(layer.norm_network.state_dict())
            self.layers.append(nn.ModuleList([attention, norms, linear(layer.up), linear(layer.down)]))
        self.norm = nn.LayerNorm(stack.norm.normalized_shape)
        self.norm.load_state_dict(stack.norm.state_dict())

    def place(self, x: Tensor) -> Tensor:
        """x (T, B, d); a step whose first feature is zero counts as padding, which has no position."""
        y = math.sqrt(x.shape[-1]) * x
        if self.positions:
            y = y + sinusoids(x.shape[0], x.shape[-1], x)[:, None] * (x[..., :1] != 0)
        return y

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        source = x if memory is None else memory
        future = torch.full((len(x), len(source)), -math.inf, dtype=x.dtype).triu(1 + abs(len(source) - len(x)))
        x = self.place(x)
        placed = None if memory is None else (self.place(memory), self.place(memory))
        for attention, norms, up, down in cast(Any, self.layers):
            q = norms[0](x)
            k, v = (q, q) if placed is None else (norms[0](placed[0]), norms[0](placed[1]))
            x = x + F.dropout(attention(q, k, v, attn_mask=future)[0], self.p_add, self.training)
            x = x + F.dropout(down(F.relu(up(norms[1](x)))), self.p_add, self.training)
        out: Tensor = self.norm(x)
        return out


class NaiveTETFN(Twin):
    def __init__(self, model: TETFN) -> None:
        super().__init__(model)
        c = model.config
        self.others, self.pairs = model.others, model.pairs
        self.recurrent, self.project = nn.ModuleDict(), nn.ModuleDict()
        for m, rnn in cast(Any, model.recurrent).items():
            self.recurrent[m] = nn.LSTM(self.shape.dims[m], rnn.hidden, batch_first=True)
            self.recurrent[m].load_state_dict(rnn.state_dict())
        for m, layer in cast(Any, model.project).items():
            conv = nn.Conv1d(layer.in_features, layer.out_features, 1, bias=False)
            conv.load_state_dict({"weight": layer.weight.unsqueeze(-1)})
            self.project[m] = conv

        def stacks(modules: Any, p: float, positions: bool = False) -> nn.ModuleList:
            return nn.ModuleList(NaiveStack(s, p, c.residual_dropout, positions) for s in modules)

        p = c.attention_dropout
        rates = {"audio": c.attention_dropout_audio}
        self.to_text = nn.ModuleList(
            NaiveStack(
                cast(Stack, model.to_text[m]), rates.get(m, c.attention_dropout_vision), c.residual_dropout, False
            )
            for m in self.others
        )
        self.from_text = stacks(model.from_text.values(), p)
        self.lower, self.upper = stacks(model.lower, p, True), stacks(model.upper, p, True)
        self.memory = stacks(model.memory.values(), p)
        self.heads = nn.ModuleList(NaiveHead(h) for h in model.heads.values())
        self.fused = NaiveHead(model.fused)
        self.labels = NaiveLabels(model.labels, ROWS)

    def heads_of(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Return features and outputs of the fused head and of each modality's."""
        x = {}
        for m, v in batch.features.items():
            h = v if m == "text" else self.recurrent[m](v)[0]
            x[m] = self.project[m](h.transpose(1, 2)).permute(2, 0, 1)
        z: dict[str, list[Tensor]] = {m: [] for m in x}
        for m, to, back in zip(self.others, self.to_text, self.from_text):
            z["text"].append(to(x["text"], x[m]))
            z[m].append(back(x[m], x["text"]))
        for (a, b), lower, upper in zip(self.pairs, self.lower, self.upper):
            z[a].append(upper(x[a], lower(x[b], x["text"])))
        last = [memory(torch.cat(z[m], 2))[-1] for m, memory in zip(x, self.memory)]
        pairs = [self.fused(torch.cat(last, 1)), *(h(v.max(0)[0]) for h, v in zip(self.heads, x.values()))]
        return [p[0] for p in pairs], [p[1] for p in pairs]

    def forward(self, batch: Batch) -> Tensor:
        y: Tensor = self.heads_of(batch)[1][0]
        return y.squeeze(1)

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        features, outputs = self.heads_of(batch)
        yield self.labels.losses(outputs, batch)
        self.labels.update([f.detach() for f in features], batch.index)


TWIN = NaiveTETFN
