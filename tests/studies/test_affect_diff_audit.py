"""The audit's computations against brute force, closed forms and records made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from affectcore.errors import ConfigError
from affectcore.evaluation import metrics
from affectcore.studies.affect_diff import audit, paper

MATRIX = [[9, 1, 0], [2, 3, 1], [0, 1, 1]]


def test_random_orders_give_what_the_metric_gives_item_by_item():
    y, p = paper.expand(MATRIX)
    found = audit.in_batches(MATRIX, 4, orders=30, seed=3)
    shuffled = np.random.default_rng(3).permuted(np.tile(np.arange(len(y)), (30, 1)), axis=1)
    expected = [metrics.batch_averaged_macro_recall(y[o], p[o], batch_size=4) for o in shuffled]
    assert np.allclose(found, expected)
    assert found.std() > 0


def test_one_batch_is_the_true_metric_in_any_order():
    y, p = paper.expand(paper.CONFUSION["full"])
    assert np.allclose(audit.in_batches(paper.CONFUSION["full"], 420, 3), metrics.balanced_accuracy(y, p))


def test_a_constant_gains_by_batches():
    constant = [[280, 0, 0], [100, 0, 0], [10, 0, 0]]
    assert audit.in_batches(constant, 16, 50).mean() > audit.in_batches(constant, 390, 1)[0] + 0.05


@pytest.mark.parametrize(("matrix", "size"), [([[1, 2]], 4), ([[0, 0], [0, 0]], 4), (MATRIX, 0)])
def test_what_is_no_confusion_matrix_or_no_batch_is_refused(matrix, size):
    with pytest.raises(ConfigError, match="in_batches"):
        audit.in_batches(matrix, size)


def test_expected_maximum_is_that_of_draws():
    x, rng = np.array([0.1, 0.4, 0.2, 0.9]), np.random.default_rng(0)
    assert audit.expected_maximum(x, 1) == pytest.approx(x.mean())
    drawn = rng.choice(x, (40_000, 3)).max(1).mean()
    assert audit.expected_maximum(x, 3) == pytest.approx(drawn, abs=0.005)
    with pytest.raises(ConfigError, match="n = 0"):
        audit.expected_maximum(x, 0)


def record(arm, seed, noisy, true, rare, test=(0.3, 0.2), confusion=MATRIX):
    names = (audit.PAPER, audit.TRUE, audit.RARE)
    return SimpleNamespace(
        spec=SimpleNamespace(arm=arm, seed=seed, data=SimpleNamespace(name="world")),
        history=[{"probe": dict(zip(names, values))} for values in zip(noisy, true, rare)],
        metrics={"test": {"clean": {audit.PAPER: test[0], audit.TRUE: test[1], "mae": None}}},
        extra={"confusion": {"valid": {"clean": confusion}}},
        epoch=1,
        value=0.5,
    )


def test_each_metric_chooses_its_epoch():
    table = audit.chosen_epochs([record("a", 0, [0.1, 0.5, 0.3], [0.2, 0.3, 0.4], [0.0, 0.1, None])])
    (row,) = table.itertuples()
    assert (row.paper, row.true) == (1, 2)
    assert row.balanced == pytest.approx(-0.1)
    assert np.isnan(row.rare)


def test_five_readings_of_one_run():
    curve = [0.2, 0.2, 0.4, 0.3, 0.3, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.1, 0.1]
    found = audit.readings(record("a", 0, curve, curve, curve))
    assert list(found) == list(audit.READINGS)
    assert found["highest epoch"] == 0.9
    assert found["best mean of five"] == pytest.approx((0.4 + 0.3 + 0.3 + 0.9 + 0.3) / 5)
    assert found["mean of the middle"] == pytest.approx(np.mean(curve[2:11]))
    assert (found["chosen epoch, test"], found["..., true metric"]) == (0.3, 0.2)
    assert audit.authors_readings("full") == dict(zip(audit.READINGS, (0.384, 0.324, 0.273, 0.249, 0.224)))


def test_runs_are_equal_in_every_number_or_the_difference_is_said():
    a, b = record("a", 0, [0.1], [0.2], [0.3]), record("b", 0, [0.1], [0.2], [0.3])
    c = record("c", 0, [0.1], [0.2], [0.3], confusion=[[9, 1, 0], [2, 3, 1], [0, 2, 0]])
    results = SimpleNamespace(records=[a, b, c, record("b", 5, [0.1], [0.2], [0.3])])
    same = audit.compare_numbers(results, "a", "b", "world")
    assert same.to_numpy().tolist() == [[16, 16, 0.0]]  # 2 metrics, 9 counts, epoch and value, 3 probes
    assert same.index.tolist() == [0]  # the seed that only b has is not compared
    other = audit.compare_numbers(results, "a", "c", "world")
    assert other.to_numpy().tolist() == [[16, 14, 1.0]]


def test_metric_by_size_says_lift_and_rare_share():
    table = audit.metric_by_size([record("a", 2, [0], [0], [0], confusion=np.diag([5, 1, 1, 1, 1, 1]))], (4, 0))
    assert table["size"].tolist() == [4, 0]
    assert table["true"].tolist() == [1.0, 1.0]
    assert table["rare"].tolist() == [0.3, 0.3]
    assert table["mean"].tolist() == pytest.approx([1.0, 1.0])


def test_the_twelve_statements_hold_and_say_their_numbers():
    checks = audit.checks()
    assert len(checks) == 12
    assert all(c.holds for c in checks)
    said = " ".join(c.computed for c in checks)
    for number in ("8,916,553", "0.187033", "0.2237", "0.047", "228 of 420", "0.315", "2.99"):
        assert number in said


def test_a_statement_fails_where_the_records_would_not_bear_it(monkeypatch):
    monkeypatch.setattr(paper, "PRINTED_SPREAD", 0.05)
    monkeypatch.setattr(paper, "DRAWN_GRAPH", ((0, 0.2, 0.1), (0, 0, 0.3), (0, 0, 0)))
    monkeypatch.setattr(paper.two_cycles, "__defaults__", (paper.DRAWN_GRAPH,))
    failed = [i for i, c in enumerate(audit.checks(), 1) if not c.holds]
    assert failed == [5, 12]
