"""One look for every figure: colour-blind safe, readable on a phone; the site's style sheet makes the dark version.

    use_style()
    ax = interval_plot(["MLP", "TFN"], estimates, intervals, seeds=per_seed, floor=.33, ceiling=.71, paper=[None, .58])

Without `use_style` matplotlib's own defaults hold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from affectcore.errors import ConfigError

# Okabe and Ito's palette without its yellow, which is too light on white; markers and line styles tell them apart too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
GREY = "#595959"  # contrast 7:1 on white
WIDTH = 5.2  # inches; the page scales a figure down to 390 px, where 10 points remain legible


def use_style() -> None:
    """Set matplotlib's defaults for all figures of the process."""
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.2), "figure.dpi": 110, "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
            "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=DASHES),
            "font.size": 11, "axes.titlesize": 12, "axes.labelsize": 11, "legend.fontsize": 10,
            "xtick.labelsize": 10, "ytick.labelsize": 10, "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "grid.color": "#E0E0E0", "grid.linewidth": 0.6, "axes.axisbelow": True,
            "legend.frameon": False, "lines.linewidth": 1.8, "svg.hashsalt": "affectcore",
        }
    )  # fmt: skip


def interval_plot(
    labels: Sequence[str],
    estimates: ArrayLike,
    intervals: ArrayLike,
    *,
    seeds: Sequence[ArrayLike] | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
    paper: Sequence[float | None] | None = None,
    xlabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Return axes with one row per label: estimate and interval, seeds as dots, the paper's value as a hollow diamond.

    estimates (R,), intervals (R, 2), seeds: R lists of values. Floor (best constant) and ceiling (oracle) are lines.
    Raises ConfigError if the numbers of rows differ.
    """
    value, span = np.asarray(estimates, float), np.asarray(intervals, float)
    if value.shape != (len(labels),) or span.shape != (len(labels), 2):
        raise ConfigError(f"interval_plot: {len(labels)} labels, estimates {value.shape}, intervals {span.shape}")
    for name, given in {"seeds": seeds, "paper": paper}.items():
        if given is not None and len(given) != len(labels):
            raise ConfigError(f"interval_plot: {len(labels)} labels, but {len(given)} rows of {name}")
    ax = ax or plt.subplots(figsize=(WIDTH, 0.9 + 0.42 * len(labels)))[1]
    rows = np.arange(len(labels))
    if seeds is not None:
        for row, dots in zip(rows, seeds):
            x = np.asarray(dots, float)
            shift = np.linspace(-0.18, 0.18, len(x)) if len(x) > 1 else [0.0]  # spread, in the order of the seeds
            ax.plot(x, row + np.asarray(shift), ".", color=PALETTE[4], ms=5, zorder=1, ls="none")
    ax.hlines(rows, span[:, 0], span[:, 1], color=PALETTE[0], lw=2.4, zorder=2)
    ax.plot(value, rows, "o", color=PALETTE[0], ms=6.5, zorder=3, ls="none")
    for row, printed in zip(rows, paper or ()):
        if printed is not None:
            ax.plot([printed], [row], "D", mfc="white", mec=PALETTE[1], mew=1.6, ms=7, zorder=4)
    _bounds(ax, floor, ceiling, vertical=True)
    ax.set_yticks(rows, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(xlabel)
    return ax


def robustness_curve(
    rates: ArrayLike,
    values: Mapping[str, ArrayLike],
    *,
    floor: float | None = None,
    ceiling: float | None = None,
    xlabel: str = "missing rate",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Return axes with one curve per name: mean over seeds with its 95 % interval (Student's t) as a band.

    rates (K,), values[name] (S, K): one row a seed. One seed has no band. Raises ConfigError for other shapes.
    """
    from affectcore.evaluation.statistics import t_interval

    x = np.asarray(rates, float)
    ax = ax or plt.subplots(figsize=(WIDTH, 3.9))[1]
    for i, (name, given) in enumerate(values.items()):
        y = np.asarray(given, float)
        if y.ndim != 2 or y.shape[1] != len(x):
            raise ConfigError(f"robustness_curve: {name!r} has shape {y.shape}, expected (seeds, {len(x)})")
        color, ls, marker = (look[i % len(PALETTE)] for look in (PALETTE, DASHES, MARKERS))
        ax.plot(x, y.mean(0), color=color, ls=ls, marker=marker, ms=4.5, label=name)
        if len(y) > 1:
            low, high = np.array([t_interval(column) for column in y.T]).T
            ax.fill_between(x, low, high, color=color, alpha=0.18, lw=0)
    means = np.array([np.asarray(y, float).mean(0) for y in values.values()])
    _bounds(ax, floor, ceiling, vertical=False, curves=means)
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=x)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)  # above: curves fill the panel
    return ax


def _bounds(
    ax: Axes, floor: float | None, ceiling: float | None, *, vertical: bool, curves: ArrayLike | None = None
) -> None:
    """Floor and ceiling as grey lines, their names left, right or in the middle, where curves (C, K) lie farthest."""
    for x, name, ls in ((floor, "floor", ":"), (ceiling, "ceiling", "--")):
        if x is None:
            continue
        text: dict[str, Any] = {
            "color": GREY,
            "fontsize": 9,
            "annotation_clip": False,
            "xytext": (2, 3),
            "textcoords": "offset points",
        }
        if vertical:
            ax.axvline(x, color=GREY, ls=ls, lw=1.2, zorder=0)
            ax.annotate(name, (x, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", **text)
        else:
            ax.axhline(x, color=GREY, ls=ls, lw=1.2, zorder=0)
            near = np.abs(np.asarray(curves, float) - x).min(0) if curves is not None else np.zeros(1)
            places = ((near[-1], 1.0, "right"), (near[0], 0.0, "left"), (near[len(near) // 2], 0.5, "center"))
            _, at, side = max(places, key=lambda p: p[0])
            ax.annotate(name, (at, x), xycoords=("axes fraction", "data"), ha=side, va="bottom", **text)


def name_points(ax: Axes, names: Sequence[str], x: Any, y: Any, size: float = 8) -> None:
    """Write names beside points (N,), where they cover neither a point nor another name; far ones have a leader.

    A point whose name is empty gets none. The figure must have been laid out (`draw_without_rendering`).
    """
    points = ax.transData.transform(np.column_stack([x, y])) * 72 / ax.figure.dpi
    boxes = [(a - 3, b - 3, a + 3, b + 3) for a, b in points]
    steps = [(side, up) for up in (0, 6, -6, 10, -10, 18, -18, 27, -27) for side in (1, -1)]

    def box(i: int, side: int, up: int) -> tuple[float, float, float, float]:
        (a, b), width, height = points[i], 0.6 * size * len(names[i]), 1.1 * size
        left = a + 6 if side > 0 else a - 6 - width
        return left, b + up - height / 2, left + width, b + up + height / 2

    for i in (k for k in np.argsort(-points[:, 1]) if names[k]):
        others = boxes[:i] + boxes[i + 1 :]

        def hits(step: tuple[int, int], i: int = i, others: list[Any] = others) -> int:
            low, bottom, high, top = box(i, *step)
            return sum(low < q[2] and q[0] < high and bottom < q[3] and q[1] < top for q in others)

        side, up = min(steps, key=hits)  # the nearest of the best
        boxes.append(box(i, side, up))
        ax.annotate(
            names[i], (x[i], y[i]), xytext=(6 * side, up), textcoords="offset points", fontsize=size, va="center",
            ha="left" if side > 0 else "right", zorder=5, path_effects=[withStroke(linewidth=2, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0} if abs(up) > 6 else None,
        )  # fmt: skip
