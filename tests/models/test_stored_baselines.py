"""Linear models and the network against the sanity baselines stored beside the real data, under their protocols."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from affectcore.data.readers import load
from affectcore.data.schema import AffectData
from affectcore.data.transform import gaussianise
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.training.loop import fit, predict
from affectcore.training.recipe import preset

TOLERANCE = 0.02
SETS: dict[str, tuple[str, dict[str, str], dict[str, tuple[str, ...]]]] = {
    "mosei": (
        "cmu_mosei_video", {"target": "sentiment_positive"},
        {"text": ("text",), "vision": ("vision",), "all (early)": ("text", "audio", "vision")},
    ),
    "mosi": (
        "cmu_mosi_utt", {"target": "sentiment_nonnegative"},
        {"text_glove": ("text",), "audio": ("audio",), "all (early)": ("text", "audio")},
    ),
}  # fmt: skip
PROTOCOL = {"mosei": "standard folds", "mosi": "standard 52/10/31"}


@pytest.fixture(scope="module")
def stored() -> list[dict[str, Any]]:
    root = os.environ.get("AFFECTCORE_DATA")
    if not root or not (Path(root) / "baselines.json").is_file():
        pytest.skip("real data not present")
    rows: list[dict[str, Any]] = json.loads((Path(root) / "baselines.json").read_text())
    return rows


def row(stored: list[dict[str, Any]], which: str, block: str, model: str) -> dict[str, Any]:
    name = SETS[which][0]
    block = {"vision": "video"}.get(block, block)
    fits = [
        r for r in stored
        if r["dataset"] == name and r["protocol"].startswith(PROTOCOL[which])
        and r["block"] == block and r["model"].startswith(model)
    ]  # fmt: skip
    assert len(fits) == 1
    return fits[0]


def data_of(which: str, block: str) -> AffectData:
    name, options, blocks = SETS[which]
    return gaussianise(load(name, **options).only(blocks[block]))


CASES = [(w, b) for w, (_, _, blocks) in SETS.items() for b in blocks]


@pytest.mark.parametrize(("which", "block"), CASES)
def test_linear(stored: list[dict[str, Any]], which: str, block: str) -> None:
    expected, data = row(stored, which, block, "LR"), data_of(which, block)
    model = registry.build("linear", Shape.of(data))
    test = data.split("test", model.fit(data, 0))
    score, y = model.predict(test)[:, 1], test.target.numpy()
    assert abs(accuracy_score(y, score > 0.5) - expected["acc"]) <= TOLERANCE
    assert abs(roc_auc_score(y, score) - expected["auc"]) <= TOLERANCE


@pytest.mark.parametrize(
    ("which", "block"), [("mosei", "all (early)"), ("mosi", "text_glove"), ("mosi", "all (early)")]
)
def test_network_is_not_worse(stored: list[dict[str, Any]], which: str, block: str) -> None:
    expected, data = row(stored, which, block, "MLP"), data_of(which, block)
    build = partial(registry.build, "mlp", Shape.of(data))
    fits = fit(build, data, preset("small"), range(5))
    test = data.split("test", fits[0].selection)
    scores, y = [predict(build, f, test)[:, 1] for f in fits], test.target.numpy()
    assert np.mean([accuracy_score(y, s > 0.5) for s in scores]) >= expected["acc"] - TOLERANCE
    assert np.mean([roc_auc_score(y, s) for s in scores]) >= expected["auc"] - TOLERANCE
