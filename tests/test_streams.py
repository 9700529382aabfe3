"""Streams: keyed by purpose, per sample, and really random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from affectcore import streams


@given(st.integers(0, 2**31), st.permutations(list(range(12))))
def test_a_samples_draws_do_not_depend_on_the_others(seed: int, order: list[int]) -> None:
    k, ids = streams.key(seed, "mask", "audio"), np.array(order)
    np.testing.assert_array_equal(streams.uniform(k, ids, 3, 2), streams.uniform(k, np.arange(12), 3, 2)[ids])
    np.testing.assert_array_equal(streams.normal(k, ids[:4], 5), streams.normal(k, np.arange(12), 5)[ids[:4]])


@pytest.mark.parametrize("other", [("mask", "vision"), ("mask",), ("maskaudio",), ("mask", "audio", 0)])
def test_another_purpose_is_another_stream(other: tuple[str | int, ...]) -> None:
    assert streams.key(1, "mask", "audio") != streams.key(1, *other)
    assert streams.key(1, *other) != streams.key(2, *other)


def test_keys_never_change() -> None:
    """Masks of committed results are drawn from these numbers (origin: first release)."""
    assert streams.key(0, "mask", "audio") == 1846250894287493975
    assert streams.uniform(streams.key(0, "a"), np.array([7]), 1)[0, 0] == pytest.approx(0.6099691086851287, abs=0)


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    u = streams.uniform(streams.key(3, "x"), np.arange(100_000), 8)
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(u, rowvar=False) - np.eye(8)).max() < 0.02  # between positions
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.02  # between neighbouring ids
    v = streams.uniform(streams.key(4, "x"), np.arange(100_000), 8)
    assert abs(np.corrcoef(u.ravel(), v.ravel())[0, 1]) < 0.01  # between seeds


def test_normals_are_normal() -> None:
    z = streams.normal(streams.key(3, "x"), np.arange(50_000), 2)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(z, rowvar=False)[0, 1]) < 0.02


def test_rng_is_repeatable_and_private() -> None:
    a, b = streams.rng(5, "world").random(4), streams.rng(5, "world").random(4)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, streams.rng(5, "noise").random(4))
