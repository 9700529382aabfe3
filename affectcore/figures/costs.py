"""What models cost: the recorded benchmarks, or a few measured now, and the pictures of them."""

import json
from dataclasses import asdict
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from affectcore.errors import StoreError
from affectcore.figures.style import GREY, PALETTE, WIDTH, name_points
from affectcore.models import registry
from affectcore.studies.results import results_folder
from affectcore.training.bench import cases, run_benchmarks

QUICK = ("mlp_clean", "late_fusion_clean", "lmf", "lmf_clean")


def benchmarks(profile: str) -> pd.DataFrame:
    """Return the benchmarks, one row each: those recorded in results/costs.json, or a few measured now.

    Columns: the fields of `affectcore.training.bench.Benchmark`, of its case (model, preset, part, batch, shape), and
    of the record (date, device, torch). Raises StoreError if nothing is recorded.
    """
    if profile == "committed":
        path = results_folder() / "costs.json"
        if not path.is_file():
            raise StoreError(f"{path} is missing: python benchmarks/models.py writes it")
        rows = json.loads(path.read_text())["rows"]
    else:
        rows = [asdict(b) for b in run_benchmarks(QUICK, rounds=2)]
    known = cases()
    table = pd.DataFrame([row for row in rows if row["name"] in known])
    for field in ("model", "preset", "part", "batch", "shape"):
        table[field] = [getattr(known[name], field) for name in table["name"]]
    order = {name: i for i, name in enumerate(registry.MODELS)}
    return table.sort_values("model", key=lambda c: c.map(order), kind="stable").reset_index(drop=True)


def throughput_plot(table: pd.DataFrame) -> Axes:
    """Return axes with one row a benchmark: ours, the naive form where there is one, the arithmetic bound."""
    _, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.25 * len(table)))
    y = np.arange(len(table))
    ax.hlines(y, table["samples_per_s"], table["bound_samples_per_s"], color="#C8C8C8", lw=1.2, zorder=1)
    ax.plot(table["bound_samples_per_s"], y, "|", color=GREY, ms=10, ls="none", label="bound by its products")
    ax.plot(
        table["naive_samples_per_s"], y, "D", mfc="white", mec=PALETTE[1], ms=6, mew=1.4, ls="none", label="naive form"
    )
    ax.plot(table["samples_per_s"], y, "o", color=PALETTE[0], ms=6, ls="none", label="affectcore")
    ax.set(xscale="log", xlabel="samples per CPU second, one thread")
    _rows(ax, table["name"])
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=1)
    return ax


def ratio_plot(table: pd.DataFrame, targets: dict[str, float] | None = None) -> Axes:
    """Return axes with the ratio to the naive form, the range over rounds, and targets as hollow diamonds."""
    table = table[table["ratio"].notna()].sort_values("ratio", ascending=False)
    _, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.27 * len(table)))
    y = np.arange(len(table))
    ax.hlines(y, table["ratio_low"], table["ratio_high"], color=PALETTE[0], lw=2.2)
    ax.plot(table["ratio"], y, "o", color=PALETTE[0], ms=6, ls="none")
    for row, name in zip(y, table["name"]):
        if targets and name in targets:
            ax.plot([targets[name]], [row], "D", mfc="white", mec=PALETTE[1], ms=7, mew=1.6)
    ax.axvline(1, color=GREY, ls=":", lw=1.2)
    ax.set(xscale="log", xlabel="times the naive form's speed")
    low, high = ax.get_xlim()
    ticks = [x for x in (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if low <= x <= high]
    ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.minorticks_off()
    _rows(ax, table["name"])
    return ax


def size_plot(table: pd.DataFrame, parameters: dict[str, int]) -> Axes:
    """Return axes with parameters against throughput of the clean presets' steps; every point carries its name.

    Wrappers are left out: their size is that of the model they wrap.
    """
    alone = ~table["model"].map(lambda m: hasattr(registry.config(m), "backbone"))
    table = table[(table["preset"] == "clean") & table["part"].isna() & alone].drop_duplicates("model")
    fig, ax = plt.subplots(figsize=(WIDTH, 6.4))
    x, y = np.log10([parameters[m] for m in table["model"]]), np.log10(table["samples_per_s"].to_numpy())
    ax.plot(10**x, 10**y, "o", color=PALETTE[0], ms=5, ls="none")
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="samples per CPU second")
    ax.set_xlim(right=10 ** (x.max() + 0.5))
    fig.draw_without_rendering()
    name_points(ax, table["model"].tolist(), 10**x, 10**y)
    return ax


def seeds_plot(rows: list[dict[str, Any]]) -> Axes:
    """Return axes with what ten seeds cost against one: stacked, and in processes, one row a model."""
    rows = sorted(rows, key=lambda r: float(r["cost_stacked"]))
    _, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.27 * len(rows)))
    y = np.arange(len(rows))
    for column, name, marker, color in (
        ("cost_stacked", "stacked", "o", PALETTE[0]),
        ("cost_processes", "two processes", "s", PALETTE[1]),
    ):
        ax.plot([r[column] for r in rows], y, marker, color=color, ms=6, ls="none", label=name)
    ax.axvline(rows[0]["seeds"], color=GREY, ls=":", lw=1.2)
    ax.set(xlabel=f"cost of {rows[0]['seeds']} seeds, in units of one")
    _rows(ax, [r["model"] for r in rows])
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return ax


def _rows(ax: Axes, names: Any) -> None:
    names = list(names)
    ax.set_yticks(np.arange(len(names)), names)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
