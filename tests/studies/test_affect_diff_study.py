"""Affect-Diff's arms and the tests of its claims, on records made up so that the verdict is known.

A record holds what its own spec asks for and no more: an arm, a condition or a diagnosis that evidence.py names and
study.py does not run is an open claim or an error here. Noise is centred over the seeds: without a planted effect every
mean difference is 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import planted
import pytest

from affectcore.errors import StoreError
from affectcore.evaluation.verdict import Evidence
from affectcore.models import registry
from affectcore.studies.affect_diff import evidence, paper
from affectcore.studies.affect_diff.study import STUDY
from affectcore.studies.claims import Claim, Row, ledger, study_claims
from affectcore.studies.resampling import Draws, Resampled
from affectcore.studies.spec import RunSpec
from affectcore.studies.store import RunRecord

CLAIMS = {c.id: c for c in study_claims("affect_diff")}
TESTED = {k: c for k, c in CLAIMS.items() if c.test}
# arms of tier 1 decide; the corpus of C16 and the count of C21 are the exceptions
SPECS = [s for s in STUDY.specs("standard") if STUDY.arm(s.arm).tier == 1 or s.arm in ("selected_paper", "label_table")]
ARMS = {a.name: i for i, a in enumerate(STUDY.arms)}
PAPER_ORDER = {"text": 0.5, "audio": 0.3, "vision": 0.2}
SHIFT, SD = 0.1, 0.002
noise = partial(planted.noise, sd=SD)


# --- made-up records -------------------------------------------------------------------------------------------------


@dataclass
class Made:
    """Results of every arm. `level`: arm -> what its readings gain; `conditions`: condition -> what all arms gain."""

    level: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, float] = field(default_factory=dict)
    prior: Mapping[str, float] = field(default_factory=dict)  # "others", "hidden", "optimum", "gaussian"
    value: Callable[[int], float] = lambda seed: 0.38
    sums: Callable[[int], Mapping[str, float]] = lambda seed: PAPER_ORDER
    h: float = 0.02
    table: Mapping[str, int] = field(default_factory=lambda: {"videos": 3293, "segments": 23259})
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.study, self.profile = STUDY, "standard"
        self.records = [self.record(s) for s in SPECS if s.arm not in self.without]
        labels = sorted({s.arm for s in SPECS if s.arm.startswith("labels_")} - set(self.without))
        wide = np.random.default_rng(0).normal(0, 2 * SD, (len(ARMS), 1000))
        self.resampled = Resampled(
            {
                (arm, "mosei_emotions", "clean", "auroc_macro"): Draws(
                    "auroc_macro", 0.6 + self.gain(arm) + noise(arm, 10), 0.6 + self.gain(arm) + wide[ARMS[arm]],
                    922, 922, "same",
                )
                for arm in labels
            },
            "standard",
        )  # fmt: skip

    def gain(self, arm: str) -> float:
        return self.level.get(arm, 0.0)

    def record(self, s: RunSpec) -> RunRecord:
        seeds = 10 if STUDY.arm(s.arm).tier == 1 else 5
        x = self.gain(s.arm) + noise(s.arm, seeds)[s.seed] + 25 * noise("world", seeds)[s.seed]  # shared by paired arms
        metrics = {}
        for c in s.conditions:
            score = 0.4 + x + self.conditions.get(c.name, 0.0) + noise(c.name, seeds)[s.seed]
            metrics[c.name] = {"balanced_accuracy": score, "macro_f1": score}
        labels = s.data.name.startswith("mosei_emotions")
        extra: dict[str, Any] = {"class_auroc": {"test": {"clean": [0.9, 0.9, 0.9, *[0.6 + x] * 3]}}}
        if not labels:  # rows of 1e9, so that a recall is any number
            hit = np.array([0.9, 0.9, 0.9, *[0.4 + x] * 3]) * 1e9
            extra["confusion"] = {"test": {"clean": (np.diag(hit) + np.roll(np.diag(1e9 - hit), 1, 1)).tolist()}}
        asked = s.options.get("diagnose", ())
        if "graph" in asked:
            extra["graph"] = {"h": self.h}
        if "latent" in asked:
            extra["latent"] = {"active": [0, 15 + 100 * x], "fisher": [float(np.exp(10 * x)), 0.0]}
        if "prior" in asked:
            gap = {k: self.prior.get(k, 0.0) + noise(k, seeds)[s.seed] for k in ("others", "hidden")}
            optimum = 0.5 + self.prior.get("optimum", 0.0) + noise("optimum", seeds)[s.seed]
            mu = [0.7, 0.7 + gap["others"], 0.7, 0.7 + gap["hidden"], 0.7, 0.7]
            gaussian = 0.5 + self.prior.get("gaussian", 0.0)
            extra["prior"] = {"loss": {"mu": mu, "z": [0.5] * 6}, "optimum": optimum, "gaussian": {"z": gaussian}}
        if s.execute.endswith("count_label_table"):
            extra["label_table"] = dict(self.table)
        probe = {f"sums.{m}": v for m, v in self.sums(s.seed).items()} if s.options.get("probe") else {}
        value = self.value(s.seed) if s.arm == "published_full" else 0.5 + self.gain(f"{s.arm} {s.data.name[:-2]}")
        return RunRecord(
            s, "", "", None, "", {}, "", "", 0, 0, 0, 0, 0, "valid_best", 0, value, ({}, {"probe": probe}),
            {"test": metrics}, {}, extra,
        )  # fmt: skip

    def rows(self, claim: str) -> dict[str, Row]:
        """The claim's verdicts by scope, "world", "corpus" or "computation"."""
        found = ledger([CLAIMS[claim]], evidence, self)  # type: ignore[arg-type]
        return {r.scope.partition(":")[0]: r for r in found}


@dataclass(frozen=True)
class Case:
    """How an effect gets into the records of a claim on worlds and corpus.

    effect: changes under which the claim holds. base: changes that its positive control needs. no_control: changes that
    take the positive control away. sham: changes under which the negative control wins; None where none is registered.
    """

    effect: dict[str, Any]
    base: dict[str, Any] = field(default_factory=lambda: {"level": ORACLE})
    no_control: dict[str, Any] = field(default_factory=lambda: {"level": {}})
    sham: float | None = 0.05

    def made(self, *changes: dict[str, Any]) -> Made:
        out: dict[str, Any] = {}
        for c in (self.base, *changes):
            for k, v in c.items():
                out[k] = {**out.get(k, {}), **v}
        return Made(**out)


ORACLE = {"oracle_data": SHIFT}
OFF: dict[str, Any] = {"level": dict.fromkeys(ORACLE, 0.0)}


def lower(*arms: str) -> dict[str, Any]:
    return {"level": {f"{kind}{a}": -SHIFT for a in arms for kind in ("", "labels_")}}


def cells(g: float, v: float, a: float, crossed: float) -> dict[str, Any]:
    """Levels of the eight cells with these main effects, and `crossed` as the size of every interaction."""
    level = {}
    for cell, arm in evidence.CELLS.items():
        x = 2 * np.array(cell) - 1
        pairs = x[0] * x[1] + x[0] * x[2] + x[1] * x[2] + x.prod()
        level[arm] = float((x * (g, v, a)).sum() + crossed * pairs) / 2
    return {"level": level | {"oracle_data": level["no_diffusion"] + SHIFT, "full": level["no_diffusion"]}}


UNITS: dict[str, Any] = {"level": {"noise_only": SHIFT}}
CASES = {
    "C1": Case(lower("tetfn"), no_control=OFF),
    "C2": Case(lower(*evidence.BASELINES), no_control=OFF),
    "C3": Case(lower("no_diffusion"), no_control=OFF, sham=None),
    "C4": Case(lower("uniform"), no_control=OFF),
    "C5": Case(lower("h_off"), no_control=OFF),
    "C6": Case(lower("joint"), no_control=OFF),
    "C7": Case({"level": {"noise_only": SHIFT}}, no_control=OFF),
    "C10": Case(cells(0.08, -0.06, 0.04, 0.0), cells(0.05, -0.05, 0.05, 0.05), no_control=OFF),
    "C13": Case(lower("no_diffusion"), no_control=OFF, sham=None),
    "C14": Case(
        {"conditions": {"no audio": SHIFT}}, {"conditions": {"no text": -SHIFT}}, {"conditions": {"no text": 0.0}}, None
    ),
    "C19": Case(lower("kl_constant"), UNITS, {"level": {"noise_only": 0.0}}),
    "C20": Case({"level": {"free_bits_0.25": SHIFT}}, UNITS, {"level": {"noise_only": 0.0}}),
    "C22": Case({"prior": {"others": SHIFT}}, {"prior": {"hidden": SHIFT}}, {"prior": {"hidden": 0.0}}, None),
    "C23": Case(lower(*evidence.BASELINES), no_control=OFF),
    "C24": Case(lower("ce"), no_control=OFF),
    "C26": Case({"prior": {"optimum": SHIFT}}, {"prior": {"gaussian": -SHIFT}}, {"prior": {"gaussian": 0.0}}, None),
}  # fmt: skip
FACTS = ("C8", "C9", "C11", "C12", "C15", "C21", "C25")


@pytest.fixture(scope="module")
def plain() -> Made:
    return Made(ORACLE)


# --- every claim -----------------------------------------------------------------------------------------------------


def test_the_claims_are_those_of_the_register() -> None:
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 27)]
    assert set(CLAIMS) - set(TESTED) == {"C17", "C18"}
    assert set(TESTED) == {*CASES, *FACTS, "C16"}


@pytest.mark.parametrize("claim", TESTED)
def test_a_claim_s_test_speaks_of_its_registered_scopes(plain: Made, claim: str) -> None:
    found = getattr(evidence, TESTED[claim].test)(TESTED[claim], plain)
    found = found if isinstance(found, list) else [found]
    scopes = [str(e.scope) if isinstance(e, Evidence) else "computation" for e in found]
    assert sorted(scopes) == sorted(TESTED[claim].scope)
    for row in plain.rows(claim).values():
        assert row.status in ("supported", "refuted", "unresolved")  # never for want of runs, settings, seeds or items
        if row.scope != "computation":
            assert row.seeds == (5 if row.scope == "corpus: mosei_four" else 10)


def test_all_claims_together_make_a_ledger(plain: Made) -> None:
    rows = ledger(list(CLAIMS.values()), evidence, plain)  # type: ignore[arg-type]
    assert len(rows) == sum(len(c.scope) for c in CLAIMS.values())
    assert {r.id for r in rows if r.status == "not testable here"} == {"C17", "C18"}
    assert "open" not in {r.status for r in rows}


@pytest.mark.parametrize("claim", CASES)
def test_a_planted_effect_supports_the_claim(claim: str) -> None:
    case = CASES[claim]
    rows = case.made(case.effect).rows(claim)
    if case.sham is None:  # no negative control is registered: a world can refute the claim, not support it
        assert rows["world"].status == "unresolved"
        assert "no negative control" in rows["world"].reason
        assert rows["world"].reason.endswith("without it: supported")
    else:
        assert rows["world"].status == "supported", rows["world"]
    assert rows["world"].estimate is not None
    assert rows["world"].estimate > 0
    assert "corpus" not in rows or rows["corpus"].status == "supported", rows["corpus"]


@pytest.mark.parametrize("claim", CASES)
def test_no_effect_refutes_the_claim(claim: str) -> None:
    rows = CASES[claim].made().rows(claim)
    assert rows["world"].status == "refuted", rows["world"]
    assert "corpus" not in rows or rows["corpus"].status == "refuted"


@pytest.mark.parametrize("claim", CASES)
def test_without_its_positive_control_nothing_is_refuted(claim: str) -> None:
    rows = CASES[claim].made(CASES[claim].no_control).rows(claim)
    assert rows["world"].status == "unresolved"
    assert "the positive control does not win in setting easy" in rows["world"].reason


@pytest.mark.parametrize("claim", [k for k, c in CASES.items() if c.sham is not None])
def test_a_negative_control_that_wins_supports_nothing(claim: str) -> None:
    case = CASES[claim]
    made = case.made(case.effect)
    sham = made.gain("no_diffusion") + 0.05
    row = case.made(case.effect, {"level": {"full": sham}}).rows(claim)["world"]
    assert row.status == "unresolved"
    assert "the negative control wins in setting easy" in row.reason


def test_baselines_enter_as_their_mean() -> None:
    row = CASES["C2"].made(lower("mult")).rows("C2")["world"]
    assert row.estimate == pytest.approx(SHIFT / 5)
    assert (row.status, row.margin) == ("mixed", 0.05)  # above 0, below the margin


@pytest.mark.parametrize(
    ("absent", "claims"),
    [("tetfn", ("C1", "C2", "C23")), ("oracle_data", ("C1", "C5", "C13")), ("labels_uniform", ()),
     ("label_table", ("C21",)), ("published_full", ("C8", "C11", "C12")), ("classifier_only", ("C10",))],
)  # fmt: skip
def test_a_missing_arm_leaves_its_claims_open(absent: str, claims: tuple[str, ...]) -> None:
    made = Made(ORACLE, without=(absent,))
    for c in claims:
        row = next(iter(made.rows(c).values()))
        assert (row.status, absent in row.reason) == ("open", True)
    if not claims:
        with pytest.raises(Exception, match="labels_uniform"):
            made.rows("C4")


# --- C16, and facts --------------------------------------------------------------------------------------------------


def test_the_gap_of_a_random_split_is_its_validation_value_minus_its_test_value() -> None:
    apart = Made({"selected_paper mosei_four_random": 0.2}).rows("C16")["corpus"]
    assert (apart.status, apart.estimate) == ("supported", pytest.approx(0.2))
    assert Made().rows("C16")["corpus"].status == "refuted"


def test_folds_are_averaged_and_seeds_kept_in_order(plain: Made) -> None:
    runs = [r for r in plain.records if r.spec.arm == "selected_paper" and r.spec.data.name.startswith("mosei_four/")]
    by_hand = [np.mean([evidence.BALANCED(r) for r in runs if r.spec.seed == s]) for s in range(5)]
    assert len(runs) == 25
    assert evidence.by_seed(plain, "selected_paper", "mosei_four") == pytest.approx(by_hand)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no run of selected_paper on imbalance_easy"):
        evidence.by_seed(plain, "selected_paper", "imbalance_easy")  # type: ignore[arg-type]


def fact(claim: str, **changes: Any) -> tuple[str, float | None]:
    row = Made(**changes).rows(claim)["computation"]
    return row.status, row.estimate


def test_c8_says_the_standard_deviation() -> None:
    spread = [0.33, 0.35, 0.34, 0.36, 0.31, 0.35, 0.38, 0.32, 0.33, 0.36]
    assert fact("C8", value=spread.__getitem__) == ("refuted", pytest.approx(np.std(spread, ddof=1)))
    status, sd = fact("C8", value=lambda seed: 0.384 + 0.003 * (seed % 2))
    assert (status, sd) == ("supported", pytest.approx(0.0015 * np.sqrt(10 / 9)))


def test_c9_reads_the_confusion_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fact("C9") == ("refuted", pytest.approx(228 / 420))
    monkeypatch.setitem(paper.CONFUSION, "full", tuple(map(tuple, np.diag(paper.TEST_COUNTS).tolist())))
    assert fact("C9") == ("supported", 1.0)


def test_c11_asks_nine_of_ten_seeds_for_the_order_at_the_end() -> None:
    other = {"text": 0.3, "audio": 0.5, "vision": 0.2}
    assert fact("C11") == ("supported", 1.0)
    assert fact("C11", sums=lambda seed: other if seed == 3 else PAPER_ORDER) == ("supported", 0.9)
    assert fact("C11", sums=lambda seed: other if seed > 7 else PAPER_ORDER) == ("refuted", 0.8)


def test_c12_needs_acyclic_graphs_and_no_two_cycle_in_the_drawn_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fact("C12") == ("refuted", pytest.approx(0.02))
    assert fact("C12", h=0.0) == ("refuted", 0.0)  # the drawn graph has three
    monkeypatch.setattr(paper, "two_cycles", list)
    assert fact("C12", h=0.0) == ("supported", 0.0)
    assert fact("C12")[0] == "refuted"


def test_c15_counts_models_that_dominate(monkeypatch: pytest.MonkeyPatch) -> None:
    status, n = fact("C15")
    full = paper.BY_KEY["full"]
    by_hand = [m for m in paper.MODELS if m.parameters <= full.parameters and m.balanced >= full.balanced]
    by_hand = [m for m in by_hand if (m.parameters, m.balanced) != (full.parameters, full.balanced)]
    assert (status, n) == ("refuted", len(by_hand))
    monkeypatch.setattr(paper, "MODELS", (full, paper.BY_KEY["tfn"]))  # smaller, but not as good
    assert fact("C15") == ("supported", 0)


def test_c21_compares_with_videos_and_segments() -> None:
    assert fact("C21") == ("refuted", 3293)
    assert fact("C21", table={"videos": 5000, "segments": 3300}) == ("supported", 5000)


def test_c25_scores_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fact("C25") == ("refuted", pytest.approx(0.187033, abs=5e-7))
    one = np.repeat(np.arange(6), 4), np.zeros(24, int)
    monkeypatch.setattr(paper, "constant_batches", lambda: one)
    assert fact("C25") == ("supported", pytest.approx(1 / 6))


def test_c3_needs_a_path_of_gradients_for_the_first_part(monkeypatch: pytest.MonkeyPatch, plain: Made) -> None:
    assert plain.rows("C3")["computation"].status == "refuted"
    gradients = evidence.gradients
    monkeypatch.setattr(evidence, "gradients", lambda prior: gradients("joint"))
    row = plain.rows("C3")["computation"]
    assert row.status == "supported"
    assert "encoders" in row.reason


# --- the factorial ---------------------------------------------------------------------------------------------------


def test_the_factorial_finds_known_effects() -> None:
    main = {"G": 0.08, "V": -0.06, "A": 0.02, "GV": 0.03, "GA": -0.01, "VA": 0.005, "GVA": 0.07}
    level = {}
    for cell in product((0, 1), repeat=3):
        x = dict(zip("GVA", 2 * np.array(cell) - 1))
        level[evidence.CELLS[cell]] = sum(e * np.prod([x[f] for f in name]) for name, e in main.items()) / 2
    found = evidence.factorial(Made(level), "imbalance_hard")  # type: ignore[arg-type]
    assert {k: v.mean() for k, v in found.items()} == pytest.approx(main)
    assert {len(v) for v in found.values()} == {10}


def test_a_main_effect_is_the_mean_with_minus_the_mean_without(plain: Made) -> None:
    y = {c: evidence.by_seed(plain, a, "imbalance_easy") for c, a in evidence.CELLS.items()}  # type: ignore[arg-type]
    with_v, without = ([v for c, v in y.items() if c[1] == k] for k in (1, 0))
    found = evidence.factorial(plain, "imbalance_easy")  # type: ignore[arg-type]
    np.testing.assert_allclose(found["V"], np.mean(with_v, 0) - np.mean(without, 0))
    at = {a: (y[1, 1, a] - y[0, 1, a] - y[1, 0, a] + y[0, 0, a]) / 2 for a in (0, 1)}
    np.testing.assert_allclose(found["GV"], (at[0] + at[1]) / 2)
    np.testing.assert_allclose(found["GVA"], (at[1] - at[0]) / 2)


@pytest.mark.parametrize(
    ("effects", "by_hand"),
    [
        ({"a": [1.0, 2.0, 3.0], "b": [-1.0, 0.0, -2.0]}, [1.0, 1.0, 2.5]),  # no sign turns: the mean of sizes
        ({"a": [1.0, -2.0]}, [-1.0, 0.0]),  # whole .5, without the first 2, without the second 1
    ],
)
def test_pseudo_values_by_hand(effects: dict[str, list[float]], by_hand: list[float]) -> None:
    found = evidence.pseudo({k: np.array(v) for k, v in effects.items()}, tuple(effects))
    assert found.tolist() == pytest.approx(by_hand)


def test_the_cells_are_what_their_levels_say() -> None:
    graph = {"gate": "none"}
    vae = {"sampled": False, "kl_weight": 0.0}
    augmentation = {"frame_mask": 0.0, "feature_noise": 0.0}
    for (g, v, a), arm in evidence.CELLS.items():
        off = {**({} if g else graph), **({} if v else vae), **({} if a else augmentation)}
        assert dict(STUDY.arm(arm).overrides) == {"prior": "off"} | off


# --- the arms --------------------------------------------------------------------------------------------------------

IN_NAME = object()
# what an arm changes in the reference's settings; IN_NAME: to the number that its name ends in
CHANGED: dict[str, dict[str, Any]] = {
    "full": {"prior": "stop", "shared_noise": True}, "joint": {"prior": "joint"}, "oracle_data": {},
    "joint_at_once": {"prior": "joint", "diffusion_start": 0, "diffusion_epochs": 1},
    "joint_late": {"prior": "joint", "diffusion_start": 8},
    "no_graph": {"gate": "none"}, "uniform": {"gate": "uniform"}, "h_off": {"penalty": "none"},
    "attention": {"gate": "attention"}, "gumbel": {"gate": "gumbel"}, "softmax": {"gate": "softmax"},
    "mlp_gate": {"gate": "mlp"}, "graph_scaled": {"gate_scaled": True},
    "softmax_scaled": {"gate": "softmax", "gate_scaled": True}, "mlp_gate_scaled": {"gate": "mlp", "gate_scaled": True},
    "attention_scaled": {"gate": "attention", "gate_scaled": True}, "l1_off": {"sparsity": 0.0},
    "penalty_off": {"causal_weight": 0.0}, **{f"causal_{w}": {"causal_weight": IN_NAME} for w in ("0.5", "5", "50")},
    "row_sums": {"strength": "out"}, "lagrangian": {"gate": "lagrangian"},
    "graph": {}, "no_vae": {"sampled": False, "kl_weight": 0.0}, "noise_only": {"kl_weight": 0.0},
    "kl_only": {"sampled": False}, "kl_linear": {"kl_schedule": "linear"}, "kl_constant": {"kl_schedule": "constant"},
    **{f"free_bits_{b}": {"free_bits": IN_NAME} for b in ("0.05", "0.25", "1")},
    **{f"beta_{b}": {"kl_weight": IN_NAME} for b in ("0.001", "0.01", "0.03", "0.3", "1")},
    "kl_by_class": {"kl_class_scale": (1.0, 0.263, 0.1508, 0.0255, 0.0271, 0.0464)},
    "decoder_0.05": {"decoder": True, "reconstruction_weight": IN_NAME},
    "decoder_0.5": {"decoder": True, "reconstruction_weight": IN_NAME},
    "no_augmentation": {"frame_mask": 0.0, "feature_noise": 0.0},
    "no_graph_no_vae": {"gate": "none", "sampled": False, "kl_weight": 0.0},
    "no_graph_no_augmentation": {"gate": "none", "frame_mask": 0.0, "feature_noise": 0.0},
    "no_vae_no_augmentation": {"sampled": False, "kl_weight": 0.0, "frame_mask": 0.0, "feature_noise": 0.0},
    "classifier_only": {
        "gate": "none", "sampled": False, "kl_weight": 0.0, "frame_mask": 0.0, "feature_noise": 0.0,
    },
    "no_modality_dropout": {"modality_dropout": 0.0}, "ce": {"focal": "none", "weights": None},
    "focal": {"weights": None}, "ce_weights": {"focal": "none"}, "focal_author": {"focal": "loss"},
    "no_smoothing": {"label_smoothing": 0.0}, "full_apart": {"prior": "stop", "clip_prefixes": [["unet", 1.0]]},
    "full_clip": {"prior": "stop"},
    "full_noise": {"prior": "stop", "shared_noise": True, "clip_prefixes": [["unet", 1.0]]},
    **{f"joint_{w}": {"prior": "joint", "diffusion_weight": IN_NAME} for w in ("0.01", "0.5", "5")},
    "no_condition": {"prior": "stop", "shared_noise": True, "condition": "ones"},
    "no_guidance": {"prior": "stop", "shared_noise": True, "label_dropout": 0.0, "guidance": 1.0},
    "replay": {"prior": "stop", "replay": 6}, "ratio": {"prior": "stop", "inference": "prior"},
    "selected_paper": {"metric": "batch_averaged_macro_recall_64"}, "selected_true": {},
}  # fmt: skip
CHANGED |= {f"perturbed_{k}": CHANGED.get(k, {}) for k in ("no_diffusion", "no_vae", "classifier_only")}
PUBLISHED_SIZE = {"width": 128, "heads": 8, "layers": 2, "latent": 128, "unet_width": 64, "dropout": 0.3,
                  "classifier_dropout": 0.4, "lr": 1e-3}  # fmt: skip
CHANGED |= {f"wide_{k}": PUBLISHED_SIZE | CHANGED.get(k, {}) for k in ("no_diffusion", "no_vae", "classifier_only")}
ON_LABELS = {"weights": None, "metric": "auroc_macro"}
CHANGED |= {
    f"labels_{k}": ON_LABELS | CHANGED.get(k, {}) | more
    for k, more in {
        "no_diffusion": {}, "full": {"denoiser": "mlp"}, "joint": {"denoiser": "mlp", "shared_noise": True},
        "no_graph": {}, "uniform": {}, "no_vae": {}, "no_augmentation": {}, "classifier_only": {},
    }.items()
}  # fmt: skip


def settings(s: RunSpec) -> dict[str, Any]:
    """Everything that decides a run of Affect-Diff, in full: its config and recipe, weights, augmentation."""
    return {
        **asdict(registry.config(s.model, s.preset, **s.overrides)), **s.recipe_overrides,
        "weights": s.options.get("weights"), "augment": s.augment and s.augment.protocol,
    }  # fmt: skip


def firsts(profile: str = "standard") -> dict[str, RunSpec]:
    return {s.arm: s for s in reversed(STUDY.specs(profile))}


def test_every_arm_differs_from_the_reference_in_what_it_should() -> None:
    specs = firsts()
    reference = settings(specs["no_diffusion"])
    mine = {k: s for k, s in specs.items() if s.model == "affect_diff" and s.preset == "clean" and k != "no_diffusion"}
    assert set(mine) == set(CHANGED)
    for name, s in mine.items():
        here = settings(s)
        changed = {k: v for k, v in here.items() if k not in reference or v != reference[k]}
        expected = dict(CHANGED[name])
        for setting in [k for k, v in expected.items() if v is IN_NAME]:
            del expected[setting]  # the reference may have the same number and not read it
            assert here[setting] == changed.pop(setting, here[setting]) == float(name.rpartition("_")[2]), name
        assert changed == expected, name


def test_no_two_arms_are_one() -> None:
    seen: dict[Any, str] = {}
    for s in STUDY.specs("standard", 1):
        config = asdict(registry.config(s.model, s.preset, **s.overrides)) if s.model != "imbalance" else s.overrides
        key = repr(
            (
                s.data.name,
                s.model,
                s.preset,
                config,
                s.recipe_overrides,
                s.augment,
                s.conditions,
                s.options.get("weights"),
            )
        )
        other = seen.setdefault(key, s.arm)
        assert {other, s.arm} in ({s.arm}, {"constant", "label_table"})


@pytest.mark.parametrize("model", evidence.BASELINES)
def test_baselines_lose_one_thing_at_a_time(model: str) -> None:
    equal, sp = (STUDY.arm(model), {k: STUDY.arm(f"{model}_{k}") for k in
                 ("weights", "focal", "no_augmentation", "ce", "published_loss")})  # fmt: skip
    assert (equal.overrides["gamma"], equal.overrides["weighting"]) == (2.0, "root_max")
    assert (equal.options["weights"], equal.augment is not None) == ("root", True)
    what = {
        k: (a.overrides["gamma"], a.overrides["weighting"], a.options["weights"], a.augment is not None)
        for k, a in sp.items()
    }
    assert what == {
        "weights": (0.0, "root_max", "root", True), "focal": (2.0, "none", None, True),
        "no_augmentation": (2.0, "root_max", "root", False), "ce": (0.0, "none", None, True),
        "published_loss": (0.0, "none", None, False),
    }  # fmt: skip
    assert {a.overrides["backbone"] for a in (equal, *sp.values())} == {f"lite_{model}"}
    assert {a.overrides["smoothing"] for a in (equal, *sp.values())} == {0.1}


def test_published_arms_keep_the_paper_s_protocol() -> None:
    arms = {k: STUDY.arm(f"published_{k}") for k in ("full", "no_diffusion", *evidence.BASELINES)}
    for name, a in arms.items():
        assert a.recipe_overrides["metric"] == "batch_averaged_macro_recall_64"
        assert (a.preset if a.model == "affect_diff" else a.overrides["backbone_preset"]) == "author"
        assert a.data == ("imbalance_headline",)
        if name in evidence.BASELINES:
            assert (a.overrides["gamma"], a.options["weights"], a.augment) == (0.0, None, None)
    assert (arms["full"].overrides["prior"], arms["no_diffusion"].overrides["prior"]) == ("stop", "off")


def test_names_in_evidence_are_arms() -> None:
    for name in (evidence.ORACLE, evidence.REFERENCE, evidence.SHAM, *evidence.BASELINES, *evidence.CELLS.values()):
        assert STUDY.arm(name).tier == 1
    for s in evidence.SETTINGS:
        assert {f"imbalance_{s}", f"oracle_{s}"} <= {d.name for d in STUDY.data}


def test_a_claim_on_a_name_that_is_no_arm_is_open(plain: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "REFERENCE", "no_difusion")
    claim: Claim = CLAIMS["C5"]
    assert ledger([claim], evidence, plain)[0].status == "open"  # type: ignore[arg-type]
