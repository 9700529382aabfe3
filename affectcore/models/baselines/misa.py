"""MISA: one space that modalities share, one of its own for each, a small transformer over both [hazarika2020misa].

| symbol | name | shape |
|---|---|---|
| u_m | `projected[:, m]`, a modality's vector | (B, M, d) |
| h_m^c | `shared[:, m]`, one encoder for all modalities | (B, M, d) |
| h_m^p | `private[:, m]`, an encoder of its own | (B, M, d) |
| L_task | term "task" | scalar |
| L_sim | "sim": distance of the first five central moments (CMD) of h^c, mean over pairs of modalities | scalar |
| L_diff | "diff": sum over pairs (h_m^c, h_m^p) and (h_m^p, h_n^p) of mean_ij ((A' B)_ij)^2 | scalar |
| L_recon | "recon": squared error of a linear map of h_m^c + h_m^p against u_m, mean over modalities | scalar |

A and B (B, d) are a pair's codes with columns centred over the batch and rows then scaled to length 1.
Two or more modalities (ConfigError for one), every task. `Config.averaged` are averaged over time, all others read by
two bidirectional LSTMs whose last states are joined. In clean the two tokens of a missing modality are hidden from the
transformer, become zero after it, and the modality's losses leave the sample out.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `gaps`: the code knows lengths alone: missing steps within a sequence are averaged and read as zeros, and missing
   modalities are modalities.
2. `text_lengths`: the code reads as many steps of every sequence as the text has, aligned or not.
3. `squared_error`: the code trains regression with the squared error; clean with the absolute one, as all baselines.
4. `unread`: the code makes a norm and a classifier of private and shared codes that no loss reads (3,588 parameters).
On the same weights, `author` and the published code differ by at most 2e-6 in the outputs, 4e-7 in each loss and
1.2e-6 of the largest entry in the gradient of the first audio LSTM (float32; MOSI shape, aligned and unaligned), by
9e-15, 3e-15 and 3e-15 in float64; both have 1,138,033 parameters.
What saves time and changes no value: |A' B|^2 is the sum over the products of the B x B matrices A A' and B B'.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import MultiheadAttention
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import masked_mean
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    averaged: tuple[str, ...] = ("text",)  # modalities averaged over time, all others are read by LSTMs
    width: int = 128  # d, size of every code; code, MOSI: 128
    heads: int = 2  # of the transformer; code: 2
    feedforward: int = 2048  # hidden units of the transformer; code: 2048, torch's default
    transformer_dropout: float = 0.1  # code: 0.1, torch's default
    dropout: float = 0.2  # of the fusion's hidden layer; code, MOSI: 0.2
    moments: int = 5  # compared by L_sim, 1 or more; code: 5
    sim: float = 0.3  # weight of L_sim; code, MOSI: 0.3
    diff: float = 0.1  # weight of L_diff; code, MOSI: 0.1
    recon: float = 1.0  # weight of L_recon; code: 1
    gaps: bool = False  # difference 1
    text_lengths: bool = False  # difference 2
    squared_error: bool = False  # difference 3
    unread: bool = False  # difference 4


@dataclass(frozen=True)
class MISAOutput(Output):
    """present: (B, M), 1 where a modality counts; the codes, each (B, M, d); rebuilt: (B, M, d) against projected."""

    present: Tensor
    projected: Tensor
    shared: Tensor
    private: Tensor
    rebuilt: Tensor


class SequenceEncoder(nn.Module):
    """Two bidirectional LSTMs with a norm between, last states of both: (B, T, D) to (B, 4D)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = LSTM(features, features, bidirectional=True)
        self.norm = nn.LayerNorm(2 * features)
        self.second = LSTM(2 * features, features, bidirectional=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        states, first = self.first(x, mask)
        _, second = self.second(self.norm(states), mask)
        return torch.cat([first, second], -1)


class TransformerLayer(nn.Module):
    """One layer of `torch.nn.TransformerEncoderLayer` in its default, post-norm form: (B, T, d) to (B, T, d)."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiheadAttention(width, heads)
        self.norm_attention, self.norm_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.p = dropout

    def forward(self, x: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        x = self.norm_attention(x + noise.dropout(self.attention(x, x, mask, noise, self.p), self.p))
        h = self.down(noise.dropout(F.relu(self.up(x)), self.p))
        out: Tensor = self.norm_network(x + noise.dropout(h, self.p))
        return out


class MISA(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, d = shape.modalities, config.width
        if len(names) < 2:
            raise ConfigError(f"misa: compares modalities, it needs two or more, got {', '.join(names)} alone")
        if config.moments < 1:
            raise ConfigError(f"misa: moments {config.moments} must be 1 or more")
        self.encoders = nn.ModuleDict(
            {m: SequenceEncoder(n) for m, n in shape.dims.items() if m not in config.averaged}
        )
        sizes = [n if m in config.averaged else 4 * n for m, n in shape.dims.items()]
        self.project = nn.ModuleList([nn.Linear(n, d) for n in sizes])
        self.norm = nn.ModuleList([nn.LayerNorm(d) for _ in names])
        self.private = nn.ModuleList([nn.Linear(d, d) for _ in names])
        self.shared = nn.Linear(d, d)
        self.rebuild = nn.ModuleList([nn.Linear(d, d) for _ in names])
        self.transformer = TransformerLayer(d, config.heads, config.feedforward, config.transformer_dropout)
        self.fuse = nn.Linear(2 * len(names) * d, 3 * d)
        self.last = nn.Linear(3 * d, shape.task.outputs)
        spare = [nn.LayerNorm(2 * next(iter(shape.dims.values()))), nn.Linear(d, 4)]
        self.spare = nn.ModuleList(spare) if config.unread else None

    def _mask(self, m: str, batch: Batch) -> Tensor:
        """Return the steps of a modality that are read, (B, T_m) bool."""
        config = self.config
        if config.text_lengths and m not in config.averaged:
            steps = torch.arange(batch.features[m].shape[-2], device=batch.index.device)
            return steps < batch.lengths[batch.modalities[0]].unsqueeze(-1)
        return batch.valid(m) if config.gaps else batch.observed[m]

    def forward(self, batch: Batch, noise: Noise) -> MISAOutput:
        vectors, there = [], []
        for m, linear, norm in zip(self.shape.modalities, self.project, self.norm):
            x, mask = batch.features[m], self._mask(m, batch)
            h = masked_mean(x, mask) if m in self.config.averaged else self.encoders[m](x, mask)
            vectors.append(norm(F.relu(linear(h))))
            there.append(torch.ones_like(mask[..., 0]) if self.config.gaps else batch.observed[m].any(-1))
        u, present = torch.stack(vectors, -2), torch.stack(there, -1)  # (B, M, d), (B, M)
        private = torch.sigmoid(torch.stack([f(v) for f, v in zip(self.private, vectors)], -2))
        shared = torch.sigmoid(self.shared(u))
        rebuilt = torch.stack([f(v) for f, v in zip(self.rebuild, (private + shared).unbind(-2))], -2)
        seen = torch.cat([present, present], -1)
        tokens = self.transformer(torch.cat([private, shared], -2), seen, noise)  # (B, 2M, d)
        h = F.relu(noise.dropout(self.fuse((tokens * seen.unsqueeze(-1)).flatten(-2)), self.config.dropout))
        prediction = as_prediction(self.shape.task, self.last(h))
        return MISAOutput(prediction, present.to(u.dtype), u, shared, private, rebuilt)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, MISAOutput)
        terms, memo = super().losses(output, batch, progress)
        if self.config.squared_error and self.shape.task.kind == "regression":
            terms["task"] = F.mse_loss(output.prediction, batch.target)
        w = output.present.unsqueeze(-1)  # (B, M, 1)
        terms["sim"] = moment_distance(output.shared, w, self.config.moments)
        terms["diff"] = difference(output.shared, output.private, w)
        error = ((output.rebuilt - output.projected).square().mean(-1, keepdim=True) * w).sum(0) / _count(w)  # (M, 1)
        terms["recon"] = error.mean()
        return terms, memo

    def weights(self, progress: Progress) -> dict[str, float]:
        return {"sim": self.config.sim, "diff": self.config.diff, "recon": self.config.recon}


def _count(w: Tensor) -> Tensor:
    """Return the number of samples of each modality, 1 where there are none: (B, M, 1) to (M, 1)."""
    return w.sum(0).clamp(min=1)


def moment_distance(x: Tensor, w: Tensor, moments: int) -> Tensor:
    """Return CMD of codes x (B, M, d) with weights w (B, M, 1) of 0 or 1: scalar, mean over pairs of modalities.

    The distance of two modalities is |mean - mean| + sum over k = 2 .. moments of |k-th central moment - ...|.
    """
    mean = (x * w).sum(0) / _count(w)  # (M, d)
    power = centred = (x - mean) * w
    found = [mean]
    for _ in range(moments - 1):
        power = power * centred
        found.append(power.sum(0) / _count(w))
    first, second = zip(*combinations(range(x.shape[-2]), 2))
    m = torch.stack(found)  # (moments, M, d)
    squares = (m[:, list(first)] - m[:, list(second)]).square().sum(-1)
    return squares.clamp(min=1e-24).sqrt().sum(0).mean()  # a root has no slope at 0


def difference(shared: Tensor, private: Tensor, w: Tensor) -> Tensor:
    """Return L_diff of codes (B, M, d) with weights w (B, M, 1) of 0 or 1: scalar."""
    x, w = torch.cat([private, shared], -2), torch.cat([w, w], -2)
    x = (x - (x * w).sum(0) / _count(w)) * w
    x = (x / (x.norm(dim=-1, keepdim=True).detach() + 1e-6)).movedim(-2, 0)  # (2M, B, d), rows of unit length
    gram = x @ x.transpose(-1, -2)  # (2M, B, B)
    n = shared.shape[-2]
    first, second = zip(*[(i, n + i) for i in range(n)], *combinations(range(n), 2))
    return (gram[list(first)] * gram[list(second)]).sum() / shared.shape[-1] ** 2


CLEAN = Config()
AUTHOR = replace(CLEAN, gaps=True, text_lengths=True, squared_error=True, unread=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
