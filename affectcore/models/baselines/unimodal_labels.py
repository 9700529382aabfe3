"""What Self-MM and TETFN share: a head per modality, and labels for each modality made from distances to class centres.

A sample's label of modality m starts as its own label y. With f the features of a head (of the fused vector: "fusion"),
C+ and C- the mean features of the positive and of the negative samples,

    delta = (|f - C-| - |f - C+|) / |f - C+|
    new   = (delta_m / delta_fusion * y + y + delta_m - delta_fusion) / 2, held within the scale
    y_m   = (n - 1) / (n + 1) y_m + 2 / (n + 1) new        in epoch n = 1, 2, ...

A head learns from |prediction - y_m|, weighted by tanh |y_m - y|: zero until the labels have moved. Labels are on the
scale's middle as zero; samples exactly there belong to neither class. This is defined for regression alone; for
classes every head learns the sample's own target with weight 1.

The features and labels of every sample are kept by `batch.index`. Centres are sums kept up to date by the difference
that a batch makes, so that a step costs nothing that grows with the data. The published code takes the mean over all
training samples, those not yet seen as zeros; since it makes no label before the second epoch, the two agree.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Task
from affectcore.models.contract import Memo, Noise, Progress
from affectcore.nn.losses import as_prediction, task_loss

TINY = 1e-8


class Head(nn.Module):
    """Three layers, two of them hidden: (B, D) to features (B, hidden) and outputs (B, out)."""

    def __init__(self, features: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, out)
        self.p = dropout

    def forward(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        h = F.relu(self.first(noise.dropout(x, self.p)))
        return h, self.last(F.relu(self.second(h)))


class UnimodalLabels(nn.Module):
    """The labels of each modality and what they are made from.

    sizes: features of the fused head, then of each modality's. rows: samples of the data set, `batch.index` < rows.
    first: 0-based epoch from which labels are made. Buffers: shift (rows, M), label of a modality minus the sample's;
    features (rows, sum of sizes); counted (rows, 1 + M), 1 where the features are in the sums; sums (2, sum of sizes)
    and counts (2, 1 + M) of the positive and the negative class.
    """

    shift: Tensor
    features: Tensor
    counted: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, task: Task, sizes: Sequence[int], rows: int, first: int) -> None:
        super().__init__()
        self.sizes, self.first = list(sizes), first
        self.middle, self.bound = (task.high + task.low) / 2, (task.high - task.low) / 2
        n, total = len(sizes), sum(sizes)
        self.register_buffer("shift", torch.zeros(rows, n - 1))
        self.register_buffer("features", torch.zeros(rows, total))
        self.register_buffer("counted", torch.zeros(rows, n))
        self.register_buffer("sums", torch.zeros(2, total))
        self.register_buffer("counts", torch.zeros(2, n))

    def labels(self, index: Tensor, target: Tensor) -> Tensor:
        """Return the present labels of each modality, (B, M)."""
        return target.unsqueeze(-1) + self.shift[index]

    def update(self, features: Tensor, present: Tensor, index: Tensor, target: Tensor, progress: Progress) -> Memo:
        """Return what `remember` writes. features (B, sum of sizes), detached; present (B, 1 + M): 1 if it counts."""
        y = (target - self.middle).unsqueeze(-1)  # (B, 1)
        counts = self._wide(self.counts.clamp(min=1))
        near, far = (
            torch.stack([d.norm(dim=-1) for d in (features - c).split(self.sizes, -1)], -1)
            for c in (self.sums / counts).unbind(0)
        )  # distances to C+ and C-, (B, 1 + M)
        delta = (far - near) / (near + TINY)
        fused, own = delta[..., :1], delta[..., 1:]
        new = (own / (fused + TINY) * y + y + own - fused) / 2
        new = new.clamp(-self.bound, self.bound)
        old = self.shift[index]
        n = progress.epoch + 1
        step = 2 / (n + 1) * (progress.epoch >= self.first)
        shift = old + step * present[..., 1:] * (new - y - old)
        return {"index": index, "target": target, "features": features, "shift": shift, "counted": present}

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        index, y = memo["index"], (memo["target"] - self.middle).unsqueeze(-1)
        old = self._sides(y, self.shift[index], self.counted[index])  # (B, 2, 1 + M)
        new = self._sides(y, memo["shift"], memo["counted"])
        change = self._wide(new) * memo["features"].unsqueeze(-2)
        change = change - self._wide(old) * self.features[index].unsqueeze(-2)
        self.sums.add_(change.sum(0))
        self.counts.add_((new - old).sum(0))
        for buffer, value in ((self.shift, "shift"), (self.features, "features"), (self.counted, "counted")):
            buffer[index] = memo[value]

    def _wide(self, x: Tensor) -> Tensor:
        """Return a value per head as one per feature, (..., 1 + M) to (..., sum of sizes)."""
        return torch.cat([v.expand(*v.shape[:-1], n) for v, n in zip(x.split(1, -1), self.sizes)], -1)

    def _sides(self, y: Tensor, shift: Tensor, counted: Tensor) -> Tensor:
        """Return to which class's sum each sample adds, (B, 2, 1 + M) of 0 and 1."""
        labels = torch.cat([y, y + shift], -1)
        return torch.stack([labels > 0, labels < 0], -2) * counted.unsqueeze(-2)


def unimodal_losses(
    task: Task, outputs: Mapping[str, Tensor], target: Tensor, labels: Tensor | None, there: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the loss of each modality's head, "task_M", over the samples that have the modality (B,) of 0 or 1.

    labels (B, M): of `UnimodalLabels`; None: every head learns the sample's own target.
    """
    terms = {}
    for i, (m, out) in enumerate(outputs.items()):
        if labels is None:
            terms[f"task_{m}"] = task_loss(task, as_prediction(task, out), target, there[m])
        else:
            own = labels[..., i]
            error = torch.tanh((own - target).abs()) * (out.squeeze(-1) - own).abs()
            terms[f"task_{m}"] = (error * there[m]).sum() / there[m].sum().clamp(min=1)
    return terms
