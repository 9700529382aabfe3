"""RoHyDR's arms and the tests of its claims, on records made up so that the verdict is known.

A record holds what its own spec asks for and no more: an arm, a condition or a diagnosis that evidence.py names and
study.py does not run is an open claim or an error here. Noise is centred over the seeds: without a planted effect every
mean difference is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import planted
import pytest

from affectcore.evaluation.verdict import Evidence
from affectcore.models import registry
from affectcore.studies.claims import Row, ledger, study_claims
from affectcore.studies.resampling import Draws, Resampled
from affectcore.studies.rohydr import answers, evidence, paper
from affectcore.studies.rohydr.diagnose import SAMPLERS
from affectcore.studies.rohydr.study import COUNTS, STUDY
from affectcore.studies.spec import RunSpec
from affectcore.studies.store import RunRecord

CLAIMS = {c.id: c for c in study_claims("rohydr")}
SPECS = STUDY.specs("full", 10)
SHIFT, SD = 0.1, 0.002
noise = partial(planted.noise, sd=SD)
NAMES = {3: ("text", "audio", "vision"), 4: ("physiology", "facial", "computer", "posture"), 6: tuple("abcdef")}
LEFT = {1: 0.60, 2: 0.65, 3: 0.75, 4: 0.75, 5: 0.75, 6: 0.75}  # accuracy with so many modalities


@dataclass
class Made:
    """Results of the arms. `level`: arm -> what its accuracies gain; `read`: diagnosed number -> what it gains."""

    level: Mapping[str, float] = field(default_factory=dict)
    read: Mapping[str, float] = field(default_factory=dict)
    complete: float = 0.0  # what complete samples gain in every arm
    shuffled: float = 0.0  # what the reference gains under other samples' streams
    ratio: float = 1.0
    cosine: float = 0.2
    cost: Mapping[str, float] = field(default_factory=dict)  # arm -> CPU seconds an epoch
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.study, self.profile = STUDY, "full"
        self.records = [self.record(s) for s in SPECS if s.arm not in self.without]
        wide = np.random.default_rng(0).normal(0, 2 * SD, (len(STUDY.arms), 1000))
        self.resampled = Resampled(
            {
                (a.name, "mosei", "mr_0.4", "accuracy"): Draws(
                    "accuracy", 0.6 + self.level.get(a.name, 0) + noise(a.name),
                    0.6 + self.level.get(a.name, 0) + wide[i], 900, 900, "same",
                )
                for i, a in enumerate(STUDY.arms)
                if a.name.startswith("mosei")
            },
            "full",
        )  # fmt: skip

    def record(self, s: RunSpec) -> RunRecord:
        gain = self.level.get(s.arm, 0.0) + noise(s.arm)[s.seed]
        x = gain + 25 * noise("world")[s.seed]  # the world's, shared by paired arms
        names = NAMES[s.data.options.get("change", {}).get("modalities", 4 if "swell" in s.data.name else 3)]

        def level(n: int) -> float:
            return LEFT[n] + x + (self.complete if n > 2 else 0)

        subsets = [[m for j, m in enumerate(names) if k >> j & 1] for k in range(1, 2 ** len(names))]
        extra: dict[str, Any] = {
            "subsets": {c.name: {"+".join(k): [level(len(k)), 9] for k in subsets} for c in s.conditions if c.protocol}
        }
        look = [*s.options.get("diagnose", ()), *(s.options.get("headline", ()) if "headline" in s.data.name else ())]
        if "shuffled" in look:
            moved = {"+".join(k): [level(len(k)) + self.shuffled, 9] for k in subsets}
            extra["shuffled"] = {c.name: moved for c in s.conditions if c.protocol}
        if "recovery" in look:
            at = {k: v + noise(k)[s.seed] for k, v in
                  {"true": 0.8, "own": 0.6, "other": 0.6, "none": 0.6, "area": 0.9, "apart": 0.5, "mean": 0.9,
                   "raw": 0.0,
                   "mended": 0.0, "mean of draws": 0.0, "halves": 0.0}.items()}  # fmt: skip
            at = {k: v + self.read.get(k, 0.0) + self.read.get(f"{s.arm} {k}", 0.0) for k, v in at.items()}
            entry = {
                "probe": [at[k] for k in ("true", "own", "other", "none")],
                "auc": [at[k] for k in ("area", "apart", "mean")],
                "others": at["own"],
                "variance": [float(np.exp(at[k])) for k in ("raw", "mended", "mean of draws")], "halves": at["halves"],
            }  # fmt: skip
            from_ = {m: ["+".join(k) for k in subsets if m not in k] for m in names}
            extra["recovery"] = {
                m: entry | {"r2": dict.fromkeys(k, at["own"] - 0.4), "linear": dict.fromkeys(k, 0.2)}
                for m, k in from_.items()
            }
        if "gradients" in look:
            norms = {"generator": [self.ratio], "rebuilding": [1.0], "classifier": [1.0]}
            extra["gradients"] = {
                "norms": dict.fromkeys(("reconstructors", "fusion"), norms),
                "cosine": {k: [self.cosine] for k in ("reconstructors", "fusion")},
                "summed": 64,
            }
        if "audit" in look:
            rng = np.random.default_rng(s.seed)
            extra["audit"] = {
                "subsets": {"+".join(k): level(len(k)) for k in subsets},
                "curve": {f"{r:g}": {"acc2": 0.7 - r / 10, "f1": 0.6, "acc7": 0.3} for r in paper.RATES},
                **{
                    way: {
                        f"{r:g}": [[0.6 + sd * e, r] for e in rng.standard_normal(200)] for r in (0.3, 0.5, 0.7)
                    } for way, sd in (("sample", 0.005), ("batch", 0.02))
                },
            }  # fmt: skip
        if "steps" in look:
            samplers = SAMPLERS if "rohydr" in s.model and s.arm != "zero_fill" else (("zero", 0),)
            extra["steps"] = [
                {"sampler": n, "steps": k, "acc2": 0.6, "ms": 1.0 + k, "spread": 0.1} for n, k in samplers
            ]
        history = tuple(
            {"probe": {"acc2": 0.5 + 0.02 * e}, "cpu_s": self.cost.get(s.arm, 1.0)} for e in range(10)
        ) if s.options.get("probe") else ()  # fmt: skip
        scores = {
            c.name: dict.fromkeys(("acc2_non_zero", "accuracy", "balanced_accuracy"), level(3)) for c in s.conditions
        }
        return RunRecord(
            s, "", "", None, "", {}, "", "", 0, 0, 0, 0, 0, "fixed_epoch", 0, None, history, {"test": scores}, {}, extra
        )

    def rows(self, claim: str) -> dict[str, Row]:
        found = ledger([CLAIMS[claim]], evidence, self)  # type: ignore[arg-type]
        return {r.scope.partition(" ")[0 if r.scope == "computation" else 2]: r for r in found}


def lower(*arms: str) -> dict[str, Any]:
    """The other side is worse, and so is the reference under other samples' streams."""
    return {"level": {f"{d}{a}": -SHIFT for a in arms for d in ("", "mosei_")}, "shuffled": -1.5 * SHIFT}


SAME: dict[str, Any] = {"complete": -0.15}  # then complete samples are no better than those with one modality left
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # effect, no positive control, sham
    "C1": (lower("joint"), SAME, {"level": {"joint": -SHIFT}}),
    "C4": ({"read": {"own": SHIFT}}, {"read": {"true": -0.2}}, {"read": {"own": SHIFT, "none": SHIFT}}),
    "C5": ({"read": {"area": -SHIFT}}, {"read": {"apart": 0.4}}, {"read": {"area": -SHIFT, "mean": -SHIFT}}),
    "C6": (lower("no_discriminator"), SAME, {"level": {"no_discriminator": -SHIFT}}),
    "C7": (lower("one_stage"), SAME, {"level": {"one_stage": -SHIFT}}),
    "C9": ({"level": {"complete": -0.01}}, SAME, {"level": {"complete": -SHIFT}, "complete": -0.15}),
    "C10": (lower("streams_alone", "fusion_alone"), SAME, {"level": {"streams_alone": -SHIFT, "fusion_alone": -SHIFT}}),
    "C12": (lower("mean_condition"), SAME, {"level": {"mean_condition": -SHIFT}}),
    "C13": (
        {"read": {"mended": -SHIFT, "mean of draws": -1}}, {"read": {"mean of draws": 0.0}},
        {"read": {"mended": -SHIFT, "mean of draws": -1, "halves": SHIFT}},
    ),
}  # fmt: skip
NOTHING: dict[str, dict[str, Any]] = {
    "C9": {"level": {"complete": 0.03}}, "C13": {"read": {"mean of draws": -1}}, "C5": {"read": {"area": 0.05}},
}  # fmt: skip


# --- claims ----------------------------------------------------------------------------------------------------------


def test_the_claims_are_those_of_the_register() -> None:
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 14)]
    assert all(c.test for c in CLAIMS.values())


def test_all_claims_together_make_a_ledger_over_their_registered_scopes() -> None:
    rows = ledger(list(CLAIMS.values()), evidence, Made())  # type: ignore[arg-type]
    assert [(r.id, r.scope) for r in rows] == [(c.id, s) for c in CLAIMS.values() for s in c.scope]
    assert {r.status for r in rows} <= {"supported", "refuted", "unresolved"}  # never for want of runs, seeds or items


@pytest.mark.parametrize("claim", CASES)
def test_a_planted_effect_supports_and_its_absence_refutes(claim: str) -> None:
    effect, no_control, sham = CASES[claim]
    for row in Made(**effect).rows(claim).values():
        assert row.status == "supported", row
    for row in Made(**NOTHING.get(claim, {})).rows(claim).values():
        assert row.status == "refuted", row
    bare = {k: {**NOTHING.get(claim, {}).get(k, {}), **v} if isinstance(v, dict) else v for k, v in no_control.items()}
    row = Made(**{**NOTHING.get(claim, {}), **bare}).rows(claim)["recovery"]
    assert "the positive control does not win" in row.reason, row
    row = Made(**sham).rows(claim)["recovery"]
    assert "the negative control wins" in row.reason, row


def test_c3_compares_with_the_constant_where_text_is_hidden() -> None:
    assert Made({"mosei_rohydr": SHIFT}).rows("C3")["mosei"].status == "supported"
    row = Made().rows("C3")["mosei"]
    assert (row.status, row.margin) == ("refuted", 0.015)


def test_c8_needs_a_ratio_beyond_ten_or_a_conflict() -> None:
    assert Made().rows("C8")["computation"].status == "refuted"
    assert Made(ratio=11).rows("C8")["computation"].status == "supported"
    assert Made(ratio=0.09).rows("C8")["computation"].status == "supported"
    assert Made(cosine=-0.2).rows("C8")["computation"].status == "supported"


def test_c11_asks_for_fewer_seconds_to_the_target() -> None:
    row = Made(cost={"rohydr": 3.0}).rows("C11")["computation"]
    assert (row.status, row.estimate) == ("refuted", pytest.approx(1 / 3))
    assert Made(cost={"one_stage": 2.0}).rows("C11")["computation"].status == "supported"


def test_the_better_half_is_the_one_to_beat() -> None:
    row = Made({"streams_alone": -SHIFT}, shuffled=-SHIFT).rows("C10")["recovery"]
    assert (row.status, row.estimate) == ("refuted", pytest.approx(0, abs=1e-9))


@pytest.mark.parametrize(("absent", "claims"), [("joint", "C1"), ("no_discriminator", "C6"), ("mean_condition", "C12")])
def test_a_missing_arm_leaves_its_claims_open(absent: str, claims: str) -> None:
    row = Made(without=(absent,)).rows(claims)["recovery"]
    assert (row.status, absent in row.reason) == ("open", True)


# --- readings and printed values -------------------------------------------------------------------------------------


def test_the_average_is_that_over_the_missing_rates() -> None:
    from affectcore.data.missing import RANDOM_MR

    record = next(r for r in Made().records if r.spec.arm == "rohydr")
    by_rate = [
        two * evidence.left(1)(record) + one * evidence.left(2)(record) + (1 - two - one) * evidence.left(3)(record)
        for two, one in RANDOM_MR.values()
    ]
    assert evidence.averaged(record) == pytest.approx(np.mean(by_rate))
    assert paper.mixture() == pytest.approx((0.4625, 0.1125, 0.425))


def test_printed_averages() -> None:
    assert paper.best_average("MOSI") == ("IMDer", pytest.approx(79.59, abs=0.01))
    assert paper.best_average("MOSEI") == ("IMDer", pytest.approx(80.94, abs=0.01))
    row = Made().rows("C2")["computation"]
    assert (row.status, row.estimate) == ("refuted", 0)
    assert 0.4625 * paper.single_needed("MOSI", 82.45) + 0.5375 * 85.7 == pytest.approx(82.45)
    assert paper.roughness(np.array([1.0, 3.0, 2.0])) == 1.5
    peaks = {k: (float(v.max()), int(v.argmax()) + 1) for k, v in paper.CURVES.items()}
    assert peaks == {"earlier": (69.2, 27), "RoHyDR": (74.8, 29)}


# --- arms ------------------------------------------------------------------------------------------------------------

DIFFERS = {
    "zero_fill": {"recovery", "mrec"}, "complete": {"recovery", "mrec", "hide"},
    "no_discriminator": {"adversarial_weight"}, "one_stage": {"stages"}, "streams_alone": {"mrec"},
    "fusion_alone": {"recovery"}, "mean_condition": {"denoiser"}, "regressor": {"recovery"},
    "regressor_alone": {"recovery", "mrec"}, "one_regressor": {"stages", "recovery"},
    "one_regressor_alone": {"stages", "recovery", "mrec"}, "joint": {"stages", "mrec"},
    "mosei_joint": {"stages", "mrec"},
    "fused": {"stages"}, "direct": {"direct"}, "no_reuse": {"reuse"}, "two_stages": {"stages"},
    "uncertainty": {"stages", "weighting"}, "dwa": {"stages", "weighting"}, "gradnorm": {"stages", "weighting"},
    "pcgrad": {"stages", "weighting"}, "many_recovered": {"stages"}, "many_zero": {"recovery", "mrec"},
    "mosei_rohydr": set(), "mosei_zero_fill": {"recovery", "mrec"}, "swell_rohydr": set(),
    "swell_zero_fill": {"recovery", "mrec"}, "swell_no_posture": set(),
}  # fmt: skip


def test_every_arm_differs_from_the_reference_in_what_its_name_says() -> None:
    def settings(arm: str) -> tuple[dict[str, Any], RunSpec]:
        profile = replace(STUDY.profiles["standard"], seeds={1: 1, 2: 1, 3: 1})
        study = replace(STUDY, profiles={"standard": profile})
        s = next(s for s in study.specs("standard") if s.arm == arm)
        return registry.config("rohydr", s.preset, **{k: tuple(v) if isinstance(v, list) else v
                                                      for k, v in s.overrides.items()}).__dict__, s  # fmt: skip

    mine, reference = settings("rohydr")
    arms = [a.name for a in STUDY.arms if a.model == "rohydr" and a.preset == "clean" and a.name != "rohydr"]
    assert set(arms) == set(DIFFERS)
    for arm in arms:
        other, spec = settings(arm)
        assert {k for k in mine if mine[k] != other[k]} == DIFFERS[arm], arm
        assert spec.recipe_overrides == reference.recipe_overrides, arm
        assert (spec.augment is None) == (arm == "complete"), arm


def test_standard_scores_worlds_on_6000_items_and_all_of_one_size() -> None:
    specs = [s for s in STUDY.specs("standard") if s.data.source == "world"]
    assert {tuple(s.data.options["sizes"].values()) for s in specs} == {(480, 120, 6000)}
    assert {s.data.options["change"].get("modalities", 3) for s in specs} == {3, *COUNTS}
    assert {s.seed for s in specs if STUDY.arm(s.arm).tier == 1} == set(range(10))


def test_evidence_is_of_the_registered_scope() -> None:
    made = Made()
    for claim in CLAIMS.values():
        found = getattr(evidence, claim.test)(claim, made)
        for e in found if isinstance(found, list) else [found]:
            assert (str(e.scope) if isinstance(e, Evidence) else "computation") in claim.scope


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_made() -> Made:
    return Made()


def test_the_curve_is_a_mixture_of_the_subsets(all_made: Made) -> None:
    made: Any = all_made
    y = answers.curve(made, "rohydr")
    assert y.shape == (10, 8)
    assert y.mean(1) == pytest.approx(evidence.readings.by_seed(made, "rohydr", "recovery_headline", evidence.averaged))
    assert y[:, 7] == pytest.approx(evidence.readings.by_seed(made, "rohydr", "recovery_headline", evidence.ONE))
    assert list(answers.fixed(made, {"rohydr": "x"}).index)[:3] == ["audio", "text", "vision"]


def test_the_factorial_finds_a_planted_effect() -> None:
    made: Any = Made(dict.fromkeys(("rohydr", "streams_alone", "one_stage", "joint"), SHIFT))
    found = answers.factorial(made)
    assert found["diffusion"].estimate == pytest.approx(SHIFT, abs=0.005)
    assert max(abs(v.estimate) for k, v in found.items() if k != "diffusion") < 0.005


def test_tables_hold_what_the_records_say(all_made: Made) -> None:
    made: Any = all_made
    drawn = answers.mask_draws(made)
    sd = drawn.groupby("way")["sd"].mean()
    assert (sd["sample"], sd["batch"]) == (pytest.approx(0.005, rel=0.1), pytest.approx(0.02, rel=0.1))
    table = answers.rates_table(made, {"rohydr": "RoHyDR"})
    assert list(table["RoHyDR"][["0", "0.7", "mean"]]) == ["70.0/60.0/30.0", "63.0/60.0/30.0", "66.5/60.0/30.0"]
    assert set(answers.training(made, {"rohydr": "three", "fused": "one"}).index) == {"three", "one"}
    assert answers.training(made, {"rohydr": "three"}).loc["three", "CPU s"] == pytest.approx(10)
    assert len(answers.quality(made)) == 3 * 3 * 3
    assert answers.recovery_table(made, ["rohydr"]).loc["rohydr", "two-sample area"] == pytest.approx(0.9, abs=0.01)
    assert len(answers.latency(made, {"rohydr": "RoHyDR", "zero_fill": "zero"})) == len(SAMPLERS) + 1
    assert answers.change(made, "fused").estimate == pytest.approx(0, abs=0.005)


def test_the_oracle_does_no_worse_with_more_modalities() -> None:
    from affectcore.data.worlds import WORLDS

    one, two, three = answers.ceilings({"easy": WORLDS["recovery"].difficulties["easy"]}, items=1000)["easy"]
    assert 0.5 < one < two < three < 1
