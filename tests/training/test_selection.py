"""Selection rules on hand-made histories; thresholds against brute force with scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from affectcore.data.schema import Selection
from affectcore.errors import ConfigError
from affectcore.training.selection import RULES, THRESHOLDS, extremes, rule, threshold

VALUES = [math.nan, 0.3, 0.7, 0.2, 0.7]


def test_best_is_the_earliest_best_and_nan_never_wins():
    assert rule("valid_best").select(VALUES, True) == Selection("valid_best", 2, 0.7)
    assert rule("valid_best").select(VALUES, False) == Selection("valid_best", 3, 0.2)
    assert rule("valid_best").select(VALUES[:1], True) == Selection("valid_best", None, None)


@pytest.mark.parametrize("name", ["valid_last", "fixed_epoch"])
def test_last_is_the_last(name):
    assert rule(name).select(VALUES, True) == Selection(name, 4, 0.7)
    assert rule(name).select(VALUES[:1], True) == Selection(name, 0, None)


def test_a_rule_reads_the_test_split_only_if_its_name_says_so():
    for r in RULES.values():
        reads = "test" in (r.split, r.threshold_split)
        assert r.leaky == reads == r.select([0.5], True).leaky
    assert {"oracle_test_epoch", "oracle_test_max_metric", "oracle_test_threshold", "oracle_test_tau"} <= set(RULES)
    with pytest.raises(ConfigError, match="'test_best' is unknown: use valid_best"):
        rule("test_best")


def test_threshold_is_the_best_of_the_grid():
    rng = np.random.default_rng(0)
    y = (rng.random((80, 3)) < 0.3).astype(np.int64)
    s = 0.2 * y + 0.4 * rng.random((80, 3))
    best = [f1_score(y, s >= t, average="micro", zero_division=0) for t in THRESHOLDS]
    t, value = threshold(y, s, "micro_f1")
    assert t == THRESHOLDS[int(np.argmax(best))]
    assert value == pytest.approx(max(best))
    assert value > f1_score(y, s >= 0.5, average="micro")
    with pytest.raises(ConfigError, match="computed from scores"):
        threshold(y, s, "auroc_macro")


def test_extremes_take_each_metric_at_its_own_epoch():
    epochs = [{"loss": 1.0, "mae": 0.5, "pearson": 0.9}, {"loss": 0.4, "mae": 0.7, "pearson": math.nan}]
    assert extremes("regression", epochs) == {"loss": 0.4, "mae": 0.5, "pearson": 0.9}
