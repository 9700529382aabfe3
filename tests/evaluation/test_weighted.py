"""Metrics under weights against the metrics of the items repeated that often."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, mean_absolute_error, roc_auc_score

from affectcore.errors import EvaluationError
from affectcore.evaluation.metrics import accuracy_2
from affectcore.evaluation.weighted import (
    weighted_accuracy,
    weighted_auroc,
    weighted_auroc_macro,
    weighted_balanced_accuracy,
    weighted_mae,
    weighted_pearson,
    weighted_sign_accuracy,
)

REAL = [(weighted_mae, mean_absolute_error), (weighted_pearson, lambda y, p: pearsonr(y, p).statistic),
        (weighted_sign_accuracy, partial(accuracy_2, zero="non_zero"))]  # fmt: skip


def drawn(seed: int, n: int = 60) -> tuple[np.random.Generator, np.ndarray]:
    r = np.random.default_rng(seed)
    return r, r.multinomial(n, np.full(n, 1 / n), size=7)


@pytest.mark.parametrize(("fast", "oracle"), REAL)
@given(seed=st.integers(0, 10**6))
def test_real_valued(fast: Callable, oracle: Callable, seed: int) -> None:
    r, w = drawn(seed)
    y, p = r.normal(2, 1, 60), r.normal(-3, 5, 60)
    expected = [oracle(np.repeat(y, k), np.repeat(p, k)) for k in w]
    np.testing.assert_allclose(fast(w, y, p), expected, rtol=1e-9, atol=1e-10)


LABELS = [(weighted_accuracy, accuracy_score), (weighted_balanced_accuracy, balanced_accuracy_score)]


@pytest.mark.parametrize(("fast", "oracle"), LABELS)
@given(seed=st.integers(0, 10**6))
def test_single_label(fast: Callable, oracle: Callable, seed: int) -> None:
    r, w = drawn(seed)
    y, s = np.r_[0, 1, 2, r.choice(3, 57, p=[0.7, 0.2, 0.1])], r.random((60, 3))
    w[:, :3] += 1  # every class in every draw: scikit-learn's warning about absent ones is not the point here
    expected = [oracle(np.repeat(y, k), np.repeat(s.argmax(1), k)) for k in w]
    np.testing.assert_allclose(fast(w, y, s), expected, rtol=1e-9)


@given(seed=st.integers(0, 10**6), levels=st.integers(2, 200))
def test_auroc_with_ties(seed: int, levels: int) -> None:
    r, w = drawn(seed)
    y, s = r.integers(0, 2, 60), r.integers(0, levels, 60) / levels
    expected = [roc_auc_score(np.repeat(y, k), np.repeat(s, k)) for k in w]
    np.testing.assert_allclose(weighted_auroc(w, y, s), expected, rtol=1e-9)


def test_auroc_macro_is_the_mean_over_labels() -> None:
    r, w = drawn(0)
    y, s = r.integers(0, 2, (60, 3)), r.random((60, 3))
    expected = [roc_auc_score(np.repeat(y, k, 0), np.repeat(s, k, 0), average="macro") for k in w]
    np.testing.assert_allclose(weighted_auroc_macro(w, y, s), expected, rtol=1e-9)


def test_what_is_undefined_is_nan() -> None:
    w = np.array([[1, 1, 0], [1, 1, 1]])
    assert np.isnan(weighted_auroc(w, [0, 0, 1], [0.1, 0.2, 0.3])).tolist() == [True, False]
    assert np.isnan(weighted_pearson(w, [0.0, 1, 2], [4.0, 4, 5])).tolist() == [True, False]
    assert np.isnan(weighted_sign_accuracy(w, [0.0, 0, 2], [1.0, -1, 1])).tolist() == [True, False]


def test_neutral_items_do_not_count_for_the_sign() -> None:
    assert weighted_sign_accuracy(np.ones((1, 4)), [0.0, 1, -1, 2], [5.0, 1, 1, 0]).tolist() == [pytest.approx(1 / 3)]


@pytest.mark.parametrize("weights", [np.ones(3), np.ones((2, 4)), -np.ones((2, 3)), np.full((2, 3), np.nan)])
def test_bad_weights_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(EvaluationError):
        weighted_mae(weights, [0.0, 1, 2], [0.0, 1, 2])
