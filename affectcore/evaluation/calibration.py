"""Do probabilities mean what they say? Calibration error, proper scores, risk-coverage curves, temperature scaling.

`probability` is (N, C). For one class per sample the rows sum to 1 and `target` holds class numbers (N,); for label
sets `target` is a 0/1 matrix (N, L) and every (sample, label) pair is one binary forecast. The shape of `target`
decides.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import (
    Floats,
    Ints,
    choice,
    class_scores,
    finite,
    label_scores,
    labels,
    probabilities,
    same_shape,
)

Binning = Literal["equal_width", "equal_mass"]


def _single(target: ArrayLike, probability: ArrayLike) -> tuple[Ints, Floats]:
    p = probabilities(probability, rows_sum_to_one=True)
    y = labels(target, p.shape[1], "target")
    if len(y) != len(p):
        raise EvaluationError(f"target has {len(y)} rows, probability has {len(p)}")
    return y, p


def _multi(target: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    return label_scores(target, probabilities(probability, rows_sum_to_one=False))


def forecasts(target: ArrayLike, probability: ArrayLike) -> tuple[Floats, Floats]:
    """Return (confidence, outcome), both 1-D: top-class probability and rightness, or label probability and label."""
    if np.ndim(target) == 1:
        y, p = _single(target, probability)
        return p.max(1), (p.argmax(1) == y).astype(np.float64)
    many, q = _multi(target, probability)
    return q.ravel(), many.ravel().astype(np.float64)


@dataclass(frozen=True)
class Reliability:
    """One bin a row, empty bins left out: mean confidence, mean outcome, number of forecasts."""

    confidence: Floats
    outcome: Floats
    count: Ints

    @property
    def ece(self) -> float:
        """Expected calibration error: the count-weighted mean of |confidence - outcome|."""
        return float(np.average(np.abs(self.confidence - self.outcome), weights=self.count))

    @property
    def mce(self) -> float:
        """Maximum calibration error over the bins."""
        return float(np.abs(self.confidence - self.outcome).max())


def reliability(
    target: ArrayLike, probability: ArrayLike, *, bins: int = 15, binning: Binning = "equal_width"
) -> Reliability:
    """Return the reliability diagram's points.

    equal_width: bins (k/bins, (k+1)/bins] of [0, 1] (Guo et al. 2017). equal_mass: bins of equal counts, never
    splitting equal confidences, so the value does not depend on the order of the samples.
    """
    choice(binning, ("equal_width", "equal_mass"), "binning")
    if bins < 1:
        raise EvaluationError(f"bins must be at least 1, got {bins}")
    confidence, outcome = forecasts(target, probability)
    if binning == "equal_width":
        edges = np.linspace(0, 1, bins + 1)[1:-1]
    else:
        last = (len(confidence) * np.arange(1, bins) - 1) // bins  # the last forecast of every bin but the final one
        edges = np.unique(np.sort(confidence)[last])
    which = np.searchsorted(edges, confidence, side="left")
    n = np.bincount(which, minlength=len(edges) + 1)
    used = n > 0
    mean = [np.bincount(which, v, minlength=len(n))[used] / n[used] for v in (confidence, outcome)]
    return Reliability(mean[0], mean[1], n[used])


def expected_calibration_error(
    target: ArrayLike, probability: ArrayLike, *, bins: int = 15, binning: Binning = "equal_width"
) -> float:
    """Return the ECE in [0, 1] (0 is calibrated). It is biased upwards on few samples; compare at equal N and bins
    only.
    """
    return reliability(target, probability, bins=bins, binning=binning).ece


def negative_log_likelihood(target: ArrayLike, probability: ArrayLike, *, clip: float = 1e-12) -> float:
    """Return the mean -log probability of the truth in nats per sample (per label for label sets).

    Probabilities are clipped to [clip, 1 - clip]: without it one certain error makes every comparison infinite.
    """
    if np.ndim(target) == 1:
        y, p = _single(target, probability)
        return float(-np.log(np.clip(p[np.arange(len(y)), y], clip, 1)).mean())
    many, q = _multi(target, probability)
    q = np.clip(q, clip, 1 - clip)
    return float(-np.where(many, np.log(q), np.log1p(-q)).mean())


def brier(target: ArrayLike, probability: ArrayLike) -> float:
    """Return the Brier score: squared distance to the one-hot truth summed over classes, mean over samples, in [0, 2].

    For label sets the mean of (p - y)^2 over samples and labels, in [0, 1].
    """
    if np.ndim(target) == 1:
        y, p = _single(target, probability)
        return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean())
    many, q = _multi(target, probability)
    return float(((q - many) ** 2).mean())


@dataclass(frozen=True)
class RiskCoverage:
    """Mean loss among the most confident samples: risk[k] at coverage[k] = (k + 1) / N."""

    coverage: Floats
    risk: Floats

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve: the mean risk over all N coverages (Geifman and El-Yaniv 2017)."""
        return float(self.risk.mean())


def risk_coverage(confidence: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """Return the curve of risk against coverage when the least confident samples are refused first.

    confidence, loss: (N,); loss is 0/1 or any loss. Equal confidences are admitted in random order, in expectation, so
    the order of the samples never matters and a constant confidence gives a flat curve.
    """
    c, x = finite(confidence, "confidence", 1), finite(loss, "loss", 1)
    same_shape(c, x, "confidence and loss")
    _, tie, size = np.unique(-c, return_inverse=True, return_counts=True)
    expected = (np.bincount(tie, x) / size)[np.sort(tie)]
    k = np.arange(1, len(c) + 1)
    return RiskCoverage(k / len(c), expected.cumsum() / k)


def aurc(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Return the area under the risk-coverage curve, lower is better. See `risk_coverage`."""
    return risk_coverage(confidence, loss).aurc


def excess_aurc(confidence: ArrayLike, loss: ArrayLike) -> float:
    """Return AURC minus that of the best possible confidence, which sorts by the loss itself (E-AURC), at least 0."""
    x = finite(loss, "loss", 1)
    return aurc(confidence, x) - aurc(-x, x)


def fit_temperature(valid_target: ArrayLike, valid_logits: ArrayLike) -> float:
    """Return the temperature T in [0.01, 100] with the least negative log-likelihood of softmax or sigmoid(logits / T).

    Fit it on the validation split: a temperature fitted on test is a look at the answers (Guo et al. 2017).
    """
    if np.ndim(valid_target) == 1:
        y, z = class_scores(valid_target, valid_logits)

        def loss(log_t: float) -> float:
            return -float(log_softmax(z / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean())
    else:
        many, w = label_scores(valid_target, valid_logits)
        sign = np.where(many, 1.0, -1.0)

        def loss(log_t: float) -> float:
            return -float(log_expit(sign * w / np.exp(log_t)).mean())

    bounds = (np.log(0.01), np.log(100))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def scaled_probability(logits: ArrayLike, temperature: float = 1.0, *, multi_label: bool = False) -> Floats:
    """Return softmax(logits / T) row by row, or sigmoid(logits / T) for label sets."""
    z = finite(logits, "logits", 2)
    if not temperature > 0:
        raise EvaluationError(f"temperature must be positive, got {temperature}")
    return expit(z / temperature) if multi_label else softmax(z / temperature, axis=1)
