"""What a results chapter reads: the committed results of a study, or a rerun of what is missing in another profile."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from affectcore.data import catalog, stand_in
from affectcore.errors import DataError, StoreError
from affectcore.studies.claims import Results
from affectcore.studies.runner import run_specs
from affectcore.studies.spec import Study, digest
from affectcore.studies.store import Store, default_folder

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # folders of generated data, removed when the process ends


def results_for(
    study: Study, profile: str, seeds: int = 0, *, device: str = "cpu", data: Path | None = None, jobs: int = 1
) -> Results:
    """Return a study's results in a profile, "committed" read from results/, any other run as far as runs are missing.

    seeds: 0 means the profile's own number. data: folder of the real sets. Where one is absent, the profile "smoke"
    runs on sets made by `affectcore.data.stand_in`, in a store of their own beside the user's, so that no such run is
    mistaken for a real one; the other profiles raise DataError. Raises StoreError if a run fails.
    """
    if profile == "committed":
        return Results(study)
    if seeds:
        chosen = replace(study.profiles[profile], seeds=dict.fromkeys(study.profiles[profile].seeds, seeds))
        study = replace(study, profiles={**study.profiles, profile: chosen})
    used = {name for a in study.arms for name in a.data or [d.name for d in study.data]}
    sets = sorted({d.dataset for d in study.data if d.source == "reader" and d.name in used})
    absent = [name for name in sets if data is None or not catalog.entry(name).present]
    if absent and profile != "smoke":
        raise DataError(f"study {study.name} ({profile}): {absent[0]} is not here; {catalog.entry(absent[0]).source}")
    store = _generated() if absent else Store()
    report = run_specs(study.specs(profile), store, device=device, jobs=jobs)
    if report.failed:
        raise StoreError(f"study {study.name} ({profile}): {report.failed[0].spec.label}: {report.failed[0].error}")
    return Results(study, profile, store)


def on_generated_data(results: Results) -> bool:
    """Whether the numbers are those of generated stand-ins, which mean nothing."""
    return results.store is not None and results.store.folder == _store_of_generated()


def _generated() -> Store:
    """Write generated twins of the sets, point the readers at them, and return the store for their runs."""
    folder = tempfile.TemporaryDirectory(prefix="affectcore-stand-in-")
    _KEPT.append(folder)
    stand_in.write(Path(folder.name))
    os.environ[catalog.VARIABLE] = folder.name
    return Store(_store_of_generated())


def _store_of_generated() -> Path:
    """A folder that all chapters share; its name changes with the code that generates, which no run's hash covers."""
    code = digest(Path(stand_in.__file__).read_text(encoding="utf-8"))
    return default_folder().with_name(f"{default_folder().name}-generated-{code}")
