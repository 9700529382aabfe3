"""Write a report as one self-contained page: style and pictures inside, nothing loaded, every given name escaped."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from affectcore.audit.tables import Calibration, Report, Value
from affectcore.audit.text import PAIR_COLUMNS, floor, intervals, pair_cells, value
from affectcore.errors import DataError

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #595959; --page: #fff; --panel: #f6f6f4; --line: #d9d9d4;
  --first: #0072b2; --second: #b34700; --seed: #56b4e9; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --soft: #b0b0b0; --page: #161718; --panel: #202224;
  --line: #3b3e41; --first: #7cc4f0; --second: #f0a35e; --seed: #4a86a8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; margin: .5rem 0; }
li { margin: .25rem 0; }
.soft { color: var(--soft); }
.warn { border-left: .3rem solid var(--second); background: var(--panel); padding: .25rem 1rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
.scroll:focus { outline: 2px solid var(--first); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .35rem .7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
td.wide { white-space: normal; min-width: 14rem; color: var(--soft); }
thead th { background: var(--panel); }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 600; white-space: normal; min-width: 7.5rem; }
.slip { color: var(--second); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem;
  margin: 1rem 0; }
.figures.pairs { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem; }
figcaption { font-size: .875rem; margin-bottom: .3rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; max-width: 30rem; }
svg.square { max-width: 20rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; paint-order: stroke; stroke: var(--panel);
  stroke-width: 4px; }
svg .tick { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); }
svg .floor { stroke: var(--soft); stroke-dasharray: 2 3; stroke-width: 1.5; }
svg .bar { stroke: var(--first); stroke-width: 3; stroke-linecap: round; }
svg .dot { fill: var(--first); }
svg .seed { fill: var(--seed); }
svg .path { stroke: var(--first); stroke-width: 2; fill: none; }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write(report: Report, path: Path) -> None:
    """Write the page. Raises DataError where the file cannot be written."""
    try:
        path.write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def page(report: Report) -> str:
    """Return the page as HTML."""
    parts = [f"<h1>Audit of {escape(report.file)}</h1>", _list(report.read)]
    if report.warnings:
        parts.append(f'<section class="warn"><h2>Warnings</h2>{_list(report.warnings)}</section>')
    parts += [
        "<h2>Metrics</h2>",
        _note(f"Mean over seeds with its 95 % interval ({intervals(report)}). The floor is the value of the best "
              f"constant prediction, chosen on these same items. A slip is a published mistake in computing a metric, "
              f"shown for comparison."),
        _metrics(report),
        _list(report.findings),
        _figures(_interval_figure(report, name) for name in report.headlines),
    ]  # fmt: skip
    if report.pairs:
        parts += [
            "<h2>Pairs of models</h2>",
            _note("On the same seeds and items; a positive difference means that the first model is better. Interval "
                  "and p are from the paired bootstrap; Holm corrects p over the pairs of one metric. The p of seeds "
                  "only says nothing about other items. Detectable: the true difference found with power .8."),
            _pairs(report),
        ]  # fmt: skip
    parts += ["<h2>What these data resolve</h2>", _list(report.resolution)]
    if report.calibration:
        parts += ["<h2>Calibration</h2>", _calibration(report.calibration)]
        parts.append(_figures(_reliability_figure(c) for c in report.calibration))
    parts += ["<h2>The same predictions, other numbers</h2>", _list(t.sentence for t in report.traps)]
    parts.append('<p class="soft">Made by affectcore audit.</p>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {escape(report.file)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


# --- lists and tables ----------------------------------------------------------------------------------------------


def _note(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(label: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that scrolls inside its box; cells are HTML already, the first of a row is its header."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row[1:])
        + "</tr>" for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _metrics(report: Report) -> str:
    known = {(v.metric, v.model): v for v in report.metrics}
    rows = []
    for name in dict.fromkeys(v.metric for v in report.metrics):
        cells = [known.get((name, m)) for m in report.models]
        some = next(v for v in cells if v is not None)
        label = escape(name).replace("_", "_<wbr>") + (' <span class="slip">slip</span>' if some.slip else "")
        shown = ["-" if v is None else escape(value(v)) for v in cells]
        note = "; ".join(dict.fromkeys(v.note for v in cells if v is not None and v.note))
        convention = escape(some.convention + (f" ({note})" if note else ""))
        rows.append([label, escape(floor(some)), *shown, f'<td class="wide">{convention}</td>'])
    return _table("Metrics", ["metric", "floor (constant)", *report.models, "convention"], rows)


def _pairs(report: Report) -> str:
    cells = [[escape(c) for c in pair_cells(p)] for p in report.pairs]
    for row in cells:
        row[0] = row[0].replace("_", "_<wbr>")
    used = [i for i in range(len(PAIR_COLUMNS)) if any(row[i] != "-" for row in cells)]
    return _table("Pairs of models", [PAIR_COLUMNS[i] for i in used], [[row[i] for i in used] for row in cells])


def _calibration(rows: Sequence[Calibration]) -> str:
    cells = [
        [escape(c.model), f"{c.ece:.3f}", f"{c.nll:.3f} ({c.floor_nll:.3f})", f"{c.brier:.3f} ({c.floor_brier:.3f})"]
        for c in rows
    ]
    note = _note("Mean over seeds; in brackets the class shares of these items as forecast. ECE depends on the number "
                 "of bins and is biased upwards on few items.")  # fmt: skip
    return note + _table("Calibration", ["model", f"ECE ({rows[0].bins} bins of equal width)", "NLL", "Brier"], cells)


# --- pictures ------------------------------------------------------------------------------------------------------


def _figures(figures: Iterable[str]) -> str:
    drawn = list(figures)
    kind = "figures pairs" if len(drawn) % 2 == 0 else "figures"
    return f'<div class="{kind}">{"".join(drawn)}</div>'


def _svg(caption: str, told: str, width: int, height: int, body: str) -> str:
    shape = ' class="square"' if width < 300 else ""
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><svg{shape} viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(told)}"><title>{escape(told)}</title>{body}</svg></figure>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round values within the range."""
    raw = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(k * size for k in (1, 2, 5, 10) if k * size >= raw)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _interval_figure(report: Report, name: str) -> str:
    """Draw one metric: a row per model with its interval, its mean and its seeds; the floor as a dotted line."""
    rows = [v for v in report.metrics if v.metric == name]
    known = [v for v in rows if not math.isnan(v.value)]
    told = [f"{v.model} {value(v)}" for v in rows]
    floors = [v.floor for v in rows[:1] if not math.isnan(v.floor)]
    marks = [x for v in known for x in (*v.by_seed, *(v.interval or ()))] + floors
    told += [f"best constant {x:.3f}" for x in floors]
    better = "higher is better" if rows[0].higher_is_better else "lower is better"
    caption, label = f"{name}, {better}", f"{name}: {'; '.join(told)}"
    if not marks:
        return _svg(caption, label, 360, 30, '<text x="8" y="20">not defined</text>')
    low, high = min(marks), max(marks)
    pad = 0.06 * (high - low or 1.0)
    low, high = low - pad, high + pad
    left, right, top, step = 12.0, 348.0, 20.0, 44.0
    bottom = top + step * len(rows)

    def x(v: float) -> str:
        return f"{left + (right - left) * (v - low) / (high - low):.1f}"

    out = []
    for tick in _ticks(low, high):
        out.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{top}" y2="{bottom}"/>')
        out.append(f'<text class="tick" x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{tick:.3g}</text>')
    for f in floors:
        anchor = "start" if f < (low + high) / 2 else "end"
        out.append(f'<line class="floor" x1="{x(f)}" x2="{x(f)}" y1="{top - 4}" y2="{bottom}"/>')
        out.append(f'<text class="tick" x="{x(f)}" y="{top - 8}" text-anchor="{anchor}">best constant</text>')
    for i, v in enumerate(rows):
        y = top + step * (i + 0.7)
        out.append(f'<text x="{left}" y="{y - 13:.1f}">{escape(_short(v.model))}</text>')
        out.append(
            _marks(v, x, y) if v in known else f'<text class="tick" x="{left}" y="{y + 5:.1f}">not defined</text>'
        )
    return _svg(caption, label, 360, int(bottom + 24), "".join(out))


def _marks(v: Value, x: Callable[[float], str], y: float) -> str:
    out = []
    if v.interval is not None:
        low, high = v.interval
        out.append(f'<line class="bar" x1="{x(low)}" x2="{x(high)}" y1="{y:.1f}" y2="{y:.1f}"/>')
    if len(v.by_seed) > 1:
        out += [f'<circle class="seed" cx="{x(one)}" cy="{y + 7:.1f}" r="2"/>' for one in v.by_seed]
    out.append(f'<circle class="dot" cx="{x(v.value)}" cy="{y:.1f}" r="5"/>')
    return "".join(out)


def _short(name: str) -> str:
    return name if len(name) <= 44 else name[:41] + "..."


def _reliability_figure(c: Calibration) -> str:
    """Draw the reliability of one model: mean outcome against mean probability, a bin a point, its area its share."""
    left, top, side = 40.0, 10.0, 230.0

    def x(v: float) -> str:
        return f"{left + side * v:.1f}"

    def y(v: float) -> str:
        return f"{top + side * (1 - v):.1f}"

    out = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{y(0)}" y2="{y(1)}"/>')
        out.append(f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(tick)}" y2="{y(tick)}"/>')
        out.append(f'<text class="tick" x="{x(tick)}" y="{top + side + 16}" text-anchor="middle">{tick:g}</text>')
        out.append(f'<text class="tick" x="{left - 5}" y="{float(y(tick)) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    out.append(f'<line class="ideal" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    points = list(zip(c.confidence, c.outcome, c.count))
    path = " ".join(f"{x(p)},{y(o)}" for p, o, _ in points)
    out.append(f'<polyline class="path" points="{path}"/>')
    whole = sum(c.count)
    for p, o, n in points:
        out.append(f'<circle class="dot" cx="{x(p)}" cy="{y(o)}" r="{2.5 + 9 * math.sqrt(n / whole):.1f}"/>')
    out.append(
        f'<text class="tick" x="{left + side / 2}" y="{top + side + 34}" text-anchor="middle">probability</text>'
    )
    told = ", ".join(f"{p:.2f} to {o:.2f}" for p, o, _ in points)
    label = f"Reliability of {c.model}: mean probability to share that was right, bin by bin: {told}"
    return _svg(f"{c.model}: share that was right, by probability (all seeds)", label, 290, 285, "".join(out))
