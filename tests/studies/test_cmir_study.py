"""CmIR's arms and the tests of its claims, on records made up so that the verdict is known.

A record holds what its own spec asks for and no more, so an arm or a look that evidence.py names and study.py does not
run is an open claim or an error here. Noise is centred over the seeds: without a planted effect every mean is 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import planted
import pytest

from affectcore.models import registry
from affectcore.studies.claims import Row, ledger, study_claims
from affectcore.studies.cmir import evidence, paper
from affectcore.studies.cmir.study import OFF, ON, STUDY
from affectcore.studies.resampling import Draws, Resampled
from affectcore.studies.spec import RunSpec
from affectcore.studies.store import RunRecord

CLAIMS = {c.id: c for c in study_claims("cmir")}
SPECS = [s for s in STUDY.specs("standard") if STUDY.arm(s.arm).tier == 1]
ARMS = {a.name: i for i, a in enumerate(STUDY.arms)}
SHIFT, SD = 0.3, 0.0005
noise = partial(planted.noise, sd=SD)
REGISTERED = {f"C{i}" for i in range(1, 24)}
FACTS, OPEN = {"C3", "C19", "C22"}, {"C2"}
ON_WORLD = {"C14", "C15", "C16", "C17", "C21", "C23"}


@dataclass
class Made:
    """Results of every arm. `level`: "arm" or "arm data" -> what its readings gain."""

    level: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.study, self.profile = STUDY, "standard"
        specs = [s for s in SPECS if s.arm not in self.without]
        self.records = [self.record(s) for s in specs]
        wide = np.random.default_rng(0).normal(0, 2 * SD, (len(ARMS), 1000))
        rows = {}
        for arm, data in {(s.arm, s.data.name) for s in specs if s.data.source == "reader"}:
            for where in (data, "mosi_ood:test_iid")[: 1 + (data == "mosi_ood")]:
                for metric, sign in (("mae", -1), ("acc2_non_zero", 1)):
                    x = 0.7 + sign * (self.gain(arm, where) + noise(arm, 10))
                    drawn = 0.7 + sign * (self.gain(arm, where) + wide[ARMS[arm]])
                    rows[arm, where, "clean", metric] = Draws(metric, x, drawn, 400, 90, where)
        self.resampled = Resampled(rows, "standard")

    def gain(self, arm: str, data: str) -> float:
        return self.level.get(arm, 0.0) + self.level.get(f"{arm} {data}", 0.0)

    def record(self, s: RunSpec) -> RunRecord:
        x = self.gain(s.arm, s.data.name) + noise(s.arm, 10)[s.seed]
        metrics = {k: {"clean": {"mae": 1 - x, "acc2_non_zero": 0.7 + x}} for k in ("valid", "test")}
        extra: dict[str, Any] = {"mse": {t: {"clean": float(np.exp(-x))} for t in evidence.TESTS}}
        look = s.options.get("look", ())
        if s.data.source == "world" and "use" in look:
            extra["use"] = {"causal": 1.0, "spurious": 0.1 - x, "nuisance": 0.0}
        if s.data.source == "world" and "codes" in look:
            code = {"y_correlation": 0.5 + x, "environment": 0.7 - x, "score": 0.9 + x}
            other = {"y_correlation": 0.5, "environment": 0.7, "score": 1.0}
            truth = {"inv": {"y_correlation": 0.95, "environment": 0.5}, "spu": {"y_correlation": 0.0}}
            extra["codes"] = {"raw": other, "inv": code, "spu": other, "factors": truth}
        if "classes" in look:
            extra["classes"] = {"neighbours": 0.4 + x, "factors": {"neighbours": 0.9}}
        return RunRecord(
            s, "", "", None, "", {}, "", "", 0, 0, 0, 0, 0, "valid_best", 0, 0.5, ({},), metrics, {}, extra
        )

    def rows(self, claim: str) -> list[Row]:
        return ledger([CLAIMS[claim]], evidence, self)  # type: ignore[arg-type]


OTHERS = ("vanilla", "architecture", "c_mib", "ithp", "self_mm", "misa", "clue", "gear", "noise_augmentation")
SHARP = {"oracle_pairs": SHIFT}
HOLDS: dict[str, Mapping[str, float]] = {
    "C1": {"cmir": SHIFT}, "C4": {f"{a} mosi_ood:test_iid": SHIFT for a in ("cmir", *OTHERS)},
    "C5": {"cmir mosi_ood": SHIFT}, "C6": {"cmir": SHIFT},
    "C7": {f"normed_cmir_{r:g}": 2 * r for r in evidence.RATES}, "C8": {"unseen_cmir_0.4": SHIFT},
    "C9": {"cmir": SHIFT},
    "C10": {arm: 0.1 * sum(cell) for cell, arm in evidence.CELLS.items()}, "C11": {"lambda1_1e-06": -SHIFT},
    "C12": {"no_inv": -SHIFT}, "C13": {"alpha_1e-08": -SHIFT}, "C14": {"cmir": 0.5}, "C15": {"cmir": SHIFT, **SHARP},
    "C16": {"cmir": SHIFT}, "C17": {"cmir": SHIFT, **SHARP}, "C18": {}, "C20": {"cmir": SHIFT},
    "C21": {"unseen_cmir_0.4": SHIFT}, "C23": {"cmir": SHIFT, **SHARP},
}  # fmt: skip
FAILS: dict[str, Mapping[str, float]] = {k: {} for k in HOLDS} | {
    "C15": {**SHARP, "cmir": -SHIFT}, "C17": SHARP, "C23": SHARP, "C18": {"cmir_prediction": SHIFT},
}  # fmt: skip


@pytest.fixture(scope="module")
def plain() -> Made:
    return Made()


def test_the_register_is_whole() -> None:
    assert set(CLAIMS) == REGISTERED == {*HOLDS, *FACTS, *OPEN}
    assert not any(c.not_testable for c in CLAIMS.values())


def test_all_claims_together_make_a_ledger(plain: Made) -> None:
    rows = ledger(list(CLAIMS.values()), evidence, plain)  # type: ignore[arg-type]
    assert len(rows) == sum(len(c.scope) for c in CLAIMS.values())
    assert {(r.id, r.scope) for r in rows if r.status == "open"} == {
        ("C2", "corpus: ch_sims_v2"), ("C3", "corpus: ur_funny"),
    }  # fmt: skip
    assert "not testable here" not in {r.status for r in rows}


@pytest.mark.parametrize("claim", HOLDS)
def test_a_planted_effect_supports_the_claim(claim: str) -> None:
    for row in Made(HOLDS[claim]).rows(claim):
        assert row.status == "supported", row
        assert row.seeds == 10
        assert row.estimate is not None
        assert row.estimate > 0


@pytest.mark.parametrize("claim", HOLDS)
def test_no_effect_refutes_the_claim(claim: str) -> None:
    assert {r.status for r in Made(FAILS[claim]).rows(claim)} == {"refuted"}


@pytest.mark.parametrize("claim", ["C15", "C17", "C23"])
def test_without_its_positive_control_a_world_refutes_nothing(claim: str) -> None:
    (row,) = Made({**FAILS[claim], "oracle_pairs": -0.01}).rows(claim)
    assert row.status == "unresolved"
    assert "the positive control does not win in setting easy" in row.reason


@pytest.mark.parametrize(
    ("claim", "sham"),
    [("C17", "nuisance_pairs"), ("C23", "nuisance_pairs"), ("C21", "unseen_architecture_0.4"), ("C14", "architecture"),
     ("C16", "architecture"), ("C15", "architecture")],
)  # fmt: skip
def test_a_negative_control_that_wins_supports_nothing(claim: str, sham: str) -> None:
    (row,) = Made({**HOLDS[claim], sham: SHIFT}).rows(claim)
    assert row.status == "unresolved"
    assert "the negative control wins in setting easy" in row.reason


def test_the_gates_are_both_asked() -> None:
    made = Made({"cmir": SHIFT, **SHARP})
    record = next(r for r in made.records if r.spec.arm == "cmir" and r.spec.data.source == "world")
    both = evidence.slack(record)
    record.extra["use"]["spurious"] = 0.5  # type: ignore[index]
    assert evidence.slack(record) == pytest.approx(-0.4)
    record.extra["use"]["spurious"], record.extra["codes"]["inv"]["score"] = 0.0, 0.7  # type: ignore[index]
    assert evidence.slack(record) == pytest.approx(-0.2)
    assert both > 0


def test_the_best_baseline_is_chosen_on_validation() -> None:
    made = Made({"misa": SHIFT})
    assert evidence.best(made, evidence.BASELINES, "mosi") == "misa"  # type: ignore[arg-type]
    (row,) = made.rows("C1")
    assert row.estimate == pytest.approx(-SHIFT, abs=0.01)


def test_a_missing_arm_leaves_its_claim_open() -> None:
    made = Made(without=("no_inv", "oracle_pairs"))
    for claim, absent in (("C10", "no_inv"), ("C12", "no_inv"), ("C17", "oracle_pairs")):
        row = made.rows(claim)[0] if claim != "C12" else None
        if row is not None:
            assert (row.status, absent in row.reason) == ("open", True)


def test_the_slope_is_that_of_least_squares() -> None:
    gain = {f"normed_cmir_{r:g}": v for r, v in zip(evidence.RATES, (0.1, 0.4, 0.5))}
    found = evidence.noise_slope(Made(gain), "normed")  # type: ignore[arg-type]
    assert found.estimate == pytest.approx(np.polyfit(evidence.RATES, (0.1, 0.4, 0.5), 1)[0], abs=0.02)


def test_main_effects_are_means_with_less_means_without() -> None:
    level = dict(zip(evidence.CELLS.values(), (0.0, 0.1, 0.2, 0.05, 0.3, 0.15, 0.25, 0.4)))
    found = [evidence.main_effect(Made(level), k, "mosi").estimate for k in range(3)]  # type: ignore[arg-type]
    for k, effect in enumerate(found):
        on, off = ([v for c, v in zip(evidence.CELLS, level.values()) if c[k] == side] for side in (1, 0))
        assert effect == pytest.approx(np.mean(on) - np.mean(off), abs=0.01)


def test_cells_are_what_their_levels_say() -> None:
    for cell, arm in evidence.CELLS.items():
        wanted = {k: v if on else 0.0 for on, (k, v) in zip(cell, ON.items())}
        assert dict(STUDY.arm(arm).overrides) == wanted


# --- facts -----------------------------------------------------------------------------------------------------------


def test_c3_compares_with_hkt_s_own_record(plain: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    row = plain.rows("C3")[0]
    assert (row.status, row.estimate) == ("refuted", pytest.approx((76.46 - 77.36) / 100))
    monkeypatch.setattr(paper, "HKT", {"UR-FUNNY": 70.0, "MUStARD": 77.0})
    assert plain.rows("C3")[0].status == "supported"


def test_c19_adds_the_parts_up(plain: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    row = plain.rows("C19")[0]
    assert (row.status, round(row.estimate or 0, 2)) == ("supported", 187.51)
    monkeypatch.setitem(paper.MUSTARD_MILLIONS, "HKT", 10.0)
    assert plain.rows("C19")[0].status == "refuted"


def test_c22_r_dec_is_lower_for_the_same_numbers_than_for_independent_ones(
    plain: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = plain.rows("C22")[0]
    assert row.status == "refuted"
    found = evidence.orthogonality()
    assert found["independent"] == pytest.approx(48 * np.sqrt(150), rel=0.05)  # dossier: 574 of about N sqrt(d)
    assert found["the same numbers apart"] == pytest.approx(85, abs=15)  # dossier: 85
    assert found["copies"] == pytest.approx(1173, rel=0.05)  # dossier: 1,173
    monkeypatch.setattr(evidence, "orthogonality", lambda: {"independent": 1.0, "the same numbers apart": 2.0})
    assert plain.rows("C22")[0].status == "supported"


# --- the arms --------------------------------------------------------------------------------------------------------

ODD = ("published_", "selected_", "count_", "alpha_", "lambda", "all_", "dec_", "gaussian_", "normed_", "unseen_")


def settings(s: RunSpec) -> dict[str, Any]:
    return {**asdict(registry.config(s.model, s.preset, **s.overrides)), **s.recipe_overrides}


def test_every_arm_differs_from_the_reference_in_what_its_name_says() -> None:
    specs = {s.arm: s for s in reversed(STUDY.specs("standard")) if s.model == "cmir" and s.preset == "clean"}
    full, bare = settings(specs["cmir"]), settings(specs["architecture"])
    assert {k for k in full if full[k] != bare[k]} == set(ON)

    def changed(arm: str, base: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in settings(specs[arm]).items() if k not in base or v != base[k]}

    from_full = {
        "cmir_strong": {"invariance_weight": 1.0, "alpha": 0.3}, "cmir_prediction": {"invariance": "prediction"},
        "oracle_pairs": {"environments": "oracle", "count": 1, "invariance_weight": 10.0},
        "nuisance_pairs": {"environments": "oracle", "count": 1, "invariance_weight": 10.0},
        "redrawn_pairs": {"environments": "oracle", "invariance_weight": 10.0, "pairs": "mean"},
        "true_prediction": {"environments": "true", "invariance_weight": 10.0, "invariance": "prediction"},
        "true_coral": {"environments": "true", "invariance_weight": 10.0, "invariance": "coral"},
        "selected_on_test": {"selection": "oracle_test_epoch"}, "count_1": {"count": 1}, "count_8": {"count": 8},
        "count_4_mean": {"pairs": "mean"},
        "count_2_last": {"count": 2, "pairs": "mean", "alpha_of": "last", "alpha": 0.4},
        "alpha_1e-08": {"alpha": 1e-8}, "lambda1_1e-06": {"invariance_weight": 1e-6},
        "lambda2_1": {"decorrelation_weight": 1.0}, "lambda3_0.01": {"reconstruction_weight": 0.01},
        "gaussian_cmir_0.4": {"noise_rate": 0.4},
        "normed_cmir_0.7": {"noise_rate": 0.7, "representation_norm": "layer"},
        "unseen_cmir_0.4": {"noise_rate": 0.4, "test_noise": "laplace_or_erase"},
        "stopped_cmir_0.1": {"noise_rate": 0.1, "stop_target": True},
    }  # fmt: skip
    from_bare = {
        "vanilla": {"codes": False}, "noise_augmentation": {"perturbed_prediction": True},
        "noise_0.5": {"perturbed_prediction": True, "alpha": 0.5}, "jacobian": {"jacobian_weight": 0.1},
        "dropout": {"dropout": 0.3}, "decay": {"weight_decay": 1.0}, "architecture_4": {},
        "dec_published_1": {"decorrelation_weight": 1.0},
        "dec_hsic_1": {"decorrelation_weight": 1.0, "decorrelation": "hsic"},
        "gaussian_vanilla_0.1": {"codes": False, "noise_rate": 0.1}, "unseen_architecture_0.4": {
            "noise_rate": 0.4, "test_noise": "laplace_or_erase"},
    }  # fmt: skip
    for arm, wanted in from_full.items():
        assert changed(arm, full) == wanted, arm
    for arm, wanted in from_bare.items():
        assert changed(arm, bare) == wanted, arm
    rest = set(specs) - set(from_full) - set(from_bare) - set(evidence.CELLS.values())
    assert {a for a in rest if not a.startswith((*ODD, "architecture_", "stopped_"))} == set()


def test_wrapped_networks_are_the_reference() -> None:
    for s in STUDY.specs("standard", 1):
        if s.overrides.get("backbone") == "cmir":
            extra = {"dropout": 0.3} if s.arm == "rdrop" else {}
            bare = next(x for x in STUDY.specs("standard", 1) if x.arm == "architecture")
            assert dict(s.overrides["backbone_settings"]) == {**bare.overrides, **OFF, **extra}, s.arm


def test_no_two_arms_are_one() -> None:
    seen: dict[Any, str] = {}
    for s in STUDY.specs("standard", 1):
        key = repr((s.data.name, s.model, s.preset, settings(s), s.conditions))
        assert seen.setdefault(key, s.arm) == s.arm


def test_names_in_evidence_are_deciding_arms() -> None:
    named = (*evidence.NETWORKS, *evidence.CELLS.values(), "oracle_pairs", "nuisance_pairs", "alpha_1e-08")
    for name in (*named, *(f"normed_{m}_{r:g}" for m in ("cmir", "vanilla") for r in evidence.RATES)):
        assert STUDY.arm(name).tier == 1
