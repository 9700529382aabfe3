"""What a report holds: values, traps, calibration, pairs of models, sentences. All of it is JSON."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from affectcore.evaluation.statistics import Interval

POINT = 0.01  # the gain whose price in seeds is told
HEADLINES = {
    "regression": ("acc2_non_zero", "acc7", "mae", "pearson"),
    "single_label": ("accuracy", "balanced_accuracy", "macro_f1"),
    "multi_label": ("micro_f1", "macro_f1", "jaccard_empty_1"),
}  # the metrics that models are compared by


@dataclass(frozen=True)
class Value:
    """One model under one metric: mean over seeds, interval, extremes of the seeds, and the best constant's value.

    interval: 95 %, seeds x groups (or items); none where the value is not defined or depends on the items' order.
    """

    model: str
    metric: str
    value: float
    interval: Interval | None
    by_seed: tuple[float, ...]
    floor: float
    floor_constant: str
    higher_is_better: bool
    slip: bool
    convention: str
    note: str

    @property
    def above_floor(self) -> bool | None:
        """The whole interval is on the better side of the floor; none if there is no interval or floor."""
        if self.interval is None or math.isnan(self.floor):
            return None
        return self.interval[0] > self.floor if self.higher_is_better else self.interval[1] < self.floor


@dataclass(frozen=True)
class Trap:
    """A way in which the same predictions give another number."""

    name: str
    model: str
    values: dict[str, float]
    sentence: str


@dataclass(frozen=True)
class Calibration:
    """How far probabilities mean what they say, mean over seeds; the floors are those of the class shares as forecast.

    confidence, outcome, count: the points of the reliability diagram, all seeds pooled.
    """

    model: str
    bins: int
    ece: float
    nll: float
    brier: float
    floor_nll: float
    floor_brier: float
    confidence: tuple[float, ...]
    outcome: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Model a against model b by one metric, on shared seeds and items; a positive difference means a is better.

    interval and p: paired hierarchical bootstrap. p_holm: corrected over the pairs of models, per metric. p_seeds:
    paired t over seeds alone. p_mcnemar: exact, per item, with one seed only. mde: least difference found with power .8
    at these seeds, items and groups; mde_items: the same if the seeds were without noise; seeds_for_a_point: pairs of
    seeds that a t-test over seeds needs to find a difference of .01 on these very items.
    """

    a: str
    b: str
    metric: str
    seeds: int
    difference: float
    interval: Interval
    p: float
    p_holm: float
    p_seeds: float | None
    p_mcnemar: float | None
    wins: int
    mde: float
    mde_items: float
    seed_sd: float | None
    seeds_for_a_point: int | None

    @property
    def resolved(self) -> bool:
        return self.p_holm <= 0.05


@dataclass(frozen=True)
class Report:
    """All of an audit. Sentences are in `read`, `findings`, `resolution` and `warnings`."""

    file: str
    task: str
    rows: int
    items: int
    groups: int | None
    models: tuple[str, ...]
    seeds: dict[str, int]
    classes: dict[str, int]
    draws: int
    read: tuple[str, ...]
    findings: tuple[str, ...]
    metrics: tuple[Value, ...]
    traps: tuple[Trap, ...]
    calibration: tuple[Calibration, ...]
    pairs: tuple[Pair, ...]
    resolution: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def headlines(self) -> tuple[str, ...]:
        """The metrics that models are compared by."""
        known = {v.metric for v in self.metrics}
        return tuple(m for m in HEADLINES[self.task] if m in known)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types; what is not defined is null."""
        return plain(asdict(self))


def plain(value: Any) -> Any:
    """Return the value as JSON types, NaN and infinity as null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
