"""The pre-norm encoder of the MulT family: attention and a ReLU network four times as wide, each with a residual.

    x = x + drop(attention(norm(x), norm(memory)))
    x = x + drop(down(drop(relu(up(norm(x))))))

Steps enter scaled by the root of their features, with sinusoidal positions; the last layer's output is normalised.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.nn.attention import Droppable, MultiheadAttention, attend, sinusoids


@dataclass(frozen=True)
class Rates:
    """Shares dropped: of attention weights, of the network's hidden units, of both residuals, of the embedded steps."""

    attention: float = 0.0
    relu: float = 0.0
    residual: float = 0.0
    embed: float = 0.0


class Layer(nn.Module):
    """One layer; see the module. One norm serves queries and memory."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        hidden: Tensor | None,
        noise: Droppable,
        rates: Rates,
    ) -> Tensor:
        a, y = self.attention, self.norm_attention(x)
        if memory is None:
            q, k, v = F.linear(y, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)
        else:
            d = a.features
            q = F.linear(y, a.in_proj_weight[:d], a.in_proj_bias[:d])
            k, v = F.linear(self.norm_attention(memory), a.in_proj_weight[d:], a.in_proj_bias[d:]).chunk(2, -1)
        y = a.out_proj(attend(q, k, v, a.heads, mask, hidden, noise, rates.attention))
        x = x + noise.dropout(y, rates.residual)
        y = noise.dropout(F.relu(self.up(self.norm_network(x))), rates.relu)
        return x + noise.dropout(self.down(y), rates.residual)


class Transformer(nn.Module):
    """A stack of layers: steps (B, T, D), attending to themselves or to a memory (B, S, D), to (B, T, D).

    positions: add sinusoids to steps and memory. skip_zeros: not where a step's first feature is exactly zero, which
    the published code takes for padding.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        layers: int,
        rates: Rates | None = None,
        positions: bool = True,
        skip_zeros: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(features, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(features)
        self.rates, self.positions, self.skip_zeros = rates or Rates(), positions, skip_zeros

    def embed(self, x: Tensor, noise: Droppable) -> Tensor:
        """Return what enters the first layer: scaled, placed, some of it dropped."""
        y = x * math.sqrt(x.shape[-1])
        if self.positions:
            place = sinusoids(x.shape[-2], x.shape[-1], x)
            y = y + (torch.where(x[..., :1] == 0, 0, place) if self.skip_zeros else place)
        return noise.dropout(y, self.rates.embed)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        noise: Droppable,
        memory: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """mask (B, S): keys that may be seen, None for all; hidden (T, S): pairs that may not, as a future mask."""
        x = self.embed(x, noise)
        if memory is not None:
            memory = self.embed(memory, noise)
        for layer in self.layers:
            x = layer(x, memory, mask, hidden, noise, self.rates)
        out: Tensor = self.norm(x)
        return out
