"""Figures of the chapters on RoHyDR, and the lines that the shared ones draw."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from affectcore.errors import ConfigError
from affectcore.evaluation.statistics import compare, t_interval
from affectcore.figures.effects import LOOKS, Line, effect
from affectcore.figures.style import DASHES, GREY, MARKERS, PALETTE, WIDTH
from affectcore.studies.claims import Results
from affectcore.studies.readings import Reading, by_seed
from affectcore.studies.rohydr.answers import WORLDS
from affectcore.studies.rohydr.evidence import averaged


def lines(
    results: Results, pairs: Mapping[str, tuple[str, str]], read: Reading = averaged,
    margins: Mapping[str, float] | None = None,
) -> list[Line]:  # fmt: skip
    """Return a line for `effects_plot` per name: the first arm of a pair minus the second, in all three settings."""
    out = []
    for name, (arm, other) in pairs.items():
        found = {}
        for setting, data in WORLDS.items():
            a, b = (by_seed(results, x, data, read) for x in (arm, other))
            n = min(len(a), len(b))
            found[setting] = effect(compare(a[:n], b[:n]), a[:n] - b[:n])
        out.append(Line(name, found, (margins or {}).get(name)))
    return out


def draws_plot(drawn: Mapping[str, Mapping[str, ArrayLike]], xlabel: str = "right signs") -> Figure:
    """Return one panel a rate: a histogram of the accuracies of many mask draws of one model, by way of drawing.

    drawn: {way: {rate: accuracies}}; all ways must have the same rates. Raises ConfigError otherwise.
    """
    rates = list(next(iter(drawn.values()), {}))
    if not rates or any(list(v) != rates for v in drawn.values()):
        raise ConfigError("draws_plot: every way of drawing needs the same rates, at least one")
    fig, axes = plt.subplots(1, len(rates), figsize=(WIDTH, 2.6), sharey=True, squeeze=False)
    for ax, rate in zip(axes[0], rates):
        values = {w: np.asarray(v[rate], float) for w, v in drawn.items()}
        both = np.concatenate(list(values.values()))
        bins = np.linspace(both.min() - 1e-9, both.max() + 1e-9, 24)
        for (way, x), color, hatch in zip(values.items(), PALETTE, ("", "//", "..")):
            ax.hist(x, bins=bins, color=color, alpha=0.6, hatch=hatch, edgecolor="white", lw=0.4, label=way)
        ax.set_title(f"rate {rate}", fontsize=11)
        ax.locator_params(axis="x", nbins=3)
        ax.grid(visible=False)
    axes[0, 0].set_ylabel("draws")
    fig.supxlabel(xlabel, fontsize=11)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(drawn))
    return fig


def epochs_plot(
    curves: Mapping[str, ArrayLike], *, floor: float | None = None, ylabel: str = "", ax: Axes | None = None
) -> Axes:
    """Return axes with one line a model over epochs: mean over seeds (S, E) and its 95 % interval as a band."""
    ax = ax or plt.subplots(figsize=(WIDTH, 3.2))[1]
    for i, (name, given) in enumerate(curves.items()):
        y = np.atleast_2d(np.asarray(given, float))
        x = np.arange(1, y.shape[1] + 1)
        look: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "ls": DASHES[i % len(DASHES)]}
        ax.plot(x, y.mean(0), label=name, **look)
        if len(y) > 1:
            low, high = np.array([t_interval(c) for c in y.T]).T
            ax.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
    if floor is not None:
        ax.axhline(floor, color=GREY, ls=":", lw=1.4)
        ax.annotate("floor", (1, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=GREY,
                    fontsize=9)  # fmt: skip
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def trade_plot(
    points: Mapping[str, tuple[ArrayLike, ArrayLike]], *, xlabel: str, ylabel: str, log: bool = False,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Return axes with one mark a name: mean cost against mean score over seeds, with the score's 95 % interval."""
    ax = ax or plt.subplots(figsize=(WIDTH, 3.6))[1]
    for i, (name, (cost, score)) in enumerate(points.items()):
        x, y = float(np.asarray(cost, float).mean()), np.asarray(score, float)
        again = i // len(PALETTE)  # a colour's second mark has another marker
        look: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[(i + 3 * again) % len(MARKERS)]}
        if len(y) > 1:
            ax.vlines(x, *t_interval(y), color=look["color"], lw=1.8)
        ax.plot([x], [y.mean()], **look, ms=6.5, ls="none", label=name)
    if log:
        ax.set_xscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, columnspacing=0.9, handletextpad=0.3)
    return ax


def quality_plot(table: pd.DataFrame) -> Figure:
    """Return recovery quality against what is linearly shared, and accuracy gained against recovery quality.

    table: `answers.quality`: one mark a setting, modality and subset at hand.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.0))
    for setting, (color, marker) in LOOKS.items():
        rows = table[table["setting"] == setting]
        if len(rows):
            axes[0].plot(rows["linear"], rows["r2"], marker, color=color, ms=5, ls="none", label=setting)
            axes[1].plot(rows["r2"], rows["gain"], marker, color=color, ms=5, ls="none")
    low = float(min(table["linear"].min(), table["r2"].min()))
    axes[0].plot([low, 1], [low, 1], color=GREY, ls=":", lw=1.2)
    axes[1].axhline(0, color="black", lw=1)
    axes[1].locator_params(axis="x", nbins=3, steps=[1, 2, 4, 5, 10])
    axes[0].set(xlabel="R², ridge", ylabel="R², recovered stream")
    axes[1].set(xlabel="R², recovered stream", ylabel="ACC2 gained over zero-fill")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig
