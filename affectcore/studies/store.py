"""The local store of finished runs: one folder per hash, which is there whole or not at all.

A run is written into a folder with a temporary name, flushed to disk and renamed. So a kill at any instant loses at
most the run in flight, and a reader never sees half a record. `lease` is an operating-system lock: it dies with its
owner, so there is no stale lock to detect, and two runners on one store never run the same thing twice.

    STORE/<hash>/record.json        spec, hashes, versions, costs, curves, metrics
    STORE/<hash>/predictions.npz    per-item scores in float16; rows, targets and groups of each split
    STORE/.leases/<hash>.lock       held while that run is in flight
"""

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from affectcore.errors import ConfigError, StoreError
from affectcore.studies.outcome import Metrics, Predictions
from affectcore.studies.spec import RunSpec


@dataclass(frozen=True)
class RunRecord:
    """What is known of a finished run, beside its per-item predictions. No path, host or user name is in it.

    hash, sources, claims, data_hash: of the run, the sources it imports, its study's claims.toml (None: no such file)
    and the data. metrics[split][condition][name]: None where not defined. bounds["floor" | "ceiling"][split][name]:
    scores of the best constant and of a world's oracle. history: one mapping an epoch. rule, epoch, value: the
    selection. wall_s, cpu_s: of the whole item, data and evaluation included; fit_s: wall time of the training alone;
    peak_memory_mb: of the process. declared_equal: hashes of later sources that `verify` found to give the same
    numbers.
    """

    spec: RunSpec
    hash: str
    sources: str
    claims: str | None
    data_hash: str
    versions: Mapping[str, str]
    device: str
    finished: str
    wall_s: float
    cpu_s: float
    fit_s: float
    peak_memory_mb: float
    parameters: int
    rule: str
    epoch: int | None
    value: float | None
    history: tuple[Mapping[str, Any], ...]
    metrics: Metrics
    bounds: Metrics = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    declared_equal: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        content = asdict(replace(self, spec=None))  # type: ignore[arg-type]
        content["spec"] = self.spec.to_json()
        without_nan: dict[str, Any] = _null(content)
        return without_nan

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunRecord":
        """The record of parsed JSON. Raises ConfigError if a field is unknown or absent."""
        try:
            c = dict(content)
            c["spec"] = RunSpec.from_json(c["spec"])
            c["history"], c["declared_equal"] = tuple(c["history"]), tuple(c["declared_equal"])
            return cls(**c)
        except (KeyError, TypeError) as e:
            raise ConfigError(f"run record: {type(e).__name__} {e}; it was written by another version") from e


class Store:
    """Finished runs in a folder. Default: $AFFECTCORE_STORE, else "runs" in the user's cache.

    Raises StoreError, in one line, for anything that the file system refuses.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        with refusals(f"store {self.folder}: cannot be made"):
            (self.folder / ".leases").mkdir(parents=True, exist_ok=True)

    def __contains__(self, run: str) -> bool:
        return (self.folder / run / "record.json").is_file()

    def hashes(self) -> list[str]:
        """The finished runs, sorted."""
        with refusals(f"store {self.folder}: cannot be read"):
            return sorted(p.name for p in self.folder.iterdir() if re.fullmatch("[0-9a-f]{20}", p.name))

    @contextmanager
    def lease(self, run: str, wait: bool = False) -> Iterator[bool]:
        """Hold the right to run `run`; yields False if another runner holds it and `wait` is False.

        The lock is the operating system's: it ends with the process, however that ends.
        """
        lock = FileLock(self.folder / ".leases" / f"{run}.lock")
        try:
            with refusals(f"store {self.folder}: cannot lock run {run}"):
                lock.acquire(timeout=-1 if wait else 0, poll_interval=0.05)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def write(self, record: RunRecord, predictions: Predictions) -> None:
        """Keep a finished run, whole. To be called under its lease; a run that is already there is left as it is."""
        with refusals(f"store {self.folder}: cannot write run {record.hash}"):
            for left in self.folder.glob(f".tmp-{record.hash}-*"):  # a killed runner's; nobody else holds the lease
                shutil.rmtree(left)
            if record.hash in self:
                return
            temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{record.hash}-", dir=self.folder))
            try:
                with (temporary / "predictions.npz").open("wb") as f:
                    np.savez_compressed(f, allow_pickle=False, **_arrays(predictions))
                    _flush(f.fileno())
                with (temporary / "record.json").open("w", encoding="utf-8") as g:
                    json.dump(record.to_json(), g, indent=1, allow_nan=False)
                    g.flush()
                    _flush(g.fileno())
                _flush_folder(temporary)
                temporary.rename(self.folder / record.hash)
                _flush_folder(self.folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def record(self, run: str) -> RunRecord:
        """The record of one finished run. Raises StoreError if it is not there or was damaged by hand."""
        file = self.folder / run / "record.json"
        with refusals(f"store {self.folder}: cannot read run {run}"):
            text = file.read_text(encoding="utf-8")
        try:
            record = RunRecord.from_json(json.loads(text))
        except (ValueError, ConfigError) as e:
            raise StoreError(f"{file}: no run record ({e}); remove the folder to run it again") from e
        if record.hash != run:
            raise StoreError(f"{file}: hash {record.hash!r} is not the folder's; remove the folder to run it again")
        return record

    def records(self, runs: Iterable[str] | None = None) -> list[RunRecord]:
        """The records of these runs, default all."""
        return [self.record(h) for h in (self.hashes() if runs is None else runs)]

    def predictions(self, run: str) -> Predictions:
        """The per-item predictions of one finished run. Raises StoreError if they are not there or damaged."""
        file = self.folder / run / "predictions.npz"
        try:
            with (
                refusals(f"store {self.folder}: cannot read run {run}"),
                file.open("rb") as f,
                np.load(f, allow_pickle=False) as z,
            ):
                return _from_arrays({k: z[k] for k in z.files})
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
            raise StoreError(f"{file}: no predictions ({e}); remove the folder to run it again") from e

    def table(self, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """One row per run, split, condition and metric; see `table`."""
        return table(self.records(runs))


COLUMNS = [
    "study", "profile", "arm", "model", "preset", "data", "seed", "split", "condition", "rate", "metric", "value",
    "floor", "ceiling", "rule", "epoch", "parameters", "wall_s", "cpu_s", "hash",
]  # fmt: skip


def table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return records as a tidy table: one row per run, split, condition and metric, its bounds beside it.

    Floor and ceiling are scores on clean samples, whatever the condition. NaN where a value is not defined.
    """
    rows = []
    for r in records:
        s, rate = r.spec, {c.name: c.rate for c in r.spec.conditions}
        for split, by_condition in r.metrics.items():
            floor, ceiling = (r.bounds.get(b, {}).get(split, {}) for b in ("floor", "ceiling"))
            for condition, values in by_condition.items():
                for metric, value in values.items():
                    rows.append(
                        {
                            "study": s.study, "profile": s.profile, "arm": s.arm, "model": s.model, "preset": s.preset,
                            "data": s.data.name, "seed": s.seed, "split": split, "condition": condition,
                            "rate": rate[condition], "metric": metric, "value": value, "floor": floor.get(metric),
                            "ceiling": ceiling.get(metric), "rule": r.rule, "epoch": r.epoch,
                            "parameters": r.parameters, "wall_s": r.wall_s, "cpu_s": r.cpu_s, "hash": r.hash,
                        }
                    )  # fmt: skip
    numbers = ("rate", "value", "floor", "ceiling", "epoch", "wall_s", "cpu_s")
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(numbers, "float64"))


def default_folder() -> Path:
    """Return $AFFECTCORE_STORE, else "runs" in the user's cache."""
    import pooch

    return Path(os.environ.get("AFFECTCORE_STORE") or pooch.os_cache("affectcore") / "runs")


def _null(value: Any) -> Any:
    """NaN (a metric that is not defined) is null in JSON."""
    if isinstance(value, Mapping):
        return {k: _null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_null(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def _arrays(p: Predictions) -> dict[str, NDArray[Any]]:
    parts = {"rows": p.rows, "target": p.target, "group": p.group}
    flat = {f"{part}/{split}": np.asarray(a) for part, by_split in parts.items() for split, a in by_split.items()}
    return flat | {f"scores/{split}/{condition}": a for (split, condition), a in p.scores.items()}


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Predictions:
    parts: dict[str, dict[Any, NDArray[Any]]] = {"rows": {}, "target": {}, "group": {}, "scores": {}}
    for name, a in arrays.items():
        part, split, *condition = name.split("/", 2)
        parts[part][(split, condition[0]) if condition else split] = a
    return Predictions(**parts)


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened; the rename is atomic all the same
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Say what the file system refuses (full, read-only, absent) in one line."""
    try:
        yield
    except Timeout:  # an OSError too, but the answer to a question
        raise
    except (OSError, NotImplementedError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e) or type(e).__name__
        raise StoreError(f"{what}: {reason}") from e
