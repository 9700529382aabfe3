"""From sequences to vectors, seeing observed steps only. Shapes: x (..., T, D), mask (..., T) bool, True = observed.

A sequence of which nothing was observed becomes the zero vector: the representation of a missing modality. Values under
a False mask, NaN included, cannot change a result. The functions run under `torch.func.vmap`.
"""

import torch
from torch import Tensor, nn

from affectcore.nn.attention import masked_softmax


def hide(x: Tensor, mask: Tensor) -> Tensor:
    """Return x (..., T, D) with zeros wherever mask (..., T) is False."""
    return x.masked_fill(~mask.unsqueeze(-1), 0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the observed steps, (..., D)."""
    return hide(x, mask).sum(-2) / mask.sum(-1, keepdim=True).clamp(min=1).to(x.dtype)


def step_at(x: Tensor, position: Tensor) -> Tensor:
    """Return the step of x (..., T, D) at position (...), int64: (..., D)."""
    where = position.unsqueeze(-1).unsqueeze(-1).expand(*position.shape, 1, x.shape[-1])
    return x.gather(-2, where).squeeze(-2)


def last_step(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the last step that exists, x[lengths - 1], (..., D); not the last step of the padded tensor."""
    return step_at(x, lengths - 1)


def last_observed(mask: Tensor) -> Tensor:
    """Return the position (...), int64, of the last True of mask (..., T); 0 where there is none."""
    steps = torch.arange(mask.shape[-1], device=mask.device)
    return (mask * steps).amax(-1)


class AttentionPooling(nn.Module):
    """Weighted mean over observed steps, weights softmax(v . tanh(W x + b)) (Bahdanau-style additive scores).

    (..., T, D) and mask (..., T) to (..., D); zero where nothing was observed.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = hide(x, mask)
        weights = masked_softmax(self.score(torch.tanh(self.project(x))).squeeze(-1), mask)
        return (weights.unsqueeze(-2) @ x).squeeze(-2)
