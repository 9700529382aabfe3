"""The field's metrics, each with its convention in the name or in a keyword. Inputs are NumPy arrays, targets come
first.

Two numbers called "Acc-2" or "F1" in two papers are often two different quantities. Here a quantity has one name:

* sentiment regression: `accuracy_2`, `accuracy_k`, `weighted_f1_2`, `mae`, `pearson`, and the CH-SIMS bins;
* one class per sample: `balanced_accuracy` (also called UAR), `macro_f1`, `auroc_macro`, `batch_averaged_macro_recall`;
* label sets: `micro_f1`, `sample_f1`, `jaccard`, `mean_average_precision`;
* the published slips, under names of their own: `weighted_f1_swapped`, `micro_precision_swapped`.

All values are fractions in [0, 1] unless said otherwise. Averages over classes run over the classes that occur in the
*target*, so a predictor cannot change the set it is averaged over. Where a value is not defined (a correlation with a
constant) the result is NaN, never a repaired number. `score` returns all metrics of a task in one table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import (
    Floats,
    Ints,
    choice,
    class_scores,
    finite,
    label_pair,
    label_scores,
    labels,
    matrix_pair,
    real_pair,
)

Kind = Literal["regression", "single_label", "multi_label"]
Zero = Literal["has_zero", "non_zero"]
Rounding = Literal["half_even", "half_away", "sdk"]
KINDS: tuple[str, ...] = ("regression", "single_label", "multi_label")

# --- sentiment as a number -----------------------------------------------------------------------------------------


def polarity(
    target: ArrayLike, prediction: ArrayLike, zero: Zero = "has_zero", cut: Literal[">", ">="] | None = None
) -> tuple[Ints, Ints]:
    """Return the binary labels (1 = positive) that Acc-2 and its F1 are computed from.

    zero="has_zero": every sample, positive means value >= 0. zero="non_zero": samples whose target is exactly 0 are
    dropped and positive means value > 0, as in the MMSA code. `cut` overrides the sign rule (">=" with "non_zero" is
    the MulT lineage; it differs only for predictions of exactly 0). Raises EvaluationError if no sample is left.
    """
    choice(zero, ("has_zero", "non_zero"), "zero")
    y, p = real_pair(target, prediction)
    rule = cut or (">=" if zero == "has_zero" else ">")
    choice(rule, (">", ">="), "cut")
    if zero == "non_zero":
        keep = y != 0
        if not keep.any():
            raise EvaluationError("target is 0 everywhere, so the non_zero convention leaves no sample")
        y, p = y[keep], p[keep]
    if rule == ">":
        return (y > 0).astype(np.int64), (p > 0).astype(np.int64)
    return (y >= 0).astype(np.int64), (p >= 0).astype(np.int64)


def accuracy_2(target: ArrayLike, prediction: ArrayLike, *, zero: Zero, cut: Literal[">", ">="] | None = None) -> float:
    """Return the share of samples with the right sign; the convention `zero` must be named. See `polarity`."""
    y, p = polarity(target, prediction, zero, cut)
    return float((y == p).mean())


def weighted_f1_2(
    target: ArrayLike, prediction: ArrayLike, *, zero: Zero, cut: Literal[">", ">="] | None = None
) -> float:
    """Return the F1 of the two signs weighted by their share in the target. See `polarity`."""
    return weighted_f1(*polarity(target, prediction, zero, cut))


def round_sentiment(values: ArrayLike, classes: int, rounding: Rounding = "half_even") -> Ints:
    """Return sentiment classes -k..k (k = (classes - 1) / 2) of values, which are clipped to [-k, k] first.

    rounding="half_even": NumPy's rule, 0.5 -> 0 and 1.5 -> 2 (the MulT and MMSA codes). "half_away": 0.5 -> 1, -0.5 ->
    -1. "sdk": the thresholds of s3prl's MOSEI task, seven classes only: 0 only if exactly 0, (0, 1] -> 1, (1, 2] -> 2,
    above 2 -> 3, [-1, 0) -> -1, [-2, -1) -> -2, below -2 -> -3.
    """
    choice(rounding, ("half_even", "half_away", "sdk"), "rounding")
    x = finite(values, "values")
    if classes not in (3, 5, 7):
        raise EvaluationError(f"classes must be 3, 5 or 7, got {classes}")
    k = (classes - 1) // 2
    x = np.clip(x, -k, k)
    if rounding == "half_even":
        out = np.round(x)
    elif rounding == "half_away":
        out = np.sign(x) * np.floor(np.abs(x) + 0.5)
    elif classes != 7:
        raise EvaluationError(f"rounding 'sdk' is defined for 7 classes, got {classes}")
    else:  # a magnitude of exactly 1 or 2 belongs to the inner class on both sides
        out = np.sign(x) * np.minimum(np.ceil(np.abs(x)), 3)
    return out.astype(np.int64)


def accuracy_k(target: ArrayLike, prediction: ArrayLike, *, classes: int, rounding: Rounding = "half_even") -> float:
    """Return the share of samples whose rounded sentiment is right, for 3, 5 or 7 classes. See `round_sentiment`.

    Three classes clip to [-1, 1] before rounding, as MMSA does: "neutral" is then [-0.5, 0.5].
    """
    y, p = real_pair(target, prediction)
    return float((round_sentiment(y, classes, rounding) == round_sentiment(p, classes, rounding)).mean())


SIMS_EDGES = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}


def accuracy_sims(target: ArrayLike, prediction: ArrayLike, *, classes: int) -> float:
    """Return the share of samples in the right CH-SIMS bin (2, 3 or 5 classes; bins are closed on the right).

    Values are clipped to [-1, 1]; a target of exactly 0 counts as negative in two classes. Source: MMSA code.
    """
    if classes not in SIMS_EDGES:
        raise EvaluationError(f"classes must be 2, 3 or 5, got {classes}")
    y, p = real_pair(target, prediction)
    edges = np.asarray(SIMS_EDGES[classes])
    bins = [np.searchsorted(edges, np.clip(v, -1, 1), side="left") for v in (y, p)]
    return float((bins[0] == bins[1]).mean())


def _subset(target: ArrayLike, prediction: ArrayLike, zero: Zero) -> tuple[Floats, Floats]:
    choice(zero, ("has_zero", "non_zero"), "zero")
    y, p = real_pair(target, prediction)
    keep = np.ones(len(y), bool) if zero == "has_zero" else y != 0
    if not keep.any():
        raise EvaluationError("target is 0 everywhere, so the non_zero convention leaves no sample")
    return y[keep], p[keep]


def mae(target: ArrayLike, prediction: ArrayLike, *, zero: Zero = "has_zero") -> float:
    """Return the mean absolute error in units of the target; "non_zero" drops targets of 0 (C-MIB and ITHP codes)."""
    y, p = _subset(target, prediction, zero)
    return float(np.abs(y - p).mean())


def pearson(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    zero: Zero = "has_zero",
    constant: Literal["undefined", "zero"] = "undefined",
) -> float:
    """Return Pearson's correlation in [-1, 1]; "non_zero" drops targets of 0 (C-MIB and ITHP codes).

    A constant target or prediction has no correlation: NaN with constant="undefined", 0.0 with constant="zero" (for
    selection rules that need a number).
    """
    choice(constant, ("undefined", "zero"), "constant")
    y, p = _subset(target, prediction, zero)
    dy, dp = y - y.mean(), p - p.mean()
    tiny = 1e-12 * (1 + np.abs(y).max()), 1e-12 * (1 + np.abs(p).max())
    if np.abs(dy).max() <= tiny[0] or np.abs(dp).max() <= tiny[1]:
        return float("nan") if constant == "undefined" else 0.0
    dy, dp = dy / np.linalg.norm(dy), dp / np.linalg.norm(dp)
    return float(np.clip(dy @ dp, -1, 1))


# --- one class per sample ------------------------------------------------------------------------------------------


def confusion(target: ArrayLike, prediction: ArrayLike, classes: int | None = None) -> Ints:
    """Return counts (C, C): rows are true classes, columns predicted ones."""
    y, p = label_pair(target, prediction, classes)
    c = classes or int(max(y.max(), p.max())) + 1
    return np.bincount(y * c + p, minlength=c * c).reshape(c, c)


def _counts(target: ArrayLike, prediction: ArrayLike) -> tuple[Ints, Ints, Ints]:
    table = confusion(target, prediction)
    return np.diag(table).copy(), table.sum(1), table.sum(0)  # hits, true per class, predicted per class


def accuracy(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the share of right classes."""
    y, p = label_pair(target, prediction, None)
    return float((y == p).mean())


def class_recalls(target: ArrayLike, prediction: ArrayLike, classes: int | None = None) -> Floats:
    """Return the recall of every class (C,), NaN for a class that the target does not hold."""
    table = confusion(target, prediction, classes)
    n = table.sum(1)
    return np.where(n > 0, np.diag(table) / np.maximum(n, 1), np.nan)


def balanced_accuracy(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean recall over the classes of the target (unweighted average recall, UAR), all samples pooled."""
    return float(np.nanmean(class_recalls(target, prediction)))


def rare_class_recall(target: ArrayLike, prediction: ArrayLike, rare: Sequence[int]) -> float:
    """Return the mean recall over the classes named in `rare`. Raises EvaluationError if the target lacks one."""
    recalls = class_recalls(target, prediction)
    for c in rare:
        if not 0 <= c < len(recalls) or np.isnan(recalls[c]):
            raise EvaluationError(f"rare class {c} does not occur in the target, so its recall is not defined")
    if not rare:
        raise EvaluationError("rare is empty, name at least one class")
    return float(recalls[list(rare)].mean())


def batch_averaged_macro_recall(
    target: ArrayLike, prediction: ArrayLike, *, batch_size: int | None = None, batches: ArrayLike | None = None
) -> float:
    """Return the size-weighted mean over batches of each batch's macro recall: the number Affect-Diff calls balanced
    accuracy.

    Per batch, classes absent from both its targets and its predictions are dropped, and a class that is predicted but
    absent counts with recall 0 (torchmetrics' macro rule). So the set averaged over depends on the prediction and on
    how the samples fall into batches: a constant predictor scores above 1/C. Give either `batch_size` (consecutive
    batches in the given order, the last may be short) or `batches` (N,), the batch number of each sample.
    """
    y, p = label_pair(target, prediction, None)
    if (batch_size is None) == (batches is None):
        raise EvaluationError("give exactly one of batch_size and batches")
    if batch_size is not None:
        if batch_size < 1:
            raise EvaluationError(f"batch_size must be at least 1, got {batch_size}")
        b = np.arange(len(y)) // batch_size
    else:
        b = np.unique(labels(np.asarray(batches), None, "batches"), return_inverse=True)[1]
        if len(b) != len(y):
            raise EvaluationError(f"batches has {len(b)} rows, target has {len(y)}")
    c = int(max(y.max(), p.max())) + 1
    table = np.bincount((b * c + y) * c + p, minlength=(b.max() + 1) * c * c).reshape(-1, c, c)
    hits, true, guessed = np.diagonal(table, axis1=1, axis2=2), table.sum(2), table.sum(1)
    recall = np.where(true > 0, hits / np.maximum(true, 1), 0.0)
    value = recall.sum(1) / ((true + guessed) > 0).sum(1)
    return float(np.average(value, weights=true.sum(1)))


def _f1(hits: NDArray[Any], true: NDArray[Any], guessed: NDArray[Any]) -> Floats:
    return np.where(true + guessed > 0, 2 * hits / np.maximum(true + guessed, 1), 0.0)


def class_f1(target: ArrayLike, prediction: ArrayLike, classes: int | None = None) -> Floats:
    """Return F1 of every class (C,), NaN for a class that the target does not hold."""
    table = confusion(target, prediction, classes)
    true = table.sum(1)
    return np.where(true > 0, _f1(np.diag(table), true, table.sum(0)), np.nan)


def macro_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean F1 over the classes of the target."""
    return float(np.nanmean(class_f1(target, prediction)))


def weighted_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean F1 weighted by the classes' counts in the *target*: sklearn's f1_score(target, prediction)."""
    hits, true, guessed = _counts(target, prediction)
    return float(np.average(_f1(hits, true, guessed), weights=true))


def weighted_f1_swapped(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean F1 weighted by the classes' counts in the *prediction*: f1_score(prediction, target), a slip.

    F1 of a class does not change when the arguments are exchanged, its weight does. A constant predictor then gets the
    F1 of its one class in full. Only for re-enacting published numbers.
    """
    return weighted_f1(prediction, target)


def class_auroc(target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return one-vs-rest AUROC of every class (C,), NaN for an absent or only class. Ties count half."""
    y, s = class_scores(target, scores)
    return _auroc(np.eye(s.shape[1], dtype=bool)[y], s)


def _auroc(y: NDArray[np.bool_], s: Floats) -> Floats:
    ranks = rankdata(s, axis=0)
    positive = y.sum(0)
    negative = len(y) - positive
    area = ((ranks * y).sum(0) - positive * (positive + 1) / 2) / np.maximum(positive * negative, 1)
    return np.where(positive * negative > 0, area, np.nan)


def _mean_defined(values: Floats, what: str) -> float:
    if np.isnan(values).all():
        raise EvaluationError(f"{what} is defined for no class of this target")
    return float(np.nanmean(values))


def auroc_macro(target: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean one-vs-rest AUROC over the classes where it is defined. `scores` (N, C): any real numbers."""
    return _mean_defined(class_auroc(target, scores), "AUROC")


# --- label sets ----------------------------------------------------------------------------------------------------


def micro_precision(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the share of predicted labels that are true, pooled over samples and labels (0 if none is predicted)."""
    y, p = matrix_pair(target, prediction)
    return float((y & p).sum() / max(p.sum(), 1))


def micro_recall(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the share of true labels that are predicted, pooled over samples and labels (0 if there are none)."""
    y, p = matrix_pair(target, prediction)
    return float((y & p).sum() / max(y.sum(), 1))


def micro_precision_swapped(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return what LDDU, TAILOR and CARAT print as precision: micro recall, as their code exchanges the arguments."""
    return micro_precision(prediction, target)


def micro_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return F1 of the pooled labels; exchanging target and prediction does not change it (0 if both are empty)."""
    y, p = matrix_pair(target, prediction)
    return float(2 * (y & p).sum() / max(y.sum() + p.sum(), 1))


def label_f1(target: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return F1 of every label (L,), NaN for a label that the target does not hold."""
    y, p = matrix_pair(target, prediction)
    return np.where(y.any(0), _f1((y & p).sum(0), y.sum(0), p.sum(0)), np.nan)


def multilabel_macro_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean F1 over the labels that occur in the target."""
    return _mean_defined(label_f1(target, prediction), "macro F1")


def multilabel_weighted_f1(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean F1 over labels weighted by their count in the target."""
    y, p = matrix_pair(target, prediction)
    if not y.any():
        raise EvaluationError("weighted F1 is defined for no class of this target")
    return float(np.average(_f1((y & p).sum(0), y.sum(0), p.sum(0)), weights=y.sum(0)))


def sample_f1(target: ArrayLike, prediction: ArrayLike, *, empty: Literal[0, 1]) -> float:
    """Return the mean over samples of the F1 of two label sets; two empty sets score `empty`, which must be named."""
    y, p = matrix_pair(target, prediction)
    both = y.sum(1) + p.sum(1)
    return float(np.where(both > 0, 2 * (y & p).sum(1) / np.maximum(both, 1), _empty(empty)).mean())


def jaccard(target: ArrayLike, prediction: ArrayLike, *, empty: Literal[0, 1]) -> float:
    """Return the mean over samples of |intersection| / |union|; two empty sets score `empty`, which must be named.

    LDDU's printed "Acc" is this with empty=0: a sample without emotions that is predicted right counts as wrong, so the
    value cannot exceed the share of samples that hold a label.
    """
    y, p = matrix_pair(target, prediction)
    union = (y | p).sum(1)
    return float(np.where(union > 0, (y & p).sum(1) / np.maximum(union, 1), _empty(empty)).mean())


def _empty(value: int) -> float:
    if value not in (0, 1):
        raise EvaluationError(f"empty must be 0 or 1, got {value}")
    return float(value)


def subset_accuracy(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the share of samples whose whole label set is right."""
    y, p = matrix_pair(target, prediction)
    return float((y == p).all(1).mean())


def label_accuracy(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the share of right decisions over all samples and labels (1 - Hamming loss); absent labels count fully."""
    y, p = matrix_pair(target, prediction)
    return float((y == p).mean())


def label_balanced_accuracy(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean over labels of (sensitivity + specificity) / 2, known as MOSEI's "weighted accuracy"."""
    y, p = matrix_pair(target, prediction)
    positive, negative = y.sum(0), (~y).sum(0)
    value = ((y & p).sum(0) / np.maximum(positive, 1) + (~y & ~p).sum(0) / np.maximum(negative, 1)) / 2
    return _mean_defined(np.where((positive > 0) & (negative > 0), value, np.nan), "balanced accuracy")


def _average_precision(y: NDArray[np.bool_], s: Floats) -> float:
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(np.diff(s) != 0, True)  # a threshold admits all samples of one score together
    hits, shown = y.cumsum()[last], np.arange(1, len(y) + 1)[last]
    return float((np.diff(hits, prepend=0) * hits / shown).sum() / hits[-1])


def label_average_precision(target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return average precision of every label (L,), step-wise as in scikit-learn, NaN for a label the target lacks."""
    y, s = label_scores(target, scores)
    return np.array([_average_precision(y[:, j], s[:, j]) if y[:, j].any() else np.nan for j in range(y.shape[1])])


def mean_average_precision(target: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean of the labels' average precisions (mAP) over labels that occur in the target."""
    return _mean_defined(label_average_precision(target, scores), "average precision")


def global_average_precision(target: ArrayLike, scores: ArrayLike) -> float:
    """Return average precision over all (sample, label) pairs ranked together (GAP in the LDDU logs)."""
    y, s = label_scores(target, scores)
    if not y.any():
        raise EvaluationError("average precision is defined for no class of this target")
    return _average_precision(y.ravel(), s.ravel())


def label_auroc(target: ArrayLike, scores: ArrayLike) -> Floats:
    """Return AUROC of every label (L,), NaN where the target holds one outcome only."""
    return _auroc(*label_scores(target, scores))


def multilabel_auroc(target: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean AUROC over the labels where it is defined."""
    return _mean_defined(label_auroc(target, scores), "AUROC")


# --- the registry --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """One quantity: how to compute it, which way is better, and what it means.

    function(target, given) where `given` is what `needs` says: "prediction" (numbers, class numbers or 0/1 label sets)
    or "scores" (N, C). low and high bound the value; slip marks a published slip, kept only for comparison; source is
    the paper (key of the bibliography) or the code whose convention this is.
    """

    name: str
    kind: Kind
    function: Callable[..., float]
    convention: str
    source: str = ""
    needs: Literal["prediction", "scores"] = "prediction"
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    slip: bool = False

    def __call__(self, target: ArrayLike, given: ArrayLike) -> float:
        return self.function(target, given)

    @property
    def description(self) -> str:
        return (self.function.__doc__ or "").partition("\n")[0]


def _with(function: Callable[..., float], **fixed: Any) -> Callable[..., float]:
    def fixed_function(target: ArrayLike, given: ArrayLike) -> float:
        return function(target, given, **fixed)

    fixed_function.__doc__ = function.__doc__
    return fixed_function


def _swapped_f1_2(target: ArrayLike, prediction: ArrayLike) -> float:
    """Return `weighted_f1_swapped` of the signs of the non-neutral samples."""
    return weighted_f1_swapped(*polarity(target, prediction, "non_zero"))


_NEAREST = "clip, then NumPy rounding (half to even)"
_AWAY = "clip, then halves away from zero"
_HAS, _NON = "all samples, positive means >= 0", "targets of 0 dropped, positive means > 0"
_INF = float("inf")
_ALL = [
    Metric("acc2_has_zero", "regression", _with(accuracy_2, zero="has_zero"), _HAS, "mmsa"),
    Metric("acc2_non_zero", "regression", _with(accuracy_2, zero="non_zero"), _NON, "mmsa"),
    Metric("f1_has_zero", "regression", _with(weighted_f1_2, zero="has_zero"), "weighted F1; " + _HAS, "mmsa"),
    Metric("f1_non_zero", "regression", _with(weighted_f1_2, zero="non_zero"), "weighted F1; " + _NON, "mmsa"),
    Metric("f1_non_zero_swapped", "regression", _swapped_f1_2, "arguments exchanged; " + _NON, slip=True),
    Metric("acc3", "regression", _with(accuracy_k, classes=3), _NEAREST, "mmsa"),
    Metric("acc5", "regression", _with(accuracy_k, classes=5), _NEAREST, "mmsa"),
    Metric("acc7", "regression", _with(accuracy_k, classes=7), _NEAREST, "mmsa"),
    Metric("acc7_half_away", "regression", _with(accuracy_k, classes=7, rounding="half_away"), _AWAY),
    Metric("acc7_sdk", "regression", _with(accuracy_k, classes=7, rounding="sdk"), "0 only if exactly 0", "s3prl"),
    Metric("mae", "regression", mae, "all samples", higher_is_better=False, high=_INF),
    Metric("mae_non_zero", "regression", _with(mae, zero="non_zero"), "targets of 0 dropped", "c-mib",
           higher_is_better=False, high=_INF),
    Metric("pearson", "regression", pearson, "all samples; NaN for a constant", low=-1.0),
    Metric("pearson_non_zero", "regression", _with(pearson, zero="non_zero"), "targets of 0 dropped", "c-mib",
           low=-1.0),
    Metric("accuracy", "single_label", accuracy, "share of right classes"),
    Metric("balanced_accuracy", "single_label", balanced_accuracy, "pooled; classes of the target (UAR)"),
    Metric("batch_averaged_macro_recall_64", "single_label", _with(batch_averaged_macro_recall, batch_size=64),
           "batches of 64 in the given order", "affectdiff", slip=True),
    Metric("macro_f1", "single_label", macro_f1, "classes of the target"),
    Metric("weighted_f1", "single_label", weighted_f1, "weights from the target"),
    Metric("weighted_f1_swapped", "single_label", weighted_f1_swapped, "weights from the prediction", slip=True),
    Metric("auroc_macro", "single_label", auroc_macro, "one-vs-rest; classes of the target", needs="scores"),
    Metric("micro_f1", "multi_label", micro_f1, "pooled over samples and labels"),
    Metric("macro_f1", "multi_label", multilabel_macro_f1, "labels of the target"),
    Metric("weighted_f1", "multi_label", multilabel_weighted_f1, "weights from the target"),
    Metric("micro_precision", "multi_label", micro_precision, "pooled"),
    Metric("micro_recall", "multi_label", micro_recall, "pooled"),
    Metric("micro_precision_swapped", "multi_label", micro_precision_swapped, "printed as P, is recall", "lddu",
           slip=True),
    Metric("sample_f1_empty_0", "multi_label", _with(sample_f1, empty=0), "two empty sets score 0"),
    Metric("sample_f1_empty_1", "multi_label", _with(sample_f1, empty=1), "two empty sets score 1"),
    Metric("jaccard_empty_0", "multi_label", _with(jaccard, empty=0), "two empty sets score 0; printed as Acc", "lddu"),
    Metric("jaccard_empty_1", "multi_label", _with(jaccard, empty=1), "two empty sets score 1"),
    Metric("subset_accuracy", "multi_label", subset_accuracy, "whole label set right"),
    Metric("label_accuracy", "multi_label", label_accuracy, "1 - Hamming loss"),
    Metric("label_balanced_accuracy", "multi_label", label_balanced_accuracy, "mean of sensitivity and specificity",
           "mosei"),
    Metric("mean_average_precision", "multi_label", mean_average_precision, "macro over labels", needs="scores"),
    Metric("global_average_precision", "multi_label", global_average_precision, "all pairs ranked together", "lddu",
           needs="scores"),
    Metric("auroc_macro", "multi_label", multilabel_auroc, "macro over labels", needs="scores"),
]  # fmt: skip


def metrics(kind: str) -> dict[str, Metric]:
    """Return the metrics of a task kind by name. Raises EvaluationError for an unknown kind."""
    choice(kind, KINDS, "task kind")
    return {m.name: m for m in _ALL if m.kind == kind}


def metric(kind: str, name: str) -> Metric:
    """Return one metric. Raises EvaluationError naming the known ones."""
    known = metrics(kind)
    choice(name, tuple(known), f"{kind} metric")
    return known[name]


def decide(kind: str, scores: ArrayLike, threshold: float = 0.5) -> Floats | Ints:
    """Return the prediction that goes with scores: arg-max (first of ties), or score >= threshold for label sets."""
    choice(kind, KINDS, "task kind")
    if kind == "regression":
        return finite(scores, "scores", 1)
    s = finite(scores, "scores", 2)
    return s.argmax(1) if kind == "single_label" else (s >= threshold).astype(np.int64)


def undefined(error: EvaluationError) -> bool:
    """Whether a metric was refused because these targets cannot define it, and not for a fault of the input."""
    return any(words in str(error) for words in ("is defined for no class", "leaves no sample"))


def score(
    kind: str, target: ArrayLike, prediction: ArrayLike | None = None, scores: ArrayLike | None = None,
    threshold: float = 0.5,
) -> pd.DataFrame:  # fmt: skip
    """Return every metric of the task that can be computed: columns metric, value, higher_is_better, slip, convention,
    note.

    Give `prediction`, or `scores` (N, C), from which the prediction follows (see `decide`), or both. Metrics that need
    scores are left out without them. A metric that this target cannot define has value NaN and says why in `note`.
    """
    if prediction is None and scores is None:
        raise EvaluationError("give a prediction, scores, or both")
    known = metrics(kind)
    predicted = decide(kind, scores, threshold) if prediction is None and scores is not None else prediction
    rows = []
    for m in known.values():
        given = scores if m.needs == "scores" else predicted
        if given is None:
            continue
        note = ""
        try:
            value = m(target, given)
        except EvaluationError as e:
            if not undefined(e):
                raise
            value, note = float("nan"), str(e)
        if np.isnan(value) and not note:
            note = "a constant target or prediction has no correlation"
        rows.append((m.name, value, m.higher_is_better, m.slip, m.convention, note))
    return pd.DataFrame(rows, columns=["metric", "value", "higher_is_better", "slip", "convention", "note"])
