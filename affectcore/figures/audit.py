"""Pictures of gradient audits: which loss teaches which part."""

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affectcore.figures.style import GREY, WIDTH

SHADES = mpl.colors.LinearSegmentedColormap.from_list("reach", ["#E3F0F8", "#56B4E9", "#0072B2"])


def reach_plot(tables: Mapping[str, pd.DataFrame], marked: str | None = None) -> Figure:
    """Return a figure with one panel a table of `affectcore.training.audit.gradient_table`, its name above.

    Cells are shaded by the norm's logarithm, the same shades in all panels; hatched cells without number have no path.
    marked: a row drawn with a frame around it.
    """
    found = [v for t in tables.values() for v in t.to_numpy().ravel() if v is not None and v > 0]
    low, high = (np.log10(min(found)), np.log10(max(found))) if found else (0.0, 1.0)
    rows = sum(len(t) for t in tables.values())
    sizes = [len(t) for t in tables.values()]
    fig, axes = plt.subplots(
        len(tables), 1, figsize=(WIDTH, 0.95 * len(tables) + 0.36 * rows), squeeze=False, height_ratios=sizes
    )
    for ax, (name, table) in zip(axes[:, 0], tables.items()):
        for y, term in enumerate(table.index):
            for x, part in enumerate(table.columns):
                _cell(ax, x, y, table.loc[term, part], low, max(high, low + 1e-9))
        if marked in table.index:
            y = list(table.index).index(marked)
            box = (-0.5, y - 0.5), len(table.columns), 1
            ax.add_patch(mpl.patches.Rectangle(*box, fill=False, ec="black", lw=2, clip_on=False, zorder=5))
        ax.set(xlim=(-0.5, len(table.columns) - 0.5), ylim=(len(table) - 0.5, -0.5))
        ax.set_xticks(range(len(table.columns)), [c.replace(" ", "\n") for c in table.columns], fontsize=9)
        ax.set_yticks(range(len(table)), list(table.index))
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title(name, loc="left", fontsize=11)
    return fig


def _cell(ax: Axes, x: int, y: int, norm: float | None, low: float, high: float) -> None:
    """One cell: a shade and the norm, or a hatch for no path."""
    corner = (x - 0.5, y - 0.5)
    if norm is None:
        ax.add_patch(mpl.patches.Rectangle(corner, 1, 1, fc="white", ec="#C8C8C8", hatch="////", lw=1.5))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        ax.text(x, y, "none", ha="center", va="center", fontsize=9, color=GREY, bbox=box)
        return
    share = (np.log10(norm) - low) / (high - low) if norm > 0 else 0.0
    ax.add_patch(mpl.patches.Rectangle(corner, 1, 1, fc=SHADES(share), ec="white", lw=1.5))
    color = "white" if share > 0.72 else "black"
    ax.text(x, y, _short(norm), ha="center", va="center", fontsize=10, color=color)


def _short(x: float) -> str:
    """Two digits, no exponent for large numbers: 0.061, 1.3, 190, 14k."""
    x = float(f"{x:.2g}")
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"
