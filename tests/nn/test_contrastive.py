"""The queue contrastive loss against sums over pairs, through wrap-arounds, fillers and rows that take no part."""

import math

import pytest
import torch
import torch.nn.functional as F

from affectcore.errors import ConfigError
from affectcore.models.naive.lddu import enqueue, supervised_contrastive
from affectcore.nn.contrastive import FILLER, LEFT_OUT, Queue, contrast, dense_contrast


def unit_rows(n, width=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, width, generator=g, dtype=torch.float64), dim=-1)


def test_four_rows_by_hand():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    classes = torch.tensor([0, 0, 0, 1])  # the last anchor has no positive
    t = 0.5
    total = 0.0
    for i, positives in enumerate(([1, 2], [0, 2], [0, 1], [])):
        others = [math.exp(float(rows[i] @ rows[a]) / t) for a in range(4) if a != i]
        logs = [float(rows[i] @ rows[j]) / t - math.log(sum(others)) for j in positives]
        total += -sum(logs) / len(logs) if logs else 0.0
    got = contrast(rows, classes, 2, Queue(0, 2, t).double())
    assert float(got) == pytest.approx(total / 4, abs=1e-14)
    assert float(supervised_contrastive(rows, classes, t)) == pytest.approx(total / 4, abs=1e-10)


@pytest.mark.parametrize("n", [8, 12, 13, 48, 60])  # rows a step: dividing the queue of 48, wrapping, filling it, more
def test_all_anchors_equal_the_naive_form_while_the_queue_wraps(n):
    torch.manual_seed(0)
    size, t = 48, 0.3
    queue = Queue(size, 6, t, filler=1.0, sums=True).double()
    queue.block = 16
    queue.sums = torch.zeros(3, size, dtype=torch.float64)
    queue.sum_up()
    held, labels, at = queue.rows.clone(), -1.0 - torch.arange(size, dtype=torch.float64), 0
    for step in range(9):
        rows = unit_rows(n, seed=step).requires_grad_()
        classes = torch.randint(5, (n,), generator=torch.Generator().manual_seed(step))
        ours = contrast(rows, classes, 5, queue, "all")
        naive = supervised_contrastive(torch.cat([rows, held]), torch.cat([classes.double(), labels]), t)
        torch.testing.assert_close(ours, naive, rtol=0, atol=1e-9)  # the naive form adds 1e-12 to denominators
        torch.testing.assert_close(*(torch.autograd.grad(x, rows)[0] for x in (ours, naive)), rtol=0, atol=1e-9)
        queue.remember(queue.entries(rows, classes))
        last = slice(max(0, n - size), None)
        at = enqueue(held, labels, at, rows.detach()[last], classes.double()[last])
        assert int(queue.place) == at
        assert torch.equal(queue.rows, held)
        kept = queue.sums.clone()
        queue.sum_up()
        torch.testing.assert_close(kept, queue.sums, rtol=0, atol=1e-13)
    assert not queue.rows.requires_grad


def brute_force(rows, classes, old, their, t, every):
    """Anchor by anchor; FILLER are negatives, LEFT_OUT are nothing."""
    pool = [(r, int(c)) for r, c in zip([*rows, *old], [*classes.tolist(), *their.tolist()])]
    losses = []
    for i, (f, c) in enumerate(pool):
        if c == LEFT_OUT or not (every or i < len(rows)):
            continue
        others = [(g, d) for j, (g, d) in enumerate(pool) if j != i and d != LEFT_OUT]
        log_sum = torch.stack([f @ g / t for g, _ in others]).logsumexp(0)
        logs = [f @ g / t - log_sum for g, d in others if d == c and c >= 0]
        losses.append(-torch.stack(logs).mean() if logs else torch.zeros((), dtype=torch.float64))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("anchors", ["batch", "all"])
def test_rows_that_take_no_part_and_an_unfilled_queue(anchors):
    t, queue = 0.2, Queue(12, 6, 0.2, sums=True).double()
    for step in range(3):  # five rows a step: unfilled, then wrapped
        rows = unit_rows(5, seed=step).requires_grad_()
        classes = torch.tensor([[0, 1, LEFT_OUT, 0, 2], [2, LEFT_OUT, FILLER, 1, 1], [0, 0, 0, LEFT_OUT, 3]][step])
        ours = contrast(rows, classes, 4, queue, anchors)
        naive = brute_force(rows, classes, queue.rows, queue.classes, t, anchors == "all")
        torch.testing.assert_close(ours, naive, rtol=0, atol=1e-13)
        torch.testing.assert_close(*(torch.autograd.grad(x, rows)[0] for x in (ours, naive)), rtol=0, atol=1e-12)
        queue.remember(queue.entries(rows, classes))
    expected = [0, LEFT_OUT, 3, 0, 2, 2, LEFT_OUT, FILLER, 1, 1, 0, 0]
    assert queue.classes.tolist() == expected


def test_the_dense_form_is_the_same_loss_and_weighs_pairs():
    rows, classes, queue = unit_rows(7), torch.tensor([0, 0, 1, 1, 1, LEFT_OUT, 2]), Queue(9, 6, 0.2).double()
    queue.remember(queue.entries(unit_rows(5, seed=4), torch.tensor([0, 1, 2, LEFT_OUT, 0])))
    pool, their = torch.cat([rows, queue.rows]), torch.cat([classes, queue.classes])
    other = (
        (their != LEFT_OUT) & (classes != LEFT_OUT).unsqueeze(-1) & (torch.arange(7).unsqueeze(1) != torch.arange(16))
    )
    same = (classes.unsqueeze(-1) == their).double()
    dense = dense_contrast(rows @ pool.T / 0.2, same, other)
    torch.testing.assert_close(dense, contrast(rows, classes, 3, queue), rtol=0, atol=1e-12)
    weight = same * torch.rand(7, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_p = (rows @ pool.T / 0.2).masked_fill(~other, -math.inf).log_softmax(-1)
    expected = []
    for i in range(7):
        w = [(float(weight[i, j]), float(log_p[i, j])) for j in range(16) if other[i, j] and weight[i, j] > 0]
        if i != 5:
            expected.append(-sum(a * b for a, b in w) / sum(a for a, _ in w) if w else 0.0)
    got = dense_contrast(rows @ pool.T / 0.2, weight, other)
    assert float(got) == pytest.approx(sum(expected) / len(expected), abs=1e-12)


def test_the_queue_remembers_under_vmap():
    queues = [Queue(12, 3, 0.2, filler=1.0, sums=True).double() for _ in range(2)]
    for q in queues:
        q.sum_up()
    rows = torch.stack([unit_rows(5, 3, seed=s) for s in range(2)])
    classes = torch.tensor([[0, 1, 2, 1, 0], [1, 1, 0, LEFT_OUT, 2]])
    names = ("rows", "classes", "place", "sums")
    state = {k: torch.stack([getattr(q, k) for q in queues]) for k in names}

    def step(buffers, r, c):
        new = {k: v.clone() for k, v in buffers.items()}
        torch.func.functional_call(Caller(queues[0]), {f"queue.{k}": v for k, v in new.items()}, (r, c))
        return new

    for _ in range(4):
        state = torch.vmap(step)(state, rows, classes)
        for q, r, c in zip(queues, rows, classes):
            q.remember(q.entries(r, c))
    for k in names:
        torch.testing.assert_close(state[k], torch.stack([getattr(q, k) for q in queues]), rtol=0, atol=1e-15)


class Caller(torch.nn.Module):
    def __init__(self, queue):
        super().__init__()
        self.queue = queue

    def forward(self, rows, classes):
        self.queue.remember(self.queue.entries(rows, classes))


def test_a_queue_refuses_what_cannot_be():
    with pytest.raises(ConfigError, match="needs size >= 0, temperature > 0"):
        Queue(4, 2, 0.0)
