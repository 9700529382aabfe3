"""Show a report in a terminal, or as plain text where the output is no terminal."""

import math
from collections.abc import Iterable, Sequence
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from affectcore.audit.tables import Calibration, Pair, Report, Value
from affectcore.audit.words import p_value, signed

BESIDE = 3  # models side by side; more go into further tables


def show(report: Report, file: IO[str] | None = None) -> None:
    """Print the report to `file` (default: the standard output)."""
    console = Console(file=file, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:  # in a file or pipe nothing is cut to a terminal's width
        console = Console(file=file, markup=False, highlight=False, emoji=False, width=150)
    _lines(console, "What was read", report.read)
    _lines(console, "Warnings", report.warnings)
    console.print(
        f"\nMetrics: mean over seeds, 95 % interval ({intervals(report)}), floor: best constant on these items"
    )
    for k in range(0, len(report.models), BESIDE):
        console.print(_metrics(report, report.models[k : k + BESIDE]))
    _lines(console, "Against constants", report.findings)
    if report.pairs:
        console.print("\nPairs of models, on the same seeds and items: positive means the first is better")
        console.print(_pairs(report.pairs))
    _lines(console, "What these data resolve", report.resolution)
    if report.calibration:
        console.print("\nCalibration (in brackets: the class shares as forecast)")
        console.print(_calibration(report.calibration))
    _lines(console, "The same predictions, other numbers", [t.sentence for t in report.traps])


def intervals(report: Report) -> str:
    """Return how the intervals came about."""
    units = "groups" if report.groups is not None and report.groups > 1 else "items"
    return f"hierarchical bootstrap over seeds x {units}, {report.draws:,} draws"


def value(v: Value) -> str:
    """Return a value with its interval."""
    if math.isnan(v.value):
        return "not defined"
    return f"{v.value:.3f}" + ("" if v.interval is None else f" [{v.interval[0]:.3f}, {v.interval[1]:.3f}]")


def floor(v: Value) -> str:
    """Return the floor with its constant."""
    return "not defined" if math.isnan(v.floor) else f"{v.floor:.3f} ({v.floor_constant})"


def pair_cells(p: Pair) -> tuple[str, ...]:
    """Return the cells of a pair under PAIR_COLUMNS."""
    seeds = "-" if p.p_seeds is None else p_value(p.p_seeds)
    mcnemar = "-" if p.p_mcnemar is None else p_value(p.p_mcnemar)
    interval = f"[{signed(p.interval[0])}, {signed(p.interval[1])}]"
    wins = f"{p.wins} of {p.seeds}"
    return (
        p.metric, f"{p.a} - {p.b}", signed(p.difference), interval, p_value(p.p), p_value(p.p_holm), seeds, mcnemar,
        wins, f"{p.mde:.3f}",
    )  # fmt: skip


PAIR_COLUMNS = (
    "metric", "pair", "difference", "95 % interval", "p", "p (Holm)", "p (seeds only)", "p (McNemar)", "seeds won",
    "detectable",
)  # fmt: skip


def _lines(console: Console, title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        console.print(f"\n{title}")
        for line in lines:
            if console.is_terminal:
                console.print(Padding(line, (0, 0, 0, 2)))
            else:
                console.print(f"  {line}", soft_wrap=True)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _metrics(report: Report, models: Sequence[str]) -> Table:
    names = list(dict.fromkeys(v.metric for v in report.metrics))
    known = {(v.metric, v.model): v for v in report.metrics}
    rows = []
    for name in names:
        cells = [known.get((name, m)) for m in models]
        some = next((v for v in cells if v is not None), None)
        if some is not None:
            label = f"{name} (slip)" if some.slip else name
            rows.append((label, floor(some), *("-" if v is None else value(v) for v in cells), some.convention))
    return _table(("metric", "floor", *models, "convention"), rows)


def _pairs(pairs: Sequence[Pair]) -> Table:
    cells = [pair_cells(p) for p in pairs]
    used = [i for i in range(len(PAIR_COLUMNS)) if any(row[i] != "-" for row in cells)]
    return _table([PAIR_COLUMNS[i] for i in used], [[row[i] for i in used] for row in cells])


def _calibration(rows: Sequence[Calibration]) -> Table:
    cells = [
        (c.model, f"{c.ece:.3f}", f"{c.nll:.3f} ({c.floor_nll:.3f})", f"{c.brier:.3f} ({c.floor_brier:.3f})")
        for c in rows
    ]
    return _table(("model", f"ECE ({rows[0].bins} bins of equal width)", "NLL", "Brier"), cells)
