"""Record what every model's training step costs: python benchmarks/models.py [names ...] writes results/costs.json.

The same numbers as `affectcore bench`, with date, processor and versions; what is not named keeps its record.
"""

import json
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from affectcore.studies.runner import device_name
from affectcore.training.bench import cases, run_benchmarks

RECORD = Path(__file__).parents[1] / "results" / "costs.json"


def main(names: list[str]) -> None:
    old = json.loads(RECORD.read_text())["rows"] if RECORD.exists() else []
    rows = {row["name"]: row for row in old if row["name"] in cases()}
    measured = {"date": str(date.today()), "device": device_name("cpu"), "torch": torch.__version__}
    for name in names or cases():
        (row,) = run_benchmarks([name])
        rows[name] = asdict(row) | measured
        print(f"{name}: {row.samples_per_s:.3g} samples per CPU s", flush=True)
        RECORD.write_text(json.dumps({"rows": [rows[n] for n in cases() if n in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
