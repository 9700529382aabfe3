"""Readings and evidence shared by studies: folds averaged, labels of a setting, effects of a factorial by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from affectcore.errors import EvaluationError, StoreError
from affectcore.studies import answers, readings
from affectcore.studies.claims import Claim, Row
from affectcore.studies.readings import Side, by_seed, effects, noted, scored, selected


def record(arm: str, seed: int, value: float | None, data: str = "w_easy") -> Any:
    name = SimpleNamespace(name=data, options={"sizes": {"test": 7000}})
    return SimpleNamespace(
        spec=SimpleNamespace(arm=arm, seed=seed, data=name), value=value,
        metrics={"test": {"clean": {"f": value}}}, extra={"a": {"b": [value, None]}},
    )  # fmt: skip


def results(*records: Any) -> Any:
    return SimpleNamespace(records=records)


def test_a_reading_is_a_number_or_not_defined() -> None:
    r, none = record("a", 0, 0.5), record("a", 0, None)
    assert (scored("f")(r), noted("a", "b", 0)(r), selected(r)) == (0.5, 0.5, 0.5)
    assert np.isnan([scored("f")(none), noted("a", "b", 1)(r), selected(none)]).all()


def test_seeds_are_in_order_and_folds_averaged() -> None:
    r = results(record("a", 1, 4.0, "d/0"), record("a", 0, 1.0, "d/1"), record("a", 0, 2.0, "d/0"))
    np.testing.assert_allclose(by_seed(r, "a", "d", selected), [1.5, 4.0])
    with pytest.raises(StoreError, match="no run of b on d"):
        by_seed(r, "b", "d", selected)


def test_a_side_is_the_mean_of_its_arms_on_its_own_labels() -> None:
    r = results(record("a", 0, 1.0), record("b", 0, 3.0), record("o", 0, 9.0, "other_easy"))
    assert Side(("a", "b"), selected).values(r, "w", "easy") == pytest.approx([2.0])
    assert Side(("o",), selected, "other_{}").values(r, "w", "easy") == pytest.approx([9.0])
    assert readings.items(r, "w_easy") == 7000


def test_effects_of_a_factorial_are_those_it_was_made_of() -> None:
    made = {"A": 0.3, "B": -0.2, "C": 0.0, "AB": 0.1, "AC": 0.0, "BC": 0.05, "ABC": -0.04}
    y = {}
    for levels in np.ndindex(2, 2, 2):
        x = dict(zip("ABC", 2 * np.array(levels) - 1))
        y[levels] = np.full(2, 1 + sum(v / 2 * np.prod([x[f] for f in name]) for name, v in made.items()))
    found = effects(y, "ABC")
    assert list(found) == ["A", "B", "C", "AB", "AC", "BC", "ABC"]
    for name, v in made.items():
        np.testing.assert_allclose(found[name], v, atol=1e-12)
    del y[0, 0, 0]
    with pytest.raises(EvaluationError, match="all 8 cells"):
        effects(y, "ABC")


def test_differences_are_on_common_seeds() -> None:
    np.testing.assert_allclose(answers.differences({0: 1.0, 1: 2.0, 3: 9.0}, {1: 1.5, 0: 0.0}), [1.0, 0.5])
    with pytest.raises(StoreError, match="x and y share 1 seeds"):
        answers.differences({0: 1.0}, {0: 0.0, 1: 1.0}, "x and y")


def test_verdicts_as_a_page_shows_them() -> None:
    rows = [
        Row("p", "C1", "refuted", "world: w", -0.0123, (-0.04, 0.0151), 0.0004, 10, 0.06, 0.05, "why"),
        Row("p", "C1", "supported", "corpus: c", 48_231.0, None, 0.0205, None, 0.01, 0.05),
        Row("p", "C2", "open", "corpus: c", float("nan"), mde=None, margin=0.1),
    ]
    shown = answers.ledger_table(rows)
    assert list(shown.index) == [("C1", "world: w"), ("C1", "corpus: c"), ("C2", "corpus: c")]
    assert shown.iloc[0].tolist() == ["refuted", "−.012 [−.040, +.015]", "<.001", 10, ".060", ".050", "why"]
    assert shown[answers.ESTIMATE].tolist()[1:] == ["48,231", "-"]
    assert shown[["p", "seeds"]].iloc[1:].to_numpy().tolist() == [[".021", "-"], ["-", "-"]]
    short = answers.verdict_table(rows, ["C1"])
    assert short.to_numpy().tolist() == shown[["verdict", answers.ESTIMATE, "reason"]].iloc[:2].to_numpy().tolist()
    assert len(answers.verdict_table(rows)) == 3
    assert [answers.registered(x) for x in (0.03, 0.0075, 0.5)] == [".030", ".0075", ".500"]
    assert answers.named(rows) == "C1 (world), C1 (corpus), C2 (corpus)"
    assert answers.named([]) == "none"
    assert answers.underpowered(rows) == rows[:1]
    said = Claim("p", "C1", "it helps", "Table 1", 0.7, "it does not", "f", ("world: w",))
    assert answers.claims_table([said]).loc["C1"].tolist() == ["it helps", "0.7", "Table 1", "it does not"]
