"""Pre-norm stacks against torch's attention layer by layer, the folded norms, and the one step that is read."""

import pytest
import torch
import torch.nn.functional as F

from affectcore.nn.attention import sinusoids
from affectcore.nn.crossmodal import PreNormStack, Rates, future, normalise, place
from affectcore.nn.noise import Pool

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
RATES = Rates(0.5, 0.5, 0.5)  # no noise, no drop-out


def plain(stack, x, memory, mask, hidden):
    """The stack as published: torch's attention, the layer's norm on queries, keys and values."""
    for layer in stack.layers:
        attention = torch.nn.MultiheadAttention(stack.features, layer.attention.heads, batch_first=True).double()
        attention.load_state_dict(layer.attention.state_dict())
        q = layer.norm_attention(x)
        k = q if memory is None else layer.norm_attention(memory)
        x = x + attention(q, k, k, None if mask is None else ~mask, attn_mask=hidden)[0]
        x = x + layer.down(F.relu(layer.up(layer.norm_network(x))))
    return stack.norm(x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_a_stack_equals_its_plain_form_and_reads_the_steps_it_is_asked_for(across, masked):
    g = torch.Generator().manual_seed(0)
    stack = PreNormStack(8, 2, 3).double()
    with torch.no_grad():
        for p in stack.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    x, memory = torch.randn(3, 5, 8, generator=g).double(), torch.randn(3, 7, 8, generator=g).double()
    steps = 7 if across else 5
    mask = torch.arange(steps) < torch.tensor([[2], [steps], [3]]) if masked else None
    hidden = None if masked else future(x, x if not across else memory)
    given = normalise(memory) if across else None
    expected = plain(stack, x, memory if across else None, mask, hidden)
    ours = stack(x, given, mask, hidden, SILENT, RATES)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    for read in (slice(0, 1), slice(-1, None), slice(1, 3)):
        one = stack(x, given, mask, hidden, SILENT, RATES, read)
        torch.testing.assert_close(one, expected[:, read], rtol=0, atol=1e-12)
    if across:
        assert torch.equal(stack(x, stack.read(given), mask, hidden, SILENT, RATES), ours)
    chosen = torch.tensor([1, 4, 2])
    if not masked:
        chosen = torch.full((3,), 4)  # before the last, a step may see more in the last layer than in those before
    one = stack(x, given, mask, hidden, SILENT, RATES, chosen)[:, 0]
    torch.testing.assert_close(one, expected[range(3), chosen], rtol=0, atol=1e-12)


def test_places():
    x = torch.randn(2, 4, 6).double()
    x[0, 2, 0] = 0
    code = sinusoids(4, 6, x)
    torch.testing.assert_close(place(x, False), x * 6**0.5)
    torch.testing.assert_close(place(x, True), x * 6**0.5 + code)
    skipped = place(x, True, skip_zero=True)
    torch.testing.assert_close(skipped[0, 2], x[0, 2] * 6**0.5)
    torch.testing.assert_close(skipped[1], x[1] * 6**0.5 + code)


def test_the_future_begins_later_between_sequences_of_different_lengths():
    two, four = torch.zeros(1, 2, 3), torch.zeros(1, 4, 3)
    assert future(two, two).tolist() == [[False, True], [False, False]]
    assert future(two, four).tolist() == [[False] * 3 + [True], [False] * 4]
