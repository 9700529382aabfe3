"""The numbers of a report against scikit-learn, SciPy, repeated rows and planted truths."""

import json
from collections.abc import Callable
from pathlib import Path

import make_predictions as make
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from affectcore.audit.read import Submission, read
from affectcore.audit.report import audit
from affectcore.audit.resample import RANK_METRICS, Draws, metric_draws
from affectcore.audit.tables import Report, Value
from affectcore.errors import ConfigError, EvaluationError
from affectcore.evaluation.floors import constant_floor
from affectcore.evaluation.metrics import Metric, metrics
from affectcore.evaluation.statistics import compare_items, hierarchical_bootstrap, percentile_interval, sample_size
from affectcore.streams import rng

Save = Callable[..., Path]
KINDS = {"regression": make.regression, "single_label": make.single, "multi_label": make.multi}


def report_of(saved: Save, frame: pd.DataFrame, draws: int = 200, **options: float) -> Report:
    return audit(read(saved(frame)), draws=draws, **options)


def value(report: Report, model: str, metric: str) -> Value:
    return next(v for v in report.metrics if (v.model, v.metric) == (model, metric))


def by_hand(frame: pd.DataFrame, model: str, function: Callable[[pd.DataFrame], float]) -> float:
    """The mean over seeds of a function of one run's rows."""
    return float(np.mean([function(rows) for _, rows in frame[frame.model == model].groupby("seed")]))


def test_regression_against_sklearn(saved: Save) -> None:
    frame = make.regression()
    r = report_of(saved, frame)
    signs = frame[frame.target != 0]
    expected = {
        "mae": by_hand(frame, "TFN", lambda d: sk.mean_absolute_error(d.target, d.prediction)),
        "pearson": by_hand(frame, "TFN", lambda d: stats.pearsonr(d.target, d.prediction).statistic),
        "acc2_non_zero": by_hand(signs, "TFN", lambda d: sk.accuracy_score(d.target > 0, d.prediction > 0)),
        "acc2_has_zero": by_hand(frame, "TFN", lambda d: sk.accuracy_score(d.target >= 0, d.prediction >= 0)),
        "f1_non_zero": by_hand(
            signs, "TFN", lambda d: sk.f1_score(d.target > 0, d.prediction > 0, average="weighted")
        ),
        "f1_non_zero_swapped": by_hand(
            signs, "TFN", lambda d: sk.f1_score(d.prediction > 0, d.target > 0, average="weighted")
        ),
        "acc7": by_hand(
            frame, "TFN",
            lambda d: (np.rint(d.target.clip(-3, 3)) == np.rint(d.prediction.clip(-3, 3))).mean(),
        ),
    }  # fmt: skip
    for name, want in expected.items():
        assert value(r, "TFN", name).value == pytest.approx(want), name


def test_single_label_against_sklearn(saved: Save) -> None:
    frame = make.single()
    columns = [f"score_{c}" for c in make.CLASSES]
    frame["top"] = [make.CLASSES[i] for i in frame[columns].to_numpy().argmax(1)]
    r = report_of(saved, frame.drop(columns="top"))
    one_hot = [[t == c for c in make.CLASSES] for t in frame.target]
    truth = pd.DataFrame(np.array(one_hot, float), index=frame.index)
    expected = {
        "accuracy": lambda d: sk.accuracy_score(d.target, d.top),
        "balanced_accuracy": lambda d: sk.balanced_accuracy_score(d.target, d.top),
        "macro_f1": lambda d: sk.f1_score(d.target, d.top, average="macro"),
        "weighted_f1": lambda d: sk.f1_score(d.target, d.top, average="weighted"),
        "weighted_f1_swapped": lambda d: sk.f1_score(d.top, d.target, average="weighted"),
        "auroc_macro": lambda d: sk.roc_auc_score(truth.loc[d.index], d[columns].to_numpy(), average="macro"),
    }
    for name, function in expected.items():
        assert value(r, "B", name).value == pytest.approx(by_hand(frame, "B", function)), name
    c = next(c for c in r.calibration if c.model == "B")
    assert c.nll == pytest.approx(
        by_hand(frame, "B", lambda d: sk.log_loss(d.target, d[columns].to_numpy(), labels=list(make.CLASSES)))
    )
    assert c.brier == pytest.approx(
        by_hand(frame, "B", lambda d: ((d[columns].to_numpy() - truth.loc[d.index].to_numpy()) ** 2).sum(1).mean())
    )
    shares = frame[(frame.model == "A") & (frame.seed == 0)].target.value_counts(normalize=True)
    assert c.floor_nll == pytest.approx(-(shares * np.log(shares)).sum())
    assert sum(c.count) == 3 * 150


def test_label_sets_against_sklearn(saved: Save) -> None:
    frame = make.multi()
    r = report_of(saved, frame)

    def sets(d: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score = d[[f"score_{c}" for c in make.LABELS]].to_numpy()
        return d[[f"target_{c}" for c in make.LABELS]].to_numpy(), (score >= 0.5).astype(int), score

    def with_sets(function: Callable[..., float]) -> Callable[[pd.DataFrame], float]:
        return lambda d: function(*sets(d))

    expected = {
        "micro_f1": lambda y, p, s: sk.f1_score(y, p, average="micro"),
        "macro_f1": lambda y, p, s: sk.f1_score(y, p, average="macro"),
        "micro_precision": lambda y, p, s: sk.precision_score(y, p, average="micro"),
        "micro_precision_swapped": lambda y, p, s: sk.precision_score(p, y, average="micro"),
        "jaccard_empty_0": lambda y, p, s: sk.jaccard_score(y, p, average="samples", zero_division=0),
        "jaccard_empty_1": lambda y, p, s: sk.jaccard_score(y, p, average="samples", zero_division=1),
        "subset_accuracy": lambda y, p, s: sk.accuracy_score(y, p),
        "label_accuracy": lambda y, p, s: 1 - sk.hamming_loss(y, p),
        "mean_average_precision": lambda y, p, s: sk.average_precision_score(y, s, average="macro"),
    }
    for name, function in expected.items():
        assert value(r, "A", name).value == pytest.approx(by_hand(frame, "A", with_sets(function))), name


# --- the cheap bootstrap -------------------------------------------------------------------------------------------


def run_of(s: Submission, model: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    m = s.models[model]
    return m.prediction[seed], None if m.scores is None else m.scores[seed]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grouped", [False, True])
def test_every_draw_is_the_metric_of_the_repeated_rows(saved: Save, kind: str, grouped: bool) -> None:
    s = read(saved(KINDS[kind](n=40)))
    group = np.arange(40) % 9 if grouped else None
    prediction, scores = run_of(s)
    if scores is not None:
        scores = np.round(scores, 1)  # ties
    draws = Draws.make(40, group, 12)
    out = metric_draws(kind, s.target, prediction, scores, draws)
    known = {name: m for name, m in metrics(kind).items() if "batch_averaged" not in name}
    assert set(known) <= set(out)
    for i, weights in enumerate(draws.weights(0, 12)):
        take = np.repeat(np.arange(40), weights.astype(int))
        if grouped:
            assert all(np.ptp(weights[group == g]) == 0 for g in range(9))
        else:
            assert len(take) == 40
        for name, m in known.items():
            if m.needs == "prediction" or scores is not None:
                given = prediction if m.needs == "prediction" else scores
                assert out[name][i] == pytest.approx(or_nan(m, s.target[take], given[take]), nan_ok=True), name


def or_nan(m: Metric, target: np.ndarray, given: np.ndarray) -> float:
    try:
        return m(target, given)
    except EvaluationError:
        return float("nan")


def test_all_metrics_of_ranks_have_fewer_draws_and_no_other(saved: Save) -> None:
    s = read(saved(make.multi(n=30)))
    out = metric_draws("multi_label", s.target, *run_of(s), Draws.make(30, None, 600))
    assert {name for name, d in out.items() if len(d) < 600} == set(RANK_METRICS)


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_agree_with_the_hierarchical_bootstrap(saved: Save, grouped: bool) -> None:
    frame = make.regression(n=200, seeds=5, groups=25, error=(0.8, 0.7))
    if not grouped:
        frame = frame.drop(columns="group")
    s = read(saved(frame))
    r = audit(s, draws=4000)
    error = np.abs(s.models[0].prediction - s.target)
    mine = value(r, "LMF", "mae").interval
    assert mine is not None
    other = percentile_interval(hierarchical_bootstrap(error, rng(1, "t"), groups=s.group, draws=4000))
    width = other[1] - other[0]
    np.testing.assert_allclose(mine, other, atol=0.08 * width)
    pair = next(p for p in r.pairs if p.metric == "mae")
    theirs = compare_items(
        error,
        np.abs(s.models[1].prediction - s.target),
        rng(2, "t"),
        groups=s.group,
        higher_is_better=False,
        draws=4000,
    )
    assert pair.difference == pytest.approx(theirs.estimate)
    np.testing.assert_allclose(pair.interval, theirs.interval95, atol=0.08 * np.ptp(theirs.interval95))
    assert pair.mde == pytest.approx(theirs.mde, rel=0.08)
    assert pair.p_seeds == pytest.approx(
        stats.ttest_rel(*[-np.abs(m.prediction - s.target).mean(1) for m in s.models]).pvalue
    )
    assert pair.seed_sd == pytest.approx(theirs.sd)
    assert pair.seeds_for_a_point == sample_size(theirs.sd, 0.01)
    assert pair.mde_items < pair.mde


# --- floors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_floors_are_the_best_constants(saved: Save, kind: str) -> None:
    s = read(saved(KINDS[kind]()))
    r = audit(s, draws=100)
    table = constant_floor(kind, s.target, s.target).set_index("metric")
    seen = 0
    for v in r.metrics:
        if v.metric in table.index:
            assert v.floor == pytest.approx(table.loc[v.metric, "best_value"], nan_ok=True), v.metric
            seen += 1
    assert seen >= 2 * len(table)


def test_a_constant_model_is_not_above_the_floor_and_has_no_correlation(saved: Save) -> None:
    frame = make.regression()
    frame.loc[frame.model == "LMF", "prediction"] = 0.5
    r = report_of(saved, frame)
    for name in ("mae", "acc2_non_zero", "acc7"):
        assert value(r, "LMF", name).above_floor is False
        assert value(r, "TFN", name).above_floor is True
    pearson = value(r, "LMF", "pearson")
    assert np.isnan(pearson.value)
    assert pearson.interval is None
    assert "no correlation" in pearson.note
    assert any(line.startswith("LMF: the interval of acc2_non_zero") for line in r.findings)
    assert any("Pearson's r is not defined" in t.sentence for t in r.traps)
    assert not [p for p in r.pairs if p.metric == "pearson"]
    rows = [row for row in r.to_json()["metrics"] if (row["model"], row["metric"]) == ("LMF", "pearson")]
    assert rows[0]["value"] is None


# --- properties ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_and_columns_changes_nothing(saved: Save, kind: str) -> None:
    frame = KINDS[kind](n=60)
    r = np.random.default_rng(5)
    mixed = frame.iloc[r.permutation(len(frame))]
    if kind != "multi_label":  # the order of target columns is that of the labels
        mixed = mixed[list(r.permutation(frame.columns))]
    a, b = report_of(saved, frame), report_of(saved, mixed)
    assert json.dumps(a.to_json()) == json.dumps(b.to_json())


def test_a_better_model_is_found(saved: Save) -> None:
    frame = make.regression(n=400, seeds=5, groups=50, models=("A", "B", "C"), error=(0.4, 0.8, 0.8))
    r = report_of(saved, frame, draws=1000)
    found = {(p.a, p.b): p for p in r.pairs if p.metric == "mae"}
    assert found["A", "B"].resolved
    assert found["A", "C"].resolved
    assert found["A", "B"].difference > 0
    assert found["A", "B"].interval[0] > 0
    assert found["A", "B"].wins == 5
    assert not found["B", "C"].resolved


def test_equal_models_are_told_apart_no_more_often_than_said(saved: Save) -> None:
    """60 data sets without a true difference: at .05 more than 8 findings have a chance of .003."""
    hits = 0
    for k in range(60):
        frame = make.regression(n=40, seeds=6, groups=20, seed=k, between=0.4)
        hits += next(p for p in report_of(saved, frame, draws=100).pairs if p.metric == "mae").p <= 0.05
    assert hits <= 8


def test_holm_over_the_pairs_of_a_metric(saved: Save) -> None:
    r = report_of(saved, make.regression(models=("A", "B", "C", "D"), error=(0.5, 0.6, 0.8, 0.8)))
    for metric in {p.metric for p in r.pairs}:
        pairs = sorted((p for p in r.pairs if p.metric == metric), key=lambda p: p.p)
        assert len(pairs) == 6
        running = 0.0
        for k, p in enumerate(pairs):
            running = max(running, min(1.0, (6 - k) * p.p))
            assert p.p_holm == pytest.approx(running)


def test_one_seed_has_mcnemar(saved: Save) -> None:
    frame = make.single(seeds=1).drop(columns="seed")
    s = read(saved(frame))
    r = audit(s, draws=100)
    right = [m.prediction[0] == s.target for m in s.models]
    only = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    pair = next(p for p in r.pairs if p.metric == "accuracy")
    assert pair.p_mcnemar == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
    assert (pair.p_seeds, pair.seed_sd, pair.seeds) == (None, None, 1)
    assert all(p.p_mcnemar is None for p in r.pairs if p.metric != "accuracy")
    assert any("One seed only (A, B)" in w for w in r.warnings)


def test_pairs_rest_on_shared_seeds(saved: Save) -> None:
    frame = make.regression(seeds=6)
    some = frame[~((frame.model == "TFN") & (frame.seed < 2))]
    r = report_of(saved, some)
    assert {p.seeds for p in r.pairs} == {4}
    only = report_of(saved, frame[frame.seed >= 2])
    assert [p.difference for p in r.pairs] == pytest.approx([p.difference for p in only.pairs])
    assert any("different seeds" in w for w in r.warnings)
    none = report_of(saved, frame[(frame.model == "TFN") == (frame.seed < 3)])
    assert none.pairs == ()
    assert any("LMF and TFN share no seed" in w for w in none.warnings)


# --- traps and warnings --------------------------------------------------------------------------------------------


def test_conventions_move_the_numbers_by_what_the_sentence_says(saved: Save) -> None:
    r = report_of(saved, make.regression())
    trap = next(t for t in r.traps if (t.name, t.model) == ("Acc-2 convention", "TFN"))
    has, non = (value(r, "TFN", f"acc2_{k}").value for k in ("has_zero", "non_zero"))
    assert (trap.values["has_zero"], trap.values["non_zero"]) == pytest.approx((has, non))
    assert f"moves by {abs(100 * (has - non)):.1f} point" in trap.sentence
    multi = report_of(saved, make.multi())
    jaccard = next(t for t in multi.traps if t.name == "Jaccard of empty sets")
    assert jaccard.values["empty_1"] > jaccard.values["empty_0"]


def test_batches_make_a_constant_look_better(saved: Save) -> None:
    frame = make.single(n=300)
    r = report_of(saved, frame, batch_size=8)
    constant = next(t for t in r.traps if t.name == "batch averaging, constant")
    assert constant.values["balanced_accuracy"] == pytest.approx(0.25)
    assert constant.values["batch_averaged"] > 0.25
    trap = next(t for t in r.traps if t.name == "batch averaging")
    assert trap.values["lowest_order"] < trap.values["highest_order"]
    assert value(r, "A", "batch_averaged_macro_recall_8").interval is None


def test_a_threshold_chosen_on_test_never_loses(saved: Save) -> None:
    r = report_of(saved, make.multi())
    for t in r.traps:
        if t.name == "threshold":
            assert t.values["best"] >= t.values["at_half"]
            assert t.values["at_half"] == pytest.approx(value(r, t.model, "micro_f1").value)


def test_predictions_that_contradict_the_scores_are_counted(saved: Save) -> None:
    frame = make.single(n=40)
    scores = frame[[f"score_{c}" for c in make.CLASSES]].to_numpy()
    frame["prediction"] = [make.CLASSES[i] for i in scores.argmin(1)]
    trap = next(t for t in report_of(saved, frame).traps if t.name == "prediction and scores")
    assert trap.values["count"] == 120


def test_the_scale_decides_which_metrics_are_shown(saved: Save) -> None:
    frame = make.regression()
    names = {v.metric for v in report_of(saved, frame).metrics}
    assert {"acc5", "acc5_half_away", "acc7_sdk"} <= names
    rating = report_of(saved, frame.assign(target=frame.target + 4, prediction=frame.prediction + 4))
    assert {v.metric for v in rating.metrics} == {"mae", "pearson"}
    sims = report_of(saved, frame.assign(target=frame.target / 3, prediction=frame.prediction / 3))
    assert {"acc_sims_2", "acc_sims_3", "acc_sims_5"} <= {v.metric for v in sims.metrics}
    assert "acc7" not in {v.metric for v in sims.metrics}
    wide = report_of(saved, frame, low=-5, high=5)
    assert "acc7" not in {v.metric for v in wide.metrics}


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (make.regression().drop(columns="group"), "No column group"),
        (make.regression(groups=1), "All items are in one group"),
        (make.regression(groups=5), "Only 5 groups"),
        (make.regression(seeds=2), "Fewer than 5 seeds"),
        (make.regression(n=20), "is itself known only to"),
        (make.single(n=30), "the share of the most frequent class"),
        (make.single(n=40), "Classes with fewer than 10 items"),
        (make.single().drop(columns=[f"score_{c}" for c in make.CLASSES]).assign(prediction="sad"), "No probabilities"),
    ],
)
def test_warnings(saved: Save, frame: pd.DataFrame, words: str) -> None:
    assert any(words in w for w in report_of(saved, frame, draws=100).warnings)


def test_no_warning_without_reason(saved: Save) -> None:
    frame = make.regression(n=1500, seeds=5, groups=50)
    assert report_of(saved, frame, draws=100).warnings == ()


def test_too_few_draws_for_many_pairs_are_told(saved: Save) -> None:
    frame = make.regression(n=40, models=tuple("ABCDEF"), error=(0.5,) * 6)
    assert any("no p can be below 0.3 after Holm" in w for w in report_of(saved, frame, draws=100).warnings)


@pytest.mark.parametrize(("options", "part"), [({"draws": 50}, "--draws"), ({"batch_size": 0}, "--batch-size")])
def test_options_are_checked(saved: Save, options: dict[str, int], part: str) -> None:
    s = read(saved(make.regression(n=20)))
    with pytest.raises(ConfigError, match=part):
        audit(s, **options)
