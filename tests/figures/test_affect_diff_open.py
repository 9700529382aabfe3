"""Figures of ablations and open questions: what is given is what is drawn."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from affectcore.errors import ConfigError
from affectcore.evaluation.statistics import t_interval
from affectcore.figures import affect_diff_open as figures
from affectcore.studies.affect_diff.answers import Share, about


def drawn(ax, marker):
    return [[*map(float, x.get_ydata())] for x in ax.lines if x.get_marker() == marker]


def spans(ax, axis=1):
    """Ends of the interval bars along an axis."""
    segments = [s for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    return [tuple(np.round(s[:, axis], 6)) for s in segments]


def test_a_sweep_draws_seeds_means_and_intervals():
    seeds = [[0.1, 0.3], [0.2, 0.6], []]
    fig = figures.sweep_plot(["0", "1", "2"], {"score": seeds, "other": seeds}, marked=1, lines={"score": 0.15})
    ax = fig.axes[0]
    np.testing.assert_allclose(drawn(ax, "o")[0], [0.2, 0.4, np.nan])
    assert drawn(ax, ".") == [[0.1, 0.3], [0.2, 0.6], []]
    assert spans(ax) == [tuple(np.round(t_interval(v), 6)) for v in seeds[:2]]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "2"]
    assert any(x.get_linestyle() == ":" for x in ax.lines)
    assert not any(x.get_linestyle() == ":" for x in fig.axes[1].lines)
    with pytest.raises(ConfigError, match="3 levels, but 2 of 'short'"):
        figures.sweep_plot(["0", "1", "2"], {"short": seeds[:2]})


def test_curves_share_a_legend_and_keep_their_values():
    one = [[0.5, 0.7], [0.2, 0.4]]
    fig = figures.curves_plot(["100", "300"], {"kept": {"own": one, "other": one}, "drift": {"own": one, "other": one}})
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["own", "other"]
    assert drawn(fig.axes[0], "o") == [[pytest.approx(0.6), pytest.approx(0.3)]]
    assert drawn(fig.axes[1], "s") == [[pytest.approx(0.6), pytest.approx(0.3)]]


def test_interactions_put_each_cell_in_its_place():
    cells = {(g, v, a): [0.1 * g + 0.01 * v + 0.001 * a] * 2 for g in (0, 1) for v in (0, 1) for a in (0, 1)}
    without, augmented = figures.interaction_plot(cells).axes
    assert without.get_title() == "without augmentation"
    assert drawn(without, "o") == [[pytest.approx(0.01), pytest.approx(0.11)]]  # variational
    assert drawn(augmented, "s") == [[pytest.approx(0.001), pytest.approx(0.101)]]


def test_a_learned_graph_reads_from_row_to_column_and_frames_the_truth():
    found = np.zeros((3, 3, 3))
    found[:, 0, 1] = [0.4, 0.5, 0.6]
    truth = np.zeros((3, 3))
    truth[0, 1] = 1
    left, right = figures.learned_graph_plot(found, truth).axes
    text = {(t.get_position()): t.get_text() for t in left.texts}
    assert text[1, 0].startswith(".50\n.25–.75")
    assert text[0, 1].startswith(".00")
    (frame,) = [p for p in left.patches if isinstance(p, mpl.patches.Rectangle)]
    assert frame.get_xy() == (pytest.approx(0.54), pytest.approx(-0.46))
    arrows = [p for p in right.patches if isinstance(p, mpl.patches.FancyArrowPatch)]
    assert len(arrows) == 7  # six learned, one true
    assert max(a.get_linewidth() for a in arrows) == arrows[0].get_linewidth()
    assert len(figures.learned_graph_plot(found).axes[1].patches) == 6


def test_structures_leave_out_what_has_no_direction():
    fig = figures.structures_plot(
        ["chain", "cycle"],
        {"a": [Share(3, 4), None], "b": [Share(0, 0), None]},
        {"a": [[1, 2], [3, 3]], "b": [[0, 0], []]},
    )
    left, right = fig.axes
    marks = [x for x in left.lines if x.get_marker() == "o" and len(x.get_xdata())]
    assert [float(x.get_xdata()[0]) for x in marks] == [0.75]
    assert spans(left, 0) == [tuple(np.round(Share(3, 4).interval, 6))]
    assert [[*x.get_xdata()] for x in right.lines if x.get_marker() == "o"] == [[1.5], [3.0]]
    assert len(spans(right, 0)) == 1  # one row has a spread


def test_perturbations_are_framed_where_the_interval_leaves_zero_out():
    cells = {("m", "no text"): about([-0.05, -0.06, -0.055]), ("m", "noise"): about([0.01, -0.02, 0.03])}
    ax = figures.perturbation_map(["m"], ["no text", "noise"], cells).axes[0]
    assert [t.get_text() for t in ax.texts] == ["−5.5", "+0.7"]
    (frame,) = [p for p in ax.patches if isinstance(p, mpl.patches.Rectangle) and not p.get_fill()]
    assert frame.get_x() == pytest.approx(-0.46)


def test_cells_are_written_where_they_belong():
    fig = figures.cells_plot({"a": [[0.9, -0.25]], "b": [[0.004, np.nan]]}, ["text"], ["all", "happy"])
    written = [[t.get_text() for t in ax.texts] for ax in fig.axes]
    assert written == [[".90", "−.25"], ["0", "not defined"]]
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    with pytest.raises(ConfigError, match="'a' has shape"):
        figures.cells_plot({"a": [[1.0]]}, ["text"], ["all", "happy"])


def test_shares_leave_out_what_a_log_axis_cannot_show():
    ax = figures.shares_plot(["a", "b"], {"one": [0.5, 0.0], "two": [0.1, 0.2]})
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.5, np.nan])
    assert ax.get_xscale() == "log"


def test_sorted_arms_name_their_ends_and_fill_what_is_sure():
    table = pd.DataFrame(
        {"difference": [0.3, -0.2, 0.1], "from": [0.2, -0.3, -0.1], "to": [0.4, -0.1, 0.3], "holm": [0.01, 0.2, 0.9]},
        index=["up_most", "down", "mid"],
    )
    ax = figures.sorted_plot(table)
    assert drawn(ax, "o") == [[-0.2, 0.1]]
    assert drawn(ax, "s") == [[0.3]]
    assert [t.get_text() for t in ax.texts] == ["from the left:\ndown", "from the right:\nup most"]


def test_a_leak_is_drawn_inside_and_outside():
    score = {"value": 0.9, "low": 0.8, "high": 0.95}
    leak = {
        "inside": {"x": score},
        "outside": {"x": score | {"value": 0.6}},
        "majority": {"inside": 0.5, "outside": 0.6},
    }
    ax = figures.leak_plot(leak, {"x": "text"})
    at = {x.get_marker(): float(x.get_xdata()[0]) for x in ax.lines if x.get_marker() in "os"}
    assert at == {"o": 0.9, "s": 0.6}
    assert len([x for x in ax.lines if x.get_linestyle() == ":"]) == 2
