"""Naive twins: author presets in the published order of operations, with torch's own layers. One module a model.

Where no code was published the twin is that of the paper preset, in the order of the paper's equations.

They are the oracle of the fast forms (equal outputs and losses on the same weights, tested) and the yardstick of
`affectcore.training.bench`. Nobody trains them: drop-out draws from torch's global generator.

A module `naive/NAME.py` is named as the module of its model and holds
    TWIN    the class of the twin, built from a model;
    CASES   what `affectcore bench` measures, by name;
    PARTS   optional: name -> function (model, batch) -> (ours, naive), two calls of equal work on a part of the model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel
from affectcore.nn.losses import task_loss


@dataclass(frozen=True)
class Case:
    """What is timed: a training step of a model in a preset, on a batch of a shape of `affectcore.models.shapes`.

    The author preset is compared with its naive twin, any other has none unless `twin`. part: a name of the module's
    PARTS instead of the whole step. settings: overrides of the preset. hidden: modalities that a protocol hides from
    all samples.
    """

    model: str
    batch: int
    preset: str = "author"
    shape: str = "mosi"
    part: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    twin: bool | None = None
    hidden: tuple[str, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether a naive form is timed beside it."""
        return self.preset == "author" if self.twin is None else self.twin


class Twin(nn.Module):
    """Base of the twins: `forward(batch)` gives predictions, `losses(batch)` each optimiser step's loss in turn."""

    def __init__(self, model: AffectModel) -> None:
        super().__init__()
        self.config, self.shape = model.config, model.shape

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """Yield a loss; whoever asks makes a step on it before asking for the next."""
        yield task_loss(self.shape.task, self(batch), batch.target)


def _module(name: str) -> Any:
    return import_module(f"affectcore.models.naive.{name}")


def names() -> tuple[str, ...]:
    """Return the models that have a naive twin."""
    return tuple(sorted(m.name for m in iter_modules(__path__) if m.name != "layers"))


def twin(model: nn.Module) -> Twin:
    """Return the naive twin of a model with the same weights. Raises ConfigError if there is none."""
    name = type(model).__module__.rpartition(".")[2]
    if name not in names():
        raise ConfigError(f"{type(model).__name__} has no naive twin: there are {', '.join(names())}")
    before = torch.get_default_dtype()
    torch.set_default_dtype(next(model.parameters()).dtype)  # so that copied weights keep all their digits
    try:
        made: Twin = _module(name).TWIN(model)
        return made
    finally:
        torch.set_default_dtype(before)


def part(name: str, model: AffectModel, batch: Batch) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two calls, ours and naive, of one part of a model."""
    ours, naive = _module(type(model).__module__.rpartition(".")[2]).PARTS[name](model, batch)
    return ours, naive


def cases() -> dict[str, Case]:
    """Return every benchmark by name."""
    return {k: c for name in names() for k, c in _module(name).CASES.items()}
