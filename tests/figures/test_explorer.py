"""The explorer's numbers are those of the records, its scenes stay apart, and its page holds what the script reads."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from scipy import stats

from affectcore.errors import ConfigError, StoreError
from affectcore.figures import explorer
from affectcore.figures.explorer import MAE, MISSING, SCENES, Scene
from affectcore.studies.claims import Results
from affectcore.studies.resampling import Draws, Resampled
from affectcore.studies.spec import Study

WORLD = Scene("s", "w", "world", "A <world>", "{train} items", (MAE,), {"a": "Model A", "b": "Model B"})
CORPUS = Scene("s", "c", "corpus", "A corpus", "{items} items of {groups}", (MAE,), {"a": "Model A"})
SETTINGS = [*MISSING.settings.items()]


def planted() -> Results:
    """A world with three seeds, stored out of order, and a corpus with draws."""
    rows = [
        {
            "arm": arm, "data": "w", "metric": "mae", "condition": c, "split": "test", "seed": seed,
            "value": 10 * (arm == "b") + k + seed / 10, "ceiling": 0.25,
        }
        for seed in (2, 0, 1)
        for arm in ("a", "b", "constant")
        for k, (_, c) in enumerate(SETTINGS)
    ]  # fmt: skip
    rows.append({**rows[0], "split": "valid", "value": 99.0})
    by_seed = np.array([1.0, 3.0])
    draws = {
        (arm, "c", c, "mae"): Draws("mae", by_seed + k, np.linspace(k, k + 4, 101), 1234, 56)
        for arm in ("a", "constant")
        for k, (_, c) in enumerate(SETTINGS)
    }
    spec = SimpleNamespace(data=SimpleNamespace(name="w", options={"sizes": {"train": 7000}}))
    made = SimpleNamespace(
        table=pd.DataFrame(rows), records=[SimpleNamespace(spec=spec)], resampled=Resampled(draws, "standard")
    )
    return cast(Results, made)


def test_a_world_is_judged_over_seeds_and_a_corpus_by_its_draws() -> None:
    world = explorer.scores(WORLD, planted())
    row = world[(world["model"] == "Model B") & (world["setting"] == "0.4")].iloc[0]
    assert row["by_seed"] == pytest.approx([12.0, 12.1, 12.2])
    assert row["mean"] == pytest.approx(12.1)
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 2, 12.1, 0.1 / np.sqrt(3)))
    assert (row["floor"], row["ceiling"], row["scope"]) == (pytest.approx(0.1), 0.25, "7,000 items")
    corpus = explorer.scores(CORPUS, planted())
    row = corpus[corpus["setting"] == "0.2"].iloc[0]
    assert (row["mean"], row["low"], row["high"], row["seeds"]) == pytest.approx((3.0, 1.1, 4.9, 2))
    assert (row["floor"], row["scope"]) == (2.0, "1,234 items of 56")
    assert np.isnan(row["ceiling"])


def test_a_corpus_without_predictions_is_judged_over_seeds_alone() -> None:
    made = planted()
    made.records[0].spec.data.options = {"lexical": {"iid": 1200, "ood": 34}}  # type: ignore[index]
    scene = replace(WORLD, kind="corpus", scope="{iid} and {ood}", seeds_alone=True)
    row = explorer.scores(scene, made).query("model == 'Model B' and setting == '0.4'").iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 2, 12.1, 0.1 / np.sqrt(3)))
    assert row["scope"] == "1,200 and 34"


def test_the_page_holds_every_number_and_escapes_words() -> None:
    found = {s.key: explorer.scores(s, planted()) for s in (WORLD, CORPUS)}
    page = BeautifulSoup(explorer.page(found, (WORLD, CORPUS)), "html.parser")
    script = page.select_one(".explorer > script[type='application/json']")
    assert script is not None
    data: dict[str, Any] = json.loads(str(script.string))
    first, second = data["scenes"]
    assert first["metrics"] == [
        {"key": "mae", "name": "mean absolute error", "higher": False, "floor": 0.1, "ceiling": 0.25}
    ]
    assert second["metrics"][0]["ceiling"] is None
    cells = first["values"]["mae/missing"]
    assert (len(cells), len(cells[0])) == (2, 5)
    assert cells[1][2][0] == 12.1
    assert cells[1][2][3] == [12.0, 12.1, 12.2]
    assert first["stressors"][0]["settings"] == ["0", "0.2", "0.4", "0.6", "0.8"]
    tables = page.select(".explorer-plain details")
    assert [t.summary.text for t in tables if t.summary] == [f"{s.title}: {MISSING.name}" for s in (WORLD, CORPUS)]
    assert "12.100 [11.852, 12.348]" in tables[0].text
    assert "3 seeds" in tables[0].text
    assert len(data["look"]["palette"]) == len(data["look"]["markers"]) == len(data["look"]["dashes"])


def test_a_score_that_is_not_defined_has_no_interval() -> None:
    made = planted()
    made.table.loc[made.table["arm"] == "b", "value"] = np.nan
    row = explorer.scores(WORLD, made).set_index(["model", "setting"]).loc[("Model B", "0")]
    assert row[["mean", "low", "high"]].isna().all()
    assert "not defined" in explorer.page({"s_w": explorer.scores(WORLD, made)}, (WORLD,))


def test_what_was_not_run_is_said() -> None:
    other = Scene("s", "w", "world", "t", "", (MAE,), {"z": "Z"})
    with pytest.raises(StoreError, match="z on w in 'clean' has no mae"):
        explorer.scores(other, planted())
    with pytest.raises(ConfigError, match="no scores of s_w"):
        explorer.page({}, (WORLD,))


def test_scenes_name_what_their_studies_run() -> None:
    """Every arm is run on the scene's data under every condition, and a narrowed study runs nothing else."""
    import importlib

    for scene in SCENES:
        study: Study = importlib.import_module(f"affectcore.studies.{scene.study}.study").STUDY
        asked = {c for s in scene.stressors for c in s.settings.values()}
        for arm in scene.arms:
            found = study.arm(arm)
            assert {c.name for c in found.conditions or study.conditions} >= asked, (scene.data, arm)
            labels = found.data or [d.name for d in study.data]
            assert any(explorer.pooled(d) == scene.data for d in labels), (scene.data, arm)
        narrow = explorer.narrowed(study)
        mine = [s for s in SCENES if s.study == scene.study]
        assert {a.name for a in narrow.arms} == {a for s in mine for a in (*s.arms, explorer.FLOOR)}
        assert {explorer.pooled(d) for a in narrow.arms for d in a.data or ()} == {s.data for s in mine}
    keys = [s.key for s in SCENES]
    assert len(keys) == len(set(keys))
