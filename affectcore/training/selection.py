"""Which epoch, and for label sets which threshold, is kept: named rules, the leaky ones so named.

A rule looks at one value per finished epoch and returns a frozen `Selection`. Only rules whose name begins with
"oracle_test_" look at the test split; they exist to re-enact published protocols, and the name goes into every record.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import Selection
from affectcore.errors import ConfigError
from affectcore.evaluation.metrics import metric

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))


@dataclass(frozen=True)
class Rule:
    """One way to choose.

    split: whose values it looks at. keep: the epoch with the best value, or the last one. threshold: tuned there too.
    threshold_split: where the threshold that is kept was tuned, if not on `split`.
    stops: whether `patience` may end the run. all_metrics: every metric of the task is followed on the split, so that
    `extremes` can report the best value of each (no single model has them all).
    """

    name: str
    summary: str
    split: Literal["valid", "test"] = "valid"
    keep: Literal["best", "last"] = "best"
    threshold: bool = False
    threshold_split: Literal["test"] | None = None
    stops: bool = True
    all_metrics: bool = False

    @property
    def leaky(self) -> bool:
        return self.name.startswith("oracle_test_")

    def select(self, values: Sequence[float], higher: bool) -> Selection:
        """Return the epoch kept after `len(values)` epochs; the earliest of equals, NaN never wins.

        epoch is None as long as no epoch had a defined value.
        """
        if self.keep == "last":
            return Selection(self.name, len(values) - 1, _number(values[-1]))
        best = best_epoch(values, higher)
        return Selection(self.name, best, None if best is None else values[best])


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def best_epoch(values: Sequence[float], higher: bool) -> int | None:
    """Return the first index of the best value, None if all are NaN."""
    defined = [(v if higher else -v, -i) for i, v in enumerate(values) if not math.isnan(v)]
    return -max(defined)[1] if defined else None


_ALL = (
    Rule("valid_best", "the epoch with the best validation value"),
    Rule("valid_last", "the last epoch before patience on validation ran out", keep="last"),
    Rule("fixed_epoch", "the last of the recipe's epochs; no split is looked at", keep="last", stops=False),
    Rule("valid_threshold", "epoch and label threshold with the best validation value", threshold=True),
    Rule("oracle_test_epoch", "leaky: the epoch with the best test value", split="test"),
    Rule("oracle_test_max_metric", "leaky: the best test value of every metric over the epochs, each at its own epoch",
         split="test", all_metrics=True),
    Rule("oracle_test_threshold", "leaky: epoch and label threshold with the best test value", split="test",
         threshold=True),
    Rule("oracle_test_tau", "leaky: the epoch with the best validation value, its label threshold tuned on test",
         threshold=True, threshold_split="test"),
)  # fmt: skip
RULES: dict[str, Rule] = {r.name: r for r in _ALL}


def rule(name: str) -> Rule:
    """Return a rule by name. Raises ConfigError naming the known ones."""
    if name not in RULES:
        raise ConfigError(f"selection rule {name!r} is unknown: use {', '.join(RULES)}")
    return RULES[name]


def threshold(
    target: NDArray[np.generic], scores: NDArray[np.floating], name: str, grid: Sequence[float] = THRESHOLDS
) -> tuple[float, float]:
    """Return the threshold of `grid` with the best multi-label metric `name`, and the value; the lowest of equals.

    target, scores: (N, C); a label is predicted where its score >= threshold. Hand in validation data; test data belong
    to the oracle rules alone. Raises ConfigError for a metric that no threshold changes.
    """
    m = metric("multi_label", name)
    if m.needs == "scores":
        raise ConfigError(f"a threshold cannot be tuned on {name!r}, which is computed from scores")
    values = [m(target, (scores >= t).astype(np.int64)) for t in grid]
    best = best_epoch(values, m.higher_is_better)
    if best is None:
        raise ConfigError(f"{name!r} is undefined at every threshold")
    return grid[best], values[best]


def extremes(kind: str, epochs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the best value of each metric, each at its own epoch: what oracle_test_max_metric reports."""
    out = {}
    for name in epochs[0] if epochs else ():
        values = [e[name] for e in epochs]
        best = best_epoch(values, name != "loss" and metric(kind, name).higher_is_better)
        out[name] = math.nan if best is None else values[best]
    return out
