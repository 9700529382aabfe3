"""LDDU's records to words: `affectcore.studies.answers` with this study's reference, world and readings.

A comparison is with `lddu` on the headline world in micro F1 on test, unless said otherwise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from affectcore.evaluation.statistics import PairedComparison
from affectcore.studies import answers
from affectcore.studies.answers import about, counted, listed, number, said, signed, sort_out, spanned, trend
from affectcore.studies.claims import Results
from affectcore.studies.lddu.evidence import F1, REFERENCE, WORLD
from affectcore.studies.readings import Floats, Reading, runs

__all__ = [
    "about", "arms_table", "array", "bound", "change", "counted", "differences", "listed", "number", "said", "signed",
    "sort_out", "spanned", "trend", "values",
]  # fmt: skip
HEADLINE = f"{WORLD}_headline"


def values(results: Results, arm: str, data: str = HEADLINE, read: Reading = F1) -> dict[int, float]:
    """Return a reading of every seed, folds averaged; a seed without the number is left out."""
    return answers.values(results, arm, data, read)


def differences(
    results: Results, arm: str, data: str = HEADLINE, read: Reading = F1, against: str = REFERENCE
) -> Floats:
    """Return `arm` minus `against` by seed, on the seeds that both have. Raises StoreError if these are fewer than
    two."""
    return answers.between(results, arm, against, data, read)


def change(
    results: Results, arm: str, data: str = HEADLINE, read: Reading = F1, against: str = REFERENCE
) -> PairedComparison:
    """Return `differences` as a comparison with zero."""
    return answers.change(results, arm, against, data, read)


def arms_table(
    results: Results, names: Sequence[str], data: str = HEADLINE, read: Reading = F1, reference: str = REFERENCE
) -> pd.DataFrame:
    """Return `answers.arms_table` of arms on one data label."""
    return answers.arms_table(names, lambda arm: values(results, arm, data, read), reference)


def bound(results: Results, side: str, data: str = HEADLINE, metric: str = "micro_f1") -> float:
    """Return the floor or the ceiling of a metric on test, mean over the reference's seeds.

    The floor is the best constant, the ceiling the posterior that knows the noise scales: of micro F1 at its best
    threshold of those tuned on validation (`extra["posterior"]`), of other metrics as the records have it.
    """
    found = runs(results, REFERENCE, data)
    if side == "ceiling" and metric == "micro_f1":
        return float(np.mean([r.extra["posterior"]["known"] for r in found]))
    return float(np.mean([r.bounds[side]["test"][metric] for r in found]))


def array(results: Results, arm: str, *keys: Any, data: str = HEADLINE) -> Floats:
    """Return an array deep in `extra` of every run, (S, ...); null is NaN."""
    out = []
    for r in runs(results, arm, data):
        found: Any = r.extra
        for k in keys:
            found = found[k]
        out.append(np.array(found, float))
    return np.stack(out)
