"""Affect-Diff's typed values against what can be recomputed from them; what does not agree is listed, not repaired."""

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from affectcore.errors import ConfigError
from affectcore.evaluation import metrics
from affectcore.models.contract import Progress
from affectcore.models.registry import build
from affectcore.models.shapes import SHAPES
from affectcore.studies.affect_diff import paper

HALF = 0.0005 + 1e-9  # of the third decimal that tables print
DATA = Path(os.environ.get("AFFECTCORE_DATA") or os.devnull)
LOGS = DATA / "author_records" / "affect_diff"
with_logs = pytest.mark.skipif(not LOGS.is_dir(), reason="the author's logs are not present")


@pytest.mark.parametrize("key", paper.CONFUSION)
def test_confusion_matrices_give_what_is_printed_beside_them(key):
    found, said = paper.recomputed(key), paper.BY_KEY[key]
    assert tuple(np.sum(paper.CONFUSION[key], 1)) == paper.TEST_COUNTS
    assert found.n == sum(paper.TEST_COUNTS) == paper.SPLIT["test"]
    assert found.accuracy == pytest.approx(said.accuracy, abs=HALF)
    assert found.balanced == pytest.approx(said.balanced, abs=HALF)
    assert found.macro_f1 == pytest.approx(said.macro_f1, abs=HALF)
    assert found.f1 == pytest.approx(said.f1, abs=HALF)
    assert (found.rare, found.hits) == (said.rare, said.hits)


def test_printed_accuracies_agree_with_the_records_but_for_the_full_model():
    wrong = {
        m.key: (m.printed_accuracy, m.accuracy)
        for m in paper.MODELS
        if m.printed_accuracy is not None and m.printed_accuracy != m.accuracy
    }
    assert wrong == {"full": (0.642, 0.543)}
    assert paper.recomputed("full").accuracy == 228 / 420
    assert round(228 / 420, 3) == paper.DRAFT_ACCURACY == paper.TASKS[0].accuracy


def test_printed_validation_values_agree_with_the_records_but_for_the_joint_model():
    wrong = {
        m.key: (m.printed_validation, m.validation)
        for m in paper.MODELS
        if m.printed_validation is not None and m.printed_validation != m.validation
    }
    assert wrong == {"joint": (0.291, 0.315)}
    assert paper.BY_KEY["no_guidance"].validation == 0.291  # whose value stands in that row
    for key, delta in paper.PRINTED_DELTAS.items():
        assert paper.BY_KEY[key].printed_validation - 0.384 == pytest.approx(delta)


@pytest.mark.parametrize("m", paper.MODELS, ids=lambda m: m.key)
def test_rows_agree_with_themselves(m):
    assert np.mean(m.f1) == pytest.approx(m.macro_f1, abs=2 * HALF)
    assert m.mean < m.smoothed < m.second <= m.validation
    hits_at_all = any(m.f1[c] > 0 for c in paper.RARE)
    assert hits_at_all == (m.hits > 0)
    assert m.hits <= min(m.rare, 31)
    assert m.trainable <= m.parameters


def test_the_full_model_is_the_only_variant_without_a_rare_hit():
    without = [m.key for m in paper.MODELS if m.kind != "baseline" and m.hits == 0]
    assert without == ["full"]
    assert paper.BY_KEY["full"].rare == 21
    assert [m.hits for m in paper.MODELS if m.kind == "baseline"] == [0] * 5
    assert [m.rare for m in paper.MODELS if m.kind == "baseline"] == [0, 0, 0, 1, 8]
    matrix = np.array(paper.CONFUSION["no_vae"])
    assert [int(matrix[c, c]) for c in paper.RARE] == [2, 5, 3]


def test_the_paper_metric_rewards_who_avoids_rare_classes():
    lift = {m.key: m.batched - m.balanced for m in paper.MODELS}
    assert all(0.03 < lift[m.key] < 0.045 for m in paper.MODELS if m.kind == "baseline")
    assert lift["no_vae"] == pytest.approx(-0.057, abs=0.001)
    rank = np.corrcoef([m.rare for m in paper.MODELS], list(lift.values()))[0, 1]
    assert rank < -0.8


def test_a_constant_predictor_scores_above_one_sixth_in_the_authors_batches():
    y, batch = paper.constant_batches()
    assert len(y) == paper.SPLIT["validation"]
    sizes = np.bincount(batch).tolist()
    kinds = [len(set(y[batch == b])) for b in range(7)]
    assert (sizes, kinds) == ([64] * 6 + [35], [5] * 4 + [6] * 3)
    assert paper.constant_score() == pytest.approx(paper.CONSTANT_VALIDATION, abs=5e-7)
    assert metrics.balanced_accuracy(y, np.zeros_like(y)) == pytest.approx(paper.FLOOR)
    assert paper.constant_score() == pytest.approx((4 * 64 / 5 + (2 * 64 + 35) / 6) / 419)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("full", 0.193, 0.256), ("mmim", 0.218, 0.278), ("tetfn", 0.196, 0.252), ("classifier_only", 0.227, 0.357),
        ("no_vae", 0.235, 0.416),
    ],
)  # fmt: skip
def test_intervals_of_balanced_accuracy(key, low, high):
    """Against the reference of 2,000 draws, whose ends have a Monte Carlo error of a few thousandths."""
    found = paper.balanced_interval(key)
    assert found == pytest.approx((low, high), abs=0.006)
    assert found[0] < paper.recomputed(key).balanced < found[1]
    assert paper.interval(key) == found


def test_typed_intervals_stand_where_no_matrix_does():
    assert paper.interval("tfn") == (0.191, 0.236)
    assert paper.interval("misa") is None
    assert not set(paper.TYPED_INTERVALS) & set(paper.CONFUSION)


def test_no_interval_of_the_full_model_lies_above_a_baseline():
    low, high = paper.balanced_interval("full")
    assert all(low < m.balanced < high for m in paper.MODELS if m.kind == "baseline")


def test_equivalent_runs_spread_as_wide_as_the_ablations():
    values, spread = paper.equivalent_spread()
    assert values == (0.384, 0.291, 0.358, 0.292)
    assert spread == pytest.approx(0.047, abs=0.0005)
    assert spread > abs(paper.PRINTED_DELTAS["no_vae"])
    assert max(values) - min(values) >= -paper.PRINTED_DELTAS["no_diffusion"]


def test_the_gains_in_the_abstract():
    assert paper.relative_gain() == pytest.approx(paper.ABSTRACT_GAIN, abs=0.006)
    assert paper.relative_gain("full", "mult") == pytest.approx(0.38, abs=0.006)
    drop = {k: -d / 0.384 for k, d in paper.PRINTED_DELTAS.items()}
    assert drop["no_diffusion"] == pytest.approx(0.24, abs=0.005)
    assert drop["no_graph"] == pytest.approx(0.13, abs=0.005)


def test_smaller_models_dominate_the_full_one_once_the_metric_is_pooled():
    assert paper.dominating(by="validation") == []  # the claim of Fig. 9
    assert paper.dominating(by="validation", cost="latency") == []
    found = paper.dominating()
    assert "classifier_only" in found
    assert {"mult", "misa", "mmim", "tetfn", "no_diffusion"} <= set(found)
    assert "tfn" not in found
    assert set(paper.dominating(cost=None)) == {"mult", "misa", "mmim", "tetfn"}  # latency too; .5 ms is within noise


def test_the_drawn_graph_has_the_printed_h_and_three_two_cycles():
    torch = pytest.importorskip("torch")
    from affectcore.nn.acyclicity import exponential

    assert paper.drawn_h() == pytest.approx(paper.DRAWN_H, abs=5e-5)
    assert paper.drawn_h() == pytest.approx(exponential(torch.tensor(paper.DRAWN_GRAPH, dtype=torch.float64)).item())
    cycles = {frozenset(c[:2]): c[2:] for c in paper.two_cycles()}
    assert len(cycles) == 3
    assert cycles[frozenset(("text", "audio"))] == (0.31, 0.26)
    assert paper.two_cycles(np.triu(np.ones((3, 3)), 1)) == []


def test_schedules_of_text_appendix_and_code():
    assert [paper.kl_share("code", e) for e in (0, 5, 10, 19, 20, 28, 30)] == [0, 0.5, 1, 1, 0, 0.8, 1]
    assert [paper.kl_share("methods", e) for e in (0, 15, 30, 60)] == [0, 0.5, 1, 1]
    assert [paper.diffusion_share("methods", e) for e in (0, 10, 20)] == [0, 0.5, 1]
    assert [paper.diffusion_share("appendix", e) for e in (9, 19, 29, 40)] == [0, 0.5, 1, 1]


def test_our_author_preset_has_the_codes_schedules():
    model = build("affect_diff", SHAPES["mosei_classes"], "author")
    for epoch in range(70):
        w = model.weights(Progress(epoch=epoch, step=0, steps=1, epochs=100))
        assert w["kl"] == pytest.approx(0.1 * paper.kl_share("code", epoch))
        assert w["diffusion"] == pytest.approx(0.05 * paper.diffusion_share("code", epoch))


def test_perturbations():
    table = paper.perturbed()
    assert table.shape == (14, 12)
    at = table.loc["full", list(paper.PRINTED_CONDITIONS)]
    assert at.tolist() == pytest.approx(paper.PRINTED_CHANGE, abs=1e-9)
    assert (at + 0.214).tolist() == pytest.approx(paper.PRINTED_F1)
    assert table.loc["full"].idxmin() == "no vision"
    assert (table["no audio"] > 0).sum() == 10  # "missing audio helps" in 10 of 14 models, baselines among them
    assert table.loc["tetfn"].idxmin() == "no text"


def test_weights_of_figure_6():
    table = paper.weights()
    assert table[list(paper.MODALITIES)].sum(axis=1).tolist() == pytest.approx([1] * 13, abs=0.0021)
    epoch, printed = paper.PRINTED_WEIGHTS
    assert sum(printed) == pytest.approx(1.03)
    assert max(abs(np.array(printed) - paper.WEIGHTS[epoch])) > 0.09  # text says .40 of text, the log .30


def test_efficiency_as_printed_is_the_jsons_rounded_and_as_plotted_is_not():
    for key, (total, trainable, ms) in paper.PRINTED_COST.items():
        m = paper.BY_KEY[key]
        assert (m.parameters / 1e6, m.trainable / 1e6) == pytest.approx((total, trainable), abs=0.0051)
        assert m.latency == pytest.approx(ms, abs=0.051)
    for key, (millions, ms) in paper.PLOTTED_COST.items():
        m = paper.BY_KEY[key]
        assert ms / m.latency < 0.7 or ms / m.latency > 5
        assert millions is None or abs(millions * 1e6 / m.parameters - 1) > 0.08


def test_counts_of_the_data():
    assert sum(paper.SPLIT.values()) == sum(paper.TOTALS.values()) == 2795
    assert sum(paper.SPLIT_PRINTED.values()) == 3292
    share = sum(paper.TEST_COUNTS[c] for c in paper.RARE) / 420
    assert share == pytest.approx(0.0738, abs=5e-5)
    assert paper.TOTALS["rare"] / 2795 == pytest.approx(0.0658, abs=5e-5)
    assert [round(100 * n / 420, 1) for n in paper.TEST_COUNTS] == [66.0, 18.1, 8.6, 1.9, 2.9, 2.6]
    assert np.mean([r == 0.5 for r in paper.HIT_RATES.values()]) == 4 / 6


def test_tables_of_models_and_losses():
    table = paper.models()
    assert len(table) == 14
    assert table["printed_accuracy"].isna().sum() == 8
    assert paper.losses()["validation_task"].iloc[-1] > paper.losses()["validation_task"].iloc[0]
    assert list(paper.losses().columns) == ["epoch", *paper.SERIES]
    assert all(a < b for a, b in pairwise(paper.LOSSES))


def test_smoothing():
    assert paper.smoothed([0, 0, 5, 0, 0]).tolist() == pytest.approx([5 / 3, 5 / 4, 1, 5 / 4, 5 / 3])
    assert paper.smoothed([1.0, 2.0], 1).tolist() == [1, 2]
    with pytest.raises(ConfigError, match="odd"):
        paper.smoothed([1.0], 4)


def test_curves_are_none_where_the_logs_are_absent(tmp_path):
    assert paper.author_curves(None) is None
    assert paper.author_curves(tmp_path) is None


@with_logs
def test_the_authors_logs_hold_the_typed_values():
    curves = paper.author_curves(DATA)
    assert curves is not None
    assert set(curves["model"]) == set(paper.BY_KEY)
    by = {k: t.set_index("epoch") for k, t in curves.groupby("model")}
    for m in paper.MODELS:
        v = by[m.key]["validation_metric"]
        assert (v.idxmax(), round(v.max(), 3)) == (m.epoch, m.validation), m.key
        assert v.nlargest(2).iloc[1] == pytest.approx(m.second, abs=HALF)
        assert v.rolling(5).mean().max() == pytest.approx(m.smoothed, abs=HALF)
        assert v.loc[10:49].mean() == pytest.approx(m.mean, abs=HALF)
    full = by["full"]
    for epoch, values in paper.LOSSES.items():
        assert full.loc[epoch, list(paper.SERIES)].tolist() == pytest.approx(values, abs=0.0051)
    for epoch, values in paper.WEIGHTS.items():
        assert full.loc[epoch, list(paper.MODALITIES)].tolist() == pytest.approx(values, abs=HALF)
    late = full["train_kl"].loc[6:]
    assert (late.idxmax(), round(late.max(), 3)) == paper.KL_MOST
    for epoch, row in full.iterrows():
        assert row["kl_share"] == pytest.approx(paper.kl_share("code", epoch))
        assert row["diffusion_share"] == pytest.approx(paper.diffusion_share("code", epoch))
    assert by["tfn"]["validation_metric"].iloc[0] == pytest.approx(paper.CONSTANT_VALIDATION, abs=5e-7)
    equal = [by[k]["validation_task"].loc[:9].to_numpy() for k in ("full", "joint", "no_condition")]
    np.testing.assert_allclose(equal[1], equal[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(equal[2], equal[0], rtol=0, atol=1e-6)


@with_logs
def test_the_hash_is_that_of_the_full_models_log():
    import gzip

    assert hashlib.sha256(gzip.decompress((LOGS / "Full_Model.csv.gz").read_bytes())).hexdigest() == paper.LOG_SHA256


@with_logs
def test_the_authors_results_hold_the_typed_values():
    import json

    results = json.loads((LOGS / "results.json").read_text())
    said = dict(zip(paper.CONDITIONS, results["Full_Model"]["robustness"]))
    for m in paper.MODELS:
        r = results[paper._LOGS[m.key]]
        test, rich, cost = r["test_metrics"], r["rich_metrics"], r["efficiency"]
        typed = (m.accuracy, m.macro_f1, m.auroc, m.batched, m.balanced, *m.f1)
        held = (test["test_acc"], rich["macro_f1"], rich["auroc"], test["test_bal_acc"], rich["balanced_acc"],
                *rich["per_class_f1"].values())  # fmt: skip
        assert typed == pytest.approx(held, abs=HALF + 1e-6), m.key
        assert (m.parameters, m.trainable) == (cost["total_params"], cost["trainable_params"])
        assert m.latency == pytest.approx(cost["latency_ms"], abs=0.0051)
        matrix = np.array(rich["confusion_matrix"])
        assert (m.rare, m.hits) == (matrix[:, 3:].sum(), matrix.diagonal()[3:].sum())
        if m.key in paper.CONFUSION:
            assert matrix.tolist() == [list(row) for row in paper.CONFUSION[m.key]]
        for condition, value in zip(paper.CONDITIONS, paper.PERTURBED[m.key]):
            assert r["robustness"][said[condition]]["macro_f1"] == pytest.approx(value, abs=HALF + 1e-6)
