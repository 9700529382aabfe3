"""Supervised contrastive loss (Khosla et al. 2020) of a batch's rows and a queue of earlier rows, exact and cheap.

    loss_i = -1/|P(i)| sum over j in P(i) of log( exp(f_i.f_j / t) / sum over a != i of exp(f_i.f_a / t) )

over the pool of n rows of the batch and Q of the queue; P(i) are the others of the same class; an anchor without
positives counts 0. Anchors are the batch's rows, or all rows of the pool. The queue takes no gradient, so of the
(n + Q)^2 similarities only n (n + Q) depend on the weights. What saves time and changes no value:
* the positives' part needs no pairs: sum over P(i) of f_i.f_j = f_i.(sum of the class's rows - f_i);
* the queue's own block enters only as row sums of exponentials, kept in `sums` by blocks of columns; rows that enter
  the queue change some blocks, which are summed anew (nothing is subtracted, so no rounding error builds up).
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.errors import ConfigError
from affectcore.nn.attention import HIDDEN

FILLER, LEFT_OUT = -1, -2
"""Class numbers of rows that are a negative of everybody, and of rows that take no part at all."""
BLOCK = 256


class Queue(nn.Module):
    """The last `size` rows (size, features) of norm 1 or less and their classes, first in, first out.

    filler: scale of the random rows, columns of norm 1, that it starts with, as published codes do; 0: it starts empty.
    sums: keep what `contrast` needs for anchors "all". `entries` makes a memo of new rows and `remember` takes it in.
    """

    rows: Tensor
    classes: Tensor
    place: Tensor
    sums: Tensor | None

    def __init__(self, size: int, features: int, temperature: float, filler: float = 0.0, sums: bool = False) -> None:
        super().__init__()
        if size < 0 or temperature <= 0:
            raise ConfigError(f"queue of {size} rows at temperature {temperature}: needs size >= 0, temperature > 0")
        self.temperature, self.block = temperature, math.gcd(size, BLOCK) if size else 1
        rows = torch.zeros(size, features) if not filler else F.normalize(torch.randn(size, features), dim=0) * filler
        self.register_buffer("rows", rows)
        self.register_buffer("classes", torch.full((size,), FILLER if filler else LEFT_OUT))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(size // self.block, size) if sums else None)
        if sums:
            self.sum_up()

    @torch.no_grad()
    def sum_up(self) -> None:
        """Compute `sums` from nothing: sums[b, i], over the rows a != i of block b, of exp((f_i.f_a - 1) / t)."""
        assert self.sums is not None
        for b in range(len(self.sums)):
            self.sums[b] = self._exponentials(self.rows, self.classes, torch.tensor([b]))[0].sum(0)

    def _exponentials(self, rows: Tensor, classes: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Return exp((f_a.f_i - 1) / t) for a in some blocks, (k block, Q), 0 for a = i or left out, and the a."""
        a = (blocks.unsqueeze(-1) * self.block + torch.arange(self.block, device=blocks.device)).flatten()
        e = similar(rows[a], rows, classes, self.temperature)
        own = a.unsqueeze(-1) == torch.arange(len(rows), device=a.device)
        return e.masked_fill(own | (classes[a] == LEFT_OUT).unsqueeze(-1), 0), a

    def entries(self, rows: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Return the memo of rows (n, features) and classes (n,); of more rows than the queue holds, the last."""
        size = len(self.rows)
        return {"queue_rows": rows.detach()[-size:], "queue_classes": classes[-size:]} if size else {}

    @torch.no_grad()
    def remember(self, memo: Mapping[str, Tensor]) -> None:
        if "queue_rows" not in memo:
            return
        new, size, device = memo["queue_rows"], len(self.rows), self.rows.device
        n = new.shape[0]
        at = (self.place + torch.arange(n, device=device)) % size
        rows = self.rows.index_copy(0, at, new)  # index_copy_ has no rule for vmap
        classes = self.classes.index_copy(0, at, memo["queue_classes"])
        if self.sums is not None:
            count = size // self.block
            touched = min(count, (n + self.block - 2) // self.block + 1)
            blocks = (self.place // self.block + torch.arange(touched, device=device)) % count
            e, a = self._exponentials(rows, classes, blocks)
            sums = self.sums.index_copy(0, blocks, e.unflatten(0, (touched, self.block)).sum(1))
            given = e.unflatten(1, (count, self.block)).sum(-1)  # by symmetry, what all blocks give to row a
            self.sums.copy_(sums.index_copy(1, a, given.transpose(0, 1)))
        self.rows.copy_(rows)
        self.classes.copy_(classes)
        self.place.copy_((self.place + n) % size)


def similar(anchors: Tensor, pool: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Return exp((f_i.f_j - 1) / t) of anchors (n, F) and a pool (N, F): (n, N), 0 for j left out.

    The shift is that of two equal rows of norm 1; it and the mask enter the product as one more feature.
    """
    bias = (torch.zeros_like(pool[:, :1]) - 1 / temperature).masked_fill((classes == LEFT_OUT).unsqueeze(-1), HIDDEN)
    a = torch.cat([anchors / temperature, torch.ones_like(anchors[:, :1])], -1)
    return (a @ torch.cat([pool, bias], -1).transpose(0, 1)).exp()


def contrast(
    rows: Tensor, classes: Tensor, n_classes: int, queue: Queue, anchors: Literal["batch", "all"] = "batch"
) -> Tensor:
    """Return the loss (), the mean over anchors, of rows (n, F) of norm 1 or less and classes (n,), int64.

    anchors "all" needs a queue that keeps sums.
    """
    t, n = queue.temperature, rows.shape[0]
    itself = torch.eye(n, dtype=torch.bool, device=rows.device)
    own = similar(rows, rows, classes, t).masked_fill(itself, 0)  # (n, n)
    past = similar(rows, queue.rows, queue.classes, t)  # (n, Q)
    numbers = torch.arange(n_classes, device=rows.device)
    here = (classes.unsqueeze(-1) == numbers).to(rows.dtype)  # (n, C), a row of FILLER or LEFT_OUT has no class
    there = (queue.classes.unsqueeze(-1) == numbers).to(rows.dtype)
    centre = here.transpose(0, 1) @ rows + there.transpose(0, 1) @ queue.rows  # (C, F), sums of the classes' rows
    count = here.sum(0) + there.sum(0)

    def each(f: Tensor, member: Tensor, total: Tensor) -> Tensor:
        positives = member @ count - 1  # -1 for a row without a class
        mean = ((member * (f @ centre.transpose(0, 1))).sum(-1) - f.square().sum(-1)) / positives.clamp(min=1)
        loss = total.clamp(min=1e-30).log() + (1 - mean) / t
        return loss.masked_fill(positives < 0.5, 0)

    part = (classes != LEFT_OUT).to(rows.dtype)
    loss, size = (each(rows, here, own.sum(1) + past.sum(1)) * part).sum(), part.sum()
    if anchors == "all":
        assert queue.sums is not None
        old = (queue.classes != LEFT_OUT).to(rows.dtype)
        total = part @ past + queue.sums.sum(0)
        loss, size = loss + (each(queue.rows, there, total) * old).sum(), size + old.sum()
    return loss / size.clamp(min=1)


def dense_contrast(logits: Tensor, positive: Tensor, other: Tensor) -> Tensor:
    """Return the loss () from logits (n, N) of any kind: anchors by pool, the plain form.

    positive (n, N): weight of a pair, 0 for a negative or oneself; other (n, N) bool: who is in the sum (not oneself).
    Rows that are nobody's other and have no weight give 0; the mean is over rows with an other.
    """
    logits = logits.masked_fill(~other, HIDDEN)
    weight = positive * other
    log_p = logits - logits.logsumexp(-1, keepdim=True)
    loss = -(weight * log_p).sum(-1) / weight.sum(-1).clamp(min=1e-12)
    part = other.any(-1).to(logits.dtype)
    return (loss * part).sum() / part.sum().clamp(min=1)
