"""Subset attention from block sums equals one masked softmax per subset, in values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from affectcore.errors import ConfigError
from affectcore.nn.noise import Pool, fill
from affectcore.nn.subset_attention import Scores, SubsetAttention, attend_log, divergence, subsets


def naive(module, x, lengths, mask=None):
    """One softmax per subset over the whole sequence, as published: hidden keys at -1e9, other rows zero."""
    d, h = module.features, module.heads
    q, k, v = F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
    q, k, v = (y.unflatten(-1, (h, -1)).transpose(1, 2) for y in (q * (d // h) ** -0.5, k, v))
    scores = q @ k.transpose(-1, -2)
    block = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    outs = []
    for g, linear in zip(module.groups, module.group_proj):
        inside = torch.isin(block, torch.tensor(g))
        seen = inside if mask is None else inside & mask[:, None, None]
        weights = scores.masked_fill(~seen, -1e9).softmax(-1) * inside[:, None]
        outs.append(linear((weights @ v).transpose(1, 2).flatten(2)))
    rows = [
        module.summary[i](torch.cat([outs[g][:, block == i] for g in module.members[i]], -1))
        for i in range(len(lengths))
    ]
    return module.out_proj(torch.cat(rows, 1)), scores


def module_of(features=8, heads=2, blocks=3, groups=None):
    torch.manual_seed(0)
    module = SubsetAttention(features, heads, blocks, groups).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    return module


def test_subsets_come_in_the_published_order():
    assert subsets(3) == ((0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,))
    assert len(subsets(5)) == 31


@pytest.mark.parametrize(
    ("lengths", "features", "heads"), [((4, 5, 3), 8, 2), ((2, 1), 8, 8), ((3, 2, 2, 4), 32, 1), ((5, 2, 0), 16, 1)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_block_sums_equal_one_softmax_per_subset(lengths, features, heads, masked):
    module = module_of(features, heads, len(lengths))
    x = torch.randn(2, sum(lengths), features, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, sum(lengths), dtype=torch.bool)
    if masked:
        mask[0, 1] = mask[1, sum(lengths) - 1] = False
        if lengths[-1] == 1:  # the last block of the second sample has no key left: its own rows mean nothing
            mask[1, -1] = True
    out, scores = module(x, lengths, mask if masked else None)
    expected, written = naive(module, x, lengths, mask if masked else None)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(scores.written(), written, rtol=0, atol=1e-12)
    hidden = written.masked_fill(~mask[:, None, None], -1e9)
    torch.testing.assert_close(scores.total, hidden.logsumexp(-1), rtol=0, atol=1e-12)
    leaves, weights = [x, *module.parameters()], torch.randn_like(out)
    mine = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True)
    theirs = torch.autograd.grad((expected * weights).sum(), leaves, allow_unused=True)
    for a, b in zip(mine, theirs):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_a_block_far_below_the_others_keeps_its_own_attention():
    # sums of exp(score - largest score) would be 0 / 0 for the low block in float32
    q = torch.tensor([[[[1.0]]]])
    k, v = torch.tensor([[[[0.0], [1.0]]]]) - 500, torch.tensor([[[[1.0], [3.0]]]])
    out, log = attend_log(q, k, v)
    p = torch.sigmoid(torch.tensor(1.0))
    assert out.item() == pytest.approx((1 - p + 3 * p).item(), rel=1e-6)
    assert log.item() == pytest.approx(-500 + torch.log1p(torch.tensor(1.0).exp()).item(), rel=1e-6)


@pytest.mark.parametrize("e", [4, 16])
def test_the_gradient_of_the_log_sums_is_the_softmax(e):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, e, dtype=torch.float64, requires_grad=True) for _ in range(3))
    for f in (lambda o, log: log.square().sum(), lambda o, log: (o.sum(-1) * log).sum()):
        mine = torch.autograd.grad(f(*attend_log(q, k, v)), (q, k, v), allow_unused=True, materialize_grads=True)
        s = q @ k.transpose(-1, -2)
        plain = f(s.softmax(-1) @ v, s.logsumexp(-1))
        theirs = torch.autograd.grad(plain, (q, k, v), allow_unused=True, materialize_grads=True)
        for a, b in zip(mine, theirs):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_divergence_equals_the_sum_over_written_attentions():
    torch.manual_seed(0)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    sizes = {"teacher": 8, "student": 4}  # the two may have other widths
    made = {n: [torch.randn(2, 3, 6, e, dtype=torch.float64, requires_grad=True) for _ in range(2)]
            for n, e in sizes.items()}  # fmt: skip
    hidden = {n: (q @ k.transpose(-1, -2)).masked_fill(~mask[:, None, None], -1e4) for n, (q, k) in made.items()}
    scores = {n: Scores(q, k, hidden[n].logsumexp(-1)) for n, (q, k) in made.items()}
    mine = divergence(scores["teacher"].detach(), scores["student"], mask)
    logs = {n: s.log_softmax(-1) for n, s in hidden.items()}
    p = logs["teacher"].detach()
    expected = (p.exp() * (p - logs["student"])).sum(-1)
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12)
    assert divergence(scores["teacher"], scores["teacher"], mask).abs().max() < 1e-12
    for a, b in zip(*(torch.autograd.grad(x.sum(), made["student"], retain_graph=True) for x in (mine, expected))):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_dropped_weights_of_the_whole_change_that_group_alone():
    module = module_of(groups=((0, 1), (0,), (1,)), blocks=2)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    noise = Pool(fill([0], 2 * 2 * 25, "cpu", "subset")[0], x[0, 0, 0])
    dropped, _ = module(x, (3, 2), None, noise, 0.5)
    noise.close()
    kept, _ = module(x, (3, 2))
    assert (dropped - kept).abs().max() > 1e-3
    only = module_of(groups=((0,), (1,)), blocks=2)
    words = fill([0], 2 * 2 * 25, "cpu", "subset")[0]
    torch.testing.assert_close(only(x, (3, 2), None, Pool(words, x[0, 0, 0]), 0.5)[0], only(x, (3, 2))[0])


def test_stacked_copies_equal_single_ones():
    module = module_of()
    names, leaves = zip(*module.named_parameters())
    xs = torch.randn(2, 2, 7, 8, dtype=torch.float64)
    stacked = [torch.stack([p, p + 0.1]) for p in leaves]

    def loss(params, x):
        out, scores = torch.func.functional_call(module, dict(zip(names, params)), (x, (3, 2, 2)))
        return out.square().sum() + divergence(scores.detach(), scores).sum() + scores.total.sum()

    grads = torch.func.vmap(torch.func.grad(loss))(stacked, xs)
    for s in range(2):
        single = torch.func.grad(loss)([p[s] for p in stacked], xs[s])
        for a, b in zip(grads, single):
            torch.testing.assert_close(a[s], b, rtol=0, atol=1e-10)
    values = torch.func.vmap(loss)(stacked, xs)
    assert values.shape == (2,)


def test_heads_must_divide_the_features():
    with pytest.raises(ConfigError, match="8 features cannot be split into 3 heads"):
        SubsetAttention(8, 3, 2)
