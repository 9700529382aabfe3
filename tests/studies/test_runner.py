"""Running: real tiny arms on a world and on a read set, processes that die, devices, plans, stacked seeds."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from affectcore.data.missing import missing_rate
from affectcore.data.schema import Selection
from affectcore.errors import ConfigError
from affectcore.studies import runner
from affectcore.studies.execute import load
from affectcore.studies.runner import check_device, find_study, plan, run_item, run_specs, run_study
from affectcore.studies.spec import Arm, Condition, DataSpec, Profile, Study
from affectcore.studies.store import Store

SIZES = {"sizes": {"train": 60, "valid": 30, "test": 50}}
STUDY = Study(
    "toy", "does it run?",
    arms=(
        Arm("constant", "constant"),
        Arm("linear", "linear", overrides={"C": [0.01, 0.1]}),
        Arm("mlp", "mlp", recipe="smoke"),
    ),
    data=(DataSpec("world", "world", "imbalance", options=SIZES),),
    conditions=(
        Condition(),
        Condition("hidden", "missing/rmm", 0.5),
        Condition("noise", "corruption/gaussian", 1.0, {"scale": "train"}),
    ),
    profiles={"smoke": Profile({1: 2}, recipe={"epochs": 2}), "standard": Profile({1: 2}, recipe={"epochs": 2})},
)  # fmt: skip


def stub(**options):
    """A study of the stub executor with one arm and six seeds."""
    arm = Arm("arm", "none", execute="stub_arms:execute", options=options)
    return Study(
        "stub", "?", (arm,), (DataSpec("d", "world", "stub"),), {p: Profile({1: 6}) for p in ("smoke", "standard")}
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("swept"))
    return store, run_study(STUDY, "smoke", store=store, progress=False)


def test_a_sweep_on_a_world(swept):
    store, report = swept
    assert report.exit_code == 0
    assert [s.state for s in report.statuses] == ["ran"] * 6
    table = store.table()
    assert set(table["arm"]) == {"constant", "linear", "mlp"}
    assert set(table["condition"]) == {"clean", "hidden", "noise"}
    assert set(table["split"]) == {"valid", "test"}
    assert run_study(STUDY, "smoke", store=store, progress=False).statuses[0].state == "found"


def test_metrics_are_those_of_the_stored_predictions(swept):
    store, _ = swept
    for h in store.hashes():
        record, p = store.record(h), store.predictions(h)
        for (split, condition), scores in p.scores.items():
            got = record.metrics[split][condition]["balanced_accuracy"]
            seen = np.unique(p.target[split])
            by_hand = np.mean([(scores.argmax(1) == c)[p.target[split] == c].mean() for c in seen])
            assert got == pytest.approx(by_hand, abs=1e-9)
            assert np.isin(scores.argmax(1), np.arange(6)).all()
    assert balanced_accuracy_score([0, 0, 1], [0, 0, 0]) == 0.5  # what `by_hand` computes


def test_bounds_enclose(swept):
    table = swept[0].table().query("split == 'test' and metric == 'balanced_accuracy' and condition == 'clean'")
    seen = table.query("arm == 'constant'")
    np.testing.assert_allclose(seen["value"], seen["floor"])
    assert (table["ceiling"] > table["floor"] + 0.05).all()


def test_every_seed_draws_its_own_world_and_arms_share_it(swept):
    by_seed = {}
    for r in swept[0].records():
        by_seed.setdefault(r.spec.seed, set()).add(r.data_hash)
    assert [len(v) for v in by_seed.values()] == [1, 1]
    assert len(set.union(*by_seed.values())) == 2


def test_conditions_change_the_samples_and_only_them(swept):
    store, _ = swept
    mlp = next(r for r in store.records() if r.spec.arm == "mlp")
    p = store.predictions(mlp.hash)
    assert not np.array_equal(p.scores["test", "clean"], p.scores["test", "hidden"])
    assert not np.array_equal(p.scores["test", "clean"], p.scores["test", "noise"])
    constant = next(r for r in store.records() if r.spec.arm == "constant")
    q = store.predictions(constant.hash)
    np.testing.assert_array_equal(q.scores["test", "clean"], q.scores["test", "hidden"])
    assert missing_rate(load(STUDY.data[0], 0).split("test", Selection("fixed"))) < 0.5


def test_a_record_says_what_was_run(swept):
    r = next(r for r in swept[0].records() if r.spec.arm == "mlp")
    assert r.rule == "valid_best"
    assert len(r.history) == 2
    assert r.history[0]["losses"]["task"] > 0
    assert r.parameters > 0
    assert r.extra["recipe"]["epochs"] == 2
    assert r.wall_s > r.fit_s > 0
    assert r.device.startswith("cpu (")
    assert set(r.versions) == {"python", *runner.PACKAGES}


def test_an_item_is_the_same_again_and_in_another_process(swept, tmp_path):
    store, _ = swept
    other = Store(tmp_path / "other")
    specs = [s for s in STUDY.specs("smoke", 1) if s.arm == "mlp"]
    assert run_specs(specs, other, jobs=2, progress=False).exit_code == 0
    for s in specs:
        assert other.record(s.hash()).metrics == store.record(s.hash()).metrics
        a, b = (x.predictions(s.hash()).scores["test", "hidden"] for x in (store, other))
        np.testing.assert_array_equal(a, b)


def test_seeds_stacked_on_a_read_set_equal_single_runs(tmp_path, store):
    from affectcore.data.readers.own import write_example

    folder = write_example(tmp_path / "own")
    data = DataSpec("own", "reader", str(folder or tmp_path / "own"), transforms=())
    study = replace(STUDY, arms=STUDY.arms[2:], data=(data,), conditions=(Condition(),))
    specs = study.specs("smoke", 3)
    together = run_specs(specs, store, stacked=True, progress=False)
    assert together.exit_code == 0, str(together)
    for s in specs:
        _, alone = run_item(s)
        for key, scores in store.predictions(s.hash()).scores.items():
            np.testing.assert_allclose(scores, alone.scores[key], atol=2e-3)
    assert len(runner._groups(specs, True, "cpu", 1)) == 1
    assert len(runner._groups(STUDY.specs("smoke"), True, "cpu", 1)) == 6  # every seed draws its own world


def test_a_stack_is_formed_where_the_measured_table_says_so_and_never_on_a_cpu(monkeypatch):
    data = DataSpec("own", "reader", "folder", transforms=())
    specs = replace(STUDY, arms=STUDY.arms[2:], data=(data,)).specs("smoke", 3)

    def groups(device, says):
        runner._wins.cache_clear()
        monkeypatch.setattr("affectcore.training.seeds.choose", lambda model, on, jobs: says)
        return len(runner._groups(specs, None, device, 2))

    assert groups("cuda", "stacked") == 1
    assert groups("cuda", "processes") == 3
    assert groups("cpu", "stacked") == 3
    runner._wins.cache_clear()


# --- names that are not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"arms": (Arm("x", "transformer9"),)}, "model 'transformer9' is unknown"),
        ({"arms": (Arm("x", "mlp", preset="best", recipe="smoke"),)}, "preset 'best' is unknown"),
        ({"arms": (Arm("x", "mlp", overrides={"colour": 1}, recipe="smoke"),)}, "setting 'colour' is unknown"),
        ({"arms": (Arm("x", "mlp", recipe="slow"),)}, "recipe 'slow' is unknown"),
        ({"arms": (Arm("x", "mlp"),)}, "model mlp is of kind gradient, its recipe is None"),
        ({"arms": (Arm("x", "linear", recipe="smoke"),)}, "model linear is of kind estimator, its recipe is 'smoke'"),
        ({"data": (DataSpec("d", "world", "utopia"),)}, "world 'utopia' is unknown"),
        ({"data": (DataSpec("d", "world", "imbalance", options={"size": 3}),)}, "option 'size' is unknown"),
        ({"data": (DataSpec("d", "world", "imbalance", options={"change": {"x": 3}}),)}, "setting 'x' is unknown"),
        ({"data": (DataSpec("d", "reader", "no_such_set"),)}, "'no_such_set'"),
        ({"conditions": (Condition("c", "missing/all", 0.5),)}, "protocol 'all' is unknown"),
        ({"conditions": (Condition("c", "fog/all", 0.5),)}, "must be missing/NAME or corruption/NAME"),
        ({"metrics": ("speed",)}, "metric 'speed' is unknown for single_label"),
    ],
)
def test_unknown_names_fail_in_one_line_and_the_rest_goes_on(store, changes, line):
    study = replace(STUDY, **({"arms": STUDY.arms[:1]} | changes))
    specs = (*study.specs("smoke", 1), *stub().specs("smoke", 1))
    report = run_specs(specs, store, progress=False)
    assert [s.state for s in report.statuses] == ["failed", "ran"]
    assert line in report.failed[0].error
    assert "\n" not in report.failed[0].error
    assert report.exit_code == 1
    assert line in str(report)


def test_unknown_studies_and_devices():
    with pytest.raises(ConfigError, match="study 'nothing' is unknown: there are"):
        find_study("nothing")
    with pytest.raises(ConfigError, match="device 'tpu' is unknown: use cpu, cuda or cuda:N"):
        check_device("tpu")
    with pytest.raises(ConfigError, match=r"device 'cuda:99': this machine has no such GPU"):
        check_device("cuda:99")
    check_device("cpu")


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_failures_cost_their_own_run_only(store, jobs):
    report = run_study(stub(fail=2, bug=4), "smoke", store=store, jobs=jobs, progress=False)
    assert [s.state for s in report.statuses] == ["ran", "ran", "failed", "ran", "failed", "ran"]
    assert report.statuses[2].error == "seed 2: the loss is not finite"
    assert report.statuses[4].error.startswith("ZeroDivisionError: a bug (stub_arms.py:")
    assert len(store.hashes()) == 4
    lines = str(report).splitlines()
    assert len(lines) == 3
    assert lines[-1] == "4 runs finished, 0 were there, 2 failed"


def test_a_worker_that_is_killed_costs_its_own_run_only(store):
    report = run_study(stub(die=3), "smoke", store=store, jobs=2, progress=False)
    assert {s.spec.seed for s in report.failed} == {3}
    assert "killed" in report.failed[0].error
    assert len(store.hashes()) == 5


def test_progress_is_one_bar_on_standard_error(store, capfd):
    run_study(stub(fail=2), "smoke", store=store)
    out, err = capfd.readouterr()
    assert out == ""
    assert "stub/arm/d seed 2 (smoke): seed 2: the loss is not finite" in err


# --- plans ---------------------------------------------------------------------------------------------------------


def test_a_plan_measures_what_it_has_not_seen_and_then_remembers(store):
    first = plan(STUDY, "standard", store=store)
    assert {r.source for r in first.rows} == {"calibration"}
    assert [r.finished for r in first.rows] == [1, 1, 0]  # closed-form arms are run whole and kept
    assert 0 < first.seconds < 60
    run_study(STUDY, "standard", store=store, progress=False)
    second = plan(STUDY, "standard", store=store)
    assert {r.source for r in second.rows} == {"records"}
    assert second.seconds == 0
    assert "toy (standard): 0 core-seconds left" in str(second)


def test_what_is_above_the_budget_is_refused_unless_forced(store, monkeypatch):
    monkeypatch.setattr(runner, "BUDGET", 1e-9)
    with pytest.raises(ConfigError, match=r"stub \(standard\): .* core-seconds are left, above .* --force"):
        run_study(stub(), "standard", store=store, progress=False)
    assert run_study(stub(), "standard", store=store, progress=False, force=True).exit_code == 0


def test_an_arm_that_cannot_run_does_not_stop_the_plan(store):
    study = replace(STUDY, arms=(*STUDY.arms[:1], Arm("x", "transformer9")))
    rows = plan(study, "standard", store=store).rows
    assert rows[1].source.startswith("cannot run: model 'transformer9' is unknown")
