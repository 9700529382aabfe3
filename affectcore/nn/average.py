"""A slow copy of a module: an exponential moving average held in buffers, which no optimiser sees."""

import copy

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters are buffers: it computes the same and has nothing to train.

    For modules without buffers of their own.
    """
    twin = copy.deepcopy(module)
    for part in twin.modules():
        for name, p in list(part._parameters.items()):
            del part._parameters[name]
            if p is not None:
                part.register_buffer(name, p.detach().clone())
            else:
                part.register_parameter(name, None)
    return twin


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the `frozen_copy` `average` towards `module`: decay * average + (1 - decay) * module."""
    for slow, fast in zip(average.buffers(), module.parameters(), strict=True):
        slow.mul_(decay).add_(fast, alpha=1 - decay)  # lerp_ has no batching rule
