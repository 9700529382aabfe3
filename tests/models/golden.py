"""Weights and inputs by formula, so that golden numbers depend on no random generator."""

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch, Task
from affectcore.models.contract import Shape

SHAPE = Shape(
    {"text": 7, "audio": 3, "vision": 4}, {"text": 6, "audio": 9, "vision": 8}, Task("regression", ("sentiment",))
)


def wave(shape: tuple[int, ...], phase: float) -> Tensor:
    """Return sines of 1.7 k + phase over the elements k in C order, float64."""
    n = 1
    for s in shape:
        n *= s
    return torch.sin(1.7 * torch.arange(n, dtype=torch.float64) + phase).view(shape)


def formula(model: nn.Module) -> None:
    """Set the i-th parameter to 0.4 wave(phase i), norms' scales to 1 more; buffers stay at their start."""
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            p.copy_(0.4 * wave(tuple(p.shape), float(i)) + (1.0 if "norm" in name and name.endswith("weight") else 0.0))


def batch() -> Batch:
    """Return three samples with padding."""
    x, lengths, observed = {}, {}, {}
    for i, (m, d) in enumerate(SHAPE.dims.items()):
        t = SHAPE.steps[m]
        lengths[m] = torch.tensor([t, t - 2, 1])
        observed[m] = torch.arange(t) < lengths[m][:, None]
        x[m] = wave((3, t, d), 10.0 + i) * observed[m].unsqueeze(-1)
    rows = torch.arange(3)
    return Batch(x, lengths, observed, torch.zeros(3, dtype=torch.float64), rows, rows)
