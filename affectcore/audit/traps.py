"""Ways in which the same predictions give another number: conventions, slips, thresholds, order."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affectcore.audit.read import Floats, Predictions, Submission
from affectcore.audit.tables import Trap
from affectcore.audit.words import counted, number, points
from affectcore.evaluation.metrics import (
    balanced_accuracy,
    batch_averaged_macro_recall,
    metrics,
    micro_f1,
    round_sentiment,
)
from affectcore.streams import rng

SHUFFLES = 100


class _Traps(list[Trap]):
    def note(self, name: str, model: str, sentence: str, **values: float) -> None:
        """Append a trap; a model's sentence starts with its name."""
        self.append(Trap(name, model, values, f"{model}: {sentence}" if model else sentence))


def traps(s: Submission, batch_size: int, bounds: tuple[float, float]) -> list[Trap]:
    """Return what there is to say of every model, values as means over seeds."""
    out = _Traps()
    if s.task == "single_label":
        _constant_by_batches(out, s, batch_size)
    elif s.task == "multi_label":
        _no_label(out, s)
    for m in s.models:
        if s.task == "regression":
            _regression(out, s, m, bounds)
        elif s.task == "single_label":
            _single(out, s, m, batch_size)
        else:
            _multi(out, s, m)
    return out


def is_signed(target: Floats) -> bool:
    """Targets on both sides of 0, so that a sign means something."""
    return bool(target.min() < 0 < target.max())


def is_sentiment(target: Floats, bounds: tuple[float, float]) -> bool:
    """Targets on the scale from -3 to 3, so that rounded classes mean something."""
    low, high = bounds
    return is_signed(target) and low >= -3 and high <= 3 and max(-low, high) > 1


def _mean(metric: Callable[[Floats, Floats], float], target: Floats, runs: Floats) -> float:
    return float(np.mean([metric(target, run) for run in runs]))


def _regression(out: _Traps, s: Submission, m: Predictions, bounds: tuple[float, float]) -> None:
    y, known = s.target, metrics("regression")

    def value(name: str) -> float:
        return _mean(known[name], y, m.prediction)

    if is_signed(y):
        has, non, share = value("acc2_has_zero"), value("acc2_non_zero"), float((y == 0).mean())
        sentence = (
            f"Acc-2 is {number(has)} with zeros as positive and {number(non)} without zeros: it moves by "
            f"{points(non - has)} with the convention ({100 * share:.1f} % of the targets are 0)."
        )
        out.note("Acc-2 convention", m.name, sentence, has_zero=has, non_zero=non, zero_targets=share)
        right, swapped = value("f1_non_zero"), value("f1_non_zero_swapped")
        sentence = (
            f"weighted F1 without zeros is {number(right)}; with target and prediction exchanged {number(swapped)}, "
            f"a change of {points(swapped - right)}."
        )
        out.note("swapped F1", m.name, sentence, f1_non_zero=right, swapped=swapped)
        zeros = int((m.prediction == 0).sum())
        if zeros:
            sentence = f"{counted(zeros, 'prediction')} of exactly 0; whether 0 counts as positive is a convention."
            out.note("predictions of 0", m.name, sentence, count=zeros)
    if is_sentiment(y, bounds):
        even, away, sdk = (value(name) for name in ("acc7", "acc7_half_away", "acc7_sdk"))
        moved = int((round_sentiment(y, 7, "half_even") != round_sentiment(y, 7, "half_away")).sum())
        sentence = (
            f"Acc-7 is {number(even)} with halves to even, {number(away)} with halves away from zero and {number(sdk)} "
            f"with the SDK's thresholds ({counted(moved, 'target')} of another class under the second than the first)."
        )
        out.note("Acc-7 rounding", m.name, sentence, half_even=even, half_away=away, sdk=sdk)
    constant = int(sum(np.ptp(run) == 0 for run in m.prediction))
    if constant:
        sentence = (
            f"{constant} of {counted(len(m.seeds), 'seed')} predict one value for all items, so Pearson's r is not "
            f"defined; code that prints 0, or drops such a seed, hides it."
        )
        out.note("constant predictions", m.name, sentence, seeds=constant)
    outside = int(((m.prediction < bounds[0]) | (m.prediction > bounds[1])).sum())
    if outside:
        sentence = (
            f"{outside:,} of {counted(m.prediction.size, 'prediction')} lie outside the range of the targets, "
            f"[{bounds[0]:g}, {bounds[1]:g}]; clipping them changes MAE and Pearson's r."
        )
        out.note("out of range", m.name, sentence, count=outside)


def _constant_by_batches(out: _Traps, s: Submission, batch_size: int) -> None:
    y = s.target.astype(np.int64)
    top = int(np.bincount(y).argmax())
    constant = np.full(len(y), top)
    batched, fair = batch_averaged_macro_recall(y, constant, batch_size=batch_size), balanced_accuracy(y, constant)
    sentence = (
        f"Always answering {s.classes[top]!r} has a balanced accuracy of {number(fair)}, and {number(batched)} if "
        f"recall is averaged over batches of {batch_size}."
    )
    out.note("batch averaging, constant", "", sentence, balanced_accuracy=fair, batch_averaged=batched)


def _single(out: _Traps, s: Submission, m: Predictions, batch_size: int) -> None:
    y, known = s.target, metrics("single_label")

    def batched(p: Floats, order: NDArray[np.int64] | slice = slice(None)) -> float:
        return batch_averaged_macro_recall(y[order], p[order], batch_size=batch_size)

    true, slip = _mean(balanced_accuracy, y, m.prediction), float(np.mean([batched(p) for p in m.prediction]))
    orders = [batched(m.prediction[0], rng(0, "audit", "order", k).permutation(len(y))) for k in range(SHUFFLES)]
    low, high = min(orders), max(orders)
    which = f" (seed {m.seeds[0]})" if len(m.seeds) > 1 else ""
    sentence = (
        f"balanced accuracy is {number(true)}; averaged over batches of {batch_size} in the order of the ids it is "
        f"{number(slip)}, and between {number(low)} and {number(high)} in {SHUFFLES} random orders{which}."
    )
    values = {"balanced_accuracy": true, "batch_averaged": slip, "lowest_order": low, "highest_order": high}
    out.note("batch averaging", m.name, sentence, **values)
    right, swapped = (_mean(known[n], y, m.prediction) for n in ("weighted_f1", "weighted_f1_swapped"))
    sentence = (
        f"weighted F1 is {number(right)}; with target and prediction exchanged {number(swapped)}, a change of "
        f"{points(swapped - right)}."
    )
    out.note("swapped F1", m.name, sentence, weighted_f1=right, swapped=swapped)
    constant = int(sum(np.ptp(run) == 0 for run in m.prediction))
    if constant:
        sentence = f"{constant} of {counted(len(m.seeds), 'seed')} answer one class for all items."
        out.note("constant predictions", m.name, sentence, seeds=constant)
    if m.scores is not None and len(s.classes) == 2:
        _threshold(out, m, m.scores, "accuracy", lambda cut, run: float(((run[:, 1] >= cut) == y).mean()))
    _disagreement(out, m, "predictions are not the class with the highest score")


def _no_label(out: _Traps, s: Submission) -> None:
    value = metrics("multi_label")["label_accuracy"](s.target, np.zeros_like(s.target))
    sentence = f"Predicting no label at all has a label accuracy of {number(value)}: absent labels count as right."
    out.note("label accuracy", "", sentence, no_label=value)


def _multi(out: _Traps, s: Submission, m: Predictions) -> None:
    y, known = s.target, metrics("multi_label")
    names = ("jaccard_empty_0", "jaccard_empty_1", "micro_precision", "micro_precision_swapped")
    zero, one, right, swapped = (_mean(known[n], y, m.prediction) for n in names)
    empty = float((y.sum(1) == 0).mean())
    sentence = (
        f"Jaccard is {number(zero)} if two empty sets score 0 and {number(one)} if they score 1: it moves by "
        f"{points(one - zero)} with the convention ({100 * empty:.1f} % of the items have no label)."
    )
    out.note("Jaccard of empty sets", m.name, sentence, empty_0=zero, empty_1=one, empty_targets=empty)
    sentence = (
        f"micro precision is {number(right)}; with target and prediction exchanged {number(swapped)} is printed, which "
        f"is the recall."
    )
    out.note("swapped precision", m.name, sentence, micro_precision=right, swapped=swapped)
    if m.scores is not None:
        _threshold(out, m, m.scores, "micro-F1", lambda cut, run: micro_f1(y, run >= cut))
    _disagreement(out, m, "label sets are not those of scores >= .5")


def _disagreement(out: _Traps, m: Predictions, what: str) -> None:
    if m.disagree:
        of = m.prediction.shape[0] * m.prediction.shape[1]
        sentence = (
            f"{m.disagree:,} of {of:,} {what}; metrics of decisions use the prediction, those of ranks the score."
        )
        out.note("prediction and scores", m.name, sentence, count=m.disagree)


def _threshold(out: _Traps, m: Predictions, scores: Floats, name: str, value: Callable[[float, Floats], float]) -> None:
    """What a threshold chosen on the test items gives for nothing."""
    cuts = np.arange(1, 20) / 20
    table = np.array([[value(cut, run) for cut in cuts] for run in scores])
    half, best = float(table[:, 9].mean()), float(table.max(1).mean())
    sentence = (
        f"{name} is {number(half)} at threshold .5 and {number(best)} at the best of {len(cuts)} thresholds chosen on "
        f"these same items, {points(best - half)} more."
    )
    out.note("threshold", m.name, sentence, at_half=half, best=best, best_cut=float(cuts[table.mean(0).argmax()]))
