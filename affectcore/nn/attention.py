"""Attention by explicit products, which works under `torch.func.vmap` in training and in evaluation.

Masks are (..., S) bool, True where a key may be seen. A query that may see no key at all gets zeros, never NaN.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.errors import ConfigError

HIDDEN = -1e4
"""Added to the score of a hidden key: exp(-1e4) is zero in every floating type, and -1e4 still fits float16."""


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return softmax over the last axis of scores (..., S) where mask (..., S) is True, exactly 0 elsewhere.

    Rows without any True become zeros.
    """
    return scores.masked_fill(~mask, HIDDEN).softmax(-1).masked_fill(~mask, 0)


def sinusoids(steps: int, features: int, like: Tensor) -> Tensor:
    """Return sinusoidal positions (steps, features), dtype and device of `like`.

    Columns 0..F/2-1 hold sin(p w_i), the next F/2 cos(p w_i), w_i = 10000^(-i / (F/2 - 1)), the tensor2tensor form of
    Vaswani et al. (2017), section 3.5; position p counts from 1; an odd last column is zero.
    """
    half = features // 2
    frequency = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000) / max(half - 1, 1)))
    angle = torch.arange(1, steps + 1, device=like.device).unsqueeze(1) * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, features % 2)).to(like.dtype)


class Droppable(Protocol):
    """What layers need of a model's noise."""

    def dropout(self, x: Tensor, p: float) -> Tensor: ...


class MultiheadAttention(nn.Module):
    """Multi-head attention of queries (..., T, D) over memory (..., S, D): (..., T, D).

    Parameters carry the names and shapes of `torch.nn.MultiheadAttention`, whose weights can be loaded.
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        if features % heads:
            raise ConfigError(f"attention of {features} features cannot be split into {heads} heads of equal size")
        self.features, self.heads = features, heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * features, features))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * features))
        self.out_proj = nn.Linear(features, features)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # (..., heads, T, D / heads)

    def forward(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None, noise: Droppable | None = None, p: float = 0.0
    ) -> Tensor:
        """mask (..., S): keys that may be seen; None means all. `p` drops attention weights, drawn from `noise`."""
        d = self.features
        w, b = self.in_proj_weight, self.in_proj_bias
        q = F.linear(query, w[:d], b[:d]) * (d // self.heads) ** -0.5
        k, v = F.linear(memory, w[d:], b[d:]).chunk(2, -1)
        q, k, v = self._split(q), self._split(k), self._split(v)
        scores = q @ k.transpose(-1, -2)  # (..., heads, T, S)
        if mask is None:
            weights = scores.softmax(-1)
        else:
            weights = masked_softmax(scores, mask.unsqueeze(-2).unsqueeze(-2).expand_as(scores))
        if noise is not None:
            weights = noise.dropout(weights, p)
        mixed = (weights @ v).transpose(-2, -3).flatten(-2)  # (..., T, D)
        out = self.out_proj(mixed)
        return out if mask is None else out.masked_fill(~mask.any(-1).unsqueeze(-1).unsqueeze(-1), 0)
