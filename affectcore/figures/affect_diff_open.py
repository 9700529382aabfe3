"""Figures of Affect-Diff's ablations and open questions. Seeds are dots, means carry 95 % intervals (Student's t).

Every function takes numbers alone, no records: what they are and on which data the caption says.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import ArrayLike

from affectcore.errors import ConfigError
from affectcore.evaluation.statistics import PairedComparison, t_interval
from affectcore.figures.style import DASHES, GREY, MARKERS, PALETTE, WIDTH
from affectcore.studies.affect_diff import paper
from affectcore.studies.answers import Share, number

BLUE, ORANGE = PALETTE[:2]
AT = ((0.5, 0.86), (0.14, 0.16), (0.86, 0.16))  # of three nodes


# --- one setting varied ----------------------------------------------------------------------------------------------


def sweep_plot(
    levels: Sequence[str],
    panels: Mapping[str, Sequence[ArrayLike]],
    *,
    xlabel: str = "",
    marked: int | None = None,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Return one panel a reading over the levels of one setting, evenly spaced: seeds, their mean and its interval.

    panels[title][level]: values of the seeds. marked: the level of the reference, a grey band. lines[title]:
    a dotted line, such as a floor. Raises ConfigError if the number of levels differs.
    """
    for title, found in panels.items():
        if len(found) != len(levels):
            raise ConfigError(f"sweep_plot: {len(levels)} levels, but {len(found)} of {title!r}")
    wide = min(2, len(panels))
    deep = -(-len(panels) // wide)
    fig, axes = plt.subplots(deep, wide, figsize=(WIDTH, 0.5 + 2.1 * deep), sharex=True, squeeze=False)
    for ax, (title, found) in zip(axes.flat, panels.items()):
        means = []
        for x, given in enumerate(found):
            v = np.asarray(given, float)
            v = v[np.isfinite(v)]
            means.append(v.mean() if len(v) else np.nan)
            ax.plot(x + np.linspace(-0.16, 0.16, len(v)) * (len(v) > 1), v, ".", color=PALETTE[4], ms=4, ls="none")
            if len(v) > 1:
                ax.vlines(x, *t_interval(v), color=BLUE, lw=2.2)
        ax.plot(range(len(levels)), means, "o-", color=BLUE, ms=5, lw=1.2)
        if marked is not None:
            ax.axvspan(marked - 0.4, marked + 0.4, color=GREY, alpha=0.13, lw=0)
        if lines is not None and title in lines:
            ax.axhline(lines[title], color=GREY, ls=":", lw=1.3, zorder=0)
        ax.set_title(title, fontsize=10.5)
        ax.set_xticks(range(len(levels)), levels, fontsize=9)
        ax.locator_params(axis="y", nbins=4)
    for k in range(len(panels), deep * wide):
        axes.flat[k].axis("off")
        axes.flat[k - wide].tick_params(labelbottom=True)
    fig.supxlabel(xlabel, fontsize=11)
    return fig


def curves_plot(
    levels: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[ArrayLike]]],
    *,
    xlabel: str = "",
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Return panels with several curves each: panels[title][curve][level] are values of the seeds."""
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.1), squeeze=False)
    for ax, (title, curves) in zip(axes.flat, panels.items()):
        for i, (name, found) in enumerate(curves.items()):
            shift = 0.09 * (i - (len(curves) - 1) / 2)
            at = np.arange(len(levels)) + shift
            seeds = [np.asarray(v, float) for v in found]
            for x, v in zip(at, seeds):
                ax.plot(np.full(len(v), x), v, ".", color=PALETTE[i], ms=3, ls="none", alpha=0.45)
                if len(v) > 1:
                    ax.vlines(x, *t_interval(v), color=PALETTE[i], lw=2)
            means = [v.mean() for v in seeds]
            ax.plot(at, means, color=PALETTE[i], ls=DASHES[i], marker=MARKERS[i], ms=5, label=name, lw=1.3)
        if lines is not None and title in lines:
            ax.axhline(lines[title], color=GREY, ls=":", lw=1.3, zorder=0)
        ax.set_title(title, fontsize=10.5)
        ax.set_xticks(range(len(levels)), levels)
        ax.locator_params(axis="y", nbins=5)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)))
    fig.supxlabel(xlabel, fontsize=11)
    return fig


# --- the factorial ---------------------------------------------------------------------------------------------------


def interaction_plot(cells: Mapping[tuple[int, ...], ArrayLike], ylabel: str = "") -> Figure:
    """Return cell means of graph x latent, without and with augmentation; parallel lines are no interaction.

    cells[graph, latent, augmentation]: values of the seeds, 1 is on.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9), sharey=True)
    for ax, a in zip(axes, (0, 1)):
        for v, (color, ls, marker) in enumerate(zip((ORANGE, BLUE), ("--", "-"), ("s", "o"))):
            found = [np.asarray(cells[g, v, a], float) for g in (0, 1)]
            at = np.arange(2) + (0.05 if v else -0.05)
            for x, y in zip(at, found):
                ax.plot(np.full(len(y), x), y, ".", color=color, ms=3.5, ls="none", alpha=0.45)
                if len(y) > 1:
                    ax.vlines(x, *t_interval(y), color=color, lw=2)
            label = "variational" if v else "deterministic"
            ax.plot(at, [y.mean() for y in found], ls=ls, marker=marker, color=color, label=label, ms=5.5)
        ax.set_title("with augmentation" if a else "without augmentation", fontsize=10.5)
        ax.set_xticks([0, 1], ["no graph", "graph"])
        ax.set_xlim(-0.4, 1.4)
    axes[0].set_ylabel(ylabel)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    return fig


# --- graphs ----------------------------------------------------------------------------------------------------------


def learned_graph_plot(found: ArrayLike, truth: ArrayLike | None = None) -> Figure:
    """Return the learned graphs (S, 3, 3) as a heat map with intervals over seeds, and as nodes with arrows.

    Entry [i, j] is the edge from i (row) to j (column). truth (3, 3): true edges are framed, and dashed arrows.
    """
    a = np.abs(np.asarray(found, float))
    mean, apart = a.mean(0), 1 - np.eye(a.shape[-1])
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.9), width_ratios=(1.25, 1))
    top = max(0.01, float((mean * apart).max()))
    left.imshow(np.where(apart > 0, mean, np.nan), cmap="Blues", vmin=0, vmax=1.15 * top)
    for i, j in np.ndindex(mean.shape):
        if i == j:
            continue
        text = f"{mean[i, j]:.2f}"
        if len(a) > 1:
            low, high = t_interval(a[:, i, j])
            text += f"\n{max(low, 0):.2f}–{high:.2f}"
        left.text(j, i, text.replace("0.", "."), ha="center", va="center", fontsize=9,
                  color="white" if mean[i, j] > 0.8 * top else "black")  # fmt: skip
        if truth is not None and np.asarray(truth)[i, j] != 0:
            left.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, ec=ORANGE, lw=2, ls="--"))
    left.set_xticks(range(len(mean)), [f"to {m}" for m in paper.MODALITIES], fontsize=9)
    left.set_yticks(range(len(mean)), [f"from {m}" for m in paper.MODALITIES], fontsize=9)
    left.grid(visible=False)
    left.xaxis.tick_top()
    style: dict[str, Any] = {"arrowstyle": "-|>", "shrinkA": 19, "shrinkB": 19}
    for i, j in np.ndindex(mean.shape):
        if i != j:
            width = 0.4 + 4.5 * mean[i, j] / top
            right.add_patch(FancyArrowPatch(AT[i], AT[j], lw=width, color=BLUE, alpha=0.8,
                                            mutation_scale=8 + 1.5 * width, connectionstyle="arc3,rad=0.16",
                                            **style))  # fmt: skip
            if truth is not None and np.asarray(truth)[i, j] != 0:
                right.add_patch(FancyArrowPatch(AT[i], AT[j], lw=1.8, color=ORANGE, ls="--", mutation_scale=13,
                                                connectionstyle="arc3,rad=-0.05", zorder=3, **style))  # fmt: skip
    for name, (x, y) in zip(paper.MODALITIES, AT):
        right.text(x, y, name, ha="center", va="center", fontsize=10, bbox={"boxstyle": "round,pad=.3", "fc": "white"})
    right.set(xlim=(-0.05, 1.05), ylim=(-0.02, 1.04))
    right.axis("off")
    return fig


def structures_plot(
    structures: Sequence[str],
    shares: Mapping[str, Sequence[Share | None]],
    distances: Mapping[str, Sequence[ArrayLike]],
) -> Figure:
    """Return, by true structure: how often an edge is turned the right way, with Wilson's interval and chance dotted,
    and the structural Hamming distance of every seed. One colour a method."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.4 + 0.6 * len(structures)), sharey=True)
    for i, (name, found) in enumerate(shares.items()):
        shift = 0.19 * (i - (len(shares) - 1) / 2)
        look: dict[str, Any] = {"marker": MARKERS[i], "color": PALETTE[i], "ms": 6, "ls": "none"}
        for y, s in enumerate(found):
            if s is not None and s.n:
                axes[0].hlines(y + shift, *s.interval, color=PALETTE[i], lw=2)
                axes[0].plot([s.value], [y + shift], **look)
        for y, d in enumerate(distances[name]):
            x = np.asarray(d, float)
            if len(x) > 1 and x.std() > 0:
                low, high = t_interval(x)
                axes[1].hlines(y + shift, max(low, 0), high, color=PALETTE[i], lw=2)
            if len(x):
                axes[1].plot([x.mean()], [y + shift], **look)
        axes[0].plot([], [], label=name, **look)
    axes[0].axvline(0.5, color=GREY, ls=":", lw=1.3, zorder=0)
    axes[0].set(xlim=(-0.03, 1.03), xticks=[0, 0.5, 1])
    axes[0].set_title("true edge stronger\nthan its reverse, share", fontsize=10.5)
    axes[1].set_title("structural Hamming\ndistance", fontsize=10.5)
    axes[1].set_xlim(left=-0.1)
    axes[0].set_yticks(range(len(structures)), structures)
    axes[0].set_ylim(len(structures) - 0.5, -0.5)
    for ax in axes:
        ax.grid(visible=False, axis="y")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    return fig


# --- perturbations and labels ----------------------------------------------------------------------------------------


def perturbation_map(
    rows: Sequence[str], conditions: Sequence[str], changes: Mapping[tuple[str, str], PairedComparison],
    label: str = "change of macro F1, hundredths",
) -> Figure:  # fmt: skip
    """Return the mean change in hundredths, rows by conditions; framed where the 95 % interval leaves 0 out."""
    table = np.full((len(rows), len(conditions)), np.nan)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.9 + 0.33 * len(rows)))
    for (row, condition), c in changes.items():
        i, j = rows.index(row), conditions.index(condition)
        table[i, j] = 100 * c.estimate
        if c.interval95[0] > 0 or c.interval95[1] < 0:
            ax.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, ec="black", lw=1.3, zorder=3))
    size = max(1.0, float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0)
    image = ax.imshow(table, cmap="PuOr", vmin=-size, vmax=size, aspect="auto")
    for i, j in np.ndindex(table.shape):
        if np.isfinite(table[i, j]):
            ax.text(j, i, f"{table[i, j]:+.1f}".replace("-", "−").replace("+0.0", "0"), ha="center", va="center",
                    fontsize=8.5, color="white" if abs(table[i, j]) > 0.7 * size else "black")  # fmt: skip
    ax.grid(visible=False)
    ax.set_xticks(range(len(conditions)), conditions, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    fig.colorbar(image, ax=ax, location="top", shrink=0.7, aspect=30, label=label)
    return fig


def cells_plot(panels: Mapping[str, ArrayLike], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Return one matrix of numbers a panel, one above the other, shaded from 0 to 1; what is below 0 stays white."""
    fig, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, 0.7 + 1.5 * len(panels)), sharex=True, squeeze=False)
    for ax, (title, given) in zip(axes.flat, panels.items()):
        table = np.asarray(given, float)
        if table.shape != (len(rows), len(columns)):
            raise ConfigError(f"cells_plot: {title!r} has shape {table.shape}, not {(len(rows), len(columns))}")
        ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(table.shape):
            dark = table[i, j] > 0.65
            ax.text(
                j, i, number(float(table[i, j]), 2), ha="center", va="center", fontsize=9, color="w" if dark else "k"
            )
        ax.set_title(title, fontsize=10.5)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_xticks(range(len(columns)), columns)
        ax.grid(visible=False)
    return fig


def shares_plot(names: Sequence[str], shares: Mapping[str, ArrayLike], xlabel: str = "") -> Axes:
    """Return shares of the same names under several ways of counting, one marker each, on a log axis."""
    ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.38 * len(names)))[1]
    for i, (way, given) in enumerate(shares.items()):
        x = np.asarray(given, float)
        y = np.arange(len(names)) + 0.16 * (i - (len(shares) - 1) / 2)
        ax.plot(np.where(x > 0, x, np.nan), y, MARKERS[i], color=PALETTE[i], ms=6.5, ls="none", label=way)
    ax.set(xscale="log", xlabel=xlabel)
    ax.set_xticks([0.01, 0.03, 0.1, 0.3, 1], ["1 %", "3 %", "10 %", "30 %", "100 %"])
    ax.minorticks_off()
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.figure.legend(loc="outside upper center", ncols=2)
    return ax


# --- many arms, and a leak -------------------------------------------------------------------------------------------


def sorted_plot(table: pd.DataFrame, alpha: float = 0.05) -> Axes:
    """Return the differences of `answers.arms_table` in rising order, filled where Holm's p is at most alpha.

    The lowest and the highest four are named.
    """
    t = table.sort_values("difference", ignore_index=False)
    ax = plt.subplots(figsize=(WIDTH, 3.9))[1]
    sure = (t["holm"] <= alpha).to_numpy()
    x = np.arange(len(t))
    ax.vlines(x, t["from"], t["to"], color=np.where(sure, ORANGE, BLUE), lw=1.4)
    ax.plot(x[~sure], t["difference"].to_numpy()[~sure], "o", mfc="white", mec=BLUE, ms=4, ls="none")
    ax.plot(x[sure], t["difference"].to_numpy()[sure], "s", color=ORANGE, ms=4.5, ls="none")
    ax.axhline(0, color="black", lw=1)
    names = [str(n).replace("_", " ") for n in t.index]
    ends = min(4, len(t) // 2)
    for at, ha, text in (
        (0.28, "left", "\n".join(["from the left:", *names[:ends]])),
        (0.99, "right", "\n".join(["from the right:", *names[: -ends - 1 : -1]])),
    ):  # below the curve, in the corner that it leaves free
        ax.text(at, 0.02, text, transform=ax.transAxes, ha=ha, va="bottom", fontsize=9)
    ax.margins(x=0.02, y=0.1)
    ax.set(xticks=[], ylabel="difference from the reference", xlabel=f"{len(t)} arms")
    return ax


def leak_plot(leak: Mapping[str, Any], blocks: Mapping[str, str]) -> Axes:
    """Return the accuracies of `data.summary`'s section "leakage", inside and outside the videos that were seen."""
    ax = plt.subplots(figsize=(WIDTH, 3.1))[1]
    for k, (where, marker) in enumerate((("inside", "o"), ("outside", "s"))):
        for row, block in enumerate(blocks):
            s, y = leak[where][block], row + 0.24 * k - 0.12
            label = ("62 videos it saw", "31 others")[k] if row == 0 else None
            ax.hlines(y, s["low"], s["high"], color=PALETTE[k], lw=2.2)
            ax.plot([s["value"]], [y], marker, color=PALETTE[k], ms=6.5, ls="none", label=label)
        ax.axvline(leak["majority"][where], color=PALETTE[k], ls=":", lw=1.2, zorder=0)
    ax.set_yticks(range(len(blocks)), [textwrap.fill(b, 14) for b in blocks.values()])
    ax.set(ylim=(len(blocks) - 0.5, -0.5), xlabel="accuracy")
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return ax
