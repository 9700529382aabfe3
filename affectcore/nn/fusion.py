"""Cross-modal transformers of MulT (Tsai et al. 2019), and the fusion built of them, which other models share.

Layers are pre-norm. The normalised memory is computed once per stream and its affine map folded into the projections
of all layers that read it; of the last memory layer only the step that is read is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.nn.attention import Droppable, MultiheadAttention, attend, sinusoids
from affectcore.nn.pooling import hide, last_observed, step_at


@dataclass(frozen=True)
class Drop:
    """Shares that a layer drops: of attention weights, of hidden units after the ReLU, of what a residual adds."""

    attention: float = 0.0
    relu: float = 0.0
    residual: float = 0.0


class Layer(nn.Module):
    """Pre-norm attention and a two-layer network of four times the width, both with a residual."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def memory_map(self) -> tuple[Tensor, Tensor]:
        """Return the weight (2d, d) and bias (2d,) that take a normalised memory to keys and values.

        The layer's norm applies to keys too; its scale g and shift b fold into W (g x + b) = (W g) x + W b.
        """
        d, norm = self.attention.features, self.norm_attention
        w = self.attention.in_proj_weight[d:]
        return w * norm.weight, w @ norm.bias + self.attention.in_proj_bias[d:]

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        drop: Drop,
    ) -> Tensor:
        a = self.attention
        d = a.features
        q = F.linear(self.norm_attention(x), a.in_proj_weight[:d], a.in_proj_bias[:d])
        added = a.out_proj(attend(q, keys, values, a.heads, mask, hidden, noise, drop.attention))
        x = x + noise.dropout(added, drop.residual)
        inner = noise.dropout(F.relu(self.up(self.norm_network(x))), drop.relu)
        return x + noise.dropout(self.down(inner), drop.residual)


class CrossModal(nn.Module):
    """Steps of one modality attending to the same memory, another modality, in every layer: (B, T, d) to (B, T, d)."""

    def __init__(self, features: int, heads: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(features, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(features)

    def read(self, memory: Tensor) -> tuple[Tensor, ...]:
        """Return what each layer reads of a normalised memory (B, S, d), (B, S, 2d), in one product."""
        maps = [layer.memory_map() for layer in cast(list[Layer], self.layers)]
        return F.linear(memory, torch.cat([w for w, _ in maps]), torch.cat([b for _, b in maps])).chunk(len(maps), -1)

    def attend(
        self,
        x: Tensor,
        pairs: Sequence[Tensor],
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        drop: Drop,
    ) -> Tensor:
        """pairs: what `read` returned."""
        for layer, kv in zip(self.layers, pairs):
            x = layer(x, *kv.chunk(2, -1), mask, hidden, noise, drop)
        out: Tensor = self.norm(x)
        return out

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        drop: Drop,
    ) -> Tensor:
        """memory (B, S, d), normalised; mask (B, S): steps of it that may be seen."""
        return self.attend(x, self.read(memory), mask, hidden, noise, drop)


class Memory(nn.Module):
    """Steps of one modality attending to themselves; only the state at one step is returned: (B, T, d) to (B, d)."""

    def __init__(self, features: int, heads: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(features, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(features)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        drop: Drop,
    ) -> Tensor:
        for i, layer in enumerate(cast(list[Layer], self.layers)):
            keys, values = F.linear(F.layer_norm(x, x.shape[-1:]), *layer.memory_map()).chunk(2, -1)
            if i == len(self.layers) - 1:  # the other steps of the last layer are read by nobody
                x, hidden = step_at(x, position).unsqueeze(-2), None  # the last step may see all before it
            x = layer(x, keys, values, mask, hidden, noise, drop)
        out: Tensor = self.norm(x.squeeze(-2))
        return out


def future(x: Tensor, memory: Tensor) -> Tensor:
    """(T, S) bool, True where key j comes more than |S - T| steps after query i."""
    t, s = x.shape[-2], memory.shape[-2]
    return torch.ones(t, s, dtype=torch.bool, device=x.device).triu(1 + abs(s - t))


def place(x: Tensor, positions: bool, skip_zero: bool = False) -> Tensor:
    """Return the input of a stack: x (B, T, D) scaled by the root of D, plus sinusoids if `positions`.

    skip_zero: none at steps whose first feature is exactly 0, as the published code takes them for padding.
    """
    scaled = x * math.sqrt(x.shape[-1])
    if not positions:
        return scaled
    code = sinusoids(x.shape[-2], x.shape[-1], x)
    return scaled + (torch.where(x[..., :1] == 0, 0.0, code) if skip_zero else code)


@dataclass(frozen=True)
class FusionSettings:
    """Of `Fusion`; Drop's shares are `attention` (by modality attended to; `memory` to itself), relu and residual."""

    width: int
    heads: int
    layers: int
    memory_layers: int
    embed_dropout: float
    attention_dropout: tuple[float, ...]  # by modality, in order
    memory_dropout: float
    relu_dropout: float
    residual_dropout: float
    positions: bool
    future_mask: bool
    skip_zero: bool = False  # of `place`


class Fusion(nn.Module):
    """M streams (B, T_m, d) to one vector (B, M (M - 1) d), as MulT fuses: pairs of streams, then each by itself.

    masks[m]: (B, T_m) steps that may be read, or None: all, and the last of all steps is the readout. A stream of which
    nothing may be read has zeros as its part of the vector.
    """

    def __init__(self, modalities: int, settings: FusionSettings) -> None:
        super().__init__()
        n, s = modalities, settings
        self.settings = s
        self.pairs = [(i, j) for i in range(n) for j in range(n) if i != j]  # i attends to j
        self.cross = nn.ModuleList(CrossModal(s.width, s.heads, s.layers) for _ in self.pairs)
        wide = (n - 1) * s.width
        self.memory = nn.ModuleList(Memory(wide, s.heads, s.memory_layers) for _ in range(n))
        self.features = n * wide

    def forward(self, streams: Sequence[Tensor], masks: Sequence[Tensor | None], noise: Droppable) -> Tensor:
        s = self.settings
        drops = [Drop(p, s.relu_dropout, s.residual_dropout) for p in s.attention_dropout]
        own = Drop(s.memory_dropout, s.relu_dropout, s.residual_dropout)
        x = [noise.dropout(place(v, s.positions, s.skip_zero), s.embed_dropout) for v in streams]
        x = [v if mask is None else hide(v, mask) for v, mask in zip(x, masks)]
        memory = [F.layer_norm(v, v.shape[-1:]) for v in x]
        z: list[list[Tensor]] = [[] for _ in x]
        for (i, j), stack in zip(self.pairs, self.cross):  # steps of i that attended to j, (B, T_i, d)
            ahead = future(x[i], x[j]) if s.future_mask else None
            z[i].append(stack(x[i], memory[j], masks[j], ahead, noise, drops[j]))
        out = []
        for i, parts in enumerate(z):
            mask, both = masks[i], place(torch.cat(parts, -1), s.positions, s.skip_zero)
            v = noise.dropout(both, s.embed_dropout)
            end = x[i].new_full((len(v),), v.shape[-2] - 1, dtype=torch.int64) if mask is None else last_observed(mask)
            h = self.memory[i](v, end, mask, future(v, v) if s.future_mask else None, noise, own)
            out.append(h if mask is None else h * mask.any(-1, keepdim=True).to(h.dtype))
        return torch.cat(out, -1)
