"""GRU and LSTM from matrix products: equal to `torch.nn.GRU` and `torch.nn.LSTM` on the same weights.

They run under `torch.func.vmap` in training and in evaluation (the native layers fail in evaluation), and they hold the
state still wherever the mask is False, so that neither padding nor missing steps can matter. Parameters carry torch's
names and shapes: native weights load as they are.

What saves time: the input product is taken once for all steps, and the backward pass is written out, so that the
recurrent weights' gradient is one product over all steps instead of one a step. On a CPU, LSTMs of at most `NARROW`
units run in torch's own kernel, which spends less on each step; steps that count are moved to the front for it, and a
stack of seeds is a loop over seeds. There is no second derivative.
"""

from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.nn.pooling import hide

NARROW = 64
"""Units up to which torch's kernel is the faster one on a CPU: 5 times at 16, 1.4 times at 64, no longer at 128."""


class _Backward(torch.autograd.Function):
    """Base of the backward passes, which are functions of their own so that a second derivative is refused."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise NotImplementedError("recurrent layers have no second derivative")


def _earlier(states: Tensor, order: range) -> Tensor:
    """Return the states (B, T, H) one step earlier in `order`, zero before the first."""
    return F.pad(states[:, :-1], (0, 0, 1, 0)) if order.step > 0 else F.pad(states[:, 1:], (0, 0, 0, 1))


def _order(steps: int, backwards: bool) -> range:
    return range(steps - 1, -1, -1) if backwards else range(steps)


class _LSTMBackward(_Backward):
    @staticmethod
    def forward(
        grad: Tensor, acts: Tensor, cells: Tensor, bent: Tensor, states: Tensor, w: Tensor, keep: Tensor | None,
        backwards: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        steps = states.shape[1]
        order = _order(steps, backwards)
        i, f, g, o = acts.chunk(4, -1)
        before = _earlier(cells, order)
        # slopes: what the cell's and the state's gradient are multiplied with to give those of the gates' arguments
        of_cell = torch.cat([i * (1 - i) * g, f * (1 - f) * before, (1 - g * g) * i], -1)  # (B, T, 3H)
        of_state, through = o * (1 - o) * bent, o * (1 - bent * bent)
        if keep is not None:
            of_cell, of_state, through = of_cell * keep, of_state * keep, through * keep
            f = torch.where(keep, f, torch.ones_like(f))
        dh = torch.zeros_like(through[:, 0])
        dc, slopes = dh, [dh] * steps
        for t in reversed(order):
            dh = dh + grad[:, t]
            dc = torch.addcmul(dc, dh, through[:, t])
            slopes[t] = torch.cat([of_cell[:, t] * dc.repeat(1, 3), of_state[:, t] * dh], -1)
            dc = dc * f[:, t]
            held = 0 if keep is None else dh.masked_fill(keep[:, t], 0)
            dh = slopes[t] @ w + held
        dgates = torch.stack(slopes, 1)  # (B, T, 4H)
        return dgates, dgates.flatten(0, 1).t() @ _earlier(states, order).flatten(0, 1)


class _LSTMSteps(torch.autograd.Function):
    """Input products (B, T, 4H), recurrent weights (4H, H), mask (B, T, 1) or None to states (B, T, H).

    The other outputs are kept for the backward pass: activations (B, T, 4H), cells and their tanh (B, T, H).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gates: Tensor, w: Tensor, keep: Tensor | None, backwards: bool) -> tuple[Tensor, ...]:
        n, wt = w.shape[-1], w.t()
        order = _order(gates.shape[1], backwards)
        h = torch.zeros_like(gates[:, 0, :n])
        c = h
        out: list[tuple[Tensor, ...]] = [()] * len(order)
        for t in order:
            z = torch.addmm(gates[:, t], h, wt)
            z[:, : 2 * n].sigmoid_()
            z[:, 2 * n : 3 * n].tanh_()
            z[:, 3 * n :].sigmoid_()
            i, f, g, o = z.chunk(4, -1)
            new_c = torch.addcmul(i * g, f, c)
            bent = new_c.tanh()
            new_h = o * bent
            h = new_h if keep is None else torch.where(keep[:, t], new_h, h)
            c = new_c if keep is None else torch.where(keep[:, t], new_c, c)
            out[t] = (h, z, c, bent)
        return tuple(torch.stack(x, 1) for x in zip(*out))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, w, keep, ctx.backwards = inputs
        states, *rest = output
        ctx.save_for_backward(*rest, states, w, keep)
        ctx.mark_non_differentiable(*rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return *_LSTMBackward.apply(grad, *ctx.saved_tensors, ctx.backwards), None, None


def _seed_by_seed(function: Any, info: Any, dims: tuple[int | None, ...], tensors: tuple[Tensor, ...]) -> Any:
    """Return the outputs (S, ...) of a function that knows one seed alone."""
    seeds = range(info.batch_size)
    return [function.apply(*[x if d is None else x.select(d, s) for x, d in zip(tensors, dims)]) for s in seeds]


def _native(x: Tensor, *weights: Tensor) -> Tensor:
    zero = x.new_zeros(1, x.shape[0], weights[1].shape[-1])
    states: Tensor = torch.lstm(x, (zero, zero), weights, True, 1, 0.0, False, False, True)[0]
    return states


class _NativeBackward(_Backward):
    generate_vmap_rule = False

    @staticmethod
    def forward(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():  # the kernel keeps what it needs for its gradient to itself, so it runs again
            leaves = [t.detach().requires_grad_() for t in inputs]
            return torch.autograd.grad(_native(*leaves), leaves, grad)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *tensors: Tensor) -> Any:
        rows = _seed_by_seed(_NativeBackward, info, dims, tensors)
        return tuple(torch.stack(column) for column in zip(*rows)), (0,) * len(rows[0])


class _NativeLSTM(torch.autograd.Function):
    """torch's LSTM kernel, x (B, T, D) and the four parameters to states (B, T, H), with a rule for `vmap`."""

    @staticmethod
    def forward(x: Tensor, *weights: Tensor) -> Tensor:
        return _native(x, *weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _NativeBackward.apply(grad, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *tensors: Tensor) -> Any:
        return torch.stack(_seed_by_seed(_NativeLSTM, info, dims, tensors)), 0


def _narrow(x: Tensor, weights: tuple[Tensor, ...], keep: Tensor | None, backwards: bool) -> Tensor:
    """Return the states (B, T, H) by torch's kernel: steps that count first, then every state where it belongs."""
    if backwards:
        x, keep = x.flip(1), None if keep is None else keep.flip(1)
    if keep is None:
        states: Tensor = _NativeLSTM.apply(x, *weights)
    else:
        mask = keep.squeeze(-1)
        order = torch.argsort((~mask).to(torch.uint8), dim=-1, stable=True)
        states = _NativeLSTM.apply(_take(x, order), *weights)
        place = mask.cumsum(-1) - 1  # -1 before the first step that counts: the zero state
        states = hide(_take(states, place.clamp(min=0)), place >= 0)
    return states.flip(1) if backwards else states


def _take(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order.unsqueeze(-1).expand(*order.shape, x.shape[-1]))


class _GRUBackward(_Backward):
    @staticmethod
    def forward(
        grad: Tensor, acts: Tensor, inner: Tensor, states: Tensor, w: Tensor, keep: Tensor | None, backwards: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps = states.shape[1]
        order = _order(steps, backwards)
        r, u, new = acts.chunk(3, -1)
        before = _earlier(states, order)
        of_new = (1 - u) * (1 - new * new)
        slope = torch.cat([of_new * inner * r * (1 - r), (before - new) * u * (1 - u), of_new * r], -1)  # (B, T, 3H)
        if keep is not None:
            of_new, slope = of_new * keep, slope * keep
            u = torch.where(keep, u, torch.ones_like(u))
        dh = torch.zeros_like(of_new[:, 0])
        slopes, heads = [dh] * steps, [dh] * steps
        for t in reversed(order):
            dh = dh + grad[:, t]
            heads[t] = dh
            slopes[t] = slope[:, t] * dh.repeat(1, 3)
            dh = torch.addcmul(slopes[t] @ w, dh, u[:, t])
        inside = torch.stack(slopes, 1)  # of h W' + b, (B, T, 3H)
        dgates = torch.cat([inside[..., : 2 * new.shape[-1]], torch.stack(heads, 1) * of_new], -1)
        flat = inside.flatten(0, 1)
        return dgates, flat.t() @ before.flatten(0, 1), flat.sum(0)


class _GRUSteps(torch.autograd.Function):
    """Input products (B, T, 3H), recurrent weights (3H, H) and bias, mask (B, T, 1) or None to states (B, T, H).

    The other outputs are kept for the backward pass: activations (B, T, 3H), the new state's recurrent part (B, T, H).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gates: Tensor, w: Tensor, b: Tensor, keep: Tensor | None, backwards: bool) -> tuple[Tensor, ...]:
        n, wt = w.shape[-1], w.t()
        order = _order(gates.shape[1], backwards)
        h = torch.zeros_like(gates[:, 0, :n])
        out: list[tuple[Tensor, ...]] = [()] * len(order)
        for t in order:
            inside = torch.addmm(b, h, wt)
            ru = torch.sigmoid(gates[:, t, : 2 * n] + inside[:, : 2 * n])
            r, u = ru.chunk(2, -1)
            inner = inside[:, 2 * n :]
            new = torch.tanh(torch.addcmul(gates[:, t, 2 * n :], r, inner))
            after = torch.lerp(new, h, u)
            h = after if keep is None else torch.where(keep[:, t], after, h)
            out[t] = (h, torch.cat([ru, new], -1), inner)
        return tuple(torch.stack(x, 1) for x in zip(*out))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, w, _, keep, ctx.backwards = inputs
        states, *rest = output
        ctx.save_for_backward(*rest, states, w, keep)
        ctx.mark_non_differentiable(*rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return *_GRUBackward.apply(grad, *ctx.saved_tensors, ctx.backwards), None, None


class _Recurrent(nn.Module):
    """One layer, one or two directions, batch first. Subclasses say how many gates and run the steps."""

    gates: int

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
        keep = None if mask is None else mask.unsqueeze(-1)
        if keep is not None:
            x = x.masked_fill(~keep, 0)  # what is not observed may be anything, NaN included
        ways = [("l0", False), ("l0_reverse", True)][: 1 + self.bidirectional]
        states = [self._direction(x, keep, suffix, backwards) for suffix, backwards in ways]
        last = [s[:, 0] if backwards else s[:, -1] for s, (_, backwards) in zip(states, ways)]
        return torch.cat(states, -1), torch.cat(last, -1)

    def _direction(self, x: Tensor, keep: Tensor | None, suffix: str, backwards: bool) -> Tensor:
        w_ih, w_hh, b_ih, b_hh = (
            getattr(self, f"{k}_{suffix}") for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return self._steps(x, w_ih, w_hh, b_ih, b_hh, keep, backwards)

    def _steps(
        self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, keep: Tensor | None, backwards: bool
    ) -> Tensor:
        """Return the states (B, T, H) of one direction."""
        raise NotImplementedError


class GRU(_Recurrent):
    """Gated recurrent unit, (B, T, D) to states (B, T, H) and last state (B, H); see `forward`."""

    gates = 3

    def _steps(
        self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, keep: Tensor | None, backwards: bool
    ) -> Tensor:
        states: Tensor = _GRUSteps.apply(F.linear(x, w_ih, b_ih), w_hh, b_hh, keep, backwards)[0]
        return states


class LSTM(_Recurrent):
    """Long short-term memory, (B, T, D) to states (B, T, H) and last state (B, H); see `forward`."""

    gates = 4

    def _steps(
        self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, keep: Tensor | None, backwards: bool
    ) -> Tensor:
        if self.hidden <= NARROW and x.device.type == "cpu":
            return _narrow(x, (w_ih, w_hh, b_ih, b_hh), keep, backwards)
        states: Tensor = _LSTMSteps.apply(F.linear(x, w_ih, b_ih + b_hh), w_hh, keep, backwards)[0]
        return states
