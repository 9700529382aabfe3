"""Naive LDDU: separate projections, a classifier a label in a loop, and all (n + Q)^2 pairs of the contrastive loss."""

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.contract import AffectModel
from affectcore.models.lddu import LDDU, LabelHeads
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import NaiveTransformer, linear
from affectcore.nn.contrastive import contrast

CASES = {
    "lddu": Case("lddu", batch=64, shape="mosei_emotions"),
    "lddu_clean": Case("lddu", batch=64, preset="clean", shape="mosei_emotions"),
    "lddu_queue_loss": Case("lddu", batch=64, shape="mosei_emotions", part="queue_loss"),
}


def supervised_contrastive(features: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Return the loss with every row an anchor, in the published order of operations."""
    n = len(features)
    mask = torch.eq(classes.unsqueeze(1), classes.unsqueeze(0)).to(features.dtype)
    logits = features @ features.T / temperature
    logits = logits - logits.max(1, keepdim=True)[0].detach()
    logits_mask = torch.scatter(torch.ones_like(mask), 1, torch.arange(n).view(-1, 1), 0)
    mask = mask * logits_mask
    exp_logits = logits.exp() * logits_mask
    log_prob = logits - torch.log(exp_logits.sum(1, keepdim=True) + 1e-12)
    loss: Tensor = -((mask * log_prob).sum(1) / (mask.sum(1) + 1e-12)).mean()
    return loss


def enqueue(queue: Tensor, labels: Tensor, at: int, rows: Tensor, classes: Tensor) -> int:
    """Write rows into the queue from `at` on, round its end; return where the next go."""
    size, n = len(queue), len(rows)
    if at + n >= size:
        queue[at:], queue[: n - size + at] = rows[: size - at], rows[size - at :]
        labels[at:], labels[: n - size + at] = classes[: size - at], classes[size - at :]
    else:
        queue[at : at + n], labels[at : at + n] = rows, classes
    return (at + n) % size


class NaiveHeads(nn.Module):
    """A sequence of two layers for each label."""

    def __init__(self, heads: LabelHeads) -> None:
        super().__init__()
        self.each = nn.ModuleList()
        q, features, hidden = heads.weight.shape
        for i in range(q):
            first, second = nn.Linear(features, hidden), nn.Linear(hidden, 1)
            with torch.no_grad():
                first.weight.copy_(heads.weight[i].T)
                first.bias.copy_(heads.bias[i, 0])
                second.weight.copy_(heads.out_weight[i].T)
                second.bias.copy_(heads.out_bias[i, 0])
            self.each.append(nn.Sequential(first, nn.Dropout(heads.dropout), nn.ReLU(), second, nn.Sigmoid()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([f(x[:, i].unsqueeze(1)).squeeze(-1) for i, f in enumerate(self.each)], -1)


class NaiveLDDU(Twin):
    queue: Tensor
    queue_labels: Tensor

    def __init__(self, model: LDDU) -> None:
        super().__init__(model)
        c = model.config
        self.embedding = nn.Parameter(model.labels.detach().clone())
        self.norms = nn.ModuleList()
        for norm in cast(list[nn.LayerNorm], model.norms):
            self.norms.append(nn.LayerNorm(norm.normalized_shape, norm.eps))
            self.norms[-1].load_state_dict(norm.state_dict())
        self.encoders = nn.ModuleList(
            NaiveTransformer(e, c.dropout, c.attention_dropout) for e in cast(list[Any], model.encoders)
        )
        self.attention = nn.ModuleList(
            nn.ModuleList([linear(a.query), linear(a.value), linear(a.out)]) for a in cast(list[Any], model.attention)
        )
        self.latents = nn.ModuleList(
            nn.ModuleList([*(linear(x) for x in e.layers), linear(e.heads["mu"]), linear(e.heads["scale"])])
            for e in cast(list[Any], model.latents)
        )
        first, second = cast(list[nn.Linear], model.info)
        self.info = nn.Sequential(linear(first), nn.Dropout(c.head_dropout), nn.ReLU(), linear(second), nn.Sigmoid())
        assert model.centre is not None
        assert model.uncertain is not None
        assert model.queue is not None
        self.centre, self.uncertain = NaiveHeads(model.centre), NaiveHeads(model.uncertain)
        self.numbers = model.classes
        self.register_buffer("queue", model.queue.rows.clone())
        # whose class is negative matches nobody
        filler = -1.0 - torch.arange(len(self.queue), dtype=self.queue.dtype)
        self.register_buffer("queue_labels", torch.where(model.queue.classes < 0, filler, model.queue.classes))
        self.at = int(model.queue.place)

    def passed(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return probabilities of the mixture and of the info classifier, means and deviations (B, M, q, k)."""
        c, size = self.config, len(batch)
        labels = self.embedding.unsqueeze(0).repeat(size, 1, 1)
        z, mus, stds = [], [], []
        for x, norm, encoder, (query, value, out), latent in zip(
            batch.features.values(),
            self.norms,
            self.encoders,
            cast(list[Any], self.attention),
            cast(list[Any], self.latents),
        ):
            steps = value(encoder(norm(x)))
            scores = torch.softmax(query(labels) @ steps.transpose(-1, -2) / math.sqrt(c.width), -1)
            z.append(out(F.dropout(scores @ steps, c.label_dropout, self.training)))
            h = z[-1]
            for layer in latent[:-2]:
                h = F.relu(layer(h))
            mus.append(latent[-2](h))
            stds.append(torch.exp(0.5 * latent[-1](h)))
        p = self.info(torch.cat(z, -1)).squeeze(-1)
        centre, uncertain = self.centre(torch.cat(mus, -1)), self.uncertain(torch.cat(stds, -1))
        return centre * p + uncertain * (1 - p), p, torch.stack(mus, 1), torch.stack(stds, 1)

    def forward(self, batch: Batch) -> Tensor:
        final = self.passed(batch)[0]
        task = self.shape.task
        if task.kind == "regression":
            return task.low + (task.high - task.low) * final.squeeze(-1)
        return torch.logit(final)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the four losses; the batch's rows enter the queue."""
        y = batch.target
        final, p, mus, stds = self.passed(batch)
        rows = torch.cat([F.normalize(mus, dim=-1), F.normalize(stds, dim=-1)], -1).view(-1, 2 * mus.shape[-1])
        rows = rows / math.sqrt(2)
        classes = self.numbers(y).view(-1).to(rows.dtype)
        pool = torch.cat([rows, self.queue.clone()]), torch.cat([classes, self.queue_labels.clone()])
        scl = supervised_contrastive(*pool, self.config.temperature)
        self.at = enqueue(self.queue, self.queue_labels, self.at, rows.detach(), classes)
        u = torch.norm(stds.transpose(1, 2).flatten(2), p=2, dim=-1).view(-1).softmax(0)
        s = p.softmax(1).view(-1)
        both = F.kl_div(u.log(), s, reduction="batchmean") + F.kl_div(s.log(), u, reduction="batchmean")
        return {
            "cls": F.binary_cross_entropy(final, y),
            "dir": F.binary_cross_entropy(p, y),
            "scl": scl,
            "ocl": both / 2,
        }

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        t, c = self.terms(batch), self.config
        yield t["cls"] + c.dir_weight * t["dir"] + c.scl_weight * t["scl"] + c.ocl_weight * t["ocl"]


def _queue_loss(model: AffectModel, batch: Batch) -> tuple[Callable[[], object], Callable[[], object]]:
    """The contrastive loss of a batch's rows with a queue, its gradient, and the rows' way into the queue."""
    assert isinstance(model, LDDU)
    assert model.queue is not None
    queue = model.queue
    n = len(batch) * len(batch.modalities) * batch.target.shape[-1]
    width = queue.rows.shape[-1] // 2
    rows = torch.cat([F.normalize(torch.randn(n, width), dim=-1) for _ in range(2)], -1) * 2**-0.5
    rows.requires_grad_()
    classes = model.classes(batch.target).flatten()

    def ours() -> None:
        rows.grad = None
        contrast(rows, classes, model.n_classes, queue, "all").backward()
        queue.remember(queue.entries(rows, classes))

    held, labels, at = queue.rows.clone(), torch.randn(len(queue.rows)), [0]

    def naive() -> None:
        pool = torch.cat([rows, held.clone()]), torch.cat([classes.to(rows.dtype), labels.clone()])
        rows.grad = None
        supervised_contrastive(*pool, queue.temperature).backward()
        at[0] = enqueue(held, labels, at[0], rows.detach(), classes.to(rows.dtype))

    return ours, naive


TWIN = NaiveLDDU
PARTS = {"queue_loss": _queue_loss}
