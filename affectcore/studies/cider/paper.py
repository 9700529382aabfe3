"""What CIDer's paper, notes on it and its released files state, as numbers with their sources.

The paper's numeric tables could not be had (its accessible copies stop early): `STATED` holds what survives. Class
counts of the splits were solved from the released class means and priors; parameter counts are recomputed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from affectcore.data.schema import Task
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.models.shapes import SHAPES, THREE


@dataclass(frozen=True)
class Stated:
    """One value: what it is, the value, where it stands."""

    what: str
    value: float
    source: str


STATED: Mapping[str, Stated] = {
    "total": Stated("parameters of CIDer, BERT left out", 248e3, "text"),
    "maci": Stated("parameters of MACI", 37e3, "text"),
    "mosi_acc2": Stated("accuracy of signs, CMU-MOSI, complete", 0.86, "Table X"),
    "mosi_acc7": Stated("seven classes, CMU-MOSI, complete", 0.465, "Table X"),
    "cross_acc7": Stated("seven classes, CMU-MOSI to CMU-MOSEI", 0.35, "Tables XIX, XX"),
    "missing_0.9": Stated("accuracy at 90 % missing, corpus not said", 0.70, "text"),
    "ctc": Stated("loss of the CTC alignment", 1e4, "text"),
}

# test class counts (negative, neutral, positive) of the published splits
TEST_SIGNS = {
    "MOSI, in distribution": (379, 30, 277), "MOSI, out of distribution": (284, 32, 370),
    "MOSEI, in distribution": (1350, 1025, 2284), "MOSEI, out of distribution": (1776, 1666, 1217),
    "MOSEI to MOSI": (377, 29, 272), "MOSI to MOSEI": (1348, 1017, 2272),
}  # fmt: skip
TRAIN_SIGNS = {
    "MOSI, in distribution": (552, 53, 679), "MOSI, out of distribution": (626, 55, 603),
    "MOSEI, in distribution": (4738, 3540, 8048), "MOSEI, out of distribution": (4344, 2980, 9002),
}  # fmt: skip
TEST_SEVEN = {
    "MOSI, in distribution": (46, 156, 145, 106, 113, 100, 20),
    "MOSI, out of distribution": (35, 118, 113, 149, 117, 125, 29),
    "MOSEI, in distribution": (70, 399, 554, 1927, 1228, 440, 41),
    "MOSEI, out of distribution": (103, 437, 912, 1803, 990, 367, 46),
    "MOSEI to MOSI": (46, 154, 145, 104, 111, 98, 20), "MOSI to MOSEI": (70, 399, 553, 1916, 1222, 436, 41),
}  # fmt: skip
SEVEN = Task("single_label", ("-3", "-2", "-1", "0", "+1", "+2", "+3"))


def floors() -> dict[str, dict[str, float]]:
    """Return what constants score on the published test sets: always negative, always positive, best of seven."""
    out = {}
    for name, (negative, _, positive) in TEST_SIGNS.items():
        signs, seven = negative + positive, TEST_SEVEN[name]
        out[name] = {
            "negative": negative / signs, "positive": positive / signs, "seven": max(seven) / sum(seven),
            "lowest class": seven[0] / sum(seven),
        }  # fmt: skip
    return out


def label_shift() -> dict[str, tuple[float, float]]:
    """Return the share of positive samples among those with a sign, in training and in test, per published split."""
    return {
        name: tuple(c[2] / (c[0] + c[2]) for c in (TRAIN_SIGNS[name], TEST_SIGNS[name]))  # type: ignore[misc]
        for name in TRAIN_SIGNS
    }


def parameters(layers: int, seven: bool) -> dict[str, int]:
    """Return the published code's parameters on unaligned CMU-MOSI: all, those of MACI, of decoders, at inference."""
    shape = SHAPES["cider"]
    task = SEVEN if seven else THREE
    model: Any = registry.build("cider", Shape(shape.dims, shape.steps, task), "author", layers=layers)

    def size(module: Any) -> int:
        return sum(p.numel() for p in module.parameters())

    total, maci, decoders = size(model), size(model.network.head), size(model.decoders)
    return {"total": total, "maci": maci, "decoders": decoders, "inference": total - decoders}


def degenerate_tau(scores: np.ndarray, tau: float) -> np.ndarray:
    """Return the class chosen where factual and counterfactual text are the same, as at missing rate 1."""
    return np.asarray((scores - tau * scores).argmax(-1))
