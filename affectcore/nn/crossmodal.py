"""Pre-norm transformers of MulT and its descendants: steps that attend to themselves or to a memory that is fixed.

Shapes: x (B, T, D), memory (B, S, D), mask (B, S) bool, True where a key may be seen, hidden (T, S) bool, True for
pairs that may not. What saves time and changes no value: a memory is normalised once and every layer's norm is folded
into its projections; all layers' keys and values come from one product; where one step is read, the last layer computes
one.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.nn.attention import Droppable, MultiheadAttention, attend, sinusoids


@dataclass(frozen=True)
class Rates:
    """Drop-out of attention weights, of the network's inner features, and of what is added to the residual."""

    attention: float = 0.0
    inner: float = 0.0
    residual: float = 0.0


class PreNormLayer(nn.Module):
    """Pre-norm attention and a two-layer ReLU network of four times the width, both with a residual."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the weight (3D, D) and bias (3D,) that take steps normalised without an affine map to q, k and v.

        The norm's scale g and shift b fold into W (g x + b) + c = (W g) x + (W b + c).
        """
        w, norm = self.attention.in_proj_weight, self.norm_attention
        return w * norm.weight, w @ norm.bias + self.attention.in_proj_bias

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

    def __init__(self, features: int, heads: int, layers: int) -> None:
        super().__init__()
        self.features = features
        self.layers = nn.ModuleList([PreNormLayer(features, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(features)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        rates: Rates,
        read: slice | None = None,
    ) -> Tensor:
        """memory: normalised without an affine map (`normalise`); None: x attends to itself.

        read: the steps of x that are wanted, all if None: (B, T', D).
        """
        layers, d = cast(list[PreNormLayer], self.layers), self.features
        maps = [layer.folded() for layer in layers]
        shared: tuple[Tensor, ...] = ()
        if memory is not None:
            weight, bias = (torch.cat([m[i][d:] for m in maps]) for i in range(2))
            shared = F.linear(memory, weight, bias).chunk(2 * len(layers), -1)
        for i, (layer, (w, b)) in enumerate(zip(layers, maps)):
            last = read is not None and i == len(layers) - 1
            if memory is not None:
                if last:
                    x = x[..., read, :]
                q = F.linear(normalise(x), w[:d], b[:d])
                k, v = shared[2 * i : 2 * i + 2]
            elif last:  # nobody reads the other steps
                own = normalise(x)
                k, v = F.linear(own, w[d:], b[d:]).chunk(2, -1)
                x, q = x[..., read, :], F.linear(own[..., read, :], w[:d], b[:d])
            else:
                q, k, v = F.linear(normalise(x), w, b).chunk(3, -1)
            pairs = hidden[read] if last and hidden is not None else hidden
            x = layer(x, (q, k, v), mask, pairs, noise, rates)
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


def future(t: int, s: int, like: Tensor) -> Tensor:
    """Return (t, s) bool, True where key j comes more than |s - t| steps after query i, on the device of `like`."""
    return torch.ones(t, s, dtype=torch.bool, device=like.device).triu(1 + abs(s - t))
