"""Shared figures: what is asked for is drawn, and colours differ for the colour-blind and on white."""

import matplotlib as mpl
import numpy as np
import pytest

from affectcore.errors import ConfigError
from affectcore.figures.style import PALETTE, interval_plot, robustness_curve


def luminance(colour):
    c = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_palette_stands_out_on_white_and_panels_are_white():
    assert all((1.05) / (luminance(c) + 0.05) > 2 for c in PALETTE)
    assert luminance(mpl.rcParams["figure.facecolor"]) == luminance(mpl.rcParams["axes.facecolor"]) == pytest.approx(1)
    assert len(set(PALETTE)) == len(PALETTE)


def test_interval_plot_draws_every_part():
    ax = interval_plot(
        ["a", "b"], [0.5, 0.6], [(0.4, 0.6), (0.5, 0.7)], seeds=[[0.4, 0.6], [0.5, 0.6, 0.7]], floor=0.2, ceiling=0.9,
        paper=[None, 0.8], xlabel="macro F1",
    )  # fmt: skip
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    drawn = [tuple(np.round(x.get_xdata(), 3)) for x in ax.lines]
    assert (0.4, 0.6) in drawn
    assert (0.5, 0.6, 0.7) in drawn
    hollow = [x for x in ax.lines if x.get_marker() == "D"]
    assert [tuple(x.get_xdata()) for x in hollow] == [(0.8,)]
    assert hollow[0].get_markerfacecolor() == "white"
    assert {t.get_text() for t in ax.texts} == {"floor", "ceiling"}
    np.testing.assert_allclose([s[:, 0] for s in ax.collections[0].get_segments()], [(0.4, 0.6), (0.5, 0.7)])
    ax.figure.canvas.draw()


def test_robustness_curve_draws_means_and_bands():
    y = np.array([[0.6, 0.4, 0.2], [0.8, 0.6, 0.4]])
    ax = robustness_curve([0, 0.5, 1], {"two": y, "one": y[:1]}, floor=0.1)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.7, 0.5, 0.3])
    assert len(ax.collections) == 1  # one seed has no band
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: interval_plot(["a"], [0.1, 0.2], [(0, 1)]),
        lambda: interval_plot(["a"], [0.1], [(0, 1)], seeds=[[1], [2]]),
        lambda: interval_plot(["a"], [0.1], [(0, 1)], paper=[]),
        lambda: robustness_curve([0, 1], {"a": [0.1, 0.2]}),
    ],
)
def test_rows_that_do_not_match_are_refused(draw):
    with pytest.raises(ConfigError, match=r"interval_plot|robustness_curve"):
        draw()
