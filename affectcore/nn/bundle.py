"""Several LSTMs in one loop over time: what costs in small recurrent layers is the number of steps, not their width.

Layers, and the two directions of each, run side by side as one LSTM whose recurrent weights are a block diagonal. Each
sequence is first packed: steps that count come first, in order, so that the loop needs no mask; a reverse direction
reads the packed steps backwards. The states are those of `affectcore.nn.recurrent.LSTM`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from affectcore.nn.pooling import hide, step_at
from affectcore.nn.recurrent import LSTM, _LSTMSteps


@dataclass(frozen=True)
class Packed:
    """A sequence x (B, T, D) whose first `count` (B,) steps count; what follows may be anything finite."""

    x: Tensor
    count: Tensor

    @classmethod
    def of(cls, x: Tensor, mask: Tensor) -> "Packed":
        """Pack the steps of x (B, T, D) where mask (B, T) is True."""
        order = torch.argsort((~mask).to(torch.uint8), dim=-1, stable=True)
        return cls(_take(hide(x, mask), order), mask.sum(-1))

    def backwards(self, x: Tensor) -> Tensor:
        """Return x (B, T, H), steps of this packing, in the opposite order."""
        steps = torch.arange(x.shape[-2], device=x.device)
        return _take(x, (self.count.unsqueeze(-1) - 1 - steps).clamp(min=0))

    def last(self, x: Tensor) -> Tensor:
        """Return the last step that counts of x (B, T, H), zero where there is none: (B, H)."""
        return step_at(x, (self.count - 1).clamp(min=0)).masked_fill((self.count == 0).unsqueeze(-1), 0)


def _take(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(-2, order.unsqueeze(-1).expand(*order.shape, x.shape[-1]))


def run(layers: Sequence[LSTM], sequences: Sequence[Packed]) -> tuple[list[Packed], list[Tensor]]:
    """Return each layer's states, packed as its sequence (B, T, H), and last state (B, H); 2H if bidirectional."""
    inputs: list[Tensor] = []
    weights: list[list[Tensor]] = []
    for layer, s in zip(layers, sequences):
        for suffix in ("l0", "l0_reverse")[: 1 + layer.bidirectional]:
            inputs.append(s.x if suffix == "l0" else s.backwards(s.x))
            kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights.append([getattr(layer, f"{k}_{suffix}") for k in kinds])
    steps, sizes = max(x.shape[-2] for x in inputs), [w[1].shape[-1] for w in weights]
    gates, recurrent = [], []
    before, total = 0, sum(sizes)
    for x, n, (w_ih, w_hh, b_ih, b_hh) in zip(inputs, sizes, weights):
        g = F.linear(x, w_ih, b_ih + b_hh).unflatten(-1, (4, n))  # (B, T, 4, H)
        gates.append(F.pad(g, (0, 0, 0, 0, 0, steps - x.shape[-2])))
        recurrent.append(F.pad(w_hh.unflatten(0, (4, n)), (before, total - before - n)))  # (4, H, sum of H)
        before += n
    together = torch.cat(gates, -1).flatten(-2), torch.cat(recurrent, 1).flatten(0, 1)
    states = iter(_LSTMSteps.apply(*together, None, False)[0].split(sizes, -1))
    out, last = [], []
    for layer, s in zip(layers, sequences):
        h = next(states)[..., : s.x.shape[-2], :]
        end = s.last(h)
        if layer.bidirectional:
            r = next(states)[..., : s.x.shape[-2], :]
            h, end = torch.cat([h, s.backwards(r)], -1), torch.cat([end, s.last(r)], -1)
        out.append(Packed(h, s.count))
        last.append(end)
    return out, last
