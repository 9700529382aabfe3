"""Losses that a task implies."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class _Task(Protocol):
    @property
    def kind(self) -> str: ...


def task_loss(task: _Task, prediction: Tensor, target: Tensor) -> Tensor:
    """Return the scalar mean loss of a task.

    regression: absolute error of (B,) predictions; single_label: cross-entropy of (B, C) logits;
    multi_label: binary cross-entropy of (B, C) logits, mean over samples and classes.
    """
    if task.kind == "regression":
        return F.l1_loss(prediction, target)
    if task.kind == "single_label":
        return F.cross_entropy(prediction, target)
    return F.binary_cross_entropy_with_logits(prediction, target)
