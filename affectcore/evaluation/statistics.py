"""How sure may we be? Paired comparisons over seeds, groups and items; tests, corrections, effect sizes, resolution.

Everything is paired: two models are compared on the same seeds, masks and items, so what they share cancels.
Differences are oriented such that positive means "a is better". Random draws take a generator from
`affectcore.streams.rng`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import Floats, choice, finite, same_shape

Interval = tuple[float, float]
Level = Literal["seeds", "groups", "items"]
LEVELS: tuple[Level, ...] = ("seeds", "groups", "items")
EXACT_PERMUTATION = 20  # up to 2^20 sign patterns are enumerated


class PairedTest(NamedTuple):
    """A statistic, its two-sided p-value and the number of pairs it rests on."""

    statistic: float
    p: float
    n: int


def _differences(differences: ArrayLike, at_least: int = 1) -> Floats:
    d = finite(differences, "differences", 1)
    if len(d) < at_least:
        raise EvaluationError(f"differences needs at least {at_least} pairs, got {len(d)}")
    return d


def _fraction(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise EvaluationError(f"{name} must lie between 0 and 1, got {value}")


# --- tests on paired differences -----------------------------------------------------------------------------------


def paired_t(differences: ArrayLike) -> PairedTest:
    """Return Student's t-test of mean difference 0. Equal differences give p = 0, or 1 if they are all 0."""
    d = _differences(differences, 2)
    return _t_test(float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d))), len(d) - 1, len(d))


def _t_test(mean: float, error: float, freedom: float, n: int) -> PairedTest:
    if error <= 1e-15 * abs(mean) or error == 0:  # no spread beyond rounding
        return PairedTest(0.0, 1.0, n) if mean == 0 else PairedTest(float(np.copysign(np.inf, mean)), 0.0, n)
    t = mean / error
    return PairedTest(t, float(2 * stats.t.sf(abs(t), freedom)), n)


def corrected_resampled_t(differences: ArrayLike, *, n_train: int, n_test: int) -> PairedTest:
    """Return the t-test for repeated random splits of one data set (Nadeau and Bengio 2003).

    The splits share training samples, so the variance of the mean is (1/k + n_test/n_train) s^2 and not s^2/k.
    """
    d = _differences(differences, 2)
    if n_train < 1 or n_test < 1:
        raise EvaluationError(f"n_train and n_test must be at least 1, got {n_train} and {n_test}")
    error = float(d.std(ddof=1) * np.sqrt(1 / len(d) + n_test / n_train))
    return _t_test(float(d.mean()), error, len(d) - 1, len(d))


def wilcoxon(differences: ArrayLike) -> PairedTest:
    """Return Wilcoxon's signed-rank test, zeros dropped; exact up to 50 pairs without ties, else approximate."""
    d = _differences(differences)
    d = d[d != 0]
    if len(d) == 0:
        return PairedTest(0.0, 1.0, 0)
    ties = len(np.unique(np.abs(d))) < len(d)
    out = stats.wilcoxon(d, method="approx" if ties or len(d) > 50 else "exact")
    return PairedTest(float(out.statistic), float(out.pvalue), len(d))


def permutation(differences: ArrayLike, rng: np.random.Generator | None = None, *, draws: int = 20_000) -> PairedTest:
    """Return the sign-flip permutation test of the mean difference, two-sided.

    Exact up to 20 pairs (all 2^n sign patterns; the smallest p is 2^(1-n): with 5 seeds .0625, with 10 .00195). Above,
    `draws` random patterns from `rng`, and p = (1 + hits) / (1 + draws).
    """
    d = _differences(differences)
    seen = abs(d.sum()) - 1e-12 * np.abs(d).sum()  # equal sums in another order differ by rounding, also near 0
    if len(d) <= EXACT_PERMUTATION:
        sums = np.zeros(1)
        for x in d:  # every sum of +-d, by doubling
            sums = np.concatenate([sums + x, sums - x])
        return PairedTest(float(d.mean()), float((np.abs(sums) >= seen).mean()), len(d))
    if rng is None:
        raise EvaluationError(f"{len(d)} pairs are too many for the exact permutation test, give a generator")
    hits = 0
    for part in np.array_split(np.arange(draws), max(1, draws * len(d) // 5_000_000)):
        signs = rng.integers(0, 2, (len(part), len(d)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ d) >= seen).sum())
    return PairedTest(float(d.mean()), (1 + hits) / (1 + draws), len(d))


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> PairedTest:
    """Return the exact McNemar test on two models' right (1) and wrong (0) answers to the same items.

    The statistic is the share of discordant items that `a` has right; items that both have right or both wrong say
    nothing. Items must be independent: for utterances of one video use `hierarchical_bootstrap`.
    """
    a, b = finite(correct_a, "correct_a", 1), finite(correct_b, "correct_b", 1)
    same_shape(a, b, "correct_a and correct_b")
    if not np.isin(np.concatenate([a, b]), (0, 1)).all():
        raise EvaluationError("correct_a and correct_b must hold 0 or 1")
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    if only_a + only_b == 0:
        return PairedTest(0.5, 1.0, 0)
    out = stats.binomtest(only_a, only_a + only_b, 0.5)
    return PairedTest(float(out.statistic), float(out.pvalue), only_a + only_b)


def wilson_interval(hits: int, n: int, level: float = 0.95) -> Interval:
    """Return Wilson's interval of a share, for counts of independent items (a rare class's recall)."""
    if not 0 <= hits <= n or n < 1:
        raise EvaluationError(f"hits must lie in 0..n with n at least 1, got {hits} of {n}")
    _fraction(level, "level")
    out = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    return float(out.low), float(out.high)


# --- many tests ----------------------------------------------------------------------------------------------------


def _p_values(p: ArrayLike) -> Floats:
    x = finite(p, "p", 1)
    if x.min() < 0 or x.max() > 1:
        raise EvaluationError(f"p must lie in [0, 1], got {x.min():g}..{x.max():g}")
    return x


def holm(p: ArrayLike) -> Floats:
    """Return Holm's step-down adjusted p-values, in the order given: the chance of any false discovery stays below
    alpha.
    """
    x = _p_values(p)
    order = np.argsort(x, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(x[order] * np.arange(len(x), 0, -1)))
    out = np.empty_like(x)
    out[order] = adjusted
    return out


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Return Benjamini-Hochberg adjusted p-values: the expected share of false discoveries stays below alpha."""
    return np.asarray(stats.false_discovery_control(_p_values(p), method="bh"), dtype=np.float64)


# --- effect sizes --------------------------------------------------------------------------------------------------


def cohen_d_paired(differences: ArrayLike) -> float:
    """Return d_z = mean / sd of the paired differences (0 if all are 0, infinite if equal and not 0)."""
    d = _differences(differences, 2)
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    if sd <= 1e-15 * abs(mean) or sd == 0:
        return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
    return mean / sd


def a12(a: ArrayLike, b: ArrayLike) -> float:
    """Return P(a > b) + P(a = b) / 2 for one random value of each: Vargha and Delaney's A12, 0.5 is no difference."""
    x, y = finite(a, "a", 1), finite(b, "b", 1)
    ranks = stats.rankdata(np.concatenate([x, y]))
    return float((ranks[: len(x)].sum() - len(x) * (len(x) + 1) / 2) / (len(x) * len(y)))


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """Return P(a > b) - P(a < b) in [-1, 1] = 2 A12 - 1. It ignores the pairing."""
    return 2 * a12(a, b) - 1


# --- resolution ----------------------------------------------------------------------------------------------------


def power(effect: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided paired t-test on n pairs finds a true mean difference `effect` (noncentral t).

    sd is that of the paired differences. Either sign counts as found, so the power at effect 0 is alpha.
    """
    if n < 2 or not sd > 0:
        raise EvaluationError(f"power needs n >= 2 and sd > 0, got n = {n}, sd = {sd}")
    _fraction(alpha, "alpha")
    shift = abs(effect) / sd * np.sqrt(n)
    cut = stats.t.isf(alpha / 2, n - 1)
    upper = stats.nct.sf(cut, n - 1, shift)
    lower = stats.nct.cdf(-cut, n - 1, shift)
    return float(upper + np.nan_to_num(lower))  # SciPy gives NaN where the far tail underflows


def minimal_detectable_effect(sd: float, n: int, *, alpha: float = 0.05, target: float = 0.8) -> float:
    """Return the least true mean difference that a paired t-test on n pairs finds with power `target` (MDE).

    sd is that of the paired differences; the unit is the metric's. NaN for n < 2, 0 for sd = 0.
    """
    _fraction(target, "target power")
    if sd < 0 or not np.isfinite(sd):
        raise EvaluationError(f"sd must be at least 0, got {sd}")
    if n < 2:
        return float("nan")
    return sd * _unit_effect(n, alpha, target)


@cache
def _unit_effect(n: float, alpha: float, target: float) -> float:
    if target <= alpha:
        raise EvaluationError(f"target power {target} must exceed alpha {alpha}")
    guess = (stats.t.isf(alpha / 2, n - 1) + stats.t.isf(1 - target, n - 1)) / np.sqrt(n)
    return float(brentq(lambda d: power(d, 1.0, int(n), alpha=alpha) - target, 0.0, 2 * guess + 1, xtol=1e-9))


def sample_size(sd: float, margin: float, *, alpha: float = 0.05, target: float = 0.8, most: int = 100_000) -> int:
    """Return the fewest pairs (seeds) for which the MDE is at most `margin`. Raises EvaluationError above `most`."""
    if not margin > 0:
        raise EvaluationError(f"margin must be above 0, got {margin}")
    if sd == 0:
        return 2
    low, high = 2, 2
    while minimal_detectable_effect(sd, high, alpha=alpha, target=target) > margin:
        low, high = high, high * 2
        if low > most:
            raise EvaluationError(f"more than {most} pairs would be needed for margin {margin:g} at sd {sd:g}")
    while low < high:
        middle = (low + high) // 2
        if minimal_detectable_effect(sd, middle, alpha=alpha, target=target) <= margin:
            high = middle
        else:
            low = middle + 1
    return high


# --- bootstrap -----------------------------------------------------------------------------------------------------


def bootstrap_interval(
    differences: ArrayLike,
    rng: np.random.Generator,
    *,
    method: Literal["percentile", "bca"] = "bca",
    level: float = 0.95,
    draws: int = 9_999,
) -> Interval:
    """Return SciPy's bootstrap interval of the mean of independent differences (one level: seeds, or items).

    Below about 20 pairs both methods are too narrow (10 normal pairs: near 90 % for a nominal 95 %); `t_interval` is
    not.
    """
    choice(method, ("percentile", "bca"), "method")
    _fraction(level, "level")
    d = _differences(differences, 2)
    if np.ptp(d) == 0:
        return float(d[0]), float(d[0])
    out = stats.bootstrap((d,), np.mean, n_resamples=draws, confidence_level=level, method=method, rng=rng, batch=1000)
    return float(out.confidence_interval.low), float(out.confidence_interval.high)


def t_interval(differences: ArrayLike, level: float = 0.95) -> Interval:
    """Return Student's interval of the mean difference."""
    _fraction(level, "level")
    d = _differences(differences, 2)
    half = stats.t.isf((1 - level) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return float(d.mean() - half), float(d.mean() + half)


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> Interval:
    """Return the central interval that holds `level` of the draws."""
    _fraction(level, "level")
    low, high = np.quantile(finite(draws, "draws", 1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _group_rows(groups: ArrayLike | None, n: int, levels: Sequence[str]) -> list[NDArray[np.intp]]:
    unknown = [x for x in levels if x not in LEVELS]
    if unknown or not levels:
        raise EvaluationError(f"bootstrap level {unknown} is unknown, use some of {', '.join(LEVELS)}")
    if groups is None:
        if "groups" in levels:
            raise EvaluationError("levels name groups, but no groups were given")
        return [np.arange(n)]
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    if codes.shape != (n,):
        raise EvaluationError(f"groups must have shape ({n},), got {codes.shape}")
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def item_weights(
    rows: list[NDArray[np.intp]], levels: Sequence[str], draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how often every item is drawn, (draws, N): groups with replacement, then items within each drawn group."""
    n = sum(map(len, rows))
    g = len(rows)
    times = rng.multinomial(g, np.full(g, 1 / g), size=draws) if "groups" in levels else np.ones((draws, g), np.int64)
    out = np.empty((draws, n), np.int64)
    for k, members in enumerate(rows):
        size = len(members)
        if "items" in levels:  # a group drawn twice draws its items twice, independently
            out[:, members] = rng.multinomial(size * times[:, k], np.full(size, 1 / size))
        else:
            out[:, members] = times[:, k, None]
    return out


def hierarchical_bootstrap(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    levels: Sequence[Level] | None = None,
    draws: int = 2_000,
) -> Floats:
    """Return bootstrap draws (draws,) of the mean of `values` (S, N): S seeds, N test items that all seeds share.

    Seeds and items are crossed, items lie in groups (videos, speakers). Each draw takes seeds, groups, and items within
    the drawn groups, with replacement, as far as `levels` names them; the mean is over drawn seeds and items. Pass the
    paired difference of per-item scores to compare two models.

    Default levels: seeds x groups with groups, seeds x items without. A drawn group carries the noise of its items
    along, so drawing items again counts that noise twice: in simulation all three levels cover 92 to 99 % at a nominal
    95 %, with intervals up to 40 % wider, seeds x groups 92 to 95 %, items alone 35 to 94 % (Davison and Hinkley 1997,
    section 3.8; Owen 2007; the chapter on statistics redraws this). With fewer than about 20 groups every choice is
    somewhat narrow. Cost: one (draws, N) integer matrix, in blocks of 500 draws.
    """
    x = finite(values, "values", 2)
    levels = _levels(groups, levels)
    rows = _group_rows(groups, x.shape[1], levels)
    out = []
    for part in np.array_split(np.arange(draws), max(1, draws // 500)):
        w = item_weights(rows, levels, len(part), rng).astype(np.float64)
        per_seed = w @ x.T / w.sum(1, keepdims=True)
        out.append(_over_seeds(per_seed, levels, rng))
    return np.concatenate(out)


def _levels(groups: ArrayLike | None, levels: Sequence[Level] | None) -> tuple[Level, ...]:
    if levels is None:
        return ("seeds", "items") if groups is None else ("seeds", "groups")
    return tuple(levels)


def _over_seeds(per_seed: Floats, levels: Sequence[str], rng: np.random.Generator) -> Floats:
    s = per_seed.shape[1]
    if "seeds" not in levels:
        return per_seed.mean(1)
    chosen = rng.multinomial(s, np.full(s, 1 / s), size=len(per_seed))
    return (chosen * per_seed).sum(1) / s


def hierarchical_bootstrap_metric(
    metric: Callable[[NDArray[Any], NDArray[Any]], float],
    target: ArrayLike,
    prediction_a: ArrayLike,
    prediction_b: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    levels: Sequence[Level] | None = None,
    draws: int = 2_000,
) -> Floats:
    """Return bootstrap draws (draws,) of metric(a) - metric(b) for any metric, by resampling rows.

    target (N, ...); prediction_a, prediction_b (S, N, ...), paired by seed. The metric is computed per drawn seed on
    the same drawn items, then averaged over seeds: S x draws x 2 calls. For means of per-item scores
    `hierarchical_bootstrap` gives the same and is far faster.
    """
    y, a, b = np.asarray(target), np.asarray(prediction_a), np.asarray(prediction_b)
    same_shape(a, b, "prediction_a and prediction_b")
    if a.ndim < 2 or a.shape[1] != len(y):
        raise EvaluationError(f"predictions must have shape (seeds, {len(y)}, ...), got {a.shape}")
    levels = _levels(groups, levels)
    rows = _group_rows(groups, len(y), levels)
    seeds, out = np.arange(len(a)), np.empty(draws)
    for i in range(draws):
        take = np.repeat(np.arange(len(y)), item_weights(rows, levels, 1, rng)[0])
        drawn = rng.integers(0, len(a), len(a)) if "seeds" in levels else seeds
        which, times = np.unique(drawn, return_counts=True)
        values = [metric(y[take], a[s][take]) - metric(y[take], b[s][take]) for s in which]
        out[i] = np.average(values, weights=times)
    return out


# --- the comparison of two models ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedComparison:
    """The difference a - b, oriented so that positive means a is better, and how sure of it we may be.

    estimate, intervals, sd and mde are in the metric's unit. sd is that of the per-seed differences (NaN for one seed),
    mde the least true difference found with power .8 at two-sided alpha .05, p two-sided and not corrected for other
    tests. method says where interval and p come from.
    """

    estimate: float
    interval95: Interval
    interval90: Interval
    p: float
    method: str
    n_seeds: int
    sd: float
    mde: float
    effect_size: float
    wins: int
    n_items: int | None = None
    n_groups: int | None = None

    @property
    def above_zero(self) -> bool:
        """The 95 % interval lies wholly above 0."""
        return self.interval95[0] > 0

    def below(self, margin: float) -> bool:
        """The 90 % interval lies wholly below the margin."""
        return self.interval90[1] < margin


def _by_seed(d: Floats) -> tuple[float, float, int]:
    if len(d) < 2:
        return float("nan"), float("nan"), int((d > 0).sum())
    return float(d.std(ddof=1)), cohen_d_paired(d), int((d > 0).sum())


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    higher_is_better: bool = True,
    method: Literal["t", "percentile", "bca"] = "t",
    rng: np.random.Generator | None = None,
) -> PairedComparison:
    """Return the comparison of two models' scores (S,), paired by seed.

    What varies is the seed, with all that hangs on it (on a world also the drawn data). On a fixed test set it says
    nothing about other test items: use `compare_items`. method "t": Student's interval and t-test. "percentile", "bca":
    the bootstrap interval over seeds with the exact sign-flip permutation p (`rng` needed).
    """
    choice(method, ("t", "percentile", "bca"), "method")
    x, y = finite(a, "a", 1), finite(b, "b", 1)
    same_shape(x, y, "a and b")
    if len(x) < 2:
        raise EvaluationError(f"a paired comparison needs at least 2 seeds, got {len(x)}")
    d = x - y if higher_is_better else y - x
    sd, effect, wins = _by_seed(d)
    if method == "t":
        p, i95, i90 = paired_t(d).p, t_interval(d, 0.95), t_interval(d, 0.90)
    else:
        if rng is None:
            raise EvaluationError(f"method {method!r} needs a generator")
        p = permutation(d, rng).p
        i95, i90 = (bootstrap_interval(d, rng, method=method, level=x) for x in (0.95, 0.90))
    mde = minimal_detectable_effect(sd, len(d))
    return PairedComparison(float(d.mean()), i95, i90, p, method, len(d), sd, mde, effect, wins)


def compare_items(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    levels: Sequence[Level] | None = None,
    higher_is_better: bool = True,
    draws: int = 2_000,
) -> PairedComparison:
    """Return the comparison of two models' per-item scores (S, N), by the hierarchical bootstrap over `levels`.

    For metrics that are means over items: rightness 0/1, absolute error, a per-item loss. Intervals are percentiles of
    the draws; p is twice the smaller tail, (1 + hits) / (1 + draws); mde is (1.96 + 0.84) standard errors of the draws.
    """
    x, y = finite(a, "a", 2), finite(b, "b", 2)
    same_shape(x, y, "a and b")
    d = x - y if higher_is_better else y - x
    sample = hierarchical_bootstrap(d, rng, groups=groups, levels=levels, draws=draws)
    return from_draws(sample, d.mean(1), d.shape[1], _count(groups), _levels(groups, levels))


def compare_metric(
    metric: Callable[[NDArray[Any], NDArray[Any]], float],
    target: ArrayLike,
    prediction_a: ArrayLike,
    prediction_b: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    levels: Sequence[Level] | None = None,
    higher_is_better: bool = True,
    draws: int = 1_000,
) -> PairedComparison:
    """Return the comparison of two models' predictions (S, N, ...) under any metric, by resampling rows.

    As `compare_items`, for metrics that are no mean over items: F1, balanced accuracy, AUROC, correlation.
    """
    sign = 1.0 if higher_is_better else -1.0
    y, x, z = np.asarray(target), np.asarray(prediction_a), np.asarray(prediction_b)
    sample = sign * hierarchical_bootstrap_metric(metric, y, x, z, rng, groups=groups, levels=levels, draws=draws)
    by_seed = sign * np.array([metric(y, p) - metric(y, q) for p, q in zip(x, z)])
    return from_draws(sample, by_seed, len(y), _count(groups), _levels(groups, levels))


def _count(groups: ArrayLike | None) -> int | None:
    return None if groups is None else len(np.unique(np.asarray(groups)))


def from_draws(
    sample: Floats, by_seed: Floats, n_items: int, n_groups: int | None, levels: Sequence[str]
) -> PairedComparison:
    """Return the comparison from bootstrap draws (R,) of the difference and its values per seed (S,)."""
    sd, effect, wins = _by_seed(by_seed)
    tail = min(int((sample <= 0).sum()), int((sample >= 0).sum()))
    p = min(1.0, 2 * (1 + tail) / (1 + len(sample)))
    mde = float((stats.norm.isf(0.025) + stats.norm.isf(0.2)) * sample.std(ddof=1))
    i95, i90 = percentile_interval(sample, 0.95), percentile_interval(sample, 0.90)
    method = "bootstrap over " + " x ".join(levels)
    return PairedComparison(
        float(by_seed.mean()), i95, i90, p, method, len(by_seed), sd, mde, effect, wins, n_items, n_groups
    )
