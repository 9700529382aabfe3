"""The arena's arms are all models there are, its executor scores what it says, and a newcomer's model joins alone."""

from dataclasses import replace

import numpy as np
import pytest

from affectcore.errors import ConfigError, StoreError
from affectcore.models import registry
from affectcore.models.baselines.late_fusion import LateFusion
from affectcore.studies import results
from affectcore.studies.arena import own, score
from affectcore.studies.arena.study import CLEAN, DATA, LEFT_OUT, MISSING, MOSEI, RECOVERY, REDUCED, STUDY, WITHOUT
from affectcore.studies.claims import study_claims
from affectcore.studies.execute import modules
from affectcore.studies.runner import run_item, run_specs
from affectcore.studies.spec import Condition, Profile, RunSpec, Study
from affectcore.studies.store import Store

TINY = {"sizes": {"train": 24, "valid": 12, "test": 40}}


def spec(arm: str, data: str = "recovery", **changes: object) -> RunSpec:
    found = next(s for s in STUDY.specs("smoke") if (s.arm, s.data.name) == (arm, data))
    world = found.data.source == "world"
    made = replace(found, data=replace(found.data, options={**found.data.options, **TINY})) if world else found
    return replace(made, **changes)  # type: ignore[arg-type]


def test_every_registered_model_is_an_arm_or_left_out_with_a_reason() -> None:
    assert set(REDUCED) | set(LEFT_OUT) == set(registry.MODELS)
    assert not set(REDUCED) & set(LEFT_OUT)
    assert study_claims("arena") == []
    assert len(STUDY.specs("standard")) == len(REDUCED) * len(DATA) * 10


@pytest.mark.parametrize("arm", STUDY.arms, ids=lambda a: a.name)
def test_an_arm_has_legal_settings_and_its_models_sources(arm) -> None:
    assert arm.model == arm.name
    registry.config(arm.model, arm.preset, **{k: v for k, v in arm.overrides.items() if k != "backbone_settings"})
    assert registry.entry(arm.model).location.partition(":")[0] in modules(spec(arm.name))
    assert (arm.recipe is None) == (registry.entry(arm.model).kind == "estimator")


def test_the_constant_carries_the_ceiling_of_every_condition_that_hides() -> None:
    record, kept = run_item(spec("constant"))
    found = record.extra["ceiling"]
    assert set(found) == {"clean", *(c.name for c in (*WITHOUT, *MISSING))}
    assert found["clean"] == pytest.approx(record.bounds["ceiling"]["test"]["mae"])
    assert found["clean"] < found["missing 0.4"] < found["missing 0.8"] < record.metrics["test"]["clean"]["mae"]
    assert record.metrics["test"]["clean"] == record.metrics["test"]["noise 2"]
    assert record.history == ()
    assert set(kept.scores) == {("valid", "clean")}
    assert set(record.metrics["valid"]) == {"clean"}


@pytest.mark.parametrize("arm", ["mlp", "linear", "rohydr"])
def test_a_stressor_that_changes_nothing_scores_as_the_executor_does(arm) -> None:
    """RoHyDR draws in evaluation: the same draws."""
    record, _ = run_item(spec(arm, conditions=(CLEAN, Condition("rate 0", "missing/rmm", 0.0))))
    assert record.metrics["test"]["rate 0"] == record.metrics["test"]["clean"]


def test_classes_are_scored_by_balanced_accuracy_without_a_label_shift() -> None:
    record, _ = run_item(spec("mlp", "imbalance"))
    assert set(record.metrics["test"]["clean"]) == {"balanced_accuracy"}
    assert score.LABEL not in record.metrics["test"]
    assert record.extra["samples_per_s"] > 0
    assert record.parameters > 0


def test_label_shift_by_hand() -> None:
    target, prediction = np.array([-1.0, 1.0, 2.0, 0.0]), np.array([0.0, 1.5, 1.5, 0.0])
    # one negative with error 1, two positives with .5: shares turn from 1/4, 2/4 into 2/4, 1/4
    assert score.label_shifted_error(target, prediction) == pytest.approx(0.5 * 1 + 0.25 * 0.5)
    with pytest.raises(ConfigError):
        score.label_shifted_error(np.array([1.0, 2.0]), np.array([1.0, 2.0]))


def test_a_seed_is_scored_on_its_fold() -> None:
    assert [score._data(spec("mlp", "mosei", seed=s)).resplit["k"] for s in (0, 4, 5, 7)] == [0, 4, 0, 2]
    assert score._data(spec("mlp", "recovery", seed=7)) == spec("mlp").data
    assert MOSEI.resplit is not None


def test_a_condition_of_an_absent_modality_is_left_out() -> None:
    base = spec("linear")
    record, _ = run_item(replace(base, data=replace(base.data, only=("text", "audio"))))
    assert "no audio" in record.metrics["test"]
    assert "no vision" not in record.metrics["test"]


def test_what_the_arena_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="option 'look'"):
        run_item(spec("linear", options={"look": []}))
    labels = spec("linear")
    with pytest.raises(ConfigError, match="no metric for multi_label"):
        run_item(replace(labels, data=replace(labels.data, dataset="ambiguity", options=TINY)))


SMALL = Study(
    "arena", "?", tuple(a for a in STUDY.arms if a.name in ("constant", "linear", "mlp")),
    (replace(RECOVERY, options={**RECOVERY.options, **TINY}),),
    {"smoke": Profile({2: 2}, {"epochs": 1})}, (CLEAN, Condition("missing 0.4", "missing/rmm", 0.4)),
)  # fmt: skip


def test_a_newcomer_is_run_alone_and_ranked_among_the_rest(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setitem(registry.MODELS, "mine", replace(registry.entry("late_fusion"), name="mine"))
    with pytest.raises(StoreError, match="no other model's runs"):
        own.enter("mine", profile="smoke", store=store, study=SMALL)
    assert not run_specs(SMALL.specs("smoke"), store, progress=False).failed
    before = len(store.records())
    table, records = own.enter("mine", 1, profile="smoke", store=store, study=SMALL)
    assert len(store.records()) == before
    assert set(table["arm"]) == {"constant", "linear", "mlp", "mine"}
    assert {r.spec.seed for r in records} == {0}


def test_predictions_of_a_wrong_shape_enter_no_ranking(tmp_path, monkeypatch) -> None:
    class Wrong(LateFusion):
        def forward(self, batch, noise):
            out = super().forward(batch, noise)
            return replace(out, prediction=out.prediction[:, None])

    entry = registry.entry("late_fusion")
    monkeypatch.setitem(registry.MODELS, "mine", replace(entry, name="mine"))
    monkeypatch.setattr(type(entry), "build", lambda self, config, shape: Wrong(config, shape))
    store = Store(tmp_path)
    with pytest.raises(StoreError, match=r"mine.*Wrong on .* has shape \(2, 1\), regression needs \(2,\)"):
        own.enter("mine", 1, profile="smoke", store=store, study=SMALL)
    assert not store.records()


def test_without_the_real_sets_the_worlds_count(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(tmp_path))
    monkeypatch.setitem(registry.MODELS, "mine", replace(registry.entry("late_fusion"), name="mine"))
    assert [d.name for d in own.entrant("mine").data] == ["recovery", "imbalance"]


def test_results_are_small_and_export(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path / "results"))
    store = Store(tmp_path / "store")
    study = replace(SMALL, drawn=())
    assert not run_specs(study.specs("smoke", 1), store, progress=False).failed
    one = replace(study, profiles={"smoke": Profile({2: 1}, {"epochs": 1})})
    (file,) = results.export(one, "smoke", store)
    assert file.stat().st_size < 5_000
    assert results.best_profile(one) == "smoke"


def test_a_newcomer_needs_a_name_of_its_own() -> None:
    with pytest.raises(ConfigError, match="in it already"):
        own.entrant("mlp")
    with pytest.raises(ConfigError, match="unknown"):
        own.entrant("nobody")
