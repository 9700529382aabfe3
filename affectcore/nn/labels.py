"""Any task as one of several labels, for models that give each label a probability of its own."""

from typing import Protocol

import torch
from torch import Tensor


class _Task(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def outputs(self) -> int: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def as_labels(task: _Task, target: Tensor, like: Tensor) -> Tensor:
    """Return labels (B, q) in [0, 1], dtype of `like`: as they are, one-hot, or the place of a score on its scale."""
    if task.kind == "multi_label":
        return target.to(like.dtype)
    if task.kind == "single_label":
        return (target.unsqueeze(-1) == torch.arange(task.outputs, device=target.device)).to(like.dtype)
    return ((target - task.low) / (task.high - task.low)).clamp(0, 1).unsqueeze(-1)


def from_log_odds(task: _Task, logit: Tensor) -> Tensor:
    """Return predictions from the labels' log odds (B, q): the score on its scale for regression, else unchanged.

    The softmax of single_label's log odds is the probability of each class given that exactly one is present.
    """
    if task.kind == "regression":
        return task.low + (task.high - task.low) * logit.squeeze(-1).sigmoid()
    return logit
