"""From specs to records: plan, run in processes or on a cluster, keep every finished run, go on after failures.

    print(plan(STUDY, "standard"))
    report = run_study(STUDY, "standard", jobs=2)      # resumes: what the store has is not run again
    table = Store().table()

`run_item` is a picklable function without global state, so that joblib, Dask, or a cluster's array job can call it.
"""

import platform
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

from affectcore.errors import AffectError, ConfigError
from affectcore.studies.outcome import Predictions
from affectcore.studies.sources import executor, sources_hash
from affectcore.studies.spec import RunSpec, Study, digest, plain
from affectcore.studies.store import RunRecord, Store

BUDGET = 9_000  # core-seconds a paper may take on a CPU before one has to insist
PACKAGES = ("affectcore", "torch", "numpy", "scipy", "scikit-learn")


# --- one item ------------------------------------------------------------------------------------------------------


def run_item(spec: RunSpec, device: str = "cpu") -> tuple[RunRecord, Predictions]:
    """Return the record and the per-item predictions of one run, computed from nothing, on one thread."""
    result = run_stack((spec,), device)[0]
    if isinstance(result, AffectError):
        raise result
    return result


def run_stack(specs: Sequence[RunSpec], device: str = "cpu") -> list[tuple[RunRecord, Predictions] | AffectError]:
    """Return what `run_item` does for specs that differ in the seed alone, trained together if there are several.

    The error of a seed that failed stands in its place.
    """
    execute = executor(specs[0])
    first = time.perf_counter()
    with _one_thread():
        cpu = time.process_time()
        outcomes = execute(specs, device)
        cpu_s, wall_s = (x / len(specs) for x in (time.process_time() - cpu, time.perf_counter() - first))
    done: list[tuple[RunRecord, Predictions] | AffectError] = []
    for spec, o in zip(specs, outcomes, strict=True):
        if isinstance(o, AffectError):
            done.append(o)
            continue
        record = RunRecord(
            spec=spec, hash=spec.hash(), sources=sources_hash(spec), claims=claims_hash(spec.study),
            data_hash=o.data_hash, versions=dict(versions()), device=device_name(device),
            finished=datetime.now(UTC).isoformat(timespec="seconds"), wall_s=wall_s, cpu_s=cpu_s, fit_s=o.fit_s,
            peak_memory_mb=_peak_memory_mb(), parameters=o.parameters, rule=o.rule, epoch=o.epoch, value=o.value,
            history=o.history, metrics=o.metrics, bounds=o.bounds, extra=o.extra,
        )  # fmt: skip
        done.append((RunRecord.from_json(record.to_json()), o.predictions))  # as it will be read again
    return done


def claims_hash(study: str) -> str | None:
    """Return 16 hexadecimal digits of what a study's claims.toml says (comments aside), None if it has none."""
    file = Path(__file__).parent / study / "claims.toml"
    if not file.is_file():
        return None
    try:
        return digest(plain(tomllib.loads(file.read_text(encoding="utf-8")), "claims.toml"))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{study}/claims.toml: {e}") from e


def find_study(name: str) -> Study:
    """Return the study of that name. Raises ConfigError that lists the names if there is none."""
    if name not in study_names():
        raise ConfigError(f"study {name!r} is unknown: there are {', '.join(study_names()) or 'none yet'}")
    study: Study = import_module(f"affectcore.studies.{name}.study").STUDY
    return study


def study_names() -> list[str]:
    """Return the names of the studies in the package: its folders that hold a study.py."""
    return sorted(p.parent.name for p in Path(__file__).parent.glob("*/study.py"))


@cache
def versions() -> dict[str, str]:
    """Return the versions that a record keeps."""
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in PACKAGES}}


def check_device(device: str) -> None:
    """Raise ConfigError, in one line, unless this machine has the device: cpu, cuda or cuda:N."""
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or (":" in device and not number.isdigit())):
        raise ConfigError(f"device {device!r} is unknown: use cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
            raise ConfigError(f"device {device!r}: this machine has no such GPU; use cpu")


def device_name(device: str) -> str:
    """Return the device as records name it: the processor's family, or the GPU's model."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device} ({platform.machine()})"


@contextmanager
def _one_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")  # the executor has imported it, or does without
    before = torch.get_num_threads() if torch else 1
    try:
        if torch:
            torch.set_num_threads(1)
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _peak_memory_mb() -> float:
    try:
        import resource
    except ImportError:  # Windows keeps no such count
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


# --- many items ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """How one run ended. state: "ran", "found" (it was in the store), "busy" (another runner has it), "failed"."""

    spec: RunSpec
    hash: str
    state: str
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Report:
    """How a sweep ended, one status per run, in the order of the specs."""

    statuses: tuple[Status, ...]

    @property
    def failed(self) -> tuple[Status, ...]:
        return tuple(s for s in self.statuses if s.state == "failed")

    @property
    def exit_code(self) -> int:
        """0 if every run is finished, else 1."""
        return int(bool(self.failed))

    def __str__(self) -> str:
        count = {k: sum(s.state == k for s in self.statuses) for k in ("ran", "found", "failed")}
        lines = [f"{s.spec.label}: {s.error}" for s in self.failed]
        return "\n".join(
            [*lines, f"{count['ran']} runs finished, {count['found']} were there, {count['failed']} failed"]
        )


def work(specs: Sequence[RunSpec], folder: str, device: str = "cpu", wait: bool = False) -> list[Status]:
    """Run specs that differ in the seed alone and keep them in the store: what a worker process or node is handed.

    Runs that are finished, or that another runner holds (unless `wait`), are left alone. An error becomes a status.
    """
    statuses: list[Status] = []
    try:
        store, mine = Store(folder), []
        with ExitStack() as leases:
            for s in specs:
                h = s.hash()
                held = h not in store and leases.enter_context(store.lease(h, wait))
                if h in store:  # before, or while we waited for the lease
                    statuses.append(Status(s, h, "found"))
                elif not held:
                    statuses.append(Status(s, h, "busy"))
                else:
                    mine.append(s)
            for s, result in zip(mine, run_stack(mine, device) if mine else ()):
                if isinstance(result, AffectError):
                    statuses.append(Status(s, s.hash(), "failed", error=_line(result)))
                else:
                    store.write(*result)
                    statuses.append(Status(s, result[0].hash, "ran", result[0].wall_s))
    except Exception as e:  # one run's bug or bad input must not stop the others
        ended = {s.spec.seed for s in statuses}
        statuses += [Status(s, s.identity(), "failed", error=_line(e)) for s in specs if s.seed not in ended]
    return statuses


def _line(e: Exception) -> str:
    if isinstance(e, AffectError):
        return " ".join(str(e).split())
    where = traceback.extract_tb(e.__traceback__)[-1]
    return f"{type(e).__name__}: {' '.join(str(e).split())} ({Path(where.filename).name}:{where.lineno})"


def run_specs(
    specs: Sequence[RunSpec], store: Store | None = None, *, device: str = "cpu", jobs: int = 1,
    cluster: str | None = None, stacked: bool | None = None, progress: bool = True,
) -> Report:  # fmt: skip
    """Run what the store lacks and return how each run ended; everything finished is kept at once.

    jobs: processes on this machine. cluster: address of a Dask scheduler, whose workers share the store's folder.
    stacked: train the seeds of an arm together, where the data do not change with the seed; default: on a GPU, for each
    model by the measured table (`training.seeds.choose`). Not on a CPU, although small models would gain: a float32
    stack rounds differently, and a committed record must come out the same when `verify` runs it alone.
    Runs that another runner holds are waited for at the end, so when this returns each run is finished or failed.
    """
    check_device(device)
    if jobs < 1:
        raise ConfigError(f"jobs {jobs} must be 1 or more")
    store = store or Store()
    ended: dict[str, Status] = {}
    for wait in (False, True):  # the second time for what another runner had
        todo = [s for s in specs if ended.get(s.identity(), _OPEN).state in ("open", "busy")]
        calls = [(group, str(store.folder), device, wait) for group in _groups(todo, stacked, device, jobs)]
        if not calls:
            break
        for statuses in _map(calls, jobs, cluster, progress):
            ended.update({s.spec.identity(): s for s in statuses})
    return Report(tuple(ended[s.identity()] for s in specs))


_OPEN = Status(None, "", "open")  # type: ignore[arg-type]  # a run without a status yet
Call = tuple[tuple[RunSpec, ...], str, str, bool]


def _groups(specs: Sequence[RunSpec], stacked: bool | None, device: str, jobs: int) -> list[tuple[RunSpec, ...]]:
    groups: dict[object, list[RunSpec]] = {}
    for i, s in enumerate(specs):
        can = s.recipe is not None and s.data.source != "world"  # every seed draws its own world
        stacks = can and (_wins(s.model, device, jobs) if stacked is None else stacked)
        groups.setdefault(replace(s, seed=0).identity() if stacks else i, []).append(s)
    # runs on the same data one after another: a process keeps the data it read last
    return sorted(map(tuple, groups.values()), key=lambda g: (g[0].data.name, g[0].seed))


@cache
def _wins(model: str, device: str, jobs: int) -> bool:
    if device == "cpu":
        return False
    from affectcore.models.registry import entry
    from affectcore.training.seeds import choose

    return choose(entry(model).location.rpartition(":")[2], device, jobs) == "stacked"


def _map(calls: list[Call], jobs: int, cluster: str | None, progress: bool) -> Iterator[list[Status]]:
    from tqdm import tqdm

    bar = tqdm(total=sum(len(c[0]) for c in calls), unit="run", disable=None if progress else True)
    with bar:
        for statuses in _results(calls, jobs, cluster):
            for s in statuses:
                bar.update()
                bar.set_postfix_str(s.spec.label, refresh=False)
                if s.state == "failed":
                    bar.write(f"{s.spec.label}: {s.error}", file=sys.stderr)
            yield statuses


def _results(calls: list[Call], jobs: int, cluster: str | None) -> Iterator[list[Status]]:
    if cluster is not None:
        from affectcore.studies.cluster import map_on

        yield from map_on(cluster, work, calls)
    elif jobs == 1:
        yield from (work(*c) for c in calls)
    else:
        yield from _in_processes(calls, jobs)


def _in_processes(calls: list[Call], jobs: int) -> Iterator[list[Status]]:
    """Worker processes; one that is killed (out of memory) costs its own run only."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = dict(enumerate(calls))
    for at_once in (jobs, jobs, 1):  # after two deaths one by one, so that the run that kills is known
        for number in list(left) if at_once == 1 else [None]:
            part = left if number is None else {number: left[number]}
            try:
                with parallel_config(backend="loky", inner_max_num_threads=1):
                    pool = Parallel(n_jobs=max(at_once, 2), return_as="generator_unordered", batch_size=1)
                    for i, statuses in pool(delayed(_numbered)(i, c) for i, c in list(part.items())):
                        del left[i]
                        yield statuses
            except TerminatedWorkerError:
                if number is not None:
                    why = "the worker process was killed three times (out of memory?)"
                    yield [Status(s, s.identity(), "failed", error=why) for s in left.pop(number)[0]]
        if not left:
            return


def _numbered(number: int, call: Call) -> tuple[int, list[Status]]:
    return number, work(*call)


def run_study(
    study: str | Study, profile: str, seeds: int | Sequence[int] | None = None, *, device: str = "cpu", jobs: int = 1,
    cluster: str | None = None, store: Store | None = None, force: bool = False, progress: bool = True,
) -> Report:  # fmt: skip
    """Run what the store lacks of a study's profile; see `run_specs`.

    Raises ConfigError if the plan is over the budget of a CPU and `force` is False.
    """
    study = find_study(study) if isinstance(study, str) else study
    store = store or Store()
    specs = study.specs(profile, seeds)
    if device == "cpu" and not force and profile != "smoke":
        plan(study, profile, seeds, store=store).check()
    return run_specs(specs, store, device=device, jobs=jobs, cluster=cluster, progress=progress)


# --- what it would cost --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanRow:
    """One arm on one data set: seconds of one run, and where that number is from ("records" or "calibration")."""

    arm: str
    data: str
    runs: int
    finished: int
    seconds: float
    source: str

    @property
    def left(self) -> float:
        """Core-seconds still to be spent."""
        return (self.runs - self.finished) * self.seconds


@dataclass(frozen=True)
class Plan:
    """What a study's profile would cost on one core."""

    study: str
    profile: str
    rows: tuple[PlanRow, ...]

    @property
    def seconds(self) -> float:
        """Core-seconds still to be spent."""
        return sum(r.left for r in self.rows)

    def check(self) -> None:
        """Raise ConfigError if more than `BUDGET` core-seconds are left."""
        if self.seconds > BUDGET:
            rule = f"above {BUDGET:,}; take fewer seeds, a smaller profile, a GPU, or insist with --force"
            raise ConfigError(f"study {self.study} ({self.profile}): {self.seconds:,.0f} core-seconds are left, {rule}")

    def __str__(self) -> str:
        width = max(len(f"{r.arm} on {r.data}") for r in self.rows)
        lines = [
            f"{r.arm + ' on ' + r.data:<{width}}  {r.runs - r.finished:4d} of {r.runs:4d} runs x {r.seconds:8.2f} s"
            f" = {r.left:8.0f} s  ({r.source})"
            for r in self.rows
        ]
        return "\n".join([*lines, f"{self.study} ({self.profile}): {self.seconds:,.0f} core-seconds left"])


def plan(
    study: str | Study, profile: str, seeds: int | Sequence[int] | None = None, *, store: Store | None = None
) -> Plan:
    """Return the cost of a profile: runs times measured seconds.

    Measured on this arm's records in the store, of the same data and profile, whatever the code version; else by a
    short calibration: two epochs of one seed, the second for each that is left (too much where it stops early).
    """
    study = find_study(study) if isinstance(study, str) else study
    store = store or Store()
    known: dict[tuple[str, str], list[float]] = {}
    for r in store.records():
        if (r.spec.study, r.spec.profile) == (study.name, profile):
            known.setdefault((r.spec.arm, r.spec.data.name), []).append(r.cpu_s)
    by_arm: dict[tuple[str, str], list[RunSpec]] = {}
    for s in study.specs(profile, seeds):
        by_arm.setdefault((s.arm, s.data.name), []).append(s)
    rows = []
    for key, specs in by_arm.items():
        times, source, finished = known.get(key, []), "records", 0
        try:
            times, source = (times, source) if times else ([calibrate(specs[0], store)], "calibration")
            finished = sum(s.hash() in store for s in specs)
        except AffectError as e:  # it will fail when it is run, and say so there; the others have a cost
            times, source = [0.0], f"cannot run: {_line(e)}"
        rows.append(PlanRow(*key, len(specs), finished, sum(times) / len(times), source))
    return Plan(study.name, profile, tuple(rows))


def calibrate(spec: RunSpec, store: Store) -> float:
    """Return the core-seconds one run would take, from two epochs; what has no epochs is run whole, and kept."""
    if spec.recipe is None:
        record, predictions = run_item(spec)
        with store.lease(record.hash) as held:
            if held:
                store.write(record, predictions)
        return record.cpu_s
    from affectcore.studies.execute import epochs

    record, _ = run_item(replace(spec, recipe_overrides={**spec.recipe_overrides, "epochs": 2}))
    return record.cpu_s + float(record.history[-1]["cpu_s"]) * (epochs(spec) - 2)  # the first epoch warms up
