"""Tests, corrections, effect sizes, resolution and bootstraps against SciPy, statsmodels, brute force, simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from affectcore.errors import EvaluationError
from affectcore.evaluation import statistics as s
from affectcore.evaluation.metrics import macro_f1
from affectcore.streams import rng

D = np.array([0.021, -0.004, 0.013, 0.030, 0.008, -0.011, 0.017, 0.002, 0.025, 0.006])


# --- tests ---------------------------------------------------------------------------------------------------------


def test_paired_t_and_interval_are_scipys():
    want = stats.ttest_1samp(D, 0)
    assert s.paired_t(D)[:2] == pytest.approx((want.statistic, want.pvalue))
    assert s.t_interval(D, 0.9) == pytest.approx(tuple(want.confidence_interval(0.9)))
    assert s.paired_t(np.zeros(5)).p == 1
    assert s.paired_t(np.full(5, 0.1)).p == 0


def test_corrected_resampled_t_by_hand():
    t = D.mean() / np.sqrt((1 / 10 + 300 / 700) * D.var(ddof=1))
    got = s.corrected_resampled_t(D, n_train=700, n_test=300)
    assert got[:2] == pytest.approx((t, 2 * stats.t.sf(t, 9)))
    assert got.p > s.paired_t(D).p


def test_wilcoxon():
    assert s.wilcoxon(D)[:2] == pytest.approx(tuple(stats.wilcoxon(D, method="exact")))
    signs = np.array(list(product([1, -1], repeat=10)))
    ranks = stats.rankdata(np.abs(D))
    plus = np.maximum(signs, 0) @ ranks
    seen = (np.sign(D) > 0) @ ranks
    brute = (np.abs(plus - 27.5) >= abs(seen - 27.5)).mean()
    assert s.wilcoxon(D).p == pytest.approx(brute)
    assert s.wilcoxon([0, 0, 0]).p == 1
    assert s.wilcoxon([0, 1, 2, 3]).n == 3


def test_exact_permutation_is_scipys():
    want = stats.permutation_test((D,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert s.permutation(D).p == pytest.approx(want.pvalue)
    assert s.permutation(np.abs(D) + 1).p == pytest.approx(2 / 1024)
    assert s.permutation(np.ones(5)).p == pytest.approx(2 / 32)
    assert s.permutation(np.zeros(5)).p == 1
    assert s.permutation([0.9, 0.7, -0.8, -0.1, -0.6, -0.1]).p == 1  # a sum of 0 but for rounding is in no tail


def test_random_permutation_is_near_the_exact_one():
    d = rng(0, "permutation").normal(0.3, 1, 24)
    exact = 2 * stats.norm.sf(abs(d.sum()) / np.sqrt((d**2).sum()))  # normal limit of the sign-flip sum
    assert s.permutation(d, rng(1, "permutation")).p == pytest.approx(exact, abs=0.03)
    with pytest.raises(EvaluationError, match="too many for the exact"):
        s.permutation(d)


def test_mcnemar_is_statsmodels():
    contingency_tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    r = rng(0, "mcnemar")
    a, b = r.random(200) < 0.7, r.random(200) < 0.62
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert s.mcnemar(a, b).p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)
    assert s.mcnemar(a, a).p == 1
    with pytest.raises(EvaluationError, match="0 or 1"):
        s.mcnemar([0.5, 1], [0, 1])


def test_wilson_interval_is_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    assert s.wilson_interval(3, 8) == pytest.approx(proportion.proportion_confint(3, 8, method="wilson"))
    assert s.wilson_interval(0, 8)[0] == 0


# --- corrections ---------------------------------------------------------------------------------------------------

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@settings(max_examples=20, deadline=None)
@given(P_VALUES)
def test_corrections_are_statsmodels(p):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert s.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert s.benjamini_hochberg(p) == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1])


@given(P_VALUES)
def test_corrections_are_monotone_and_ordered(p):
    order = np.argsort(p, kind="stable")
    holm, bh = s.holm(p), s.benjamini_hochberg(p)
    assert (np.diff(holm[order]) >= 0).all()
    assert (np.diff(bh[order]) >= -1e-12).all()
    assert (holm >= bh - 1e-12).all()
    assert (bh >= np.array(p) - 1e-12).all()
    assert (holm <= 1).all()


# --- effect sizes --------------------------------------------------------------------------------------------------


def test_effect_sizes_by_brute_force():
    assert s.cohen_d_paired(D) == pytest.approx(D.mean() / D.std(ddof=1))
    assert s.cohen_d_paired([0, 0]) == 0
    assert s.cohen_d_paired([1, 1]) == np.inf
    r = rng(0, "effect")
    a, b = r.integers(0, 5, 12), r.integers(0, 5, 9)
    greater, less = (a[:, None] > b).mean(), (a[:, None] < b).mean()
    assert s.cliffs_delta(a, b) == pytest.approx(greater - less)
    assert s.a12(a, b) == pytest.approx(greater + (a[:, None] == b).mean() / 2)


# --- resolution ----------------------------------------------------------------------------------------------------


def test_power_and_sample_size_are_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    for effect, n in ((0.3, 10), (1.0, 10), (0.2, 100), (2.5, 3)):
        want = power.power(effect, n, 0.05, alternative="two-sided")
        assert s.power(effect, 1.0, n) == pytest.approx(want, abs=1e-6)
    mde = s.minimal_detectable_effect(0.047, 10)
    assert mde / 0.047 == pytest.approx(power.solve_power(nobs=10, alpha=0.05, power=0.8), rel=1e-6)
    assert s.power(mde, 0.047, 10) == pytest.approx(0.8)
    n = power.solve_power(effect_size=0.02 / 0.047, alpha=0.05, power=0.8)
    assert s.sample_size(0.047, 0.02) == int(np.ceil(n))


def test_mde_shrinks_with_seeds_and_knows_its_edges():
    mde = [s.minimal_detectable_effect(1.0, n) for n in (2, 3, 5, 10, 20, 100, 10_000)]
    assert (np.diff(mde) < 0).all()
    assert np.isnan(s.minimal_detectable_effect(1.0, 1))
    assert s.minimal_detectable_effect(0.0, 5) == 0
    n = s.sample_size(1.0, 0.5)
    assert s.minimal_detectable_effect(1.0, n) <= 0.5 < s.minimal_detectable_effect(1.0, n - 1)
    with pytest.raises(EvaluationError, match="more than"):
        s.sample_size(1.0, 1e-6)


# --- bootstrap -----------------------------------------------------------------------------------------------------


def test_bootstrap_interval_is_scipys():
    want = stats.bootstrap((D,), np.mean, method="BCa", n_resamples=9_999, rng=np.random.default_rng(0))
    got = s.bootstrap_interval(D, rng(0, "bca"))
    assert got == pytest.approx(tuple(want.confidence_interval), abs=5e-4)
    assert s.bootstrap_interval(np.full(4, 0.2), rng(0, "bca")) == (0.2, 0.2)


def crossed(r, seeds, groups, per_group, seed_sd, group_sd, noise_sd, mean=0.0):
    """Return values (S, N) and group codes with known variance components."""
    code = np.repeat(np.arange(groups), per_group)
    seed, group = seed_sd * r.normal(size=(seeds, 1)), group_sd * r.normal(size=groups)[code]
    return mean + seed + group + noise_sd * r.normal(size=(seeds, len(code))), code


def naive_hierarchical_bootstrap(x, groups, levels, draws, r):
    """The definition, one draw and one item at a time: the twin that the fast form must agree with."""
    out = []
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    for _ in range(draws):
        seeds = r.integers(0, len(x), len(x)) if "seeds" in levels else np.arange(len(x))
        chosen = r.integers(0, len(members), len(members)) if "groups" in levels else np.arange(len(members))
        items = []
        for g in chosen:
            k = len(members[g])
            items.extend(members[g][r.integers(0, k, k)] if "items" in levels else members[g])
        out.append(np.mean([x[i, items].mean() for i in seeds]))
    return np.array(out)


@pytest.mark.parametrize("levels", [("seeds",), ("items",), ("groups",), ("seeds", "groups"), s.LEVELS])
def test_fast_bootstrap_has_the_distribution_of_the_naive_twin(levels):
    x, g = crossed(rng(0, "twin data"), 4, 6, 5, 0.5, 0.5, 1.0, mean=2.0)
    g[:4] = 5  # unequal groups, and a mean that is not 0: the number of drawn items varies and must be divided by
    fast = s.hierarchical_bootstrap(x, rng(1, "fast"), groups=g, levels=levels, draws=4_000)
    slow = naive_hierarchical_bootstrap(x, g, levels, 1_500, rng(2, "slow"))
    assert fast.shape == (4_000,)
    error = slow.std() * np.sqrt(1 / 1_500 + 1 / 4_000)
    assert abs(fast.mean() - slow.mean()) < 4 * error
    assert fast.std() == pytest.approx(slow.std(), rel=0.1)
    if levels != ("seeds",):  # seeds alone: a lattice of 35 values, which the KS test is not for
        assert stats.ks_2samp(fast, slow).pvalue > 1e-3


def test_item_weights_draw_the_right_totals():
    rows = [np.arange(0, 3), np.arange(3, 8), np.arange(8, 9)]
    w = s.item_weights(rows, ("items",), 50, rng(0, "weights"))
    assert [(w[:, r].sum(1) == len(r)).all() for r in rows] == [True] * 3
    w = s.item_weights(rows, ("groups",), 50, rng(0, "weights"))
    assert all((w[:, r] == w[:, r[:1]]).all() for r in rows)  # a group's items come together
    assert (sum(w[:, r[0]] for r in rows) == 3).all()


def test_bootstrap_covers_where_the_naive_item_bootstrap_does_not():
    r = rng(0, "coverage")
    hits = {("seeds", "groups"): 0, s.LEVELS: 0, ("items",): 0}
    for _ in range(80):
        x, g = crossed(r, 5, 30, 5, 0.02, 0.3, 0.3)
        for levels in hits:
            low, high = s.percentile_interval(s.hierarchical_bootstrap(x, r, groups=g, levels=levels, draws=200))
            hits[levels] += low <= 0 <= high
    assert hits[("seeds", "groups")] >= 66  # at 93 % coverage fewer than 66 of 80 has probability 1e-3
    assert hits[s.LEVELS] >= hits[("seeds", "groups")] - 3
    assert hits[("items",)] < 56


def test_metric_bootstrap_agrees_with_the_fast_one_on_a_mean_metric():
    r = rng(0, "metric")
    y = r.integers(0, 2, 60)
    a, b = (np.where(r.random((3, 60)) < q, y, 1 - y) for q in (0.8, 0.7))
    g = np.arange(60) // 6
    slow = s.hierarchical_bootstrap_metric(lambda t, p: (t == p).mean(), y, a, b, rng(1, "m"), groups=g, draws=800)
    fast = s.hierarchical_bootstrap((a == y) * 1.0 - (b == y), rng(2, "m"), groups=g, draws=4_000)
    assert slow.mean() == pytest.approx(fast.mean(), abs=0.01)
    assert slow.std() == pytest.approx(fast.std(), rel=0.1)


# --- comparisons ---------------------------------------------------------------------------------------------------


def test_compare_by_seed():
    b = np.linspace(0.6, 0.7, 10)
    c = s.compare(b + D, b)
    assert c.estimate == pytest.approx(D.mean())
    assert c.interval95 == pytest.approx(s.t_interval(D))
    assert c.interval90 == pytest.approx(s.t_interval(D, 0.9))
    assert (c.p, c.n_seeds, c.wins) == (pytest.approx(s.paired_t(D).p), 10, 8)
    assert c.mde == pytest.approx(s.minimal_detectable_effect(D.std(ddof=1), 10))
    assert s.compare(b - D, b, higher_is_better=False).estimate == pytest.approx(D.mean())
    assert s.compare(b, b + D).estimate == pytest.approx(-D.mean())
    assert s.compare(b + D, b, method="bca", rng=rng(0, "c")).p == pytest.approx(s.permutation(D).p)
    assert c.above_zero
    assert c.below(0.05)
    assert c.below((c.interval90[1] + c.interval95[1]) / 2)
    assert not c.below(0.01)


def test_compare_items_and_metric():
    r = rng(0, "compare items")
    y = r.integers(0, 3, 300)
    g = np.arange(300) // 10
    a, b = (np.where(r.random((5, 300)) < q, y, r.integers(0, 3, (5, 300))) for q in (0.7, 0.5))
    c = s.compare_items(a == y, b == y, rng(1, "ci"), groups=g)
    assert c.estimate == pytest.approx((a == y).mean() - (b == y).mean())
    assert c.interval95[0] < c.interval90[0] < c.estimate < c.interval90[1] < c.interval95[1]
    assert (c.n_seeds, c.n_items, c.n_groups, c.method) == (5, 300, 30, "bootstrap over seeds x groups")
    assert c.p == pytest.approx(2 / 2001)
    error = s.compare_items(a != y, b != y, rng(1, "ci"), groups=g, higher_is_better=False)
    assert error.estimate == pytest.approx(c.estimate)
    sample = s.hierarchical_bootstrap(1.0 * (a == y) - (b == y), rng(1, "ci"), groups=g)
    assert c.mde == pytest.approx((1.959964 + 0.841621) * sample.std(ddof=1), rel=1e-5)
    f = s.compare_metric(macro_f1, y, a, b, rng(1, "cm"), groups=g, draws=200)
    want = np.mean([f1_score(y, p, average="macro") - f1_score(y, q, average="macro") for p, q in zip(a, b)])
    assert f.estimate == pytest.approx(want)
    assert f.interval95[0] < want < f.interval95[1]
    f = s.compare_metric(macro_f1, y, b, a, rng(1, "cm"), groups=g, draws=200, higher_is_better=False)
    assert f.interval95[0] < want < f.interval95[1]


def test_the_same_stream_gives_the_same_interval():
    x, g = crossed(rng(0, "repeat"), 3, 5, 4, 0.1, 0.1, 1)
    first, second, other = (s.hierarchical_bootstrap(x, rng(k, "draw"), groups=g, draws=50) for k in (7, 7, 8))
    assert (first == second).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: s.compare([0.5], [0.4]), "at least 2 seeds"),
        (lambda r: s.compare([0.5, 0.6], [0.4]), "one shape"),
        (lambda r: s.compare([0.5, np.nan], [0.4, 0.4]), "a holds 1 NaN"),
        (lambda r: s.compare([0.5, 0.6], [0.4, 0.4], method="bca"), "needs a generator"),
        (lambda r: s.compare([0.5, 0.6], [0.4, 0.4], method="z"), "method 'z' is unknown"),
        (lambda r: s.holm([0.1, 1.2]), r"lie in \[0, 1\]"),
        (lambda r: s.holm([]), "p is empty"),
        (lambda r: s.hierarchical_bootstrap(np.ones((2, 3)), r, levels=("videos",)), "'videos'.* is unknown"),
        (lambda r: s.hierarchical_bootstrap(np.ones((2, 3)), r, levels=("groups",)), "no groups were given"),
        (lambda r: s.hierarchical_bootstrap(np.ones((2, 3)), r, groups=[0, 1]), r"shape \(3,\)"),
        (lambda r: s.hierarchical_bootstrap_metric(macro_f1, [0], [0], [0], r), "shape \\(seeds, 1"),
        (lambda r: s.power(0.1, 0.0, 10), "sd > 0"),
        (lambda r: s.minimal_detectable_effect(1.0, 10, target=0.01), "must exceed alpha"),
        (lambda r: s.sample_size(1.0, 0.0), "margin must be above 0"),
        (lambda r: s.wilson_interval(9, 8), "0..n"),
        (lambda r: s.corrected_resampled_t(D, n_train=0, n_test=1), "at least 1"),
        (lambda r: s.percentile_interval([1.0], 95), "between 0 and 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(EvaluationError, match=message) as caught:
        call(rng(0, "bad"))
    assert "\n" not in str(caught.value)
