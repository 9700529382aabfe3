"""The arena's tables and pictures on made-up scores whose ranks are known."""

import base64
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affectcore.errors import ConfigError, StoreError
from affectcore.figures import arena

CONDITIONS = ["clean", "no text", "missing 0.2", "missing 0.4", "missing 0.6", "missing 0.8", "noise 2"]
LEVEL = {"a": 0.1, "b": 0.2, "c": 0.3, "cider": 0.4}


def made(seeds: int = 3) -> pd.DataFrame:
    """Losses that grow with the condition; on "classes" as balanced accuracy."""
    rows = []
    for data, metric in (("recovery", "mae"), ("imbalance", "balanced_accuracy"), ("mosi", "mae")):
        for arm, level in LEVEL.items():
            for seed in range(seeds):
                for i, c in enumerate(CONDITIONS):
                    loss = level + 0.05 * i + 0.001 * seed
                    bounds = (np.nan, np.nan) if data == "mosi" else (0.9, 0.05)
                    turned = metric == "balanced_accuracy"
                    value, floor, ceiling = (1 - x if turned else x for x in (loss, *bounds))
                    rows.append((arm, data, seed, "test", c, metric, value, floor, ceiling))
    names = ["arm", "data", "seed", "split", "condition", "metric", "value", "floor", "ceiling"]
    return pd.DataFrame(rows, columns=names)


def records() -> list[Any]:
    """What is read of records: here the ceiling under missing text, .15 as a loss."""
    spec = lambda arm, data, seed: SimpleNamespace(arm=arm, seed=seed, data=SimpleNamespace(name=data))  # noqa: E731
    found = []
    for arm in LEVEL:
        for data in ("recovery", "imbalance"):
            for seed in range(3):
                metric = "mae" if data == "recovery" else "balanced_accuracy"
                ceiling = {"no text": 0.15 if data == "recovery" else 0.85} if arm == "a" else {}
                found.append(
                    SimpleNamespace(
                        spec=spec(arm, data, seed), metrics={"test": {"clean": {metric: 0.5}}}, parameters=10,
                        extra={"samples_per_s": 100.0 * (seed + 1), "ceiling": ceiling},
                    )
                )  # fmt: skip
    return found


def test_a_board_has_a_block_per_data_and_stressor() -> None:
    found = arena.board(made())
    assert found.blocks[:4] == (
        ("recovery", "clean"), ("recovery", "a modality lost"), ("recovery", "missing rates"), ("recovery", "noise"),
    )  # fmt: skip
    assert found.losses.shape == (3, 12, 4)
    # missing rates by the trapezoid over 0, .2 ... .8: losses level + 0, .1, .15, .2, .25
    height = 0.2 * (0.1 + 0.25 / 2 + 0.15 + 0.2) / 0.8
    assert found.losses[0, 2, 0] == pytest.approx(0.1 + height)
    assert found.losses[0, 6, 0] == pytest.approx(0.1 + height)  # as accuracy: the same loss
    ranking = found.rank()
    assert ranking.models == tuple(LEVEL)
    assert list(ranking.mean) == [1, 2, 3, 4]
    assert list(found.of("noise")) == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match="stressor 'wind'"):
        found.of("wind")


def test_a_missing_run_is_named() -> None:
    t = made()
    with pytest.raises(StoreError, match="b lacks seeds or conditions on mosi, noise"):
        arena.board(t[~((t["arm"] == "b") & (t["data"] == "mosi") & (t["condition"] == "noise 2") & (t["seed"] == 1))])
    with pytest.raises(StoreError, match="no scores"):
        arena.board(t[t["split"] == "valid"])


def test_the_distance_is_zero_at_the_ceiling_and_one_at_the_floor() -> None:
    found = arena.distance(made(), records())
    assert found.loc["a", ("recovery", "clean")] == pytest.approx((0.101 - 0.05) / 0.85)
    assert found.loc["a", ("recovery", "no text")] == pytest.approx((0.151 - 0.15) / 0.75)
    assert found.loc["a", ("imbalance", "no text")] == pytest.approx((0.151 - 0.15) / 0.75)
    assert found.loc["b", ("mosi", "clean")] == 0
    assert found.loc["b", ("mosi", "no text")] == pytest.approx(0.05 / 0.201)


def test_standings_are_in_order_with_costs_and_leave_as_csv() -> None:
    found = arena.board(made())
    table = arena.standings(found, found.rank(), arena.costs(records()))
    assert list(table.index) == list(LEVEL)
    assert list(table.loc["b", ["rank", "low", "high", "clean", "parameters", "samples_per_s"]]) == [
        2,
        2,
        2,
        2,
        10,
        200,
    ]
    link = arena.download(table, "arena.csv", "the table")
    content = base64.b64decode(re.search(r'base64,([^"]*)"', link).group(1)).decode()  # type: ignore[union-attr]
    assert content.splitlines()[0].startswith("model,rank,low,high,clean")
    assert len(content.splitlines()) == 5
    page = arena.sortable(table)
    assert page.startswith('<div class="sortable"><table')
    assert page.count("<tr") == 5
    assert "<th>model</th>" in page


def test_pictures_draw_every_model() -> None:
    found = arena.board(made())
    ranking = found.rank()
    ax = arena.ranking_plot(ranking)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(LEVEL)
    assert [line.get_xdata()[0] for line in ax.lines] == [1, 2, 3, 4]
    distance = arena.distance(made(), records())
    heat = arena.distance_plot(distance, list(LEVEL), "recovery")
    assert len(heat.texts) == len(LEVEL) * len(CONDITIONS)
    assert heat.texts[0].get_text() == "6"  # (.101 - .05) / .85 in hundredths
    with pytest.raises(ConfigError, match="no data 'moon'"):
        arena.distance_plot(distance, list(LEVEL), "moon")
    fig = arena.cost_plot(arena.costs(records()), found.of("missing rates"), "rank")
    assert {t.get_text() for t in fig.axes[0].texts} == {"a", "cider"}  # the best, and a paper's
    with pytest.raises(ConfigError, match="no model in common"):
        arena.cost_plot(arena.costs(records()), pd.Series({"x": 1.0}), "rank")
