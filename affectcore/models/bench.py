"""Throughput of one training step on the CMU-MOSI shape, ours and the naive twin, in one process on one thread.

A step is: draw the noise, forward, loss, backward, AdamW. The fastest of some interleaved rounds counts, in CPU
seconds. Beside it stands the speed of a matrix product measured in the same run, to compare machines.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import AffectModel, Progress, Shape
from affectcore.models.naive import twin
from affectcore.nn.losses import task_loss
from affectcore.nn.noise import Pool, Tape, fill


@dataclass(frozen=True)
class Case:
    """Which model, preset and shape. The author preset has a naive twin with equal outputs, the clean one none."""

    model: str
    preset: str
    aligned: bool
    batch: int


CASES: dict[str, Case] = {  # batch sizes of the published MOSI configuration
    "tfn": Case("tfn", "author", True, 32),
    "lmf": Case("lmf", "author", True, 64),
    "mult_aligned": Case("mult", "author", True, 16),
    "mult_unaligned": Case("mult", "author", False, 4),
    "tfn_clean": Case("tfn", "clean", True, 32),
    "lmf_clean": Case("lmf", "clean", True, 64),
    "mult_aligned_clean": Case("mult", "clean", True, 16),
    "mult_unaligned_clean": Case("mult", "clean", False, 4),
}


@dataclass(frozen=True)
class Benchmark:
    """samples_per_s, naive_samples_per_s: samples per CPU second; ratio: ours over naive; None without a twin."""

    name: str
    samples_per_s: float
    naive_samples_per_s: float | None
    ratio: float | None
    reference_gemm_gflops: float
    threads: int


def run_benchmarks(names: Sequence[str] | None = None, rounds: int = 5) -> list[Benchmark]:
    """Return one `Benchmark` per case of `CASES` (all by default). Raises ConfigError for an unknown name."""
    names = list(CASES) if names is None else list(names)
    for name in names:
        if name not in CASES:
            raise ConfigError(f"benchmark {name!r} is unknown: use {', '.join(CASES)}")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_measure(name, CASES[name], rounds) for name in names]
    finally:
        torch.set_num_threads(before)


def reference_gemm_gflops(size: int = 1024, rounds: int = 5) -> float:
    """Return the speed of a float32 matrix product of `size`, in 10^9 operations per CPU second."""
    a = torch.ones(size, size)
    return 2 * size**3 / 1e9 / min(_seconds(lambda: a @ a) for _ in range(rounds))


def mosi_batch(shape: Shape, samples: int) -> Batch:
    """Return random samples of full length, the most work that the shape allows."""
    g = torch.Generator().manual_seed(0)
    x = {m: torch.randn(samples, shape.steps[m], d, generator=g) for m, d in shape.dims.items()}
    lengths = {m: torch.full((samples,), t) for m, t in shape.steps.items()}
    observed = {m: torch.ones(samples, t, dtype=torch.bool) for m, t in shape.steps.items()}
    rows = torch.arange(samples)
    return Batch(x, lengths, observed, torch.randn(samples, generator=g).clamp(-3, 3), rows, rows)


def _seconds(f: Callable[[], object]) -> float:
    start = time.process_time()
    f()
    return time.process_time() - start


def _measure(name: str, case: Case, rounds: int) -> Benchmark:
    shape = registry.mosi_shape(case.aligned)
    batch = mosi_batch(shape, case.batch)
    model: AffectModel = registry.build(case.model, shape, case.preset)
    steps = [_ours(model, batch)]
    if case.preset == "author":
        steps.append(_naive(twin(model), batch, shape))
    for step in steps:
        step()  # allocations, dry run
    best = [float("inf")] * len(steps)
    gemm = 0.0
    for _ in range(rounds):
        best = [min(b, _seconds(step)) for b, step in zip(best, steps)]
        gemm = max(gemm, reference_gemm_gflops(rounds=1))
    speed = [case.batch / b for b in best]
    naive = speed[1] if len(speed) > 1 else None
    return Benchmark(name, speed[0], naive, None if naive is None else speed[0] / naive, gemm, torch.get_num_threads())


def _ours(model: AffectModel, batch: Batch) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tape, counter = Tape(batch.target), iter(range(1 << 30))
    model(batch, tape)

    def step() -> None:
        optimizer.zero_grad()
        words = fill([0], tape.words, "cpu", "bench", next(counter))[0]
        terms, memo = model.losses(model(batch, Pool(words, batch.target)), batch, Progress(0, 0, 1, 1))
        _total(list(terms.values())).backward()
        optimizer.step()
        with torch.no_grad():
            model.remember(memo)

    return step


def _total(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def _naive(model: nn.Module, batch: Batch, shape: Shape) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        task_loss(shape.task, model(batch), batch.target).backward()
        optimizer.step()

    return step
