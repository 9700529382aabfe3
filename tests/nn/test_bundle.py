"""LSTMs side by side equal the layers one by one, in states and gradients, stacked too."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from affectcore.nn.bundle import Packed, run
from affectcore.nn.recurrent import LSTM


def case():
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layers = [LSTM(3, 2, True).double(), LSTM(4, 5).double(), LSTM(2, 3, True).double()]
    xs = [torch.randn(6, t, n, generator=g).double() for t, n in ((7, 3), (4, 4), (9, 2))]
    masks = [torch.rand(x.shape[:2], generator=g) > 0.4 for x in xs]
    masks[0][2] = False
    return layers, xs, masks


def one_by_one(layers, xs, masks):
    return [layer(x, m) for layer, x, m in zip(layers, xs, masks)]


def test_states_and_gradients_are_those_of_the_layers_alone():
    layers, xs, masks = case()
    spoiled = [x.masked_fill(~m.unsqueeze(2), float("nan")) for x, m in zip(xs, masks)]
    packed = [Packed.of(x, m) for x, m in zip(spoiled, masks)]
    states, last = run(layers, packed)
    expected = one_by_one(layers, xs, masks)
    for s, end, (all_states, all_last), m in zip(states, last, expected, masks):
        torch.testing.assert_close(end, all_last, rtol=0, atol=1e-14)
        for i in range(6):
            torch.testing.assert_close(s.x[i, : s.count[i]], all_states[i][m[i]], rtol=0, atol=1e-14)
    leaves = [p for layer in layers for p in layer.parameters()]
    mine, theirs = (
        torch.autograd.grad(sum(e.sin().sum() for e in ends), leaves) for ends in (last, [e[1] for e in expected])
    )
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    assert (last[0][2] == 0).all()


@pytest.mark.filterwarnings("error")
def test_a_stack_of_layers_gives_what_each_gives():
    _, xs, masks = case()

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([LSTM(3, 2, True), LSTM(4, 5)])

        def forward(self, xs, masks):
            return run(list(self.layers), [Packed.of(x, m) for x, m in zip(xs, masks)])[1]

    models = [Two().double() for _ in range(3)]
    params, _ = stack_module_state(models)
    stacked = vmap(lambda p: functional_call(models[0], p, (xs[:2], masks[:2])))(params)
    for i, model in enumerate(models):
        for a, b in zip(stacked, model(xs[:2], masks[:2])):
            torch.testing.assert_close(a[i], b, rtol=0, atol=1e-13)
