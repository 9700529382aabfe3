"""An executor that counts CMU-MOSEI's label table; apart from `evidence.py`, whose edits put runs out of date."""

from collections.abc import Sequence
from dataclasses import replace

from affectcore.data import readers
from affectcore.errors import AffectError
from affectcore.studies import execute
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec


def count_label_table(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Executor: a constant, and beside it how many videos and segments CMU-MOSEI's label table holds."""
    table = readers.table("cmu_mosei_labels")
    counts = {"videos": int(table["video_id"].nunique()), "segments": len(table)}
    done = execute.train_and_score(specs, device)
    return [replace(o, extra={**o.extra, "label_table": counts}) if isinstance(o, Outcome) else o for o in done]


def modules(spec: RunSpec) -> tuple[str, ...]:
    """Return the modules that `count_label_table` looks up."""
    return execute.modules(spec)
