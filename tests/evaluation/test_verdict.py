"""The verdict rule on hand-made evidence: every status, both controls, Holm, scopes."""

from dataclasses import replace

import pytest

from affectcore.errors import EvaluationError
from affectcore.evaluation.statistics import PairedComparison
from affectcore.evaluation.verdict import (
    Evidence,
    Fact,
    Part,
    Scope,
    default_margin,
    judge,
    settle,
    verdict,
)

CORPUS, WORLD = Scope("corpus", "cmu_mosei_video"), Scope("world", "environments")


def result(low, high, p=0.001, seeds=10, mde=0.02):
    """A comparison whose 95 % interval is (low, high) and whose 90 % interval is 16 % narrower, as for a normal law."""
    middle, half = (low + high) / 2, (high - low) / 2
    i90 = (middle - 0.84 * half, middle + 0.84 * half)
    return PairedComparison(middle, (low, high), i90, p, "t", seeds, 0.02, mde, 1.0, seeds)


WINS, TIES, SMALL, WIDE = result(0.03, 0.08), result(-0.01, 0.01, 0.9), result(0.002, 0.012), result(-0.05, 0.08, 0.6)


def corpus(effect, claim="C1", margin=0.02, about="corpus"):
    return Evidence(claim, CORPUS, margin, (Part("headline", effect),), about)


def world(easy, headline, hard, positive=WINS, negative=TIES, margin=0.02, items=6000, claim="C1"):
    parts = [Part(n, e, positive, negative, items) for n, e in (("easy", easy), ("headline", headline), ("hard", hard))]
    return Evidence(claim, WORLD, margin, tuple(parts))


@pytest.mark.parametrize(
    ("effect", "status"),
    [
        (WINS, "supported"),
        (TIES, "refuted"),
        (WIDE, "unresolved"),
        (SMALL, "mixed"),  # above 0 and below the margin
        (result(0.001, 0.05, 0.04), "supported"),
        (result(-0.001, 0.05, 0.06), "unresolved"),
        (result(-0.05, -0.01), "refuted"),
        (result(-0.03, 0.022, 0.7), "refuted"),  # 95 % reaches past the margin, 90 % does not
        (result(-0.03, 0.030, 0.9), "unresolved"),
        (result(0.001, 0.05, 0.2), "unresolved"),  # the interval says yes, the p-value no
    ],
)
def test_one_setting_on_a_corpus(effect, status):
    assert verdict(corpus(effect)).status == status


def test_an_interval_around_zero_alone_refutes_nothing():
    v = verdict(corpus(result(-0.04, 0.05, 0.8, mde=0.06)))
    assert v.status == "unresolved"
    assert "more seeds" in v.reason
    assert v.mde == 0.06


def test_unresolved_always_prints_its_resolution():
    v = verdict(corpus(result(-0.01, 0.03, 0.3, mde=0.015)))
    assert v.status == "unresolved"
    assert v.reason == "neither above 0 nor below the margin 0.02; these runs detect 0.015"


def test_unresolved_on_a_world_says_what_each_setting_shows():
    said = {s: verdict(world(*s)).reason.split("; these runs")[0] for s in ((TIES, TIES, WIDE), (WINS, WIDE, WIDE))}
    assert list(said.values()) == [
        "below the margin 0.02 in easy, headline; neither above 0 nor below the margin 0.02 in hard",
        "above 0 in easy; neither above 0 nor below the margin 0.02 in headline, hard",
    ]


def test_verdict_fields():
    v = verdict(corpus(WINS))
    assert (v.claim, v.scope, v.seeds, v.margin) == ("C1", "corpus: cmu_mosei_video", 10, 0.02)
    assert v.estimate == pytest.approx(0.055)
    assert v.interval == (0.03, 0.08)
    assert v.p == pytest.approx(0.001)


def test_holm_over_the_family():
    strong, weak = result(0.03, 0.08, 0.001), result(0.001, 0.05, 0.04)
    assert verdict(corpus(weak)).status == "supported"
    family = [corpus(strong, "A"), corpus(weak, "B"), corpus(result(-0.02, 0.06, 0.3), "C")]
    statuses = {v.claim: (v.status, v.p) for v in judge(family)}
    assert statuses["A"] == ("supported", pytest.approx(0.003))
    assert statuses["B"] == ("unresolved", pytest.approx(0.08))


def test_untestable_claims_do_not_cost_the_others_power():
    weak = corpus(result(0.001, 0.05, 0.04), "B")
    idle = [Evidence(f"X{i}", CORPUS, 0.02, ()) for i in range(5)]
    verdicts = judge([weak, *idle])
    assert verdicts[0].status == "supported"
    assert {v.status for v in verdicts[1:]} == {"not testable here"}
    assert verdicts[1].estimate is None
    assert [v.claim for v in verdicts] == ["B", "X0", "X1", "X2", "X3", "X4"]


# --- worlds --------------------------------------------------------------------------------------------------------


def test_a_world_supports_only_when_all_settings_do():
    assert verdict(world(WINS, WINS, WINS)).status == "supported"
    assert verdict(world(WINS, WINS, WIDE)).status == "unresolved"
    v = verdict(world(WINS, WINS, TIES))
    assert v.status == "mixed"
    assert "above 0 in easy, headline; below the margin in hard" in v.reason
    assert verdict(world(TIES, TIES, TIES)).status == "refuted"
    assert verdict(world(TIES, TIES, WIDE)).status == "unresolved"
    assert verdict(world(SMALL, SMALL, SMALL)).status == "mixed"
    assert verdict(world(SMALL, WIDE, WIDE)).status == "unresolved"


def test_the_weakest_setting_gives_the_p_value():
    v = verdict(world(WINS, result(0.001, 0.05, 0.04), WINS))
    assert v.p == pytest.approx(0.04)


def test_refuted_needs_a_positive_control_that_wins():
    v = verdict(world(TIES, TIES, TIES, positive=TIES))
    assert v.status == "unresolved"
    assert "could not have shown the effect" in v.reason
    assert verdict(world(TIES, TIES, TIES, positive=None)).status == "unresolved"
    assert verdict(world(TIES, TIES, TIES, negative=None)).status == "refuted"  # the negative control is for support


def test_supported_needs_a_negative_control_that_does_not_win():
    v = verdict(world(WINS, WINS, WINS, negative=WINS))
    assert v.status == "unresolved"
    assert "does not need the mechanism's input" in v.reason
    assert verdict(world(WINS, WINS, WINS, negative=None)).status == "unresolved"
    assert verdict(world(WINS, WINS, WINS, positive=None)).status == "supported"


def test_mixed_on_a_world_leans_on_both_controls():
    assert verdict(world(WINS, WINS, TIES, positive=TIES)).status == "unresolved"
    assert verdict(world(WINS, WINS, TIES, negative=WINS)).status == "unresolved"


def test_one_bad_control_in_one_setting_is_enough():
    e = world(TIES, TIES, TIES)
    e = replace(e, parts=(*e.parts[:2], replace(e.parts[2], positive_control=TIES)))
    assert verdict(e).status == "unresolved"


def test_a_corpus_needs_no_controls():
    assert verdict(corpus(TIES)).status == "refuted"


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (replace(world(WINS, WINS, WINS), about="corpus"), "not settled on a world"),
        (replace(world(WINS, WINS, WINS), parts=world(WINS, WINS, WINS).parts[:2]), "setting hard was not run"),
        (world(WINS, WINS, WINS, items=5999), "6,000 test items"),
        (world(WINS, WINS, WINS, items=None), "6,000 test items"),
        (corpus(result(0.03, 0.08, seeds=1)), "fewer than two seeds"),
        (replace(corpus(WINS), parts=()), "no run bears on it"),
    ],
)
def test_not_testable_here(evidence, why):
    v = verdict(evidence)
    assert v.status == "not testable here"
    assert why in v.reason
    assert v.p is None


def test_scopes_are_never_merged():
    a = verdict(corpus(WINS))
    b = verdict(replace(corpus(WINS), scope=Scope("corpus", "cmu_mosi_utt")))
    assert a.scope != b.scope
    with pytest.raises(EvaluationError, match="each claim once"):
        judge([corpus(WINS), corpus(TIES)])  # two findings on one claim are two families, not one


def test_facts_of_computation():
    yes, no = settle(Fact("C3", True, "gradient audit")), settle(Fact("C3", False, "gradient audit", 3.0))
    assert (yes.status, yes.scope) == ("supported", "computation")
    assert (no.status, no.estimate) == ("refuted", 3.0)
    assert "gradient audit" in no.reason


def test_margins():
    assert default_margin(0.06) == pytest.approx(0.03)
    for call in (lambda: default_margin(0), lambda: verdict(corpus(WINS, margin=0.0))):
        with pytest.raises(EvaluationError, match="above 0"):
            call()
    with pytest.raises(EvaluationError, match="given twice"):
        verdict(replace(corpus(WINS), parts=(Part("a", WINS), Part("a", WINS))))
    with pytest.raises(EvaluationError, match="settled by `settle`"):
        verdict(replace(corpus(WINS), scope=Scope("computation", "x")))
