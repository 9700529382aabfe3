"""What a predictor scores that never looks at its input. No number is read without this one beside it."""

from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import EvaluationError
from affectcore.evaluation.inputs import binary_matrix, choice, finite, labels
from affectcore.evaluation.metrics import KINDS, Metric, metrics, undefined

MAX_LABELS = 10  # every label set is tried up to here: 1,024 constants


def _constants(kind: str, train: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the constant predictions to try, one a row."""
    if kind == "regression":
        marks = [train.mean(), np.median(train), 0.0, *np.arange(np.ceil(train.min()), np.floor(train.max()) + 1)]
        return np.unique(np.append(marks, np.quantile(train, [0.05, 0.25, 0.75, 0.95])))[:, None]
    if kind == "single_label":
        return np.arange(int(train.max()) + 1, dtype=np.float64)[:, None]
    if train.shape[1] > MAX_LABELS:
        raise EvaluationError(
            f"constant_floor tries every label set, at most {MAX_LABELS} labels, got {train.shape[1]}"
        )
    return np.array(list(product((0.0, 1.0), repeat=train.shape[1])))


def _repeat(constant: NDArray[np.float64], rows: int, kind: str) -> NDArray[np.float64]:
    wide = np.broadcast_to(constant, (rows, len(constant)))
    return wide if kind == "multi_label" else wide[:, 0]


def _value(m: Metric, target: NDArray[np.float64], constant: NDArray[np.float64], kind: str) -> float:
    try:
        return m(target, _repeat(constant, len(target), kind))
    except EvaluationError as e:
        if not undefined(e):
            raise
        return float("nan")  # as in `score`


def constant_floor(kind: str, target_train: ArrayLike, target_test: ArrayLike) -> pd.DataFrame:
    """Return what constant predictors score on the test targets, per metric: columns metric, constant, value,
    best_constant, best_value.

    `constant` is the constant that is best on the *training* targets, `value` its score on test: the floor a model must
    pass. `best_value` is the best any constant of the list reaches on test, chosen with the answers in hand: what a
    selection on test can get for nothing. Tried are the class numbers, all label sets (up to 10 labels), or for a
    regression the whole numbers in range, 0, mean, median and four quantiles of the training targets. Metrics of scores
    are left out: a constant score has AUROC 0.5. Where a metric is the same for every constant or not defined for one
    (Pearson), the first constant is shown.
    """
    choice(kind, KINDS, "task kind")
    if kind == "regression":
        train, test = finite(target_train, "target_train", 1), finite(target_test, "target_test", 1)
    elif kind == "single_label":
        train = labels(target_train, None, "target_train").astype(np.float64)
        test = labels(target_test, None, "target_test").astype(np.float64)
    else:
        train = binary_matrix(target_train, "target_train").astype(np.float64)
        test = binary_matrix(target_test, "target_test").astype(np.float64)
    tried = _constants(kind, train)
    rows = []
    for m in metrics(kind).values():
        if m.needs == "scores":
            continue
        sign = 1 if m.higher_is_better else -1
        on_train = np.array([_value(m, train, c, kind) for c in tried])
        on_test = np.array([_value(m, test, c, kind) for c in tried])
        chosen, best = (int(np.argmax(np.nan_to_num(sign * v, nan=-np.inf))) for v in (on_train, on_test))
        rows.append((m.name, _show(tried[chosen], kind), on_test[chosen], _show(tried[best], kind), on_test[best]))
    return pd.DataFrame(rows, columns=["metric", "constant", "value", "best_constant", "best_value"])


def _show(constant: NDArray[np.float64], kind: str) -> float | int | tuple[int, ...]:
    if kind == "regression":
        return float(constant[0])
    return tuple(int(v) for v in constant) if kind == "multi_label" else int(constant[0])


def class_share_floor(target: ArrayLike) -> float:
    """Return the share of the most frequent class: the accuracy of the best constant."""
    y = labels(target, None, "target")
    return float(np.bincount(y).max() / len(y))
