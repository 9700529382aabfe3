"""Throughput of one training step, ours and the naive twin, in one process on one thread.

Our step is the training loop's own: draw the noise, forward, losses, backward, AdamW, memo. The twin's is forward,
loss, backward, AdamW. The fastest of some interleaved rounds counts, in CPU seconds; the ratio is the median over
rounds of naive over ours, so that a slow moment of the machine falls on both. Beside it stand the speed of a matrix
product measured in the same run, to compare machines, and the speed that a step would have if it did nothing but its
own products at that rate: how much a rewrite of the same arithmetic could still win.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models import naive, registry
from affectcore.models.contract import AffectModel, Progress, Shape
from affectcore.models.shapes import SHAPES
from affectcore.training.learner import Single
from affectcore.training.recipe import Recipe

LONGEST = 60.0
"""CPU seconds after which our form of a case is not timed again, so that the largest models get fewer rounds."""


@dataclass(frozen=True)
class Benchmark:
    """samples_per_s, naive_samples_per_s: samples per CPU second; ratio: ours over naive; None without a twin.

    ratio_low, ratio_high: the smallest and the largest ratio of a round.

    bound_samples_per_s: samples per CPU second of our step's matrix products and convolutions alone at the reference
    rate; attention by the fused kernel and elementwise work are not in it.
    """

    name: str
    samples_per_s: float
    naive_samples_per_s: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    bound_samples_per_s: float
    reference_gemm_gflops: float
    threads: int


def run_benchmarks(names: Sequence[str] | None = None, rounds: int = 5) -> list[Benchmark]:
    """Return one `Benchmark` per case (all by default). Raises ConfigError for an unknown name."""
    known = cases()
    chosen = list(known) if names is None else list(names)
    for name in chosen:
        if name not in known:
            raise ConfigError(f"benchmark {name!r} is unknown: use {', '.join(known)}")
    with one_thread():
        return [_measure(name, known[name], rounds) for name in chosen]


def cases() -> dict[str, naive.Case]:
    """Return the naive twins' cases by name, and a case of its clean preset for every other model with gradients."""
    known = naive.cases()
    seen = {c.model for c in known.values() if c.preset == "clean" and c.part is None}
    rest = [e for e in registry.MODELS.values() if e.kind == "gradient" and e.name not in seen]
    return known | {f"{e.name}_clean": naive.Case(e.name, batch=32, preset="clean", shape=e.shape) for e in rest}


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch work on one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reference_gemm_gflops(size: int = 1024, rounds: int = 5) -> float:
    """Return the speed of a float32 matrix product of `size`, in 10^9 operations per CPU second."""
    a = torch.ones(size, size)
    return 2 * size**3 / 1e9 / min(_seconds(lambda: a @ a) for _ in range(rounds))


def random_batch(shape: Shape, samples: int) -> Batch:
    """Return random samples of full length, the most work that the shape allows."""
    g = torch.Generator().manual_seed(0)
    x = {m: torch.randn(samples, shape.steps[m], d, generator=g) for m, d in shape.dims.items()}
    lengths = {m: torch.full((samples,), t) for m, t in shape.steps.items()}
    observed = {m: torch.ones(samples, t, dtype=torch.bool) for m, t in shape.steps.items()}
    rows, task = torch.arange(samples), shape.task
    if task.kind == "regression":
        target = torch.randn(samples, generator=g).clamp(task.low, task.high)
    elif task.kind == "single_label":
        target = torch.randint(task.outputs, (samples,), generator=g)
    else:
        target = (torch.rand(samples, task.outputs, generator=g) < 0.3).float()
    return Batch(x, lengths, observed, target, rows, rows, environment=rows % 2)


def without(batch: Batch, modalities: Sequence[str]) -> Batch:
    """Return the batch with these modalities hidden, and remembered as targets."""
    if not modalities:
        return batch
    hidden = {m: torch.zeros_like(batch.observed[m]) for m in modalities}
    return batch.with_observed(hidden).remembering(batch)


def _seconds(f: Callable[[], object]) -> float:
    start = time.process_time()
    f()
    return time.process_time() - start


class _Whole:
    """Counts for the whole step alone: torch's own tracker of modules refuses a parameter as a module's input."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self) -> None: ...


def _measure(name: str, case: naive.Case, rounds: int) -> Benchmark:
    torch.manual_seed(0)
    shape = SHAPES[case.shape]
    batch = without(random_batch(shape, case.batch), case.hidden)
    model: AffectModel = registry.build(case.model, shape, case.preset, **case.settings)
    calls: tuple[Callable[[], object], ...]
    if case.part is not None:
        calls = naive.part(case.part, model, batch)
    else:
        calls = (our_step(model, batch),)
        if case.compared:
            calls += (naive_step(naive.twin(model), batch),)
    for call in calls:
        call()  # allocations, dry run
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Whole()  # type: ignore[assignment]
    with counter:
        seconds = _seconds(calls[0])
    rounds = max(1, min(rounds, round(LONGEST / seconds)))
    times: list[list[float]] = []
    gemm = 0.0
    for _ in range(rounds):
        times.append([_seconds(call) for call in calls])
        gemm = max(gemm, reference_gemm_gflops(rounds=1))
    speed = [case.batch / min(column) for column in zip(*times)]
    bound = case.batch * gemm * 1e9 / counter.get_total_flops()
    threads = torch.get_num_threads()
    if len(calls) == 1:
        return Benchmark(name, speed[0], None, None, None, None, bound, gemm, threads)
    ratios = [row[1] / row[0] for row in times]
    ours, theirs = speed
    return Benchmark(name, ours, theirs, median(ratios), min(ratios), max(ratios), bound, gemm, threads)


def our_step(model: AffectModel, batch: Batch) -> Callable[[], None]:
    """Return a training step of the loop on a batch, without clipping."""
    learner, steps = Single(model, 0, Recipe(clip_norm=None)), count()
    stacked = batch.map(lambda x: x.unsqueeze(0))

    def step() -> None:
        learner.step(stacked, Progress(0, next(steps), 1 << 30, 1), [1.0])

    return step


def naive_step(twin: naive.Twin, batch: Batch) -> Callable[[], None]:
    """Return a training step of a naive twin on a batch."""
    optimizer = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], fused=True)

    def step() -> None:
        for loss in twin.losses(batch):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step
