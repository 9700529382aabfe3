"""Naive RoHyDR: the three forward passes of the code, sampler and both fusions in each, time first in the fusion.

As published one pattern of missing modalities holds for the batch; samples of another pattern go through by themselves.
"""

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.mult import NaiveStack
from affectcore.models.rohydr import RoHyDR
from affectcore.nn import diffusion as d
from affectcore.nn.losses import as_prediction, task_loss

AUDIO = {"recoverable": ("audio",)}
CASES = {
    "rohydr_december": Case("rohydr", 32, "author_dec", settings=AUDIO, twin=True, hidden=("audio",)),
    "rohydr_december_no_backprop": Case(
        "rohydr", 32, "author_dec", settings=AUDIO | {"backprop": 0}, twin=True, hidden=("audio",)
    ),
    "rohydr_may": Case("rohydr", 32, "author_may", settings=AUDIO, twin=True, hidden=("audio",)),
    "rohydr_clean": Case("rohydr", 32, "clean", settings=AUDIO, hidden=("audio",)),
    "rohydr_clean_fused": Case("rohydr", 32, "clean", settings=AUDIO | {"stages": "fused"}, hidden=("audio",)),
    "rohydr_clean_any": Case("rohydr", 32, "clean", hidden=("audio",)),
}


class NaiveRoHyDR(Twin):
    """`body` holds what has one order of operations: convolutions, denoisers, reconstructors, MR, D, head."""

    def __init__(self, model: RoHyDR) -> None:
        super().__init__(model)
        c, n = model.config, len(model.names)
        self.body: Any = copy.deepcopy(model)
        self.pairs, self.names, self.targets = model.fusion.pairs, model.names, model.targets
        self.cross = nn.ModuleList(
            NaiveStack(s, c.attention_dropout, c.embed_dropout, c.relu_dropout, c.residual_dropout)
            for s in model.fusion.cross
        )
        self.memory = nn.ModuleList(
            NaiveStack(s, c.attention_dropout, c.embed_dropout, c.relu_dropout, c.residual_dropout)
            for s in model.fusion.memory
        )
        del self.body.fusion
        self.count = n

    def _fuse(self, streams: list[Tensor]) -> Tensor:
        x = [v.transpose(0, 1) for v in streams]
        z: list[list[Tensor]] = [[] for _ in x]
        for (i, j), stack in zip(self.pairs, self.cross):
            z[i].append(stack(x[i], x[j]))
        return torch.cat([memory(torch.cat(parts, 2))[-1] for parts, memory in zip(z, self.memory)], 1)

    def _condition(self, p: int, streams: list[Tensor], there: list[bool]) -> Tensor:
        i, subsets = self.targets[p], self.body.subsets
        names = [j for j in range(self.count) if there[j] and j != i]
        steps = max(x.shape[1] for x in streams)
        x = [F.pad(streams[j], (0, 0, 0, steps - streams[j].shape[1])) for j in names]
        if not names:
            return streams[0].new_zeros(len(streams[0]), steps, streams[0].shape[2])
        if len(names) == 1:
            return x[0]
        mixed: Tensor = subsets.convs[subsets.sets.index(tuple(names))](torch.cat(x, 2))
        return mixed

    def _said(self, p: int, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        net = self.body.denoisers[p]
        said: Tensor = net(x, t, net.context([c], [None], x.shape[1]), None)
        return said

    def _sample(self, p: int, streams: list[Tensor], there: list[bool], shape: tuple[int, ...]) -> Tensor:
        c, i, b = self.config, self.targets[p], shape[0]
        condition = self._condition(p, streams, there)
        n = c.sampling_steps if self.training else c.sampling_steps_test
        fixed = not self.training and c.draws == 0
        like = streams[0]

        def normal(*size: int) -> Tensor:
            return like.new_zeros(size) if fixed else torch.randn(size, dtype=like.dtype)

        if fixed:
            start = getattr(self.body, f"start_{i}").expand(shape)
        else:
            start = normal(*shape)
        with torch.set_grad_enabled(torch.is_grad_enabled() and c.backprop > 0):
            if c.process == "exploding":

                def score(x: Tensor, t: float) -> Tensor:
                    sigma = d.exploding_sigma(torch.tensor(t, dtype=x.dtype))
                    noisy = condition + sigma * normal(*condition.shape)
                    return -self._said(p, x, torch.full((b,), 1000 * t, dtype=x.dtype), noisy) / sigma

                one = d.exploding_sigma(torch.ones((), dtype=like.dtype))
                return d.euler_maruyama(start * one, score, n, normal(n, *shape))
            bars = self.body.sampling_bars

            def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
                said = self._said(p, x, torch.full((b,), float(t), dtype=x.dtype), condition)
                return d.estimates("eps", said, x, bars[t].sqrt(), (1 - bars[t]).sqrt(), c.clip)

            return d.ddim(start, denoise, bars, d.spacing(len(bars), n, c.spacing))

    def _diffusion(self, p: int, y: Tensor, streams: list[Tensor], there: list[bool]) -> Tensor:
        c, b, eps = self.config, len(y), torch.randn_like(y)
        condition = self._condition(p, streams, there)
        if c.process == "exploding":
            t = torch.rand(b) * (1 - 1e-5) + 1e-5
            sigma = d.exploding_sigma(t).view(-1, 1, 1)
            said = self._said(p, y + sigma * eps, 1000 * t, condition + sigma * eps)
            return (said - eps).square().sum((1, 2)).mean()
        step = torch.randint(0, c.diffusion_steps, (b,))
        alpha, sigma = d.rates(self.body.bars, step, y)
        return (self._said(p, alpha * y + sigma * eps, step.to(y.dtype), condition) - eps).square().mean()

    def _pass(self, batch: Batch, there: list[bool], train: bool) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Return f_gt, f_rec, the diffusion losses and the reconstruction losses of one forward pass."""
        body, full = self.body, batch.complete()
        with torch.no_grad():
            y = []
            for i, m in enumerate(self.names):
                x = full.features[m].transpose(1, 2)
                if m == "text":
                    x = F.dropout(x, self.config.text_dropout, self.training)
                y.append(body.project[i](x).transpose(1, 2))
        streams, diffusion, errors = list(y), [], []
        for p, i in enumerate(self.targets):
            if there[i]:
                continue
            if train:
                diffusion.append(self._diffusion(p, y[i], y, there))
            rebuilt = body.reconstructors[p](self._sample(p, y, there, tuple(y[i].shape)), None)
            errors.append((rebuilt - y[i]).square().mean())
            streams[i] = rebuilt
        for i in range(self.count):
            if not there[i] and i not in self.targets:
                streams[i] = torch.zeros_like(y[i])
        return self._fuse(y), self._fuse(streams), diffusion, errors

    def _mrec(self, f: Tensor) -> Tensor:
        m, p = self.body.mrec, self.config.mrec_dropout
        h = F.leaky_relu(F.dropout(m.first(f), p, self.training), 0.2)
        h = F.leaky_relu(m.norm(F.dropout(m.second(h), p, self.training), self.training)[0], 0.2)
        out: Tensor = m.last(h).tanh() if self.config.tanh else m.last(h)
        return out

    def _head(self, f: Tensor) -> Tensor:
        head = self.body.head
        h = f + head.second(F.dropout(F.relu(head.first(f)), self.config.output_dropout, self.training))
        return as_prediction(self.shape.task, head.last(h))

    def _judge(self, f: Tensor) -> Tensor:
        said: Tensor = self.body.discriminator(f, True, torch.ones(len(f), dtype=torch.bool))[0]
        return said

    def forward(self, batch: Batch) -> Tensor:
        pattern = torch.stack([batch.observed[m].any(1) for m in self.names], 1)
        out = None
        for row in pattern.unique(dim=0):
            rows = (pattern == row).all(1).nonzero()[:, 0]
            _, fused, _, _ = self._pass(batch.rows(rows), row.tolist(), False)
            y = self._head(fused if bool(row.all()) else self._mrec(fused))
            out = y.new_zeros(len(batch), *y.shape[1:]) if out is None else out
            out = out.index_put((rows,), y)
        return cast(Tensor, out)

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        c, task = self.config, self.shape.task
        there = [bool(batch.observed[m].any()) for m in self.names]
        _, _, diffusion, errors = self._pass(batch, there, True)
        g, a, w = c.reconstruction_weight, c.adversarial_weight, c.recovered_weight
        yield (torch.stack(diffusion).sum() + g * torch.stack(errors).sum()) / (1 + g)
        truth, fused, _, _ = self._pass(batch, there, True)
        real, fake = self._judge(truth.detach()), self._judge(fused.detach())
        yield c.discriminator_weight * (F.softplus(-real).mean() + F.softplus(fake).mean())
        rebuilt = self._mrec(fused)
        yield a * F.softplus(-self._judge(rebuilt)).mean() + (1 - a) * (truth - rebuilt).abs().mean()
        truth, fused, _, _ = self._pass(batch, there, True)
        said, rec = self._head(truth), self._head(self._mrec(fused))
        yield (1 - w) * task_loss(task, said, batch.target) + w * task_loss(task, rec, batch.target)


TWIN = NaiveRoHyDR
