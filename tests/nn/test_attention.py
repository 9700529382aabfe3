"""Attention against torch's own module, and what masks promise."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from affectcore.errors import ConfigError
from affectcore.nn.attention import MultiheadAttention, attend, masked_softmax, sinusoids
from affectcore.nn.noise import Pool, Tape, fill


def pair():
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    nn.init.normal_(theirs.in_proj_bias)
    mine = MultiheadAttention(12, 3).double()
    mine.load_state_dict(theirs.state_dict())
    query, memory = torch.randn(4, 5, 12, dtype=torch.float64), torch.randn(4, 7, 12, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([[7], [1], [3], [5]])
    return mine, theirs, query, memory, mask


def test_equals_torch_with_and_without_a_key_mask():
    mine, theirs, query, memory, mask = pair()
    torch.testing.assert_close(mine(query, memory), theirs(query, memory, memory)[0], rtol=0, atol=1e-14)
    expected = theirs(query, memory, memory, key_padding_mask=~mask)[0]
    torch.testing.assert_close(mine(query, memory, mask), expected, rtol=0, atol=1e-14)


def test_hidden_pairs_equal_torchs_attention_mask():
    mine, theirs, query, memory, mask = pair()
    future = torch.ones(5, 7, dtype=torch.bool).triu(3)
    expected = theirs(query, memory, memory, key_padding_mask=~mask, attn_mask=future)[0]
    q = query @ theirs.in_proj_weight[:12].T + theirs.in_proj_bias[:12]
    k, v = (memory @ theirs.in_proj_weight[12:].T + theirs.in_proj_bias[12:]).chunk(2, -1)
    got = mine.out_proj(attend(q, k, v, 3, mask, future))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


def test_a_query_without_keys_gets_zeros_and_finite_gradients():
    mine, _, query, memory, mask = pair()
    mask[2] = False
    memory.requires_grad_()
    out = mine(query, memory, mask)
    assert torch.equal(out[2], torch.zeros_like(out[2]))
    out.square().sum().backward()
    assert torch.isfinite(memory.grad).all()
    assert torch.equal(memory.grad[~mask], torch.zeros_like(memory.grad[~mask]))
    scores = torch.randn(2, 4)
    assert torch.equal(masked_softmax(scores, torch.zeros(2, 4, dtype=torch.bool)), torch.zeros(2, 4))


def test_runs_under_vmap_in_training_and_evaluation():
    mine, _, query, memory, mask = pair()
    stacked = {k: torch.stack([v.detach(), 0.5 * v.detach()]) for k, v in mine.named_parameters()}

    def total(parameters, mask):
        return functional_call(mine, parameters, (query, memory, mask)).square().sum()

    masks = torch.stack([mask, mask.flip(0)])
    values, slopes = vmap(total)(stacked, masks), vmap(grad(total))(stacked, masks)
    for i in range(2):
        alone = {k: v[i].clone().requires_grad_() for k, v in stacked.items()}
        value = total(alone, masks[i])
        value.backward()
        torch.testing.assert_close(values[i], value.detach(), rtol=1e-12, atol=0)
        for k, v in alone.items():
            torch.testing.assert_close(slopes[k][i], v.grad, rtol=1e-9, atol=1e-11)


def test_dropout_draws_one_number_per_weight():
    mine, _, query, memory, mask = pair()
    tape = Tape(query)
    mine(query, memory, mask, tape, 0.5)
    assert tape.words == 4 * 3 * 5 * 7
    a, b = (mine(query, memory, mask, Pool(fill([s], tape.words, "cpu")[0], query), 0.5) for s in (0, 1))
    assert not torch.allclose(a, b)
    assert torch.equal(
        mine(query, memory, mask, Pool(fill([0], 0, "cpu")[0], query, False), 0.5), mine(query, memory, mask)
    )


def test_heads_must_divide_the_features():
    with pytest.raises(ConfigError, match="12 features cannot be split into 5 heads"):
        MultiheadAttention(12, 5)


def test_sinusoids_are_the_tensor2tensor_form():
    x = sinusoids(4, 7, torch.zeros((), dtype=torch.float64))
    assert x.shape == (4, 7)
    assert x.dtype == torch.float64
    for p in range(4):
        for i in range(3):
            angle = torch.tensor((p + 1) * 10000 ** (-i / 2))
            torch.testing.assert_close(x[p, i].item(), angle.sin().item(), rtol=0, atol=1e-6)
            torch.testing.assert_close(x[p, 3 + i].item(), angle.cos().item(), rtol=0, atol=1e-6)
    assert torch.equal(x[:, 6], torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("hidden", [None, torch.zeros(3, 4, dtype=torch.bool)])  # torch's kernel, and products
def test_attention_itself_gives_zeros_where_no_key_may_be_seen(hidden):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, 8) for n in (3, 4, 4))
    out = attend(q, k, v, 2, torch.tensor([[False] * 4, [True] * 4]), hidden)
    assert bool((out[0] == 0).all())
    assert bool((out[1] != 0).any())
