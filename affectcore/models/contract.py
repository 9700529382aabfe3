"""What a model is: one seed, no device, no seed, no file, no logger; randomness comes in, state goes out.

    output = model(batch, noise)
    terms, memo = model.losses(output, batch, progress)     # unweighted, by the paper's names
    loss = sum(model.weights(progress)[k] * v for k, v in terms.items())
    model.remember(memo)                                     # after the optimiser's step, under no_grad

The training loop may run many seeds of a model at once under `torch.func.vmap`, hence the rules: no `.item()`, no
`if tensor`, no boolean-mask indexing, no `nn.GRU`/`nn.LSTM`, no generator, no `.float()`, and state is returned, never
written inside `forward` or `losses`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from affectcore.data.schema import AffectData, Batch, Task
from affectcore.nn.losses import task_loss

Memo = Mapping[str, Tensor]


class Noise(Protocol):
    """The step's pool of random numbers. In evaluation `dropout` returns its input; samplers may still draw."""

    @property
    def training(self) -> bool: ...
    def dropout(self, x: Tensor, p: float) -> Tensor: ...
    def normal(self, *shape: int) -> Tensor: ...
    def uniform(self, *shape: int) -> Tensor: ...


@dataclass(frozen=True)
class Shape:
    """What a model must know of the data: features and longest sequence per modality (ordered), and the task."""

    dims: Mapping[str, int]
    steps: Mapping[str, int]
    task: Task

    @classmethod
    def of(cls, data: AffectData) -> "Shape":
        return cls(data.dims, data.steps, data.task)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.dims)


@dataclass(frozen=True)
class Progress:
    """Where training is: 0-based epoch and step, total steps and epochs. `fraction` runs from 0 to 1.

    `step` and `fraction` may be tensors under vmap or compile; do not branch on them.
    """

    epoch: int
    step: int
    steps: int
    epochs: int

    @property
    def fraction(self) -> float:
        return self.step / max(self.steps - 1, 1)


@dataclass(frozen=True)
class Stage:
    """One optimisation stage of a step: which parameters (name prefixes; () = all) by which losses (() = all).

    optimizer: "" gives the stage an optimiser of its own, called by the stage's name; stages that give one name share
    an optimiser, moment estimates included. A parameter that belongs to it but not to the stage rests in that stage;
    one that belongs to both and that no loss of the stage reaches has a zero gradient and moves on by its momentum.
    keep_gradients: the gradients of the stage before, of the same step, are added instead of cleared.
    hands: entries of the memo that the later stages of the step find in `batch.extras` (and `remember` does not get).
    separate: the gradient of every weighted term is taken by itself, and `AffectModel.combine` makes one of them.
    """

    name: str = "main"
    parameters: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    optimizer: str = ""
    keep_gradients: bool = False
    hands: tuple[str, ...] = ()
    separate: bool = False

    @property
    def group(self) -> str:
        """Name of the stage's optimiser."""
        return self.optimizer or self.name


@dataclass(frozen=True)
class Output:
    """A model's output; models extend it with named fields (features, attention, gates ...).

    prediction: (B,) for regression, (B, C) logits for single_label and multi_label.
    representation: (B, H), what the last layer reads, by keyword; None where a model does not say it. Objectives on
    representations (CORAL, information bottleneck) take it, or else the prediction.
    """

    prediction: Tensor
    representation: Tensor | None = field(default=None, kw_only=True)


class AffectModel(nn.Module, ABC):
    """Base of every model. Subclasses take `(config, shape)`, a frozen dataclass and a `Shape`."""

    config: Any
    shape: Shape

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__()
        self.config, self.shape = config, shape

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise) -> Output:
        """Return the typed output for a batch."""

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        """Return the unweighted loss terms by name, each a scalar, and detached state for `remember`."""
        return {"task": task_loss(self.shape.task, output.prediction, batch.target)}, {}

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        """Return what `losses` returns, for one stage; a model of several leaves out what a stage does not need."""
        return self.losses(self(batch, noise), batch, progress)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        """Return the weight of each term of `losses`; a term that is not named has weight 1."""
        return {}

    def stages(self) -> tuple[Stage, ...]:
        """Return the optimisation stages of one step, in order."""
        return (Stage(),)

    def accept(self, data: AffectData) -> None:
        """Raise ConfigError if the model cannot be trained on `data`. Asked once, before the first step."""

    def combine(
        self, stage: Stage, gradients: Mapping[str, Mapping[str, Tensor]], memo: Memo
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of a `separate` stage by parameter from those of its terms, and more for the memo."""
        terms = list(gradients.values())
        return {n: torch.stack([g[n] for g in terms]).sum(0) for n in terms[0]}, {}

    def remember(self, memo: Memo) -> None:
        """Write `memo` into the buffers (queues, running means). Called under no_grad after the step."""
