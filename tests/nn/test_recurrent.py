"""Recurrent layers against torch's own on the same weights, per-sequence runs as the oracle of masking."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from affectcore.nn import recurrent
from affectcore.nn.recurrent import GRU, LSTM

PAIRS = [(GRU, nn.GRU), (LSTM, nn.LSTM)]


@pytest.fixture(autouse=True, params=["written out", "torch's kernel"])
def way(request, monkeypatch):
    """Everything must hold for the steps written out and for torch's kernel."""
    monkeypatch.setattr(recurrent, "NARROW", 64 if request.param == "torch's kernel" else 0)


def pair(ours, native, bidirectional=False):
    torch.manual_seed(1)
    theirs = native(5, 4, batch_first=True, bidirectional=bidirectional).double()
    mine = ours(5, 4, bidirectional).double()
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("ours", "native"), PAIRS)
def test_equals_torch_and_so_do_the_gradients(ours, native, bidirectional):
    mine, theirs = pair(ours, native, bidirectional)
    x = torch.randn(3, 7, 5, dtype=torch.float64)
    states, last = mine(x)
    expected, end = theirs(x)
    h = end[0] if native is nn.LSTM else end
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(last, torch.cat(list(h), -1), rtol=0, atol=1e-14)
    weight = torch.randn_like(states)
    (states * weight).sum().backward()
    (expected * weight).sum().backward()
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(mine.get_parameter(name).grad, p.grad, rtol=0, atol=1e-12)


def test_initial_weights_follow_torch():
    torch.manual_seed(3)
    native = nn.LSTM(5, 4)
    torch.manual_seed(3)
    for p, q in zip(LSTM(5, 4).parameters(), native.parameters()):
        assert torch.equal(p, q)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("ours", "native"), PAIRS)
def test_masked_steps_are_skipped(ours, native, bidirectional):
    mine, theirs = pair(ours, native, bidirectional)
    x = torch.randn(3, 6, 5, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    x[~mask] = float("nan")
    _, last = mine(x, mask)
    for i in (0, 1):  # the oracle: torch's layer on the observed steps alone
        end = theirs(x[i, mask[i]].unsqueeze(0))[1]
        h = end[0] if native is nn.LSTM else end
        torch.testing.assert_close(last[i], torch.cat(list(h[:, 0]), -1), rtol=0, atol=1e-14)
    assert torch.equal(last[2], torch.zeros_like(last[2]))


@pytest.mark.parametrize(("ours", "native"), PAIRS)
def test_runs_under_vmap_in_training_and_evaluation(ours, native):
    models = [pair(ours, native)[0] for _ in range(2)]
    with torch.no_grad():
        for p in models[1].parameters():
            p.mul_(1.5)
    stacked = {k: torch.stack([m.state_dict()[k] for m in models]) for k in models[0].state_dict()}
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    mask = torch.rand(2, 3, 6) > 0.4

    def total(parameters, x, mask):
        return functional_call(models[0], parameters, (x, mask))[1].square().sum()

    together, slopes = vmap(total)(stacked, x, mask), vmap(grad(total))(stacked, x, mask)
    for i, m in enumerate(models):
        alone = m(x[i], mask[i])[1].square().sum()
        m.zero_grad()
        alone.backward()
        torch.testing.assert_close(together[i], alone.detach(), rtol=0, atol=1e-13)
        for k, p in m.named_parameters():
            torch.testing.assert_close(slopes[k][i], p.grad, rtol=0, atol=1e-12)
