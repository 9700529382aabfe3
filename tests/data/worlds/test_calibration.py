"""Calibration: the headline worlds meet their targets, a world that does not is told, and the measures are right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from affectcore.data.schema import Batch
from affectcore.data.worlds import WORLDS, Sizes, make
from affectcore.data.worlds.base import ar_noise, counts, lengths, participation_ratio, redundant_mixing
from affectcore.data.worlds.calibration import calibration, lag_one


@pytest.mark.parametrize("name", list(WORLDS))
def test_headline_world_meets_every_calibrated_target(draw, name):
    rows = calibration(draw(name))
    assert [r.statistic for r in rows if not r.met] == []
    assert sum(np.isfinite(r.tolerance) for r in rows) >= 2


def test_a_world_of_other_strength_misses_its_target(draw):
    rows = calibration(draw("imbalance", 0, "easy"))
    assert "balanced accuracy, weighted linear probe" in [r.statistic for r in rows if not r.met]


def test_lag_one_of_known_noise_with_gaps():
    x = torch.from_numpy(ar_noise(np.random.default_rng(0), 2000, 60, 3, 0.5))
    observed = torch.rand(2000, 60, generator=torch.Generator().manual_seed(0)) < 0.9
    n = torch.full((2000,), 60)
    batch = Batch({"a": x}, {"a": n}, {"a": torch.ones_like(observed)}, n, n, n).with_observed({"a": observed})
    assert lag_one(batch, "a") == pytest.approx(0.5, abs=0.05)  # centring costs about 2 / 60


def test_redundancy_is_as_asked():
    for dim, share in ((12, 0.33), (40, 0.11)):
        m = redundant_mixing(np.random.default_rng(0), dim, share)
        correlation = m.T @ m
        assert np.diag(correlation) == pytest.approx(np.ones(dim))
        eigenvalues = np.linalg.eigvalsh(correlation)
        assert eigenvalues.sum() ** 2 / (eigenvalues**2).sum() == pytest.approx(share * dim, rel=1e-3)
        assert participation_ratio(correlation) == pytest.approx(share * dim, rel=1e-3)


def test_counts_and_lengths():
    assert counts(np.array([3, 5, 2]), 10).tolist() == [3, 5, 2]
    assert counts(np.array([1, 1, 1]), 10).sum() == 10
    k = lengths(np.random.default_rng(0), 20000, 500)
    assert np.percentile(k, [5, 25, 50, 75, 95]) == pytest.approx([6, 12, 17, 25, 43], abs=2)  # measured on CMU-MOSEI
    assert lengths(np.random.default_rng(0), 1000, 5).max() == 5


def test_full_feature_sizes_work():
    s = replace(WORLDS["imbalance"].difficulties["headline"], steps=50, dims=(300, 74, 35))
    w = make("imbalance", 0, s, Sizes(40, 20, 20))
    assert w.data.dims == {"text": 300, "audio": 74, "vision": 35}
    assert np.isfinite(w.oracle(w.data.split("train"))).all()
