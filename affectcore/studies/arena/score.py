"""The arena's executor: trains and scores as ever, and keeps what the ranking needs.

Beside `execute.train_and_score`:

* a data set that is split into folds is trained and scored on fold `seed mod n_folds`;
* a condition that names a modality the data lack is left out;
* one metric a task: mean absolute error, or balanced accuracy where there are classes;
* condition "label shift": the clean test samples weighted so that negative and positive change their shares (of a
  regression alone: balanced accuracy gives every class the same weight already);
* where the data have a part "test_iid", the conditions are scored on it as "test", and the shifted part's clean score
  is the condition "lexical shift";
* `extra`: `samples_per_s` of training, and, if the arm's option `ceiling` asks for it on a world, the Bayes-optimal
  score of every condition that hides something;
* curves of training and predictions of test parts are not kept: no bootstrap over items is asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import Batch
from affectcore.data.shift import importance_weights, sign_classes
from affectcore.data.worlds.base import World
from affectcore.errors import AffectError, ConfigError
from affectcore.evaluation.metrics import balanced_accuracy, mae
from affectcore.models.contract import AffectModel
from affectcore.studies import execute
from affectcore.studies.execute import Fitted
from affectcore.studies.outcome import Outcome, Predictions
from affectcore.studies.spec import CLEAN, Condition, DataSpec, RunSpec
from affectcore.training import loop

__all__ = ["LABEL", "LEXICAL", "METRIC", "label_shifted_error", "modules", "train_and_score"]

LABEL, LEXICAL = "label shift", "lexical shift"
SHIFTS = (LABEL, LEXICAL)  # conditions of the test part, not of its samples
METRIC = {"regression": "mae", "single_label": "balanced_accuracy"}


def modules(spec: RunSpec) -> tuple[str, ...]:
    """Return the modules that the executor looks up for a spec."""
    return execute.modules(spec)


def train_and_score(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Return the outcomes of specs that differ in the seed alone; each seed is trained by itself."""
    return [_one(s, device) for s in specs]


def _one(spec: RunSpec, device: str) -> Outcome | AffectError:
    unknown = [o for o in spec.options if o != "ceiling"]
    if unknown:
        raise ConfigError(f"{spec.label}: option {unknown[0]!r} is unknown: use ceiling")
    data = _data(spec)
    loaded = execute.load(data, spec.seed)
    if loaded.task.kind not in METRIC:
        raise ConfigError(f"{spec.label}: the arena has no metric for {loaded.task.kind}")
    metric = METRIC[loaded.task.kind]
    asked = replace(spec, data=data, conditions=(CLEAN,), metrics=(metric,))
    outcome = execute.train_and_score([asked], device, inspect=partial(_inspect, spec.conditions))[0]
    if isinstance(outcome, AffectError):
        return outcome
    extra, part = dict(outcome.extra), _part(outcome.metrics)
    test = {c: {metric: v} for c, v in extra.pop("test").items()}
    epochs = [float(h["cpu_s"]) for h in outcome.history]
    if epochs:
        extra["samples_per_s"] = float(f"{len(loaded.split('train')) / median(epochs):.4g}")
    p = outcome.predictions
    kept = Predictions(
        {k: v for k, v in p.scores.items() if k[0] == "valid"},
        *({"valid": x["valid"]} for x in (p.rows, p.target, p.group)),
    )
    return replace(
        outcome, predictions=kept, metrics={"valid": outcome.metrics["valid"], "test": test},
        bounds={k: {"test": v[part]} for k, v in outcome.bounds.items()}, extra=extra, history=(),
    )  # fmt: skip


def _data(spec: RunSpec) -> DataSpec:
    """The run's data: where they are split into folds, the seed's fold."""
    split = spec.data.resplit
    if split is None:
        return spec.data
    return replace(spec.data, resplit={**split, "k": spec.seed % split["n_folds"]})


def _part(splits: Iterable[str]) -> str:
    """The test part that has the law of training."""
    return "test_iid" if "test_iid" in splits else "test"


def _inspect(conditions: Sequence[Condition], f: Fitted) -> dict[str, Any]:
    """The scores of one test part under every condition, and the ceilings. Not by the executor's own loop over
    conditions: that scores the other parts too, and restores the model for each."""
    part, kind = _part(f.data.splits), f.data.task.kind
    batch, train = f.data.split(part, f.selection), f.data.split("train")
    target, clean = batch.target.numpy(), f.scores[part, "clean"]
    test: dict[str, float] = {}
    for c in conditions:
        if c.name == LABEL:
            if kind == "regression":
                test[c.name] = label_shifted_error(target, clean)
        elif c.name == LEXICAL:
            if part == "test_iid":
                shifted = f.data.split("test", f.selection).target.numpy()
                test[c.name] = _value(kind, shifted, f.scores["test", "clean"])
        elif set(c.options.get("absent", ())) <= set(f.data.modalities):
            change = execute.protocol(c, f.spec.seed, train)
            given = clean if change is None else _scores(f, change(batch))
            test[c.name] = _value(kind, target, given)
    found: dict[str, Any] = {"test": test}
    if f.spec.options.get("ceiling") and f.world is not None:
        found["ceiling"] = _ceilings(conditions, f, f.world)
    return found


def _scores(f: Fitted, batch: Batch) -> NDArray[np.floating]:
    if isinstance(f.model, AffectModel):
        return loop.score_model(f.model, f.spec.seed, batch)
    return np.asarray(f.model.predict(batch))


def _value(kind: str, target: NDArray[Any], given: NDArray[np.floating]) -> float:
    if kind == "regression":
        return mae(target, given)
    return balanced_accuracy(target, given.argmax(-1))


def label_shifted_error(target: NDArray[np.floating], prediction: NDArray[np.floating]) -> float:
    """Return the mean absolute error under weights that make the share of negative samples that of positive ones.

    Samples of sentiment 0 keep their share. Raises ConfigError if there is no negative or no positive sample.
    """
    classes = sign_classes(target)
    shares = np.bincount(classes, minlength=3) / len(classes)
    weights = importance_weights(classes, shares[::-1])
    return float(np.average(np.abs(target - prediction), weights=weights))


def _ceilings(conditions: Sequence[Condition], f: Fitted, world: World) -> dict[str, float]:
    """The Bayes-optimal score by condition: clean, and wherever samples are hidden and what is left is as it was."""
    kind, made = f.data.task.kind, {}
    batch, train = world.data.split("test", f.selection), world.data.split("train")
    for c in conditions:
        if c.name in SHIFTS or str(c.protocol or "missing").partition("/")[0] != "missing":
            continue
        change = execute.protocol(c, f.spec.seed, train)
        best = np.asarray(world.oracle(batch if change is None else change(batch)))
        if kind == "single_label":  # mean recall is greatest at the largest posterior / share
            best = best / np.maximum(np.bincount(train.target.numpy(), minlength=best.shape[1]), 0.5)
        made[c.name] = _value(kind, batch.target.numpy(), best)
    return made
