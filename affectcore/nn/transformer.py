"""Post-norm transformers in the manner of BERT, over sequences of features. Shapes: x (..., T, D), mask (..., T) bool.

They run under `torch.func.vmap` and draw all drop-out from the noise that they are given.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.errors import ConfigError
from affectcore.nn.attention import Droppable, MultiheadAttention
from affectcore.nn.pooling import hide

EPS = 1e-12
"""Of BERT's norms."""


class PostNormLayer(nn.Module):
    """Attention and a two-layer network, each followed by drop-out, residual and norm: (..., T, D) to the same."""

    def __init__(self, features: int, heads: int, feedforward: int, eps: float = EPS) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        self.up, self.down = nn.Linear(features, feedforward), nn.Linear(feedforward, features)
        self.norm_attention, self.norm_network = nn.LayerNorm(features, eps), nn.LayerNorm(features, eps)

    def forward(self, x: Tensor, mask: Tensor | None, noise: Droppable, p: float, p_attention: float) -> Tensor:
        """p drops what is added to the residual, p_attention attention weights."""
        x = self.norm_attention(x + noise.dropout(self.attention(x, x, mask, noise, p_attention), p))
        out: Tensor = self.norm_network(x + noise.dropout(self.down(F.gelu(self.up(x))), p))
        return out


class Transformer(nn.Module):
    """Features through a linear map, plus learned positions, a norm, then post-norm layers: (B, T, D) to (B, T, width).

    Weights and positions start as N(0, 0.02), biases at 0, as in BERT. positions: most steps of a sequence.
    """

    def __init__(self, features: int, width: int, heads: int, layers: int, feedforward: int, positions: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.positions = nn.Parameter(torch.empty(positions, width))
        self.norm = nn.LayerNorm(width, EPS)
        self.layers = nn.ModuleList(PostNormLayer(width, heads, feedforward) for _ in range(layers))
        start(self)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None, noise: Droppable, p: float, p_attention: float) -> Tensor:
        """mask: steps that may be seen (None: all); what it hides does not matter, NaN included."""
        x = x if mask is None else hide(x, mask)
        x = noise.dropout(self.norm(self.embed(x) + self.positions[: x.shape[-2]]), p)
        for layer in self.layers:
            x = layer(x, mask, noise, p, p_attention)
        return x


def start(module: nn.Module) -> None:
    """Draw all linear maps inside from N(0, 0.02), biases 0, as BERT does."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
        elif isinstance(part, MultiheadAttention):
            nn.init.normal_(part.in_proj_weight, std=0.02)


def check_positions(model: str, positions: int, steps: dict[str, int]) -> None:
    """Raise ConfigError if a sequence is longer than the table of positions."""
    for m, t in steps.items():
        if t > positions:
            raise ConfigError(f"{model}: {m} has {t} steps, more than positions {positions}")
