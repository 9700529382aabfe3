"""From CmIR's records to the tables and sentences of its pages."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from affectcore.evaluation.statistics import PairedComparison
from affectcore.studies import answers
from affectcore.studies.answers import number, spanned
from affectcore.studies.claims import Results
from affectcore.studies.cmir.evidence import SETTINGS, TESTS, contrast, drawn, kept, reliance, safety, squared, worst
from affectcore.studies.readings import Floats, Reading, by_seed, noted, scored

HEADLINE = "environments_headline"
WORLDS = {s: f"environments_{s}" for s in SETTINGS}
BETAS = (0.9, 0.4, 0.0, -0.4, -0.9)
CONTROL = ("architecture", "interventional")
GATES = {"worst case": 0.40, "reliance": 0.10}  # of use; the purity gates are of R2, see `gates`

# what pages call the arms
NAMES = {
    "vanilla": "network without codes", "architecture": "architecture, no terms", "cmir": "CmIR",
    "cmir_strong": "CmIR, stronger", "cmir_prediction": "CmIR, of predictions",
    "noise_augmentation": "noise augmentation",
    "vrex": "V-REx", "irm": "IRM", "ib_irm": "IB-IRM", "groupdro": "GroupDRO", "coral": "CORAL", "eiil": "EIIL",
    "true_prediction": "CmIR, true env., predictions", "true_coral": "CmIR, true env., codes",
    "oracle_pairs": "CmIR, true counterfactuals", "nuisance_pairs": "CmIR, nuisance redrawn",
    "no_inv": "without invariance", "no_dec": "without decorrelation", "no_rec": "without reconstruction",
    "only_inv": "invariance alone", "only_dec": "decorrelation alone", "only_rec": "reconstruction alone",
    "noise_0.5": "noise augmentation .5", "jacobian": "Jacobian penalty", "dropout": "drop-out .3",
    "decay": "weight decay 1", "mixup": "mixup", "rdrop": "R-Drop", "constant": "constant", "linear": "linear",
    "c_mib": "C-MIB", "ithp": "ITHP", "self_mm": "Self-MM", "misa": "MISA", "clue": "CLUE", "gear": "GEAR",
    "published_cmir": "CmIR, text literally", "published_cmir_ood": "CmIR, text literally",
    "selected_on_test": "CmIR, epoch by test",
}  # fmt: skip
INVARIANT = ("vrex", "irm", "ib_irm", "groupdro", "coral", "eiil", "true_prediction", "true_coral")
GENERIC = ("noise_augmentation", "noise_0.5", "jacobian", "dropout", "decay", "mixup", "rdrop", "only_rec", "only_dec")


def named(arm: str) -> str:
    return NAMES.get(arm, arm)


def change(
    results: Results, arm: str, against: str, data: str = HEADLINE, read: Reading = safety, other: str = ""
) -> PairedComparison:
    """Return an arm less another on a data label, seed by seed; other: the second arm's label, if another."""
    return answers.change(results, arm, against, data, read, other)


def curve(results: Results, arm: str, data: str = HEADLINE, condition: str = "clean") -> list[Floats]:
    """Return squared errors by seed, one array a test environment, in the order of BETAS."""
    return [by_seed(results, arm, data, squared(t, condition)) for t in TESTS]


def mean_sd(x: Floats, digits: int = 2) -> str:
    """Return "0.85 ± 0.06": mean and standard deviation over seeds."""
    return f"{round(float(np.mean(x)), digits) + 0:.{digits}f} ± {np.std(x, ddof=1):.{digits}f}"


def use_table(
    results: Results, arms: Sequence[str], data: str = HEADLINE, label: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return one row an arm: squared error as trained, untied, worst; reliance; runs that pass the use gate."""
    rows = {}
    for arm in arms:
        where = (label or {}).get(arm, data)
        w, r = by_seed(results, arm, where, worst), by_seed(results, arm, where, reliance)
        rows[named(arm)] = {
            "as trained": mean_sd(by_seed(results, arm, where, squared())),
            "untied": mean_sd(by_seed(results, arm, where, squared("test_e2"))),
            "worst case": mean_sd(w), "reliance": mean_sd(r),
            "use gate": f"{int(((w <= GATES['worst case']) & (r <= GATES['reliance'])).sum())} of {len(w)}",
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


CODE = ("causal", "spurious")


def purity_table(
    results: Results, arms: Sequence[str], data: str = HEADLINE, label: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return R2 of nonlinear probes, means over seeds: Z -> factors, and in how many runs the purity gate is passed."""
    rows = {}
    for arm in arms:
        where = (label or {}).get(arm, data)
        each = {f"{z} → {k}": by_seed(results, arm, where, noted("codes", z, k)) for z in ("inv", "spu") for k in CODE}
        passed = (each["inv → causal"] >= 0.9) & (each["inv → spurious"] <= 0.1) & (each["spu → spurious"] >= 0.9)
        rows[named(arm)] = {k: number(v.mean(), 2) for k, v in each.items()} | {
            "kept of the causal score": number(by_seed(results, arm, where, kept).mean(), 2),
            "purity gate": f"{int(passed.sum())} of {len(passed)}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


CORPUS_METRICS = {"acc7": "Acc7", "acc2_has_zero": "Acc2 with 0", "acc2_non_zero": "Acc2", "f1_non_zero": "F1",
                  "mae": "MAE", "pearson": "correlation"}  # fmt: skip


def corpus_table(results: Results, arms: Sequence[str], data: str, split: str = "test") -> pd.DataFrame:
    """Return means over seeds, accuracies in percent; the interval of Acc2 is over seeds and utterances."""
    rows = {}
    for arm in arms:
        row = {}
        for metric, title in CORPUS_METRICS.items():
            v = by_seed(results, arm, data, scored(metric, split=split)).mean()
            row[title] = "-" if np.isnan(v) else f"{v:.3f}" if metric in ("mae", "pearson") else f"{100 * v:.1f}"
        where = data if split == "test" else f"{data}:{split}"
        low, high = (100 * x for x in drawn(results, arm, where, "acc2_non_zero").interval())
        rows[named(arm)] = row | {"Acc2, 95 %": f"{low:.1f} to {high:.1f}"}
    return pd.DataFrame.from_dict(rows, orient="index")


def gap(results: Results, arm: str, metric: str = "acc2_non_zero") -> PairedComparison:
    """Return how much better an arm is on the words of training than on other words."""
    return contrast(results, [(1, arm, "mosi_ood:test_iid"), (-1, arm, "mosi_ood")], metric)


def on_draws(
    results: Results, arms: Sequence[str], against: str, data: str, metric: str
) -> dict[str, PairedComparison]:
    """Return every arm less another on a corpus."""
    return {named(a): contrast(results, [(1, a, data), (-1, against, data)], metric) for a in arms if a != against}


def spread(
    results: Results, arm: str, data: str = HEADLINE, conditions: Sequence[str] = ("clean", "noise 1")
) -> Floats:
    """Return by seed the range of squared errors over all test environments under all conditions (Q19)."""
    table = np.stack([x for c in conditions for x in curve(results, arm, data, c)])
    return np.asarray(table.max(0) - table.min(0))


def theorem(
    results: Results, raw: str = "vanilla", arm: str = "cmir", worlds: Sequence[str] = tuple(WORLDS.values())
) -> pd.DataFrame:
    """Return one row a run: Theorem 3's terms that can be measured, and what happened.

    sigma: largest difference of the raw model's risk between test environments; delta: the same of the arm; condition:
    sigma > number of environments x delta, what its proof needs even if the code lost nothing of X; lower: whether the
    arm's worst case is lower than the raw model's.
    """
    rows = []
    for data in worlds:
        a, b = np.stack(curve(results, raw, data)), np.stack(curve(results, arm, data))
        for seed in range(a.shape[1]):
            sigma, delta = np.ptp(a[:, seed]), np.ptp(b[:, seed])
            rows.append(
                {"world": data, "sigma": sigma, "delta": delta, "condition": bool(sigma > len(a) * delta),
                 "lower": bool(b[:, seed].max() < a[:, seed].max())}
            )  # fmt: skip
    return pd.DataFrame(rows)


def compared(
    results: Results, arms: Sequence[str], against: str, data: str = HEADLINE, read: Reading = safety
) -> pd.Series:
    """Return "+.012 [..]" for every arm less another under one reading."""
    return pd.Series({named(a): spanned(change(results, a, against, data, read)) for a in arms if a != against})
