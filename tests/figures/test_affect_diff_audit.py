"""The audit's pictures: arms, orders, seeds and the author's records stand where their numbers say."""

import numpy as np
import pandas as pd
import pytest

from affectcore.errors import ConfigError
from affectcore.figures import affect_diff_audit as figures
from affectcore.studies.affect_diff import paper
from affectcore.studies.affect_diff.audit import expected_maximum


def points(ax, marker):
    found = [np.c_[x.get_xdata(), x.get_ydata()] for x in ax.lines if x.get_marker() == marker and len(x.get_xdata())]
    return [tuple(np.round(p, 3)) for part in found for p in part.astype(float)]


def test_two_metrics_of_our_arms_and_of_the_authors_models():
    ours = pd.DataFrame({"true": [0.2, 0.3], "paper": [0.25, 0.28], "rare": [0.0, 0.4]}, index=["a", "b"])
    ax = figures.agreement_plot(ours, {"b": "no VAE"}).axes[0]
    assert set(points(ax, "D")) == {(m.balanced, m.batched) for m in paper.MODELS}
    assert np.allclose(ax.collections[0].get_offsets(), [[0.2, 0.25], [0.3, 0.28]])
    assert np.allclose(ax.collections[0].get_array(), [0, 40])
    assert [t.get_text() for t in ax.texts] == ["no VAE"]
    with pytest.raises(ConfigError, match="no arm 'c'"):
        figures.agreement_plot(ours, {"c": "other"})


def test_the_whole_split_comes_last_and_adds_nothing():
    rows = [("a", seed, size, 0.2 + lift, 0.2) for seed in (0, 1) for size, lift in ((0, 0.0), (64, 0.05), (16, 0.1))]
    table = pd.DataFrame(rows, columns=["arm", "seed", "size", "mean", "true"])
    ax = figures.sizes_plot(table, {"a": "whole"}).axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["16", "64", "all at once"]
    assert points(ax, "o") == [(0, 0.1), (1, 0.05), (2, 0)]


def test_every_seed_has_its_curve_and_its_selected_epoch():
    fig = figures.seed_curves_plot({"full": [[0.1, 0.3, 0.2], [0.2, 0.1, 0.25]], "none": [[0.2]]}, {"full": 0.384})
    full, none = fig.axes
    assert points(full, "o") == [(2, 0.3), (3, 0.25)]
    assert [y for _, y in points(full, "D")] == [0.384]
    assert points(none, "o") == [(1, 0.2)]
    assert points(none, "D") == []


def test_the_best_of_n_epochs_and_the_authors_runs():
    ax = figures.maximum_plot({"full": [[0.1, 0.2, 0.3], [0.2, 0.2, 0.5]]}, most=10).axes[0]
    (line,) = [x for x in ax.lines if x.get_label() == "full"]
    assert line.get_ydata()[0] == pytest.approx(0)
    expected = np.mean([expected_maximum(y, 10) - np.mean(y) for y in ([0.1, 0.2, 0.3], [0.2, 0.2, 0.5])])
    assert line.get_ydata()[-1] == pytest.approx(expected)
    assert (64, 0.111) in points(ax, "D")
