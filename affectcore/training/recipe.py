"""How a model is optimised and which epoch is kept: frozen data, one preset per paper and protocol."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from affectcore.errors import ConfigError
from affectcore.training.selection import THRESHOLDS

OPTIMIZERS = ("adam", "adamw", "bert_adam", "sgd")
SCHEDULES = ("constant", "cosine", "cosine_uncut", "linear", "plateau", "step")


@dataclass(frozen=True)
class Group:
    """Another learning rate or weight decay for the parameters under a name prefix; the longest prefix wins.

    prefix: dotted name prefix, e.g. "text" for text.fc.weight. lr: > 0 or None (the recipe's).
    weight_decay: >= 0 or None (the recipe's).
    """

    prefix: str
    lr: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True)
class StageRecipe:
    """Where one stage, or one optimiser that several stages share, differs from the recipe; None keeps the recipe's.

    name: of a stage, or of a shared optimiser (`Stage.optimizer`). optimizer, lr, weight_decay: of the optimiser, so
    where it is shared they stand under its name; lr and weight_decay stay below a `Group`'s.
    clip_norm, clip_value: of a stage; under an optimiser's name, of all its stages. 0: no bound.
    """

    name: str
    optimizer: Literal["adam", "adamw", "bert_adam", "sgd"] | None = None
    lr: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    clip_value: float | None = None


@dataclass(frozen=True)
class Recipe:
    """The optimisation of one run. Defaults suit small models on some hundred to some ten thousand samples.

    optimizer: "adam" (decay added to the gradient), "adamw" (decoupled decay), "bert_adam" (adamw without correction of
    the moments' bias) or "sgd". One a stage, unless stages share one.
    lr: learning rate > 0.                      weight_decay: >= 0.
    decay_vectors: False keeps decay off biases and normalisation weights (parameters with fewer than two dimensions).
    momentum: of sgd, in [0, 1).                betas, eps: of adam and adamw.
    groups: other rates for parameters under a prefix.   stages: other settings for a stage or a shared optimiser.

    schedule: factor on every learning rate, per step: "constant"; "cosine" or "linear" from 1 to `final` between the
    end of the warm-up and the last step; "cosine_uncut": the cosine counted from the first step, warm-up or not
    (BertAdam); "step": `decay_factor` every `decay_epochs` epochs; "plateau": `decay_factor` after more than
    `decay_epochs` epochs without a better value of what the selection rule looks at.
    warmup: share of all steps in [0, 1) over which the factor rises linearly from `warmup_from` in [0, 1].
    final: in [0, 1].   decay_factor: in (0, 1].   decay_epochs: >= 1.

    epochs: most epochs, >= 1.   patience: stop after so many epochs without a better value; None never stops.
    batch_size: samples, >= 1.   drop_last: leave out a last batch that is not full (batch norm needs two samples).
    clip_norm: bound of a stage's gradient norm, > 0, or None.   clip_value: bound of every element, applied first.
    clip_prefixes: (prefix, bound) pairs, each with a norm of its own; parameters elsewhere fall under clip_norm.
    clip_each: bound of every parameter's own gradient norm, > 0, applied last (BertAdam clips so once more), or None.
    accumulate: batches, >= 1, whose gradients are added up before the optimiser steps. The sum is clipped at each, and
    what an epoch's end cuts short is dropped, as published code does (MMSA's MulT, MISA, TETFN).
    ema_decay: in (0, 1): evaluate and keep the exponential moving average of the parameters, taken every step; or None.
    selection: name of a rule in `affectcore.training.selection.RULES`.
    metric: what the rule and `patience` look at: "loss" (the task's loss on the split) or a metric of the task.
    thresholds: what a rule that tunes the threshold of label sets tries, each in (0, 1); a single one is a fixed one.
    trim: cut each batch to its longest sequence. Only for models that ignore padding and draw no noise per step.
    """

    optimizer: Literal["adam", "adamw", "bert_adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    decay_vectors: bool = True
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    groups: tuple[Group, ...] = ()
    stages: tuple[StageRecipe, ...] = ()
    schedule: Literal["constant", "cosine", "cosine_uncut", "linear", "plateau", "step"] = "constant"
    warmup: float = 0.0
    warmup_from: float = 0.0
    final: float = 0.0
    decay_factor: float = 0.5
    decay_epochs: int = 10
    epochs: int = 50
    patience: int | None = 10
    batch_size: int = 32
    drop_last: bool = False
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    clip_prefixes: tuple[tuple[str, float], ...] = ()
    clip_each: float | None = None
    accumulate: int = 1
    ema_decay: float | None = None
    selection: str = "valid_best"
    metric: str = "loss"
    thresholds: tuple[float, ...] = THRESHOLDS
    trim: bool = False

    def __post_init__(self) -> None:
        def need(name: str, ok: bool, rule: str) -> None:
            if not ok:
                raise ConfigError(f"recipe: {name} = {getattr(self, name)!r} must be {rule}")

        def positive(x: object) -> bool:
            return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and x > 0

        def share(x: object, top: bool = True) -> bool:
            return isinstance(x, int | float) and 0 <= x <= 1 and (top or x < 1)

        def count(x: object) -> bool:
            return isinstance(x, int) and not isinstance(x, bool) and x >= 1

        need("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")
        need("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        need("lr", positive(self.lr), "a number > 0")
        need("weight_decay", self.weight_decay == 0 or positive(self.weight_decay), "a number >= 0")
        need("momentum", share(self.momentum, top=False), "in [0, 1)")
        need("betas", len(self.betas) == 2 and all(share(b, top=False) for b in self.betas), "two numbers in [0, 1)")
        need("eps", positive(self.eps), "a number > 0")
        need("warmup", share(self.warmup, top=False), "a share in [0, 1)")
        need("warmup_from", share(self.warmup_from), "in [0, 1]")
        need("final", share(self.final), "in [0, 1]")
        need("decay_factor", share(self.decay_factor) and self.decay_factor > 0, "in (0, 1]")
        need("decay_epochs", count(self.decay_epochs), "a whole number >= 1")
        need("epochs", count(self.epochs), "a whole number >= 1")
        need("patience", self.patience is None or count(self.patience), "None or a whole number >= 1")
        need("batch_size", count(self.batch_size), "a whole number >= 1")
        need("clip_norm", self.clip_norm is None or positive(self.clip_norm), "None or a number > 0")
        need("clip_value", self.clip_value is None or positive(self.clip_value), "None or a number > 0")
        need("clip_prefixes", all(positive(c) for _, c in self.clip_prefixes), "pairs (prefix, number > 0)")
        need("clip_each", self.clip_each is None or positive(self.clip_each), "None or a number > 0")
        need("accumulate", count(self.accumulate), "a whole number >= 1")
        need("thresholds", len(self.thresholds) > 0 and all(0 < t < 1 for t in self.thresholds), "numbers in (0, 1)")
        need("ema_decay", self.ema_decay is None or 0 < self.ema_decay < 1, "None or in (0, 1)")
        for g in self.groups:
            if not (g.lr is None or positive(g.lr)) or not (g.weight_decay is None or g.weight_decay >= 0):
                raise ConfigError(f"recipe: group {g.prefix!r} needs lr > 0 and weight_decay >= 0, got {g}")

        for s in self.stages:
            bounds = [s.lr, *(c for c in (s.clip_norm, s.clip_value) if c != 0)]
            decay = s.weight_decay is None or s.weight_decay == 0 or positive(s.weight_decay)
            known = s.optimizer is None or s.optimizer in OPTIMIZERS
            if not (known and decay and all(b is None or positive(b) for b in bounds)):
                raise ConfigError(
                    f"recipe: stage {s.name!r} needs a known optimizer, lr > 0, clips and weight_decay >= 0, got {s}"
                )
        if len({s.name for s in self.stages}) < len(self.stages):
            raise ConfigError(f"recipe: stages names one twice: {', '.join(s.name for s in self.stages)}")

    def of_stages(self, *names: str) -> "Recipe":
        """The recipe with the settings of these `stages`, the later ones stronger."""
        changes: dict[str, Any] = {}
        for name in names:
            for s in (s for s in self.stages if s.name == name):
                given = {k: v for k, v in vars(s).items() if k != "name" and v is not None}
                changes |= {k: None if v == 0 and k.startswith("clip") else v for k, v in given.items()}
        return replace(self, **changes) if changes else self

    def but(self, **changes: Any) -> "Recipe":
        """The recipe with other fields; groups and stages may be mappings. Raises ConfigError for an unknown field."""
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"recipe: field {unknown[0]!r} is unknown, use {', '.join(self.__dataclass_fields__)}")
        for name, made in (("groups", Group), ("stages", StageRecipe)):
            if name in changes:
                changes[name] = tuple(made(**x) if isinstance(x, Mapping) else x for x in changes[name])
        return replace(self, **changes)

    def factor(self, step: int, steps: int, epoch: int, values: Sequence[float] = (), higher: bool = False) -> float:
        """Return the factor on every learning rate at 0-based `step` of `steps`.

        values: validation values of the finished epochs, looked at by "plateau" alone; higher: whether more is better.
        """
        rise = round(self.warmup * steps)
        if step < rise:
            return self.warmup_from + (1 - self.warmup_from) * (step + 1) / rise
        done = (step - rise) / max(steps - rise - 1, 1)
        if self.schedule == "cosine_uncut":
            done = step / steps
        if self.schedule.startswith("cosine"):
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        if self.schedule == "linear":
            return self.final + (1 - self.final) * (1 - done)
        if self.schedule == "step":
            return float(self.decay_factor ** (epoch // self.decay_epochs))
        if self.schedule == "plateau":
            return float(self.decay_factor ** _falls(values, self.decay_epochs, higher))
        return 1.0


def _falls(values: Sequence[float], patience: int, higher: bool) -> int:
    """How often a rate fell that falls after more than `patience` epochs without a better value (torch's rule)."""
    best, bad, falls = -math.inf, 0, 0
    for v in values:
        v = v if higher else -v
        best, bad = (v, 0) if v > best else (best, bad + 1)
        if bad > patience:
            bad, falls = 0, falls + 1
    return falls


PRESETS: dict[str, Recipe] = {
    "small": Recipe(lr=1e-3, epochs=50, patience=10, batch_size=32),
    "smoke": Recipe(lr=3e-3, epochs=3, patience=None, batch_size=32),
    # the optimiser tables of the five papers' dossiers; selection is the clean one, studies switch it by name
    "affect_diff": Recipe(lr=5e-4, weight_decay=1e-4, schedule="cosine", warmup=0.1, warmup_from=0.1, final=0.01,
                          epochs=100, patience=35, batch_size=64, metric="balanced_accuracy"),
    "cmir": Recipe(lr=1e-3, weight_decay=1e-2, decay_vectors=False, schedule="linear", warmup=0.1, epochs=50,
                   patience=None, batch_size=64, clip_norm=None),
    "lddu": Recipe(lr=2e-4, weight_decay=1e-2, decay_vectors=False, eps=1e-6, schedule="cosine_uncut", warmup=0.1,
                   epochs=30, patience=5, batch_size=64, clip_norm=1.0, metric="micro_f1",
                   thresholds=tuple(round(0.05 + 0.01 * i, 2) for i in range(56))),
    "cider": Recipe(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=200, patience=10, batch_size=128,
                    clip_norm=None),
    "rohydr": Recipe(optimizer="adam", lr=2e-3, weight_decay=0.0, schedule="plateau", decay_factor=0.5,
                     decay_epochs=24, epochs=100, patience=20, batch_size=32, clip_norm=None, clip_value=0.6),
    # where published code does otherwise; LDDU's chose epoch and threshold on test, which a study says by the rule
    "lddu_author": Recipe(optimizer="bert_adam", lr=2e-4, weight_decay=1e-2, decay_vectors=False, eps=1e-6,
                          schedule="cosine_uncut", warmup=0.1, epochs=30, patience=5, batch_size=64, clip_norm=1.0,
                          clip_each=1.0, metric="micro_f1",
                          thresholds=tuple(round(0.15 + 0.005 * i, 3) for i in range(30))),
    "rohydr_author": Recipe(optimizer="adam", lr=2e-3, weight_decay=0.0, schedule="plateau", decay_factor=0.5,
                            decay_epochs=24, epochs=100, patience=20, batch_size=32, clip_norm=None,
                            stages=(StageRecipe("discriminator", weight_decay=1e-5),
                                    StageRecipe("classifier", clip_value=0.6))),
    "mult_author": Recipe(optimizer="adam", lr=2e-3, weight_decay=5e-3, schedule="plateau", decay_factor=0.1,
                          decay_epochs=5, epochs=100, patience=8, batch_size=16, clip_norm=None, clip_value=0.6,
                          accumulate=8),  # MMSA, commit a94e65d, its configuration of CMU-MOSI
}  # fmt: skip


def preset(name: str, **changes: Any) -> Recipe:
    """Return a named recipe with fields changed. Raises ConfigError for an unknown name, field or illegal value."""
    if name not in PRESETS:
        raise ConfigError(f"recipe {name!r} is unknown: use {', '.join(PRESETS)}")
    return PRESETS[name].but(**changes)
