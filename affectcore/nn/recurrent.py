"""GRU and LSTM from matrix products: equal to `torch.nn.GRU` and `torch.nn.LSTM` on the same weights.

They run under `torch.func.vmap` in training and in evaluation (the native layers fail in evaluation), and they hold the
state still wherever the mask is False, so that neither padding nor missing steps can matter. The input product is taken
once for all steps. Parameters carry torch's names and shapes: native weights load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Recurrent(nn.Module):
    """One layer, one or two directions, batch first. Subclasses say how many gates and states, and the step."""

    gates: int
    states: int

    def __init__(self, features: int, hidden: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.hidden, self.bidirectional = hidden, bidirectional
        bound, rows = hidden**-0.5, self.gates * hidden
        for suffix in ("l0", "l0_reverse")[: 1 + bidirectional]:
            for name, shape in (("ih", (rows, features)), ("hh", (rows, hidden))):
                self.register_parameter(f"weight_{name}_{suffix}", nn.Parameter(torch.empty(shape)))
            for name in ("ih", "hh"):
                self.register_parameter(f"bias_{name}_{suffix}", nn.Parameter(torch.empty(rows)))
        for p in self.parameters():  # torch's order and law of initial values
            nn.init.uniform_(p, -bound, bound)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return all states (B, T, H) and the last one (B, H); 2H if bidirectional, forward direction first.

        x (B, T, D); mask (B, T) bool: steps that count, others leave the state as it is (None: all count). A sequence
        without any step ends in the zero state.
        """
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0)  # what is not observed may be anything, NaN included
        passes = [self._direction(x, mask, "l0", False)]
        if self.bidirectional:
            passes.append(self._direction(x, mask, "l0_reverse", True))
        return torch.cat([p[0] for p in passes], -1), torch.cat([p[1] for p in passes], -1)

    def _direction(self, x: Tensor, mask: Tensor | None, suffix: str, backwards: bool) -> tuple[Tensor, Tensor]:
        w_ih, w_hh, b_ih, b_hh = (
            getattr(self, f"{k}_{suffix}") for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        gates = F.linear(x.transpose(0, 1), w_ih, b_ih)  # (T, B, gates * H): one product for all steps
        keep = None if mask is None else mask.t().unsqueeze(-1)  # (T, B, 1)
        state = (gates.new_zeros(()) * gates[0, :, : self.hidden],) * self.states
        w = w_hh.t()
        steps = range(len(gates))
        out: list[Tensor] = []
        for t in reversed(steps) if backwards else steps:
            new = self._step(gates[t], state, w, b_hh)
            state = new if keep is None else tuple(torch.where(keep[t], n, s) for n, s in zip(new, state))
            out.append(state[0])
        return torch.stack(out[::-1] if backwards else out, 1), state[0]

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


class GRU(_Recurrent):
    """Gated recurrent unit, (B, T, D) to states (B, T, H) and last state (B, H); see `_Recurrent.forward`."""

    gates, states = 3, 1

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        h, two = state[0], 2 * self.hidden
        own = torch.addmm(b, h, w)
        r, u = torch.sigmoid(gates[..., :two] + own[..., :two]).chunk(2, -1)
        new = torch.tanh(gates[..., two:] + r * own[..., two:])
        return (torch.lerp(new, h, u),)


class LSTM(_Recurrent):
    """Long short-term memory, (B, T, D) to states (B, T, H) and last state (B, H); see `_Recurrent.forward`."""

    gates, states = 4, 2

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        i, f, g, o = (torch.addmm(b, h, w) + gates).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
