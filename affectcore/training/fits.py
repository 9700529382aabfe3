"""What training returns: one `Fit` a seed with its `Epoch`s, and the error that carries the finished seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from affectcore.data.schema import Selection
from affectcore.errors import TrainingError


@dataclass(frozen=True)
class Epoch:
    """One epoch of one seed.

    losses: mean unweighted terms and "total" over the epoch's steps. valid, test: values by metric name (test only
    under an oracle_test_ rule). factor: on the learning rates at the last step. threshold: the tuned one, or None.
    wall_s, cpu_s: seconds of the epoch divided by the seeds that shared it. probe: what `fit`'s probe found after it.
    """

    epoch: int
    losses: Mapping[str, float]
    valid: Mapping[str, float]
    test: Mapping[str, float]
    factor: float
    threshold: float | None
    wall_s: float
    cpu_s: float
    probe: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """One trained seed.

    state: parameters and buffers of the selected epoch by name, on the CPU. threshold: for label sets, 0.5 unless the
    rule tunes it. parameters: trainable ones, tied once. wall_s, cpu_s: of training, divided by the seeds sharing it.
    peak_memory_mb: largest resident size of the process (CPU) or allocated memory (CUDA), shared by stacked seeds.
    stacked: how many seeds were trained together. best_by_metric: the best test value of each metric over the epochs,
    each at its own epoch; empty but under an oracle_test_ rule.
    """

    seed: int
    selection: Selection
    history: tuple[Epoch, ...]
    state: Mapping[str, Tensor]
    parameters: int
    wall_s: float
    cpu_s: float
    peak_memory_mb: float
    threshold: float = 0.5
    device: str = "cpu"
    stacked: int = 1
    best_by_metric: Mapping[str, float] = field(default_factory=dict)


class SeedsFailed(TrainingError):
    """Some seeds failed; `fits` holds those that finished, `failures` says why by seed."""

    def __init__(self, failures: Mapping[int, str], fits: Sequence[Fit] = ()) -> None:
        self.failures, self.fits = dict(failures), list(fits)
        super().__init__("; ".join(self.failures.values()))

    def __reduce__(self) -> tuple[type, tuple[dict[int, str], list[Fit]]]:
        return SeedsFailed, (self.failures, self.fits)
