"""Several losses, one step: how their gradients are combined. Gradients are dictionaries name -> tensor, one a loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Gradients = Mapping[str, Tensor]


def inner(a: Gradients, b: Gradients) -> Tensor:
    """Return the inner product of two gradients over all their parameters."""
    return torch.stack([(a[n] * b[n]).sum() for n in a]).sum()


def pcgrad(gradients: Sequence[Gradients]) -> dict[str, Tensor]:
    """Return the sum of the gradients, each freed of what conflicts with the others (Yu et al. 2020, algorithm 1).

    From gradient i, where its inner product with another is negative, the part along that other is removed, one other
    after the other in the order given (the paper draws the order).
    """
    out: dict[str, Tensor] = {}
    for i, g in enumerate(gradients):
        mine = dict(g)
        for j, other in enumerate(gradients):
            if i != j:
                scale = inner(mine, other).clamp(max=0) / inner(other, other).clamp(min=1e-12)
                mine = {n: v - scale * other[n] for n, v in mine.items()}
        out = mine if not out else {n: out[n] + v for n, v in mine.items()}
    return out


def gradnorm(weights: Tensor, norms: Tensor, progress: Tensor, alpha: float, rate: float) -> Tensor:
    """Return the next weights (K,) of K losses by one step of GradNorm (Chen et al. 2018, equation 2).

    norms: of each unweighted loss's gradient on the shared parameters; progress: each loss over its first value. The
    objective sum |w n - mean(w n) r^alpha|, r = progress / mean progress, the second product held fixed; the weights
    stay positive and keep the sum K.
    """
    scaled = weights * norms
    target = scaled.mean() * (progress / progress.mean().clamp(min=1e-12)) ** alpha
    step = weights - rate * torch.sign(scaled - target) * norms
    step = step.clamp(min=1e-4)
    return step * (len(weights) / step.sum())
