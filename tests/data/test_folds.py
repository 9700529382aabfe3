"""Folds: no group in two parts, everything tested once, balanced, and a function of the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.data.folds import fold, folds, grouped, strata
from affectcore.data.schema import AffectData, Task
from affectcore.errors import ConfigError

TASKS = {
    "regression": Task("regression", ("sentiment",)),
    "single_label": Task("single_label", ("a", "b", "c")),
    "multi_label": Task("multi_label", ("a", "b", "c", "d")),
}


def toy(kind: str, n: int = 240, groups: int = 30, seed: int = 0) -> AffectData:
    r = np.random.default_rng(seed)
    y = {
        "regression": r.uniform(-3, 3, n),
        "single_label": r.choice(3, n, p=[0.7, 0.2, 0.1]),
        "multi_label": (r.random((n, 4)) < [0.7, 0.3, 0.2, 0.05]).astype(float),
    }[kind]
    group = np.r_[np.arange(groups), r.integers(0, groups, n - groups)]
    rows = {"train": np.arange(n)}
    return AffectData("toy", TASKS[kind], {"text": r.normal(size=(n, 1, 2))}, y, rows, group=group)


def parts(data: AffectData) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in data._rows.items()}


@pytest.mark.parametrize("kind", TASKS)
def test_no_group_is_in_two_parts_and_every_sample_is_tested_once(kind: str) -> None:
    data = toy(kind)
    tested = []
    for k in range(5):
        p = parts(fold(data, k, 5))
        groups = {name: set(data.group[rows].tolist()) for name, rows in p.items()}
        assert not groups["train"] & groups["test"]
        assert not groups["train"] & groups["valid"]
        assert not groups["valid"] & groups["test"]
        assert sorted(np.concatenate(list(p.values()))) == list(range(len(data)))
        tested.append(p["test"])
    assert sorted(np.concatenate(tested)) == list(range(len(data)))


def test_the_classes_are_spread_over_the_folds() -> None:
    data = toy("single_label", n=600, groups=100)
    y = data._all.target.numpy()
    for k in range(5):
        share = np.bincount(y[parts(fold(data, k, 5))["test"]], minlength=3) / len(parts(fold(data, k, 5))["test"])
        np.testing.assert_allclose(share, np.bincount(y) / len(y), atol=0.03)


def test_rare_labels_are_spread_over_the_folds() -> None:
    data = toy("multi_label", n=600, groups=600)
    y = data._all.target.numpy()
    for k in range(5):
        share = y[parts(fold(data, k, 5, by="sample"))["test"]].mean(0)
        np.testing.assert_allclose(share, y.mean(0), atol=0.035)


def test_the_seed_decides_and_repeats_differ() -> None:
    data = toy("regression")
    first = [parts(d)["test"] for _, _, d in folds(data, 4, repeats=2, seed=7)]
    again = [parts(d)["test"] for _, _, d in folds(data, 4, repeats=2, seed=7)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(first[k], first[k + 4]) for k in range(4))


def test_as_many_folds_as_groups_leaves_one_group_out() -> None:
    data = toy("single_label", n=60, groups=6)
    left = [set(data.group[parts(fold(data, k, 6))["test"]].tolist()) for k in range(6)]
    assert all(len(g) == 1 for g in left)
    assert len(set.union(*left)) == 6


def test_the_valid_share_is_kept() -> None:
    p = parts(fold(toy("regression", n=1000, groups=200), 0, 10, valid_share=0.2))
    assert 0.17 < len(p["valid"]) / (len(p["valid"]) + len(p["train"])) < 0.23


def test_rare_label_sets_join_their_rarest_label() -> None:
    y = np.array([[1, 0, 0]] * 20 + [[1, 1, 0]] * 3 + [[0, 1, 1]] * 2 + [[1, 0, 1]] * 2 + [[0, 0, 0]] * 12)
    code = strata(TASKS["multi_label"], y, least=10)
    assert len({code[0], code[20], code[23], code[27]}) == 4
    assert code[23] == code[25]  # both hold the rarest label, the third


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(0, 10**6), st.integers(2, 3))
def test_unequal_groups_never_leak_and_never_starve_a_part(n_groups: int, seed: int, n_folds: int) -> None:
    r = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), r.integers(1, 30, n_groups))
    y = r.integers(0, 3, len(group))
    for k in range(n_folds):
        p = grouped(y, group, k, n_folds, seed, 0.2)
        assert min(map(len, p.values())) > 0
        found = [set(group[rows]) for rows in p.values()]
        assert sum(map(len, found)) == n_groups


@pytest.mark.parametrize(
    ("k", "n", "options", "message"),
    [
        (5, 5, {}, "fold 5 of 5"),
        (0, 1, {}, "fold 0 of 1"),
        (0, 31, {}, "fold 0 of 31 with 30 groups"),
        (0, 5, {"valid_share": 0.0}, "valid_share = 0.0"),
        (0, 5, {"by": "environment"}, "cannot fold by 'environment'"),
        (0, 5, {"by": "speaker"}, "cannot fold by 'speaker'"),
    ],
)
def test_impossible_folds_are_one_line(k: int, n: int, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fold(toy("regression"), k, n, **options)
