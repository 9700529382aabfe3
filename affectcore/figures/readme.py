"""The README's picture and table of verdicts, from the committed claims ledger: `make readme` writes both.

Nothing is computed: the ledger's notebook carries its findings and its figure, so README, site and claims.json agree.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from affectcore.errors import ConfigError
from affectcore.figures.badge import NAMES
from affectcore.figures.effects import STATUSES
from affectcore.figures.executed import LEDGER, figure, findings

BEGIN, END = "<!-- verdicts: written by `make readme` -->\n", "<!-- end of verdicts -->"
PICTURE, NAME = Path("book/_static/verdicts.png"), "fig:ledger-verdicts"


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table of findings: one row a study, one column a verdict that occurs."""
    by = {name: Counter(f["status"] for f in found if f["paper"] == name) for name in NAMES}
    used = [s for s in STATUSES if any(s in c for c in by.values())]
    rows = [["findings on", *used, "in all"], ["---", *["---:"] * (len(used) + 1)]]
    rows += [[NAMES[n], *(str(c[s]) for s in used), str(c.total())] for n, c in by.items() if c]
    return "".join(f"| {' | '.join(r)} |\n" for r in rows)


def text(readme: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Return the README with the table between its marks. Raises ConfigError if a mark is not there."""
    for mark in (BEGIN, END):
        if readme.count(mark) != 1:
            raise ConfigError(f"README.md: the mark {mark.strip()!r} must stand there once")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write both in the current folder, the root of the repository."""
    readme = Path("README.md")
    PICTURE.write_bytes(figure(LEDGER, NAME).png)
    readme.write_text(text(readme.read_text(encoding="utf-8"), findings(LEDGER)), encoding="utf-8")


if __name__ == "__main__":
    main()
