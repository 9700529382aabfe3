"""Ranks worked by hand, ties, cliques, and what cannot be ranked."""

import numpy as np
import pytest
from scipy import stats

from affectcore.errors import EvaluationError
from affectcore.evaluation.ranks import cliques, friedman, mean_ranks, pairwise, rank


def test_ranks_by_hand_with_a_tie() -> None:
    # blocks x models: ranks 1 2 3; 3 1 2; 1.5 1.5 3
    losses = [[0.1, 0.2, 0.3], [0.9, 0.5, 0.7], [0.4, 0.4, 0.8]]
    assert mean_ranks(losses) == pytest.approx([5.5 / 3, 4.5 / 3, 8 / 3])


def test_friedman_is_scipys_and_one_where_all_tie() -> None:
    x = np.random.default_rng(0).random((8, 4))
    assert friedman(x) == stats.friedmanchisquare(*x.T).pvalue
    assert friedman(np.ones((5, 3))) == 1.0
    # ranks 1, 2, 3 in each of 6 blocks: chi2 = 12 / (6 * 3 * 4) * (36 + 144 + 324) - 3 * 6 * 4 = 12
    assert friedman(np.tile([0.0, 1.0, 2.0], (6, 1))) == pytest.approx(stats.chi2.sf(12, 2))


def test_a_clear_order_is_found_and_a_tied_pair_is_a_clique() -> None:
    rng = np.random.default_rng(1)
    level = np.array([3.0, 1.0, 1.0, 2.0])  # c, a1, a2, b
    noise = rng.normal(0, 0.05, (5, 20, 4))
    found = rank(level + noise, ["c", "a1", "a2", "b"])
    assert set(found.models[:2]) == {"a1", "a2"}
    assert found.models[2:] == ("b", "c")
    assert found.cliques == ((0, 1),)
    assert found.p < 1e-6
    assert found.mean.sum() == pytest.approx(4 * 5 / 2)
    assert ((found.interval[:, 0] <= found.mean) & (found.mean <= found.interval[:, 1])).all()
    assert (found.seeds, found.blocks) == (5, 20)


def test_without_any_difference_all_are_one_clique_and_the_smallest_p_is_exact() -> None:
    assert rank(np.ones((2, 6, 3)), ["a", "b", "c"]).cliques == ((0, 2),)
    # 6 blocks, always the same sign: exact two-sided p = 2 / 2^6, three pairs
    p = pairwise(np.arange(6)[:, None] * 0.01 + np.array([0.0, 1.0, 2.0]) * (1 + np.arange(6)[:, None]))
    assert p[0, 1] == pytest.approx(3 * 2 / 64)


def test_cliques_are_the_largest_runs_alone() -> None:
    alike = np.eye(4, dtype=bool)
    for i, j in ((0, 1), (1, 2), (0, 2), (2, 3)):
        alike[i, j] = alike[j, i] = True
    assert cliques(alike) == ((0, 2), (2, 3))
    assert cliques(np.eye(3)) == ()


def test_one_seed_has_an_interval_without_width() -> None:
    found = rank(np.random.default_rng(0).random((1, 5, 3)), ["a", "b", "c"])
    assert (found.interval[:, 0] == found.interval[:, 1]).all()


@pytest.mark.parametrize(
    ("losses", "models", "said"),
    [
        (np.full((2, 3, 3), np.nan), "abc", "NaN"),
        (np.ones((3, 3)), "abc", "axes"),
        (np.ones((2, 3, 3)), "ab", "3 models, but 2"),
        (np.ones((2, 3, 3)), "aab", "distinct names"),
        (np.ones((2, 1, 3)), "abc", "2 blocks"),
        (np.ones((2, 4, 2)), "ab", "3 models"),
    ],
)
def test_what_cannot_be_ranked_is_refused(losses, models, said) -> None:
    with pytest.raises(EvaluationError, match=said):
        rank(losses, list(models))
