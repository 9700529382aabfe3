"""The pre-norm encoder of the MulT family as its descendants' code has it, a stack of `crossmodal.PreNormLayer`:

    x = x + drop(attention(norm(x), norm(memory)))
    x = x + drop(down(drop(relu(up(norm(x))))))

Steps enter scaled by the root of their features, with sinusoidal positions; the last layer's output is normalised.
Unlike in `crossmodal.PreNormStack`, norms are not folded into the projections, which rounds differently, and a memory
is embedded here.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.nn.attention import Droppable
from affectcore.nn.crossmodal import PreNormLayer, Rates, place


class Transformer(nn.Module):
    """A stack of layers: steps (B, T, D), attending to themselves or to a memory (B, S, D), to (B, T, D).

    embed_dropout: share dropped of what enters. positions: add sinusoids to steps and memory. skip_zeros: not where a
    step's first feature is exactly zero, which the published code takes for padding.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        layers: int,
        rates: Rates | None = None,
        embed_dropout: float = 0.0,
        positions: bool = True,
        skip_zeros: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PreNormLayer(features, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(features)
        self.rates, self.embed_dropout = rates or Rates(), embed_dropout
        self.positions, self.skip_zeros = positions, skip_zeros

    def embed(self, x: Tensor, noise: Droppable) -> Tensor:
        """Return what enters the first layer: scaled, placed, some of it dropped."""
        return noise.dropout(place(x, self.positions, self.skip_zeros), self.embed_dropout)

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
        for layer in cast(list[PreNormLayer], self.layers):
            x = layer(x, _read(layer, x, memory), mask, hidden, noise, self.rates)
        out: Tensor = self.norm(x)
        return out


def _read(layer: PreNormLayer, x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a layer; one norm serves steps and memory."""
    a, norm = layer.attention, layer.norm_attention
    w, b, d = a.in_proj_weight, a.in_proj_bias, a.features
    if memory is None:
        query, keys, values = F.linear(norm(x), w, b).chunk(3, -1)
    else:
        query = F.linear(norm(x), w[:d], b[:d])
        keys, values = F.linear(norm(memory), w[d:], b[d:]).chunk(2, -1)
    return query, keys, values
