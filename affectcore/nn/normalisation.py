"""Batch normalisation whose running statistics are returned and written after the step, never inside `forward`."""

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch normalisation of (B, D), as `torch.nn.BatchNorm1d` (momentum 0.1, unbiased running variance).

    `forward` returns the normalised batch and its statistics (2, D), mean and unbiased variance, detached; hand them to
    `remember` after the optimiser's step.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def forward(self, x: Tensor, training: bool, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """rows (B,) bool: those that the statistics are of; fewer than two of them leave the running ones."""
        if rows is not None and training:
            return self._partly(x, rows)
        n = x.shape[0]
        mean, variance = (x.mean(0), x.var(0, correction=0)) if training else (self.mean, self.variance)
        y = (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return y, torch.stack([mean, variance * (n / max(n - 1, 1))]).detach()

    def _partly(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        w = rows.to(x.dtype).unsqueeze(-1)
        n, enough = w.sum(), w.sum() > 1
        mean = (x * w).sum(0) / n.clamp(min=1)
        variance = ((x - mean).square() * w).sum(0) / n.clamp(min=1)
        unbiased = variance * (n / (n - 1).clamp(min=1))
        use = torch.where(enough, mean, self.mean), torch.where(enough, variance, self.variance)
        y = (x - use[0]) * torch.rsqrt(use[1] + self.eps) * self.weight + self.bias
        found = torch.where(enough, mean, self.mean), torch.where(enough, unbiased, self.variance)
        return y, torch.stack(found).detach()

    @torch.no_grad()
    def remember(self, statistics: Tensor) -> None:
        for buffer, new in zip((self.mean, self.variance), statistics):
            buffer.mul_(1 - self.momentum).add_(new, alpha=self.momentum)  # lerp_ has no batching rule
