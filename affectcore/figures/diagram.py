"""A model as boxes and arrows."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from affectcore.figures.style import PALETTE, WIDTH

# (from, to) is a plain arrow; (from, to, "cut") a dashed one that carries no gradient, with a bar across it
Arrow = tuple[str, str] | tuple[str, str, str]


def flow_plot(
    boxes: Mapping[str, tuple[float, float]],
    arrows: Sequence[Arrow],
    highlighted: Sequence[str] = (),
    height: float = 4,
) -> Axes:
    """Return axes with named boxes at (x, y), x in 0..1 and y in rows from the top, and arrows between them.

    The name of a box is what it shows, with line breaks.
    """
    _, ax = plt.subplots(figsize=(WIDTH, height))
    drawn = {}
    for name, (x, y) in boxes.items():
        edge = PALETTE[1] if name in highlighted else PALETTE[0]
        look = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": edge, "lw": 1.6}
        drawn[name] = ax.text(x, y, name, ha="center", va="center", fontsize=10, bbox=look, zorder=3).get_bbox_patch()
    for start, end, *how in arrows:
        (x0, y0), (x1, y1) = boxes[start], boxes[end]
        cut = how == ["cut"]
        style = {"arrowstyle": "-|>", "color": "black", "lw": 1.3, "ls": "--" if cut else "-"}
        ends = {"patchA": drawn[start], "patchB": drawn[end], "shrinkA": 0, "shrinkB": 2}
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=style | ends, zorder=1)
        if cut:
            ax.text((x0 + x1) / 2, (y0 + y1) / 2, "stop", ha="center", va="center", fontsize=9, color=PALETTE[1],
                    bbox={"fc": "white", "ec": "none", "pad": 1.5}, zorder=4)  # fmt: skip
    ys = [y for _, y in boxes.values()]
    ax.set(xlim=(-0.08, 1.08), ylim=(max(ys) + 0.45, min(ys) - 0.45))
    ax.axis("off")
    return ax
