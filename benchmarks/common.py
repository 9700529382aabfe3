"""What the benchmark scripts share: printing records as a table or as JSON."""

import json
from collections.abc import Mapping, Sequence


def show(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print the records, numbers with three digits in the table and in full in the JSON."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    cells = [list(rows[0])] + [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
