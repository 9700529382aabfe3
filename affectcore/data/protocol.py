"""What a protocol is: a pure function of a batch, a rate and a seed, drawn sample by sample.

A sample's draw depends on (seed, family, mode, modality, sample id) alone, the sample id being its row in the data set
(`Batch.index`). So every model sees the same masks, and neither the order of a batch nor its other samples matter.
The drawing of the published codes, where all samples of a batch share a draw or a sample's draw depends on its place
in the loader, is `PerBatch` and `ByPosition`: the same protocol with other ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from affectcore import streams
from affectcore.data.schema import Batch
from affectcore.errors import ConfigError


@dataclass(frozen=True)
class Protocol(ABC):
    """Base of all protocols: `protocol(batch) -> Batch`, the given batch unchanged.

    rate: how much is taken or added, in [0, `highest`]; each class says of what. seed: names the draw.
    """

    rate: float
    seed: int = 0

    family: ClassVar[str]
    mode: ClassVar[str]
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_rate(self.mode, self.rate, self.highest)

    @property
    def name(self) -> str:
        """The name by which registries and records know it."""
        return self.mode

    @abstractmethod
    def __call__(self, batch: Batch) -> Batch: ...

    def uniform(self, batch: Batch, purpose: str, *shape: int) -> Tensor:
        """Return uniforms in [0, 1), (B, *shape) float64 on the batch's device, of this protocol's stream."""
        key = streams.key(self.seed, self.family, self.mode, purpose)
        return torch.from_numpy(streams.uniform(key, batch.index.cpu().numpy(), *shape)).to(batch.index.device)


def check_rate(mode: str, rate: float, highest: float = 1.0) -> None:
    """Raise ConfigError unless 0 <= rate <= highest."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= highest or rate == float("inf"):
        raise ConfigError(f"{mode}: rate = {rate!r} must be a finite number in [0, {highest:g}]")


def check_modalities(mode: str, named: tuple[str, ...], batch: Batch) -> None:
    """Raise ConfigError where a protocol names a modality that the batch lacks."""
    unknown = [m for m in named if m not in batch.features]
    if unknown:
        raise ConfigError(f"{mode}: modality {unknown[0]!r} is unknown, the data have {', '.join(batch.modalities)}")


@dataclass(frozen=True)
class _Reindexed:
    protocol: Protocol

    def _call(self, batch: Batch, ids: Tensor) -> Batch:
        return replace(self.protocol(replace(batch, index=ids)), index=batch.index)

    @property
    def rate(self) -> float:
        return self.protocol.rate

    @property
    def seed(self) -> int:
        return self.protocol.seed


@dataclass(frozen=True)
class PerBatch(_Reindexed):
    """The published drawing of Affect-Diff and IMDer/RoHyDR: all samples of a mini-batch share one draw.

    Call it with a whole split in the order in which the loader serves it; it is cut into batches of `batch_size`.
    Another order or batch size gives a sample another mask: that is what it is for.
    """

    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"per_batch: batch_size = {self.batch_size} must be 1 or more")

    @property
    def name(self) -> str:
        return f"per_batch:{self.protocol.name}"

    def __call__(self, batch: Batch) -> Batch:
        return self._call(batch, torch.arange(len(batch), device=batch.index.device) // self.batch_size)


@dataclass(frozen=True)
class ByPosition(_Reindexed):
    """The published drawing of CIDer: one generator, consumed in the loader's order, so that a sample's mask depends
    on its position in the sequence of samples and not on which sample it is. Call it with a whole split."""

    @property
    def name(self) -> str:
        return f"by_position:{self.protocol.name}"

    def __call__(self, batch: Batch) -> Batch:
        return self._call(batch, torch.arange(len(batch), device=batch.index.device))


@dataclass(frozen=True)
class EachStep:
    """The training form of a protocol: `augment(batch, seed, step)` draws anew at every step, by (seed, step).

    The protocol's own seed is not used. The batch remembers what was hidden (`Batch.complete`), for models that learn
    to recover it.
    """

    protocol: Protocol | PerBatch | ByPosition

    def __call__(self, batch: Batch, seed: int, step: int) -> Batch:
        drawn = streams.key(seed, "augment", step)
        if isinstance(self.protocol, PerBatch | ByPosition):
            changed = replace(self.protocol, protocol=replace(self.protocol.protocol, seed=drawn))(batch)
        else:
            changed = replace(self.protocol, seed=drawn)(batch)
        return changed.remembering(batch)


@dataclass(frozen=True)
class Compose:
    """Several protocols, applied in this order. Give them different seeds where they have the same mode."""

    protocols: tuple[Callable[[Batch], Batch], ...]

    def __call__(self, batch: Batch) -> Batch:
        for protocol in self.protocols:
            batch = protocol(batch)
        return batch


P = TypeVar("P", bound=Protocol)


def build(registry: Mapping[str, type[P]], name: str, rate: float, seed: int, options: Mapping[str, Any]) -> P:
    """Return `registry[name](rate, seed, **options)`; ConfigError for unknown names or options, with the known ones."""
    if name not in registry:
        raise ConfigError(f"protocol {name!r} is unknown: use {', '.join(registry)}")
    allowed = [f.name for f in fields(registry[name]) if f.name not in ("rate", "seed")]
    for option in options:
        if option not in allowed:
            raise ConfigError(f"{name}: option {option!r} is unknown, it has {', '.join(allowed) or 'none'}")
    return registry[name](rate, seed, **options)
