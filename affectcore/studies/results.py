"""Committed results: exported from the store, read by every chapter, checked for staleness, recomputed at random.

    results/<profile>/<study>.jsonl.xz               one record a line, sorted, numbers to six digits
    results/<profile>/<study>.predictions.parquet    per-item scores of tier 1 in float16

No path, host, transcript or id is in them: items are rows of the split, groups are numbered in order of appearance. The
targets of a real data set stay out unless its study publishes them by name (`Study.publish_targets`).
"""

import json
import lzma
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectcore.data.catalog import CATALOG
from affectcore.errors import ConfigError, StoreError
from affectcore.streams import rng
from affectcore.studies.outcome import Predictions
from affectcore.studies.runner import claims_hash, run_item
from affectcore.studies.sources import sources_hash
from affectcore.studies.spec import PROFILES, RunSpec, Study
from affectcore.studies.store import RunRecord, Store, refusals, table

if TYPE_CHECKING:
    import pyarrow as pa

SIZE_LIMIT = 15_000_000  # bytes of results/ together
TOLERANCE = 0.02  # of a metric, absolute: a few items of a small test set fall to the other side on another processor
COLUMNS = ["arm", "data", "seed", "split", "condition", "rows", "group", "target", "scores"]


def results_folder() -> Path:
    """Return $AFFECTCORE_RESULTS, else results/ beside the package."""
    return Path(os.environ.get("AFFECTCORE_RESULTS") or Path(__file__).parents[2] / "results")


# --- reading -------------------------------------------------------------------------------------------------------


def load_results(
    study: Study, profile: str = "committed", store: Store | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a study's table (see `store.table`) and predictions, both of one complete profile.

    profile "committed": the best complete one in results/ (full, standard, smoke; it is named in the table). Any other
    reads the local store alone, never results/. Predictions: one row per arm, data, seed, split and condition; rows and
    group are (N,) arrays, scores (N,) or (N, C) float32, target an array or None where it is not published.
    Raises StoreError if no profile, or not the asked one, is complete.
    """
    if profile != "committed":
        specs = study.specs(profile)
        store = store or Store()
        runs = finished(study, profile, specs, store)
        kept = [(r.spec, store.predictions(r.hash)) for r in runs]
        return table(runs), pd.concat([_frame(s, p) for s, p in kept], ignore_index=True)
    best = best_profile(study)
    predictions = _predictions_file(best, study.name)
    frame = _read_predictions(predictions) if predictions.is_file() else pd.DataFrame(columns=COLUMNS)
    return table(load_records(study, best)), frame


def load_records(study: Study, profile: str) -> list[RunRecord]:
    """Return the committed records of a profile, [] if there are none. Raises StoreError for a damaged line."""
    file = _records_file(profile, study.name)
    if not file.is_file():
        return []
    records = []
    with refusals(f"results of {study.name}: cannot be read"):
        content = file.read_bytes()
    try:
        lines = lzma.decompress(content).decode().splitlines()
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as e:
        raise StoreError(f"{file.name}: no run records ({e})") from e
    for number, line in enumerate(lines, 1):
        try:
            records.append(RunRecord.from_json(json.loads(line)))
        except (ValueError, ConfigError) as e:
            raise StoreError(f"{file.name} line {number}: no run record ({e})") from e
    return records


def best_profile(study: Study) -> str:
    """Return the largest profile of which every run is committed. Raises StoreError if there is none."""
    for profile in reversed(PROFILES):
        if profile in study.profiles:
            have = {r.spec.identity() for r in load_records(study, profile)}
            if have and all(s.identity() in have for s in study.specs(profile)):
                return profile
    how = f"run `affectcore run {study.name} --profile smoke`, then `affectcore results export {study.name}`"
    raise StoreError(f"results of {study.name}: no complete profile is committed; {how}")


@dataclass(frozen=True)
class Paired:
    """Two arms on the same items, for paired tests: a, b (S, N) or (S, N, C); target (N,) or, on a world, (S, N)."""

    seeds: tuple[int, ...]
    target: NDArray[Any]
    group: NDArray[Any]
    a: NDArray[Any]
    b: NDArray[Any]


def paired(
    predictions: pd.DataFrame, a: str, b: str, data: str, *, split: str = "test", condition: str = "clean"
) -> Paired:
    """Return the scores of arms `a` and `b` on the seeds both have. Raises StoreError if there are none or no targets.

    target and group are (N, ...) if every seed has the same, else (S, N, ...): every seed draws its own world.
    """
    where = (predictions[["data", "split", "condition"]] == [data, split, condition]).all(axis=1)
    by_arm = {arm: predictions[where & (predictions["arm"] == arm)].set_index("seed") for arm in (a, b)}
    seeds = sorted(set(by_arm[a].index) & set(by_arm[b].index))
    if not seeds:
        raise StoreError(f"predictions: {a} and {b} share no seed on {data}, {split}, {condition}")
    first, second = (by_arm[arm].loc[seeds] for arm in (a, b))
    if any(t is None for t in first["target"]):
        raise StoreError(f"predictions: the targets of {data} are not published; see attach_targets")
    same = ("rows", "group", "target")  # rows are numbered anew in every frame: targets and groups tell items apart
    if any(not np.array_equal(x, y) for c in same for x, y in zip(first[c], second[c])):
        raise StoreError(f"predictions: {a} and {b} were not scored on the same items of {data}")
    target, group = (np.stack(list(first[c])) for c in ("target", "group"))
    if len(np.unique(target, axis=0)) == 1 and len(np.unique(group, axis=0)) == 1:
        target, group = target[0], group[0]
    return Paired(tuple(seeds), target, group, *(np.stack(list(f["scores"])) for f in (first, second)))


def attach_targets(study: Study, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions with the targets that are not published, read from the data sets on this machine."""
    from affectcore.data.schema import Selection
    from affectcore.studies.execute import load

    out = predictions.copy()
    for name in {d for d, t in zip(out["data"], out["target"]) if t is None}:
        data = load(next(d for d in study.data if d.name == name), 0)
        for i in out.index[out["data"] == name]:
            batch = data.split(str(out.at[i, "split"]), Selection("fixed"))
            out.at[i, "target"] = batch.target.numpy()
    return out


# --- writing -------------------------------------------------------------------------------------------------------


def export(study: Study, profile: str, store: Store | None = None) -> tuple[Path, ...]:
    """Write the finished runs of a profile to results/ and return the files.

    Raises StoreError if a run is missing or results/ would pass `SIZE_LIMIT`, ConfigError for data known by path alone;
    then nothing is changed.
    """
    store = store or Store()
    for d in study.data:
        if d.source == "reader" and d.dataset not in CATALOG:
            raise ConfigError(
                f"study {study.name}: data {d.name} is a file of this machine; results hold named sets alone"
            )
    records = finished(study, profile, study.specs(profile), store)
    lines = sorted((r.spec.data.name, r.spec.arm, r.spec.seed, _line(r)) for r in records)
    files = {_records_file(profile, study.name): _lines(x[-1] for x in lines)}
    data = study.deciding_data or tuple(d.name for d in study.data)
    deciding = [r for r in records if study.arm(r.spec.arm).tier == 1 and r.spec.data.name in data]
    frames = [_frame(r.spec, store.predictions(r.hash), study) for r in deciding]
    if frames:
        files[_predictions_file(profile, study.name)] = _parquet(pd.concat(frames, ignore_index=True))
    write(files, f"{study.name} ({profile})", "name fewer conditions in Study.deciding")
    return tuple(files)


def write(files: Mapping[Path, bytes], what: str, hint: str) -> None:
    """Write files of results/. Raises StoreError, with nothing written, if the folder would pass `SIZE_LIMIT`."""
    folder = results_folder()
    others = (
        sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f not in files) if folder.exists() else 0
    )
    size = others + sum(map(len, files.values()))
    if size > SIZE_LIMIT:
        raise StoreError(f"results: {size / 1e6:.1f} MB with {what}, limit {SIZE_LIMIT / 1e6:g} MB; {hint}")
    for file, content in files.items():
        _write(file, content)


def finished(study: Study, profile: str, specs: Sequence[RunSpec], store: Store) -> list[RunRecord]:
    """Return the records of the specs. Raises StoreError that says how many the store lacks."""
    runs = [s.hash() for s in specs]
    missing = sum(h not in store for h in runs)
    if missing:
        how = f"run `affectcore run {study.name} --profile {profile}`"
        raise StoreError(f"study {study.name} ({profile}): {missing} of {len(runs)} runs are not in the store; {how}")
    return store.records(runs)


def _lines(lines: Iterable[str]) -> bytes:
    """Compressed lines; equal lines are equal bytes, for the file carries no time."""
    return lzma.compress("".join(f"{x}\n" for x in lines).encode(), preset=9)


def _line(record: RunRecord) -> str:
    return json.dumps(_rounded(record.to_json()), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _rounded(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {k: v if k == "spec" else _rounded(v) for k, v in x.items()}  # a spec's numbers are exact
    if isinstance(x, list | tuple):
        return [_rounded(v) for v in x]
    return float(f"{x:.6g}") if isinstance(x, float) else x


def _frame(spec: RunSpec, p: Predictions, study: Study | None = None) -> pd.DataFrame:
    """One row per split and condition. With a study: only what it exports."""
    shown = study is None or spec.data.source == "world" or spec.data.name in study.publish_targets
    rows = []
    for (split, condition), scores in p.scores.items():
        if study is None or not study.deciding or condition in study.deciding:
            group = pd.factorize(p.group[split])[0]
            target = p.target[split] if shown else None
            rows.append((spec.arm, spec.data.name, spec.seed, split, condition, np.arange(len(group)), group, target,
                         scores.astype(np.float32)))  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _parquet(frame: pd.DataFrame) -> bytes:
    import pyarrow as pa

    frame = frame.sort_values(COLUMNS[:5], ignore_index=True)
    scores = [np.asarray(s, np.float16).ravel() for s in frame["scores"]]
    targets = [None if t is None else np.asarray(t, np.float32).ravel() for t in frame["target"]]
    columns = {c: pa.array(frame[c]) for c in ("arm", "data", "split", "condition")}
    columns |= {"seed": pa.array(frame["seed"], pa.int32())}
    columns |= {c: pa.array(list(frame[c]), pa.list_(pa.int32())) for c in ("rows", "group")}
    columns |= {"target": pa.array(targets, pa.list_(pa.float32())), "scores": pa.array(scores, pa.list_(pa.float16()))}
    # a target is (N,) or (N, C), scores (N,) or (N, C): 0 columns stands for (N,)
    for c in ("target", "scores"):
        width = [x.shape[1] if x is not None and np.ndim(x) == 2 else 0 for x in frame[c]]
        columns[f"{c}_columns"] = pa.array(width, pa.int32())
    return parquet(pa.table(columns), ("scores",))


def parquet(content: "pa.Table", numbers: Sequence[str]) -> bytes:
    """Return a compressed Parquet file. numbers: columns of lists of floats, hardly one of which occurs twice: their
    bytes are laid out by place, sign and exponent together, which makes draws two fifths smaller."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    leaf = {
        n: f"{n}.list.element" if pa.types.is_list(content.schema.field(n).type) else n for n in content.schema.names
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        content, sink, compression="zstd", compression_level=19,
        use_dictionary=[leaf[n] for n in content.schema.names if n not in numbers],
        column_encoding={leaf[n]: "BYTE_STREAM_SPLIT" for n in numbers},
    )  # fmt: skip
    made: bytes = sink.getvalue().to_pybytes()
    return made


def _read_predictions(file: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        frame = pq.read_table(file).to_pandas()
    except (OSError, pa.ArrowInvalid) as e:
        raise StoreError(f"{file.name}: no predictions ({str(e).splitlines()[0]})") from e
    for c in ("target", "scores"):
        frame[c] = [
            None if x is None else np.asarray(x, np.float32).reshape((-1, k) if k else (-1,))
            for x, k in zip(frame[c], frame[f"{c}_columns"])
        ]
    return frame[COLUMNS]


def _write(file: Path, content: bytes) -> None:
    with refusals(f"results: cannot write {file.name}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _records_file(profile: str, study: str) -> Path:
    return results_folder() / profile / f"{study}.jsonl.xz"


def _predictions_file(profile: str, study: str) -> Path:
    return results_folder() / profile / f"{study}.predictions.parquet"


# --- checking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stale:
    """A committed record that no longer speaks for today's code, and why."""

    record: RunRecord
    why: str

    def __str__(self) -> str:
        return f"{self.record.spec.label}: {self.why}"


def stale(study: Study) -> list[Stale]:
    """Return the committed records whose spec, sources or claims.toml have changed since, over all profiles."""
    found = []
    for profile in PROFILES:
        records = load_records(study, profile)
        current = {s.identity() for s in study.specs(profile)} if records and profile in study.profiles else set()
        for r in records:
            why = _why_stale(r) if r.spec.identity() in current else "it is no longer a run of the study"
            if why:
                found.append(Stale(r, why))
    return found


def _why_stale(r: RunRecord) -> str:
    known = {r.sources, r.claims, *r.declared_equal}
    if sources_hash(r.spec) not in known:
        return "the sources it imports have changed"
    return "" if claims_hash(r.spec.study) in known else "its claims.toml has changed"


@dataclass(frozen=True)
class Check:
    """A recomputed record: the largest difference of a metric, which it was, and whether it is within the tolerance."""

    record: RunRecord
    difference: float
    metric: str
    ok: bool

    def __str__(self) -> str:
        sign = "equal" if self.ok else "DIFFERS"
        return f"{self.record.spec.label}: {sign}, largest difference {self.difference:.2g} ({self.metric})"


def verify(
    study: Study, sample: int, *, profile: str | None = None, tolerance: float = TOLERANCE, cheap: bool = False,
    arms: bool = False, declare: bool = False, seed: int = 0, device: str = "cpu",
) -> list[Check]:  # fmt: skip
    """Recompute `sample` committed records from nothing and return how they compare, stale ones first.

    profile: default the best complete one. tolerance: largest difference allowed in any metric, split and condition;
    what is not defined must stay so. cheap: draw among the cheapest quarter. arms: the cheapest record of every arm
    instead of a sample. declare: enter today's sources and
    claims.toml as equal into the records of every arm of which a record was recomputed and none differs.
    Raises StoreError if there is nothing to verify, ConfigError for a sample below 1.
    """
    if sample < 1:
        raise ConfigError(f"verify: sample {sample} must be 1 or more")
    profile = profile or best_profile(study)
    records = load_records(study, profile)
    if not records:
        raise StoreError(f"results of {study.name}: nothing is committed for profile {profile}")
    order = [records[i] for i in rng(seed, "verify", study.name).permutation(len(records))]
    if cheap:
        cheapest = sorted(order, key=lambda r: r.cpu_s)[: max(sample, len(order) // 4)]
        order = [r for r in order if r in cheapest]
    order.sort(key=lambda r: not _why_stale(r))
    if arms:
        dearest_first = sorted(records, key=lambda r: -r.cpu_s)
        order = list({r.spec.arm: r for r in dearest_first}.values())
    checks = [_check(r, tolerance, device) for r in (order if arms else order[:sample])]
    if declare:
        equal = {c.record.spec.arm for c in checks} - {c.record.spec.arm for c in checks if not c.ok}
        current = [_declared(r) if r.spec.arm in equal else r for r in records]
        _write(_records_file(profile, study.name), _lines(_line(r) for r in current))
    return checks


def _check(r: RunRecord, tolerance: float, device: str) -> Check:
    again, _ = run_item(r.spec, device)
    before, now = (_flat(x.to_json()["metrics"]) for x in (r, again))
    if before.keys() != now.keys():
        name = min(before.keys() ^ now.keys())
        return Check(r, float("inf"), f"{name} is in one of them only", False)
    worst, where = 0.0, "every metric"
    for name, old in before.items():
        new = now[name]
        d = 0.0 if old is None and new is None else float("inf") if old is None or new is None else abs(new - old)
        if d > worst:
            worst, where = d, name
    return Check(r, worst, where, worst <= tolerance)


def _flat(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    return {f"{s}/{c}/{m}": v for s, x in metrics.items() for c, y in x.items() for m, v in y.items()}


def _declared(r: RunRecord) -> RunRecord:
    now = [h for h in (sources_hash(r.spec), claims_hash(r.spec.study)) if h is not None]
    known = {r.sources, r.claims, *r.declared_equal}
    return replace(r, declared_equal=(*r.declared_equal, *(h for h in now if h not in known)))
