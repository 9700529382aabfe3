"""Losses for rare classes over any backbone: one formula with a switch for each idea.

    registry.build("imbalance", shape, "balanced_softmax", counts=class_counts(data), backbone="mlp")

| symbol | name | shape |
|---|---|---|
| n_c | `counts`: training samples of a class (that have a label) | (C,) |
| pi_c = n_c / N | share | (C,) |
| f | prediction | (B, C) |
| w_c | weight of a class, or of the presence of a label | (C,) |

    single_label:  ce_i = - sum_c w_c ((1 - s) y_ic + s / C) log softmax(f + tau log pi)_ic
    multi_label:   ce_ic = - w_c y log sigmoid(a) - (1 - y) log sigmoid(-a),
                   a = f + tau logit(pi), y = (1 - s) y_ic + s / 2
    loss:          mean of (1 - p)^gamma ce over samples (and labels), p the probability of what is true

* `weighting`: w = "none" 1, "inverse" N / (C n_c), "sqrt" its root, "root_max" the root of max n / n_c (Affect-Diff's),
  none above `most`. For labels, all start from (N - n_c) / n_c. The mean is over samples, not over weights. The preset
  "weighted" takes "inverse".
* `gamma`: focal loss [lin2017focal], "focal": 2.
* `tau`: logits adjusted by the classes' shares in training [menon2021longtail]; the shift is left out when predicting.
  With tau = 1 and one label a sample it is the balanced softmax [ren2020balanced], which has log n_c in place of
  log pi_c: both presets are the same loss.
* `smoothing`: labels smoothed by s [szegedy2016rethinking], "smoothed": 0.1.

`clean` is the plain loss of the task. Regression has no classes: ConfigError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from affectcore.data.schema import AffectData, Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import Output, Progress, Shape
from affectcore.models.wrapper import Wrapper, WrapperConfig

WEIGHTINGS = ("none", "inverse", "sqrt", "root_max")


def class_counts(data: AffectData) -> tuple[int, ...]:
    """Return how many training samples each class has, or have each label. Raises ConfigError for regression."""
    y, task = data.split("train").target, data.task
    if task.kind == "regression":
        raise ConfigError(f"{data.name}: a regression target has no classes to count")
    each = y.bincount(minlength=task.outputs) if task.kind == "single_label" else y.sum(0)
    return tuple(int(n) for n in each)


@dataclass(frozen=True)
class ImbalanceConfig(WrapperConfig):
    counts: tuple[int, ...] = ()  # samples per class in training, each >= 1; no training without where they are needed
    samples: int = 0  # labels: training samples in all
    weighting: Literal["none", "inverse", "sqrt", "root_max"] = "none"
    most: float = 8.0  # largest weight, > 0; Affect-Diff: 8
    gamma: float = 0.0  # focal exponent, >= 0
    tau: float = 0.0  # adjustment of logits, >= 0
    smoothing: float = 0.0  # share of a target spread over all classes, in [0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "counts", tuple(self.counts))
        for name, ok, rule in (
            ("weighting", self.weighting in WEIGHTINGS, f"one of {', '.join(WEIGHTINGS)}"),
            (
                "counts",
                all(n >= 1 for n in self.counts),
                "whole numbers >= 1; a class without samples cannot be weighed",
            ),
            ("most", self.most > 0, "> 0"),
            ("gamma", self.gamma >= 0, ">= 0"),
            ("tau", self.tau >= 0, ">= 0"),
            ("smoothing", 0 <= self.smoothing < 1, "in [0, 1)"),
        ):
            if not ok:
                raise ConfigError(f"imbalance: {name} = {getattr(self, name)!r} must be {rule}")


def class_weights(counts: Sequence[int], weighting: str, most: float, samples: int = 0) -> tuple[float, ...]:
    """Return w_c; `samples` > 0 for labels, of which a sample may have several."""
    ratios = [(samples - n) / n if samples else sum(counts) / (len(counts) * n) for n in counts]
    if weighting == "root_max":
        ratios = [(samples - n) / n if samples else max(counts) / n for n in counts]
    power = {"none": 0.0, "inverse": 1.0}.get(weighting, 0.5)
    return tuple(min(r**power, most) for r in ratios)


class Imbalance(Wrapper):
    Config: ClassVar = ImbalanceConfig
    PRESETS: ClassVar = {
        "clean": ImbalanceConfig(),
        "weighted": ImbalanceConfig(weighting="inverse"),
        "focal": ImbalanceConfig(gamma=2.0),
        "logit_adjusted": ImbalanceConfig(tau=1.0),
        "balanced_softmax": ImbalanceConfig(tau=1.0),
        "smoothed": ImbalanceConfig(smoothing=0.1),
    }
    shift: Tensor
    scale: Tensor

    def __init__(self, config: ImbalanceConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        task, counts = shape.task, config.counts
        if task.kind == "regression":
            raise ConfigError("imbalance: a regression task has no classes")
        self.uncounted = (config.weighting != "none" or config.tau > 0) and not counts
        needed = (config.weighting != "none" or config.tau > 0) and bool(counts)
        if needed and len(counts) != task.outputs:
            raise ConfigError(f"imbalance: counts must name {task.outputs} classes, got {len(counts)}")
        labels = task.kind == "multi_label"
        if needed and labels and config.samples <= max(counts):
            raise ConfigError(
                f"imbalance: samples = {config.samples} must exceed every count of a label, {max(counts)}"
            )
        n = torch.tensor(counts if needed else [1] * task.outputs, dtype=torch.float64)
        whole = config.samples if labels else sum(counts)
        share = n / whole if needed else torch.full_like(n, 0.5)
        self.register_buffer("shift", (config.tau * (share.logit() if labels else share.log())).float())
        weights = class_weights(counts, config.weighting, config.most, config.samples if labels else 0)
        self.register_buffer("scale", torch.tensor(weights if needed else [1.0] * task.outputs))

    def replaced(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        c, s = self.config, self.config.smoothing
        if self.uncounted:
            raise ConfigError("imbalance: weights and adjusted logits need `counts`, see class_counts")
        f = output.prediction + self.shift
        if self.shape.task.kind == "single_label":
            classes = torch.arange(f.shape[-1], device=f.device)
            y = (batch.target.unsqueeze(-1) == classes).to(f.dtype)  # F.one_hot has no batching rule
            log_p = f.log_softmax(-1)
            ce = -(self.scale * ((1 - s) * y + s / f.shape[-1]) * log_p).sum(-1)
            log_true = (log_p * y).sum(-1)
        else:
            y = (1 - s) * batch.target + s / 2
            ce = -self.scale * y * F.logsigmoid(f) - (1 - y) * F.logsigmoid(-f)
            log_true = F.logsigmoid(torch.where(batch.target > 0, f, -f))
        focus = (1 - log_true.exp()).clamp(min=1e-12) ** c.gamma if c.gamma else 1.0  # the power has no slope at 0
        return {c.term: (focus * ce).mean()}, {}
