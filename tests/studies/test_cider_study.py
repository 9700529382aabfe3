"""CIDer's arms and the tests of its claims, on records made up so that the verdict is known.

A record holds what its own spec asks for and no more: a condition or a look that evidence.py reads and study.py does
not ask for is an error here. Noise is centred over the seeds: without a planted effect every mean difference is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import planted
import pytest

from affectcore.models import registry
from affectcore.studies.cider import evidence, paper
from affectcore.studies.cider.counting import TIMED
from affectcore.studies.cider.diagnose import ALSO, LOOKS, TAUS, area
from affectcore.studies.cider.study import BASELINES, CORPORA, SETTINGS, STUDY
from affectcore.studies.claims import Row, ledger, study_claims
from affectcore.studies.resampling import Draws, Resampled
from affectcore.studies.spec import RunSpec
from affectcore.studies.store import RunRecord

CLAIMS = {c.id: c for c in study_claims("cider")}
SPECS = STUDY.specs("standard")
SHIFT, SD, PEAK = 0.1, 0.002, 5
noise = partial(planted.noise, sd=SD)
CURVE = {"clean": 0.2, "rmfm 0.5": 0.1, "rmm 0.5": 0.1, "rmfm 0.9": 0.0, "rmfm 1": 0.0}
Gains = Mapping[str, float]


@dataclass
class Made:
    """Results of every arm. `level`: what an arm gains everywhere; "at .9", "at 1": what all arms gain at that rate;
    "bayes", "oracle", "hidden", "rolled": of those readings; "tau words" ...: what a kind gains at its best tau."""

    level: Gains = field(default_factory=dict)
    seconds: Gains = field(default_factory=dict)
    passing: float = 0.95
    chosen: float = 0.0  # what choosing on test adds

    def __post_init__(self) -> None:
        self.study, self.profile = STUDY, "standard"
        self.records = [self.record(s) for s in SPECS]
        wide = {a.name: np.random.default_rng(i).normal(0, 2 * SD, 1000) for i, a in enumerate(STUDY.arms)}
        self.resampled = Resampled(
            {
                (arm, data, c, "accuracy"): Draws(
                    "accuracy", 0.5 + CURVE[c] + self.gain(arm) + noise(arm, 10),
                    0.5 + CURVE[c] + self.gain(arm) + wide[arm], 686, 31, "same",
                )
                for arm in ("cider_corpus", *(f"{m}_corpus" for m in BASELINES))
                for data in CORPORA for c in evidence.RATES
            },
            "standard",
        )  # fmt: skip

    def gain(self, name: str) -> float:
        return self.level.get(name, 0.0)

    def record(self, s: RunSpec) -> RunRecord:
        seeds = 10 if STUDY.arm(s.arm).tier == 1 else 5
        look = s.options.get("look", ())
        x = 0.5 + self.gain(s.arm) + noise(s.arm, seeds)[s.seed]
        parts = ["valid", "iid"] + ["ood"] * (s.data.name != "mosi")
        at = {"rmfm 0.9": self.gain("at .9"), "rmfm 1": self.gain("at 1")}
        conditions = (*s.conditions, *(ALSO[n] for n in s.options.get("also", ())))
        curve = {c.name: x + CURVE.get(c.name, 0.0) + at.get(c.name, 0.0) for c in conditions}
        of = ("valid", *s.options.get("of", ()))
        extra: dict[str, Any] = {
            "acc2": {p: curve if p in of or len(s.conditions) > 1 else {"clean": curve["clean"]} for p in parts},
        }
        extra["auilc"] = {p: area([c for c in conditions if c.name in v], v) for p, v in extra["acc2"].items()}
        whole = curve["clean"]
        if "tau" in look or "tau_all" in look:
            kinds = ["words", "oracle", "shuffled"] + ["published"] * ("tau_all" in look)
            extra["tau"] = {
                k: {
                    p: {"clean": dict.fromkeys(("acc2", "accuracy"), peaked(whole, self.gain(f"tau {k}")))}
                    for p in parts
                }
                for k in kinds
            }
        if "causal" in look:
            extra["causal"] = {"hidden": whole + self.gain("hidden"), "rolled": whole + self.gain("rolled")}
        if "parts" in look:
            extra["parts"] = {x: extra["auilc"]["iid"] + self.gain(x) for x in ("alone", "swapped")}
        if "bounds" in look:
            exact = {c: v + self.gain("exact") for c, v in curve.items()}
            exact["auilc"] = area(conditions, exact)
            extra["bounds"] = {p: {"floor": 0.5, "bayes": exact, "oracle": exact} for p in parts}
        if s.arm == "step_times":
            extra["step_times"] = {m: {"seconds": self.seconds.get(m, 1.0)} for m in TIMED}
        if s.arm == "coverage":
            extra["coverage"] = {"passing": {"cmu_mosi": {"published": {"signs": 0.5, "seven": self.passing}}}}
        history = (
            {"valid": {"accuracy": 0.5}, "test": {"accuracy": whole}},
            {"valid": {"accuracy": 0.4}, "test": {"accuracy": whole + self.chosen / 2}},
        )
        if s.arm == "published_corpus":
            tau = extra["tau"]["published"]
            for p in tau:
                tau[p]["clean"] = {"accuracy": peaked(whole + self.chosen / 2, self.chosen / 2)}
        return RunRecord(
            s, "", "", None, "", {}, "", "", 0, 0, 0, 0, 0, "valid_best", 0, 0.5, history, {}, {}, extra,
        )  # fmt: skip

    def rows(self, claim: str) -> dict[str, Row]:
        """The claim's verdicts by scope: "world", "corpus" and its name, "computation"."""
        return {r.scope.removeprefix("corpus: "): r for r in ledger([CLAIMS[claim]], evidence, self)}  # type: ignore[arg-type]


def peaked(base: float, gain: float) -> list[float]:
    """A curve over tau: the base, and more (or less) at one tau."""
    return [base + gain * (i == PEAK) for i in range(len(TAUS))]


@dataclass(frozen=True)
class Case:
    """holds: levels under which the claim holds on the world. sham: further ones under which the negative control wins.
    control: levels that the positive control needs where the claim fails, and without which nothing is refuted."""

    holds: Gains
    sham: Gains
    control: Gains
    fails: Gains = field(default_factory=dict)


CASES = {
    "C1": Case({"cider": SHIFT}, {"unmasked": SHIFT}, {"exact": SHIFT}),
    "C2": Case({"cider": SHIFT}, {"linear": SHIFT}, {"exact": SHIFT}),
    "C5": Case({"at .9": SHIFT}, {"at 1": SHIFT}, {"exact": SHIFT}),
    "C6": Case({"cider": SHIFT}, {"cider": 2 * SHIFT, "unmasked": SHIFT}, {"unmasked": -SHIFT}),
    "C7": Case({"cider": SHIFT}, {"zeros": SHIFT}, {"hidden": SHIFT}),
    "C8": Case({"tau words": SHIFT}, {"tau shuffled": SHIFT}, {"tau oracle": SHIFT}),
    "C9": Case({"cider": SHIFT, "rolled": -SHIFT}, {"rolled": SHIFT}, {"hidden": SHIFT}),
    "C11": Case({"unmasked": -SHIFT}, {"unmasked": 0.0}, {"unmasked": -SHIFT}, {"position": -SHIFT}),
    "C12": Case({"unmasked": -SHIFT}, {"unmasked": 0.0}, {"unmasked": -SHIFT}, {"whole": SHIFT}),
    "C14": Case({"cider": SHIFT}, {"swapped": SHIFT}, {"alone": -SHIFT}),
    "C15": Case({f"{m}_maci": SHIFT for m in BASELINES} | {"hidden": SHIFT, "tau shuffled": 0.0},
                {"tau shuffled": 0.0}, {"hidden": SHIFT}),
    "C17": Case({"unmasked": -SHIFT}, {"unmasked": 0.0}, {"unmasked": -SHIFT}, {"own_teacher": SHIFT}),
}  # fmt: skip
# where the counterfactual of random words is read off the wrapped arm itself, the sham wins with the head alone
HEAD_ALONE = ("C15",)


@pytest.mark.parametrize("claim", CASES)
def test_a_claim_on_the_world_turns_with_the_effect(claim: str) -> None:
    case = CASES[claim]
    if claim in HEAD_ALONE:
        holds = Made({"tau words": SHIFT}).rows(claim)["world: lexicon"]
        sham = Made({f"{m}_maci": SHIFT for m in BASELINES}).rows(claim)["world: lexicon"]
    else:
        holds = Made(case.holds).rows(claim)["world: lexicon"]
        sham = Made({**case.holds, **case.sham}).rows(claim)["world: lexicon"]
    assert (holds.status, holds.seeds) == ("supported", 10)
    assert sham.status == "unresolved"
    assert "negative control" in sham.reason
    assert Made({**case.control, **case.fails}).rows(claim)["world: lexicon"].status == "refuted"
    blind = Made({**case.fails, **({"unmasked": SHIFT} if claim in ("C11", "C12", "C17") else {})}).rows(claim)[
        "world: lexicon"
    ]
    assert blind.status == "unresolved"
    assert "positive control" in blind.reason


@pytest.mark.parametrize(
    ("claim", "data", "holds"),
    [
        ("C1", "mosi", {"cider_corpus": SHIFT}), ("C2", "mosi_lexical", {"cider_corpus": SHIFT}),
        ("C5", "mosi", {"at .9": SHIFT}), ("C7", "mosi_lexical", {"cider_corpus": SHIFT}),
        ("C8", "mosi_lexical", {"tau words": SHIFT}), ("C9", "mosi_lexical", {"cider_corpus": SHIFT}),
    ],
)  # fmt: skip
def test_a_claim_on_the_corpus_turns_with_the_effect(claim: str, data: str, holds: Gains) -> None:
    assert Made(holds).rows(claim)[data].status == "supported"
    assert Made().rows(claim)[data].status == "refuted"


def test_choices_on_test_are_counted_together() -> None:
    for data in CORPORA:
        assert Made(chosen=0.002).rows("C18")[data].status == "supported"
        assert Made(chosen=0.03).rows("C18")[data].status == "refuted"
    r = next(r for r in Made(chosen=0.03).records if r.spec.arm == "published_corpus" and r.spec.data.name == "mosi")
    found = evidence.layers(r)
    assert found["epoch"] - found["clean"] == pytest.approx(0.015)
    assert found["tau"] - found["epoch"] == pytest.approx(0.015)


def test_facts_are_settled_by_their_computation() -> None:
    assert Made().rows("C3")["computation"].status == "supported"
    assert Made(seconds={"cider": 0.5}).rows("C4")["computation"].status == "supported"
    assert Made(seconds={"cider": 2.0}).rows("C4")["computation"].status == "refuted"
    assert Made(passing=0.7).rows("C10")["computation"].status == "supported"
    assert Made().rows("C10")["computation"].status == "refuted"
    assert Made().rows("C16")["computation"].status == "refuted"


def test_alignment_needs_another_world() -> None:
    row = Made({"align_attention": SHIFT}).rows("C13")["world: lexicon"]
    assert row.status == "not testable here"
    assert "easy, hard" in row.reason


def test_every_claim_is_cited_once_and_has_a_test() -> None:
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 19)]
    assert all(callable(getattr(evidence, c.test)) for c in CLAIMS.values())


# --- arms ------------------------------------------------------------------------------------------------------------


def config(name: str) -> Any:
    a = STUDY.arm(name)
    return registry.config(a.model, a.preset, **{k: v for k, v in a.overrides.items() if k != "backbone_settings"})


@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
def test_specs_build_their_configurations(profile: str) -> None:
    specs = STUDY.specs(profile)
    for name in {s.arm for s in specs}:
        s = next(s for s in specs if s.arm == name)
        changes = {k: tuple(map(tuple, v)) if k == "backbone_settings" else v for k, v in s.overrides.items()}
        registry.config(s.model, s.preset, **changes)
        assert set(s.options.get("look", ())) <= set(LOOKS)


def test_arms_differ_from_the_reference_in_what_they_say() -> None:
    reference = config("cider")
    expected = {
        "linear": {"head"}, "zeros": {"encodings"}, "position": {"missing"}, "whole": {"missing"},
        "unmasked": {"missing"}, "own_teacher": {"teacher"}, "no_feature": {"feature_weight"},
        "no_attention": {"attention_weight"}, "no_joint": {"joint_weight"}, "vanilla": {"composite", "layers"},
        "frozen_teacher": {"teacher", "teacher_epochs"}, "positions_batch": {"positions"}, "cider_corpus": set(),
        "looked_at": set(), "parts": set(), "align_attention": set(), "align_chunks": {"alignment"},
    }  # fmt: skip
    for name, names in expected.items():
        found = config(name)
        assert {k for k in vars(found) if getattr(found, k) != getattr(reference, k)} == names, name
    assert config("published").steps == "accumulated"
    assert config("published").special is None
    assert {a.data for a in STUDY.arms if a.name in ("cider", "linear", "zeros", "position", "unmasked")} == {
        tuple(f"lexicon_{s}" for s in SETTINGS)
    }
    assert all(STUDY.arm(f"{m}_maci").overrides["backbone"] == m for m in BASELINES)
    assert STUDY.arm("published").recipe_overrides["selection"] == "oracle_test_epoch"


def test_published_numbers_are_those_of_the_counts() -> None:
    floors = paper.floors()
    assert floors["MOSI, in distribution"]["negative"] == pytest.approx(0.578, abs=5e-4)
    assert floors["MOSEI, out of distribution"]["negative"] == pytest.approx(0.593, abs=5e-4)
    assert floors["MOSI to MOSEI"]["seven"] == pytest.approx(0.413, abs=5e-4)
    assert floors["MOSEI, in distribution"]["lowest class"] == pytest.approx(0.015, abs=5e-4)
    assert paper.label_shift()["MOSEI, out of distribution"] == pytest.approx((0.6745, 0.4066), abs=5e-4)
    assert paper.parameters(2, False) == {"total": 244086, "maci": 33545, "decoders": 70794, "inference": 173292}
    assert paper.parameters(1, True)["maci"] == 41265
    s = np.array([[0.2, 0.5, 0.3]])
    assert [int(paper.degenerate_tau(s, t)[0]) for t in (0.5, 1.0, 2.0)] == [1, 0, 0]  # largest, class 0, smallest
