"""What is printed about RoHyDR and the methods it compares with, as typed data.

The body of the paper [rohydr] could not be read. Sources, named at every group:
* notes: the project's notes on the paper; figure: read off Fig. 1(c), with an error of about .2 points;
* published: tables of the earlier methods' own publications, on MOSI and MOSEI, one model a missing rate.
What is only recalled from the literature stands nowhere here.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from affectcore.data.missing import RANDOM_MR

Floats = NDArray[np.float64]
RATES = tuple(RANDOM_MR)
# Notes: mean ACC2 over missing rates, by the corpus it is assigned to there; gains over earlier methods.
AVERAGES = {"MOSI": 82.45, "MOSEI": 71.78}
GAINS = (4.24, 6.81)

# Published: ACC2 under random missing at rates 0 to .7.
ACC2: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "MOSI": {
        "DCCA": (75.3, 72.1, 69.3, 65.4, 62.8, 60.9, 58.6, 57.4),
        "DCCAE": (77.3, 74.5, 71.8, 67.0, 63.6, 62.0, 59.6, 58.1),
        "MCTN": (81.4, 78.4, 75.6, 71.3, 68.0, 65.4, 63.8, 61.2),
        "MMIN": (84.6, 81.8, 79.0, 76.1, 71.7, 67.2, 64.9, 62.8),
        "DiCMoR": (85.7, 83.9, 82.1, 80.4, 77.9, 76.7, 73.3, 71.1),
        "IMDer": (85.7, 84.9, 83.5, 81.2, 78.6, 76.2, 74.7, 71.9),
        "MPLMM": (83.6, 81.7, 80.2, 78.4, 77.1, 76.8, 76.1, 74.9),
    },
    "MOSEI": {
        "DCCAE": (81.2, 78.4, 75.5, 72.3, 70.3, 69.2, 67.6, 66.6),
        "MCTN": (84.2, 81.8, 79.0, 76.9, 74.3, 73.6, 73.2, 72.7),
        "MMIN": (84.3, 81.9, 79.8, 77.2, 75.2, 73.9, 73.2, 73.1),
        "DiCMoR": (85.1, 83.7, 81.8, 79.8, 78.7, 77.7, 76.7, 75.4),
        "IMDer": (85.1, 84.8, 82.7, 81.3, 79.3, 79.0, 78.0, 77.3),
        "MPLMM": (85.1, 83.5, 82.1, 78.5, 77.6, 76.6, 75.4, 74.3),
    },
}
# An independent re-run, ten seeds, one code base: F1 on MOSI at rates 0 to .7.
RERUN_F1 = {
    "MCTN": (84.6, 79.9, 75.5, 72.3, 67.9, 59.7, 58.8, 56.1),
    "MMIN": (85.0, 82.1, 78.6, 74.6, 71.2, 68.0, 62.9, 59.0),
    "GCNet": (85.8, 84.5, 81.0, 75.4, 74.6, 71.0, 65.9, 63.9),
    "IMDer": (85.7, 84.1, 82.8, 76.6, 75.9, 72.2, 67.8, 65.1),
}
# Computed from the published splits' labels: ACC2 of constants on the test split (MOSEI solved from printed rows).
FLOORS = {"MOSI": 57.8, "MOSEI": 62.9}

# Figure 1(c): ACC2 after each of 50 epochs, "severe modality incompleteness"; data set and rate are not printed.
CURVES: Mapping[str, Floats] = {
    "earlier": np.array(
        [56.5, 58.4, 58.4, 57.5, 56.9, 59.7, 57.8, 58.4, 57.3, 59.8, 62.8, 62.7, 61.8, 62.8, 63.6, 64.2, 64.0, 65.1,
         64.2, 62.8, 61.8, 62.9, 63.4, 64.3, 66.8, 68.2, 69.2, 68.4, 69.2, 64.4, 60.6, 58.5, 57.7, 56.2, 55.9, 59.0,
         62.3, 60.0, 58.7, 60.5, 65.6, 67.8, 66.9, 66.2, 66.4, 66.7, 64.3, 63.0, 60.9, 61.3]
    ),
    "RoHyDR": np.array(
        [52.8, 54.2, 55.9, 57.2, 60.2, 62.4, 63.9, 64.7, 64.5, 64.4, 64.9, 65.9, 67.6, 68.4, 69.7, 70.1, 71.3, 70.9,
         70.3, 70.3, 71.8, 73.3, 74.1, 74.7, 74.3, 73.9, 74.4, 74.5, 74.8, 73.5, 73.5, 73.1, 73.1, 73.1, 73.4, 74.3,
         74.2, 74.2, 73.3, 72.9, 72.2, 72.0, 72.4, 72.0, 72.3, 71.9, 71.7, 70.9, 70.8, 71.5]
    ),
}  # fmt: skip


def mixture(rate: float | None = None) -> tuple[float, float, float]:
    """Return the shares of samples with one, two and three modalities at a rate, or averaged over rates 0 to .7."""
    two, one = np.mean(list(RANDOM_MR.values()), axis=0) if rate is None else RANDOM_MR[rate]
    return float(two), float(one), float(1 - two - one)


def best_average(corpus: str) -> tuple[str, float]:
    """Return the earlier method with the best mean ACC2 over rates 0 to .7, and that mean."""
    means = {m: float(np.mean(v)) for m, v in ACC2[corpus].items()}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def roughness(curve: Floats) -> float:
    """Return the mean absolute change from epoch to epoch."""
    return float(np.abs(np.diff(curve)).mean())


def single_needed(corpus: str, average: float) -> float:
    """Return the least mean ACC2 with one modality left that an average over rates 0 to .7 needs.

    Nothing on complete samples, or with two modalities, is taken to be better than the best published complete number.
    """
    one, two, full = mixture()
    complete = max(v[0] for v in ACC2[corpus].values())
    return (average - (two + full) * complete) / one
