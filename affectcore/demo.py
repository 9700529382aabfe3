"""The main job in small: three models, a few seeds, one world and real data if there are any; a table and a picture."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from affectcore.data import catalog
from affectcore.data.readers import load
from affectcore.data.schema import AffectData, Batch, Selection
from affectcore.data.transform import gaussianise
from affectcore.data.worlds import Sizes, make
from affectcore.errors import ConfigError, DataError
from affectcore.evaluation.statistics import PairedComparison, compare, t_interval
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.training.loop import fit, predict
from affectcore.training.recipe import preset

MODELS = {"linear": "linear", "mlp": "early fusion", "late_fusion": "late fusion"}
SEEDS = 5
REAL = "cmu_mosei_video"
NOTE = """Intervals: 95 %, Student's t over seeds; lower errors are better, and a difference counts only if its interval
excludes 0. On the fixed real test set they speak of training runs, not of other videos: the chapter
"Baselines on real data" resamples both."""


@dataclass(frozen=True)
class Scene:
    """One data set per seed, with what is known of its bounds: mean absolute errors per model, seed by seed."""

    title: str
    errors: dict[str, NDArray[np.float64]]
    floor: float
    ceiling: float | None


def run(seed: int, out: Path) -> None:
    """Train, print one table a scene, and write the picture `out/demo.png`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:  # said before the minute of training, not after it
        raise ConfigError(f"demo: cannot write to {out}: {error.strerror}") from error
    torch.set_num_threads(1)
    console = Console()
    scenes = [_world(seed)]
    try:
        scenes.append(_real(seed))
    except DataError as error:
        console.print(f"Real data: {error}", markup=False, highlight=False)
    for scene in scenes:
        console.print(_table(scene))
    console.print(NOTE)
    console.print(f"Picture: {_picture(scenes, out)}", markup=False)


def _world(seed: int) -> Scene:
    """The recovery world: every seed draws its own, whose Bayes-optimal predictor is known."""
    worlds = [make("recovery", seed + s, sizes=Sizes(600, 300, 6000)) for s in range(SEEDS)]
    tests = [w.data.split("test", Selection("bounds")) for w in worlds]
    floor = np.mean([_error(w.constant(len(t)), t) for w, t in zip(worlds, tests)])
    ceiling = np.mean([_error(w.oracle(t), t) for w, t in zip(worlds, tests)])
    errors = _errors("world", [w.data for w in worlds], seed)
    return Scene("World 'recovery' (600 training items, three modalities)", errors, float(floor), float(ceiling))


def _real(seed: int) -> Scene:
    catalog.locate(REAL)
    data = gaussianise(load(REAL))
    test, train = data.split("test", Selection("bounds")), data.split("train").target.numpy()
    floor = _error(np.full(len(test), np.median(train)), test)
    errors = _errors("MOSEI", [data] * SEEDS, seed)
    return Scene("CMU-MOSEI per video (official folds, sentiment in [-3, 3])", errors, floor, None)


def _errors(label: str, data: list[AffectData], seed: int) -> dict[str, NDArray[np.float64]]:
    jobs = [(name, s) for name in MODELS for s in range(len(data))]
    found: dict[str, list[float]] = {name: [] for name in MODELS}
    for name, s in _bar(jobs, label):
        found[name].append(_one(name, data[s], seed + s))
    return {name: np.array(v) for name, v in found.items()}


def _bar(jobs: list[tuple[str, int]], label: str) -> Iterator[tuple[str, int]]:
    bar = tqdm(jobs, desc=label, unit="run", disable=None, leave=False)
    for name, s in bar:
        bar.set_postfix_str(f"{MODELS[name]}, seed {s}")
        yield name, s


def _one(name: str, data: AffectData, seed: int) -> float:
    """Train one model; the epoch is chosen on the validation split, then the test split is read once."""
    entry, config = registry.entry(name), registry.config(name)
    build = partial(entry.build, config, Shape.of(data))
    if entry.kind == "estimator":
        model = build()
        test = data.split("test", model.fit(data, seed))
        return _error(model.predict(test), test)
    trained = fit(build, data, preset("small", epochs=30), [seed])[0]
    test = data.split("test", trained.selection)
    return _error(predict(build, trained, test), test)


def _error(prediction: NDArray[np.floating], batch: Batch) -> float:
    return float(np.abs(prediction - batch.target.numpy()).mean())


def _table(scene: Scene) -> Table:
    reference = scene.errors["linear"]
    table = Table("", "mean absolute error", "minus linear", title=scene.title, box=SIMPLE_HEAD, title_justify="left")
    table.add_row("best constant (floor)", f"{scene.floor:.3f}", "")
    for name, values in scene.errors.items():
        low, high = t_interval(values) if values.std() > 0 else (values[0], values[0])
        difference = "" if name == "linear" else _difference(compare(values, reference))
        table.add_row(MODELS[name], f"{values.mean():.3f}  [{low:.3f}, {high:.3f}]".replace("[", r"\["), difference)
    if scene.ceiling is not None:
        table.add_row("Bayes-optimal (ceiling)", f"{scene.ceiling:.3f}", "")
    return table


def _difference(c: PairedComparison) -> str:
    low, high = c.interval95
    return rf"{c.estimate:+.3f} \[{low:+.3f}, {high:+.3f}]"


def _picture(scenes: list[Scene], out: Path) -> Path:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from affectcore.figures.style import interval_plot, use_style

    use_style()
    figure, axes = plt.subplots(len(scenes), 1, figsize=(6.4, 2.2 * len(scenes)), squeeze=False)
    for ax, scene in zip(axes[:, 0], scenes):
        spans = [t_interval(v) if v.std() > 0 else (v[0], v[0]) for v in scene.errors.values()]
        means = [v.mean() for v in scene.errors.values()]
        interval_plot(
            list(MODELS.values()), means, spans, seeds=list(scene.errors.values()), floor=scene.floor,
            ceiling=scene.ceiling, xlabel="mean absolute error (lower is better)", ax=ax,
        )  # fmt: skip
        ax.set_title(scene.title, fontsize=10, loc="left", pad=18)
    file = out / "demo.png"
    figure.savefig(file)
    plt.close(figure)
    return file
