"""What the Affect-Diff paper [affectdiff] prints and what its author's public records hold, as typed data.

Sources, named at every group:
* text, table or figure of the paper: the LaTeX source of 30 April 2026, a week before arXiv 2605.08252 v1, figures and
  tables numbered as in v1;
* JSON, log: the results file and the per-epoch logs of the author's public repository, state of 30 April 2026;
* inferred: our arithmetic on these.
Single values stand here; the logs themselves are read with `author_curves` from a folder of the reader's own.
What follows from typed counts (accuracy, balanced accuracy, F1, hits) is computed, not typed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectcore.errors import ConfigError
from affectcore.evaluation import metrics
from affectcore.evaluation.inputs import Floats, Ints
from affectcore.evaluation.statistics import Interval, percentile_interval

CLASSES = ("Happy", "Sad", "Angry", "Fear", "Disgust", "Surprise")
RARE = (3, 4, 5)
MODALITIES = ("text", "audio", "vision")
FLOOR = 1 / len(CLASSES)  # true balanced accuracy of any constant


# --- Table 1: the data ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataFact:
    """A statement about the data: as the paper prints it, and as code, logs and confusion matrices have it."""

    what: str
    printed: str
    found: str
    source: str  # of what was found


# Table 1 and data section; "found" from the training guide and loader of the repository, JSON and logs.
DATA = (
    DataFact("samples", "3,292", "2,795", "repository"),
    DataFact("train, validation, test", "2,304 / 494 / 494", "1,956 / 419 / 420", "repository; matrices sum to 420"),
    DataFact("a sample", "aligned segment", "video: first 50 rows a stream, label of its first segment", "repository"),
    DataFact("why 3,292", "strict alignment drops 86 %", "number of labelled videos", "inferred"),
    DataFact("Happy", "65.9 %", "66.0 % of test, 66.2 % of all", "JSON; repository"),
    DataFact("Fear", "1.9 %", "1.9 % of test (8)", "JSON"),
    DataFact("Disgust", "2.9 %", "2.9 % of test (12)", "JSON"),
    DataFact("Surprise", "2.6 %", "2.6 % of test (11)", "JSON"),
    DataFact("three rarest together", "under 7 %", "7.4 % of test, 6.6 % of all", "JSON; repository"),
    DataFact("speakers kept apart", "no", "no", "repository"),
)
SPLIT = {"train": 1956, "validation": 419, "test": 420}  # repository
SPLIT_PRINTED = {"train": 2304, "validation": 494, "test": 494}  # data section
TOTALS = {"Happy": 1850, "Sad": 482, "Angry": 279, "rare": 184}  # repository's notebook; the rare ones by subtraction
TEST_COUNTS = (277, 76, 36, 8, 12, 11)  # JSON: row sums of every confusion matrix
BATCH = 64


# --- Tables 2, 3, 4 and 6: methods and ablations ----------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """One trained model; None where the paper prints nothing or the records have nothing.

    printed_*: in the paper's tables. The rest is the JSON's or counted in it: `validation` is the maximum over epochs
    of the batch-averaged macro recall, at `epoch`; `batched` the same metric on test; `balanced` the true balanced
    accuracy on test; f1 per class. rare, hits: predictions of the three rarest classes on test, and right ones.
    second, smoothed, mean: of the validation curve its second-best epoch, the best mean of five epochs, and the mean
    over epochs 10 to 49 (inferred from the logs).
    """

    key: str
    name: str
    kind: Literal["baseline", "full", "ablation"]
    printed_validation: float | None
    validation: float
    printed_accuracy: float | None
    accuracy: float
    macro_f1: float
    auroc: float
    batched: float
    balanced: float
    epoch: int
    f1: tuple[float, ...]
    f1_printed: bool  # whether Table 4 has the row
    parameters: int
    trainable: int
    latency: float  # ms for a batch of 64 on a CPU, classifier path
    rare: int
    hits: int
    second: float
    smoothed: float
    mean: float


_BIG, _U, _ONE = 8_916_553, 5_194_953, 1_473_353  # with U-Net and its average; trainable; without prior
# Tables 2, 3, 4 (printed); JSON; logs.
MODELS = (
    Model("tfn", "TFN", "baseline", .248, .248, .667, .667, .208, .660, .246, .213, 46,
          (.807, .362, .080, 0, 0, 0), True, 644_230, 644_230, 1.55, 0, 0, .245, .240, .236),
    Model("mult", "MulT", "baseline", .278, .278, .626, .626, .226, .677, .275, .234, 11,
          (.784, .340, .231, 0, 0, 0), True, 756_038, 756_038, 49.35, 0, 0, .275, .264, .247),
    Model("misa", "MISA", "baseline", .278, .278, .633, .633, .221, .665, .272, .230, 18,
          (.789, .428, .111, 0, 0, 0), True, 153_094, 153_094, 4.33, 0, 0, .270, .261, .241),
    Model("mmim", "MMIM", "baseline", .266, .266, .679, .679, .249, .633, .286, .247, 72,
          (.808, .422, .262, 0, 0, 0), True, 367_494, 367_494, 1.63, 1, 0, .266, .261, .233),
    Model("tetfn", "TETFN", "baseline", .324, .324, .600, .600, .217, .651, .255, .224, 16,
          (.768, .368, .167, 0, 0, 0), True, 555_782, 555_782, 54.87, 8, 0, .316, .294, .274),
    Model("full", "Affect-Diff", "full", .384, .384, .642, .543, .214, .604, .249, .224, 28,
          (.734, .375, .175, 0, 0, 0), True, _BIG, _U, 82.45, 21, 0, .350, .324, .273),
    Model("no_diffusion", "no diffusion prior", "ablation", .292, .292, None, .581, .228, .560, .233, .240, 33,
          (.769, .323, .160, 0, 0, .118), False, _ONE, _ONE, 84.95, 30, 2, .286, .276, .252),
    Model("no_graph", "no causal graph", "ablation", .334, .334, None, .479, .205, .548, .198, .215, 34,
          (.690, .358, .111, .043, 0, .031), True, _BIG, _U, 84.18, 99, 2, .318, .309, .278),
    Model("gumbel", "no NOTEARS (Gumbel)", "ablation", .325, .325, None, .540, .217, .548, .219, .232, 41,
          (.745, .317, .191, .049, 0, 0), False, _BIG, _U, 85.10, 47, 1, .323, .299, .277),
    Model("joint", "no stop-gradient", "ablation", .291, .315, None, .493, .216, .640, .217, .247, 26,
          (.721, .248, .193, .071, 0, .066), False, _BIG, _U, 86.30, 75, 3, .314, .294, .272),
    Model("no_vae", "no VAE", "ablation", .362, .362, None, .431, .242, .624, .265, .322, 14,
          (.634, .343, .121, .125, .130, .098), True, _BIG, _U, 82.67, 139, 10, .342, .320, .287),
    Model("no_guidance", "no guidance (CFG)", "ablation", None, .291, None, .526, .229, .583, .219, .233, 64,
          (.724, .322, .156, .105, .065, 0), False, _BIG, _U, 84.61, 51, 2, .289, .277, .247),
    Model("no_condition", "no causal conditioning", "ablation", None, .358, None, .533, .227, .598, .250, .237, 28,
          (.717, .388, .178, 0, 0, .080), False, _BIG, _U, 82.69, 26, 1, .340, .302, .269),
    Model("classifier_only", "classifier only", "ablation", .322, .322, None, .540, .258, .612, .276, .291, 14,
          (.739, .364, .222, 0, .105, .116), False, _ONE, _ONE, 84.53, 72, 5, .312, .294, .264),
)  # fmt: skip
BY_KEY = {m.key: m for m in MODELS}
# Table 3: differences from the full model as printed.
PRINTED_DELTAS = {"no_diffusion": -0.092, "no_graph": -0.050, "gumbel": -0.059, "joint": -0.093, "no_vae": -0.022}
ABSTRACT_GAIN = 0.18  # abstract of v1: over TETFN; the source of 30 April says .38 over MulT
PRINTED_SPREAD = 0.0  # Table 2 and Fig. 10: standard deviation of .384 over "seeds" 42, 43 and 44
DRAFT_ACCURACY = 0.543  # the repository's draft of 28 April 2026, and Fig. 12

# JSON: confusion matrices on test, rows true, columns predicted, both in the order of CLASSES.
CONFUSION: dict[str, tuple[tuple[int, ...], ...]] = {
    "full": ((192, 19, 52, 7, 0, 7), (23, 24, 24, 1, 1, 3), (16, 7, 12, 1, 0, 0),
             (3, 1, 4, 0, 0, 0), (6, 0, 5, 0, 0, 1), (6, 1, 4, 0, 0, 0)),
    "no_vae": ((138, 48, 17, 13, 30, 31), (10, 29, 5, 9, 11, 12), (6, 7, 4, 0, 15, 4),
               (1, 2, 1, 2, 2, 0), (1, 3, 3, 0, 5, 0), (2, 4, 0, 0, 2, 3)),
    "classifier_only": ((187, 19, 31, 5, 1, 34), (20, 24, 14, 2, 3, 13), (13, 7, 11, 0, 2, 3),
                        (3, 2, 3, 0, 0, 0), (3, 1, 3, 0, 1, 4), (3, 3, 1, 0, 0, 4)),
    "mmim": ((250, 16, 11, 0, 0, 0), (44, 27, 5, 0, 0, 0), (23, 4, 8, 0, 0, 1),
             (7, 0, 1, 0, 0, 0), (10, 2, 0, 0, 0, 0), (8, 3, 0, 0, 0, 0)),
    "tetfn": ((217, 33, 24, 1, 0, 2), (35, 28, 10, 0, 0, 3), (21, 7, 7, 0, 0, 1),
              (5, 2, 1, 0, 0, 0), (4, 1, 6, 0, 0, 1), (6, 5, 0, 0, 0, 0)),
}  # fmt: skip
# inferred: 95 % bootstrap intervals of true balanced accuracy whose matrices are not typed here (2,000 resamples).
TYPED_INTERVALS: dict[str, Interval] = {"tfn": (0.191, 0.236), "mult": (0.205, 0.267)}


# --- Table 5 and Fig. 11: perturbations -------------------------------------------------------------------------------

CONDITIONS = (
    "no text", "no audio", "no vision", "noise 0.1", "noise 0.25", "noise 0.5", "noise 1", "noise 2",
    "mask 0.1", "mask 0.25", "mask 0.5", "mask 0.75",
)  # fmt: skip
PRINTED_CONDITIONS = (
    "no text", "no audio", "no vision", "noise 0.1", "noise 0.5", "noise 2", "mask 0.1", "mask 0.25", "mask 0.5",
)  # fmt: skip
# Table 5 as printed: macro F1 of Affect-Diff and the difference from .214, in the order of PRINTED_CONDITIONS.
PRINTED_F1 = (.205, .232, .179, .213, .219, .200, .248, .230, .208)  # fmt: skip
PRINTED_CHANGE = (-.009, .018, -.035, -.001, .005, -.014, .034, .016, -.006)  # fmt: skip
# JSON: macro F1 under each of CONDITIONS, one unseeded draw each. The paper has the first row's nine printed ones only.
PERTURBED: dict[str, tuple[float, ...]] = {
    "full": (.205, .232, .179, .213, .209, .219, .212, .200, .248, .230, .208, .220),
    "no_diffusion": (.226, .216, .206, .222, .212, .237, .215, .165, .233, .228, .253, .203),
    "no_graph": (.188, .254, .214, .209, .212, .185, .239, .208, .202, .225, .220, .183),
    "gumbel": (.201, .235, .169, .211, .227, .235, .225, .180, .213, .217, .222, .186),
    "joint": (.204, .223, .177, .216, .216, .236, .231, .161, .211, .207, .232, .191),
    "no_vae": (.250, .243, .166, .241, .247, .249, .256, .222, .245, .254, .229, .244),
    "no_guidance": (.231, .240, .223, .230, .234, .231, .280, .229, .247, .249, .224, .237),
    "no_condition": (.232, .236, .183, .247, .210, .218, .208, .206, .224, .224, .199, .245),
    "classifier_only": (.204, .233, .196, .255, .254, .247, .243, .234, .255, .239, .236, .183),
    "tfn": (.193, .231, .208, .206, .213, .211, .211, .195, .227, .212, .215, .227),
    "mult": (.217, .233, .198, .225, .223, .232, .233, .219, .232, .217, .205, .162),
    "misa": (.141, .211, .184, .217, .226, .225, .221, .183, .229, .195, .132, .132),
    "mmim": (.148, .241, .230, .248, .242, .242, .219, .240, .238, .249, .208, .198),
    "tetfn": (.062, .226, .208, .216, .222, .221, .214, .190, .247, .248, .195, .186),
}  # fmt: skip


# --- Table 6 and Fig. 9: efficiency -----------------------------------------------------------------------------------

# Table 6 as printed: total and trainable parameters in millions, milliseconds for a batch of 64 on a CPU.
PRINTED_COST: dict[str, tuple[float, float, float]] = {
    "tfn": (.64, .64, 1.6), "misa": (.15, .15, 4.3), "mult": (.76, .76, 49.4), "classifier_only": (1.47, 1.47, 84.5),
    "no_diffusion": (1.47, 1.47, 85.0), "no_vae": (8.92, 5.19, 82.7), "full": (8.92, 5.19, 82.5),
}  # fmt: skip
# Fig. 9: points typed into the repository's figure script that differ from the JSON: millions, ms (None: as in JSON).
PLOTTED_COST: dict[str, tuple[float | None, float]] = {"mmim": (0.32, 12), "tetfn": (0.51, 35), "tfn": (None, 49.4)}


# --- Appendix and Fig. 12: sentiment ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Affect-Diff on one task. mae, pearson: None for the emotions."""

    name: str
    samples: int
    classes: int
    balanced: float
    accuracy: float
    macro_f1: float
    auroc: float
    mae: float | None = None
    pearson: float | None = None
    validation: float | None = None


# Sentiment appendix and JSON; "validation" in the JSON only. Emotions: Fig. 12 shows .54 where Table 2 has .642.
TASKS = (
    Task("six emotions", 2795, 6, .224, .543, .214, .604, validation=.384),
    Task("seven sentiments", 22_860, 7, .729, .788, .724, .952, .335, .905, .739),
    Task("two sentiments", 22_860, 2, .925, .940, .926, .966, .706, .716, .920),
)  # fmt: skip
BINARY_OF_SEVEN = 0.922  # JSON: accuracy of the signs of the seven-class model


# --- Figs. 6, 7, 8, 10 and the dropped graph --------------------------------------------------------------------------

# Fig. 6: the log's column sums of the graph divided by their total, mean over a validation epoch: text, audio, vision.
WEIGHTS: dict[int, tuple[float, float, float]] = {
    0: (.345, .330, .324), 5: (.082, .076, .842), 10: (.114, .307, .579), 15: (.089, .411, .500),
    20: (.293, .262, .445), 25: (.329, .553, .118), 28: (.232, .440, .329), 30: (.266, .556, .178),
    35: (.368, .517, .115), 40: (.301, .449, .250), 50: (.425, .362, .213), 60: (.416, .351, .233),
    63: (.375, .379, .246),
}  # fmt: skip
PRINTED_WEIGHTS = (40, (.40, .38, .25))  # text on Fig. 6: "settles" at epoch 40; the three sum to 1.03  # fmt: skip
# Fig. 7: single values of the log of the full model. Epoch: task, diffusion, KL times .1, causal (training), task
# (validation), batch-averaged macro recall (training, validation).
LOSSES: dict[int, tuple[float, ...]] = {
    0: (2.99, 1.15, .51, .189, 2.73, .144, .187),
    5: (2.79, 1.15, .10, .006, 2.63, .198, .248),
    10: (2.60, .97, .03, .001, 2.68, .237, .267),
    20: (2.30, .77, .12, .005, 2.60, .366, .271),
    28: (2.27, .77, .07, .008, 2.75, .510, .384),
    40: (1.59, .76, .11, .019, 3.46, .745, .254),
    50: (1.44, .77, .07, .016, 3.40, .765, .299),
    63: (1.37, .76, .09, .023, 3.66, .860, .244),
}  # fmt: skip
SERIES = (
    "train_task", "train_diffusion", "train_kl", "train_causal", "validation_task", "train_metric", "validation_metric",
)  # fmt: skip
KL_MOST = (41, 0.162)  # log: epoch and largest value of the weighted KL on training data after epoch 5
# Log: share of four latents sampled by the prior that the classifier gives the label they were sampled for.
HIT_RATES = {10: 0.50, 20: 0.50, 30: 0.50, 40: 0.25, 50: 0.50, 60: 0.00}
SEEDS = (42, 43, 44)  # Fig. 10; the JSON gives 42 for all three, the three logs are one file
LOG_SHA256 = "b133f959009a7fe569c56a5ceb64644fdc9b5115481e0dba7f7ec3c5ca438839"  # of each of the three
# Runs whose classifiers have the same gradients: the prior is behind the stop-gradient or absent.
EQUIVALENT = ("full", "no_guidance", "no_condition", "no_diffusion")
CONSTANT_VALIDATION = 0.187033  # log: epochs in which a model predicts one class
# The dropped static graph, typed into the repository's figure script, and its printed h. Order of MODALITIES.
DRAWN_GRAPH = ((0, .26, .14), (.31, 0, .22), (.20, .17, 0))  # fmt: skip
DRAWN_H = 0.0088

Version = Literal["methods", "appendix", "code"]
VERSIONS: tuple[Version, ...] = ("methods", "appendix", "code")


def kl_share(version: Version, epoch: float) -> float:
    """Return the share of the KL weight at an epoch: in the methods section, the appendix, the code."""
    return min(1.0, epoch % 20 / 10) if version == "code" else min(1.0, epoch / 30)


def diffusion_share(version: Version, epoch: float) -> float:
    """Return the share of the diffusion weight at an epoch: in the methods section, the appendix, the code."""
    start = 0 if version == "methods" else 9
    return min(1.0, max(0.0, (epoch - start) / 20))


@dataclass(frozen=True)
class Disagreement:
    """Where text and records say different things; `here` is what this project takes for a replication."""

    topic: str
    text: str
    records: str
    here: str


# Methods section and appendix against the repository's code, hparams and logs.
DISAGREEMENTS = (
    Disagreement("primary metric", "balanced accuracy", "macro recall averaged over batches of 64", "both"),
    Disagreement("test accuracy", ".642", ".543 (JSON, matrix, draft, Fig. 12)", ".543"),
    Disagreement("no stop-gradient, validation", ".291, the value of no CFG", ".315", ".315"),
    Disagreement("seeds", "three, sd .000", "one log three times, seed 42", "rerun"),
    Disagreement("detects rare classes", "every model but no VAE has none", "all eight ablations do, full does not",
                 "counted"),
    Disagreement("after its best epoch", "plateau", "falls to .23 to .25 at the end", "logs"),
    Disagreement("baselines' training", "same focal loss", "cross-entropy, no weights, no augmentation", "both"),
    Disagreement("class weights", "not mentioned", "root of inverse share, at most 8", "as run"),
    Disagreement("free bits", ".25", "0", "0; .25 as a variant"),
    Disagreement("KL schedule", "linear, 30 epochs", "cycles of 20", "cycles"),
    Disagreement("diffusion schedule", "from 0 or from 9", "from 9", "from 9"),
    Disagreement("learning rate", "cosine", "10 epochs of warm-up, cosine to 1 %", "as run"),
    Disagreement("attention heads", "4", "8", "8"),
    Disagreement("pooling", "attention", "mean of mean and attention", "as run"),
    Disagreement("classifier", "2 layers, dropout .3", "3 layers, dropout .4", "as run"),
    Disagreement("U-Net width", "128", "64", "64"),
    Disagreement("U-Net's input from the graph", "softmax w", "column sums, clipped", "as run"),
    Disagreement("causal loss", "h alone", "h + .1 mean |A|", "as run"),
    Disagreement("Fig. 6 shows", "softmax of the sums", "sums over their total", "both"),
    Disagreement("Fig. 6, epoch 40 (T, A, V)", ".40, .38, .25", ".30, .45, .25", "logs"),
    Disagreement("decoder", "in Fig. 1", "off", "off"),
    Disagreement("sampling at inference", "described", "not used to classify", "not used"),
    Disagreement("baselines under perturbation", "not probed", "probed, 12 conditions", "records"),
    Disagreement("TFN's latency in Fig. 9", "1.6 ms in Table 6", "49.4 typed into the figure", "1.6"),
    Disagreement("sentiment split", "standard in one place, random in another", "random", "random"),
)  # fmt: skip


# --- What follows from the typed values -------------------------------------------------------------------------------


def models() -> pd.DataFrame:
    """Return MODELS as a table, one row each, with the columns of `Model`; None is NaN in columns of numbers."""
    table = pd.DataFrame([{f.name: getattr(m, f.name) for f in fields(m)} for m in MODELS])
    return table.astype({"printed_validation": float, "printed_accuracy": float})


def expand(matrix: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Return target and prediction (N,) that have this confusion matrix."""
    counts = np.asarray(matrix)
    true, guessed = np.indices(counts.shape)
    return np.repeat(true.ravel(), counts.ravel()), np.repeat(guessed.ravel(), counts.ravel())


@dataclass(frozen=True)
class Recomputed:
    """What a confusion matrix says. rare: predictions of the three rarest classes; hits: right ones among them."""

    n: int
    accuracy: float
    balanced: float
    macro_f1: float
    f1: tuple[float, ...]
    rare: int
    hits: int


def recomputed(key: str) -> Recomputed:
    """Return what the confusion matrix of a model says; there are those of CONFUSION."""
    y, p = expand(CONFUSION[key])
    rare = np.isin(p, RARE)
    return Recomputed(
        n=len(y),
        accuracy=metrics.accuracy(y, p),
        balanced=metrics.balanced_accuracy(y, p),
        macro_f1=metrics.macro_f1(y, p),
        f1=tuple(float(x) for x in metrics.class_f1(y, p, len(CLASSES))),
        rare=int(rare.sum()),
        hits=int((rare & (y == p)).sum()),
    )


def balanced_interval(key: str, draws: int = 10_000, seed: int = 0) -> Interval:
    """Return the 95 % bootstrap interval of a model's true balanced accuracy: all test samples redrawn, classes free.

    A draw without any sample of a class (about 1 in 3,000 for Fear) averages over the classes that it holds.
    """
    counts = np.asarray(CONFUSION[key], float)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(int(counts.sum()), counts.ravel() / counts.sum(), draws).reshape(draws, *counts.shape)
    n = drawn.sum(2)
    recall = np.diagonal(drawn, axis1=1, axis2=2) / np.where(n > 0, n, np.nan)
    return percentile_interval(np.nanmean(recall, 1))


def interval(key: str) -> Interval | None:
    """Return the interval of `balanced_interval`, else the typed one, else None."""
    return balanced_interval(key) if key in CONFUSION else TYPED_INTERVALS.get(key)


def constant_batches() -> tuple[Ints, Ints]:
    """Return labels and batch numbers (419,) of a validation split on which a constant scores CONSTANT_VALIDATION.

    Six batches of 64 and one of 35; four of the 64s hold five classes, the other three batches all six. Which samples
    are in which batch is not known; any such filling gives the number.
    """
    target, batch = [], []
    for i, (size, classes) in enumerate([(BATCH, 5)] * 4 + [(BATCH, 6)] * 2 + [(35, 6)]):
        target += [0] * (size - classes + 1) + list(range(1, classes))  # Happy fills what the others leave
        batch += [i] * size
    return np.array(target), np.array(batch)


def constant_score() -> float:
    """Return the paper's validation metric of a predictor that always says Happy, on `constant_batches`."""
    y, batch = constant_batches()
    return metrics.batch_averaged_macro_recall(y, np.zeros_like(y), batches=batch)


def equivalent_spread() -> tuple[tuple[float, ...], float]:
    """Return the validation values of the runs in EQUIVALENT and their standard deviation (n - 1)."""
    values = tuple(BY_KEY[k].validation for k in EQUIVALENT)
    return values, float(np.std(values, ddof=1))


def drawn_h() -> float:
    """Return tr exp(A o A) - 3 of the drawn graph."""
    from scipy.linalg import expm

    a = np.asarray(DRAWN_GRAPH)
    return float(np.trace(expm(a * a)) - len(a))


def two_cycles(graph: Sequence[Sequence[float]] = DRAWN_GRAPH) -> list[tuple[str, str, float, float]]:
    """Return the pairs of modalities with edges both ways, and the two weights: i, j, A[i, j], A[j, i]."""
    return [
        (MODALITIES[i], MODALITIES[j], graph[i][j], graph[j][i])
        for i in range(len(graph))
        for j in range(i)
        if graph[i][j] > 0 and graph[j][i] > 0
    ]


def dominating(
    key: str = "full",
    by: Literal["validation", "balanced"] = "balanced",
    cost: Literal["parameters", "latency"] | None = "parameters",
) -> list[str]:
    """Return the models that are at least as good as `key` at no greater cost, and better in one: no point of an
    efficiency frontier has any. `cost` None counts both parameters and latency."""
    costs = ("parameters", "latency") if cost is None else (cost,)
    at = BY_KEY[key]
    found = []
    for m in MODELS:
        gains = [getattr(m, by) - getattr(at, by), *(getattr(at, c) - getattr(m, c) for c in costs)]
        if min(gains) >= 0 and max(gains) > 0:
            found.append(m.key)
    return found


def perturbed() -> pd.DataFrame:
    """Return the change of macro F1 from the clean test, one row a model (by key), one column a condition."""
    table = pd.DataFrame(PERTURBED, index=list(CONDITIONS)).T
    return table.sub([BY_KEY[k].macro_f1 for k in table.index], axis=0)


def weights() -> pd.DataFrame:
    """Return WEIGHTS as a table: epoch and one column a modality."""
    return pd.DataFrame([(e, *w) for e, w in WEIGHTS.items()], columns=["epoch", *MODALITIES])


def losses() -> pd.DataFrame:
    """Return LOSSES as a table: epoch and the columns SERIES."""
    return pd.DataFrame([(e, *x) for e, x in LOSSES.items()], columns=["epoch", *SERIES])


# --- The author's own logs, where the reader has them -----------------------------------------------------------------

_LOGS = {
    "full": "Full_Model", "no_diffusion": "No_Diffusion", "no_graph": "No_Causal_Graph", "gumbel": "No_NOTEARS",
    "joint": "No_Stop_Gradient", "no_vae": "No_VAE", "no_guidance": "No_CFG",
    "no_condition": "No_Causal_Diffusion_Cond", "classifier_only": "Classifier_Only", "tfn": "Baseline_TFN",
    "mult": "Baseline_MulT", "misa": "Baseline_MISA", "mmim": "Baseline_MMIM", "tetfn": "Baseline_TETFN",
}  # fmt: skip
_COLUMNS = {
    "train_loss_task": "train_task", "train_loss_diff": "train_diffusion", "train_loss_kl": "train_kl",
    "train_loss_causal": "train_causal", "val_loss_task": "validation_task", "train_bal_acc": "train_metric",
    "val_bal_acc": "validation_metric", "causal/Text_Influence": "text", "causal/Audio_Influence": "audio",
    "causal/Video_Influence": "vision", "warmup/gamma_kl": "kl_share", "warmup/gamma_diff": "diffusion_share",
}  # fmt: skip


def author_curves(folder: Path | None) -> pd.DataFrame | None:
    """Return the author's per-epoch logs from `folder`/author_records/affect_diff, or None where they are absent.

    One row a model (column "model": a key of MODELS) and epoch; the columns SERIES, MODALITIES, "kl_share" and
    "diffusion_share", NaN where a model has none. The files state no licence: draw them, do not copy them.
    """
    logs = None if folder is None else folder / "author_records" / "affect_diff"
    if logs is None or not all((logs / f"{name}.csv.gz").is_file() for name in _LOGS.values()):
        return None
    tables = []
    for key, name in _LOGS.items():
        log = (
            pd.read_csv(logs / f"{name}.csv.gz").rename(columns=_COLUMNS).reindex(columns=["epoch", *_COLUMNS.values()])
        )
        by_epoch = log.groupby("epoch", as_index=False).mean()  # each quantity is in one row of its epoch
        by_epoch = by_epoch[by_epoch["validation_metric"].notna()]  # the last row is the test
        by_epoch.insert(0, "model", key)
        tables.append(by_epoch.astype({"epoch": int}))
    return pd.concat(tables, ignore_index=True)


def smoothed(values: Sequence[float] | NDArray[np.floating], width: int = 5) -> Floats:
    """Return the mean over `width` epochs around each, fewer at the ends, as Fig. 4 draws it."""
    if width < 1 or width % 2 == 0:
        raise ConfigError(f"smoothed: width = {width}: must be odd")
    x, half = np.asarray(values, float), width // 2
    return np.array([x[max(0, i - half) : i + half + 1].mean() for i in range(len(x))])


def relative_gain(a: str = "full", b: str = "tetfn") -> float:
    """Return by how much the paper's number of `a` exceeds that of `b`, as a share of b's."""
    return BY_KEY[a].validation / BY_KEY[b].validation - 1
