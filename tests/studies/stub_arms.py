"""An executor without training: scores that follow from the spec alone, and the faults a run can have."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affectcore.errors import TrainingError
from affectcore.streams import rng
from affectcore.studies.outcome import Outcome, Predictions, half
from affectcore.studies.spec import RunSpec


def execute(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome]:
    """Options: gain, items, log (file that gets a line per start and end), sleep, die, fail, bug (each a seed)."""
    return [_one(s) for s in specs]


def _one(spec: RunSpec) -> Outcome:
    o = spec.options
    _log(o, f"start {spec.arm} {spec.seed} {os.getpid()}")
    time.sleep(o.get("sleep", 0))
    if spec.seed == o.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.seed == o.get("fail"):
        raise TrainingError(f"seed {spec.seed}: the loss is not\nfinite")
    if spec.seed == o.get("bug"):
        raise ZeroDivisionError("a bug")
    n = o.get("items", 40)
    target = rng(0, "stub", "target").integers(0, 2, n)
    noise = rng(spec.seed, "stub", spec.arm).normal(size=n)
    logit = o.get("gain", 1.0) * (2 * target - 1) + noise
    chance = 1 / (1 + np.exp(-logit))
    scores = np.stack([1 - chance, chance], 1)
    accuracy = float(((chance > 0.5) == target).mean())
    splits = ("valid", "test")
    names = [c.name for c in spec.conditions]
    _log(o, f"end {spec.arm} {spec.seed} {os.getpid()}")
    return Outcome(
        data_hash="stub", rule="fixed", epoch=None, value=None, history=({"epoch": 0, "train": 0.5},),
        metrics={s: {c: {"accuracy": accuracy, "undefined": float("nan")} for c in names} for s in splits},
        predictions=Predictions(
            {(s, c): half(scores, spec.label) for s in splits for c in names},
            *(dict.fromkeys(splits, a) for a in (np.arange(n), target, np.arange(n) // 4 + 1000)),
        ),
        bounds={"floor": {s: {"accuracy": 0.5} for s in splits}},
    )  # fmt: skip


def _log(options: object, line: str) -> None:
    file = options.get("log")  # type: ignore[attr-defined]
    if file:
        with Path(file).open("a") as f:  # one short write in append mode is atomic
            f.write(line + "\n")
