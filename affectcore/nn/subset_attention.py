"""Attention of a sequence of blocks over every subset of the blocks, each block attended to once.

A sequence is cut into blocks (modalities). For a query and a subset G of blocks, softmax attention over the keys of G
is a mixture of the attentions over each block alone,

    o_G = sum_{j in G} w_j o_j,   w = softmax_{j in G}(L_j),   L_j = log sum_{k in block j} exp(s_k),

so M blocks' outputs o_j and log-sums L_j serve all 2^M - 1 subsets: exact, and as safe as one softmax. Scores are never
written to memory. For the same reason the Kullback-Leibler divergence between two attentions over one sequence needs
only queries, keys and log-sums: sum_k p_k s_k is the query times the attention's mean key (`divergence`).

Masks are (B, S) bool, True where a key may be seen. Everything runs under `torch.func.vmap`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.errors import ConfigError
from affectcore.nn.attention import HIDDEN, Droppable, _fold


def subsets(blocks: int) -> tuple[tuple[int, ...], ...]:
    """Return all subsets of range(blocks) but the empty one: larger ones first, then in order."""
    return tuple(g for size in range(blocks, 0, -1) for g in combinations(range(blocks), size))


class _FusedBackward(torch.autograd.Function):
    @staticmethod
    def forward(*saved: Tensor) -> tuple[Tensor, ...]:
        op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        out: tuple[Tensor, ...] = op(*saved, 0.0, False, scale=1.0)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("attention has no second derivative on the CPU")

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *saved: Tensor) -> Any:
        out = _FusedBackward.apply(*_fold(info.batch_size, dims, saved))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in out), (0, 0, 0)


class _Fused(torch.autograd.Function):
    """softmax(q k') v and the log-sums of exp(q k'), by torch's CPU kernel; the last column of v must be zero.

    The kernel's backward knows no gradient of the log-sums. That gradient g adds g p to the scores' gradient
    p (dp - D), D = sum(do * o), so it is handed over in the spare last column, as -g in o against 1 in do.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, scale=1.0
        )
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_log: Tensor) -> Any:
        q, k, v, out, log = ctx.saved_tensors
        grad = torch.cat([grad[..., :-1], torch.ones_like(grad[..., -1:])], -1)
        out = torch.cat([out[..., :-1], -grad_log.to(out.dtype).unsqueeze(-1)], -1)
        return _FusedBackward.apply(grad, q, k, v, out, log)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *qkv: Tensor) -> Any:
        out = _Fused.apply(*_fold(info.batch_size, dims, qkv))
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in out), (0, 0)


def attend_log(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return softmax(q k') v, (B, h, T, d), and the log-sums of exp(q k'), (B, h, T).

    q (B, h, T, e), scaled already; k (B, h, S, e); v (B, h, S, d). A query that may see no key gets zero weight in any
    mixture by its log-sum, about -1e4.
    """
    if q.device.type != "cpu":
        scores = q @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(-2).unsqueeze(-2), HIDDEN)
        return scores.softmax(-1) @ v, scores.logsumexp(-1)
    if mask is not None:  # as one more feature: 1 in the query, 0 or -1e4 in the key
        bias = torch.zeros_like(k[..., :1]).masked_fill(~mask.unsqueeze(-2).unsqueeze(-1), HIDDEN)
        q, k = torch.cat([q, torch.ones_like(q[..., :1])], -1), torch.cat([k, bias], -1)
    width = max(q.shape[-1], v.shape[-1] + 1)
    width += -width % 16  # the kernel is twice as fast on whole vectors
    out, log = _Fused.apply(*(F.pad(x, (0, width - x.shape[-1])) for x in (q, k, v)))
    return out[..., : v.shape[-1]], log


@dataclass(frozen=True)
class Scores:
    """An attention that was never written down: scaled query and key (B, h, T, e), and the log-sums (B, h, T)."""

    query: Tensor
    key: Tensor
    total: Tensor

    def detach(self) -> "Scores":
        return Scores(self.query.detach(), self.key.detach(), self.total.detach())

    def written(self) -> Tensor:
        """Return the scores (B, h, T, T) before any mask."""
        return self.query @ self.key.transpose(-1, -2)


def divergence(teacher: Scores, student: Scores, mask: Tensor | None = None) -> Tensor:
    """Return KL(teacher || student) of every query's attention over the same keys, (B, h, T)."""
    e = teacher.key.shape[-1]
    mean, _ = attend_log(teacher.query, teacher.key, torch.cat([teacher.key, student.key], -1), mask)
    own = (teacher.query * mean[..., :e]).sum(-1) - teacher.total
    return own - (student.query * mean[..., e:]).sum(-1) + student.total


class SubsetAttention(nn.Module):
    """Self-attention over subsets of blocks: (B, T, D) to (B, T, D).

    One projection to queries, keys and values serves all `groups`, subsets of the blocks. A query of block i attends,
    once for each group that holds i, to the keys of that group; each group has an output projection, each block a
    linear summary of its groups' outputs (in the order of `groups`), all blocks share the last layer.
    """

    def __init__(self, features: int, heads: int, blocks: int, groups: Sequence[tuple[int, ...]] | None = None) -> None:
        super().__init__()
        if features % heads:
            raise ConfigError(f"attention of {features} features cannot be split into {heads} heads of equal size")
        self.features, self.heads = features, heads
        self.groups = tuple(groups) if groups is not None else subsets(blocks)
        self.members = [[g for g, group in enumerate(self.groups) if i in group] for i in range(blocks)]
        self.in_proj_weight = nn.Parameter(torch.empty(3 * features, features))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * features))
        self.group_proj = nn.ModuleList(nn.Linear(features, features) for _ in self.groups)
        self.summary = nn.ModuleList(nn.Linear(len(g) * features, features) for g in self.members)
        self.out_proj = nn.Linear(features, features)
        nn.init.xavier_uniform_(self.in_proj_weight)
        for linear in cast(list[nn.Linear], self.group_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        lengths: Sequence[int],
        mask: Tensor | None = None,
        noise: Droppable | None = None,
        p: float = 0.0,
    ) -> tuple[Tensor, Scores]:
        """Return the output and the attention over all blocks.

        lengths: steps of each block, together T; mask (B, T): keys that may be seen. p: share of the weights that
        `noise` drops in the group of all blocks.
        """
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for y in (q, k, v))
        q = q * q.shape[-1] ** -0.5
        masks: Iterable[Tensor | None] = [None] * len(lengths) if mask is None else mask.split(list(lengths), -1)
        parts: list[tuple[Tensor, Tensor] | None] = [
            attend_log(q, kj, vj, mj) if kj.shape[-2] else None
            for kj, vj, mj in zip(k.split(list(lengths), -2), v.split(list(lengths), -2), masks)
        ]
        whole = torch.stack([p[1] for p in parts if p is not None], -1).logsumexp(-1)  # (B, h, T)
        dropped = _explicit(q, k, v, mask, whole, noise, p) if noise is not None and noise.training and p > 0 else None
        out, start = [], 0
        for i, length in enumerate(lengths):
            rows = slice(start, start := start + length)
            if length:
                out.append(self._summarise(i, rows, parts, dropped))
        return torch.cat(out, -2), Scores(q, k, whole)

    def _summarise(
        self, i: int, rows: slice, parts: Sequence[tuple[Tensor, Tensor] | None], dropped: Tensor | None
    ) -> Tensor:
        """Return the output of block i, (B, T_i, D)."""
        o = {j: p[0][..., rows, :] for j, p in enumerate(parts) if p is not None}
        log = {j: p[1][..., rows] for j, p in enumerate(parts) if p is not None}
        mixed = []
        for g in self.members[i]:
            there = [j for j in self.groups[g] if j in o]
            if dropped is not None and len(self.groups[g]) == len(parts):
                mixed.append(dropped[..., rows, :])
            elif len(there) == 1:
                mixed.append(o[there[0]])
            elif len(there) == 2:  # a mixture of two is a step from one to the other
                a, b = there
                mixed.append(torch.lerp(o[a], o[b], torch.sigmoid(log[b] - log[a]).unsqueeze(-1)))
            else:
                w = torch.stack([log[j] for j in there]).softmax(0).unsqueeze(-1)
                mixed.append(sum((w[n] * o[j] for n, j in enumerate(there)), torch.zeros_like(o[i])))
        stacked = torch.stack(mixed, -2).transpose(-3, -4).transpose(-2, -3)  # (B, T_i, groups, h, e)
        return F.linear(stacked.flatten(-3), *self._map(i))

    def _map(self, i: int) -> tuple[Tensor, Tensor]:
        """Return the weight and bias that take block i's attentions to its output: three linear layers folded."""
        summary, out = cast(nn.Linear, self.summary[i]), self.out_proj
        groups = [cast(nn.Linear, self.group_proj[g]) for g in self.members[i]]
        s = summary.weight.unflatten(-1, (-1, self.features))  # (D, groups, D)
        w = torch.stack([g.weight for g in groups])  # (groups, D, D)
        b = torch.cat([g.bias for g in groups])
        folded = torch.einsum("odg,gde->oge", s.transpose(-1, -2), w)
        bias = summary.weight @ b + summary.bias
        return out.weight @ folded.flatten(-2), out.weight @ bias + out.bias


def _explicit(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, whole: Tensor, noise: Droppable, p: float
) -> Tensor:
    """Return attention over all keys with a share p of the weights dropped."""
    scores = q @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(-2).unsqueeze(-2), HIDDEN)
    return noise.dropout(scores.softmax(-1), p) @ v
