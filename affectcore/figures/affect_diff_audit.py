"""Pictures of the audit of Affect-Diff [affectdiff]: two metrics, batch sizes, epochs, seeds.

A hollow diamond is a number of the paper or of its author's records, as everywhere.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from affectcore.errors import ConfigError
from affectcore.evaluation.statistics import t_interval
from affectcore.figures.effects import DIAMOND
from affectcore.figures.style import DASHES, GREY, MARKERS, PALETTE, WIDTH
from affectcore.studies.affect_diff import paper
from affectcore.studies.affect_diff.audit import expected_maximum


def agreement_plot(ours: pd.DataFrame, named: Mapping[str, str]) -> Figure:
    """Return one dot an arm: the paper's metric over the true one, blue where rare classes are never named.

    ours: index arm, columns true, paper, rare (share of predictions that name a rare class). named: arms to label, with
    their labels. Diamonds are the author's fourteen test results; on the line the metrics agree.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 4.6))
    for m in paper.MODELS:
        ax.plot([m.balanced], [m.batched], **{**DIAMOND, "ms": 6, "mew": 1.3})
    shades = LinearSegmentedColormap.from_list("rare", [PALETTE[0], PALETTE[3], PALETTE[1]])  # on white and on black
    marks = ax.scatter(ours["true"], ours["paper"], c=100 * ours["rare"], cmap=shades, s=30, lw=0.5, ec="white")
    marks.set_zorder(3)
    fig.colorbar(marks, ax=ax, location="top", shrink=0.75, aspect=32, label="predictions of a rare class, %")
    for arm in named:
        if arm not in ours.index:
            raise ConfigError(f"agreement_plot: there is no arm {arm!r}")
    for row, arm in enumerate(sorted(named, key=lambda a: -float(ours.loc[a, "paper"]))):  # in a column, with leaders
        at = ours.loc[arm, ["true", "paper"]].to_numpy(float)
        ax.annotate(
            named[arm], at, xytext=(0.42, 0.97 - 0.065 * row), textcoords="axes fraction", fontsize=9, ha="right",
            va="top", zorder=4, arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.8, "shrinkB": 3},
        )  # fmt: skip
    low, high = ax.get_xlim()
    ax.plot([low, high], [low, high], color=GREY, ls="--", lw=1.2, zorder=0)
    ax.set_xlim(low, high)
    ax.set(xlabel="true balanced accuracy, test", ylabel="batch-averaged macro recall")
    keys = [
        Line2D([], [], marker="o", color=PALETTE[0], ls="none", label="our arms"),
        Line2D([], [], label="author's records", **{**DIAMOND, "ms": 6}),
        Line2D([], [], color=GREY, ls="--", lw=1.2, label="equal"),
    ]
    ax.legend(handles=keys, loc="lower right", fontsize=9)
    return fig


def sizes_plot(table: pd.DataFrame, arms: Mapping[str, str]) -> Figure:
    """Return what the paper's metric adds to the true one, by batch size, one line an arm; bands are 95 % over seeds.

    table: as `audit.metric_by_size` returns it; size 0 stands for the whole split and is drawn last.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    sizes = sorted({int(s) for s in table["size"]}, key=lambda s: (s == 0, s))
    x = np.arange(len(sizes))
    for i, (arm, label) in enumerate(arms.items()):
        mine = table[table["arm"] == arm]
        lifts = [(mine[mine["size"] == s]["mean"] - mine[mine["size"] == s]["true"]).to_numpy() for s in sizes]
        _band(ax, x, np.array(lifts).T, i, label)
    ax.axhline(0, color="black", lw=1.1, zorder=0)
    ax.set_xticks(x, [str(s) if s else "all at once" for s in sizes])
    ax.set(xlabel="samples in a batch", ylabel="added to the true value")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2)
    return fig


def seed_curves_plot(curves: Mapping[str, Sequence[ArrayLike]], printed: Mapping[str, float | None]) -> Figure:
    """Return one panel an arm: the validation metric of every seed over epochs, circles at the selected epochs.

    curves: name of an arm -> one curve a seed. printed: name -> what the paper prints for it, a diamond at the right;
    the dotted line is a constant's score on the author's batches.
    """
    fig, axes = plt.subplots(len(curves), 1, figsize=(WIDTH, 0.5 + 2.1 * len(curves)), sharex=True, squeeze=False)
    for ax, (name, series) in zip(axes[:, 0], curves.items()):
        last = 0
        for i, given in enumerate(series):
            y = np.asarray(given, float)
            color, best = PALETTE[i % len(PALETTE)], int(np.nanargmax(y))
            ax.plot(np.arange(1, len(y) + 1), y, color=color, lw=1.0, alpha=0.75, ls="-")
            ax.plot([best + 1], [y[best]], "o", color=color, ms=6)
            last = max(last, len(y))
        if (value := printed.get(name)) is not None:
            ax.plot([last + 0.8], [value], **DIAMOND)
            ax.annotate("paper", (last + 0.8, value), xytext=(7, 0), textcoords="offset points",
                        va="center", fontsize=9, annotation_clip=False)  # fmt: skip
        ax.axhline(paper.constant_score(), color=GREY, ls=":", lw=1.2, zorder=0)
        ax.set_xlim(0.5, last + 0.12 * last + 1.6)
        ax.set_title(name, fontsize=11, loc="left")
        ax.set_ylabel("metric")
    axes[-1, 0].set_xlabel("epoch")
    axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def maximum_plot(series: Mapping[str, Sequence[ArrayLike]], most: int = 100) -> Figure:
    """Return how far the best of n epochs lies above their mean, when the epochs differ by chance alone.

    series: name -> for each seed the values of the epochs that are redrawn. Bands: 95 % over seeds. Diamonds: the
    author's runs, best epoch minus the mean of epochs 10 to 49, over the epochs that were trained.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 3.8))
    n = np.unique(np.geomspace(1, most, 24).round().astype(int))
    for i, (name, runs) in enumerate(series.items()):
        gains = [[expected_maximum(y, int(k)) - np.mean(np.asarray(y, float)) for k in n] for y in runs]
        _band(ax, n, np.array(gains), i, name, marker=False)
    for m in paper.MODELS:
        ax.plot([min(m.epoch + 36, 100)], [m.validation - m.mean], **{**DIAMOND, "ms": 5.5, "mew": 1.2})
    at = paper.BY_KEY["full"]
    ax.annotate(at.name, (at.epoch + 36, at.validation - at.mean), xytext=(-7, 0), textcoords="offset points",
                ha="right", va="center", fontsize=9)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    ax.set(xlabel="epochs to choose from", ylabel="best minus mean")
    handles, labels = ax.get_legend_handles_labels()
    handles.append(Line2D([], [], **{**DIAMOND, "ms": 6}))
    ax.legend(handles, [*labels, "author's runs"], loc="upper left", fontsize=9)
    return fig


def _band(ax: Axes, x: ArrayLike, values: ArrayLike, i: int, label: str, marker: bool = True) -> None:
    """A mean over seeds (rows) with its interval."""
    y = np.asarray(values, float)
    look = {"color": PALETTE[i % len(PALETTE)], "ls": DASHES[i % len(DASHES)]}
    ax.plot(x, y.mean(0), label=label, marker=MARKERS[i % len(MARKERS)] if marker else "", ms=5, **look)  # type: ignore[arg-type]
    if len(y) > 1:
        low, high = np.array([t_interval(column) for column in y.T]).T
        ax.fill_between(x, low, high, color=look["color"], alpha=0.18, lw=0)
