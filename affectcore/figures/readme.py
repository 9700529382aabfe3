"""The README's picture and table of verdicts, from the committed claims ledger: `make readme` writes both.

Nothing is computed: the ledger's notebook carries its findings as JSON, so README, site and claims.json agree.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from affectcore.errors import ConfigError
from affectcore.figures.badge import COLOURS, NAMES
from affectcore.figures.effects import STATUSES
from affectcore.figures.ledger import MIME

BEGIN, END = "<!-- verdicts: written by `make readme` -->\n", "<!-- end of verdicts -->"
PICTURE = Path("book/_static/verdicts.svg")
LEDGER = Path("book/appendix/claims_ledger.ipynb")
Counts = Mapping[str, Mapping[str, int]]  # study -> verdict -> findings


def counts(notebook: Path) -> Counts:
    """Return the findings by study and verdict of an executed ledger. Raises ConfigError if it carries none."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs: list[dict[str, Any]] = [o.get("data", {}) for c in cells for o in c.get("outputs", ())]
    found: Sequence[Mapping[str, str]] = next((o[MIME] for o in outputs if MIME in o), ())
    if not found:
        raise ConfigError(f"{notebook}: no output of type {MIME}; `make refresh CHAPTER=appendix/claims_ledger`")
    by = {name: Counter(f["status"] for f in found if f["paper"] == name) for name in NAMES}
    return {name: dict(c) for name, c in by.items() if c}


def table(by: Counts) -> str:
    """Return a Markdown table: one row a study, one column a verdict that occurs."""
    used = [s for s in STATUSES if any(s in c for c in by.values())]
    rows = [["findings on", *used, "in all"], ["---", *["---:"] * (len(used) + 1)]]
    for name, c in by.items():
        rows.append([NAMES[name], *(str(c.get(s, 0)) for s in used), str(sum(c.values()))])
    return "".join(f"| {' | '.join(r)} |\n" for r in rows)


LEFT, BAR, ROW, WIDTH = 168, 22, 34, 760  # pixels


def picture(by: Counts) -> str:
    """Return the same as an SVG of stacked bars, readable on light and on dark ground."""
    used = [s for s in STATUSES if any(s in c for c in by.values())]
    scale = (WIDTH - LEFT - 10) / max(sum(c.values()) for c in by.values())
    parts, at = [], float(LEFT)
    for s in used:
        parts.append(f'<rect x="{at:.0f}" y="6" width="12" height="12" fill="{_colour(s)}"/>')
        parts.append(f'<text class="t" x="{at + 17:.0f}" y="16">{s}</text>')
        at += 17 + 7.2 * len(s) + 22
    for i, (name, c) in enumerate(by.items()):
        y, x = 30 + ROW * i, float(LEFT)
        parts.append(f'<text class="t" x="{LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(NAMES[name])}</text>')
        for s in used:
            if n := c.get(s, 0):
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{scale * n - 1.5:.1f}" height="{BAR}" fill="{_colour(s)}"/>'
                )
                parts.append(
                    f'<text x="{x + scale * n / 2:.1f}" y="{y + 16}" text-anchor="middle" fill="{_ink(s)}">{n}</text>'
                )
                x += scale * n
    said = "; ".join(f"{NAMES[n]}: " + ", ".join(f"{c[s]} {s}" for s in used if s in c) for n, c in by.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {30 + ROW * len(by)}" role="img" '
        f'aria-label="Findings by study and verdict. {escape(said)}" font-family="Verdana,DejaVu Sans,sans-serif" '
        'font-size="12"><style>.t{fill:#24292f}@media(prefers-color-scheme:dark){.t{fill:#d0d7de}}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _colour(status: str) -> str:
    """A badge's colour, but three greys where a badge has words enough to tell them apart."""
    greys = {"not testable here": "#7d7d7d", "open": "#d0d0d0"}
    return greys.get(status, COLOURS[status.partition(" ")[0]])


def _ink(status: str) -> str:
    return "#24292f" if status == "open" else "#fff"


def text(readme: str, by: Counts) -> str:
    """Return the README with the table between its marks. Raises ConfigError if a mark is not there."""
    for mark in (BEGIN, END):
        if readme.count(mark) != 1:
            raise ConfigError(f"README.md: the mark {mark.strip()!r} must stand there once")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(by)}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write both in the current folder, the root of the repository."""
    by, readme = counts(LEDGER), Path("README.md")
    PICTURE.write_text(picture(by), encoding="utf-8")
    readme.write_text(text(readme.read_text(encoding="utf-8"), by), encoding="utf-8")


if __name__ == "__main__":
    main()
