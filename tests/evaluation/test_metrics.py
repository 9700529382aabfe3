"""Metrics against scikit-learn, torchmetrics and hand calculation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as sk

from affectcore.errors import EvaluationError
from affectcore.evaluation import metrics as m
from affectcore.streams import rng


@pytest.fixture
def sentiment():
    r = rng(0, "test sentiment")
    y = np.round(r.uniform(-3, 3, 400) * 3) / 3  # thirds, as MOSEI's mean of three raters
    y[:40] = 0
    return y, np.clip(y + r.normal(0, 1, 400), -3.4, 3.4)


@pytest.fixture
def classes():
    r = rng(0, "test classes")
    y = r.choice(6, 419, p=[0.66, 0.15, 0.09, 0.02, 0.05, 0.03])
    scores = r.normal(size=(419, 6)) + 1.5 * np.eye(6)[y]
    return y, scores.argmax(1), np.round(scores, 1)  # rounded: ties


@pytest.fixture
def sets():
    r = rng(0, "test sets")
    y = r.random((300, 6)) < [0.5, 0.25, 0.2, 0.1, 0.15, 0.08]
    scores = np.round(np.clip(0.4 * y + r.random((300, 6)) * 0.6, 0, 1), 2)
    return y.astype(int), (scores > 0.45).astype(int), scores


# --- sentiment -----------------------------------------------------------------------------------------------------


def test_accuracy_2_by_hand():
    y, p = [-1, 0, 0, 2, 1], [-1, -1, 1, 1, 0]
    assert m.accuracy_2(y, p, zero="has_zero") == pytest.approx(4 / 5)  # only the neutral predicted -1 is wrong
    assert m.accuracy_2(y, p, zero="non_zero") == pytest.approx(2 / 3)  # prediction 0 is not > 0
    assert m.accuracy_2(y, p, zero="non_zero", cut=">=") == pytest.approx(3 / 3)


def test_weighted_f1_2_is_sklearn_on_signs(sentiment):
    y, p = sentiment
    assert m.weighted_f1_2(y, p, zero="has_zero") == pytest.approx(sk.f1_score(y >= 0, p >= 0, average="weighted"))
    k = y != 0
    assert m.weighted_f1_2(y, p, zero="non_zero") == pytest.approx(sk.f1_score(y[k] > 0, p[k] > 0, average="weighted"))


def test_all_positive_predictor_reproduces_a_published_row():
    """CmIR Table 11: 62.8 % accuracy from an all-positive predictor goes with the printed weighted F1 of 48.5."""
    y = np.r_[np.ones(628), -np.ones(372)]
    assert m.accuracy_2(y, np.ones(1000), zero="non_zero") == pytest.approx(0.628)
    assert round(100 * m.weighted_f1_2(y, np.ones(1000), zero="non_zero"), 1) == 48.5


@pytest.mark.parametrize("classes", [3, 5, 7])
def test_rounding_half_even_is_numpys(sentiment, classes):
    y, p = sentiment
    k = (classes - 1) // 2
    want = (np.round(np.clip(y, -k, k)) == np.round(np.clip(p, -k, k))).mean()
    assert m.accuracy_k(y, p, classes=classes) == pytest.approx(want)


def test_rounding_rules_by_hand():
    x = [-3.2, -2.5, -2, -1.5, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 1.5, 2, 2.5, 3]
    assert m.round_sentiment(x, 7, "half_even").tolist() == [-3, -2, -2, -2, -1, 0, 0, 0, 0, 0, 1, 2, 2, 2, 3]
    assert m.round_sentiment(x, 7, "half_away").tolist() == [-3, -3, -2, -2, -1, -1, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert m.round_sentiment(x, 7, "sdk").tolist() == [-3, -3, -2, -2, -1, -1, -1, 0, 1, 1, 1, 2, 2, 3, 3]
    with pytest.raises(EvaluationError, match="defined for 7"):
        m.round_sentiment(x, 5, "sdk")


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=30))
def test_rounding_is_odd(x):
    for rule in ("half_even", "half_away", "sdk"):
        assert (m.round_sentiment(x, 7, rule) == -m.round_sentiment(-np.array(x), 7, rule)).all()


def test_sims_bins_by_hand():
    y = [-1, -0.7, -0.6, -0.1, 0, 0.1, 0.2, 0.7, 0.8]
    five = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    for i, a in enumerate(y):
        for j, b in enumerate(y):
            assert m.accuracy_sims([a], [b], classes=5) == float(five[i] == five[j])
    assert m.accuracy_sims([0, 0], [-0.4, 0.4], classes=2) == 0.5  # 0 is negative


def test_mae_and_pearson(sentiment):
    y, p = sentiment
    k = y != 0
    assert m.mae(y, p) == pytest.approx(sk.mean_absolute_error(y, p))
    assert m.mae(y, p, zero="non_zero") == pytest.approx(sk.mean_absolute_error(y[k], p[k]))
    assert m.pearson(y, p) == pytest.approx(pearsonr(y, p).statistic)
    assert m.pearson(y, p, zero="non_zero") == pytest.approx(pearsonr(y[k], p[k]).statistic)


def test_pearson_of_a_constant_is_undefined_not_repaired(sentiment):
    y, _ = sentiment
    assert np.isnan(m.pearson(y, np.full(len(y), 0.1)))
    assert m.pearson(y, np.full(len(y), 0.1), constant="zero") == 0


# --- one class per sample ------------------------------------------------------------------------------------------


def test_single_label_metrics_are_sklearns(classes):
    y, p, s = classes
    present = np.unique(y)
    assert m.accuracy(y, p) == pytest.approx(sk.accuracy_score(y, p))
    assert m.balanced_accuracy(y, p) == pytest.approx(sk.balanced_accuracy_score(y, p))
    assert m.macro_f1(y, p) == pytest.approx(sk.f1_score(y, p, labels=present, average="macro"))
    assert m.weighted_f1(y, p) == pytest.approx(sk.f1_score(y, p, average="weighted"))
    assert m.weighted_f1_swapped(y, p) == pytest.approx(sk.f1_score(p, y, average="weighted"))
    assert (m.confusion(y, p) == sk.confusion_matrix(y, p)).all()
    recalls = sk.recall_score(y, p, average=None)
    assert m.class_recalls(y, p) == pytest.approx(recalls)
    assert m.rare_class_recall(y, p, [3, 5]) == pytest.approx(recalls[[3, 5]].mean())
    for c in range(6):
        assert m.class_auroc(y, s)[c] == pytest.approx(sk.roc_auc_score(y == c, s[:, c]))
    assert m.auroc_macro(y, s) == pytest.approx(np.mean([sk.roc_auc_score(y == c, s[:, c]) for c in range(6)]))


def test_single_label_metrics_are_torchmetrics(classes):
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.functional.classification")
    y, p, _ = classes
    yt, pt = torch.as_tensor(y), torch.as_tensor(p)
    assert m.macro_f1(y, p) == pytest.approx(float(tm.multiclass_f1_score(pt, yt, 6, average="macro")), abs=1e-6)
    cut = slice(0, 64)  # one batch: here torchmetrics' macro rule is the batch-averaged metric itself
    want = float(tm.multiclass_recall(pt[cut], yt[cut], 6, average="macro"))
    assert m.batch_averaged_macro_recall(y[cut], p[cut], batch_size=64) == pytest.approx(want, abs=1e-6)


def constant_predictor_batches():
    """Seven batches, 6 x 64 + 35; four of the 64s hold five classes, the other three batches six."""
    batches = []
    for b in range(7):
        n, held = (64, 5) if b < 4 else (64 if b < 6 else 35, 6)
        batches.append(np.r_[np.arange(held), np.zeros(n - held, int)])
    return np.concatenate(batches)


def test_constant_predictor_scores_the_logged_value():
    """Affect-Diff's log gives a constant predictor .187033 where the true balanced accuracy is 1/6."""
    y = constant_predictor_batches()
    p = np.zeros_like(y)
    assert len(y) == 419
    assert round(m.batch_averaged_macro_recall(y, p, batch_size=64), 6) == 0.187033
    assert m.balanced_accuracy(y, p) == pytest.approx(1 / 6)
    assert m.batch_averaged_macro_recall(y, p, batches=np.arange(419) // 64) == pytest.approx(78.366667 / 419)


def test_batch_averaged_recall_depends_on_order_and_balanced_accuracy_does_not(classes):
    y, p, _ = classes
    order = rng(1, "order").permutation(len(y))
    assert m.balanced_accuracy(y[order], p[order]) == pytest.approx(m.balanced_accuracy(y, p))
    a, b = (m.batch_averaged_macro_recall(y[o], p[o], batch_size=64) for o in (np.arange(len(y)), order))
    assert abs(a - b) > 1e-4
    assert m.batch_averaged_macro_recall(y, p, batch_size=1000) == pytest.approx(m.balanced_accuracy(y, p))


def test_batch_averaged_recall_brute_force(classes):
    y, p, _ = classes
    total = 0.0
    for start in range(0, len(y), 50):
        yy, pp = y[start : start + 50], p[start : start + 50]
        held = set(yy) | set(pp)
        recalls = [(pp[yy == c] == c).mean() if (yy == c).any() else 0.0 for c in held]
        total += len(yy) * sum(recalls) / len(held)
    assert m.batch_averaged_macro_recall(y, p, batch_size=50) == pytest.approx(total / len(y))


def test_predicting_an_absent_class_is_punished_only_by_the_batch_metric():
    y, p = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    assert m.balanced_accuracy(y, p) == pytest.approx(0.75)
    assert m.batch_averaged_macro_recall(y, p, batch_size=4) == pytest.approx(0.5)


def test_swapped_f1_of_a_constant_is_the_f1_of_its_class():
    y = np.r_[np.zeros(66, int), np.ones(34, int)]
    p = np.zeros(100, int)
    assert m.weighted_f1(y, p) == pytest.approx(0.66 * 2 * 0.66 / 1.66)
    assert m.weighted_f1_swapped(y, p) == pytest.approx(2 * 0.66 / 1.66)


def test_always_happy_floor_of_affect_diff():
    """277 of 420 test videos are happy (.6595): a constant has macro F1 .1325 over the six classes."""
    y = np.r_[np.zeros(277, int), np.repeat(np.arange(1, 6), [50, 40, 23, 20, 10])]
    p = np.zeros(420, int)
    assert round(m.accuracy(y, p), 4) == 0.6595
    assert round(m.macro_f1(y, p), 4) == 0.1325


# --- label sets ----------------------------------------------------------------------------------------------------


def test_multi_label_metrics_are_sklearns(sets):
    y, p, s = sets
    for average, ours in (
        ("micro", m.micro_f1),
        ("macro", m.multilabel_macro_f1),
        ("weighted", m.multilabel_weighted_f1),
    ):
        assert ours(y, p) == pytest.approx(sk.f1_score(y, p, average=average))
    assert m.micro_precision(y, p) == pytest.approx(sk.precision_score(y, p, average="micro"))
    assert m.micro_recall(y, p) == pytest.approx(sk.recall_score(y, p, average="micro"))
    for empty in (0, 1):
        assert m.sample_f1(y, p, empty=empty) == pytest.approx(
            sk.f1_score(y, p, average="samples", zero_division=float(empty))
        )
        assert m.jaccard(y, p, empty=empty) == pytest.approx(
            sk.jaccard_score(y, p, average="samples", zero_division=float(empty))
        )
    assert m.subset_accuracy(y, p) == pytest.approx(sk.accuracy_score(y, p))
    assert m.label_accuracy(y, p) == pytest.approx(1 - sk.hamming_loss(y, p))
    assert m.label_balanced_accuracy(y, p) == pytest.approx(
        np.mean([sk.balanced_accuracy_score(y[:, j], p[:, j]) for j in range(6)])
    )
    assert m.mean_average_precision(y, s) == pytest.approx(sk.average_precision_score(y, s, average="macro"))
    assert m.global_average_precision(y, s) == pytest.approx(sk.average_precision_score(y, s, average="micro"))
    assert m.multilabel_auroc(y, s) == pytest.approx(sk.roc_auc_score(y, s, average="macro"))


def test_both_empty_sets_exist_in_the_fixture(sets):
    y, p, _ = sets
    assert ((y.sum(1) == 0) & (p.sum(1) == 0)).any()  # else the two conventions could not differ above


def test_swapping_moves_precision_and_recall_but_not_f1_or_jaccard(sets):
    y, p, _ = sets
    assert m.micro_f1(y, p) == pytest.approx(m.micro_f1(p, y))
    assert m.jaccard(y, p, empty=0) == pytest.approx(m.jaccard(p, y, empty=0))
    assert m.micro_precision(y, p) == pytest.approx(m.micro_recall(p, y))
    assert m.micro_precision_swapped(y, p) == pytest.approx(m.micro_recall(y, p))


def test_printed_precision_and_recall_give_the_printed_f1():
    """LDDU's log: P .517892 and R .672196 go with mi-F1 .585041."""
    p, r = 0.517892, 0.672196
    assert round(2 * p * r / (p + r), 6) == 0.585041


def test_jaccard_of_emotion_free_clips():
    y = np.array([[0, 0], [1, 0]])
    assert m.jaccard(y, y, empty=0) == 0.5
    assert m.jaccard(y, y, empty=1) == 1.0


def test_absent_labels_are_left_out_not_counted_as_zero():
    y, s = np.array([[1, 0], [0, 0], [1, 0]]), np.array([[0.9, 0.1], [0.2, 0.3], [0.8, 0.1]])
    assert m.mean_average_precision(y, s) == 1.0
    assert np.isnan(m.label_auroc(y, s)[1])


# --- invariances and the table -------------------------------------------------------------------------------------

FIXED_ORDER = {"batch_averaged_macro_recall_64"}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_metrics_do_not_depend_on_the_order_of_the_samples_and_stay_in_range(seed):
    r = rng(seed, "permutation invariance")
    order = r.permutation(60)
    y_reg, p_reg = np.round(r.uniform(-3, 3, 60), 1), r.normal(0, 2, 60)
    y_one, s_one = r.integers(0, 4, 60), np.round(r.normal(size=(60, 4)), 1)
    y_set, s_set = r.integers(0, 2, (60, 4)), np.round(r.random((60, 4)), 1)
    for kind, y, s in (("regression", y_reg, p_reg), ("single_label", y_one, s_one), ("multi_label", y_set, s_set)):
        for metric in m.metrics(kind).values():
            given_ = s if metric.needs == "scores" else m.decide(kind, s)
            value = metric(y, given_)
            assert metric.low - 1e-12 <= value <= metric.high + 1e-12, metric.name
            if metric.name not in FIXED_ORDER:
                assert metric(y[order], given_[order]) == pytest.approx(value, abs=1e-12), metric.name


@pytest.mark.parametrize("kind", m.KINDS)
def test_a_perfect_prediction_is_best_possible(kind):
    r = rng(0, "perfect")
    y = {
        "regression": r.uniform(-3, 3, 80),
        "single_label": np.arange(80) % 4,
        "multi_label": np.eye(4)[np.arange(80) % 4],
    }[kind]
    scores = np.eye(4)[y] if kind == "single_label" else y
    for metric in m.metrics(kind).values():
        best = metric.high if metric.higher_is_better else metric.low
        given_ = scores if metric.needs == "scores" else y
        assert metric(y, given_) == pytest.approx(best), metric.name


def test_score_lists_every_metric_once_with_direction_and_convention(sets):
    y, p, s = sets
    table = m.score("multi_label", y, scores=s)
    assert table["metric"].tolist() == list(m.metrics("multi_label"))
    row = table.set_index("metric").loc["micro_f1"]
    assert row["value"] == pytest.approx(sk.f1_score(y, s >= 0.5, average="micro"))
    assert "mean_average_precision" not in m.score("multi_label", y, p)["metric"].tolist()
    assert m.metric("regression", "mae").higher_is_better is False
    assert all(x.description.startswith("Return") and x.convention for k in m.KINDS for x in m.metrics(k).values())


def test_score_says_why_a_value_is_missing():
    table = m.score("regression", [1.0, -1.0, 2.0], [0.5, 0.5, 0.5]).set_index("metric")
    assert np.isnan(table.loc["pearson", "value"])
    assert "constant" in table.loc["pearson", "note"]
    neutral = m.score("regression", [0.0, 0.0], [0.5, 0.1]).set_index("metric")
    assert "leaves no sample" in neutral.loc["acc2_non_zero", "note"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.mae([1, np.nan], [1, 1]), "target holds 1 NaN or infinite"),
        (lambda: m.mae([1, 1], [1, np.inf]), "prediction holds 1 NaN or infinite"),
        (lambda: m.mae([], []), "target is empty"),
        (lambda: m.mae([1, 2, 3], [1, 2]), "one shape"),
        (lambda: m.mae([[1, 2]], [[1, 2]]), "1 axes"),
        (lambda: m.mae(["a"], ["b"]), "must hold numbers"),
        (lambda: m.accuracy([0, -1], [0, 1]), "unknown label -1"),
        (lambda: m.accuracy([0, 1.5], [0, 1]), "class numbers"),
        (lambda: m.confusion([0, 1], [0, 3], 3), "unknown label 3"),
        (lambda: m.auroc_macro([0, 5], np.ones((2, 3))), "unknown label 5"),
        (lambda: m.auroc_macro([0, 0], np.ones((2, 3))), "is defined for no class"),
        (lambda: m.micro_f1([[0, 2]], [[0, 1]]), "must hold 0 or 1"),
        (lambda: m.jaccard([[0, 1]], [[0, 1]], empty=2), "empty must be 0 or 1"),
        (lambda: m.accuracy_2([0.0], [1.0], zero="non_zero"), "leaves no sample"),
        (lambda: m.accuracy_2([0.0], [1.0], zero="nonzero"), "'nonzero' is unknown"),
        (lambda: m.batch_averaged_macro_recall([0], [0]), "exactly one"),
        (lambda: m.batch_averaged_macro_recall([0], [0], batch_size=0), "at least 1"),
        (lambda: m.rare_class_recall([0, 1], [0, 1], [2]), "rare class 2"),
        (lambda: m.metric("regression", "acc"), "metric 'acc' is unknown"),
        (lambda: m.score("ranking", [0], [0]), "task kind 'ranking' is unknown"),
        (lambda: m.score("regression", [0]), "give a prediction"),
        (lambda: m.accuracy_k([0.0], [0.0], classes=4), "3, 5 or 7"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(EvaluationError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
