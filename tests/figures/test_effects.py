"""The pictures that all papers share: every estimate, interval, seed, margin and verdict given is what is drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from affectcore.errors import ConfigError
from affectcore.evaluation.statistics import compare, t_interval
from affectcore.figures.effects import (
    LOOKS,
    Effect,
    Line,
    Panel,
    dots_plot,
    effect,
    effects_plot,
    settings_plot,
    verdict_counts,
    verdicts_plot,
)
from affectcore.studies.claims import Row


def drawn(ax, marker):
    """The x values drawn with a marker, from top to bottom."""
    found = [x for x in ax.lines if x.get_marker() == marker and len(x.get_xdata())]
    return [list(np.round(x.get_xdata(), 4)) for x in sorted(found, key=lambda x: x.get_ydata()[0])]


def spans(ax):
    """The horizontal intervals drawn, from top to bottom."""
    found = [s for c in ax.collections for s in c.get_segments()]
    return [tuple(np.round(s[:, 0], 4)) for s in sorted(found, key=lambda s: s[0, 1])]


GRAPH = Line(
    "learned graph",
    {"hard": Effect(0.01, (0.0, 0.02)), "easy": Effect(-0.01, (-0.03, 0.01), (-0.02, 0.0)), "mosi": Effect(0, (-1, 1))},
    margin=0.025,
    paper=0.05,
)
PRIOR = Line("prior", {"headline": Effect(0.002, (-0.004, 0.008))})


def test_an_effect_is_that_of_the_comparison():
    a, b = np.array([0.4, 0.5, 0.7]), np.array([0.3, 0.45, 0.5])
    e, c = effect(compare(a, b), a - b), compare(a, b)
    assert (e.estimate, e.interval) == (c.estimate, c.interval95)
    assert np.allclose(e.seeds, [0.1, 0.05, 0.2])


def test_effects_are_drawn_in_the_order_of_places_with_their_own_looks():
    ax = effects_plot([GRAPH, PRIOR], xlabel="effect")
    assert [drawn(ax, LOOKS[p][1]) for p in ("easy", "hard", "headline")] == [[[-0.01]], [[0.01]], [[0.002]]]
    assert spans(ax) == [(-0.03, 0.01), (0.0, 0.02), (-1, 1), (-0.004, 0.008)]
    assert drawn(ax, ".") == [[-0.02, 0.0]]
    assert drawn(ax, "D") == [[0.05]]
    (band,) = [p for p in ax.patches if isinstance(p, Rectangle)]
    assert (band.get_x(), band.get_width()) == (0, 0.025)
    top, bottom = band.get_y(), band.get_y() + band.get_height()
    ys = [x.get_ydata()[0] for x in ax.lines if x.get_marker() in ("^", "v", "P")]
    assert all(top < y < bottom for y in ys)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "easy", "headline", "hard", "mosi", "seeds", "up to the margin", "paper",
    ]  # fmt: skip
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # lines count from the top
    assert any(list(x.get_xdata()) == [0, 0] for x in ax.lines)
    ax.figure.canvas.draw()


def test_the_legend_names_only_what_is_drawn():
    ax = effects_plot([PRIOR])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["headline"]
    assert effects_plot([PRIOR], legend=False).get_legend() is None


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "no line"),
        ([Line("graph", {})], "'graph' has no effect"),
        ([Line("graph", {"easy": Effect(0.3, (0.0, 0.2))})], "'graph' in 'easy': estimate 0.3 lies outside"),
        ([Line("graph", {"easy": Effect(float("nan"), (0.0, 0.2))})], "lies outside"),
    ],
)
def test_effects_that_cannot_be_drawn_are_refused(lines, what):
    with pytest.raises(ConfigError, match=what):
        effects_plot(lines)


def test_settings_show_every_arm_with_interval_seeds_and_bounds():
    values = [0.3, 0.4, 0.5]
    panels = {
        "easy": Panel({"a": values, "b": [0.2]}, floor=0.1, ceiling=0.9, paper={"b": 0.6}),
        "corpus": Panel({"a": values}, floor=0.5, intervals={"a": (0.25, 0.75)}),
    }
    fig = settings_plot(panels, names={"b": "other", "a": "whole"}, xlabel="score")
    easy, corpus = fig.axes
    assert drawn(easy, "o") == [[0.2], [0.4]]  # b above a
    assert spans(easy) == [tuple(np.round(t_interval(np.array(values)), 4))]  # one seed has none
    assert spans(corpus) == [(0.25, 0.75)]
    assert sorted(x for row in drawn(easy, ".") for x in row) == [0.2, *values]
    assert drawn(easy, "D") == [[0.6]]
    assert [t.get_text() for t in easy.get_yticklabels()] == ["other", "whole"]
    lines = {x.get_linestyle(): x.get_xdata()[0] for x in easy.lines if x.get_marker() == "None"}
    assert lines == {":": 0.1, "--": 0.9}
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["mean, 95 %", "seeds", "floor", "ceiling", "paper"]
    fig.canvas.draw()


def test_four_settings_stand_in_two_rows():
    fig = settings_plot({str(i): Panel({"a": [0.1, 0.2]}) for i in range(3)})
    assert len({round(ax.get_position().y0, 3) for ax in fig.axes}) == 1
    fig = settings_plot({str(i): Panel({"a": [0.1, 0.2]}) for i in range(4)})
    fig.canvas.draw()
    assert len({round(ax.get_position().y0, 2) for ax in fig.axes}) == 2


@pytest.mark.parametrize(
    ("panels", "names", "what"),
    [
        ({}, None, "no panel"),
        ({"easy": Panel({"a": []})}, None, "values of 'a' in 'easy'"),
        ({"easy": Panel({"a": [1.0]})}, {"b": "other"}, "no panel has values of 'b'"),
        ({"easy": Panel({"a": [1.0]}, paper={"b": 0.1})}, None, "'easy' has a value or interval of 'b'"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(panels, names, what):
    with pytest.raises(ConfigError, match=what):
        settings_plot(panels, names=names)


ROWS = [
    Row("p", "C1", "refuted", "world: imbalance"), Row("p", "C1", "unresolved", "corpus: mosei"),
    Row("p", "C2", "refuted", "world: imbalance"), Row("p", "C3", "supported", "computation"),
    Row("p", "C4", "open", "world: imbalance"),
]  # fmt: skip


def test_findings_are_counted_by_scope_and_status():
    counts = verdict_counts(ROWS)
    assert list(counts.index) == ["world", "corpus", "computation"]
    assert list(counts.columns) == ["supported", "refuted", "unresolved", "open"]
    assert counts.to_numpy().tolist() == [[0, 2, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0]]


def test_bars_are_as_long_as_the_counts_and_say_them():
    ax = verdicts_plot(verdict_counts(ROWS))
    bars = [(p.get_x(), p.get_width(), round(p.get_y() + p.get_height() / 2)) for p in ax.patches]
    assert bars == [(0, 2, 0), (2, 1, 0), (0, 1, 1), (0, 1, 2)]
    assert [t.get_text() for t in ax.texts] == ["2", "1", "1", "1"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["supported", "refuted", "unresolved", "open"]
    ax.figure.canvas.draw()


def test_counts_that_cannot_be_drawn_are_refused():
    with pytest.raises(ConfigError, match="'proven' is unknown"):
        verdicts_plot(pd.DataFrame({"proven": [1]}, index=["world"]))
    with pytest.raises(ConfigError, match="no finding"):
        verdicts_plot(pd.DataFrame({"refuted": [0]}, index=["world"]))


def test_dots_stand_in_the_row_of_their_setting_with_one_mark_a_model():
    one = {"TFN": {"plain": [0.2, 0.4], "weights": [0.5]}, "MulT": {"weights": [0.7]}}
    other = {"MulT": {"weights": [0.1]}, "TFN": {"plain": [0.3]}}  # another order, the same looks
    first, second = dots_plot({"accuracy": one, "recall": other}, floors={"accuracy": 1 / 6}).axes
    assert [t.get_text() for t in first.get_yticklabels()] == ["plain", "weights"]
    assert drawn(first, "o") == [[0.3], [0.5]]
    assert drawn(first, "s") == [[0.7]]
    assert (drawn(second, "o"), drawn(second, "s")) == ([[0.3]], [[0.1]])
    assert [round(x.get_ydata()[0]) for x in first.lines if x.get_marker() == "s"] == [1]
    assert spans(first) == [tuple(np.round(t_interval(np.array([0.2, 0.4])), 4))]
    assert [x.get_xdata()[0] for x in first.lines if x.get_linestyle() == ":"] == [1 / 6]
    with pytest.raises(ConfigError, match="'recall' has other models"):
        dots_plot({"accuracy": one, "recall": {"TFN": {"plain": [0.1]}}})
    with pytest.raises(ConfigError, match="no value"):
        dots_plot({})
