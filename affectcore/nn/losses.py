"""Losses that a task implies."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class _Task(Protocol):
    @property
    def kind(self) -> str: ...


def task_loss(task: _Task, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the scalar mean loss of a task; with `weight` (B,) the weighted mean over samples, 0 if all are 0.

    regression: absolute error of (B,) predictions; single_label: cross-entropy of (B, C) logits;
    multi_label: binary cross-entropy of (B, C) logits, mean over samples and classes.
    """
    loss = sample_loss(task, prediction, target)
    if weight is None:
        return loss.mean()
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


def sample_loss(task: _Task, prediction: Tensor, target: Tensor) -> Tensor:
    """Return (B,): the task's loss of each sample, whose mean is `task_loss`."""
    if task.kind == "regression":
        return F.l1_loss(prediction, target, reduction="none")
    if task.kind == "single_label":
        return F.cross_entropy(prediction, target, reduction="none")
    return F.binary_cross_entropy_with_logits(prediction, target, reduction="none").mean(-1)


def two_way_kl(task: _Task, one: Tensor, two: Tensor) -> Tensor:
    """Return (B,): half of KL(p || q) + KL(q || p) of two predictions' distributions.

    single_label: classes; multi_label: mean over the labels' Bernoullis; regression: normals of variance 1, half of the
    squared difference.
    """
    if task.kind == "regression":
        return (one - two).square() / 2
    if task.kind == "single_label":
        return ((one.softmax(-1) - two.softmax(-1)) * (one.log_softmax(-1) - two.log_softmax(-1))).sum(-1) / 2
    return ((one.sigmoid() - two.sigmoid()) * (one - two)).mean(-1) / 2


def as_prediction(task: _Task, outputs: Tensor) -> Tensor:
    """Return a head's outputs (..., C) as `Output.prediction`: (...,) for regression, else unchanged."""
    return outputs.squeeze(-1) if task.kind == "regression" else outputs
