"""Pre-norm transformers of MulT (Tsai et al. 2019) and its descendants, and the fusion built of them.

Steps attend to themselves or to a memory that is the same in every layer. Shapes: x (B, T, D), memory (B, S, D), mask
(B, S) bool, True where a key may be seen, hidden (T, S) bool, True for pairs that may not. What saves time and changes
no value: a memory is normalised once and every layer's norm is folded into its projections; all layers' keys and values
come from one product; where one step is read, the last layer computes one.
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

Read = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of a memory, (B, S, D) each, a pair a layer."""


@dataclass(frozen=True)
class Rates:
    """Drop-out of attention weights, of the network's inner features, and of what is added to the residual."""

    attention: float = 0.0
    inner: float = 0.0
    residual: float = 0.0


class PreNormLayer(nn.Module):
    """Pre-norm attention and a two-layer ReLU network of four times the width, both with a residual.

    xavier: how the projection of what attention found starts, as MulT's code has it; else as torch's linear layers do.
    """

    def __init__(self, features: int, heads: int, xavier: bool = False) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if xavier:
            nn.init.xavier_uniform_(self.attention.out_proj.weight)

    def folded(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return weight (3D, D) and bias (3D,), or rows of them, that take normalised steps without map to q, k and v.

        The norm's scale g and shift b fold into W (g x + b) + c = (W g) x + (W b + c).
        """
        w, norm = self.attention.in_proj_weight[rows], self.norm_attention
        return w * norm.weight, w @ norm.bias + self.attention.in_proj_bias[rows]

    def forward(
        self,
        x: Tensor,
        qkv: tuple[Tensor, Tensor, Tensor],
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        rates: Rates,
    ) -> Tensor:
        a = self.attention
        mixed = a.out_proj(attend(*qkv, a.heads, mask, hidden, noise, rates.attention))
        x = x + noise.dropout(mixed, rates.residual)
        inner = noise.dropout(F.relu(self.up(self.norm_network(x))), rates.inner)
        return x + noise.dropout(self.down(inner), rates.residual)


class PreNormStack(nn.Module):
    """Layers and a last norm."""

    def __init__(self, features: int, heads: int, layers: int, xavier: bool = False) -> None:
        super().__init__()
        self.features = features
        self.layers = nn.ModuleList([PreNormLayer(features, heads, xavier) for _ in range(layers)])
        self.norm = nn.LayerNorm(features)

    def read(self, memory: Tensor) -> Read:
        """Return what each layer reads of a memory that is normalised without an affine map (`normalise`)."""
        maps = [layer.folded(slice(self.features, None)) for layer in cast(list[PreNormLayer], self.layers)]
        both = F.linear(memory, torch.cat([w for w, _ in maps]), torch.cat([b for _, b in maps]))
        parts = both.chunk(2 * len(maps), -1)
        return tuple(zip(parts[::2], parts[1::2]))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | Read | None,
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        rates: Rates,
        at: slice | Tensor | None = None,
    ) -> Tensor:
        """memory: normalised without an affine map (`normalise`), or what `read` returned; None: x attends to itself.

        at: the steps of x that are wanted, all if None, (B, T', D); or one step (B,) a sample, which may see all.
        """
        d, shared = self.features, self.read(memory) if isinstance(memory, Tensor) else memory
        for i, layer in enumerate(cast(list[PreNormLayer], self.layers)):
            if shared is not None:
                keys, values = shared[i]
            if at is not None and i == len(self.layers) - 1:  # nobody reads the other steps
                if shared is None:
                    keys, values = F.linear(normalise(x), *layer.folded(slice(d, None))).chunk(2, -1)
                x = step_at(x, at).unsqueeze(-2) if isinstance(at, Tensor) else x[..., at, :]
                if hidden is not None:
                    hidden = None if isinstance(at, Tensor) else hidden[at]
                query = F.linear(normalise(x), *layer.folded(slice(d)))
            elif shared is None:
                query, keys, values = F.linear(normalise(x), *layer.folded()).chunk(3, -1)
            else:
                query = F.linear(normalise(x), *layer.folded(slice(d)))
            x = layer(x, (query, keys, values), mask, hidden, noise, rates)
        out: Tensor = self.norm(x)
        return out


def normalise(x: Tensor) -> Tensor:
    """Return x (..., D) with mean 0 and variance 1 over its features."""
    return F.layer_norm(x, x.shape[-1:])


def place(x: Tensor, positions: bool, skip_zero: bool = False) -> Tensor:
    """Return the input of a stack: x (B, T, D) scaled by the root of D, plus sinusoids if `positions`.

    skip_zero: none at steps whose first feature is exactly 0, as the published code takes them for padding.
    """
    scaled = x * math.sqrt(x.shape[-1])
    if not positions:
        return scaled
    code = sinusoids(x.shape[-2], x.shape[-1], x)
    return scaled + (torch.where(x[..., :1] == 0, 0.0, code) if skip_zero else code)


def future(x: Tensor, memory: Tensor) -> Tensor:
    """Return (T, S) bool, True where key j comes more than |S - T| steps after query i."""
    t, s = x.shape[-2], memory.shape[-2]
    return torch.ones(t, s, dtype=torch.bool, device=x.device).triu(1 + abs(s - t))


@dataclass(frozen=True)
class FusionSettings:
    """Of `Fusion`; `attention_dropout` is (by modality attended to; `memory` to itself), relu and residual."""

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
        self.cross = nn.ModuleList(PreNormStack(s.width, s.heads, s.layers) for _ in self.pairs)
        wide = (n - 1) * s.width
        self.memory = nn.ModuleList(PreNormStack(wide, s.heads, s.memory_layers) for _ in range(n))
        self.features = n * wide

    def forward(self, streams: Sequence[Tensor], masks: Sequence[Tensor | None], noise: Droppable) -> Tensor:
        s = self.settings
        rates = [Rates(p, s.relu_dropout, s.residual_dropout) for p in s.attention_dropout]
        own = Rates(s.memory_dropout, s.relu_dropout, s.residual_dropout)
        x = [noise.dropout(place(v, s.positions, s.skip_zero), s.embed_dropout) for v in streams]
        x = [v if mask is None else hide(v, mask) for v, mask in zip(x, masks)]
        memory = [normalise(v) for v in x]
        z: list[list[Tensor]] = [[] for _ in x]
        for (i, j), stack in zip(self.pairs, self.cross):  # steps of i that attended to j, (B, T_i, d)
            ahead = future(x[i], x[j]) if s.future_mask else None
            z[i].append(stack(x[i], memory[j], masks[j], ahead, noise, rates[j]))
        out = []
        for i, parts in enumerate(z):
            mask, both = masks[i], place(torch.cat(parts, -1), s.positions, s.skip_zero)
            v = noise.dropout(both, s.embed_dropout)
            end = x[i].new_full((len(v),), v.shape[-2] - 1, dtype=torch.int64) if mask is None else last_observed(mask)
            ahead = future(v, v) if s.future_mask else None
            h = self.memory[i](v, None, mask, ahead, noise, own, end).squeeze(-2)
            out.append(h if mask is None else h * mask.any(-1, keepdim=True).to(h.dtype))
        return torch.cat(out, -1)
