"""Attention by explicit products, which works under `torch.func.vmap` in training and in evaluation.

Masks are (..., S) bool, True where a key may be seen. A query that may see no key at all gets zeros, never NaN.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

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
    place, step = (torch.arange(n, dtype=torch.float64, device=like.device) for n in (half, steps))
    angle = (step + 1).unsqueeze(1) * torch.exp(place * (-math.log(10000) / max(half - 1, 1)))
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, features % 2)).to(like.dtype)


class Droppable(Protocol):
    """What layers need of a model's noise."""

    @property
    def training(self) -> bool: ...
    def dropout(self, x: Tensor, p: float) -> Tensor: ...


def _fold(size: int, dims: Sequence[int | None], tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the tensors with the axis of `vmap` folded into their batch axis, the first."""
    moved = [
        None if x is None else x.expand(size, *x.shape) if d is None else x.movedim(d, 0) for d, x in zip(dims, tensors)
    ]
    return [None if x is None else x.flatten(0, 1) for x in moved]


def _by_head(bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Return bias (B, 1, 1 or T, S) expanded, not copied, to (B, heads, T, S)."""
    return None if bias is None else bias.expand(*q.shape[:3], k.shape[2])


class _FusedBackward(torch.autograd.Function):
    @staticmethod
    def forward(*saved: Any) -> tuple[Tensor, ...]:
        *tensors, bias = saved
        op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        bias = _by_head(bias, tensors[1], tensors[2])
        out: tuple[Tensor, ...] = op(*tensors, 0.0, False, attn_mask=bias, scale=1.0)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("attention has no second derivative on the CPU")

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *saved: Tensor | None) -> Any:
        out = _FusedBackward.apply(*_fold(info.batch_size, dims, saved))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in out), (0, 0, 0)


class _Fused(torch.autograd.Function):
    """softmax(q k' + bias) v of (B, heads, T, d) by torch's CPU kernel, which never writes the (T, S) scores to memory.

    Attention has no parameters, so a stack of seeds is just a larger batch: that is the rule for `vmap`, which the
    kernel itself lacks.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out: tuple[Tensor, Tensor] = op(q, k, v, 0.0, False, attn_mask=_by_head(bias, q, k), scale=1.0)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        q, k, v, bias = inputs
        ctx.save_for_backward(q, k, v, *output, bias)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> Any:
        return *_FusedBackward.apply(grad, *ctx.saved_tensors), None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Tensor | None) -> Any:
        out = _Fused.apply(*_fold(info.batch_size, dims, inputs))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in out), (0, 0)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    mask: Tensor | None = None,
    hidden: Tensor | None = None,
    noise: Droppable | None = None,
    p: float = 0.0,
) -> Tensor:
    """Return scaled dot-product attention of projected (..., T, D), (..., S, D), (..., S, D) by head: (..., T, D).

    mask (..., S): keys that may be seen; hidden (T, S): pairs that may not, as a future mask; p: share of attention
    weights that `noise` drops. Where nothing is dropped, a kernel adds the masks to the scores on its way. Elsewhere a
    key mask costs no pass over the (T, S) scores: it enters the product as one more feature, 1 in the query and 0 or
    -1e4 in the key.
    """
    scale = (query.shape[-1] // heads) ** -0.5
    q, k, v = ((x.unflatten(-1, (heads, -1)).transpose(-2, -3)) for x in (query * scale, key, value))
    if (p == 0 or noise is None or not noise.training) and q.ndim == 4 and q.device.type == "cpu":
        mixed = _Fused.apply(q, k, v, _bias(mask, hidden, q))[0].transpose(-2, -3).flatten(-2)
        return mixed if mask is None else mixed * mask.any(-1).unsqueeze(-1).unsqueeze(-1).to(mixed.dtype)
    if mask is not None:
        bias = torch.zeros_like(k[..., :1]).masked_fill(~mask.unsqueeze(-2).unsqueeze(-1), HIDDEN)
        q, k = torch.cat([q, torch.ones_like(q[..., :1])], -1), torch.cat([k, bias], -1)
    scores = q @ k.transpose(-1, -2)  # (..., heads, T, S)
    if hidden is not None:
        scores = scores.masked_fill_(hidden, HIDDEN)  # in place: nobody else reads the product
    weights = scores.softmax(-1)
    if noise is not None and p > 0:
        weights = noise.dropout(weights, p)
    mixed = (weights @ v).transpose(-2, -3).flatten(-2)  # (..., T, D)
    return mixed if mask is None else mixed * mask.any(-1).unsqueeze(-1).unsqueeze(-1).to(mixed.dtype)


def _bias(mask: Tensor | None, hidden: Tensor | None, like: Tensor) -> Tensor | None:
    """Return what is added to the scores of like (B, heads, T, d), (B, 1, 1 or T, S): 0 or -1e4."""
    closed = None if mask is None else ~mask.unsqueeze(-2).unsqueeze(-2)
    if hidden is not None:
        closed = hidden.expand(len(like), 1, *hidden.shape) if closed is None else closed | hidden
    if closed is None:
        return None
    return torch.zeros(closed.shape, dtype=like.dtype, device=like.device).masked_fill(closed, HIDDEN)


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

    def forward(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None, noise: Droppable | None = None, p: float = 0.0
    ) -> Tensor:
        """mask (..., S): keys that may be seen; None means all. `p` drops attention weights, drawn from `noise`."""
        d, w, b = self.features, self.in_proj_weight, self.in_proj_bias
        q = F.linear(query, w[:d], b[:d])
        k, v = F.linear(memory, w[d:], b[d:]).chunk(2, -1)
        out: Tensor = self.out_proj(attend(q, k, v, self.heads, mask, None, noise, p))
        return out if mask is None else out.masked_fill(~mask.any(-1).unsqueeze(-1).unsqueeze(-1), 0)
