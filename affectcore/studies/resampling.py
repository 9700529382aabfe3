"""What a study's intervals and paired tests are computed from: bootstrap draws of every arm, drawn together.

The per-item targets of a licensed corpus are not published, so an interval over its items could not be recomputed from
committed results. Instead this module commits what such an interval needs and no more: the metric of every arm under
the same draws of seeds and groups. The difference of two arms' draws is the bootstrap distribution of their difference.

Data labels may carry a fold ("mosei_sentiment/3"): the folds of a label are pooled, predictions being out of fold. Seeds
and groups are crossed; on a world every seed has items of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectcore.errors import ConfigError, StoreError
from affectcore.evaluation.statistics import PairedComparison, from_draws, item_weights, percentile_interval
from affectcore.evaluation.weighted import weighted_auroc_macro, weighted_mae, weighted_pearson
from affectcore.streams import rng
from affectcore.studies import results as committed
from affectcore.studies.claims import Results
from affectcore.studies.spec import DataSpec, Study
from affectcore.studies.store import Store

DRAWS = 1_000
Floats = NDArray[np.float64]
Weighted = Callable[[Any, Any, Any], Floats]


@dataclass(frozen=True)
class Metric:
    """A metric that can be drawn, and whether more of it is better."""

    name: str
    function: Weighted
    higher_is_better: bool


METRICS: dict[str, tuple[Metric, ...]] = {
    "regression": (Metric("mae", weighted_mae, False), Metric("pearson", weighted_pearson, True)),
    "multi_label": (Metric("auroc_macro", weighted_auroc_macro, True),),
}
HIGHER = {m.name: m.higher_is_better for ms in METRICS.values() for m in ms}


@dataclass(frozen=True)
class Draws:
    """One arm on one data label in one condition: the metric per seed (S,) and per bootstrap draw (R,)."""

    metric: str
    by_seed: Floats
    draws: Floats
    n_items: int
    n_groups: int

    @property
    def estimate(self) -> float:
        """Mean over seeds."""
        return float(self.by_seed.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval over seeds and groups."""
        return percentile_interval(self.draws, level)


Key = tuple[str, str, str, str]  # arm, data label, condition, metric


class Resampled:
    """The draws of a study by arm, data label, condition and metric."""

    def __init__(self, rows: Mapping[Key, Draws], profile: str) -> None:
        self.rows, self.profile = dict(rows), profile

    def get(self, arm: str, data: str, condition: str = "clean", metric: str | None = None) -> Draws:
        """The draws of one arm; metric: the task's first by default. Raises ConfigError for what was not run."""
        fits = [k for k in self.rows if k[:3] == (arm, data, condition) and metric in (None, k[3])]
        if not fits:
            raise ConfigError(f"draws: arm {arm!r} on {data!r} in {condition!r} ({metric or 'any metric'}) are unknown")
        return self.rows[fits[0]]

    def compare(
        self, a: tuple[str, str], b: tuple[str, str], condition: str = "clean", metric: str | None = None
    ) -> PairedComparison:
        """Return a minus b, (arm, data label) each, on the same items, oriented so that positive means a is better."""
        x, y = self.get(*a, condition, metric), self.get(*b, condition, metric)
        if (x.n_items, len(x.by_seed), x.metric) != (y.n_items, len(y.by_seed), y.metric):
            raise ConfigError(f"draws: {a} and {b} were not scored on the same items and seeds")
        sign = 1.0 if HIGHER[x.metric] else -1.0
        return from_draws(
            sign * (x.draws - y.draws), sign * (x.by_seed - y.by_seed), x.n_items, x.n_groups, ("seeds", "groups")
        )


def resampled(results: Results) -> Resampled:
    """Return the draws of the results' profile: read from results/, or computed from the local store."""
    if not hasattr(results, "resampled"):
        if results.profile == "committed":
            made = load(results.study, committed.best_profile(results.study))
        else:
            made = compute(results.study, results.profile, results.store)
        results.resampled = made  # type: ignore[attr-defined]  # kept: every claim asks for it
    found: Resampled = results.resampled  # type: ignore[attr-defined]
    return found


def pooled(label: str) -> str:
    """Return a data label without its fold."""
    return label.partition("/")[0]


def compute(study: Study, profile: str, store: Store | None = None, draws: int = DRAWS) -> Resampled:
    """Return the draws of a finished profile of the local store. Needs the data: targets and groups are read there."""
    frame = committed.load_results(study, profile, store)[1]
    frame = frame[frame["split"] == "test"]
    specs = {d.name: d for d in study.data}
    rows: dict[Key, Draws] = {}
    for label in dict.fromkeys(map(pooled, frame["data"])):
        part = frame[frame["data"].map(pooled) == label]
        folds = [specs[name] for name in dict.fromkeys(part["data"])]
        make = _world if folds[0].source == "world" else _corpus
        rows |= make(label, part, folds, draws)
    return Resampled(rows, profile)


def _corpus(label: str, part: pd.DataFrame, folds: list[DataSpec], draws: int) -> dict[Key, Draws]:
    """Every seed predicts the same items; seeds and groups are drawn once for all arms of the corpus."""
    from affectcore.studies.execute import load as load_data

    data = load_data(folds[0], 0)
    kind, everything = data.task.kind, data._all
    seeds = sorted(set(part["seed"]))
    one = part[(part["arm"] == part["arm"].iloc[0]) & (part["seed"] == seeds[0]) & (part["condition"] == "clean")]
    items = np.sort(np.concatenate(list(one["rows"])))
    target, group = everything.target.numpy()[items], everything.group.numpy()[items]
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    # keyed by the corpus, not the label: "mosei_sentiment" and "mosei_sentiment_text" are drawn together
    name = f"{folds[0].dataset}/{kind}"
    weights = item_weights(members, ("groups",), draws, rng(0, "resampling", name)).astype(np.float64)
    which = rng(0, "resampling", name, "seeds").integers(len(seeds), size=(draws, len(seeds)))
    rows: dict[Key, Draws] = {}
    for (arm, condition), runs in part.groupby(["arm", "condition"], sort=False):
        given = []
        for seed in seeds:
            of_seed = runs[runs["seed"] == seed]
            index = np.concatenate(list(of_seed["rows"]))
            if not np.array_equal(np.sort(index), items):
                raise StoreError(f"draws: {arm} on {label}, seed {seed}, was not scored on the same items once each")
            given.append(np.concatenate(list(of_seed["scores"]))[np.argsort(index)])
        for m in METRICS[kind]:
            by_seed = np.array([m.function(np.ones((1, len(items))), target, p)[0] for p in given])
            per_seed = np.stack([m.function(weights, target, p) for p in given], axis=1)  # (R, S)
            taken = np.take_along_axis(per_seed, which, axis=1).mean(1)
            rows[arm, label, condition, m.name] = Draws(m.name, by_seed, taken, len(items), len(members))
    return rows


def _world(label: str, part: pd.DataFrame, folds: list[DataSpec], draws: int) -> dict[Key, Draws]:
    """Every seed has its own world: items are drawn within each, then seeds."""
    seeds = sorted(set(part["seed"]))
    which = rng(0, "resampling", folds[0].dataset, "seeds").integers(len(seeds), size=(draws, len(seeds)))
    rows: dict[Key, Draws] = {}
    for (arm, condition), runs in part.groupby(["arm", "condition"], sort=False):
        by = runs.set_index("seed").loc[seeds]
        kind = "regression" if by["scores"].iloc[0].ndim == 1 else "multi_label"
        for m in METRICS[kind]:
            by_seed = np.array(
                [m.function(np.ones((1, len(y))), y, p)[0] for y, p in zip(by["target"], by["scores"])]
            )  # fmt: skip
            taken = by_seed[which].mean(1)  # a world's 6,000 items per seed add next to nothing to the spread of seeds
            n = len(by["target"].iloc[0])
            rows[arm, label, condition, m.name] = Draws(m.name, by_seed, taken, n, n)
    return rows


def file_of(study: Study, profile: str) -> Path:
    return committed.results_folder() / profile / f"{study.name}.draws.parquet"


def export(study: Study, profile: str, store: Store | None = None) -> Path:
    """Write a profile's draws to results/ and return the file."""
    made = compute(study, profile, store)
    columns = ["arm", "data", "condition", "metric"]
    frame = pd.DataFrame(
        [
            dict(zip(columns, key))
            | {
                "n_items": d.n_items, "n_groups": d.n_groups,
                "by_seed": d.by_seed.astype(np.float32), "draws": d.draws.astype(np.float32),
            }
            for key, d in sorted(made.rows.items())
        ]
    )  # fmt: skip
    file = file_of(study, profile)
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(file, index=False, compression="zstd")
    return file


def load(study: Study, profile: str) -> Resampled:
    """Return the committed draws of a profile. Raises StoreError if there are none."""
    file = file_of(study, profile)
    if not file.is_file():
        raise StoreError(f"results of {study.name}: {file.name} of profile {profile} is not committed")
    rows: dict[Key, Draws] = {}
    for r in pd.read_parquet(file).itertuples():
        by_seed, taken = np.asarray(r.by_seed, np.float64), np.asarray(r.draws, np.float64)
        rows[r.arm, r.data, r.condition, r.metric] = Draws(r.metric, by_seed, taken, int(r.n_items), int(r.n_groups))
    return Resampled(rows, profile)
