"""Naive MISA: packed `nn.LSTM`, `nn.TransformerEncoderLayer`, each loss pair by pair."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectcore.data.schema import Batch
from affectcore.models.baselines.misa import MISA, SequenceEncoder
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear

CASES = {"misa": Case("misa", batch=16), "misa_clean": Case("misa", batch=16, preset="clean")}


class NaiveEncoder(nn.Module):
    def __init__(self, encoder: SequenceEncoder) -> None:
        super().__init__()
        n = encoder.first.hidden
        self.first = nn.LSTM(n, n, bidirectional=True, batch_first=True)
        self.second = nn.LSTM(2 * n, n, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(2 * n)
        for mine, theirs in zip((self.first, self.second, self.norm), (encoder.first, encoder.second, encoder.norm)):
            mine.load_state_dict(theirs.state_dict())

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, (first, _) = self.first(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True)
        packed = pack_padded_sequence(self.norm(padded), lengths, batch_first=True, enforce_sorted=False)
        _, (second, _) = self.second(packed)
        return torch.cat([*first, *second], 1)


class NaiveMISA(Twin):
    def __init__(self, model: MISA) -> None:
        super().__init__(model)
        c = model.config
        self.encoders = nn.ModuleDict({m: NaiveEncoder(cast(SequenceEncoder, e)) for m, e in model.encoders.items()})
        self.project, self.private, self.rebuild = (
            nn.ModuleList(linear(x) for x in cast(Any, layers))
            for layers in (model.project, model.private, model.rebuild)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(c.width) for _ in cast(Any, model.norm))
        self.norm.load_state_dict(model.norm.state_dict())
        self.shared, self.fuse, self.last = linear(model.shared), linear(model.fuse), linear(model.last)
        t = model.transformer
        self.transformer = nn.TransformerEncoderLayer(c.width, c.heads, c.feedforward, c.transformer_dropout)
        parts = self.transformer
        for mine, theirs in (
            (parts.self_attn, t.attention), (parts.linear1, t.up), (parts.linear2, t.down),
            (parts.norm1, t.norm_attention), (parts.norm2, t.norm_network),
        ):  # fmt: skip
            mine.load_state_dict(theirs.state_dict())
        self.spare = model.spare

    def codes(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        names = list(batch.features)
        text = batch.lengths[names[0]]
        u = []
        for m, project, norm in zip(names, self.project, self.norm):
            x = batch.features[m]
            if m in self.config.averaged:
                mask = (torch.arange(x.shape[1]) < batch.lengths[m][:, None]).to(x.dtype)
                h = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            else:
                h = self.encoders[m](x, text.clamp(max=x.shape[1]))
            u.append(norm(F.relu(project(h))))
        return u, [torch.sigmoid(f(v)) for f, v in zip(self.private, u)], [torch.sigmoid(self.shared(v)) for v in u]

    def fused(self, private: list[Tensor], shared: list[Tensor]) -> Tensor:
        h = self.transformer(torch.stack([*private, *shared]))
        out = self.fuse(torch.cat(list(h), 1))
        y: Tensor = self.last(F.relu(F.dropout(out, self.config.dropout, self.training)))
        return y.squeeze(1)

    def forward(self, batch: Batch) -> Tensor:
        _, private, shared = self.codes(batch)
        return self.fused(private, shared)

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        u, private, shared = self.codes(batch)
        n = len(u)
        pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
        task = F.mse_loss(self.fused(private, shared), batch.target)
        sim = sum((cmd(shared[i], shared[j], self.config.moments) for i, j in pairs), torch.zeros(())) / len(pairs)
        diff = sum((orthogonality(private[i], shared[i]) for i in range(n)), torch.zeros(()))
        diff = diff + sum((orthogonality(private[i], private[j]) for i, j in pairs), torch.zeros(()))
        recon = sum((F.mse_loss(f(p + s), v) for f, p, s, v in zip(self.rebuild, private, shared, u)), torch.zeros(()))
        yield task + self.config.diff * diff + self.config.sim * sim + self.config.recon * recon / n


def cmd(a: Tensor, b: Tensor, moments: int) -> Tensor:
    ma, mb = a.mean(0), b.mean(0)
    total = (ma - mb).pow(2).sum() ** 0.5
    for k in range(2, moments + 1):
        total = total + ((a - ma).pow(k).mean(0) - (b - mb).pow(k).mean(0)).pow(2).sum() ** 0.5
    return total


def orthogonality(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(0, keepdim=True), b - b.mean(0, keepdim=True)
    a, b = (x / (x.norm(p=2, dim=1, keepdim=True).detach() + 1e-6) for x in (a, b))
    return (a.t() @ b).pow(2).mean()


TWIN = NaiveMISA
