"""The arena's tables and pictures: losses by block, ranks, distance to the ceiling, cost against robustness.

    found = board(results.table)
    ranking_plot(found.rank())

A loss is what a model wants small: the mean absolute error, or 1 - balanced accuracy where there are classes. A block
is a data set x a stressor; the conditions of a stressor are averaged first, so that four missing rates do not outvote
one shift. Missing rates count by the mean height of the curve from 0 to the largest rate.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affectcore.errors import ConfigError, StoreError
from affectcore.evaluation.inputs import Floats
from affectcore.evaluation.ranks import Ranking, mean_ranks, rank
from affectcore.evaluation.robustness import mean_height
from affectcore.figures.style import GREY, MARKERS, PALETTE, WIDTH, name_points
from affectcore.studies.arena.score import LABEL, LEXICAL
from affectcore.studies.arena.study import MISSING, NOISE, RATES, STUDY, WITHOUT
from affectcore.studies.store import RunRecord

PAPERS = ("affect_diff", "cmir", "lddu", "cider", "rohydr")
STRESSORS = {
    "clean": ("clean",), "a modality lost": tuple(c.name for c in WITHOUT),
    "missing rates": tuple(c.name for c in MISSING), "noise": tuple(c.name for c in NOISE),
    LABEL: (LABEL,), LEXICAL: (LEXICAL,),
}  # fmt: skip


@dataclass(frozen=True)
class Board:
    """losses (seeds, blocks, models); blocks: (data, stressor). What lacks a block is no model of the board."""

    models: tuple[str, ...]
    blocks: tuple[tuple[str, str], ...]
    losses: Floats

    def rank(self) -> Ranking:
        """Return the ranking over all blocks."""
        return rank(self.losses, self.models)

    def of(self, stressor: str) -> pd.Series:
        """Return the mean rank of every model over the blocks of one stressor."""
        chosen = [i for i, (_, s) in enumerate(self.blocks) if s == stressor]
        if not chosen:
            raise ConfigError(f"board: stressor {stressor!r} is unknown: use {', '.join({s for _, s in self.blocks})}")
        return pd.Series(mean_ranks(self.losses.mean(0)[chosen]), index=list(self.models))


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Return the test losses of a study's table, one row per arm, data, condition and seed, with floor and ceiling.

    Balanced accuracies become 1 - value, floor and ceiling with them.
    """
    t = table[table["split"] == "test"].copy()
    if t.empty:
        raise StoreError("arena: the table has no scores of a test part")
    turned = t["metric"] == "balanced_accuracy"
    for column in ("value", "floor", "ceiling"):
        t[column] = t[column].where(~turned, 1 - t[column])
    return t


def board(table: pd.DataFrame) -> Board:
    """Return the board of a table. Raises StoreError where a model lacks seeds that another has."""
    wide = losses(table).pivot_table(index="seed", columns=["data", "condition", "arm"], values="value", dropna=False)
    models = tuple(dict.fromkeys(table["arm"]))
    blocks, columns = [], []
    for data in dict.fromkeys(table["data"]):
        there = set(wide[data].columns.get_level_values("condition"))
        for stressor, names in STRESSORS.items():
            found = [c for c in names if c in there and wide[data][c].notna().to_numpy().any()]
            if not found:
                continue
            each = np.stack([wide[data][c].reindex(columns=models).to_numpy() for c in found], -1)  # (S, M, C)
            if stressor == "missing rates":
                clean = wide[data]["clean"].reindex(columns=models).to_numpy()[..., None]
                value = (
                    mean_height([0.0, *RATES], np.concatenate([clean, each], -1))
                    if np.isfinite(each).all()
                    else (np.full(each.shape[:2], np.nan))
                )
            else:
                value = each.mean(-1)
            blocks.append((data, stressor))
            columns.append(value)
    values = np.stack(columns, 1)
    for m, name in enumerate(models):
        if not np.isfinite(values[..., m]).all():
            block = blocks[int(np.argwhere(~np.isfinite(values[..., m]))[0][1])]
            raise StoreError(f"arena: {name} lacks seeds or conditions on {block[0]}, {block[1]}")
    return Board(models, tuple(blocks), values)


def distance(table: pd.DataFrame, records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return how far each model is from the best possible, (models, (data, condition)).

    On a world: (loss - ceiling) / (floor - ceiling), 0 the Bayes-optimal predictor under the same condition (under
    noise: on clean samples), 1 the best constant. On a real set, where no ceiling is known: loss / own clean loss - 1.
    """
    t = losses(table)
    known: dict[tuple[str, int, str], float] = {}
    for r in records:
        turned = "balanced_accuracy" in r.metrics["test"]["clean"]
        for condition, value in dict(r.extra.get("ceiling", {})).items():
            known[r.spec.data.name, r.spec.seed, condition] = 1 - value if turned else value
    exact = [known.get((d, s, c), np.nan) for d, s, c in zip(t["data"], t["seed"], t["condition"])]
    t["best"] = pd.Series(exact, index=t.index, dtype=float).fillna(t["ceiling"])
    mean = t.groupby(["arm", "data", "condition"], sort=False)[["value", "floor", "best"]].mean()
    of_world = (mean["value"] - mean["best"]) / (mean["floor"] - mean["best"])
    clean = mean["value"].xs("clean", level="condition")
    own = mean["value"] / clean.reindex(mean.index.droplevel("condition")).to_numpy() - 1
    return of_world.fillna(own).unstack(["data", "condition"])


def costs(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return parameters (largest over data) and samples per CPU second in training (median over runs), by model."""
    rows = [(r.spec.arm, r.parameters, r.extra.get("samples_per_s", np.nan)) for r in records]
    found = pd.DataFrame(rows, columns=["arm", "parameters", "samples_per_s"])
    return found.groupby("arm", sort=False).agg({"parameters": "max", "samples_per_s": "median"})


def standings(found: Board, ranking: Ranking, cost: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the page, best first: rank with interval, rank under each stressor, cost."""
    made = pd.DataFrame({"model": ranking.models, "rank": ranking.mean})
    made[["low", "high"]] = ranking.interval
    for s in dict.fromkeys(s for _, s in found.blocks):
        made[s] = found.of(s).reindex(made["model"]).to_numpy()
    return made.merge(cost, left_on="model", right_index=True, how="left").set_index("model")


def download(table: pd.DataFrame, name: str, text: str) -> str:
    """Return a link (HTML) that holds the table as CSV, so that it works offline and in a downloaded notebook."""
    content = base64.b64encode(table.to_csv(float_format="%.4g").encode()).decode()
    return f'<a download="{name}" href="data:text/csv;base64,{content}">{text}</a>'


def sortable(table: pd.DataFrame) -> str:
    """Return the table as HTML, numbers with one digit after the point, whose columns sort on the site (sort.js)."""
    flat = table.reset_index()
    text = flat.to_html(index=False, border=0, float_format=lambda x: f"{x:,.1f}", na_rep="")
    return f'<div class="sortable">{text}</div>'


# --- pictures ------------------------------------------------------------------------------------------------------


def ranking_plot(found: Ranking, names: dict[str, str] | None = None) -> Axes:
    """Return axes with a row a model, best on top: mean rank, interval over seeds, a bar per clique on the right."""
    n = len(found.models)
    _, ax = plt.subplots(figsize=(WIDTH, 1.0 + 0.21 * n))
    rows = np.arange(n)
    for row, model in enumerate(found.models):
        color, marker = (PALETTE[1], "D") if model in PAPERS else (PALETTE[0], "o")
        ax.hlines(row, *found.interval[row], color=color, lw=2)
        ax.plot(found.mean[row], row, marker, color=color, ms=5)
    right = max(float(found.interval.max()), float(found.mean.max()))
    step = 0.03 * right
    ends: list[int] = []  # last row of each lane of bars
    for first, last in found.cliques:
        lane = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        ax.vlines(right + step * (lane + 1.5), first - 0.3, last + 0.3, color=GREY, lw=2.2)
    ax.set_yticks(rows, [(names or {}).get(m, m) for m in found.models], fontsize=9)
    ax.set_ylim(n - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xticks(range(0, n + 1, 10 if n > 20 else 5 if n > 10 else 1))
    ax.set_xlabel(f"mean rank over {found.blocks} blocks, 1 is best")
    return ax


def distance_plot(table: pd.DataFrame, order: Sequence[str], data: str) -> Axes:
    """Return a heat table of one data set, a row a model: `distance` printed in hundredths, dark is far."""
    if data not in table.columns.get_level_values(0):
        raise ConfigError(f"distance_plot: no data {data!r}, there are {', '.join(table.columns.levels[0])}")
    part = table.loc[list(order), data]
    part = part[[c.name for c in STUDY.conditions if c.name in part and part[c.name].notna().any()]]
    values = part.to_numpy()
    top = max(float(np.nanquantile(values, 0.97)), 1e-9)
    _, ax = plt.subplots(figsize=(WIDTH + 0.6, 1.5 + 0.21 * len(order)))
    ax.imshow(values, cmap="cividis_r", vmin=0, vmax=top, aspect="auto")
    for (i, j), v in np.ndenumerate(values):
        if np.isfinite(v):
            color = "white" if v > 0.55 * top else "black"
            ax.text(j, i, str(round(100 * v)), ha="center", va="center", fontsize=8, color=color)
    ax.set_xticks(range(part.shape[1]), list(part.columns), rotation=90, fontsize=9)
    ax.set_yticks(range(len(order)), list(order), fontsize=9)
    ax.grid(visible=False)
    return ax


def cost_plot(cost: pd.DataFrame, robustness: pd.Series, ylabel: str) -> Figure:
    """Return two panels, parameters and training samples per CPU second against robustness (low is better).

    The five papers' models and those that nothing beats in both are named.
    """
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 6.4))
    rows = cost.join(robustness.rename("y"), how="inner")
    if rows.empty:
        raise ConfigError("cost_plot: costs and robustness name no model in common")
    drawn = []
    for ax, column, sign, label in (
        (axes[0], "parameters", 1, "trainable parameters"),
        (axes[1], "samples_per_s", -1, "training samples per CPU second"),
    ):
        part = rows[(rows[column] > 0) & rows["y"].notna()]
        x, y = part[column].to_numpy(float), part["y"].to_numpy(float)
        named = []
        for name, a, b in zip(part.index, x, y):
            paper = name in PAPERS
            ax.plot(a, b, MARKERS[3] if paper else MARKERS[0], color=PALETTE[1] if paper else PALETTE[0], ms=6)
            best = not ((sign * x <= sign * a) & (y <= b) & ((x != a) | (y != b))).any()
            named.append(name if paper or best else "")
        ax.set(xscale="log", xlabel=label, ylabel=ylabel)
        ax.set_xlim(right=1.6 * x.max())  # room for a name
        drawn.append((ax, named, x, y))
    fig.draw_without_rendering()
    for ax, named, x, y in drawn:
        name_points(ax, named, x, y, 9)
    return fig
