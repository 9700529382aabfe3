"""Effects, arms and verdicts: the pictures that every paper's chapters share. They draw numbers, and read no records.

    use_style()
    effects_plot([Line("graph", {"easy": effect(compare(a, b), a - b), "headline": ...}, margin=.025, paper=.05)])
    settings_plot({"easy": Panel({"full": a, "no graph": b}, floor=1 / 6, ceiling=.52), "headline": ...})
    verdicts_plot(verdict_counts(ledger))

In all: a filled mark with a bar is an estimate with its 95 % interval, faint dots are seeds, a hollow diamond is the
paper's value.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from affectcore.errors import ConfigError
from affectcore.evaluation.inputs import Floats
from affectcore.evaluation.statistics import Interval, PairedComparison, t_interval
from affectcore.evaluation.verdict import Status
from affectcore.figures.style import GREY, MARKERS, PALETTE, WIDTH
from affectcore.studies.claims import Row

# Colour and marker of a setting or corpus, the same in every figure; places by other names take the spare looks.
LOOKS = {"easy": (PALETTE[2], "^"), "headline": (PALETTE[0], "o"), "hard": (PALETTE[3], "v"), "corpus": ("black", "s")}
SPARE = ((PALETTE[5], "P"), (PALETTE[4], "X"), (GREY, "D"))
BAND = "#E4E4E4"
DIAMOND: dict[str, Any] = {"marker": "D", "mfc": "white", "mec": PALETTE[1], "mew": 1.6, "ms": 7, "ls": "none"}


# --- paired effects ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """A paired difference, positive where the claim holds: estimate, 95 % interval and the differences by seed."""

    estimate: float
    interval: Interval
    seeds: tuple[float, ...] = ()


def effect(comparison: PairedComparison, seeds: ArrayLike = ()) -> Effect:
    """Return the effect of a comparison. seeds: its differences by seed, if they are to be drawn."""
    return Effect(comparison.estimate, comparison.interval95, tuple(np.asarray(seeds, float)))


@dataclass(frozen=True)
class Line:
    """A line of `effects_plot`: effects by place (a world's setting or "corpus"), and what belongs to all of them.

    margin: the least effect that counts; paper: the effect that the paper reports.
    """

    name: str
    effects: Mapping[str, Effect]
    margin: float | None = None
    paper: float | None = None


def effects_plot(
    lines: Sequence[Line], *, xlabel: str = "effect", legend: bool = True, wrap: int = 17, ax: Axes | None = None
) -> Axes:
    """Return axes with one line per mechanism or claim, a mark per place one below the other, and zero as a line.

    The grey band reaches from zero to the line's margin. wrap: letters of a name before it is broken.
    Raises ConfigError for no line, a line without effects, or an interval without its estimate.
    """
    if not lines:
        raise ConfigError("effects_plot: no line is given")
    for x in lines:
        if not x.effects:
            raise ConfigError(f"effects_plot: line {x.name!r} has no effect")
        for place, e in x.effects.items():
            if not e.interval[0] <= e.estimate <= e.interval[1]:
                raise ConfigError(
                    f"effects_plot: {x.name!r} in {place!r}: estimate {e.estimate:g} lies outside its interval "
                    f"{e.interval[0]:g} to {e.interval[1]:g}"
                )
    looks = _looks([place for x in lines for place in x.effects])
    if ax is None:
        tall = sum(max(0.42, 0.17 + 0.145 * len(x.effects)) for x in lines)
        ax = plt.subplots(figsize=(WIDTH, 1.0 + tall + 0.25 * legend))[1]
    tops = np.cumsum([0.0, *(max(0.42, 0.17 + 0.145 * len(x.effects)) for x in lines)])
    middles = (tops[:-1] + tops[1:]) / 2
    for x, top, bottom, middle in zip(lines, tops, tops[1:], middles):
        if x.margin is not None:
            left, width = min(0.0, x.margin), abs(x.margin)
            ax.add_patch(Rectangle((left, top + 0.03), width, bottom - top - 0.06, fc=BAND, lw=0, zorder=0))
        places = [p for p in looks if p in x.effects]
        for place, y in zip(places, middle + 0.145 * (np.arange(len(places)) - (len(places) - 1) / 2)):
            _mark(ax, y, x.effects[place], *looks[place])
        if x.paper is not None:
            ax.plot([x.paper], [middle], **DIAMOND, zorder=5)
    for y in tops[1:-1]:
        ax.axhline(y, color="#EFEFEF", lw=0.8, zorder=0)
    ax.axvline(0, color="black", lw=1.1, zorder=1)
    ax.set_yticks(middles, [textwrap.fill(x.name, wrap) if "\n" not in x.name else x.name for x in lines])
    ax.set_ylim(tops[-1], 0)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=6)
    ax.set_xlabel(xlabel)
    if legend:
        keys = effects_keys(lines)
        ax.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=min(3, len(keys)),
                  columnspacing=1.0, handletextpad=0.5)  # fmt: skip
    return ax


def effects_keys(lines: Sequence[Line]) -> list[Line2D | Patch]:
    """Return what a legend says of these lines: for a figure whose panels share one."""
    looks = _looks([place for x in lines for place in x.effects])
    keys: list[Line2D | Patch] = [
        Line2D([], [], color=color, marker=marker, ms=6, lw=2, label=place) for place, (color, marker) in looks.items()
    ]
    if any(e.seeds for x in lines for e in x.effects.values()):
        keys.append(Line2D([], [], color=GREY, marker=".", alpha=0.5, ls="none", label="seeds"))
    if any(x.margin is not None for x in lines):
        keys.append(Patch(color=BAND, label="up to the margin"))
    if any(x.paper is not None for x in lines):
        keys.append(Line2D([], [], label="paper", **DIAMOND))
    return keys


def _looks(places: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of every place, those with looks of their own first and in their order."""
    seen = list(dict.fromkeys(places))
    spare = cycle(SPARE)
    return {p: LOOKS[p] for p in LOOKS if p in seen} | {p: next(spare) for p in seen if p not in LOOKS}


def _mark(ax: Axes, y: float, e: Effect, color: str, marker: str) -> None:
    spread = np.linspace(-0.05, 0.05, len(e.seeds)) if len(e.seeds) > 1 else np.zeros(len(e.seeds))
    ax.plot(e.seeds, y + spread, ".", color=color, ms=5, alpha=0.5, zorder=2, ls="none", mec="none")
    ax.hlines(y, *e.interval, color=color, lw=2, zorder=3)
    ax.plot([e.estimate], [y], marker, color=color, ms=5.5, zorder=4, ls="none")


# --- arms in several settings -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One setting or corpus: per arm the values of its seeds, best constant and oracle, the paper's values.

    intervals: 95 %, for arms whose interval is not Student's t over their seeds (bootstrap draws, say).
    """

    values: Mapping[str, ArrayLike]
    floor: float | None = None
    ceiling: float | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)


def settings_plot(
    panels: Mapping[str, Panel],
    *,
    names: Mapping[str, str] | None = None,
    xlabel: str = "",
    columns: int | None = None,
    wrap: int = 17,
) -> Figure:
    """Return a figure with one small panel a setting and one row an arm: mean, interval, seeds, floor and ceiling.

    names: what to call the arms, and their order; by default as they come. An arm that a panel lacks has an empty row
    there. columns: panels side by side, by default all of up to three and two of more.
    Raises ConfigError for no panel, no arm, an arm without seeds, or a name, interval or paper's value of no arm.
    """
    seen = list(dict.fromkeys(arm for p in panels.values() for arm in p.values))
    if not seen:
        raise ConfigError("settings_plot: no panel with an arm is given")
    arms = dict(names) if names is not None else {arm: arm for arm in seen}
    for arm in arms:
        if arm not in seen:
            raise ConfigError(f"settings_plot: no panel has values of {arm!r}")
    for title, p in panels.items():
        for arm in (*p.paper, *p.intervals):
            if arm not in arms:
                raise ConfigError(f"settings_plot: panel {title!r} has a value or interval of {arm!r}, which is no row")
    across = columns or (len(panels) if len(panels) <= 3 else 2)
    down = -(-len(panels) // across)
    height = 0.75 + down * (0.75 + 0.3 * len(arms))
    fig, axes = plt.subplots(down, across, figsize=(WIDTH, height), sharey=True, squeeze=False)
    bounds = []
    for ax, (title, p) in zip(axes.flat, panels.items()):
        for y, arm in enumerate(arms):
            if arm in p.values:
                _arm(ax, y, np.asarray(p.values[arm], float), p.intervals.get(arm), f"{arm!r} in {title!r}")
            if arm in p.paper:
                ax.plot([p.paper[arm]], [y], **DIAMOND, zorder=4)
        for x, name, ls in ((p.floor, "floor", ":"), (p.ceiling, "ceiling", "--")):
            if x is not None:
                ax.axvline(x, color=GREY, ls=ls, lw=1.4, zorder=1)
                bounds.append((name, ls))
        ax.set_title(title, fontsize=11)
        ax.set_yticks(range(len(arms)), [textwrap.fill(n, wrap) if "\n" not in n else n for n in arms.values()])
        ax.set_ylim(len(arms) - 0.45, -0.55)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=3)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    keys = [Line2D([], [], color=PALETTE[0], marker="o", ms=6, lw=2.2, label="mean, 95 %"),
            Line2D([], [], color=PALETTE[4], marker=".", ls="none", label="seeds")]  # fmt: skip
    keys += [Line2D([], [], color=GREY, lw=1.4, ls=ls, label=name) for name, ls in dict.fromkeys(bounds)]
    keys += [Line2D([], [], label="paper", **DIAMOND)] if any(p.paper for p in panels.values()) else []
    fig.legend(handles=keys, loc="outside upper center", ncols=len(keys), columnspacing=0.9, handletextpad=0.4)
    fig.supxlabel(xlabel, fontsize=11)
    return fig


def _arm(ax: Axes, y: int, values: Floats, interval: Interval | None, what: str) -> None:
    if values.ndim != 1 or not len(values):
        raise ConfigError(f"settings_plot: values of {what} have shape {values.shape}, expected one a seed")
    if interval is None and len(values) > 1:
        interval = t_interval(values)
    spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
    ax.plot(values, y + spread, ".", color=PALETTE[4], ms=4.5, zorder=2, ls="none")
    if interval is not None:
        ax.hlines(y, *interval, color=PALETTE[0], lw=2.2, zorder=3)
    ax.plot([values.mean()], [y], "o", color=PALETTE[0], ms=5.5, zorder=3, ls="none")


def dots_plot(
    panels: Mapping[str, Mapping[str, Mapping[str, ArrayLike]]],
    *,
    floors: Mapping[str, float] | None = None,
    wrap: int = 17,
) -> Figure:
    """Return one panel a measure, one row a setting of training, one mark a model: mean over seeds and 95 % interval.

    panels: measure -> model -> setting -> values of the seeds. floors: measure -> its best constant, a dotted line.
    Raises ConfigError if models or settings differ between panels.
    """
    first = next(iter(panels.values()), {})
    settings = list(dict.fromkeys(s for by_setting in first.values() for s in by_setting))
    if not settings:
        raise ConfigError("dots_plot: no value is given")
    fig, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 1.3 + 0.17 * len(settings) * (len(first) + 1)), sharey=True, squeeze=False
    )
    for ax, (measure, models) in zip(axes[0], panels.items()):
        if set(models) != set(first) or any(set(x) - set(settings) for x in models.values()):
            raise ConfigError(f"dots_plot: panel {measure!r} has other models or settings than the first")
        for i, model in enumerate(first):
            color, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            shift = 0.8 * ((i + 0.5) / len(models) - 0.5)
            for setting, given in models[model].items():
                values, y = np.asarray(given, float), settings.index(setting) + shift
                if len(values) > 1:
                    ax.hlines(y, *t_interval(values), color=color, lw=1.8)
                ax.plot([values.mean()], [y], marker, color=color, ms=5.5, ls="none")
        if floors and measure in floors:
            ax.axvline(floors[measure], color=GREY, ls=":", lw=1.4, zorder=0)
        for y in range(1, len(settings)):
            ax.axhline(y - 0.5, color="#E8E8E8", lw=0.8, zorder=0)
        ax.set_title(measure, fontsize=11)
        ax.set_yticks(range(len(settings)), [textwrap.fill(s, wrap) for s in settings])
        ax.set_ylim(len(settings) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5)
    keys = [
        Line2D([], [], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], lw=1.8, ms=6, label=model)
        for i, model in enumerate(first)
    ]
    keys += [Line2D([], [], color=GREY, lw=1.4, ls=":", label="floor")] if floors else []
    fig.legend(handles=keys, loc="outside upper center", ncols=3, columnspacing=1.0)
    return fig


# --- verdicts ---------------------------------------------------------------------------------------------------------

FILLS = {  # colour, hatch and colour of the number
    "supported": (PALETTE[2], "", "white"), "mixed": (PALETTE[5], "//", "black"), "refuted": ("#B84600", "", "white"),
    "unresolved": ("#C4C4C4", "", "black"), "not testable here": ("white", "..", "black"),
    "open": ("white", "", "black"),
}  # fmt: skip
STATUSES = (*get_args(Status), "open")


def verdict_counts(rows: Iterable[Row]) -> pd.DataFrame:
    """Return how many findings have each status: one row a kind of scope that occurs, columns STATUSES that occur.

    A claim that is judged on two scopes is two findings.
    """
    kinds = ("world", "corpus", "computation")
    found = pd.DataFrame([(r.scope.partition(":")[0], r.status) for r in rows], columns=["scope", "status"])
    table = pd.crosstab(found["scope"], found["status"])
    return table.reindex(
        index=[k for k in kinds if k in table.index], columns=[s for s in STATUSES if s in table.columns]
    )


def verdicts_plot(counts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Return axes with one stacked bar a row of `counts` (see `verdict_counts`), numbers inside and words above.

    Raises ConfigError for an unknown status or no finding.
    """
    unknown = [s for s in counts.columns if s not in STATUSES]
    if unknown:
        raise ConfigError(f"verdicts_plot: status {unknown[0]!r} is unknown: use {', '.join(STATUSES)}")
    if not counts.to_numpy().sum() > 0:
        raise ConfigError("verdicts_plot: there is no finding to count")
    statuses = [s for s in STATUSES if s in counts.columns and counts[s].sum() > 0]
    ax = ax or plt.subplots(figsize=(WIDTH, 1.3 + 0.5 * len(counts)))[1]
    for y, name in enumerate(counts.index):
        left = 0
        for status in statuses:
            n = int(counts.loc[name, status])
            color, hatch, ink = FILLS[status]
            if n:
                ax.barh(y, n, left=left, height=0.66, color=color, hatch=hatch, edgecolor="black", lw=0.8)
                box = {"fc": "white", "ec": "none", "pad": 1.2} if hatch else None
                ax.text(left + n / 2, y, str(n), ha="center", va="center", color=ink, fontsize=11, bbox=box)
            left += n
    keys = [Patch(fc=FILLS[s][0], hatch=FILLS[s][1], ec="black", lw=0.8, label=s) for s in statuses]
    ax.legend(
        handles=keys, loc="lower center", bbox_to_anchor=(0.42, 1.0), ncols=3, columnspacing=1.0, handlelength=1.4
    )
    ax.set_yticks(range(len(counts)), [str(i) for i in counts.index])
    ax.set_ylim(len(counts) - 0.5, -0.5)
    ax.grid(visible=False)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("findings")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
