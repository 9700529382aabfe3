"""Words from records: every sentence against numbers that decide it by hand."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from affectcore.errors import EvaluationError, StoreError
from affectcore.studies.affect_diff import answers


@dataclass
class Data:
    name: str


@dataclass
class Spec:
    arm: str
    data: Data
    seed: int


@dataclass
class Record:
    spec: Spec
    metrics: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    bounds: dict[str, Any] = field(default_factory=dict)


def record(arm, seed, value, data="imbalance_headline", **extra):
    scores = {"clean": {"balanced_accuracy": value, "macro_f1": value}}
    scores["no text"] = {"macro_f1": value - 0.1 - 0.001 * seed}
    return Record(Spec(arm, Data(data), seed), {"test": scores}, extra)


class Results:
    def __init__(self, *records):
        self.records = list(records)


def arms(**values):
    """One record an arm and value, seeds 0, 1, ...; None leaves a seed out."""
    return Results(*(record(a, s, v) for a, vs in values.items() for s, v in enumerate(vs) if v is not None))


def about(*d):
    return answers.about(d)


def test_arms_are_paired_on_the_seeds_that_both_have():
    r = arms(a=[0.5, 0.6, 0.9], no_diffusion=[0.4, None, 0.7, 0.1])
    np.testing.assert_allclose(answers.differences(r, "a"), [0.1, 0.2])
    c = answers.change(r, "a")
    assert (c.estimate, c.n_seeds) == (pytest.approx(0.15), 2)
    with pytest.raises(StoreError, match="share 1 seeds"):
        answers.change(arms(a=[0.5, None], no_diffusion=[0.4, 0.1]), "a")
    with pytest.raises(StoreError, match="no run of b"):
        answers.change(r, "b")


def test_folds_are_averaged_and_undefined_seeds_left_out():
    r = Results(*(record("a", s, v, f"mosei/{k}") for s, v, k in ((0, 0.2, 0), (0, 0.4, 1), (1, np.nan, 0))))
    assert answers.values(r, "a", "mosei") == {0: pytest.approx(0.3)}


def test_the_oracle_is_read_from_worlds_of_its_own():
    r = Results(record("oracle_data", 0, 0.5, "oracle_headline"), record("no_diffusion", 0, 0.4, "imbalance_headline"))
    assert answers.values(r, "oracle_data") == {0: 0.5}
    assert answers.values(r, "no_diffusion") == {0: 0.4}


@pytest.mark.parametrize(
    ("d", "words"),
    [
        ((0.10, 0.11, 0.12), "higher, +.110 [+.085, +.135]"),
        ((-0.10, -0.11, -0.12), "lower, −.110 [−.135, −.085]"),
        ((0.1, -0.1, 0.0), "no difference resolved (at most .248 either way)"),
        ((0.0, 0.0, 0.0), "no difference at all"),
    ],
)
def test_a_comparison_says_no_more_than_its_interval(d, words):
    assert answers.said(about(*d)) == words


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.1234, ".123"), (-0.5, "−.500"), (1.25, "1.250"), (0.0001, "0"), (-0.0001, "0"), (np.nan, "not defined")],
)
def test_numbers(x, text):
    assert answers.number(x) == text


def test_signs():
    assert [answers.signed(x, 2) for x in (0.1, -0.1, 0.001, np.nan)] == ["+.10", "−.10", "0", "not defined"]


def test_many_comparisons_are_corrected_together():
    sure = about(0.100, 0.101, 0.102)
    weak = about(0.10, 0.16, 0.09)  # p .03 alone
    assert weak.above_zero
    assert answers.sort_out({"weak": weak}).above == ("weak",)
    null = {f"null {i}": about(0.1, -0.1, 0.01 * i) for i in range(5)}
    found = answers.sort_out({"sure": sure, "weak": weak, "down": about(-0.100, -0.101, -0.102), **null})
    assert (found.above, found.below) == (("sure",), ("down",))
    assert "weak" in found.neither
    assert found.most == pytest.approx(max(abs(x) for c in [weak, *null.values()] for x in c.interval95))


def test_a_list_names_few_and_counts_many():
    c, up = about(0.1, -0.1, 0.0), about(0.100, 0.101, 0.102)
    assert answers.sort_out({"a": c, "b": c}).phrase() == "no difference resolved: a and b (at most .248 either way)"
    many = dict.fromkeys("abcd", c)
    assert answers.sort_out(many).phrase() == "no difference resolved: all 4 (at most .248 either way)"
    text = answers.sort_out({"x": up, **many}).phrase("above", "below")
    assert text == "above: x; no difference resolved: the other 4 (at most .248 either way)"
    assert answers.sort_out({"x": up}).phrase() == "higher: x"


def test_equal_arms_do_not_upset_the_correction():
    assert answers.sort_out({"same": about(0.0, 0.0, 0.0), "up": about(0.100, 0.101, 0.102)}).above == ("up",)


def test_words_of_lists_and_counts():
    assert [answers.listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [answers.counted(n, 3) for n in (0, 2, 3)] == ["none of 3", "2 of 3", "all 3"]


def test_a_two_by_two_gives_planted_effects():
    noise = np.array([0.0, 0.01, 0.02])

    def cell(a, b):
        return [*(0.1 * a + 0.02 * b + 0.03 * a * b + noise)]

    r = arms(n=cell(0, 0), a=cell(1, 0), b=cell(0, 1), ab=[*cell(1, 1), 0.9])
    first, second, both = answers.crossed(r, {(0, 0): "n", (1, 0): "a", (0, 1): "b", (1, 1): "ab"})
    np.testing.assert_allclose(first, 0.1 + 0.015)
    np.testing.assert_allclose(second, 0.02 + 0.015)
    np.testing.assert_allclose(both, 0.015)


def test_trends():
    up = [{s: level + 0.01 * s for s in range(4)} for level in (0, 1, 2, 3)]
    t = answers.trend([0, 0.1, 1, 10], up)
    assert (t.word, t.rho, t.interval, t.seeds) == ("rises", 1.0, (1.0, 1.0), 4)
    assert answers.trend([0, 1, 2, 3], up[::-1]).word == "falls"
    mixed = [{0: 0, 1: 3, 2: 1}, {0: 1, 1: 2, 2: 0}, {0: 2, 1: 1, 2: 2}]
    assert answers.trend([0, 1, 2], mixed).word == "shows no resolved trend"
    flat = answers.trend([0, 1, 2], [{0: 1.0, 1: 1.0}] * 3)
    assert (flat.rho, flat.word, str(flat)) == (0.0, "shows no resolved trend", "is the same at every level")
    assert str(t) == "rises (rank correlation +1.00 [+1.00, +1.00])"
    with pytest.raises(EvaluationError, match="1 common seeds"):
        answers.trend([0, 1, 2], [{0: 1.0, 1: 2.0}, {0: 1.0}, {0: 1.0}])


def test_shares_against_chance():
    assert answers.Share(20, 20).against() == "above chance, 20 of 20"
    assert answers.Share(0, 20).against() == "below chance, 0 of 20"
    assert answers.Share(11, 20).against() == "not told from chance, 11 of 20"
    assert answers.Share(20, 20).against(0.9) == "not told from chance, 20 of 20"
    assert answers.Share(0, 0).against() == "nothing found to be counted"


CHAIN = np.array([[0, 0.6, 0], [0, 0, 0.4], [0, 0, 0]])


def test_directions_count_true_edges_that_were_found():
    cycle = np.array([[0, 0.6, 0], [0.4, 0, 0.1], [0, 0, 0]])
    assert answers.directed(CHAIN) == [(0, 1), (1, 2)]
    assert answers.directed(cycle) == [(1, 2)]
    right, wrong, none = CHAIN, CHAIN.T, np.zeros((3, 3))
    assert answers.turned_right([right, wrong, wrong, none], CHAIN) == answers.Share(2, 6)
    assert answers.turned_right([-right], CHAIN) == answers.Share(2, 2)
    with pytest.raises(EvaluationError, match="no edge with a direction"):
        answers.turned_right([right], np.zeros((3, 3)))


def test_pairs_that_keep_one_direction():
    both = np.array([[0, 0.5, 0.5], [0.4, 0, 0.5], [0.01, 0.5, 0]])
    assert answers.one_way([both]) == answers.Share(1, 3)
    assert answers.one_way([CHAIN]) == answers.Share(2, 3)  # the pair without any edge keeps none


def test_distance_to_the_true_graph():
    assert answers.distance(CHAIN, CHAIN) == 0
    assert answers.distance(CHAIN, CHAIN, 0.5) == 1  # an edge lost
    assert answers.distance(CHAIN.T, CHAIN) == 2  # two edges turned
    assert answers.distance(CHAIN + np.eye(3), CHAIN) == 0  # the diagonal is no edge


def test_graphs_are_sizes_by_seed():
    r = Results(*(record("g", s, 0.1, graph={"mean": (CHAIN * (s - 1)).tolist()}) for s in (1, 0)))
    found = answers.graphs(r, "g")
    np.testing.assert_allclose(found, [CHAIN, CHAIN * 0])


def test_rare_predictions_and_hits_by_seed():
    m = np.diag([50, 10, 5, 2, 0, 1])
    m[0, 3], m[4, 5], m[5, 0] = 4, 3, 6
    counts = answers.rare_counts(Results(record("a", 7, 0.1, confusion={"test": {"clean": m.tolist()}})), "a")
    assert counts.loc[7].to_dict() == {"items": 81, "rare": 12, "predicted": 10, "hits": 3}


def test_readings_at_zero_and_bounds():
    hit, miss = np.eye(6, dtype=int).tolist(), np.zeros((6, 6), int) + np.eye(6, 1, dtype=int)
    r = Results(
        *(
            record("no_diffusion", s, 0.1, confusion={"test": {"clean": m}})
            for s, m in enumerate((hit, (miss + 1) * [1, 1, 1, 0, 0, 0]))
        )
    )
    assert answers.at_zero(r, ["no_diffusion"]) == "1 of 2"
    for x, ceiling in zip(r.records, (0.2, 0.4)):
        x.bounds = {"ceiling": {"test": {"balanced_accuracy": ceiling}}}
    assert answers.bound(r, "ceiling") == pytest.approx(0.3)


def test_changes_under_perturbation():
    c = answers.perturbed(arms(a=[0.5, 0.6]), "a", "no text")
    assert c.estimate == pytest.approx(-0.1005)


def test_the_table_of_arms_corrects_over_itself():
    ref = np.array([0.30, 0.32, 0.29, 0.31])
    moves = {"up": [0.100, 0.101, 0.102, 0.103], "flat": [0.01, -0.01, 0.02, -0.02], "same": [0.0] * 4}
    r = arms(no_diffusion=[*ref], perturbed_up=[*ref], **{k: [*(ref + d)] for k, d in moves.items()})
    t = answers.arms_table(r)
    assert list(t.index) == ["no_diffusion", "up", "flat", "same"]
    assert np.isnan(t.loc["no_diffusion", "t"])
    assert t.loc["up", "difference"] == pytest.approx(0.1015)
    assert t.loc["up", "holm"] == pytest.approx(3 * t.loc["up", "t"])
    assert t.loc["up", "wilcoxon"] == pytest.approx(0.125)
    assert t.loc["same", ["t", "wilcoxon", "holm"]].tolist() == [1, 1, 1]
