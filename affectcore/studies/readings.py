"""From run records to evidence: readings of a run, seed by seed, and the comparisons that claims are tested by.

A reading is one number of a run. On a world every seed has a world of its own, so arms are compared seed by seed, in
every setting that a claim spans. On a corpus all seeds see the same items: intervals are over seeds and items together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectcore.errors import EvaluationError, StoreError
from affectcore.evaluation.statistics import PairedComparison, compare
from affectcore.evaluation.verdict import Evidence, Fact, Part, Scope
from affectcore.studies.claims import Claim, Results
from affectcore.studies.resampling import resampled
from affectcore.studies.store import RunRecord

Floats = NDArray[np.float64]
Reading = Callable[[RunRecord], float]

# --- readings: one number of a run ---------------------------------------------------------------------------------


def scored(metric: str, condition: str = "clean", split: str = "test") -> Reading:
    """Return the reading of a metric; NaN where it is not defined."""

    def read(r: RunRecord) -> float:
        value = r.metrics[split][condition][metric]
        return float("nan") if value is None else float(value)

    return read


def noted(*keys: Any) -> Reading:
    """Return the reading of a number deep in `extra`."""

    def read(r: RunRecord) -> float:
        found: Any = r.extra
        for k in keys:
            found = found[k]
        return float("nan") if found is None else float(found)

    return read


def selected(r: RunRecord) -> float:
    """Return the value that the epoch was selected by: the best on validation."""
    return float("nan") if r.value is None else float(r.value)


# --- seed by seed ----------------------------------------------------------------------------------------------------


def runs(results: Results, arm: str, data: str) -> list[RunRecord]:
    """Return an arm's records on a data label, all folds ("label/k"), seed by seed. Raises StoreError if none."""
    found = [r for r in results.records if r.spec.arm == arm and r.spec.data.name.partition("/")[0] == data]
    if not found:
        raise StoreError(f"no run of {arm} on {data}")
    return sorted(found, key=lambda r: (r.spec.seed, r.spec.data.name))


def by_seed(results: Results, arm: str, data: str, read: Reading) -> Floats:
    """Return a reading of every seed of an arm on one data label, in the order of the seeds. Folds are averaged."""
    found: dict[int, list[float]] = {}
    for r in runs(results, arm, data):
        found.setdefault(r.spec.seed, []).append(read(r))
    return np.array([np.mean(found[s]) for s in sorted(found)])


def items(results: Results, data: str) -> int:
    """Return the number of test items of a world's runs."""
    return int(next(r for r in results.records if r.spec.data.name == data).spec.data.options["sizes"]["test"])


# --- from readings to evidence -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what is read off an arm, or the mean over several.

    label: of an arm's data in a setting, where it is not the world's own "{world}_{setting}"; "{}" is the setting.
    """

    arms: tuple[str, ...]
    read: Reading
    label: str = ""

    def values(self, results: Results, world: str, setting: str) -> Floats:
        """Return the values of every seed in a setting of the world."""
        data = self.label.format(setting) if self.label else f"{world}_{setting}"
        return np.asarray(np.mean([by_seed(results, a, data, self.read) for a in self.arms], axis=0))


Pair = tuple[Side, Side]  # what should be larger, and what smaller


def compared(results: Results, pair: Pair, world: str, setting: str) -> PairedComparison:
    """Return a pair of sides compared seed by seed in one setting of a world."""
    return compare(*(x.values(results, world, setting) for x in pair))


def on_world(
    claim: Claim, results: Results, world: str, settings: Sequence[str], effect: Pair, positive: Pair,
    negative: Pair | None = None,
) -> Evidence:  # fmt: skip
    """Return evidence in several settings of a world: data labels "{world}_{setting}", compared seed by seed."""
    parts = tuple(
        Part(
            s, compared(results, effect, world, s), compared(results, positive, world, s),
            None if negative is None else compared(results, negative, world, s), items(results, f"{world}_{s}"),
        )
        for s in settings
    )  # fmt: skip
    return Evidence(claim.id, Scope("world", world), claim.least, parts, claim.about)


def on_corpus(
    claim: Claim, results: Results, better: str, worse: str, data: str, condition: str = "clean",
    metric: str | None = None,
) -> Evidence:  # fmt: skip
    """Return evidence on a corpus, out of fold: a metric of its exported draws, over seeds and items together.

    metric: the task's first by default.
    """
    effect = resampled(results).compare((better, data), (worse, data), condition, metric)
    part = Part("headline", effect, n_items=effect.n_items)
    return Evidence(claim.id, Scope("corpus", data), claim.least, (part,), claim.about)


def computed(claim: Claim, holds: bool, test: str, estimate: float | None = None) -> Fact:
    """Return a fact of computation: the claim holds or not by what `test` says in words and numbers."""
    return Fact(claim.id, bool(holds), test, estimate)


def effects(y: Mapping[tuple[int, ...], Floats], factors: str) -> dict[str, Floats]:
    """Return main effects and interactions of a full 2^k factorial by seed: {"G": ..., "GV": ..., ...}.

    y[levels]: readings (S,) of the cell whose factors, in the order of the letters, are on (1) or off (0). An effect is
    the mean with minus the mean without; an interaction is half the difference of an effect with and without the next
    factor, and so on. Raises EvaluationError unless all 2^k cells are there.
    """
    k = len(factors)
    if set(y) != {tuple(c) for c in np.ndindex(*(2,) * k)}:
        raise EvaluationError(f"factorial {factors}: needs all {2**k} cells, got {sorted(y)}")
    out = {}
    for mask in range(1, 2**k):
        name = "".join(f for i, f in enumerate(factors) if mask >> i & 1)
        signs = {c: np.prod([2 * level - 1 for f, level in zip(factors, c) if f in name]) for c in y}
        out[name] = np.asarray(sum(signs[c] * y[c] for c in y) / 2 ** (k - 1))
    return dict(sorted(out.items(), key=lambda x: (len(x[0]), [factors.index(f) for f in x[0]])))
