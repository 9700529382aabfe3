"""What a test set and a number of seeds can resolve, before anything is run: two accuracies, or any mean of rightness.

`statistics.minimal_detectable_effect` asks what a number of seeds finds on a fixed test set. Here the conclusion is to
hold for other test items too. Two models differ only on the items where exactly one of them is right; their share is
the discordance, and it is the variance of the difference of one item (less the squared difference, which is left out:
that makes the answers a little cautious). As in `statistics.from_draws`, what is detectable is a number of standard
errors: the normal quantiles of the level and of the power, added. The book's power calculator computes the same in the
browser.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import finite


def detectable_errors(alpha: float = 0.05, target: float = 0.8) -> float:
    """Return how many standard errors a true difference must be, to be found at level `alpha` with power `target`."""
    if not 0 < alpha < target < 1:
        raise EvaluationError(f"alpha and target power must fulfil 0 < alpha < target < 1, got {alpha} and {target}")
    return float(stats.norm.isf(alpha / 2) + stats.norm.isf(1 - target))


@dataclass(frozen=True)
class Disagreement:
    """How two models disagree on a test set.

    discordance: share of items on which exactly one is right, mean over seeds. stable: the share of it that is the same
    in every seed. seed_sd: standard deviation over seeds of the difference on this test set.
    """

    discordance: float
    stable: float
    seed_sd: float


def disagreement(differences: ArrayLike) -> Disagreement:
    """Return how two models disagree, from differences (S, N) of rightness, each -1, 0 or 1; S seeds, at least two.

    The sign of a whole column (an item) touches `discordance` and `stable` not at all, so both can be had from two
    models' decisions between two classes without the target; `seed_sd` then means nothing.
    """
    d = finite(differences, "differences", 2)
    if len(d) < 2:
        raise EvaluationError(f"differences must hold at least 2 seeds, got {len(d)}")
    if not np.isin(d, (-1, 0, 1)).all():
        raise EvaluationError("differences must hold -1, 0 or 1")
    square, seeds = float((d**2).mean()), len(d)
    of_items = (float((d.mean(0) ** 2).mean()) - square / seeds) * seeds / (seeds - 1)
    stable = min(1.0, max(0.0, of_items / square)) if square else 1.0
    return Disagreement(square, stable, float(d.mean(1).std(ddof=1)))


@dataclass(frozen=True)
class Design:
    """A comparison of two models that is to hold for other items, and, with `seed_sd`, for other seeds.

    items, seeds, discordance, stable, seed_sd: see `Disagreement`; stable 1 is the cautious choice. groups: videos or
    speakers of equal size; alike: intraclass correlation of an item's difference within a group. Raises EvaluationError
    for a value out of its range.
    """

    items: int
    discordance: float
    seeds: int = 1
    seed_sd: float = 0.0
    stable: float = 1.0
    groups: int | None = None
    alike: float = 0.0

    def __post_init__(self) -> None:
        if self.items < 2 or self.seeds < 1:
            raise EvaluationError(f"items must be at least 2 and seeds 1, got {self.items} and {self.seeds}")
        if not 0 < self.discordance <= 1:
            raise EvaluationError(f"discordance must lie above 0 and at most at 1, got {self.discordance}")
        for name, value in (("stable", self.stable), ("alike", self.alike)):
            if not 0 <= value <= 1:
                raise EvaluationError(f"{name} must lie in 0..1, got {value}")
        if not 0 <= self.seed_sd < math.inf:
            raise EvaluationError(f"seed_sd must be at least 0, got {self.seed_sd}")
        if self.groups is not None and not 2 <= self.groups <= self.items:
            raise EvaluationError(f"groups must lie in 2..items, got {self.groups}")

    @property
    def item_variance(self) -> float:
        """The items' part of the squared error, times the number of items: discordance, grown by Kish's effect."""
        size = 1.0 if self.groups is None else self.items / self.groups
        return self.stable * self.discordance * (1 + (size - 1) * self.alike)

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(self.item_variance / self.items + self.seed_sd**2 / self.seeds)

    def detectable(self, *, alpha: float = 0.05, target: float = 0.8) -> float:
        """Return the least true difference that is found with power `target`."""
        return detectable_errors(alpha, target) * self.error

    def power(self, effect: float, *, alpha: float = 0.05) -> float:
        """Return the chance that a true difference `effect` is found; either sign counts."""
        cut, shift = stats.norm.isf(alpha / 2), abs(effect) / self.error
        return float(stats.norm.sf(cut - shift) + stats.norm.sf(cut + shift))

    def items_needed(self, margin: float, *, alpha: float = 0.05, target: float = 0.8) -> int | None:
        """Return the fewest items, in groups of the same size, that resolve `margin` with these seeds, or None.

        None: the seeds alone leave more than `margin`, and no number of items helps.
        """
        left = _allowed(margin, alpha, target) - self.seed_sd**2 / self.seeds
        return None if left <= 0 else max(2, math.ceil(self.item_variance / left))

    def seeds_needed(self, margin: float, *, alpha: float = 0.05, target: float = 0.8) -> int | None:
        """Return the fewest seeds that resolve `margin` with these items, or None where the items alone leave more."""
        left = _allowed(margin, alpha, target) - self.item_variance / self.items
        return None if left <= 0 else max(1, math.ceil(self.seed_sd**2 / left))


def _allowed(margin: float, alpha: float, target: float) -> float:
    """The squared standard error at which `margin` is just detectable."""
    if not margin > 0:
        raise EvaluationError(f"margin must be above 0, got {margin}")
    return (margin / detectable_errors(alpha, target)) ** 2
