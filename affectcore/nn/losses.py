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
    if task.kind == "regression":
        loss = F.l1_loss(prediction, target, reduction="none")
    elif task.kind == "single_label":
        loss = F.cross_entropy(prediction, target, reduction="none")
    else:
        loss = F.binary_cross_entropy_with_logits(prediction, target, reduction="none").mean(-1)
    if weight is None:
        return loss.mean()
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


def as_prediction(task: _Task, outputs: Tensor) -> Tensor:
    """Return a head's outputs (..., C) as `Output.prediction`: (...,) for regression, else unchanged."""
    return outputs.squeeze(-1) if task.kind == "regression" else outputs
