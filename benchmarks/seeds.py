"""What ten seeds cost against one: stacked, and in processes. Ratios come from interleaved rounds of one run.

    OMP_NUM_THREADS=1 python benchmarks/seeds.py --models mlp lmf --seeds 10 --json seeds.json
    ... --table      also enters them in affectcore/training/seeds.json, from which `choose` reads

Each model is measured in a process of its own whose allocator keeps freed memory (three MALLOC_ variables of glibc, see
affectcore/training/stack.py; --plain-malloc leaves them unset), memory in further processes, one a way. On a CPU the
cost is CPU time, which a loaded machine does not distort; on CUDA it is wall time. Data are random, of the shape asked,
for the task of the model's published shape. Rows of other models keep their place in the table.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

KEEP = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456"}
TABLE = Path(__file__).parents[1] / "affectcore" / "training" / "seeds.json"


def setting(a: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return build, data and recipe of a measurement."""
    import numpy as np

    from affectcore.data.schema import AffectData
    from affectcore.models import registry
    from affectcore.models.contract import Shape
    from affectcore.models.shapes import SHAPES
    from affectcore.training.recipe import Recipe

    n, task = a.batch * a.steps + 2, SHAPES[registry.entry(a.models[0]).shape].task
    g = np.random.default_rng(0)
    features = {m: g.normal(size=(n, a.length, d)) for m, d in zip(("text", "audio", "vision"), a.dims)}
    targets = {
        "regression": np.clip(g.normal(size=n), task.low, task.high),
        "single_label": g.integers(task.outputs, size=n),
        "multi_label": (g.random((n, task.outputs)) < 0.3).astype(np.float32),
    }
    splits = {"train": np.arange(n - 2), "valid": np.array([n - 2]), "test": np.array([n - 1])}
    data = AffectData("random", task, features, targets[task.kind], splits, environment=np.arange(n) % 2)
    recipe = Recipe(epochs=2, patience=None, batch_size=a.batch, selection="fixed_epoch")
    return partial(registry.build, a.models[0], Shape.of(data)), data, recipe


def once(a: argparse.Namespace, way: str, seeds: int) -> dict[str, float]:
    """Return wall and CPU seconds of training `seeds` seeds one way; CPU time of worker processes included."""
    from affectcore.training.seeds import fit_seeds

    build, data, recipe = setting(a)
    wall, cpu = time.perf_counter(), time.process_time()
    fits = fit_seeds(build, data, recipe, range(seeds), device=a.device, how=way, jobs=a.jobs)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if way == "processes" and a.jobs > 1:
        cpu = sum(f.cpu_s for f in fits)
    return {"wall_s": wall, "cpu_s": cpu, "mb": max(f.peak_memory_mb for f in fits), "parameters": fits[0].parameters}


def child(a: argparse.Namespace, way: str) -> None:
    """Measure in this process and print JSON: memory of one way, or the times of all ways in interleaved rounds."""
    import torch

    torch.set_num_threads(1)
    plan = {"one": ("one_by_one", 1), "stacked": ("stacked", a.seeds), "processes": ("processes", a.seeds)}
    if way != "all":
        print(json.dumps(once(a, *plan[way])))
        return
    best: dict[str, dict[str, float]] = {}
    for turn in range(a.rounds + 1):
        for name, (how, seeds) in plan.items():
            got = once(a, how, seeds)
            if turn:  # the first round warms up: worker processes, allocator, kernels
                old = best.get(name, got)
                best[name] = {k: min(v, old[k]) for k, v in got.items()}
    print(json.dumps(best))


def row(a: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return one line of the table."""
    from affectcore.models import registry

    env = os.environ | {"OMP_NUM_THREADS": "1"} | ({} if a.plain_malloc else KEEP)

    def ask(way: str) -> dict[str, Any]:
        given = [x for x in sys.argv[1:] if x != "--table"]
        command = [sys.executable, __file__, *given, "--models", model, "--child", way]
        done: dict[str, Any] = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
        return done

    times, memory = ask("all"), {w: ask(w)["mb"] for w in ("one", "stacked")}
    clock = "cpu_s" if a.device == "cpu" else "wall_s"
    one, stacked, apart = (times[w][clock] for w in ("one", "stacked", "processes"))
    return {
        "model": registry.entry(model).location.partition(":")[2],
        "device": a.device.partition(":")[0],
        "parameters": times["one"]["parameters"],
        "clock": clock,
        "seeds": a.seeds,
        "jobs": a.jobs,
        "one_s": one,
        "cost_stacked": stacked / one,
        "cost_processes": apart / one / (a.jobs if clock == "cpu_s" else 1),
        "gain": a.seeds * one / stacked,
        "memory_one_mb": memory["one"],
        "memory_stacked_mb": memory["stacked"],
        "samples_per_s": 2 * a.batch * a.steps / one,
        "wall_s": {w: times[w]["wall_s"] for w in times},
    }


def enter(path: Path, measured: dict[str, Any], found: dict[str, Any]) -> None:
    """Write the row into a table in place of the model's and device's older one; other sizes begin a new table."""
    old = json.loads(path.read_text()) if path.exists() else {}
    rows = old["rows"] if old.get("measured") == measured else []
    same = [(r["model"], r["device"]) == (found["model"], found["device"]) for r in rows]
    rows = [r for r, s in zip(rows, same) if not s] + [found]
    path.write_text(json.dumps({"measured": measured, "rows": rows}, indent=1) + "\n")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", help="registry names, default all with gradients")
    p.add_argument("--seeds", type=int, default=10)
    p.add_argument("--jobs", type=int, default=2, help="processes")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--steps", type=int, default=10, help="steps an epoch")
    p.add_argument("--length", type=int, default=50, help="steps of a sequence")
    p.add_argument("--dims", type=int, nargs=3, default=[300, 74, 35], help="features of text, audio, vision")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--device", default="cpu")
    p.add_argument("--plain-malloc", action="store_true")
    p.add_argument("--json", type=Path, help="write the rows there")
    p.add_argument("--table", action="store_true", help="enter the rows in the table that `choose` reads")
    p.add_argument("--child", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child:
        child(a, a.child)
        return
    import torch

    from affectcore.models import registry

    sizes = {k: getattr(a, k) for k in ("batch", "steps", "length", "dims", "rounds", "plain_malloc")}
    measured = {"torch": torch.__version__, **sizes}
    for model in a.models or [e.name for e in registry.MODELS.values() if e.kind == "gradient"]:
        found = row(a, model)
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}, flush=True)
        for path in ([a.json] if a.json else []) + ([TABLE] if a.table else []):
            enter(path, measured, found)


if __name__ == "__main__":
    main()
