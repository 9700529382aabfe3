"""What the records say about the way the paper measures: its metric, its epoch, its seeds, its equalities.

All from committed records: a confusion matrix holds everything that a metric of decisions needs, whatever the order of
its items, and `history[i]["probe"]` holds both metrics of every epoch on the validation split.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import ConfigError
from affectcore.evaluation.inputs import Floats, finite
from affectcore.models import registry
from affectcore.models.shapes import SHAPES
from affectcore.studies.affect_diff import evidence, paper
from affectcore.studies.claims import Results
from affectcore.studies.store import RunRecord

PAPER, TRUE, RARE = "batch_averaged_macro_recall_64", "balanced_accuracy", "rare_recall"  # as the probes name them
LOSSES = {  # what the baselines were trained with, and the ending of the arm's name
    "as published": "_published_loss", "augmentation": "_ce", "augmentation, weights": "_weights",
    "augmentation, focal": "_focal", "weights, focal": "_no_augmentation", "augmentation, weights, focal": "",
}  # fmt: skip


# --- The metric -------------------------------------------------------------------------------------------------------


def in_batches(confusion: ArrayLike, size: int, orders: int = 200, seed: int = 0) -> Floats:
    """Return (orders,): the paper's metric of the items that a confusion matrix counts, drawn up in random orders and
    cut into batches of `size`. At the size of the whole split it is the macro recall, whatever the order."""
    counts = np.asarray(confusion, int)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.min() < 0 or not counts.sum():
        raise ConfigError(f"in_batches: a confusion matrix is square and counts items, got shape {counts.shape}")
    if size < 1 or orders < 1:
        raise ConfigError(f"in_batches: size {size} and orders {orders} must be at least 1")
    c, n = len(counts), int(counts.sum())
    cells = np.repeat(np.arange(c * c), counts.ravel())
    batch, lengths = np.arange(n) // size, np.bincount(np.arange(n) // size)
    place = (np.arange(orders)[:, None] * len(lengths) + batch) * c * c + cells[_orders(n, orders, seed)]
    table = np.bincount(place.ravel(), minlength=orders * len(lengths) * c * c).reshape(orders, -1, c, c)
    hits, true = np.diagonal(table, axis1=2, axis2=3), table.sum(3)
    recall = np.where(true > 0, hits / np.maximum(true, 1), 0.0)
    value = recall.sum(2) / ((true + table.sum(2)) > 0).sum(2)
    return np.asarray(value @ (lengths / n))


@lru_cache(maxsize=4)
def _orders(n: int, orders: int, seed: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permuted(np.tile(np.arange(n), (orders, 1)), axis=1)


def metric_by_size(
    records: Iterable[RunRecord], sizes: Sequence[int], orders: int = 200, split: str = "valid"
) -> pd.DataFrame:
    """Return one row a run and batch size: arm, seed, size, mean and sd over random orders, the true balanced accuracy,
    and the share of predictions that name a rare class. Size 0 is the whole split at once."""
    rows = []
    for r in records:
        m = np.array(r.extra["confusion"][split]["clean"])
        seen = m.sum(1) > 0
        true = float((m.diagonal()[seen] / m.sum(1)[seen]).mean())
        rare = float(m[:, list(paper.RARE)].sum() / m.sum())
        for size in sizes:
            found = in_batches(m, size or int(m.sum()), orders if size else 1)
            rows.append((r.spec.arm, r.spec.seed, size, float(found.mean()), float(found.std()), true, rare))
    return pd.DataFrame(rows, columns=["arm", "seed", "size", "mean", "sd", "true", "rare"])


# --- The epoch --------------------------------------------------------------------------------------------------------


def probed(r: RunRecord, name: str) -> Floats:
    """Return what the probe found in every epoch (a value that is not defined: NaN)."""
    return np.array([h["probe"].get(name) for h in r.history], float)


def chosen_epochs(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return one row a run: the epoch that each metric chooses on validation ("paper", "true"), and how much true
    balanced accuracy and recall of rare classes the paper's choice has more (or less) than the other."""
    rows = []
    for r in records:
        a, b = (int(np.nanargmax(probed(r, m))) for m in (PAPER, TRUE))
        more = [probed(r, m)[a] - probed(r, m)[b] for m in (TRUE, RARE)]
        rows.append((r.spec.arm, r.spec.data.name, r.spec.seed, a, b, *more))
    return pd.DataFrame(rows, columns=["arm", "data", "seed", "paper", "true", "balanced", "rare"])


def expected_maximum(values: ArrayLike, n: int) -> float:
    """Return the expected maximum of n epochs drawn with replacement from these: what selection alone makes of a
    series without trend. Exact: the i-th smallest of m is the maximum with probability (i/m)^n - ((i-1)/m)^n."""
    x = np.sort(finite(values, "values", 1))
    if n < 1 or not len(x):
        raise ConfigError(f"expected_maximum: {len(x)} values, n = {n}: both must be at least 1")
    steps = (np.arange(len(x) + 1) / len(x)) ** n
    return float(x @ np.diff(steps))


READINGS = ("highest epoch", "best mean of five", "mean of the middle", "chosen epoch, test", "..., true metric")


def readings(r: RunRecord) -> dict[str, float]:
    """Return the same run read in five ways, from the paper's number to the true one: READINGS.

    The first three are on validation; the middle is as large a part of the training as epochs 10 to 49 of 64. On a
    world, test items are drawn like validation items, so the step to test is what selection added.
    """
    curve = probed(r, PAPER)
    n = len(curve)
    middle = curve[n * 10 // 64 : max(n * 50 // 64, n * 10 // 64 + 1)]
    test = r.metrics["test"]["clean"]
    ends = [float("nan") if test[m] is None else float(test[m] or 0) for m in (PAPER, TRUE)]
    return dict(zip(READINGS, (curve.max(), paper.smoothed(curve).max(), middle.mean(), *ends)))


def authors_readings(key: str) -> dict[str, float]:
    """Return the same five readings of one of the author's runs."""
    m = paper.BY_KEY[key]
    return dict(zip(READINGS, (m.validation, m.smoothed, m.mean, m.batched, m.balanced)))


# --- Equal runs -------------------------------------------------------------------------------------------------------


def compare_numbers(results: Results, a: str, b: str, data: str) -> pd.DataFrame:
    """Return one row a seed that both arms have: how many recorded numbers there are, how many are equal in both, and
    the largest difference. Compared are all metrics, confusion counts, the choice of the epoch and the probes."""
    of: dict[str, dict[int, RunRecord]] = {arm: {} for arm in (a, b)}
    for r in results.records:
        if r.spec.arm in of and r.spec.data.name == data:
            of[r.spec.arm][r.spec.seed] = r
    rows = []
    for seed in sorted(of[a].keys() & of[b].keys()):
        x, y = (_numbers(of[arm][seed]) for arm in (a, b))
        shared = sorted(x.keys() & y.keys())
        d = np.array([abs(x[k] - y[k]) for k in shared])
        rows.append((seed, len(shared), int((d == 0).sum()), float(d.max())))
    return pd.DataFrame(rows, columns=["seed", "numbers", "equal", "largest"]).set_index("seed")


def _numbers(r: RunRecord) -> dict[str, float]:
    content = {
        "metrics": r.metrics, "confusion": r.extra["confusion"], "epoch": r.epoch, "value": r.value,
        "probe": {str(i): h["probe"] for i, h in enumerate(r.history)},
    }  # fmt: skip
    return dict(_leaves(content))


def _leaves(x: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(x, Mapping):
        for k, v in x.items():
            yield from _leaves(v, f"{name}/{k}")
    elif isinstance(x, list | tuple):
        for i, v in enumerate(x):
            yield from _leaves(v, f"{name}/{i}")
    elif isinstance(x, int | float):
        yield name, float(x)


# --- Twelve statements about the published numbers --------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """A statement about the published paper and its records, what was computed to test it, and whether it holds."""

    statement: str
    computed: str
    by: str  # what computes it
    holds: bool


def parameter_counts() -> tuple[int, int, int]:
    """Return the parameters of the published model: without prior, trainable, and with the prior's average."""
    shape = SHAPES["mosei_classes"]
    with torch.device("meta"):  # shapes alone
        whole = registry.build("affect_diff", shape, "author")
        bare = registry.build("affect_diff", shape, "author", prior="off")
    trainable = sum(p.numel() for p in whole.parameters() if p.requires_grad)
    copied = sum(b.numel() for n, b in whole.named_buffers() if n.startswith("average."))
    return sum(p.numel() for p in bare.parameters()), trainable, trainable + copied


def checks() -> list[Check]:
    """Return twelve statements about the published numbers, each with what this project computes for it."""
    full, by = paper.BY_KEY["full"], paper.BY_KEY
    counts, logged = parameter_counts(), (by["no_diffusion"].parameters, full.trainable, full.parameters)
    lift = {m.key: m.batched - m.balanced for m in paper.MODELS}
    rising = [lift[m.key] for m in paper.MODELS if m.kind == "baseline"]
    r = float(np.corrcoef([m.rare for m in paper.MODELS], list(lift.values()))[0, 1])
    exact = {k: paper.recomputed(k).balanced for k in ("full", "tetfn", "mmim", "classifier_only", "no_vae")}
    above = [k for k in ("mult", "misa") if by[k].balanced > full.balanced] + [
        k for k, v in exact.items() if v > exact["full"]
    ]
    table = evidence.gradients("stop").loc["diffusion"]
    reached = [part for part, norm in table.items() if norm is not None]
    values, sd = paper.equivalent_spread()
    most = (1 - paper.FLOOR) ** 2 * -log(paper.FLOOR)
    first = float(paper.losses()["train_task"].iloc[0])
    n, matrix = sum(paper.SPLIT.values()), np.array(paper.CONFUSION["full"])
    cuts = (int(0.7 * n), int(0.85 * n) - int(0.7 * n), n - int(0.85 * n))
    own, cycles = paper.recomputed("full"), paper.two_cycles()
    dag = registry.build("affect_diff", SHAPES["mosei_classes"], "author", prior="off").config
    return [
        Check("The text describes another model than the one that was run",
              f"{len(paper.DISAGREEMENTS)} disagreements; the code's settings count {counts[2]:,} parameters, "
              f"logged {logged[2]:,}", "DISAGREEMENTS, parameter_counts",
              len(paper.DISAGREEMENTS) >= 14 and counts == logged),
        Check("The reported metric is not balanced accuracy",
              f"a constant scores {paper.constant_score():.6f}, logged {paper.CONSTANT_VALIDATION}, true 1/6",
              "constant_score", abs(paper.constant_score() - paper.CONSTANT_VALIDATION) < 5e-7),
        Check("It pays for never predicting a rare class",
              f"baselines gain {min(rising):.3f} to {max(rising):.3f}, no VAE {lift['no_vae']:+.3f}; "
              f"correlation of gain and rare predictions {r:.2f}", "MODELS",
              min(rising) > 0 > lift["no_vae"] and r < 0),
        Check("True balanced accuracy on test ranks the whole model low",
              f"{exact['full']:.4f}; higher: {len(above)} of the six models compared", "recomputed",
              len(above) == 6),
        Check("Three printed seeds are one run",
              f"printed deviation {paper.PRINTED_SPREAD:g}; runs with equal gradients deviate by {sd:.3f}",
              "equivalent_spread", sd > paper.PRINTED_SPREAD == 0),
        Check("Behind the stop-gradient the prior cannot teach the classifier",
              f"parts that its loss reaches: {', '.join(reached)}", "evidence.gradients", reached == ["prior"]),
        Check("Four runs that differ in the prior alone show the noise of one run",
              f"{', '.join(f'{v:.3f}' for v in values)}: deviation {sd:.3f}", "equivalent_spread",
              abs(sd - 0.047) < 5e-4),
        Check("The whole model is trained with class weights that the text leaves out",
              f"first task loss {first:.2f}; focal loss without weights gives an undecided model {most:.2f}",
              "losses", first > most),
        Check("2,795 samples were used, not 3,292",
              f"matrices hold {matrix.sum()}; 70/15/15 % of {n:,}: {cuts[0]:,} / {cuts[1]} / {cuts[2]}",
              "CONFUSION, SPLIT", cuts == tuple(paper.SPLIT.values()) and matrix.sum() == cuts[2]),
        Check("Test accuracy .642 has no support",
              f"{np.trace(matrix)} of {matrix.sum()} right: {own.accuracy:.3f}", "recomputed",
              round(own.accuracy, 3) == full.accuracy == paper.DRAFT_ACCURACY != full.printed_accuracy),
        Check('"No stop-gradient" is printed with another run\'s number',
              f"printed {by['joint'].printed_validation}, own record {by['joint'].validation}, "
              f"no guidance {by['no_guidance'].validation}", "MODELS",
              by["joint"].printed_validation == by["no_guidance"].validation != by["joint"].validation),
        Check("The graph is a penalised attention matrix, and the drawn one has cycles",
              f"gate of the published code: {dag.gate}; drawn graph: h = {paper.drawn_h():.4f}, "
              f"{len(cycles)} pairs with edges both ways", "drawn_h, two_cycles",
              dag.gate == "graph" and paper.drawn_h() > 0 and len(cycles) == 3),
    ]  # fmt: skip
