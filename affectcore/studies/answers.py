"""From records to words: paired effects, trends and shares, and the sentence that each of them allows.

A sentence says "higher" or "lower" only where a 95 % interval lies beside 0 and, among several comparisons, where
Holm's p is at most .05 too. Anything else is "no difference resolved", with the largest difference that the interval
still allows, either way. Arms are compared on the seeds that both have: on a world every seed is a world of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from affectcore.errors import EvaluationError, StoreError
from affectcore.evaluation.statistics import (
    Interval,
    PairedComparison,
    compare,
    holm,
    paired_t,
    t_interval,
    wilcoxon,
    wilson_interval,
)
from affectcore.studies.claims import Claim, Results, Row
from affectcore.studies.readings import Floats, Reading, runs

ALPHA = 0.05
ESTIMATE = "estimate, 95\u00a0%"  # the column's name
BySeed = Mapping[int, float]  # a reading of every seed

# --- effects ---------------------------------------------------------------------------------------------------------


def values(results: Results, arm: str, data: str, read: Reading) -> dict[int, float]:
    """Return a reading of every seed, folds averaged; a seed without the number is left out."""
    found: dict[int, list[float]] = {}
    for r in runs(results, arm, data):
        found.setdefault(r.spec.seed, []).append(read(r))
    means = {seed: float(np.mean(v)) for seed, v in found.items()}
    return {seed: v for seed, v in means.items() if np.isfinite(v)}


def differences(a: BySeed, b: BySeed, what: str = "the arms") -> Floats:
    """Return a minus b on the seeds that both have. Raises StoreError that names `what` if these are fewer than two."""
    both = sorted(set(a) & set(b))
    if len(both) < 2:
        raise StoreError(f"{what} share {len(both)} seeds")
    return np.array([a[s] - b[s] for s in both])


def between(results: Results, arm: str, against: str, data: str, read: Reading, other: str = "") -> Floats:
    """Return one arm minus another by seed on a data label; other: the second arm's label, where it is another.

    Raises StoreError if they share fewer than two seeds.
    """
    a, b = values(results, arm, data, read), values(results, against, other or data, read)
    return differences(a, b, f"{arm} and {against} on {data}")


def change(results: Results, arm: str, against: str, data: str, read: Reading, other: str = "") -> PairedComparison:
    """Return `between` as a comparison with zero."""
    return about(between(results, arm, against, data, read, other))


def about(differences: ArrayLike) -> PairedComparison:
    """Return differences by seed as a comparison with zero."""
    d = np.asarray(differences, float)
    return compare(d, np.zeros_like(d))


def crossed(cells: Mapping[tuple[int, int], BySeed], what: str = "the arms") -> tuple[Floats, Floats, Floats]:
    """Return two main effects and the interaction of a 2 x 2 by seed, on the seeds that all four cells have.

    cells[first, second]: 1 is on. An effect is the mean with minus the mean without; the interaction is half the
    difference of the first effect with and without the second factor.
    """
    common = sorted(set.intersection(*(set(v) for v in cells.values())))
    if len(common) < 2:
        raise StoreError(f"{what} share {len(common)} seeds")
    a, b, c, d = (np.array([cells[k][s] for s in common]) for k in ((0, 0), (1, 0), (0, 1), (1, 1)))
    return (b + d - a - c) / 2, (c + d - a - b) / 2, (a + d - b - c) / 2


def arms_table(names: Iterable[str], of: Callable[[str], BySeed], reference: str) -> pd.DataFrame:
    """Return one row an arm: seeds, mean, sd and 95 % interval of its own, and the tests against the reference.

    of: values by seed of an arm; one that raises StoreError or has fewer than two seeds is left out. difference, from,
    to: paired, 95 %; t, wilcoxon: two-sided p; holm: Holm's correction of t over the table; mde.
    """
    rows = []
    for arm in names:
        try:
            mine = of(arm)
            own = np.array(list(mine.values()))
            d = differences(mine, of(reference), f"{arm} and {reference}") if arm != reference else None
        except StoreError:
            continue
        if len(own) < 2:
            continue
        row = {"arm": arm, "seeds": len(own), "mean": own.mean(), "sd": own.std(ddof=1)}
        row |= dict(zip(("low", "high"), t_interval(own)))
        if d is not None:
            c = about(d)
            row |= {"difference": c.estimate, "from": c.interval95[0], "to": c.interval95[1]}
            row |= {"t": paired_t(d).p, "wilcoxon": wilcoxon(d).p if np.any(d) else 1.0, "mde": c.mde}
        rows.append(row)
    table = pd.DataFrame(rows).set_index("arm")
    tested = table["t"].notna() if "t" in table else pd.Series(False, index=table.index)
    table.loc[tested, "holm"] = holm(table.loc[tested, "t"])
    return table


# --- words -----------------------------------------------------------------------------------------------------------


def number(x: float, digits: int = 3) -> str:
    """Return .123 for .1234; a number that rounds to 0 is 0."""
    if not np.isfinite(x):
        return "not defined"
    text = f"{abs(x):.{digits}f}"
    if float(text) == 0:
        return "0"
    return ("−" if x < 0 else "") + text.removeprefix("0")


def signed(x: float, digits: int = 3) -> str:
    """Return +.123 or −.123."""
    text = number(x, digits)
    return text if text[0] in "−n" or text == "0" else f"+{text}"


def spanned(c: PairedComparison, digits: int = 3) -> str:
    """Return +.012 [−.003, +.027]: estimate and 95 % interval."""
    low, high = c.interval95
    return f"{signed(c.estimate, digits)} [{signed(low, digits)}, {signed(high, digits)}]"


def said(c: PairedComparison, digits: int = 3, up: str = "higher", down: str = "lower") -> str:
    """Return what one comparison allows to be said."""
    if c.sd == 0 and c.estimate == 0:
        return "no difference at all"
    low, high = c.interval95
    if low > 0 or high < 0:
        return f"{up if low > 0 else down}, {spanned(c, digits)}"
    return f"no difference resolved (at most {number(max(-low, high), digits)} either way)"


@dataclass(frozen=True)
class Sorted:
    """Names of comparisons that lie above 0, below 0, and neither; most: the largest difference left open there."""

    above: tuple[str, ...]
    below: tuple[str, ...]
    neither: tuple[str, ...]
    most: float

    def phrase(self, up: str = "higher", down: str = "lower", digits: int = 3) -> str:
        """Return "higher: a and b; no difference resolved: c (at most .020 either way)". Many that are not resolved are
        counted, not named."""
        parts = [f"{w}: {listed(n)}" for w, n in ((up, self.above), (down, self.below)) if n]
        if self.neither:
            n = len(self.neither)
            few = listed(self.neither) if n <= 3 else f"the other {n}" if parts else f"all {n}"
            parts.append(f"no difference resolved: {few} (at most {number(self.most, digits)} either way)")
        return "; ".join(parts)


def sort_out(comparisons: Mapping[str, PairedComparison]) -> Sorted:
    """Sort comparisons by their 95 % intervals and Holm's correction over all of them together."""
    names = list(comparisons)
    p = dict(zip(names, holm([_p(comparisons[n]) for n in names])))
    above = tuple(n for n in names if comparisons[n].interval95[0] > 0 and p[n] <= ALPHA)
    below = tuple(n for n in names if comparisons[n].interval95[1] < 0 and p[n] <= ALPHA)
    neither = tuple(n for n in names if n not in above + below)
    most = max((abs(x) for n in neither for x in comparisons[n].interval95), default=0.0)
    return Sorted(above, below, neither, float(most))


def _p(c: PairedComparison) -> float:
    return c.p if np.isfinite(c.p) else 1.0  # equal values have no t-test


def listed(names: Iterable[str]) -> str:
    """Return "a, b and c", or "none"."""
    *most, last = list(names) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def counted(n: int, of: int) -> str:
    """Return "none of 5", "3 of 5", "all 5"."""
    return f"none of {of}" if n == 0 else f"all {of}" if n == of else f"{n} of {of}"


# --- verdicts --------------------------------------------------------------------------------------------------------


def claims_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """Return what each claim says, as registered: one row a claim."""
    return pd.DataFrame(
        {
            "claim": c.id, "statement": c.statement, "the paper": str(c.paper_value), "source": c.source,
            "would refute it": c.falsifier,
        }
        for c in claims
    ).set_index("claim")  # fmt: skip


def verdict_table(rows: Iterable[Row], claims: Iterable[str] | None = None) -> pd.DataFrame:
    """Return findings in short, one row a claim and scope: verdict, estimate with its interval, reason.

    claims: the ids that are wanted, all by default.
    """
    wanted = None if claims is None else set(claims)
    return pd.DataFrame(
        {"claim": r.id, "on": r.scope, "verdict": r.status, ESTIMATE: _estimated(r), "reason": r.reason}
        for r in rows
        if wanted is None or r.id in wanted
    ).set_index(["claim", "on"])


def ledger_table(rows: Iterable[Row]) -> pd.DataFrame:
    """Return findings in full: one row a claim and scope, "-" for what a verdict does not have."""
    return pd.DataFrame(
        {
            "claim": r.id, "on": r.scope, "verdict": r.status, ESTIMATE: _estimated(r),
            "p": "<.001" if r.p is not None and r.p < 0.0005 else _shown(r.p),
            "seeds": "-" if r.seeds is None else r.seeds, "MDE": _shown(r.mde),
            "margin": "-" if r.margin is None else registered(r.margin), "reason": r.reason,
        }
        for r in rows
    ).set_index(["claim", "on"])  # fmt: skip


def named(rows: Iterable[Row]) -> str:
    """Return "C1 (world), C2 (corpus)", or "none"."""
    return ", ".join(dict.fromkeys(f"{r.id} ({r.scope.partition(':')[0]})" for r in rows)) or "none"


def underpowered(rows: Iterable[Row]) -> list[Row]:
    """Return the lines whose runs detect, in at least one setting, only effects larger than the margin."""
    return [r for r in rows if r.mde is not None and r.margin and r.mde > r.margin]


def registered(margin: float) -> str:
    """Return .030 for .03, but .0075 for .0075: a margin is registered, not measured."""
    return number(margin, 3 if abs(round(margin, 3) - margin) < 1e-9 else 4)


def _estimated(r: Row) -> str:
    if r.interval is None or r.estimate is None:
        return _shown(r.estimate)
    return f"{signed(r.estimate)} [{', '.join(signed(x) for x in r.interval)}]"


def _shown(x: float | None) -> str:
    if x is None or np.isnan(x):
        return "-"
    return number(x) if abs(x) < 10 else f"{x:,.0f}".replace("-", "−")


# --- trends and shares -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trend:
    """Mean over seeds of Spearman's rank correlation between a setting and a reading, and its interval."""

    rho: float
    interval: Interval
    seeds: int
    flat: bool = False  # every seed reads the same at all levels

    @property
    def word(self) -> str:
        if self.interval[0] > 0:
            return "rises"
        return "falls" if self.interval[1] < 0 else "shows no resolved trend"

    def __str__(self) -> str:
        if self.flat:
            return "is the same at every level"
        low, high = (signed(x, 2) for x in self.interval)
        return f"{self.word} (rank correlation {signed(self.rho, 2)} [{low}, {high}])"


def trend(levels: Sequence[float], readings: Sequence[Mapping[int, float]]) -> Trend:
    """Return the trend of readings[k] (by seed) over levels[k], on the seeds that all levels have.

    A seed whose readings are all equal has correlation 0. Raises EvaluationError for fewer than two common seeds.
    """
    from scipy.stats import rankdata

    common = sorted(set.intersection(*(set(r) for r in readings)))
    if len(common) < 2 or len(levels) != len(readings) or len(levels) < 3:
        raise EvaluationError(f"trend: {len(levels)} levels, {len(readings)} readings, {len(common)} common seeds")
    x, rhos = rankdata(levels), []
    ranks = [rankdata([r[seed] for r in readings]) for seed in common]
    for y in ranks:
        rhos.append(float(np.corrcoef(x, y)[0, 1]) if y.std() > 0 else 0.0)
    interval = t_interval(rhos)
    bounded = max(interval[0], -1.0), min(interval[1], 1.0)
    return Trend(float(np.mean(rhos)), bounded, len(common), all(y.std() == 0 for y in ranks))


@dataclass(frozen=True)
class Share:
    """How many of n, with Wilson's interval."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n

    @property
    def interval(self) -> Interval:
        return wilson_interval(self.hits, self.n)

    def against(self, chance: float = 0.5) -> str:
        """Return "above chance", "below chance" or "not told from chance", with the count."""
        if self.n == 0:
            return "nothing found to be counted"
        low, high = self.interval
        word = "above chance" if low > chance else "below chance" if high < chance else "not told from chance"
        return f"{word}, {self.hits} of {self.n}"
