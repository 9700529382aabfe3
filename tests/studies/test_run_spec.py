"""Specs: frozen content, one hash per content and code, studies that unfold into runs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from affectcore.errors import ConfigError
from affectcore.studies import sources
from affectcore.studies.spec import Arm, Condition, DataSpec, Profile, RunSpec, Study, Transform, canonical

DATA = DataSpec("d", "world", "imbalance", options={"sizes": {"train": 8, "valid": 4, "test": 4}})
SPEC = RunSpec(
    "toy", "a", "smoke", 3, DATA, "mlp", overrides={"width": 8, "rates": (0.1, 0.2)}, recipe="smoke",
    conditions=(Condition(), Condition("rmm", "missing/rmm", 0.5)), execute="stub_arms:execute",
)  # fmt: skip


def test_json_round_trip_keeps_the_hash():
    data = replace(DATA, transforms=(Transform("standardise"),), only=("text",), resplit={"k": 0})
    spec = replace(SPEC, data=data, augment=Condition("rmm", "missing/rmm", 0.3))
    again = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again.to_json() == spec.to_json()
    assert again.hash() == spec.hash()
    assert RunSpec.from_json(again.to_json()) == again


@pytest.mark.parametrize(
    "change",
    [{"seed": 4}, {"arm": "b"}, {"overrides": {"width": 9}}, {"recipe": None}, {"profile": "full"}, {"preset": "paper"},
     {"conditions": (Condition(),)}, {"data": replace(DATA, name="e")}, {"options": {"x": 1}}],
)  # fmt: skip
def test_any_change_changes_identity_and_hash(change):
    other = replace(SPEC, **change)
    assert other.identity() != SPEC.identity()
    assert other.hash() != SPEC.hash()


def test_the_order_of_keys_does_not_matter():
    other = replace(SPEC, overrides={"rates": [0.1, 0.2], "width": 8})
    assert other.identity() == SPEC.identity()
    assert canonical({"b": 1, "a": [0.1]}) == '{"a":[0.1],"b":1}'


def test_the_hash_is_the_same_in_another_process():
    code = (
        "import json, sys; from affectcore.studies.spec import RunSpec;"
        "print(RunSpec.from_json(json.load(sys.stdin)).hash())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(SPEC.to_json()), capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parent), "PATH": ""},
    )  # fmt: skip
    assert out.stdout.strip() == SPEC.hash()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, object(), b"x"])
def test_what_json_cannot_say_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=r"toy/a/d seed 3 \(smoke\)\.overrides"):
        replace(SPEC, overrides={"width": value})


def test_illegal_profile_and_conditions():
    with pytest.raises(ConfigError, match="profile 'tiny' is unknown: use smoke, standard, full"):
        replace(SPEC, profile="tiny")
    with pytest.raises(ConfigError, match="condition names must be distinct"):
        replace(SPEC, conditions=(Condition(), Condition()))
    with pytest.raises(ConfigError, match="written by another version"):
        RunSpec.from_json(SPEC.to_json() | {"colour": 1})


def study(**changes):
    parts = {
        "name": "toy", "question": "?", "data": (DATA, replace(DATA, name="e")),
        "arms": (Arm("a", "mlp", recipe="smoke", overrides={"width": 4}), Arm("b", "linear", tier=2, data=("e",))),
        "profiles": {
            "smoke": Profile({1: 2}),
            "full": Profile({1: 3, 2: 1}, {"epochs": 5}, {"mlp": {"width": 9, "depth": 2}},
                            {"e": {"settings": "hard"}}),
        },
    }  # fmt: skip
    return Study(**(parts | changes))


def test_a_study_unfolds_into_runs():
    smoke = study().specs("smoke")
    assert [(s.arm, s.data.name, s.seed) for s in smoke] == [("a", "d", 0), ("a", "d", 1), ("a", "e", 0), ("a", "e", 1)]
    full = study().specs("full")
    assert len(full) == 3 + 3 + 1
    assert full[0].overrides == {"width": 4, "depth": 2}  # the arm's setting wins over the profile's
    assert full[0].recipe_overrides == {"epochs": 5}
    assert full[-1].recipe_overrides == {}  # no recipe, nothing to change
    assert full[0].data.options == DATA.options
    assert full[-1].data.options == {**DATA.options, "settings": "hard"}
    assert [s.seed for s in study().specs("full", [5, 7]) if s.arm == "a" and s.data.name == "d"] == [5, 7]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"profiles": {"tiny": Profile({1: 2})}}, "profile 'tiny' is unknown"),
        ({"deciding": ("rmm",)}, "deciding 'rmm' is unknown: use clean"),
        ({"publish_targets": ("x",)}, "publish_targets 'x' is unknown: use d, e"),
        ({"arms": (Arm("a", "mlp"), Arm("a", "linear"))}, "arm names must be distinct"),
        ({"profiles": {"smoke": Profile({1: 2}, overrides={"tfn": {}})}}, "profile overrides 'tfn' is unknown"),
    ],
)
def test_a_study_names_what_it_does_not_know(changes, line):
    with pytest.raises(ConfigError, match=line):
        study(**changes)


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1], [-2]])
def test_seeds_that_are_none(seeds):
    with pytest.raises(ConfigError, match=r"seeds .* must be a number >= 1 or distinct seeds >= 0"):
        study().specs("smoke", seeds)


# --- sources -------------------------------------------------------------------------------------------------------


def test_sources_follow_imports_but_not_registries():
    mlp = replace(SPEC, execute="affectcore.studies.execute:train_and_score", overrides={})
    files = sources.closure(sources.modules(mlp))
    inside = "models.baselines.mlp data.worlds.imbalance training.loop data.schema evaluation.metrics studies.execute"
    outside = "models.baselines.linear models.registry data.worlds.ambiguity studies.store studies.runner studies.spec"
    assert {f"affectcore.{m}" for m in inside.split()} <= set(files)
    assert not {f"affectcore.{m}" for m in outside.split()} & set(files)


def test_editing_an_imported_file_changes_the_hash_and_another_file_does_not(tmp_path, monkeypatch):
    root = tmp_path / "affectcore_probe"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "arm.py").write_text("from affectcore_probe import part\ndef execute(specs, device): ...\n")
    (root / "part.py").write_text("from . import deep\n")
    (root / "deep.py").write_text("x = 1\n")
    (root / "other.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "PACKAGE", "affectcore_probe")
    sources.forget()
    spec = replace(SPEC, execute="affectcore_probe.arm:execute")
    first = sources.sources_hash(spec), spec.hash()

    def after(name, text):
        (root / name).write_text(text)
        sources.forget()
        return sources.sources_hash(spec), spec.hash()

    assert after("other.py", "x = 2\n") == first
    assert after("deep.py", "x = 1\r\n") == first  # line ends are not content
    second = after("deep.py", "x = 2\n")
    assert second[0] != first[0]
    assert second[1] != first[1]
    sources.forget()


def test_an_executor_that_is_not_there():
    for execute in ("stub_arms:nothing", "no_such_module:f", "stub_arms"):
        with pytest.raises(ConfigError, match="is no module:function"):
            replace(SPEC, execute=execute).hash()
