"""Recovery scores, robustness numbers and constant floors against scikit-learn, brute force and hand calculation."""

from itertools import permutations

import numpy as np
import pytest
from sklearn import metrics as sk

from affectcore.errors import EvaluationError
from affectcore.evaluation import metrics as m
from affectcore.evaluation import recovery as rec
from affectcore.evaluation import robustness as rob
from affectcore.evaluation.floors import class_share_floor, constant_floor
from affectcore.streams import rng


def test_r2_and_nmse_are_sklearns():
    r = rng(0, "r2")
    y = r.normal(size=(50, 3))
    p = y + 0.5 * r.normal(size=(50, 3))
    assert rec.factor_r2(y, p) == pytest.approx(sk.r2_score(y, p, multioutput="raw_values"))
    assert rec.r2(y, p) == pytest.approx(sk.r2_score(y, p))
    assert rec.normalised_mse(y, np.broadcast_to(y.mean(0), y.shape)) == pytest.approx(1)
    assert rec.normalised_mse(y, p) == pytest.approx(1 - sk.r2_score(y, p, multioutput="variance_weighted"))


def test_mcc_against_all_matchings_and_under_permutation_sign_scale():
    r = rng(0, "mcc")
    f = r.normal(size=(80, 3))
    z = f @ r.normal(size=(3, 4))
    table = np.abs(np.corrcoef(f.T, z.T)[:3, 3:])
    want = max(sum(table[i, q[i]] for i in range(3)) for q in permutations(range(4), 3)) / 3
    assert rec.mean_correlation_coefficient(f, z) == pytest.approx(want)
    moved = -2 * f[:, [2, 0, 1]] + 5
    assert rec.mean_correlation_coefficient(f, moved) == pytest.approx(1)
    assert rec.mean_correlation_coefficient(f, np.exp(f), "spearman") == pytest.approx(1)
    assert rec.mean_correlation_coefficient(f, f[:, :2]) == pytest.approx(2 / 3)  # a factor without a latent counts 0
    assert rec.mean_correlation_coefficient(f, np.c_[f[:, :2], np.ones(80)]) == pytest.approx(2 / 3)


def brute_shd(a, b, turned):
    total = 0
    for i in range(len(a)):
        for j in range(i):
            pair, other = (a[i, j], a[j, i]), (b[i, j], b[j, i])
            if pair == other:
                continue
            flipped = pair == other[::-1] and sum(pair) == 1
            total += turned if flipped else sum(x != y for x, y in zip(pair, other))
    return total


def test_shd_against_brute_force():
    r = rng(0, "shd")
    for _ in range(50):
        a, b = (np.where(np.eye(4), 0, r.integers(0, 2, (4, 4))) for _ in range(2))
        for convention in (1, 2):
            assert rec.structural_hamming_distance(a, b, reversed_edge=convention) == brute_shd(a, b, convention)
    chain, turned = np.array([[0, 1], [0, 0]]), np.array([[0, 0], [1, 0]])
    assert rec.structural_hamming_distance(chain, turned) == 1
    assert rec.structural_hamming_distance(chain, turned, reversed_edge=2) == 2
    assert rec.structural_hamming_distance(chain, chain | turned) == 1  # a 2-cycle against one edge
    assert rec.structural_hamming_distance(np.zeros((2, 2)), chain | turned) == 2
    assert rec.edge_scores(chain, chain | turned) == pytest.approx((0.5, 1, 2 / 3))


def test_linear_cka_against_the_kernel_form():
    r = rng(0, "cka")
    x, y = r.normal(size=(30, 5)), r.normal(size=(30, 7))
    h = np.eye(30) - 1 / 30
    k, q = h @ x @ x.T @ h, h @ y @ y.T @ h
    assert rec.linear_cka(x, y) == pytest.approx((k * q).sum() / np.linalg.norm(k) / np.linalg.norm(q))
    turn = np.linalg.qr(r.normal(size=(5, 5)))[0]
    assert rec.linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1)


def test_auilc():
    rates = np.linspace(0, 1, 11)
    assert rob.auilc(rates, np.full(11, 0.7)) == pytest.approx(0.7)  # a constant's area is the constant
    assert rob.auilc(rates[:8], np.full(8, 0.7)) == pytest.approx(0.49)  # not over a shorter range
    assert rob.mean_height(rates[:8], np.full(8, 0.7)) == pytest.approx(0.7)
    assert rob.auilc(rates, 1 - rates) == pytest.approx(0.5)
    x = rng(0, "auilc").random((3, 11))
    want = [sum((row[i] + row[i + 1]) / 2 * 0.1 for i in range(10)) for row in x]
    assert rob.auilc(rates, x) == pytest.approx(want)


def test_drops_and_gaps():
    assert rob.performance_drop([0.8], [0.6]) == pytest.approx([0.2])
    assert rob.performance_drop([0.8], [0.6], relative=True) == pytest.approx([0.25])
    assert rob.ood_gap([0.8], [0.7], iid_floor=0.578, ood_floor=0.566) == pytest.approx([0.088])
    assert rob.relative_robustness([0.6], [0.55]) == pytest.approx([0.05])
    assert rob.worst_case([0.3, 0.2, 0.4]) == 0.2
    assert rob.worst_case([0.3, 0.2, 0.4], higher_is_better=False) == 0.4


def test_effective_robustness():
    clean = np.array([0.6, 0.7, 0.8, 0.9])
    logit = np.log(clean / (1 - clean))
    shifted = 1 / (1 + np.exp(-(0.8 * logit - 0.5)))
    line = rob.shift_line(clean, shifted)
    assert (line.slope, line.intercept) == pytest.approx((0.8, -0.5))
    assert rob.effective_robustness(clean, shifted + 0.03, line) == pytest.approx(np.full(4, 0.03))
    assert rob.effective_robustness_multibench([0.9, 0.8, 0.7], [0.8, 0.6, 0.5]) == pytest.approx(0 + 0.1 + 0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rec.structural_hamming_distance([[1]], [[0]]), "self-loop"),
        (lambda: rec.structural_hamming_distance([[0, 1]], [[0, 1]]), "square"),
        (lambda: rec.r2(np.ones(5), np.ones(5)), "constant"),
        (lambda: rec.linear_cka(np.ones((5, 2)), np.ones((5, 2))), "constant"),
        (lambda: rec.linear_cka(np.ones((5, 2)), np.ones((4, 2))), "5 rows"),
        (lambda: rob.auilc([0, 0.5, 0.5], [1, 1, 1]), "increase"),
        (lambda: rob.auilc([0, 0.5], [1, 1, 1]), "one number per rate"),
        (lambda: rob.shift_line([0.5, 1.0], [0.5, 0.6]), "strictly between"),
        (lambda: rob.performance_drop([0.0], [0.0], relative=True), "not defined"),
        (lambda: constant_floor("multi_label", np.eye(11), np.eye(11)), "at most 10"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(EvaluationError, match=message):
        call()


# --- floors --------------------------------------------------------------------------------------------------------


def test_regression_floor_of_a_published_test_set():
    """CIDer's MOSI OOD test: non-neutral 43.4 % negative; always positive gives Acc-2 56.6 and weighted F1 40.9."""
    train = np.r_[-np.ones(578), np.ones(422)]
    test = np.r_[-np.ones(434), np.ones(566)]
    floor = constant_floor("regression", train, test).set_index("metric")
    row = floor.loc["acc2_non_zero"]
    assert row["constant"] < 0  # best on train, where negatives lead
    assert row["value"] == pytest.approx(0.434)
    assert row["best_value"] == pytest.approx(0.566)
    assert floor.loc["f1_non_zero", "best_value"] == pytest.approx(0.409, abs=5e-4)
    assert np.isnan(floor.loc["pearson", "value"])


def test_regression_floor_uses_the_median_for_mae():
    r = rng(0, "floor")
    train, test = np.clip(r.normal(0.3, 1.5, 500), -3, 3), np.clip(r.normal(0.3, 1.5, 500), -3, 3)
    row = constant_floor("regression", train, test).set_index("metric").loc["mae"]
    assert row["constant"] == pytest.approx(np.median(train))
    assert row["value"] == pytest.approx(np.abs(test - np.median(train)).mean())


def test_class_floors_against_brute_force():
    r = rng(0, "class floor")
    train, test = r.choice(3, 200, p=[0.2, 0.5, 0.3]), r.choice(3, 100, p=[0.5, 0.2, 0.3])
    floor = constant_floor("single_label", train, test).set_index("metric")
    assert floor.loc["accuracy", "constant"] == 1
    assert floor.loc["accuracy", "value"] == pytest.approx((test == 1).mean())
    assert floor.loc["accuracy", "best_value"] == pytest.approx(class_share_floor(test))
    assert floor.loc["balanced_accuracy", "best_value"] == pytest.approx(1 / 3)
    assert (floor["best_value"] >= floor["value"] - 1e-12).all()


def test_label_set_floors_against_brute_force():
    r = rng(0, "set floor")
    train, test = (r.random((150, 3)) < [0.6, 0.3, 0.1]).astype(int), (r.random((90, 3)) < [0.6, 0.3, 0.1]).astype(int)
    floor = constant_floor("multi_label", train, test).set_index("metric")
    every = [np.array([a, b, c]) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    best = max(every, key=lambda k: sk.f1_score(train, np.tile(k, (150, 1)), average="micro", zero_division=0))
    assert floor.loc["micro_f1", "constant"] == tuple(best)
    assert floor.loc["micro_f1", "value"] == pytest.approx(m.micro_f1(test, np.tile(best, (90, 1))))


def test_a_floor_that_the_targets_leave_undefined_is_nan() -> None:
    table = constant_floor("regression", [1.0, -1.0, 2.0], [0.0, 0.0]).set_index("metric")
    assert np.isnan(table.loc["acc2_non_zero", "value"])
    assert table.loc["mae", "best_value"] == 0
