"""The figures of RoHyDR's chapters draw what they are given."""

import numpy as np
import pandas as pd
import pytest

from affectcore.errors import ConfigError
from affectcore.figures import rohydr as figures
from affectcore.figures.effects import LOOKS


def test_draws_have_a_panel_a_rate_and_count_every_draw() -> None:
    rng = np.random.default_rng(0)
    fig = figures.draws_plot({w: {"0.3": rng.random(50), "0.7": rng.random(50)} for w in ("sample", "batch")})
    assert [ax.get_title() for ax in fig.axes] == ["rate 0.3", "rate 0.7"]
    assert sum(p.get_height() for p in fig.axes[0].patches) == 100
    with pytest.raises(ConfigError, match="same rates"):
        figures.draws_plot({"a": {"0.3": [1.0]}, "b": {"0.5": [1.0]}})


def test_epochs_are_means_over_seeds() -> None:
    ax = figures.epochs_plot({"one": [[0.0, 1.0], [1.0, 2.0]], "two": [3.0, 4.0]}, floor=0.5)
    one, two, _ = ax.lines
    assert list(one.get_ydata()) == [0.5, 1.5]
    assert list(two.get_xdata()) == [1, 2]


def test_trades_are_marks_at_mean_cost_and_score() -> None:
    ax = figures.trade_plot({"a": ([1.0, 3.0], [0.5, 0.7]), "b": ([9.0], [0.4])}, xlabel="s", ylabel="acc", log=True)
    marks = [(x.get_xdata()[0], x.get_ydata()[0]) for x in ax.lines]
    assert marks == [(2.0, pytest.approx(0.6)), (9.0, 0.4)]
    assert ax.get_xscale() == "log"


def test_quality_has_a_mark_a_row_in_both_panels() -> None:
    table = pd.DataFrame({"setting": ["easy", "easy", "hard"], "linear": [0.1, 0.2, 0.3], "r2": [0.0, 0.1, 0.2],
                          "gain": [0.01, 0.0, -0.01]})  # fmt: skip
    left, right = figures.quality_plot(table).axes
    assert sum(len(x.get_xdata()) for x in left.lines if x.get_marker() in {m for _, m in LOOKS.values()}) == 3
    assert sum(len(x.get_xdata()) for x in right.lines if x.get_marker() in {m for _, m in LOOKS.values()}) == 3
