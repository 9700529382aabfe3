"""What a study's intervals and paired tests are computed from: bootstrap draws of every arm, drawn together.

The per-item targets of a licensed corpus are not published, so an interval over its items could not be recomputed from
committed results. Instead this module commits what such an interval needs and no more: the metric of every arm under
the same draws of seeds and groups. The difference of two arms' draws is the bootstrap distribution of their difference.

Data labels may carry a fold ("mosei_sentiment/3"): the folds of a label are pooled, predictions being out of fold.
A corpus with further test parts ("test_iid" beside "test") has draws for each, under "label:test_iid".
Seeds and groups are crossed; where every seed has a world of its own, groups are drawn within each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectcore.errors import ConfigError, StoreError
from affectcore.evaluation.statistics import PairedComparison, from_draws, item_weights, percentile_interval
from affectcore.evaluation.weighted import (
    weighted_accuracy,
    weighted_auroc_macro,
    weighted_balanced_accuracy,
    weighted_mae,
    weighted_pearson,
    weighted_sign_accuracy,
)
from affectcore.streams import rng
from affectcore.studies import results as committed
from affectcore.studies.claims import Results
from affectcore.studies.outcome import Predictions
from affectcore.studies.spec import RunSpec, Study, digest
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
    "regression": (
        Metric("mae", weighted_mae, False),
        Metric("pearson", weighted_pearson, True),
        Metric("acc2_non_zero", weighted_sign_accuracy, True),
    ),
    "single_label": (
        Metric("balanced_accuracy", weighted_balanced_accuracy, True),
        Metric("accuracy", weighted_accuracy, True),
    ),
    "multi_label": (Metric("auroc_macro", weighted_auroc_macro, True),),
}
HIGHER = {m.name: m.higher_is_better for ms in METRICS.values() for m in ms}
ORDER = list(HIGHER)  # of a task's metrics the first is the default


@dataclass(frozen=True)
class Draws:
    """One arm on one data label in one condition: the metric per seed (S,) and per bootstrap draw (R,).

    items: digest of the seeds and of the targets and groups they were scored on: what two paired arms must share.
    """

    metric: str
    by_seed: Floats
    draws: Floats
    n_items: int
    n_groups: int
    items: str = ""

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
        return self.rows[min(fits, key=lambda k: ORDER.index(k[3]))]

    def compare(
        self, a: tuple[str, str], b: tuple[str, str], condition: str = "clean", metric: str | None = None
    ) -> PairedComparison:
        """Return a minus b, (arm, data label) each, on the same items, oriented so that positive means a is better."""
        x, y = self.get(*a, condition, metric), self.get(*b, condition, metric)
        if (x.n_items, len(x.by_seed), x.metric, x.items) != (y.n_items, len(y.by_seed), y.metric, y.items):
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


@dataclass(frozen=True)
class _Scored:
    """The test items of one seed, by row of the data set: target, group, and scores by (arm, condition)."""

    seed: int
    target: NDArray[Any]
    group: NDArray[np.integer]
    scores: Mapping[tuple[str, str], NDArray[np.float64]]


def compute(study: Study, profile: str, store: Store | None = None, draws: int = DRAWS) -> Resampled:
    """Return the draws of a finished profile of the local store, whose runs keep targets and groups.

    Raises StoreError if runs are missing, or if two arms were not scored on the same items, each once.
    """
    store = store or Store()
    specs = study.specs(profile)
    committed.finished(study, profile, specs, store)  # says what is missing
    by_label: dict[str, dict[int, list[RunSpec]]] = {}
    for s in specs:
        if pooled(s.data.name) in study.drawn or not study.drawn:
            by_label.setdefault(pooled(s.data.name), {}).setdefault(s.seed, []).append(s)
    rows: dict[Key, Draws] = {}
    for label, by_seed in by_label.items():
        first = next(iter(by_seed.values()))[0]
        for split in _tests(first, store):
            scored = [_scored(label, seed, _whole(runs), store, split) for seed, runs in sorted(by_seed.items())]
            same = all(np.array_equal(scored[0].target, x.target) for x in scored)
            if first.data.source == "reader" and not same:
                raise StoreError(f"draws: the seeds on {label} were not scored on the same items")
            # keyed by data set and task, not by label: "mosei_sentiment" and "mosei_sentiment_text" are drawn together
            further = "" if split == "test" else split
            name = "/".join(filter(None, (first.data.dataset, _kind(scored[0]), further)))
            where = ":".join(filter(None, (label, further)))
            rows |= {(arm, where, c, m): d for (arm, c, m), d in _draws(name, scored, draws).items()}
    return Resampled(rows, profile)


def _tests(spec: RunSpec, store: Store) -> list[str]:
    """Return the test parts that are drawn: on a corpus all whose names begin so, on a world "test" alone."""
    if spec.data.source == "world":
        return ["test"]
    return sorted(s for s in store.predictions(spec.hash()).target if s.startswith("test"))


def _whole(runs: list[RunSpec]) -> list[RunSpec]:
    """Leave out arms that were run on some of the folds alone, whose predictions do not cover the label's items."""
    folds = {s.data.name for s in runs}
    of_arm: dict[str, set[str]] = {}
    for s in runs:
        of_arm.setdefault(s.arm, set()).add(s.data.name)
    return [s for s in runs if of_arm[s.arm] == folds]


def _scored(label: str, seed: int, runs: list[RunSpec], store: Store, part: str = "test") -> _Scored:
    """Join the folds of every arm of one seed on a test part, items in the order of the data set's rows."""
    parts: dict[str, list[Predictions]] = {}
    for s in runs:
        parts.setdefault(s.arm, []).append(store.predictions(s.hash()))
    scores: dict[tuple[str, str], NDArray[np.float64]] = {}
    items = None
    for arm, folds in parts.items():
        index = np.concatenate([p.rows[part] for p in folds])
        order = np.argsort(index)
        if len(np.unique(index)) != len(index) or (items is not None and not np.array_equal(index[order], items)):
            raise StoreError(f"draws: {arm} on {label} was not scored on the same items as the others, each once")
        items = index[order]
        target, group = (np.concatenate([getattr(p, k)[part] for p in folds])[order] for k in ("target", "group"))
        for split, condition in folds[0].scores:
            if split == part:
                joined = np.concatenate([p.scores[split, condition] for p in folds])[order]
                scores[arm, condition] = joined.astype(np.float64)
    return _Scored(seed, target, group, scores)


def _items(scored: list[_Scored]) -> str:
    h = blake2b(digest_size=8)
    for x in scored:
        h.update(str(x.seed).encode())
        h.update(np.ascontiguousarray(x.target, np.float64).tobytes())
        h.update(np.ascontiguousarray(x.group, np.int64).tobytes())
    return h.hexdigest()


def _kind(scored: _Scored) -> str:
    given = next(iter(scored.scores.values()))
    return "regression" if given.ndim == 1 else "single_label" if scored.target.ndim == 1 else "multi_label"


def _draws(name: str, scored: list[_Scored], draws: int) -> dict[tuple[str, str, str], Draws]:
    """Metrics of every arm and condition per seed, and under `draws` draws of groups and then of seeds.

    Seeds that share their items share the drawn groups; where every seed has a world of its own, so has its draw.
    An arm that was run with fewer seeds than others is drawn over its own.
    """
    shared = len(scored) > 1 and all(np.array_equal(scored[0].target, x.target) for x in scored)
    weights: list[Floats] = []
    for seed, x in enumerate(scored):
        stream = rng(0, "resampling", name, *(() if shared else (seed,)))
        if weights and shared:
            weights.append(weights[0])
        else:
            members = [np.flatnonzero(x.group == g) for g in np.unique(x.group)]
            weights.append(item_weights(members, ("groups",), draws, stream).astype(np.float64))
    every = rng(0, "resampling", name, "seeds").integers(len(scored), size=(draws, len(scored)))
    out: dict[tuple[str, str, str], Draws] = {}
    for arm, condition in dict.fromkeys(key for x in scored for key in x.scores):
        has = [i for i, x in enumerate(scored) if (arm, condition) in x.scores]
        mine, items = [scored[i] for i in has], _items([scored[i] for i in has])
        own = rng(0, "resampling", name, "seeds", *has)
        which = every if len(has) == len(scored) else own.integers(len(has), size=(draws, len(has)))
        for m in METRICS[_kind(mine[0])]:
            given = [x.scores[arm, condition] for x in mine]
            by_seed = [m.function(np.ones((1, len(x.target))), x.target, p)[0] for x, p in zip(mine, given)]
            drawn = [m.function(weights[i], x.target, p) for i, x, p in zip(has, mine, given)]
            taken = np.take_along_axis(np.stack(drawn, axis=1), which, axis=1).mean(1)
            n, groups = len(mine[0].target), len(np.unique(mine[0].group))
            out[arm, condition, m.name] = Draws(m.name, np.array(by_seed), taken, n, groups, items)
    return out


def file_of(study: Study, profile: str) -> Path:
    return committed.results_folder() / profile / f"{study.name}.draws.parquet"


def export(study: Study, profile: str, store: Store | None = None) -> tuple[Path, ...]:
    """Write a profile's draws to results/ and return the file: none if there is nothing to draw, as where the runs kept
    no test predictions. Raises StoreError as `results.export` does."""
    import pyarrow as pa

    made = compute(study, profile, store)
    if not made.rows:
        return ()
    runs = digest(sorted(s.hash() for s in study.specs(profile)))
    columns = ["arm", "data", "condition", "metric"]
    frame = pd.DataFrame(
        [
            dict(zip(columns, key))
            | {
                "n_items": d.n_items, "n_groups": d.n_groups, "items": d.items, "runs": runs,
                "by_seed": d.by_seed.astype(np.float32), "draws": d.draws.astype(np.float32),
            }
            for key, d in sorted(made.rows.items())
        ]
    )  # fmt: skip
    file = file_of(study, profile)
    content = committed.parquet(pa.Table.from_pandas(frame, preserve_index=False), ("by_seed", "draws"))
    committed.write({file: content}, f"draws of {study.name} ({profile})", "name fewer data in Study.drawn")
    return (file,)


def load(study: Study, profile: str) -> Resampled:
    """Return the committed draws of a profile. Raises StoreError if there are none, or if they are of other runs."""
    file = file_of(study, profile)
    if not file.is_file():
        raise StoreError(f"results of {study.name}: {file.name} of profile {profile} is not committed")
    rows: dict[Key, Draws] = {}
    frame = pd.read_parquet(file)
    records = committed.load_records(study, profile)
    frame = frame.assign(**{c: "" for c in ("items", "runs") if c not in frame})  # not in files of before 2026-11-21
    if records and not {digest(sorted(r.hash for r in records)), ""} >= set(frame["runs"]):
        how = f"`affectcore results export {study.name} --profile {profile}`"
        raise StoreError(f"results of {study.name}: {file.name} is of other runs than the records ({profile}); {how}")
    for r in frame.itertuples():
        by_seed, taken = np.asarray(r.by_seed, np.float64), np.asarray(r.draws, np.float64)
        rows[r.arm, r.data, r.condition, r.metric] = Draws(
            r.metric, by_seed, taken, int(r.n_items), int(r.n_groups), r.items
        )  # fmt: skip
    return Resampled(rows, profile)
