"""A study on another data set: Affect-Diff on generated CMU-MOSEI segments, by library and by command."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from affectcore.cli import app
from affectcore.data.readers.own import write_example
from affectcore.errors import ConfigError
from affectcore.studies.affect_diff.study import STUDY
from affectcore.studies.own_data import on_own_data
from affectcore.studies.runner import run_specs
from affectcore.studies.store import Store


@pytest.fixture(scope="module")
def mosei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as the CMU-MultimodalSDK has them: 40 videos of three segments, six words each; emotions of 0 to 3."""
    folder = tmp_path_factory.mktemp("mosei")
    r = np.random.default_rng(0)
    word, segment = np.arange(18) * 0.5, np.arange(3) * 3.0
    kinds = {"TimestampedWordVectors": (word, 0.5, 8), "COVAREP": (np.arange(90) / 10, 0.1, 5),
             "VisualFacet42": (np.arange(45) / 5, 0.2, 4)}  # fmt: skip
    for name, (start, length, dims) in kinds.items():
        with h5py.File(folder / f"CMU_MOSEI_{name}.csd", "w") as f:
            for v in range(40):
                g = f.create_group(f"{name}/data/v{v}")
                x = r.normal(size=(len(start), dims))
                x[0, 0] = np.nan if name == "COVAREP" and v == 0 else 0
                g["intervals"], g["features"] = np.stack([start, start + length], 1), x
    with h5py.File(folder / "CMU_MOSEI_Labels.csd", "w") as f:
        for v in range(40):
            g = f.create_group(f"labels/data/v{v}")
            y = np.zeros((3, 7))
            y[np.arange(3), 1 + r.choice(6, 3, p=(0.4, 0.2, 0.1, 0.1, 0.1, 0.1))] = r.integers(1, 4, 3) / 1.0
            g["intervals"], g["features"] = np.stack([segment, segment + 3], 1), y
    return folder


def test_the_same_arms_run_on_segments(mosei: Path, tmp_path: Path) -> None:
    study = on_own_data(STUDY, "mosei", mosei)
    assert {a.name for a in study.arms} == {a.name for a in STUDY.arms if "imbalance_headline" in a.data}
    arms = tuple(replace(a, conditions=()) for a in study.arms if a.name in ("no_diffusion", "tfn", "constant"))
    specs = replace(study, arms=arms, profiles={"smoke": study.profiles["smoke"]}).specs("smoke", 1)
    assert {s.data.name for s in specs} == {"mosei"}
    report = run_specs(specs, Store(tmp_path), progress=False)
    assert not report.failed, [f.error for f in report.failed]
    found = {r.spec.arm: r for r in Store(tmp_path).records()}
    assert set(found) == {"no_diffusion", "tfn", "constant"}
    for r in found.values():
        assert 0 <= r.metrics["test"]["clean"]["balanced_accuracy"] <= 1
    counts = np.array(found["tfn"].extra["confusion"]["test"]["clean"])
    assert counts.shape == (6, 6)
    assert found["no_diffusion"].data_hash == found["tfn"].data_hash


def test_a_set_in_the_own_format_says_itself_what_it_is(tmp_path: Path) -> None:
    place = write_example(tmp_path / "mine")
    study = on_own_data(STUDY, "mosei", place if place.is_dir() else place.parent)
    assert study.data[0].options == {}


def test_wrong_places_are_named(mosei: Path) -> None:
    with pytest.raises(ConfigError, match="no data 'iemocap' of your own; labels that it takes: mosei"):
        on_own_data(STUDY, "iemocap", mosei)
    with pytest.raises(ConfigError, match="nothing is there"):
        on_own_data(STUDY, "mosei", mosei / "absent")


def test_the_command_plans_and_refuses(mosei: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    said = runner.invoke(app, ["run", "affect_diff", "--data", "mosei", "--plan", "--store", str(tmp_path)])
    assert said.exit_code != 0
    assert "LABEL=PATH" in str(said.exception or said.output)
