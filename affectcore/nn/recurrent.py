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
    one_bias: bool  # the two biases only ever occur as a sum

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
        both = b_ih + b_hh if self.one_bias else b_ih
        gates = F.linear(x, w_ih, both).unbind(-2)  # T times (B, gates * H): one product for all steps
        keep = None if mask is None else mask.unsqueeze(-1).unbind(-2)  # T times (B, 1)
        state = (torch.zeros_like(gates[0][..., : self.hidden]),) * self.states
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

    gates, states, one_bias = 3, 1, False

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        h, sizes = state[0], (2 * self.hidden, self.hidden)
        (x_gates, x_new), (h_gates, h_new) = gates.split(sizes, -1), torch.addmm(b, h, w).split(sizes, -1)
        r, u = torch.sigmoid(x_gates + h_gates).chunk(2, -1)
        return (torch.lerp(torch.tanh(x_new + r * h_new), h, u),)


class LSTM(_Recurrent):
    """Long short-term memory, (B, T, D) to states (B, T, H) and last state (B, H); see `_Recurrent.forward`."""

    gates, states, one_bias = 4, 2, True

    def _step(self, gates: Tensor, state: tuple[Tensor, ...], w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        n = self.hidden
        i_f, g, o = torch.addmm(gates, h, w).split((2 * n, n, n), -1)
        i, f = torch.sigmoid(i_f).chunk(2, -1)
        c = torch.addcmul(i * torch.tanh(g), f, c)
        return torch.sigmoid(o) * torch.tanh(c), c
