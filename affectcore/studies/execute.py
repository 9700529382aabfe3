"""One run from its names: data, split, transforms, model, training, then every split in every condition.

The default executor of studies. Nothing of the test split is read before the selection is frozen. A study that wants
more of each run has an executor of its own, which hands hooks to `train_and_score`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.data import catalog, folds, readers, transform, worlds
from affectcore.data.corruption import feature_scale, make_corruption
from affectcore.data.missing import make_missing
from affectcore.data.protocol import EachStep
from affectcore.data.schema import AffectData, Batch, Selection
from affectcore.errors import AffectError, ConfigError, TrainingError
from affectcore.evaluation.floors import constant_floor
from affectcore.evaluation.metrics import metrics as known_metrics
from affectcore.evaluation.metrics import score
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.studies.outcome import Outcome, Predictions, half
from affectcore.studies.spec import CLEAN, Condition, DataSpec, RunSpec, canonical, plain
from affectcore.training import recipe as recipes
from affectcore.training.fits import SeedsFailed
from affectcore.training.loop import Probe, fit, predict, restore

Change = Callable[[Batch], Batch]
Scores = NDArray[np.floating]
BALANCED = ("balanced_accuracy", "batch_averaged_macro_recall_64")  # every class counts the same


@dataclass(frozen=True)
class Fitted:
    """What an executor may look at once a run is scored.

    model: the AffectModel of the selected epoch in evaluation mode, or the fitted estimator. world: None for real data.
    scores: by (split, condition), as the metrics saw them.
    """

    spec: RunSpec
    model: Any
    data: AffectData
    world: worlds.World | None
    selection: Selection
    scores: Mapping[tuple[str, str], Scores]


Complete = Callable[[RunSpec, AffectData], Mapping[str, Any]]
Inspect = Callable[[Fitted], Mapping[str, Any]]


def modules(spec: RunSpec) -> tuple[str, ...]:
    """Return the modules that this executor looks up in a registry for a spec: its model's, its world's or reader's."""
    found = [*registry.modules(spec.model, spec.preset, **_tuples(spec.overrides))]
    if spec.data.source == "world":
        found.append(_world(spec.data).build.__module__)
    else:
        known = spec.data.dataset in catalog.CATALOG
        found += [f"affectcore.data.readers.{m}" for m in (("bundles", "mmsa") if known else ("mmsa", "own"))]
    if spec.data.transforms:
        found.append("affectcore.data.transform")
    return tuple(found)


def train_and_score(
    specs: Sequence[RunSpec],
    device: str = "cpu",
    *,
    complete: Complete | None = None,
    inspect: Inspect | None = None,
    probe: Probe | None = None,
) -> list[Outcome | AffectError]:
    """Return the outcomes of specs that differ in the seed alone; several are trained stacked.

    complete: gives further overrides of the model, from spec and data (its training part). inspect: asked of each
    scored run; what it returns goes into `Outcome.extra`. probe: see `fit`.
    The training error of one seed stands in its place. Raises ConfigError for names that are not registered, and what
    data, model and training raise.
    """
    head = specs[0]
    loaded = _loaded(head.data, head.seed)
    data, shape = loaded.data, Shape.of(loaded.data)
    entry = registry.entry(head.model)
    overrides = {**head.overrides, **({} if complete is None else complete(head, data))}
    config = registry.config(head.model, head.preset, **_tuples(overrides))
    if (entry.kind == "gradient") != (head.recipe is not None):
        raise ConfigError(f"{head.label}: model {head.model} is of kind {entry.kind}, its recipe is {head.recipe!r}")
    settings: dict[str, Any] = {"config": _settings(config)}
    outcomes: list[Outcome | AffectError] = []
    if head.recipe is None:
        for s in specs:
            estimator = entry.build(config, shape)
            selection = estimator.fit(data, s.seed)
            outcomes.append(_outcome(s, loaded, selection, estimator.predict, estimator, inspect, extra=settings))
        return outcomes
    recipe = recipes.preset(head.recipe, **_tuples(head.recipe_overrides))
    settings["recipe"] = _settings(recipe)
    build = partial(entry.build, config, shape)
    augment = None if head.augment is None else EachStep(cast(Any, protocol(head.augment, 0, data.split("train"))))
    seeds, lost = [s.seed for s in specs], {}
    try:
        fits = fit(build, data, recipe, seeds, device=device, stacked=len(specs) > 1, augment=augment, probe=probe)
    except SeedsFailed as e:  # the seeds of a stack that did finish are kept
        fits, lost = e.fits, e.failures
    by_seed = {f.seed: f for f in fits}
    for s in specs:
        if s.seed not in by_seed:
            outcomes.append(TrainingError(lost[s.seed]))
            continue
        f = by_seed[s.seed]
        more: dict[str, Any] = {
            "parameters": f.parameters,
            "fit_s": f.wall_s,
            "history": tuple({k: v for k, v in _settings(h).items() if k != "probe" or v} for h in f.history),
            "extra": settings | ({"best_by_metric": f.best_by_metric} if f.selection.leaky else {}),
            "threshold": f.threshold,
        }
        model = None if inspect is None else restore(build, f, device=device)
        scorer = partial(predict, build, f, device=device)
        outcomes.append(_outcome(s, loaded, f.selection, scorer, model, inspect, **more))
    return outcomes


def epochs(spec: RunSpec) -> int:
    """Return the most epochs that a spec's recipe trains for, 1 without a recipe."""
    return 1 if spec.recipe is None else recipes.preset(spec.recipe, **_tuples(spec.recipe_overrides)).epochs


def load(spec: DataSpec, seed: int) -> AffectData:
    """Return the data of a run: read or drawn, cut, re-split and transformed, as the model sees them."""
    return _loaded(spec, seed).data


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loaded:
    """Data kept by the process, with what is computed from them once: hash, bounds, changed splits."""

    data: AffectData
    world: worlds.World | None
    hash: str
    bounds: dict[str, Any]


def _world(spec: DataSpec) -> worlds.Entry:
    if spec.dataset not in worlds.WORLDS:
        raise ConfigError(f"world {spec.dataset!r} is unknown: use {', '.join(worlds.WORLDS)}")
    return worlds.WORLDS[spec.dataset]


def _loaded(spec: DataSpec, seed: int) -> _Loaded:
    return _cached(canonical(plain(asdict(spec), spec.name)), seed if spec.source == "world" else 0)


@lru_cache(maxsize=2)
def _cached(text: str, seed: int) -> _Loaded:
    import json

    content = json.loads(text)
    spec = RunSpec.from_json(_shell(content)).data
    world = None
    if spec.source == "world":
        world = _draw(spec, seed)
        data = world.data
    else:
        data = readers.load(spec.dataset, **_tuples(spec.options))
    if spec.resplit is not None:
        data = folds.fold(data, **spec.resplit)
    if spec.only:
        data = data.only(spec.only)
    for t in spec.transforms:
        data = _transform(t.name)(data, **_tuples(t.options))
    return _Loaded(data, world, data.fingerprint(), {})


def _shell(data: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"study": "", "arm": "", "profile": "smoke", "seed": 0, "model": "", "augment": None, "metrics": []}
    return empty | {"data": data, "conditions": [asdict(CLEAN)]}


def _draw(spec: DataSpec, seed: int) -> worlds.World:
    """Options: settings (a difficulty's name), change (fields of its Settings), sizes (train, valid, test)."""
    entry, options = _world(spec), dict(spec.options)
    difficulty = options.pop("settings", "headline")
    change, sizes = options.pop("change", {}), options.pop("sizes", None)
    if options:
        raise ConfigError(f"world {spec.dataset}: option {min(options)!r} is unknown: use settings, change, sizes")
    settings: Any = difficulty
    if change:
        if difficulty not in entry.difficulties:
            raise ConfigError(f"world {spec.dataset}: settings {difficulty!r} is unknown: use easy, headline or hard")
        base = entry.difficulties[difficulty]
        for name in change:
            if name not in base.__dataclass_fields__:
                have = ", ".join(base.__dataclass_fields__)
                raise ConfigError(f"world {spec.dataset}: setting {name!r} is unknown, it has {have}")
        settings = type(base)(**(base.__dict__ | _tuples(change)))
    try:
        drawn = None if sizes is None else worlds.Sizes(**sizes)
    except TypeError as e:
        raise ConfigError(f"world {spec.dataset}: sizes {sizes!r} must name train, valid and test") from e
    return worlds.make(spec.dataset, seed, settings, drawn)


def _transform(name: str) -> Callable[..., AffectData]:
    if name not in transform.__all__:
        raise ConfigError(f"transform {name!r} is unknown: use {', '.join(transform.__all__)}")
    return cast(Callable[..., AffectData], getattr(transform, name))


# --- evaluation ----------------------------------------------------------------------------------------------------


def protocol(c: Condition, seed: int, train: Batch) -> Change | None:
    """Return what a condition does to a batch, None for a clean one; all arms of a seed see the same.

    train: whose units noise is measured in, where the condition's `scale` is "train".
    """
    if c.protocol is None:
        return None
    room, _, name = c.protocol.partition("/")
    options = _tuples(c.options)
    if options.get("scale") == "train":
        options["scale"] = feature_scale(train)
    makers: dict[str, Callable[..., Any]] = {"missing": make_missing, "corruption": make_corruption}
    if room not in makers:
        raise ConfigError(f"condition {c.name}: protocol {c.protocol!r} must be missing/NAME or corruption/NAME")
    made: Change = makers[room](name, c.rate, seed if c.seed is None else c.seed, **options)
    return made


def _outcome(
    spec: RunSpec,
    loaded: _Loaded,
    selection: Selection,
    scorer: Callable[[Batch], ArrayLike],
    model: Any,
    inspect: Inspect | None,
    *,
    extra: Mapping[str, Any],
    threshold: float = 0.5,
    **more: Any,
) -> Outcome:
    data, kind, train = loaded.data, loaded.data.task.kind, loaded.data.split("train")
    for name in spec.metrics:
        if name not in known_metrics(kind):
            raise ConfigError(f"{spec.label}: metric {name!r} is unknown for {kind}")
    metrics: dict[str, Any] = {}
    scores: dict[tuple[str, str], Scores] = {}
    rows, target, group = {}, {}, {}
    for split in [s for s in data.splits if s != "train"]:
        batch = data.split(split, selection)
        rows[split], group[split] = batch.index.numpy().astype(np.int32), batch.group.numpy()
        target[split] = batch.target.numpy()
        metrics[split] = {}
        for c in spec.conditions:
            change = protocol(c, spec.seed, train)
            given = np.asarray(scorer(batch if change is None else change(batch)))
            metrics[split][c.name] = _metrics(kind, target[split], given, spec.metrics, threshold)
            scores[split, c.name] = given
    halved = {(split, c): half(v, f"{spec.label} {split}/{c}") for (split, c), v in scores.items()}
    bounds = _bounds(loaded, selection, spec.metrics)
    if inspect is not None:
        extra = {**extra, **inspect(Fitted(spec, model, data, loaded.world, selection, scores))}
    return Outcome(
        loaded.hash, selection.rule, selection.epoch, selection.value, metrics=metrics,
        predictions=Predictions(halved, rows, target, group), bounds=bounds, extra=extra, **{"history": (), **more},
    )  # fmt: skip


def _metrics(
    kind: str, target: ArrayLike, given: Scores, names: Sequence[str], threshold: float = 0.5
) -> dict[str, float]:
    """Values by name, of the named metrics or of all; `threshold` is the one a label set is predicted from."""
    if kind == "regression":
        scored = score(kind, target, given)
    else:
        scored = score(kind, target, scores=given, threshold=threshold)
    values = {str(k): float(v) for k, v in zip(scored["metric"], scored["value"])}
    return {k: values[k] for k in names} if names else values


def _bounds(loaded: _Loaded, selection: Selection, names: Sequence[str]) -> dict[str, Any]:
    """The best constant's scores (chosen on train) and, on a world, the oracle's, on clean samples, once a process."""
    key = canonical(list(names))
    if key not in loaded.bounds:
        data, kind = loaded.data, loaded.data.task.kind
        floor, ceiling = {}, {}
        for split in [s for s in data.splits if s != "train"]:
            batch = data.split(split, selection)
            table = constant_floor(kind, data.split("train").target.numpy(), batch.target.numpy())
            lowest = {str(k): float(v) for k, v in zip(table["metric"], table["value"])}
            floor[split] = {k: v for k, v in lowest.items() if not names or k in names}
            if loaded.world is not None:
                clean = loaded.world.data.split(split, selection)
                posterior = loaded.world.oracle(clean)
                ceiling[split] = _metrics(kind, clean.target.numpy(), posterior, names)
                if kind == "single_label":  # mean recall is greatest at the largest posterior / share, not posterior
                    n = np.bincount(data.split("train").target.numpy(), minlength=posterior.shape[1])
                    fair = _metrics(kind, clean.target.numpy(), posterior / np.maximum(n, 0.5), names)
                    ceiling[split] |= {k: fair[k] for k in BALANCED if k in fair}
        loaded.bounds[key] = {"floor": floor, **({"ceiling": ceiling} if ceiling else {})}
    return cast(dict[str, Any], loaded.bounds[key])


def _settings(x: Any) -> dict[str, Any]:
    """A dataclass of settings or of an epoch as plain JSON."""
    return cast(dict[str, Any], _jsonable(asdict(x) if is_dataclass(x) and not isinstance(x, type) else x))


def _jsonable(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {str(k): _jsonable(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_jsonable(v) for v in x]
    return x if x is None or isinstance(x, bool | int | float | str) else str(x)


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone; frozen dataclasses hold tuples, also of tuples."""

    def frozen(v: Any) -> Any:
        return tuple(frozen(x) for x in v) if isinstance(v, list) else v

    return {k: frozen(v) for k, v in options.items()}
