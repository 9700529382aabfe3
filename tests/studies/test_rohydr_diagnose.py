"""What the executor of RoHyDR's study reads off runs, held to counts by hand and to identities."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from affectcore.errors import ConfigError
from affectcore.studies.outcome import Outcome
from affectcore.studies.rohydr import diagnose, paper
from affectcore.studies.rohydr.study import STUDY


def outcome(arm: str, **options: Any) -> Outcome:
    spec = next(s for s in STUDY.specs("smoke") if s.arm == arm and s.data.name == "recovery_headline")
    found = diagnose.train_and_diagnose([replace(spec, options={**spec.options, **options})])[0]
    assert isinstance(found, Outcome), found
    return found


def test_right_decisions_by_hand() -> None:
    said, y = np.array([0.1, -2.0, 3.0, 1.0]), np.array([1.0, -0.5, 0.0, -1.0])
    assert diagnose.right(said, y) == (pytest.approx(2 / 3), 3)  # a target of 0 has no sign
    assert diagnose.right(np.eye(2)[[0, 1, 1]], np.array([0, 1, 0])) == (pytest.approx(2 / 3), 3)


def test_two_samples_of_one_law_are_not_told_apart_and_a_constant_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 3))
    assert diagnose.two_sample(x, rng.standard_normal((2000, 3))) == pytest.approx(0.5, abs=0.05)
    assert diagnose.two_sample(x, np.zeros_like(x)) > 0.95
    assert diagnose.two_sample(x, 0.5 * rng.standard_normal((2000, 3))) > 0.7  # the same mean, less spread


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(ConfigError, match="diagnose = 'recover' is unknown"):
        outcome("constant", diagnose=["recover"])


def test_the_subsets_recombine_to_the_score_of_their_condition() -> None:
    found = outcome("constant")
    by_subset = found.extra["subsets"]["mr_0.4"]
    assert set(by_subset) == {"+".join(s) for s in diagnose.subsets(("text", "audio", "vision"))}
    n = np.array([v[1] for v in by_subset.values()])
    hits = sum(v[0] * v[1] for v in by_subset.values())
    assert hits / n.sum() == pytest.approx(found.metrics["test"]["mr_0.4"]["acc2_non_zero"], abs=1e-5)
    assert n.sum() == 192


def test_looks_at_one_small_run() -> None:
    found = outcome("rohydr", diagnose=["shuffled", "recovery"], headline=["audit"]).extra
    whole = "text+audio+vision"
    own, other = (found[k]["mr_0.4"] for k in ("subsets", "shuffled"))
    assert own[whole] == pytest.approx(other[whole], abs=1e-5)  # nothing is recovered there
    assert any(abs(own[k][0] - other[k][0]) > 1e-6 for k in own if k != whole)
    audit = found["audit"]
    assert audit["curve"]["0"]["acc2"] == pytest.approx(audit["subsets"][whole], abs=1e-5)
    for way in ("sample", "batch"):
        drawn = np.array(audit[way]["0.7"])
        assert drawn.shape == (diagnose.DRAWS, 2)
        assert drawn[:, 1] == pytest.approx(2 / 3, abs=1e-5)  # six batches of 32 and 192 samples: all with two missing
        single = [audit["subsets"][m] for m in ("text", "audio", "vision")]
        assert min(single) - 0.1 < drawn[:, 0].mean() < max(single) + 0.1
    assert np.std(audit["batch"]["0.7"], 0)[0] > np.std(audit["sample"]["0.7"], 0)[0] * 0.5
    for entry in found["recovery"].values():
        assert entry["auc"][0] > 0.9  # one step of training
        assert entry["auc"][1] == pytest.approx(0.5, abs=0.15)
        assert entry["variance"][2] == pytest.approx(entry["variance"][0] / 4, rel=1e-4)
    assert paper.mixture(0.7) == (1.0, 0.0, 0.0)
