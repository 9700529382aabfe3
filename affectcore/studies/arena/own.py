"""A model of your own in the arena: its arm alone is run, the others' results are read.

    table, records = enter("gated", seeds=3)          # registered, see the page "Add a model"

The model meets the protocol of the committed profile: the same data, conditions, recipe and seeds. Its settings are
those of its preset `clean`.
"""

from dataclasses import replace

import pandas as pd

from affectcore.data import catalog
from affectcore.errors import ConfigError, StoreError
from affectcore.models import registry
from affectcore.studies.arena.study import EXECUTE, STUDY
from affectcore.studies.results import best_profile, finished, load_records
from affectcore.studies.runner import run_specs
from affectcore.studies.spec import Arm, Study
from affectcore.studies.store import RunRecord, Store, table


def entrant(model: str, study: Study = STUDY) -> Study:
    """Return the study with the arm of one registered model alone, on the data that are here.

    Raises ConfigError for an unknown model and for one that is in the arena already. Nothing is drawn: the runs keep no
    test predictions.
    """
    if model in [a.name for a in study.arms]:
        raise ConfigError(f"arena: {model!r} is in it already; register yours under a name of its own")
    kind = registry.entry(model).kind
    data = tuple(d for d in study.data if d.source == "world" or catalog.entry(d.dataset).present)
    arm = Arm(model, model, recipe=None if kind == "estimator" else "small", tier=2, execute=EXECUTE)
    return replace(study, arms=(arm,), data=data, drawn=(), profiles={k: replace(p, data={
        label: change for label, change in p.data.items() if label in [d.name for d in data]
    }) for k, p in study.profiles.items()})  # fmt: skip


def enter(
    model: str, seeds: int | None = None, *, profile: str = "committed", jobs: int = 1, store: Store | None = None,
    study: Study = STUDY,
) -> tuple[pd.DataFrame, list[RunRecord]]:  # fmt: skip
    """Run what the store lacks of a model's arm and return table and records of all models, cut to its seeds and data.

    seeds: the first so many, default all of the profile. profile: "committed" compares with results/, any other with
    the arms that the store holds complete. Raises StoreError if a run fails or there is nothing to compare with.
    """
    alone, store = entrant(model, study), store or Store()
    size = best_profile(study) if profile == "committed" else profile
    mine = alone.specs(size, seeds)
    failed = run_specs(mine, store, jobs=jobs).failed
    if failed:
        raise StoreError(f"arena: {failed[0].spec.label}: {failed[0].error}")
    wanted = {(s.data.name, s.seed) for s in mine}
    if profile == "committed":
        others = [r for r in load_records(study, size) if (r.spec.data.name, r.spec.seed) in wanted]
    else:
        others = []
        for a in study.arms:
            specs = [s for s in study.specs(size, seeds) if s.arm == a.name and (s.data.name, s.seed) in wanted]
            hashes = [s.hash() for s in specs]
            if all(h in store for h in hashes):
                others += store.records(hashes)
    if not others:
        raise StoreError(f"arena ({size}): no other model's runs to compare with; run `affectcore run arena` first")
    records = [*others, *finished(alone, size, mine, store)]
    return table(records), records
