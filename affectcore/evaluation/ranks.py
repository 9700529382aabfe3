"""Average ranks of models over blocks (data set x stressor), and which differences of them can be told from chance.

    found = rank(losses, models)            # losses (seeds, blocks, models): lower is better
    found.cliques                           # models that no test tells apart, by rank

A block is one column of competition: all models, one data set, one stressor. Ranks are of means over seeds; ties share
their mean rank. Friedman's test asks whether any model differs at all (Demsar, JMLR 7, 2006). Pairs are compared by
Wilcoxon's signed-rank test over blocks, Holm-corrected, and not by Nemenyi's critical difference, which makes a
verdict on two models depend on which others take part (Benavoli, Corani and Mangili, JMLR 17(5), 2016).

Both tests take blocks as independent. Blocks of one data set share their trained models, so they are not, and the
p-values come out too small: read the cliques as the smallest set of models that must not be told apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import Floats, finite
from affectcore.evaluation.statistics import holm, percentile_interval, wilcoxon


@dataclass(frozen=True)
class Ranking:
    """models: best first, with mean rank, its interval over seeds (M, 2), and `cliques`: runs of neighbours, first and
    last position, within which no pair differs. p: Friedman's; pairs_p: Holm-adjusted, by position (M, M).
    """

    models: tuple[str, ...]
    mean: Floats
    interval: Floats
    p: float
    pairs_p: Floats
    cliques: tuple[tuple[int, int], ...]
    blocks: int
    seeds: int


def mean_ranks(losses: ArrayLike) -> Floats:
    """Return the mean rank of every model over blocks, from losses (blocks, models); 1 is best, ties share a rank."""
    x = finite(losses, "losses", 2)
    return np.asarray(stats.rankdata(x, axis=1).mean(0))


def friedman(losses: ArrayLike) -> float:
    """Return the p-value of Friedman's test, 1 where all models tie in every block. Needs 3 models and 2 blocks."""
    x = finite(losses, "losses", 2)
    if x.shape[0] < 2 or x.shape[1] < 3:
        raise EvaluationError(f"friedman: needs 2 blocks and 3 models or more, got {x.shape[0]} and {x.shape[1]}")
    if (x == x[:, :1]).all():
        return 1.0
    return float(stats.friedmanchisquare(*x.T).pvalue)


def rank(losses: ArrayLike, models: Sequence[str], *, alpha: float = 0.05, draws: int = 2000) -> Ranking:
    """Return the ranking of models by losses (seeds, blocks, models). Raises EvaluationError for what does not fit.

    The interval of a mean rank: seeds drawn with replacement, `draws` times, the same for all models, means over the
    drawn seeds ranked anew. It says what other seeds would do on these blocks, not what other data would.
    """
    x = finite(losses, "losses", 3)
    if x.shape[2] != len(models) or len(set(models)) != len(models):
        raise EvaluationError(f"rank: losses of {x.shape[2]} models, but {len(set(models))} distinct names")
    if not 0 < alpha < 1:
        raise EvaluationError(f"rank: alpha = {alpha} must lie between 0 and 1")
    mean, p = mean_ranks(x.mean(0)), friedman(x.mean(0))
    order = np.argsort(mean, kind="stable")
    rng = np.random.default_rng(0)
    drawn = [mean_ranks(x[rng.integers(len(x), size=len(x))].mean(0)) for _ in range(draws if len(x) > 1 else 1)]
    interval = np.array([percentile_interval(column) for column in np.array(drawn).T])[order]
    pairs = pairwise(x.mean(0)[:, order])
    return Ranking(
        tuple(models[i] for i in order), mean[order], interval, p, pairs, cliques(pairs >= alpha), x.shape[1], len(x)
    )


def pairwise(losses: ArrayLike) -> Floats:
    """Return the Holm-adjusted p-values of Wilcoxon's test over blocks, of every pair of models, (M, M)."""
    x = finite(losses, "losses", 2)
    where = list(combinations(range(x.shape[1]), 2))
    adjusted = holm([wilcoxon(x[:, i] - x[:, j]).p for i, j in where])
    out = np.ones((x.shape[1], x.shape[1]))
    for (i, j), p in zip(where, adjusted):
        out[i, j] = out[j, i] = p
    return out


def cliques(alike: ArrayLike) -> tuple[tuple[int, int], ...]:
    """Return the largest runs (first, last) of two positions or more within which all pairs are alike, (M, M) bool."""
    a = np.asarray(alike, dtype=bool)
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise EvaluationError(f"cliques: alike must be square, got {a.shape}")
    runs: list[tuple[int, int]] = []
    for first in range(len(a)):
        last = first
        while last + 1 < len(a) and a[first : last + 2, first : last + 2].all():
            last += 1
        if last > first and not (runs and runs[-1][1] >= last):
            runs.append((first, last))
    return tuple(runs)
