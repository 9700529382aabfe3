"""What the study of CIDer reads off a trained model, against what can be counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from affectcore.errors import ConfigError
from affectcore.studies.cider import counting, diagnose
from affectcore.studies.cider.study import CLEAN, RMFM, STUDY
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec

LOOKS = [x for x in diagnose.LOOKS if x != "grid"]


def spec(arm: str, look: list[str]) -> RunSpec:
    s = next(s for s in STUDY.specs("smoke") if s.arm == arm and s.data.name == "lexicon_headline")
    return replace(s, options={"look": look, "also": ["rmfm 0.5", "rmfm 0.9", "rmfm 1"], "of": ["iid", "ood"]})


@pytest.fixture(scope="module")
def fitted() -> Any:
    """A run of the reference as the looks see it, with what they found."""
    kept = []
    found = diagnose.train_and_score(
        [spec("looked_at", LOOKS)],
        inspect=lambda f: kept.append(f) or diagnose.inspect(f),  # type: ignore[func-returns-value]
    )[0]
    assert isinstance(found, Outcome)
    return kept[0], found.extra


def test_accuracy_of_signs_leaves_neutral_samples_out() -> None:
    scores = np.eye(3)[[0, 1, 2, 1, 0]]
    assert diagnose.acc2(np.array([0, 1, 2, 2, 2]), scores) == pytest.approx(2 / 4)
    assert diagnose.acc2(np.array([0, 1]), np.eye(2)[[0, 0]]) == pytest.approx(1 / 2)


def test_the_area_needs_all_rates() -> None:
    values = {"clean": 0.8, "rmfm 0.5": 0.6, "rmfm 0.9": 0.5, "rmfm 1": 0.5}
    assert diagnose.area((CLEAN, *RMFM), values) == pytest.approx(0.35 + 0.22 + 0.05)
    assert diagnose.area((CLEAN, *RMFM[:2]), values) is None


def test_a_counterfactual_is_subtracted_with_its_weight() -> None:
    factual, other = np.array([[0.0, -9.0, -0.5], [-0.1, -9.0, -3.0]]), np.array([[0.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
    found = diagnose.swept(np.array([2, 0]), factual, other)["acc2"]
    assert found[0] == 0.5  # tau 0: the factual scores alone
    assert found[10] == 1.0  # tau 1: 0 < -0.5 + 2, and the second sample stays
    assert len(found) == len(diagnose.TAUS)


def test_looks_leave_the_model_as_it_was(fitted: Any) -> None:
    f, extra = fitted
    y = diagnose.batch_of(f, "ood").target.numpy()
    again = diagnose.acc2(y, diagnose.log_scores(f.model, diagnose.batch_of(f, "ood"), f.spec.seed))
    assert again == pytest.approx(extra["acc2"]["ood"]["clean"], abs=1e-5)
    assert f.model.network.head.config == f.model.config


def test_readings_agree_where_they_must(fitted: Any) -> None:
    _, extra = fitted
    for part, found in extra["tau"]["words"].items():
        assert found["clean"]["acc2"][0] == pytest.approx(extra["acc2"][part]["clean"], abs=1e-5)
    assert set(extra["tau"]) == {
        "words", "oracle", "shuffled", "published", "blank", "prior", "words, probabilities"
    }  # fmt: skip
    # with every step hidden both texts are the same, so that at most three answers are left
    assert len(set(extra["tau"]["words"]["ood"]["rmfm 1"]["acc2"])) <= 3
    assert extra["modes"]["only"]["text+audio+vision"] == extra["modes"]["rmfm"][0] == extra["modes"]["tmfm"][0]
    assert extra["modes"]["rmfm"][-1] == extra["modes"]["rmm"][-1]  # nothing is left of either
    assert extra["order"]["order"]["largest"] < 1e-4
    assert extra["sensors"]["unshifted"]["factual"] == pytest.approx(extra["acc2"]["iid"]["clean"], abs=1e-5)
    assert extra["bounds"]["iid"]["bayes"]["clean"] > extra["bounds"]["iid"]["floor"]
    # out of distribution the exact posterior with all words knows that they have changed sides
    assert extra["bounds"]["ood"]["bayes"]["clean"] >= extra["bounds"]["ood"]["oracle"]["clean"] - 0.05


def test_a_dictionary_keeps_its_words_alone(fitted: Any) -> None:
    f, _ = fitted
    batch, words = diagnose.batch_of(f, "iid"), diagnose.dictionary(f)
    tokens, _ = diagnose.tokens_of(batch)
    shown = diagnose.keeping(words)(batch).observed["text"]
    assert torch.equal(shown, batch.observed["text"] & torch.isin(tokens, torch.tensor(words)))
    only = diagnose.spurious(f, False)(batch).observed["text"].sum()
    rest = diagnose.spurious(f, False, keep=False)(batch).observed["text"].sum()
    assert only + rest == batch.observed["text"].sum()
    assert 0 < only < rest


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(ConfigError, match="look"):
        diagnose.train_and_look([spec("looked_at", ["closely"])])


def test_shares_of_words_are_those_counted_by_hand() -> None:
    good, bad = ["good", "film"], ["bad", "film"]
    texts = [good, good, bad, bad, ["film"], ["the", "film"]]
    sentiment, train = np.array([1.0, 2.0, -1.0, -2.0, 0.0, 0.0]), np.array([True] * 5 + [False])
    other = ([["good", "bad", "great"]], np.array([1.0]), np.array([True]))
    found = counting.counted({"a": (texts, sentiment, train), "b": other})
    # of good, bad and film, the first two vary between negative and positive; film does not
    assert found["passing"]["a"]["published"]["signs"] == pytest.approx(2 / 3)
    assert found["passing"]["a"]["words"] == 3
    last = found["covered"]["a to b"]["published"][-1]
    assert last == {
        "most": None,
        "types": pytest.approx(2 / 3),
        "tokens": pytest.approx(2 / 3),
        "all": pytest.approx(2 / 3),
    }
    held = found["covered"]["a to a"]["published"][-1]  # read on the held-out row alone, which has no word of sentiment
    assert held["all"] == 0


def test_a_step_is_timed_with_its_parameters() -> None:
    found = counting.step("cider", 2, "mosi", 0)
    assert found["parameters"] > 100_000
    assert found["seconds"] > 0
