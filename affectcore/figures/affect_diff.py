"""The figures of the Affect-Diff paper [affectdiff], redrawn from `affectcore.studies.affect_diff.paper`.

In all of them: a hollow diamond is a number that the paper prints, a filled circle one from its author's records or
computed from these, a triangle ours (mean over seeds with its 95 % interval, Student's t). `ours` is a table as
`affectcore.studies.store.table` gives it, one data label only, with arms named as in `ARMS`; without it the paper's
numbers stand alone. `class_f1_of` and `epochs_of` make of our records what Figs. 5 to 7 take. `curves` is what
`paper.author_curves` returns.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from affectcore.evaluation.inputs import Floats
from affectcore.evaluation.metrics import class_f1
from affectcore.evaluation.statistics import compare, t_interval
from affectcore.figures.effects import Line, effect, effects_keys, effects_plot
from affectcore.figures.style import DASHES, GREY, MARKERS, PALETTE, WIDTH
from affectcore.studies.affect_diff import evidence, paper
from affectcore.studies.claims import Results
from affectcore.studies.readings import Reading
from affectcore.studies.store import RunRecord

BLUE, ORANGE, GREEN = PALETTE[:3]
ARMS = {  # which of our arms stands beside which model of the paper: the published protocol
    "full": "published_full", "no_diffusion": "published_no_diffusion", "tfn": "published_tfn",
    "mult": "published_mult", "misa": "published_misa", "mmim": "published_mmim", "tetfn": "published_tetfn",
}  # fmt: skip
METHODS = ("tfn", "mult", "misa", "mmim", "tetfn", "full")  # of Table 2 and Fig. 3
PAPER_METRIC = "batch_averaged_macro_recall_64"
_DIAMOND: dict[str, Any] = {"marker": "D", "mfc": "white", "mec": ORANGE, "mew": 1.6, "ms": 7, "ls": "none"}
_CIRCLE: dict[str, Any] = {"marker": "o", "color": BLUE, "ms": 6, "ls": "none"}
_TRIANGLE: dict[str, Any] = {"marker": "^", "color": GREEN, "ms": 6.5, "ls": "none"}
_DOT: dict[str, Any] = {"marker": ".", "color": PALETTE[4], "ms": 5, "ls": "none"}


def values_of(
    ours: pd.DataFrame | None, key: str, metric: str, split: str = "test", condition: str = "clean"
) -> Floats:
    """Return our values of a metric for the model `key`, one a seed, none where there are no such runs."""
    if ours is None or key not in ARMS:
        return np.empty(0)
    chosen = ours[
        (ours["arm"] == ARMS[key])
        & (ours["metric"] == metric)
        & (ours["split"] == split)
        & (ours["condition"] == condition)
    ]
    by_seed: pd.Series[float] = chosen.groupby("seed")["value"].mean()
    return by_seed.dropna().to_numpy(float)


def class_f1_of(records: Iterable[RunRecord]) -> dict[str, Floats]:
    """Return the F1 of the six classes on test, mean over seeds, by the paper's name of the model (see `ARMS`)."""
    found: dict[str, list[Floats]] = {}
    keys = {arm: key for key, arm in ARMS.items()}
    for r in records:
        if r.spec.arm in keys:
            y, p = paper.expand(r.extra["confusion"]["test"]["clean"])
            found.setdefault(keys[r.spec.arm], []).append(class_f1(y, p, len(paper.CLASSES)))
    return {paper.BY_KEY[k].name: np.mean(found[k], axis=0) for k in ARMS if k in found}


def epochs_of(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return what our runs of the full model saw epoch by epoch: seed, epoch, paper.MODALITIES, some of paper.SERIES.

    Left out are the training metric, which is not measured here, and the validation loss, which is without class
    weights and focus here.
    """
    rows = []
    for r in records:
        if r.spec.arm == ARMS["full"]:
            for h in r.history:
                loss, probe = h["losses"], h["probe"]
                shown = {f"train_{k}": loss[k] for k in ("task", "diffusion", "causal")}
                shown |= {"train_kl": 0.1 * loss["kl"], "validation_metric": probe[PAPER_METRIC]}  # as in paper.LOSSES
                sums = {m: probe[f"sums.{m}"] for m in paper.MODALITIES}
                rows.append({"seed": r.spec.seed, "epoch": h["epoch"], **shown, **sums})
    return pd.DataFrame(rows)


# --- Figs. 1, 2 and the dropped graph: diagrams -----------------------------------------------------------------------


def pipeline_diagram() -> Figure:
    """Return Fig. 1 from the equations: where the classifier's path ends and where the stop-gradient cuts the prior."""
    fig, ax = _canvas(5.4, 10, 10.4)
    for i, (name, size) in enumerate((("text", 300), ("audio", 74), ("vision", 35))):
        x = 1.7 + 3.3 * i
        _box(ax, x, 9.8, 2.9, 0.8, f"{name}, 50 × {size}")
        _box(ax, x, 8.5, 2.9, 0.8, "encoder, 50 × 128", BLUE)
        _arrow(ax, (x, 9.4), (x, 8.9))
        _arrow(ax, (x, 8.1), (x if i == 1 else x + (0.7 if i == 0 else -0.7), 7.6))
    _box(ax, 5, 7.15, 9.4, 0.85, "graph and gates: $h^m$ times $w_m$ (next figure)", BLUE)
    _box(ax, 3.0, 5.75, 5.4, 0.85, "join, project: $F$, 50 × 128", BLUE)
    _box(ax, 3.0, 4.35, 5.4, 0.85, r"$\mu,\ \log\sigma^2$;  $z=\mu+\sigma\varepsilon$", BLUE)
    _box(ax, 3.0, 2.95, 5.4, 0.85, "pool over time", BLUE)
    _box(ax, 3.0, 1.55, 5.4, 0.85, "classifier: six logits", BLUE)
    for top, bottom in ((6.72, 6.18), (5.32, 4.78), (3.92, 3.38), (2.52, 1.98)):
        _arrow(ax, (3.0, top), (3.0, bottom))
    _box(ax, 8.35, 4.35, 2.8, 1.2, "U-Net predicts\nthe noise in $z_t$", ORANGE)
    _box(ax, 8.35, 5.95, 2.8, 0.95, "time, label,\ncolumn sums", GREY)
    _arrow(ax, (8.35, 5.47), (8.35, 4.95), GREY)
    _arrow(ax, (5.7, 4.35), (6.95, 4.35), ORANGE)
    ax.plot([6.25, 6.4], [3.98, 4.72], color="black", lw=2.2, solid_capstyle="butt")
    ax.plot([6.38, 6.53], [3.98, 4.72], color="black", lw=2.2, solid_capstyle="butt")
    ax.text(6.39, 5.12, "stop-gradient", ha="center", va="center", fontsize=9)
    _box(ax, 8.35, 2.35, 2.8, 1.2, "decoder: drawn,\nused in no run", GREY, ls=":")
    _arrow(ax, (5.7, 4.05), (6.95, 2.6), GREY, ls=":")
    ax.text(3.0, 0.85, r"$L_{task}$, and $L_{KL}$ at $\mu,\sigma$", ha="center", va="center", fontsize=10)
    ax.text(8.35, 0.85, r"$L_{diff}$: U-Net only", ha="center", va="center", fontsize=10, color=ORANGE)
    return fig


def gate_diagram() -> Figure:
    """Return Fig. 2 from the equations: from three means over time to three gates."""
    fig, ax = _canvas(3.9, 10, 8)
    ax.set_ylim(0.8, 8)
    steps = (
        (7.4, r"mean over time:  nodes $n_T,\ n_A,\ n_V$  (3 × 128)"),
        (5.9, r"$S=QK^\top/\sqrt{128}$,  one query, one key map"),
        (4.4, r"$A=\mathrm{sigmoid}(S)$,  diagonal 0  (3 × 3)"),
        (2.9, r"$c_j=\sum_i A_{ij}$,  what arrives at $j$"),
        (1.4, r"$w=\mathrm{softmax}(c)$,  each $w_m\in[.063,\ .787]$"),
    )
    for y, text in steps:
        _box(ax, 3.75, y, 7.3, 0.95, text, BLUE)
    for (top, _), (bottom, _) in pairwise(steps):
        _arrow(ax, (3.75, top - 0.48), (3.75, bottom + 0.48))
    for y, text, color in (
        (4.4, "$L_{causal}$:\n$h(A)+0.1\\,|A|$", GREY),
        (2.9, "to the U-Net,\nno gradient", ORANGE),
        (1.4, "$h^m$ times $w_m$", BLUE),
    ):
        _arrow(ax, (7.4, y), (7.95, y), color)
        ax.text(8.05, y, text, va="center", fontsize=9, color=color)
    return fig


def graph_plot(graph: Sequence[Sequence[float]] = paper.DRAWN_GRAPH) -> Figure:
    """Return the graph of the repository's figure script, as a matrix and as nodes; A[i, j] is the edge i -> j."""
    a = np.asarray(graph, float)
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.7))
    left.imshow(np.where(np.eye(3) > 0, np.nan, a), cmap="Blues", vmin=0, vmax=0.45)
    for i, j in np.ndindex(a.shape):
        left.text(j, i, "0" if i == j else f"{a[i, j]:.2f}".lstrip("0"), ha="center", va="center", fontsize=10)
    left.set_xticks(range(3), paper.MODALITIES)
    left.set_yticks(range(3), [f"from {m}" for m in paper.MODALITIES])
    left.grid(visible=False)
    left.xaxis.tick_top()
    at = [(0.5, 0.88), (0.12, 0.2), (0.88, 0.2)]
    for i, j in np.ndindex(a.shape):
        if a[i, j] > 0:
            style: dict[str, Any] = {"connectionstyle": "arc3,rad=0.18", "arrowstyle": "-|>", "mutation_scale": 13}
            right.add_patch(
                FancyArrowPatch(at[i], at[j], lw=10 * a[i, j], color=BLUE, shrinkA=21, shrinkB=21, alpha=0.85, **style)
            )
    for name, (x, y) in zip(paper.MODALITIES, at):
        right.text(x, y, name, ha="center", va="center", fontsize=10, bbox={"boxstyle": "round,pad=.4", "fc": "white"})
    right.set(xlim=(-0.05, 1.05), ylim=(0, 1.08))
    right.axis("off")
    return fig


# --- Fig. 3: methods --------------------------------------------------------------------------------------------------


def methods_plot(ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 3: validation metric and test accuracy of six methods, and beside them the true balanced accuracy."""
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.0), sharey=True)
    columns = (("batch_averaged", "batch-averaged\nmacro recall,\nvalidation"), ("accuracy", "accuracy,\ntest"),
               ("balanced", "true balanced\naccuracy, test"))  # fmt: skip
    found: tuple[tuple[str, str], ...] = ((PAPER_METRIC, "valid"), ("accuracy", "test"), ("balanced_accuracy", "test"))
    for ax, (what, title), (metric, split) in zip(axes, columns, found):
        for y, key in enumerate(METHODS):
            m = paper.BY_KEY[key]
            printed = {"batch_averaged": m.printed_validation, "accuracy": m.printed_accuracy}.get(what)
            recorded = {"batch_averaged": m.validation, "accuracy": m.accuracy, "balanced": m.balanced}[what]
            if what == "balanced" and (span := paper.interval(key)) is not None:
                ax.hlines(y, *span, color=BLUE, lw=2.2)
            if printed is not None:
                ax.plot([printed], [y], **_DIAMOND)
            if printed is None or printed != recorded:
                ax.plot([recorded], [y], **_CIRCLE)
            _ours(ax, values_of(ours, key, metric, split), y + 0.28)
        ax.set_title(title, fontsize=10)
    floor = [paper.constant_score(), paper.TEST_COUNTS[0] / sum(paper.TEST_COUNTS), paper.FLOOR]
    for ax, x in zip(axes, floor):
        ax.axvline(x, color=GREY, ls=":", lw=1.2, zorder=0)
    axes[0].set(xlim=(0.15, 0.42), xticks=[0.2, 0.3, 0.4])
    axes[1].set(xlim=(0.5, 0.71), xticks=[0.5, 0.6, 0.7])
    axes[2].set(xlim=(0.14, 0.3), xticks=[0.15, 0.2, 0.25])
    for ax, (metric, split) in zip(axes, found):
        _reach(ax, "x", [values_of(ours, key, metric, split) for key in METHODS])
    _rows(axes[0], [paper.BY_KEY[k].name for k in METHODS])
    _key(fig, interval=True, ours=ours is not None)
    return fig


# --- Fig. 4: validation curves ----------------------------------------------------------------------------------------


def validation_plot(curves: pd.DataFrame | None = None, ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 4: how high each validation curve rises, by four summaries; the curves above if there are any.

    Curves are means of five epochs, their raw peaks hollow diamonds.
    """
    height = 5.0
    if curves is None:
        fig, ax = plt.subplots(figsize=(WIDTH, height))
    else:
        fig, (top, ax) = plt.subplots(2, 1, figsize=(WIDTH, height + 3.4), height_ratios=[3, 5])
        shown = {"full": BLUE, "tetfn": ORANGE, "no_vae": GREEN, "no_condition": PALETTE[3]}
        for key, log in curves.groupby("model"):
            y = log["validation_metric"].to_numpy()
            look = {"color": shown[key], "zorder": 3} if key in shown else {"color": "#C4C4C4", "lw": 1, "zorder": 1}
            name = paper.BY_KEY[str(key)].name if key in shown else None
            dash = DASHES[list(shown).index(key)] if key in shown else "-"
            top.plot(log["epoch"], paper.smoothed(y), ls=dash, label=name, **look)
            if key in shown:
                top.plot([log["epoch"].iloc[y.argmax()]], [y.max()], **{**_DIAMOND, "mec": shown[key], "zorder": 4})
        top.axhline(paper.constant_score(), color=GREY, ls=":", lw=1.2)
        top.set(xlabel="epoch", ylabel="validation metric")
        top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    ranked = sorted(paper.MODELS, key=lambda m: -m.mean)
    marks: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("validation", "best epoch (selected)", _CIRCLE),
        ("second", "second-best epoch", {**_CIRCLE, "marker": "|", "ms": 9, "mew": 2}),
        ("smoothed", "best mean of five epochs", {**_CIRCLE, "marker": "s", "color": GREEN, "ms": 5}),
        ("mean", "mean, epochs 10 to 49", {**_CIRCLE, "marker": "X", "color": "black"}),
    )
    rows = np.arange(len(ranked))
    ax.hlines(rows, [m.mean for m in ranked], [m.validation for m in ranked], color="#C8C8C8", lw=1.4, zorder=1)
    for field, label, mark in marks:
        ax.plot([getattr(m, field) for m in ranked], rows, label=label, **mark)
    for row, m in enumerate(ranked):
        if m.printed_validation is not None:
            printed: dict[str, Any] = {**_DIAMOND, "ms": 9, "mfc": "none", "zorder": 4}
            printed["label"] = "printed" if m.key == "full" else None
            ax.plot([m.printed_validation], [row], **printed)
        _ours(ax, values_of(ours, m.key, PAPER_METRIC, "valid"), row + 0.3)
    ax.axvline(paper.constant_score(), color=GREY, ls=":", lw=1.2)
    ax.set(xlim=(0.18, 0.4), xlabel="batch-averaged macro recall, validation")
    _reach(ax, "x", [values_of(ours, m.key, PAPER_METRIC, "valid") for m in ranked])
    _rows(ax, [m.name for m in ranked])
    ax.legend(loc="lower center", bbox_to_anchor=(0.25, 1.0), ncols=2, columnspacing=0.8, handletextpad=0.3)
    return fig


# --- Fig. 5: classes --------------------------------------------------------------------------------------------------


def class_f1_plot(ours: Mapping[str, ArrayLike] | None = None) -> Figure:
    """Return Fig. 5: F1 per class of every model as a table of shades, the three rarest classes right of the line.

    ours: name -> F1 of the six classes (mean over seeds), drawn as further rows. An asterisk marks rows that are in
    the author's records only.
    """
    rows = [(m.name + ("" if m.f1_printed else " *"), np.asarray(m.f1)) for m in paper.MODELS]
    rows += [(f"ours: {name}", np.asarray(f1, float)) for name, f1 in (ours or {}).items()]
    values = np.stack([f1 for _, f1 in rows])
    fig, ax = plt.subplots(figsize=(WIDTH, 1.0 + 0.3 * len(rows)))
    _shades(ax, values, np.sqrt(values), "Blues", 0, 1.05, ".3f")
    for boundary in (4.5, 5.5):
        ax.axhline(boundary, color="white", lw=4)
    if ours:
        ax.axhline(len(paper.MODELS) - 0.5, color="black", lw=1.2)
    ax.axvline(2.5, color="black", lw=1.6)
    names = [f"{name}\n({n})" for name, n in zip(paper.CLASSES, paper.TEST_COUNTS)]
    ax.set_xticks(range(6), names, fontsize=9)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    return fig


# --- Figs. 6, 7, 8, 10: over epochs -----------------------------------------------------------------------------------


def weights_plot(curves: pd.DataFrame | None = None, ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 6: the graph's normalised column sums over epochs. ours: columns seed, epoch, paper.MODALITIES."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    typed = paper.weights()
    epoch, printed = paper.PRINTED_WEIGHTS
    for i, name in enumerate(paper.MODALITIES):
        color, ls, marker = PALETTE[i], DASHES[i], MARKERS[i]
        if curves is not None:
            full = curves[curves["model"] == "full"]
            ax.plot(full["epoch"], full[name], color=color, lw=0.9, alpha=0.55)
        ax.plot(typed["epoch"], typed[name], color=color, ls=ls, marker=marker, ms=5, lw=1.4, label=name)
        ax.plot([epoch], [printed[i]], **{**_DIAMOND, "mec": color, "ms": 9, "zorder": 5})
        _band(ax, ours, name, color)
    ax.plot([], [], **{**_DIAMOND, "mec": "black"}, label="in the paper's text")
    ax.axhline(1 / 3, color=GREY, ls=":", lw=1.2)
    ax.annotate(
        "equal", (1, 1 / 3), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9, color=GREY
    )
    ax.set(xlabel="epoch", ylabel="share of the column sums", xlim=(-2, 71), ylim=(0, 0.9))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1, handletextpad=0.4)
    return fig


def losses_plot(curves: pd.DataFrame | None = None, ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 7: losses of the full model over epochs, with what the figure leaves out: validation.

    ours: columns seed, epoch and any of paper.SERIES.
    """
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.0), sharex=True)
    typed = paper.losses()
    panels: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
        ("task loss", (("train_task", "training"), ("validation_task", "validation"))),
        ("macro recall by batches", (("train_metric", "training"), ("validation_metric", "validation"))),
        ("diffusion loss", (("train_diffusion", "training"),)),
        ("other losses, training", (("train_kl", "KL × .1"), ("train_causal", "causal"))),
    )
    for ax, (title, series) in zip(axes.flat, panels):
        for i, (column, name) in enumerate(series):
            if curves is not None:
                full = curves[curves["model"] == "full"]
                ax.plot(full["epoch"], full[column], color=PALETTE[i], lw=0.9, alpha=0.55)
            ax.plot(typed["epoch"], typed[column], color=PALETTE[i], ls=DASHES[i], marker=MARKERS[i], ms=4.5, lw=1.4,
                    label=name)  # fmt: skip
            _band(ax, ours, column, PALETTE[i])
        ax.set_title(title, fontsize=11)
        ax.legend(loc="best", fontsize=9, handlelength=1.6)
    axes[0, 0].set_ylim(0, 4)
    axes[0, 1].set_ylim(0, 1)
    axes[1, 0].set_ylim(0, 1.3)
    axes[1, 1].set_yscale("log")
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    return fig


def schedules_plot() -> Figure:
    """Return Fig. 8: the shares of the KL and of the diffusion weight over epochs, by two texts and by the code."""
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 4.2), sharex=True)
    epochs = np.arange(64)
    names = {"methods": "methods section", "appendix": "appendix", "code": "code and logs"}
    best = paper.BY_KEY["full"].epoch
    for ax, share, title in ((axes[0], paper.kl_share, "KL"), (axes[1], paper.diffusion_share, "diffusion")):
        for i, version in enumerate(paper.VERSIONS):
            look: dict[str, Any] = {"color": PALETTE[(1, 2, 0)[i]], "ls": ("--", ":", "-")[i], "lw": (2.0, 3.6, 1.6)[i]}
            ax.plot(epochs, [share(version, int(e)) for e in epochs], label=names[version], **look)
        ax.axvline(best, color=GREY, lw=1, ls=":")
        ax.set(ylabel=f"share, {title}", ylim=(-0.05, 1.08), yticks=[0, 0.5, 1])
    axes[1].annotate(
        f"best epoch {best}", (best, 0.02), xytext=(4, 0), textcoords="offset points", fontsize=9, color=GREY
    )
    axes[1].set_xlabel("epoch")
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, columnspacing=1, handlelength=1.8)
    return fig


def seeds_plot(curves: pd.DataFrame | None = None, ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 10: the paper's three seeds, four runs of the author that train the same classifier, and ours.

    With `curves` the validation curves of those four runs, means of five epochs, are drawn above.
    """
    rows = ["paper: seeds 42, 43, 44", "author: four runs with\nequal gradients"]
    published = values_of(ours, "full", PAPER_METRIC, "valid")
    rows += [f"ours: {len(published)} seeds"] if len(published) else []
    height = 1.0 + 0.62 * len(rows)
    if curves is None:
        fig, ax = plt.subplots(figsize=(WIDTH, height))
    else:
        fig, (top, ax) = plt.subplots(2, 1, figsize=(WIDTH, height + 3), height_ratios=[3, height])
        for i, key in enumerate(paper.EQUIVALENT):
            log = curves[curves["model"] == key]
            y = paper.smoothed(log["validation_metric"].to_numpy())
            top.plot(log["epoch"], y, color=PALETTE[i], ls=DASHES[i], lw=1.3,
                     label=paper.BY_KEY[key].name)  # fmt: skip
        top.set(xlabel="epoch", ylabel="validation metric")
        top.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, columnspacing=0.8, fontsize=9)
    printed = paper.BY_KEY["full"].printed_validation
    ax.plot([printed or np.nan] * 3, [-0.16, 0, 0.16], **_DIAMOND)
    values, _ = paper.equivalent_spread()
    ax.hlines(1, *_around(values), color=BLUE, lw=2.2, zorder=1)
    ax.plot(values, 1 + np.linspace(-0.12, 0.12, len(values)), **{**_CIRCLE, "zorder": 3})
    _ours(ax, published, 2)
    ax.axvline(paper.constant_score(), color=GREY, ls=":", lw=1.2)
    ax.annotate("constant", (paper.constant_score(), 1), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                fontsize=9, color=GREY)  # fmt: skip
    ax.set(xlim=(0.17, 0.43), xlabel="batch-averaged macro recall,\nbest epoch, validation")
    _reach(ax, "x", [published])
    _rows(ax, rows)
    return fig


# --- Fig. 9: efficiency -----------------------------------------------------------------------------------------------


def efficiency_plot(ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 9: two metrics against parameters, areas by latency, with the staircase of what nothing dominates."""
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 6.4), sharex=True)
    for ax, by, title in (
        (axes[0], "validation", "batch-averaged macro recall, validation"),
        (axes[1], "balanced", "true balanced accuracy, test"),
    ):
        _staircase(ax, by)
        white: dict[str, Any] = {"fc": "white", "ec": "none", "pad": 0.4, "alpha": 0.8}
        for m in paper.MODELS:
            y = getattr(m, by)
            if by == "balanced" and m.key in ("full", "classifier_only", "mmim", "no_vae"):
                low, high = paper.balanced_interval(m.key)
                ax.vlines(m.parameters, low, high, color=BLUE, lw=1.4, alpha=0.6)
            ax.scatter([m.parameters], [y], s=12 + 2.2 * m.latency, color=BLUE, alpha=0.55, lw=0, zorder=3)
            ax.plot([m.parameters], [y], ".", color=BLUE, ms=4, zorder=4)
            if by == "validation" and m.key in paper.PLOTTED_COST:
                millions, ms = paper.PLOTTED_COST[m.key]
                x = m.parameters if millions is None else millions * 1e6
                ax.scatter([x], [y], s=12 + 2.2 * ms, marker="D", facecolor="none", edgecolor=ORANGE, lw=1.5, zorder=5)
            metric = (PAPER_METRIC, "valid") if by == "validation" else ("balanced_accuracy", "test")
            if len(own := values_of(ours, m.key, *metric)):
                ax.plot([m.parameters], [own.mean()], **_TRIANGLE)
        for key, side, dx, dy in _LABELS[by]:
            m = paper.BY_KEY[key]
            name, at = m.name.removesuffix(" prior"), (m.parameters, getattr(m, by))
            ax.annotate(name, at, xytext=(dx, dy), textcoords="offset points", ha=side,
                        va="center", fontsize=9, bbox=white)  # fmt: skip
        ax.set_title(title, fontsize=11)
        ax.axhline(paper.constant_score() if by == "validation" else paper.FLOOR, color=GREY, ls=":", lw=1.2)
    axes[0].set_ylim(0.17, 0.405)
    axes[1].set_ylim(0.15, 0.43)
    for ax, name, split in ((axes[0], PAPER_METRIC, "valid"), (axes[1], "balanced_accuracy", "test")):
        _reach(ax, "y", [values_of(ours, key, name, split) for key in ARMS])
    axes[1].set(xscale="log", xlabel="parameters, U-Net and its average included", xlim=(1e5, 3e7))
    axes[1].set_xticks([1e5, 1e6, 1e7], ["0.1 M", "1 M", "10 M"])
    return fig


_LABELS = {  # where the names stand: left or right of the point, shifted by points
    "validation": (
        ("tfn", "left", 9, -9), ("mult", "left", 11, -2), ("misa", "left", 9, 0), ("mmim", "right", -8, -9),
        ("tetfn", "right", -12, 6), ("full", "right", -11, 3), ("no_diffusion", "left", 12, 0),
        ("no_vae", "left", 12, 6), ("classifier_only", "left", 12, 2), ("no_condition", "left", 12, -3),
        ("no_graph", "left", 12, 5), ("gumbel", "left", 12, 1), ("joint", "left", 12, -2),
        ("no_guidance", "left", 12, 2),
    ),
    "balanced": (
        ("tfn", "left", 8, -10), ("mult", "left", 12, 5), ("misa", "left", 9, 0), ("mmim", "right", -8, 5),
        ("tetfn", "right", -10, -10), ("full", "left", 12, 1), ("no_vae", "left", 12, 0),
        ("classifier_only", "right", -12, 2), ("no_diffusion", "left", 8, -9), ("joint", "left", 12, 6),
        ("no_graph", "left", 12, -9),
    ),
}  # fmt: skip


def _staircase(ax: Axes, by: str) -> None:
    best = 0.0
    x: list[float] = []
    y: list[float] = []
    for m in sorted(paper.MODELS, key=lambda m: (m.parameters, -getattr(m, by))):
        if getattr(m, by) > best:
            x, y, best = [*x, m.parameters, m.parameters], [*y, best, getattr(m, by)], getattr(m, by)
    ax.plot([*x[1:], 3e7], [*y[1:], best], color=GREY, lw=1, ls="--", zorder=1)


# --- Figs. 11 and 12 --------------------------------------------------------------------------------------------------


def perturbation_plot(ours: pd.DataFrame | None = None) -> Figure:
    """Return Fig. 11: change of macro F1 under twelve perturbations, all models; frames mark what the paper prints.

    ours: rows of our models follow, with conditions named as in paper.CONDITIONS.
    """
    table = paper.perturbed()
    names = [paper.BY_KEY[str(k)].name for k in table.index]
    for key in ARMS:
        clean = values_of(ours, key, "macro_f1")
        cells = [values_of(ours, key, "macro_f1", condition=c) for c in paper.CONDITIONS]
        if len(clean) and any(len(c) for c in cells):
            table.loc[f"ours {key}"] = [c.mean() - clean.mean() if len(c) else np.nan for c in cells]
            names.append(f"ours: {paper.BY_KEY[key].name}")
    fig, ax = plt.subplots(figsize=(WIDTH, 2.0 + 0.27 * len(table)))
    values = 100 * table.to_numpy(float)
    image = ax.imshow(values, cmap="PuOr", vmin=-8, vmax=8, aspect="auto")
    for i, j in np.ndindex(values.shape):
        if abs(values[i, j]) >= 0.5:
            dark = abs(values[i, j]) > 6
            ax.text(j, i, f"{values[i, j]:+.0f}".replace("-", "−"), ha="center", va="center", fontsize=8.5,
                    color="white" if dark else "black")  # fmt: skip
    for j, c in enumerate(paper.CONDITIONS):
        if c in paper.PRINTED_CONDITIONS:
            ax.add_patch(Rectangle((j - 0.47, -0.45), 0.94, 0.9, fill=False, ec=ORANGE, lw=1.8, zorder=3))
    ax.grid(visible=False)
    ax.set_xticks(range(12), paper.CONDITIONS, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    fig.colorbar(image, ax=ax, location="top", shrink=0.7, aspect=30, label="change of macro F1, hundredths")
    return fig


def tasks_plot() -> Figure:
    """Return Fig. 12: the same model on emotions and on sentiment, each metric with its floor for that task."""
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.3), sharey=True)
    rows = ("balanced", "accuracy", "macro_f1", "auroc")
    for ax, task in zip(axes, paper.TASKS):
        emotions = task.classes == len(paper.CLASSES)
        for y, field in enumerate(rows):
            own = emotions and field in ("balanced", "accuracy")  # where the records and the text differ
            if own:
                ax.plot([getattr(task, field)], [y], **_CIRCLE)
            if emotions and field == "accuracy":
                ax.plot([paper.BY_KEY["full"].printed_accuracy or np.nan], [y], **_DIAMOND)
            if not own:
                ax.plot([getattr(task, field)], [y], **_DIAMOND)
        ax.plot([1 / task.classes], [0], marker="|", color=GREY, ms=16, mew=1.6, ls="none")
        ax.plot([0.5], [3], marker="|", color=GREY, ms=16, mew=1.6, ls="none")
        ax.set_title(f"{task.name}\n{task.samples:,} samples", fontsize=10)
        ax.set(xlim=(0, 1.04), xticks=[0, 0.5, 1])
    _rows(axes[0], ["balanced accuracy", "accuracy", "macro F1", "AUROC"])
    _key(fig)
    return fig


# --- What a reader takes away -----------------------------------------------------------------------------------------

# A mechanism, the arm that has it, the arm that lacks it, and the effect that the paper reports in its own metric.
MECHANISMS = (
    ("true rare samples added", "oracle_data", "no_diffusion", None), ("class weights", "no_diffusion", "focal", None),
    ("focal loss", "focal", "ce", None), ("augmentation", "no_diffusion", "no_augmentation", None),
    ("latent noise and KL", "no_diffusion", "no_vae", 0.022), ("KL alone", "no_diffusion", "noise_only", None),
    ("graph, not 1/3", "no_diffusion", "uniform", 0.050), ("acyclicity", "no_diffusion", "h_off", 0.059),
    ("prior, stopped", "full", "no_diffusion", 0.092), ("prior's gradient", "joint", "no_diffusion", -0.069),
    ("all, not TETFN", "full", "tetfn", 0.060),
)  # fmt: skip


def mechanisms(results: Results, read: Reading = evidence.BALANCED, printed: bool = True) -> list[Line]:
    """Return the effect of every mechanism on a reading, in three settings of the world, paired by seed."""
    lines = []
    for name, with_it, without, reported in MECHANISMS:
        effects = {}
        for s in evidence.SETTINGS:
            a, b = (evidence.side(arm, read=read).values(results, evidence.WORLD, s) for arm in (with_it, without))
            effects[s] = effect(compare(a, b), a - b)
        lines.append(Line(name, effects, paper=reported if printed else None))
    return lines


def bounds(results: Results) -> pd.DataFrame:
    """Return true balanced accuracy on test by setting, means over seeds: best constant, reference, oracle."""
    rows = {}
    for s in evidence.SETTINGS:
        runs = [r for r in results.records if (r.spec.arm, r.spec.data.name) == ("no_diffusion", f"imbalance_{s}")]
        found = [[r.bounds[b]["test"]["balanced_accuracy"] for r in runs] for b in ("floor", "ceiling")]
        reference = [evidence.BALANCED(r) for r in runs]
        rows[s] = [float(np.mean(np.array(x, float))) for x in (found[0], reference, found[1])]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["floor", "reference", "ceiling"])


def takeaway_plot(results: Results) -> Figure:
    """Return what each mechanism does for true balanced accuracy and for the recall of the three rarest classes.

    Below the left panel stands how far the reference lies above the best constant and below the oracle. Diamonds are
    the paper's effects, which are differences of its own metric on validation.
    """
    left, right = mechanisms(results), mechanisms(results, evidence.rare_recall, printed=False)
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 8.2), sharey=True)
    effects_plot(left, legend=False, xlabel="true balanced\naccuracy", wrap=14, ax=axes[0])
    effects_plot(right, legend=False, xlabel="recall of fear,\ndisgust, surprise", wrap=14, ax=axes[1])
    handles = effects_keys(left)
    fig.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1.0)
    said = "; ".join(
        f"{s} {b.reference - b.floor:.2f} and {b.ceiling - b.reference:.2f}" for s, b in bounds(results).iterrows()
    )
    fig.supxlabel(f"reference above its floor and below its ceiling:\n{said}", fontsize=10, color=GREY)
    return fig


# --- Pieces -----------------------------------------------------------------------------------------------------------


def _ours(ax: Axes, values: Floats, y: float) -> None:
    """Our seeds as dots, their mean as a triangle with its interval."""
    if not len(values):
        return
    ax.plot(values, y + np.linspace(-0.07, 0.07, len(values)), **_DOT)
    if len(values) > 1:
        ax.hlines(y, *t_interval(values), color=GREEN, lw=2)
    ax.plot([values.mean()], [y], **_TRIANGLE)


def _reach(ax: Axes, axis: Literal["x", "y"], ours: Sequence[Floats]) -> None:
    """Widen an axis whose limits were set for the paper's numbers until it holds ours."""
    values = np.concatenate(ours)
    low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
    if not len(values) or (low <= values.min() and values.max() <= high):
        return
    edge = 0.05 * (high - low)
    ends = min(low, values.min() - edge), max(high, values.max() + edge)
    if axis == "x":
        ax.set_xlim(*ends)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    else:
        ax.set_ylim(*ends)


def _band(ax: Axes, ours: pd.DataFrame | None, column: str, color: str) -> None:
    """Mean over our seeds with its interval as a band, of a column over epochs."""
    if ours is None or column not in ours:
        return
    by_epoch = ours.pivot_table(index="epoch", columns="seed", values=column)
    ax.plot(by_epoch.index, by_epoch.mean(axis=1), color=color, lw=2.6, alpha=0.5)
    if by_epoch.shape[1] > 1:
        low, high = np.array([t_interval(row) for row in by_epoch.to_numpy()]).T
        ax.fill_between(by_epoch.index, low, high, color=color, alpha=0.18, lw=0)


def _around(values: Sequence[float]) -> tuple[float, float]:
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    return mean - sd, mean + sd


def _shades(ax: Axes, values: Floats, shade: Floats, cmap: str, low: float, high: float, form: str) -> None:
    ax.imshow(shade, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    for i, j in np.ndindex(values.shape):
        text = "0" if values[i, j] == 0 else format(values[i, j], form).replace("0.", ".")
        ax.text(j, i, text, ha="center", va="center", fontsize=9.5, color="white" if shade[i, j] > 0.65 else "black")
    ax.grid(visible=False)


def _rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.grid(visible=False, axis="y")


def _key(fig: Figure, interval: bool = False, ours: bool = False) -> None:
    """What the marks mean, above the panels."""
    marks: list[tuple[dict[str, Any], str]] = [
        (_DIAMOND, "printed"),
        ({**_CIRCLE, **({"ls": "-", "lw": 2.2} if interval else {})}, "author's records"),
    ]
    marks += [(_TRIANGLE, "ours")] if ours else []
    handles = [Line2D([], [], label=label, **look) for look, label in marks]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(marks))


def _canvas(height: float, xmax: float, ymax: float) -> tuple[Figure, Axes]:
    fig, ax = plt.subplots(figsize=(WIDTH, height))
    ax.set(xlim=(0, xmax), ylim=(0, ymax))
    ax.axis("off")
    return fig, ax


def _box(ax: Axes, x: float, y: float, w: float, h: float, text: str, color: str = "black", ls: str = "-") -> None:
    box = FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0,rounding_size=.15", fc="white", ec=color,
                         lw=1.6, ls=ls)  # fmt: skip
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", fontsize=10, color=color if color == GREY else "black")


def _arrow(ax: Axes, a: tuple[float, float], b: tuple[float, float], color: str = "#333333", ls: str = "-") -> None:
    ax.add_patch(
        FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=11, color=color, ls=ls, lw=1.3, shrinkA=0, shrinkB=0)
    )
