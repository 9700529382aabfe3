"""A runner in a process of its own, for the fault tests: python sweep_driver.py STORE LOG RUNS ITEMS SLEEP."""

import sys

from affectcore.studies.runner import run_specs
from affectcore.studies.spec import DataSpec, RunSpec
from affectcore.studies.store import Store


def specs(log: str, runs: int, items: int, sleep: float | str) -> tuple[RunSpec, ...]:
    options = {"log": log, "items": items, "sleep": float(sleep)}
    data = DataSpec("d", "world", "stub")
    return tuple(
        RunSpec("faults", "arm", "smoke", seed, data, "none", options=options, execute="stub_arms:execute")
        for seed in range(runs)
    )


def main(store: str, log: str, runs: int, items: int, sleep: float) -> None:
    report = run_specs(specs(log, runs, items, sleep), Store(store), progress=False)
    print(report, flush=True)
    sys.exit(report.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:5]), float(sys.argv[5]))
