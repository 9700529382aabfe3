"""Naive GCNet: edges listed one by one, messages summed edge by edge, attention step by step, torch's own LSTMs."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.gcnet import Context, GCNet, Graph
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear

CASES = {
    "gcnet": Case("gcnet", batch=32, shape="mosi_videos"),
    "gcnet_clean": Case("gcnet", batch=32, preset="clean", shape="mosi_videos"),
}


def lstm(context: Context, p: float) -> nn.LSTM:
    """Return two bidirectional layers with the same weights."""
    first = cast(Any, context.first)
    out = nn.LSTM(first.weight_ih_l0.shape[1], first.hidden, num_layers=2, bidirectional=True, dropout=p)
    state: dict[str, Tensor] = {}
    for layer, cell in enumerate((context.first, context.second)):
        state |= {k.replace("l0", f"l{layer}"): v for k, v in cell.state_dict().items()}
    out.load_state_dict(state)
    return out


class NaiveGraph(nn.Module):
    def __init__(self, graph: Graph, p: float) -> None:
        super().__init__()
        self.relations, self.root, self.bias = (
            nn.Parameter(w.detach().clone()) for w in (graph.relations, graph.root, graph.bias)
        )
        self.neighbours = linear(graph.neighbours)
        self.itself = nn.Linear(graph.itself.in_features, graph.itself.out_features, bias=False)
        self.itself.load_state_dict(graph.itself.state_dict())
        self.context = lstm(graph.context, p)
        self.query = None if graph.query is None else linear(graph.query)
        self.last = linear(graph.last)

    def forward(self, x: Tensor, edges: Tensor, types: Tensor, lengths: list[int], mask: Tensor) -> Tensor:
        source, target = edges
        r = x @ self.root + self.bias
        for k, w in enumerate(self.relations):
            chosen = types == k
            s, t = source[chosen], target[chosen]
            total = torch.zeros_like(x).index_add(0, t, x[s])
            count = torch.zeros(len(x), dtype=x.dtype).index_add(0, t, torch.ones(len(t), dtype=x.dtype))
            r = r + (total / count.clamp(min=1).unsqueeze(1)) @ w
        r = self.neighbours(torch.zeros_like(r).index_add(0, target, r[source])) + self.itself(r)
        rows = torch.cat([x, r], 1).split(lengths)
        states = self.context(torch.stack([F.pad(v, (0, 0, 0, mask.shape[1] - len(v))) for v in rows], 1))[0]
        if self.query is not None:
            states = torch.stack([self._attend(states, state, mask) for state in states])
        return F.relu(self.last(states))

    def _attend(self, states: Tensor, state: Tensor, mask: Tensor) -> Tensor:
        memory = states.permute(1, 2, 0) * mask.unsqueeze(1)  # (B, D, T)
        scores = torch.tanh(torch.bmm(cast(nn.Linear, self.query)(state).unsqueeze(1), memory) * mask.unsqueeze(1))
        weights = F.softmax(scores, 2) * mask.unsqueeze(1)
        return torch.bmm(weights / weights.sum(2, keepdim=True), states.transpose(0, 1))[:, 0]


class NaiveGCNet(Twin):
    def __init__(self, model: GCNet) -> None:
        super().__init__(model)
        c = model.config
        self.context = lstm(model.context, c.dropout)
        cells = cast(Any, model.unread_gru)
        self.unread_gru = nn.GRU(sum(model.shape.dims.values()), c.hidden, num_layers=2, bidirectional=True)
        for layer, cell in enumerate(cells):
            for k, v in cell.state_dict().items():
                getattr(self.unread_gru, k.replace("l0", f"l{layer}")).data.copy_(v)
        self.temporal, self.speaker = NaiveGraph(model.temporal, c.dropout), NaiveGraph(model.speaker, c.dropout)
        self.predict, self.reconstruct = linear(model.predict), linear(model.reconstruct)

    def forward(self, batch: Batch) -> Tensor:
        longest = max(x.shape[1] for x in batch.features.values())
        x = torch.cat([F.pad(v, (0, 0, 0, longest - v.shape[1])) for v in batch.features.values()], 2)
        steps, _, lengths = self.run(batch, x.transpose(0, 1))
        rows = torch.arange(len(batch))
        return steps[torch.tensor(lengths) - 1, rows].squeeze(1)

    def run(self, batch: Batch, x: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """x (T, B, D): steps (T, B, C), reconstruction (T, B, D), lengths."""
        lengths = torch.stack(list(batch.lengths.values())).amax(0).tolist()
        mask = (torch.arange(len(x)) < torch.tensor(lengths).unsqueeze(1)).to(x.dtype)
        g = self.context(x)[0]
        nodes = torch.cat([g[:n, b] for b, n in enumerate(lengths)])
        edges, time, start = [], [], 0
        for n in lengths:
            for j in range(n):
                for i in range(max(0, j - self.config.window), min(n, j + self.config.window + 1)):
                    edges.append([start + j, start + i])
                    time.append(0 if i > j else 1 if i == j else 2)
            start += n
        pairs, kinds = torch.tensor(edges).t(), torch.tensor(time)
        h = self.temporal(nodes, pairs, kinds, lengths, mask)
        h = h + self.speaker(nodes, pairs, torch.zeros_like(kinds), lengths, mask)
        return self.predict(h), self.reconstruct(h), lengths

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        x = torch.cat(list(batch.features.values()), 2).transpose(0, 1)
        sizes = list(self.shape.dims.values())
        kept = torch.zeros(x.shape[0] * x.shape[1], len(sizes))
        kept[torch.arange(len(kept)), torch.randint(len(sizes), (len(kept),))] = 1
        others = (len(sizes) * (1 - self.config.missing_rate) - 1) / (len(sizes) - 1)
        kept = ((kept + (torch.rand_like(kept) < others)) > 0).to(x.dtype).view(*x.shape[:2], -1)
        steps, found, lengths = self.run(
            batch, torch.cat([v * kept[..., i : i + 1] for i, v in enumerate(x.split(sizes, 2))], 2)
        )
        last = steps[torch.tensor(lengths) - 1, torch.arange(len(batch))].squeeze(1)
        loss = (last - batch.target).square().mean()
        for i, (a, b) in enumerate(zip(found.split(sizes, 2), x.split(sizes, 2))):
            loss = loss + ((a - b).square() * (1 - kept[..., i : i + 1])).sum() / sizes[i] / sum(lengths)
        yield loss


TWIN = NaiveGCNet
