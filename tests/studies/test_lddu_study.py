"""LDDU's arms and the tests of its claims, on records made up so that the verdict is known.

A record holds what its own spec asks for and no more. Noise is centred over the seeds an arm has, five or ten: without
a planted effect every mean difference is 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from affectcore.evaluation.verdict import Evidence
from affectcore.models import registry
from affectcore.studies.claims import Row, ledger, study_claims
from affectcore.studies.lddu import evidence, paper
from affectcore.studies.lddu.study import STUDY
from affectcore.studies.spec import RunSpec
from affectcore.studies.store import RunRecord

CLAIMS = {c.id: c for c in study_claims("lddu")}
UNRUN = ("C1", "C3", "C11", "C13")
RUN = [c for c in CLAIMS if CLAIMS[c].test and c not in UNRUN]
NAMED = {"lddu", "no_contrast", "no_calibration", "squared_error", "carat", "half", "points", "no_queue",
         "chosen_on_test", "videos_lddu", "videos_carat", "videos_no_contrast", "videos_no_calibration",
         "votes_lddu"}  # fmt: skip
SPECS = [s for s in STUDY.specs("standard") if s.arm in NAMED]
SHIFT, SD, DRAWS = 0.1, 0.001, 200


@dataclass
class Made:
    """Results of the arms that claims name. level: arm -> what its micro F1 and rank gain; reading: a reading's name ->
    what all arms gain in it; curve: what the best test epoch gains over the last ones."""

    level: Mapping[str, float] = field(default_factory=dict)
    reading: Mapping[str, float] = field(default_factory=dict)
    curve: float = 0.0
    late: float = 0.0
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.study, self.profile = STUDY, "standard"
        self.records = [self.record(s) for s in SPECS if s.arm not in self.without]

    def record(self, s: RunSpec) -> RunRecord:
        x = self.level.get(s.arm, 0.0) + noise(s.arm)[s.seed]
        f1 = 0.5 + x + 20 * noise("world")[s.seed]  # what a seed's world does to all arms

        def read(name: str, level: float = 0.0) -> float:
            return level + self.reading.get(name, 0.0) + noise(name)[s.seed]

        asked, extra = s.options.get("diagnose", ()), {}
        if "posterior" in asked:
            extra["posterior"] = {k: 0.7 + read(k) for k in ("known", "typical", "another")}
        if "spread" in asked:
            rho = {"u": x + read("u"), "entropy": read("entropy", 0.3), "given": read("given"),
                   "shuffled": read("shuffled"), "posterior": read("exact"), "scale": read("scale")}  # fmt: skip
            extra["spread"] = {"rho": rho}
            if "draws" in asked:
                extra["spread"]["draws"] = {"u": (rho["u"] + 5 * wide(s.data.name)).tolist()}
        if "latent" in asked:
            silhouette = {
                "modality": 0.3 - self.level.get(f"{s.arm} silhouette", 0.0) + noise(s.arm)[s.seed],
                "centred": 0.3 - self.reading.get("centred", 0.0) + noise("centred")[s.seed],
                "shuffled": self.level.get(f"{s.arm} shuffled", 0.0) + noise(f"{s.arm} b")[s.seed],
            }
            extra["latent"] = {"silhouette": silhouette}
        if "gate" in asked:
            extra["gate"] = {"scores": {"certain": [f1 + read("certain"), 0.5]}}
            extra["gate"]["scores"]["shuffled"] = [f1 + self.reading.get("other gate", 0.0), 0.5]
        if "draws" in asked:
            hits = 1e7 * (0.5 + x + np.r_[0.0, wide(s.data.name)])
            extra["draws"] = {"hits": hits.tolist(), "predicted": [1e7] * (DRAWS + 1), "present": [1e7] * (DRAWS + 1)}
        curve = [f1 + self.curve - self.late] * 14 + [f1 + self.curve - self.late]
        curve[7] = f1
        history = tuple({"test": {"micro_f1": v}} for v in curve) if s.arm == "chosen_on_test" else ()
        return RunRecord(
            s, "", "", None, "", {}, "", "", 0, 0, 0, 0, 0, "valid_threshold", 0, f1, history,
            {"test": {"clean": {"micro_f1": f1}}}, {}, extra,
        )  # fmt: skip

    def rows(self, claim: str) -> dict[str, Row]:
        return {r.scope: r for r in ledger([CLAIMS[claim]], evidence, self)}  # type: ignore[arg-type]


@cache
def noise(name: str) -> Any:
    """Ten numbers of a name whose first five, and all ten, have mean 0."""
    e = np.random.default_rng([2, *name.encode()]).normal(0, SD, (2, 5))
    return (e - e.mean(1, keepdims=True)).ravel()


@cache
def wide(name: str) -> Any:
    """What drawing videos does to all arms alike on a fold."""
    return np.random.default_rng([3, *name.encode()]).normal(0, 10 * SD, DRAWS)


POSTERIOR, FOOLED = {"reading": {"known": SHIFT}}, {"reading": {"another": SHIFT}}
EXACT, SHUFFLED = {"reading": {"exact": SHIFT}}, {"reading": {"shuffled": SHIFT}}
PARTS = ("no_contrast", "no_calibration", "videos_no_contrast", "videos_no_calibration")


def lower(*arms: str) -> dict[str, Any]:
    return {"level": dict.fromkeys(arms, -SHIFT)}


# claim -> (changes under which it holds, changes its positive control needs, changes that make its negative one win)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "C2": (lower("carat", "videos_carat"), POSTERIOR, FOOLED),
    "C5": (lower(*PARTS), POSTERIOR, FOOLED),
    "C6": (
        {"level": {"lddu silhouette": SHIFT, "videos_lddu silhouette": SHIFT}},
        {"reading": {"centred": 3 * SHIFT}},
        {"level": {"no_contrast shuffled": SHIFT}},
    ),
    "C7": ({"reading": {"u": 2 * SHIFT}}, EXACT, SHUFFLED),
    "C8": (
        lower("half"),
        {"reading": {"certain": SHIFT, "other gate": -2 * SHIFT}},
        {"reading": {"other gate": SHIFT}},
    ),
    "C9": ({"level": {"lddu": SHIFT}}, EXACT, SHUFFLED),
    "C10": (lower("no_queue"), POSTERIOR, FOOLED),
    "C12": (lower("points"), POSTERIOR, FOOLED),
}


def made(*changes: dict[str, Any]) -> Made:
    out: dict[str, Any] = {}
    for c in changes:
        for k, v in c.items():
            out[k] = {**out[k], **v} if isinstance(v, dict) and k in out else v
    return Made(**out)


def world(rows: dict[str, Row]) -> Row:
    return rows["world: ambiguity"]


def test_the_claims_are_those_of_the_register() -> None:
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 15)]
    assert {c for c in CLAIMS if CLAIMS[c].not_testable} == {"C4"}
    assert set(RUN) == {*CASES, "C14"}


@pytest.mark.parametrize("claim", UNRUN)
def test_a_claim_without_runs_is_open_and_says_what_will_settle_it(claim: str) -> None:
    for row in Made().rows(claim).values():
        assert row.status == "open"
        assert "will settle it" in row.reason


@pytest.mark.parametrize("claim", RUN)
def test_a_claim_s_test_speaks_of_its_registered_scopes(claim: str) -> None:
    found = getattr(evidence, CLAIMS[claim].test)(CLAIMS[claim], Made())
    assert sorted(str(e.scope) for e in found if isinstance(e, Evidence)) == sorted(CLAIMS[claim].scope)
    for row in Made().rows(claim).values():
        assert row.status in ("supported", "refuted", "unresolved")  # never for want of runs, settings, seeds or items
    assert len(ledger(list(CLAIMS.values()), evidence, Made())) == sum(len(c.scope) for c in CLAIMS.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("claim", CASES)
def test_planted_effects_turn_the_verdict(claim: str) -> None:
    effect, base, sham = CASES[claim]
    rows = made(effect, base).rows(claim)
    assert {r.status for r in rows.values()} == {"supported"}, rows
    assert {r.status for r in made(base).rows(claim).values()} == {"refuted"}
    alone = world(Made().rows(claim))
    assert (alone.status, "positive control does not win" in alone.reason) == ("unresolved", True)
    fooled = world(made(effect, base, sham).rows(claim))
    assert (fooled.status, "negative control wins" in fooled.reason) == ("unresolved", True)


def test_one_part_that_helps_alone_neither_supports_nor_refutes_both() -> None:
    row = world(Made({"no_contrast": -SHIFT}, POSTERIOR["reading"]).rows("C5"))
    assert (row.status, "calibration" in row.reason) == ("mixed", True)


def test_c14_takes_what_selection_on_test_adds_from_the_printed_gain() -> None:
    honest = Made({"chosen_on_test": 0.001}, curve=0.0, late=0.02)
    row = world(honest.rows("C14"))
    assert row.estimate == pytest.approx(paper.PRINTED_GAIN - 0.001, abs=1e-6)
    assert row.status == "supported"
    leaky = Made({"chosen_on_test": 0.02}, curve=0.0, late=0.02)
    assert world(leaky.rows("C14")).status == "refuted"
    flat = Made({"chosen_on_test": 0.001}, curve=0.0, late=0.0)  # the best epoch is no better than the others
    assert "negative control wins" in world(flat.rows("C14")).reason
    late_too = Made({"chosen_on_test": 0.02}, curve=0.0, late=0.0)  # the last epoch gains as much
    assert "positive control does not win" in world(late_too.rows("C14")).reason


def test_micro_f1_over_folds_is_that_of_summed_hits() -> None:
    results = Made()
    runs = [r for r in results.records if r.spec.arm == "videos_lddu" and r.spec.seed == 1]
    hits, rest = (sum(r.extra["draws"][k][0] for r in runs) for k in ("hits", "present"))
    by_seed, draws = evidence.drawn(results, "videos_lddu", "mosei_emotions")  # type: ignore[arg-type]
    assert (len(by_seed), draws.shape) == (5, (5, DRAWS))
    assert by_seed[1] == pytest.approx(hits / rest)


def test_an_interval_on_a_corpus_holds_what_arms_share_only_once() -> None:
    results = Made({"videos_carat": -SHIFT})
    pair = [evidence.drawn(results, a, "mosei_emotions") for a in ("videos_lddu", "videos_carat")]  # type: ignore[arg-type]
    c = evidence.over_groups(results, "mosei_emotions", *pair)  # type: ignore[arg-type]
    assert c.estimate == pytest.approx(SHIFT)
    assert c.interval95[1] - c.interval95[0] < 10 * SD  # the draws of videos, ten times as wide, fall out
    assert (c.n_items, c.n_seeds) == (922, 5)


@pytest.mark.parametrize(("absent", "claims"), [("carat", ("C2",)), ("points", ("C12",)), ("votes_lddu", ("C7",))])
def test_a_missing_arm_leaves_its_claims_open(absent: str, claims: tuple[str, ...]) -> None:
    for c in claims:
        row = next(iter(Made(without=(absent,)).rows(c).values()))
        assert (row.status, absent in row.reason) == ("open", True)


# --- arms ------------------------------------------------------------------------------------------------------------


def settings(s: RunSpec) -> dict[str, Any]:
    config = asdict(registry.config(s.model, s.preset, **s.overrides))
    return {"model": s.model, **config, **s.recipe_overrides, "recipe": s.recipe}


UNIT: dict[str, Any] = {"unit_spread": True}
CHANGES: dict[str, dict[str, Any]] = {
    "no_contrast": {"scl_weight": 0.0}, "no_calibration": {"ocl_weight": 0.0}, "squared_error": {"calibration": "mse"},
    "half": {"gate": "half"}, "points": {"family": "point"}, "no_queue": {"queue": 0}, "no_direct": {"dir_weight": 0.0},
    "chosen_on_test": {"selection": "oracle_test_threshold"}, "centre_alone": {"gate": "mu"},
    "spread_alone": {"gate": "sigma"}, "no_latent": {"family": "none"}, "mean_pooling": {"label_pooling": "mean"},
    "entropy_gate": {"gate": "entropy"}, "error_alone": {"calibration": "error"},
    "history_alone": {"calibration": "history"}, "as_in_code": {"calibration": "code"}, "unit": UNIT,
    "unit_no_queue": {**UNIT, "queue": 0}, "unit_no_calibration": {**UNIT, "ocl_weight": 0.0},
    "unit_no_queue_no_calibration": {**UNIT, "queue": 0, "ocl_weight": 0.0},
    "no_queue_no_calibration": {"queue": 0, "ocl_weight": 0.0}, "probed": {}, "ordinal": {"ordinal_weight": 0.3},
    "ranked": {"rank_weight": 0.1}, "weighed_pairs": {"intensity_pairs": True}, "mixture": {"family": "mixture"},
    "student": {"family": "student"}, "directions": {"family": "vmf"}, "merged": {"scheme": 12},
    "present_alone": {"scheme": 18}, "long": {"epochs": 45}, "long_no_contrast": {"epochs": 45, "scl_weight": 0.0},
    "videos_lddu": {}, "videos_no_contrast": {"scl_weight": 0.0}, "votes_lddu": {"epochs": 3},
    "videos_no_calibration": {"ocl_weight": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
def test_every_arm_differs_from_the_reference_in_what_it_should(profile: str) -> None:
    first = {s.arm: s for s in reversed(STUDY.specs(profile, [0]))}
    reference = settings(first["lddu"])
    for arm, changes in CHANGES.items():
        mine = settings(first[arm])
        found = {k: mine.get(k) for k in mine if mine[k] != reference.get(k)} | (
            {k: None for k in reference if k not in mine}
        )
        assert found == changes, arm
    others = {"carat", "videos_carat", "published_lddu", "published_carat", "paper", "constant", "linear", "mlp",
              "tailor", "hhmpn", "lddu"}  # fmt: skip
    assert set(first) == set(CHANGES) | others


def test_published_arms_choose_as_the_logs_did() -> None:
    a, b = STUDY.arm("published_lddu"), STUDY.arm("published_carat")
    assert (a.preset, a.recipe, a.recipe_overrides["selection"]) == ("author", "lddu_author", "oracle_test_threshold")
    assert (b.preset, b.recipe_overrides["selection"], b.recipe_overrides["thresholds"]) == (
        "author", "valid_threshold", [0.25]
    )  # fmt: skip
    for a in STUDY.arms:
        leaky = str(a.recipe_overrides.get("selection", "")).startswith("oracle_test")
        assert leaky == (a.name in ("published_lddu", "chosen_on_test"))


def test_arms_that_claims_name_are_run_in_three_settings_on_enough_items() -> None:
    for arm in NAMED - {a for a in NAMED if a.startswith(("videos", "votes"))}:
        data = {s.data.name: s.data.options["sizes"]["test"] for s in SPECS if s.arm == arm}
        assert data == {f"ambiguity_{s}": 6000 for s in ("easy", "headline", "hard")}


# --- the paper -------------------------------------------------------------------------------------------------------


def test_the_logged_scores_fit_each_other() -> None:
    p, r = paper.PRECISION, paper.RECALL
    assert 2 * p * r / (p + r) == pytest.approx(paper.LOGGED[2].best, abs=1e-4)
    assert paper.LOGGED[0].excess == pytest.approx(0.0198)
    assert all(x.excess > paper.PRINTED_GAIN for x in paper.LOGGED)
