"""The front door: load data, train any model, see how it degrades, compare it, keep it.

    from affectcore import api

    data = api.world("lexicon")  # or api.load("my_corpus")
    cider = api.train("cider", data, missing="rmm")
    plain = api.train("mlp", data, missing="rmm")
    print(api.robustness({"CIDer": cider, "MLP": plain}, data))
    print(api.paired_test(cider, plain, data, missing="rmm", rate=0.5))

Everything here stands elsewhere in the library, where its settings are described: `affectcore.training.trained`,
`pretrained` and `estimator`, `affectcore.data`, `affectcore.evaluation`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affectcore.audit.resample import Draws, metric_draws, seed_shares
from affectcore.data.missing import make_missing
from affectcore.data.readers import load
from affectcore.data.schema import AffectData, Batch, Selection, Task
from affectcore.data.worlds import Sizes, make
from affectcore.errors import ConfigError, EvaluationError
from affectcore.evaluation.floors import constant_floor
from affectcore.evaluation.metrics import decide, metric
from affectcore.evaluation.statistics import PairedComparison, from_draws, percentile_interval
from affectcore.training.estimator import AffectClassifier, AffectRegressor
from affectcore.training.pretrained import Card, from_pretrained, push_to_hub, save_pretrained
from affectcore.training.trained import Trained, train

__all__ = [
    "AffectClassifier", "AffectData", "AffectRegressor", "Card", "Selection", "Task", "Trained", "from_arrays",
    "from_pretrained", "load", "paired_test", "push_to_hub", "robustness", "save_pretrained", "train", "world",
]  # fmt: skip

DEFAULT = {"regression": "mae", "single_label": "balanced_accuracy", "multi_label": "auroc_macro"}
Floats = NDArray[np.float64]


def world(name: str, seed: int = 0, *, settings: Any = "headline", train: int = 400, valid: int = 200,
          test: int = 2000) -> AffectData:  # fmt: skip
    """Return the data of a synthetic world: see `affectcore.data.worlds.make`, which also knows its truth."""
    return make(name, seed, settings, Sizes(train, valid, test)).data


def from_arrays(
    features: Mapping[str, NDArray[np.floating]],
    target: NDArray[Any],
    task: Task,
    *,
    name: str = "arrays",
    group: NDArray[Any] | None = None,
    splits: Mapping[str, NDArray[np.integer]] | None = None,
    seed: int = 0,
) -> AffectData:
    """Return a data set of arrays in memory.

    features[m]: (N, D) or (N, T, D); a step that is NaN throughout was not observed. target: see `Task`.
    group: (N,) names or numbers of speakers or videos. splits: name -> rows; without them a fifth of the groups
    (or samples) is tested on, 15 % of the rest validated on. Raises DataError for arrays that break the rules.
    """
    from affectcore.data.folds import grouped, strata

    x = {m: np.asarray(v)[:, None] if np.ndim(v) == 2 else np.asarray(v) for m, v in features.items()}
    n = len(target)
    codes = np.arange(n) if group is None else np.unique(np.asarray(group), return_inverse=True)[1].astype(np.int64)
    if splits is None:
        splits = grouped(strata(task, np.asarray(target)), codes, 0, 5, seed, 0.15)
    observed = {m: np.asarray(~np.isnan(v).all(-1)) for m, v in x.items()}
    return AffectData(name, task, x, target, splits, observed=observed, group=codes)


@dataclass(frozen=True)
class _Scored:
    """One model's metric on one split in one condition: by seed (S,), and its bootstrap draws by seed (S, R)."""

    by_seed: Floats
    draws: Floats
    n: int
    groups: int | None


def _levels(groups: int | None) -> tuple[str, str]:
    return ("seeds", "items") if groups is None else ("seeds", "groups")


def robustness(
    models: Trained | Mapping[str, Trained],
    data: AffectData,
    missing: str = "rmm",
    rates: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    *,
    metric: str | None = None,
    split: str = "test",
    seed: int = 0,
    draws: int = 1000,
    device: str = "cpu",
) -> pd.DataFrame:
    """Return the performance of models at every rate of missing values, one row a model and rate.

    missing: a name of `affectcore.data.missing.MISSING`, its masks named by `seed` and the same for all models.
    metric: of `affectcore.evaluation.metrics`, by default mae, balanced_accuracy or auroc_macro.
    Columns: model, missing, rate, metric, value (mean over training seeds), low and high (95 % bootstrap interval over
    seeds and groups, or items where no groups are known), floor (the best constant's), seeds, items, groups.
    """
    named = {models.name: models} if isinstance(models, Trained) else dict(models)
    if not named or not len(rates):
        raise ConfigError("robustness needs at least one model and one rate")
    kind, name = data.task.kind, metric or DEFAULT[data.task.kind]
    floor = _floor(data, next(iter(named.values())), split, name)
    rows = []
    for rate in rates:
        for label, trained in named.items():
            s = _scored(trained, data, name, split, missing, float(rate), seed, draws, device)
            shares = seed_shares(len(s.by_seed), s.draws.shape[1], seed)
            taken = (s.draws * shares.T).sum(0)
            low, high = percentile_interval(taken[np.isfinite(taken)])
            rows.append((label, missing, float(rate), name, float(s.by_seed.mean()), low, high, floor,
                         len(s.by_seed), s.n, s.groups))  # fmt: skip
    columns = ["model", "missing", "rate", "metric", "value", "low", "high", "floor", "seeds", "items", "groups"]
    out = pd.DataFrame(rows, columns=columns)
    out.attrs["kind"] = kind
    return out


def paired_test(
    a: Trained,
    b: Trained,
    data: AffectData,
    *,
    missing: str | None = None,
    rate: float = 0.5,
    metric: str | None = None,
    split: str = "test",
    seed: int = 0,
    draws: int = 2000,
    device: str = "cpu",
) -> PairedComparison:
    """Return model a minus model b on the same seeds, masks and items; positive means that a is better.

    The bootstrap resamples seeds, and groups of items or the items themselves. Raises EvaluationError where the models
    were trained with different seeds, which cannot be paired.
    """
    if a.seeds != b.seeds:
        raise EvaluationError(f"a was trained with seeds {a.seeds}, b with {b.seeds}: a paired test needs the same")
    name = metric or DEFAULT[data.task.kind]
    x, y = (_scored(m, data, name, split, missing, rate, seed, draws, device) for m in (a, b))
    sign = 1.0 if _metric(data, name).higher_is_better else -1.0
    shares = seed_shares(len(x.by_seed), x.draws.shape[1], seed)
    taken = sign * ((x.draws - y.draws) * shares.T).sum(0)
    by_seed = sign * (x.by_seed - y.by_seed)
    return from_draws(taken[np.isfinite(taken)], by_seed, x.n, x.groups, _levels(x.groups))


def _metric(data: AffectData, name: str) -> Any:
    return metric(data.task.kind, name)


def _floor(data: AffectData, trained: Trained, split: str, name: str) -> float:
    target = data.split(split, trained.selection).target.numpy()
    table = constant_floor(data.task.kind, data.split("train").target.numpy(), target)
    return float(dict(zip(table["metric"], table["value"])).get(name, np.nan))


def _scored(
    trained: Trained, data: AffectData, name: str, split: str, missing: str | None, rate: float, seed: int, draws: int,
    device: str,
) -> _Scored:  # fmt: skip
    batch: Batch = data.split(split, trained.selection)
    if trained.shape.task != data.task:
        raise EvaluationError(f"{trained.name} was trained for another task than {data.name} has")
    hide: Callable[[Batch], Batch] = (lambda b: b) if missing is None else make_missing(missing, rate, seed)
    scores = trained.predict(hide(batch), device).astype(np.float64)
    kind, target, m = data.task.kind, batch.target.numpy(), _metric(data, name)
    group = np.unique(batch.group.numpy(), return_inverse=True)[1].astype(np.int64)
    groups = int(group.max()) + 1
    resampled = Draws.make(len(target), None if groups == len(target) else group, draws, seed)
    by_seed, drawn = [], []
    for s in scores:
        answer: NDArray[Any] = decide(kind, s, trained.threshold)
        by_seed.append(m(target, s if m.needs == "scores" else answer))
        found = metric_draws(kind, target, answer, None if kind == "regression" else s, resampled)
        if name not in found:
            raise EvaluationError(f"{name} depends on the order of the items, so it has no bootstrap interval")
        drawn.append(found[name])
    return _Scored(np.array(by_seed), np.stack(drawn), len(target), None if groups == len(target) else groups)
