"""Which modalities a model hides from itself in training.

Masks are (..., M) bool, True where a modality is present; u and v (..., M) are uniform numbers.
Where a sample lacks modalities already they count as hidden, and one that has any keeps one.
"""

import torch
from torch import Tensor


def hide_each(present: Tensor, u: Tensor, rate: float) -> Tensor:
    """Return what stays if each present modality goes with probability `rate`, the one of largest u never.

    With all M present, a modality is hidden with probability rate - rate^M / M.
    """
    u = torch.where(present, u, u - 1)
    return present & ((u >= rate) | (u == u.amax(-1, keepdim=True)))


def hide_share(present: Tensor, v: Tensor, u: Tensor, rate: float) -> Tensor:
    """Return what stays if one present modality, that of largest v, is kept and each other with the same probability.

    That probability is such that, with all M present, the expected share of hidden modalities is `rate`, at most
    (M - 1) / M. This is the drawing of CPM-Net, which GCNet and its MMIN use.
    """
    m = present.shape[-1]
    others = (m * (1 - rate) - 1) / max(m - 1, 1)
    v = torch.where(present, v, v - 1)
    return present & ((u < others) | (v == v.amax(-1, keepdim=True)))
