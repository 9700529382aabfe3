"""The gradient audit's picture and the boxes: every number, every missing path and every arrow is there."""

import pandas as pd
from matplotlib.patches import Rectangle

from affectcore.figures.audit import reach_plot
from affectcore.figures.diagram import flow_plot


def table(rows):
    return pd.DataFrame(rows, columns=["body", "head"], index=["task", "prior"], dtype=object)


def test_cells_say_norm_zero_or_no_path():
    fig = reach_plot({"a": table([[1.0, 0.25], [None, 0.0]]), "b": table([[2.0, 0.5], [0.001, None]])}, marked="prior")
    first, second = fig.axes
    assert [t.get_text() for t in first.texts] == ["1", "0.25", "none", "0"]
    assert [t.get_text() for t in second.texts] == ["2", "0.5", "0.001", "none"]
    cells = [p for p in first.patches if isinstance(p, Rectangle)]
    assert [bool(p.get_hatch()) for p in cells] == [False, False, True, False, False]  # the last is the frame
    assert (cells[-1].get_x(), cells[-1].get_y(), cells[-1].get_width()) == (-0.5, 0.5, 2)
    assert cells[0].get_facecolor() != cells[1].get_facecolor()
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["a", "b"]
    fig.canvas.draw()


def test_large_norms_fit_their_cells():
    (ax,) = reach_plot({"sums": table([[190.4, 14_032.0], [996.0, 0.0612]])}).axes
    assert [t.get_text() for t in ax.texts] == ["190", "14k", "1k", "0.061"]


def test_an_audit_without_any_path_is_drawn_too():
    fig = reach_plot({"nothing": table([[None, None], [None, None]])})
    assert {t.get_text() for t in fig.axes[0].texts} == {"none"}
    fig.canvas.draw()


def test_boxes_and_arrows():
    boxes = {"in": (0.2, 0), "out": (0.2, 1), "beside": (0.8, 1)}
    ax = flow_plot(boxes, [("in", "out"), ("in", "beside", "cut")], highlighted=["beside"])
    shown = [t.get_text() for t in ax.texts if t.get_text()]
    assert shown == ["in", "out", "beside", "stop"]
    arrows = [t.arrow_patch for t in ax.texts if getattr(t, "arrow_patch", None) is not None]
    assert [a.get_linestyle() for a in arrows] == ["-", "--"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # rows count from the top
    ax.figure.canvas.draw()
