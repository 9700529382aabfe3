"""What the baselines for incomplete input share: an incomplete view drawn in training, and losses at hidden steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from affectcore.data.schema import Batch
from affectcore.models.contract import Noise


def hide_steps(
    batch: Batch, noise: Noise, rates: Mapping[str, float | Tensor], ends: Sequence[str] = (), shared: bool = False
) -> Batch:
    """Return the batch with each step hidden with its modality's rate, a number or (B, 1) numbers, one a sample.

    ends: modalities whose first and last steps, [CLS] and [SEP] of a text encoder, are never hidden, if the data have
    more than these two. shared: one draw
    for all modalities; step t of each is then hidden or none (longer sequences have draws of their own at the end).
    """
    size = len(batch)
    longest = max(x.shape[-2] for x in batch.features.values())
    common = noise.uniform(size, longest) if shared else None
    kept = {}
    for m, seen in batch.observed.items():
        u = noise.uniform(size, seen.shape[-1]) if common is None else common[:, : seen.shape[-1]]
        kept[m] = u >= rates[m]
        if m in ends and seen.shape[-1] > 2:
            steps = torch.arange(seen.shape[-1], device=seen.device)
            kept[m] = kept[m] | (steps == 0) | (steps == batch.lengths[m].unsqueeze(-1) - 1)
    return batch.with_observed(kept)


def drawn_rate(batch: Batch, noise: Noise, highest: float, per_sample: bool) -> float | Tensor:
    """Return the rate `highest` or, per sample, (B, 1) numbers uniform in [0, highest)."""
    return highest * noise.uniform(len(batch), 1) if per_sample else highest


def joined(first: Batch, second: Batch) -> Batch:
    """Return the samples of two batches of equal sizes, one after the other."""
    both = first.map(lambda x: torch.cat([x, x]))
    x = {m: torch.cat([v, second.features[m]]) for m, v in first.features.items()}
    seen = {m: torch.cat([v, second.observed[m]]) for m, v in first.observed.items()}
    return replace(both, features=x, observed=seen)


def smooth_l1_at(prediction: Tensor, target: Tensor, where: Tensor, eps: float) -> Tensor:
    """Return the smooth L1 error of (B, T, D) at the steps of `where` (B, T) bool, a mean over their features."""
    w = where.unsqueeze(-1)
    error = F.smooth_l1_loss(prediction.masked_fill(~w, 0), target.masked_fill(~w, 0), reduction="sum")
    return error / ((where.sum() * prediction.shape[-1]).to(error.dtype) + eps)


def normalise_batch(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return x (B, D) with mean 0 and variance 1 over the batch."""
    centred = x - x.mean(0)
    return centred * torch.rsqrt(centred.square().mean(0) + eps)


def fit_steps(x: Tensor, steps: int) -> Tensor:
    """Return x (B, T, D) cut or padded with zeros to (B, steps, D), for layers whose size is a number of steps."""
    return F.pad(x, (0, 0, 0, steps - x.shape[-2]))
