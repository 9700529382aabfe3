"""Many seeds of one arm: stacked in one process, or in several processes, chosen from a measured table.

The table `seeds.json` is written by benchmarks/seeds.py: per model and device type, how much faster ten stacked seeds
are than ten one after another. A stack is worth taking if that gain exceeds the processes there would be instead; what
the table does not list goes to processes on a CPU and to a stack on a GPU. Each process runs one thread; the seeds are
dealt out once, so the data are copied once a process. For large stacks on a CPU see `affectcore.training.stack` on the
allocator.
"""

import json
import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from affectcore.data.schema import AffectData
from affectcore.errors import ConfigError, TrainingError
from affectcore.training.fits import Epoch, Fit, SeedsFailed
from affectcore.training.loop import Augment, Build, fit, initial, usable
from affectcore.training.recipe import Recipe

How = Literal["stacked", "processes"]
WAYS = ("auto", "stacked", "processes", "one_by_one")


def choose(model: str, device: str, jobs: int = 1) -> How:
    """Return how to train many seeds of a model (class name) on a device; the alternative are `jobs` processes."""
    kind = torch.device(device).type
    table = json.loads(files("affectcore.training").joinpath("seeds.json").read_text())
    for row in table["rows"]:
        if (row["model"], row["device"]) == (model, kind):
            return "stacked" if row["gain"] > jobs else "processes"
    return "processes" if kind == "cpu" else "stacked"


def fit_seeds(
    build: Build,
    data: AffectData,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    how: Literal["auto", "stacked", "processes", "one_by_one"] = "auto",
    jobs: int | None = None,
    folder: Path | None = None,
    checkpoint_s: float = 5.0,
    augment: Augment | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> list[Fit]:
    """Return one `Fit` a seed like `loop.fit`, by the way that `how` names; "auto" asks `choose`.

    jobs: processes, default one a core; not more than seeds. on_epoch: called in this process alone, so "processes"
    with more than one job never calls it. Raises what `loop.fit` raises, and TrainingError if a process is killed.
    """
    if how not in WAYS:
        raise ConfigError(f"how = {how!r} is unknown: use {', '.join(WAYS)}")
    n = min(len(seeds), jobs or cores())
    if how == "auto":
        how = choose(type(initial(build, 0)).__name__, device, n) if len(seeds) > 1 else "one_by_one"
    if how != "processes" or n < 2:
        return fit(
            build, data, recipe, seeds, device=device, stacked=how == "stacked", folder=folder,
            checkpoint_s=checkpoint_s, augment=augment, on_epoch=on_epoch,
        )  # fmt: skip
    usable(device)
    hands = [list(seeds[i::n]) for i in range(n)]
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            parts = Parallel(n_jobs=n)(
                delayed(_part)(build, data, recipe, hand, device, folder, checkpoint_s, augment) for hand in hands
            )
    except TerminatedWorkerError as e:
        raise TrainingError(f"a training process was killed, often for want of memory: use fewer than {n} jobs") from e
    fits = {f.seed: f for part, _ in parts for f in part}
    failures = {s: text for _, failed in parts for s, text in failed.items()}
    if failures:
        raise SeedsFailed(failures, [fits[s] for s in seeds if s in fits])
    return [fits[s] for s in seeds]


def _part(
    build: Build, data: AffectData, recipe: Recipe, seeds: list[int], device: str, folder: Path | None,
    checkpoint_s: float, augment: Augment | None,
) -> tuple[list[Fit], dict[int, str]]:  # fmt: skip
    torch.set_num_threads(1)
    try:
        fits = fit(
            build, data, recipe, seeds, device=device, folder=folder, checkpoint_s=checkpoint_s, augment=augment
        )  # fmt: skip
        return fits, {}
    except SeedsFailed as e:
        return e.fits, e.failures


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
