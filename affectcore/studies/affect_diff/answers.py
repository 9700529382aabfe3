"""Affect-Diff's records to words: `affectcore.studies.answers` with this study's reference, worlds and readings, and
what is said of learned graphs.

A comparison is with `no_diffusion` on the headline world in true balanced accuracy, unless said otherwise.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from affectcore.errors import EvaluationError
from affectcore.evaluation.recovery import structural_hamming_distance
from affectcore.evaluation.statistics import PairedComparison, compare
from affectcore.studies import answers, readings
from affectcore.studies.affect_diff import paper
from affectcore.studies.affect_diff.diagnose import EDGE
from affectcore.studies.affect_diff.evidence import BALANCED, ORACLE, REFERENCE, WORLD, rare_recall
from affectcore.studies.answers import (
    ALPHA,
    Share,
    about,
    counted,
    listed,
    number,
    said,
    signed,
    sort_out,
    spanned,
    trend,
)
from affectcore.studies.claims import Results
from affectcore.studies.readings import Floats, Reading, scored
from affectcore.studies.store import RunRecord

__all__ = [
    "ALPHA", "Share", "about", "arms_table", "at_zero", "bound", "change", "counted", "crossed", "differences",
    "directed", "distance", "graphs", "listed", "number", "one_way", "perturbed", "rare_counts", "runs", "said",
    "signed", "sort_out", "spanned", "trend", "turned_right", "values",
]  # fmt: skip
HEADLINE = f"{WORLD}_headline"


# --- values ----------------------------------------------------------------------------------------------------------


def _label(arm: str, data: str) -> str:
    return data.replace(WORLD, "oracle") if arm == ORACLE else data  # its training has more samples


def runs(results: Results, arm: str, data: str) -> list[RunRecord]:
    """Return an arm's records on a data label, seed by seed, all folds. The oracle has worlds of its own.

    Raises StoreError if there are none.
    """
    return readings.runs(results, arm, _label(arm, data))


def values(results: Results, arm: str, data: str = HEADLINE, read: Reading = BALANCED) -> dict[int, float]:
    """Return a reading of every seed, folds averaged; a seed without the number is left out."""
    return answers.values(results, arm, _label(arm, data), read)


def differences(
    results: Results, arm: str, data: str = HEADLINE, read: Reading = BALANCED, against: str = REFERENCE
) -> Floats:
    """Return `arm` minus `against` by seed, on the seeds that both have. Raises StoreError if these are fewer than
    two."""
    return answers.between(results, arm, against, _label(arm, data), read, _label(against, data))


def change(
    results: Results, arm: str, data: str = HEADLINE, read: Reading = BALANCED, against: str = REFERENCE
) -> PairedComparison:
    """Return `differences` as a comparison with zero."""
    return about(differences(results, arm, data, read, against))


def crossed(
    results: Results, cells: Mapping[tuple[int, int], str], data: str = HEADLINE, read: Reading = BALANCED
) -> tuple[Floats, Floats, Floats]:
    """Return two main effects and the interaction of a 2 x 2 of arms by seed: see `answers.crossed`."""
    y = {cell: values(results, arm, data, read) for cell, arm in cells.items()}
    return answers.crossed(y, f"{', '.join(cells.values())} on {data}")


def perturbed(
    results: Results, arm: str, condition: str, data: str = HEADLINE, metric: str = "macro_f1"
) -> PairedComparison:
    """Return the change of a metric on test from clean inputs to a condition, as a comparison seed by seed."""
    found = runs(results, arm, data)
    hurt, clean = scored(metric, condition), scored(metric)
    return compare([hurt(r) for r in found], [clean(r) for r in found])


def at_zero(results: Results, arms: Iterable[str], data: str = HEADLINE, read: Reading = rare_recall) -> str:
    """Return in how many runs of the arms a reading is 0, as words: there it cannot tell arms apart."""
    found = [v for a in arms for v in values(results, a, data, read).values()]
    return counted(sum(v == 0 for v in found), len(found))


def bound(results: Results, side: str, data: str = HEADLINE, metric: str = "balanced_accuracy") -> float:
    """Return the floor or the ceiling of a metric on test, mean over the reference's seeds."""
    return float(np.mean([r.bounds[side]["test"][metric] for r in runs(results, REFERENCE, data)]))


def rare_counts(results: Results, arm: str, data: str = HEADLINE) -> pd.DataFrame:
    """Return, one row a seed: test items, rare items, predictions of a rare class, hits among them."""
    rows = []
    for r in runs(results, arm, data):
        m, rare = np.array(r.extra["confusion"]["test"]["clean"]), list(paper.RARE)
        hits = m.diagonal()[rare].sum()
        rows.append((r.spec.seed, m.sum(), m[rare].sum(), m[:, rare].sum(), hits))
    return pd.DataFrame(rows, columns=["seed", "items", "rare", "predicted", "hits"]).set_index("seed")


# --- graphs ----------------------------------------------------------------------------------------------------------


def graphs(results: Results, arm: str, data: str = HEADLINE) -> Floats:
    """Return the mean graph of every seed (S, M, M); entry [i, j] is the edge i -> j, size alone."""
    return np.array([np.abs(r.extra["graph"]["mean"]) for r in runs(results, arm, data)])


def directed(graph: ArrayLike) -> list[tuple[int, int]]:
    """Return the edges i -> j of a true graph that has no edge j -> i."""
    a = np.asarray(graph) != 0
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(a)) if not a[j, i]]


def turned_right(found: ArrayLike, truth: ArrayLike) -> Share:
    """Return for how many (graph, true edge i -> j) pairs the found weight of i -> j exceeds that of j -> i.

    found: (S, M, M). Pairs with equal weights, such as an edge that was not found at all, are not counted. Raises
    EvaluationError if the truth has no edge with a direction.
    """
    a, edges = np.abs(np.asarray(found, float)), directed(truth)
    if not edges:
        raise EvaluationError("the true graph has no edge with a direction")
    told = [g[i, j] > g[j, i] for g in a for i, j in edges if g[i, j] != g[j, i]]
    return Share(int(sum(told)), len(told))


def one_way(found: ArrayLike, ratio: float = 0.1) -> Share:
    """Return for how many pairs of modalities, over graphs (S, M, M), one direction is below `ratio` of the other."""
    a = np.abs(np.asarray(found, float))
    both = [sorted((g[i, j], g[j, i])) for g in a for i in range(len(g)) for j in range(i)]
    return Share(sum(int(low < ratio * high) for low, high in both), len(both))


def distance(found: ArrayLike, truth: ArrayLike, least: float = EDGE) -> int:
    """Return the structural Hamming distance of a graph to the true one; weights of `least` or more are edges."""
    a = np.abs(np.asarray(found, float)) * (1 - np.eye(len(np.asarray(found))))
    return structural_hamming_distance((np.asarray(truth) != 0).astype(int), (a >= least).astype(int))


# --- tables ----------------------------------------------------------------------------------------------------------


def arms_table(results: Results, data: str = HEADLINE, read: Reading = BALANCED) -> pd.DataFrame:
    """Return one row an arm on a data label, tested against the reference: see `answers.arms_table`."""
    names = [n for n in dict.fromkeys(r.spec.arm for r in results.records) if not n.startswith("perturbed_")]  # twins
    return answers.arms_table(names, lambda arm: values(results, arm, data, read), REFERENCE)
