"""Numbers drawn from a performance curve over missing rates or noise levels, and from a pair of test sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import Floats, finite, same_shape


def _curve(rates: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    r, x = finite(rates, "rates", 1), finite(values, "values")
    if x.shape[-1:] != r.shape or len(r) < 2:
        raise EvaluationError(f"values need one number per rate, at least two rates: got {x.shape} for {r.shape}")
    if (np.diff(r) <= 0).any():
        raise EvaluationError(f"rates must increase, got {np.round(r, 6).tolist()}")
    return r, x


def auilc(rates: ArrayLike, values: ArrayLike) -> Floats:
    """Return the area under the performance curve over missing rates, by the trapezoid rule (TFR-Net, EMT-DLFR, CIDer).

    values (..., R): the last axis runs over the rates, so (seeds, R) gives one area per seed. The unit is performance x
    rate: over rates 0..1 it is the curve's mean height, over 0..0.7 it cannot exceed 0.7. Use `mean_height` to compare
    protocols with different ranges.
    """
    r, x = _curve(rates, values)
    return np.asarray(np.trapezoid(x, r, axis=-1))


def mean_height(rates: ArrayLike, values: ArrayLike) -> Floats:
    """Return `auilc` divided by the range of rates: the curve's mean height, in units of the performance itself."""
    r, x = _curve(rates, values)
    return np.asarray(np.trapezoid(x, r, axis=-1) / (r[-1] - r[0]))


def performance_drop(clean: ArrayLike, shifted: ArrayLike, *, relative: bool = False) -> Floats:
    """Return clean - shifted, or (clean - shifted) / clean with relative=True; positive means the shift costs
    something.
    """
    c, s = finite(clean, "clean"), finite(shifted, "shifted")
    same_shape(c, s, "clean and shifted")
    if relative and (c == 0).any():
        raise EvaluationError("clean performance is 0, so the relative drop is not defined")
    return (c - s) / c if relative else c - s


def ood_gap(iid: ArrayLike, ood: ArrayLike, *, iid_floor: float = 0.0, ood_floor: float = 0.0) -> Floats:
    """Return (iid - iid_floor) - (ood - ood_floor).

    The floors are what the best constant predictor scores on each test set (`floors.constant_floor`). Without them a
    gap mixes the model's loss with the change of class balance between the two test sets.
    """
    a, b = finite(iid, "iid"), finite(ood, "ood")
    same_shape(a, b, "iid and ood")
    return (a - iid_floor) - (b - ood_floor)


def relative_robustness(shifted: ArrayLike, shifted_baseline: ArrayLike) -> Floats:
    """Return performance under shift minus the baseline's under the same shift (Taori et al. 2020, tau)."""
    a, b = finite(shifted, "shifted"), finite(shifted_baseline, "shifted_baseline")
    same_shape(a, b, "shifted and shifted_baseline")
    return a - b


@dataclass(frozen=True)
class ShiftLine:
    """What clean accuracy predicts about shifted accuracy: a line in logit space fitted to reference models."""

    slope: float
    intercept: float

    def expected(self, clean: ArrayLike) -> Floats:
        """Return the shifted accuracy that the line expects at this clean accuracy."""
        return expit(self.slope * logit(_open_unit(clean, "clean")) + self.intercept)


def _open_unit(values: ArrayLike, name: str) -> Floats:
    x = finite(values, name)
    if x.min() <= 0 or x.max() >= 1:
        raise EvaluationError(f"{name} must lie strictly between 0 and 1 for a logit, got {x.min():g}..{x.max():g}")
    return x


def shift_line(clean: ArrayLike, shifted: ArrayLike) -> ShiftLine:
    """Return the least-squares line through reference models' (clean, shifted) accuracies in logit space (Taori et
    al.).
    """
    x, y = logit(_open_unit(clean, "clean")), logit(_open_unit(shifted, "shifted"))
    same_shape(x, y, "clean and shifted")
    if len(np.unique(x)) < 2:
        raise EvaluationError("a shift line needs reference models of at least two different clean accuracies")
    slope, intercept = np.polyfit(x, y, 1)
    return ShiftLine(float(slope), float(intercept))


def effective_robustness(clean: ArrayLike, shifted: ArrayLike, line: ShiftLine) -> Floats:
    """Return shifted accuracy beyond what `line` (see `shift_line`) predicts from clean accuracy (Taori et al. 2020,
    rho).
    """
    s = finite(shifted, "shifted")
    expected = line.expected(clean)
    same_shape(expected, s, "clean and shifted")
    return s - expected


def effective_robustness_multibench(values: ArrayLike, late_fusion: ArrayLike) -> float:
    """Return the sum over noise levels of a curve minus late fusion's curve, lifted to the same start (MultiBench).

    Both curves (R,) begin at the clean level. MultiBench's "relative robustness" is `auilc` with steps of 0.1; its
    final min-max scaling over the compared methods is left out, as it makes a number depend on which methods are
    listed.
    """
    f, lf = finite(values, "values", 1), finite(late_fusion, "late_fusion", 1)
    same_shape(f, lf, "values and late_fusion")
    return float((f - (lf + f[0] - lf[0])).sum())


def worst_case(values: Sequence[float] | ArrayLike, *, higher_is_better: bool = True) -> float:
    """Return the worst of several environments' values."""
    x = finite(np.asarray(values), "values", 1)
    return float(x.min() if higher_is_better else x.max())
