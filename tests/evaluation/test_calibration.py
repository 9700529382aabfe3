"""Calibration against scikit-learn, torchmetrics, SciPy and brute force."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from affectcore.errors import EvaluationError
from affectcore.evaluation import calibration as c
from affectcore.streams import rng


@pytest.fixture
def forecast():
    r = rng(0, "calibration")
    z = r.normal(size=(600, 4)) * 2
    y = np.array([r.choice(4, p=row) for row in softmax(z / 2, axis=1)])  # true temperature 2
    return y, z


@pytest.fixture
def pairs():
    r = rng(0, "binary calibration")
    p = r.random((400, 3))
    return (r.random((400, 3)) < p**1.5).astype(int), p


def test_ece_is_torchmetrics(forecast, pairs):
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.functional.classification")
    y, z = forecast
    p = softmax(z, axis=1)
    want = tm.multiclass_calibration_error(torch.as_tensor(p), torch.as_tensor(y), 4, n_bins=15, norm="l1")
    assert c.expected_calibration_error(y, p) == pytest.approx(float(want), abs=1e-5)
    worst = tm.multiclass_calibration_error(torch.as_tensor(p), torch.as_tensor(y), 4, n_bins=15, norm="max")
    assert c.reliability(y, p).mce == pytest.approx(float(worst), abs=1e-5)


def test_reliability_points_are_sklearns(pairs):
    y, p = pairs
    outcome, confidence = calibration_curve(y.ravel(), p.ravel(), n_bins=10)
    ours = c.reliability(y, p, bins=10)
    assert ours.confidence == pytest.approx(confidence)
    assert ours.outcome == pytest.approx(outcome)
    assert ours.count.sum() == y.size


def test_equal_mass_bins_hold_equal_counts_and_never_split_ties():
    y = np.tile([0, 1], 50)[:, None]
    p = np.linspace(0.01, 0.99, 100)[:, None]
    assert c.reliability(y, p, bins=5, binning="equal_mass").count.tolist() == [20] * 5
    p = np.repeat([0.2, 0.7], [70, 30])[:, None]
    tied = c.reliability(y, p, bins=5, binning="equal_mass")
    assert tied.count.tolist() == [70, 30]
    order = rng(0, "ties").permutation(100)
    assert c.reliability(y[order], p[order], bins=5, binning="equal_mass").ece == pytest.approx(tied.ece)


def test_proper_scores(forecast, pairs):
    y, z = forecast
    p = softmax(z, axis=1)
    assert c.negative_log_likelihood(y, p) == pytest.approx(sk.log_loss(y, p))
    assert c.brier(y, p) == pytest.approx(np.mean([((row - np.eye(4)[k]) ** 2).sum() for row, k in zip(p, y)]))
    yy, q = pairs
    assert c.brier(yy, q) == pytest.approx(np.mean([sk.brier_score_loss(yy[:, j], q[:, j]) for j in range(3)]))
    assert c.negative_log_likelihood(yy, q) == pytest.approx(
        np.mean([sk.log_loss(yy[:, j], q[:, j]) for j in range(3)])
    )
    assert np.isfinite(c.negative_log_likelihood([0], [[0.0, 1.0]]))  # one certain error stays finite


def test_risk_coverage_by_hand_and_brute_force():
    curve = c.risk_coverage([0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1])
    assert curve.risk.tolist() == [0, 1 / 2, 1 / 3, 2 / 4]
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert c.excess_aurc([4, 3, 2, 1], [0, 0, 1, 1]) == pytest.approx(0)
    assert c.excess_aurc([1, 2, 3, 4], [0, 0, 1, 1]) > 0.4
    r = rng(0, "rc")
    confidence, loss = np.round(r.random(8), 1), r.random(8)
    draws = []
    for _ in range(4000):  # ties broken at random, averaged
        order = np.lexsort((r.random(8), -confidence))
        draws.append((loss[order].cumsum() / np.arange(1, 9)).mean())
    assert c.aurc(confidence, loss) == pytest.approx(np.mean(draws), abs=0.01)
    assert c.risk_coverage(np.ones(5), [1, 0, 0, 0, 1]).risk == pytest.approx(np.full(5, 0.4))


def test_temperature_recovers_the_truth_and_lowers_nll(forecast):
    y, z = forecast
    t = c.fit_temperature(y, z)
    assert t == pytest.approx(2, rel=0.15)
    grid = np.exp(np.linspace(np.log(0.5), np.log(8), 400))
    nll = [c.negative_log_likelihood(y, c.scaled_probability(z, k)) for k in grid]
    assert t == pytest.approx(grid[int(np.argmin(nll))], rel=0.02)
    assert c.expected_calibration_error(y, c.scaled_probability(z, t)) < c.expected_calibration_error(
        y, c.scaled_probability(z)
    )


def test_temperature_of_label_sets():
    r = rng(0, "sigmoid temperature")
    z = r.normal(size=(3000, 3)) * 2
    y = (r.random(z.shape) < c.scaled_probability(z, 0.5, multi_label=True)).astype(int)
    assert c.fit_temperature(y, z) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c.brier([0], [[2.0, -1.0]]), r"lie in \[0, 1\]"),
        (lambda: c.brier([0], [[0.2, 0.2]]), "sums to 0.4"),
        (lambda: c.brier([3], [[0.5, 0.5]]), "unknown label 3"),
        (lambda: c.brier([0, 1], [[0.5, 0.5]]), "2 rows"),
        (lambda: c.reliability([0], [[0.5, 0.5]], bins=0), "bins"),
        (lambda: c.reliability([0], [[0.5, 0.5]], binning="width"), "unknown"),
        (lambda: c.risk_coverage([1, 2], [0]), "one shape"),
        (lambda: c.scaled_probability([[1.0]], 0), "temperature"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(EvaluationError, match=message):
        call()
