"""Every registered model as a scikit-learn estimator for NumPy arrays.

    clf = AffectClassifier("cider", modalities={"text": slice(0, 300), "audio": slice(300, 374)})
    clf.fit(x_train, y_train, groups=speaker).score(x_test, y_test)

X is one of
    an array (N, D) or (N, T, D)    one modality, called "features"
    an array (N, D) and the parameter `modalities`: name -> its columns (slice, column numbers or names)
    a mapping name -> (N, D), (N, T, D), or a list of N arrays (T_i, D) of unequal lengths

With named modalities a step (a row's vector of a modality) that is NaN throughout was not observed; NaN in a part of it
is an error. Mappings suit `fit` and `predict`; what cuts X into rows (`cross_val_score`, pipelines) wants the columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags, check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from affectcore.data.folds import _parts, strata
from affectcore.data.schema import AffectData, Batch, Task
from affectcore.errors import DataError
from affectcore.training.recipe import Recipe
from affectcore.training.recipe import preset as named_recipe
from affectcore.training.trained import Trained, train

Array = NDArray[Any]
Inputs = ArrayLike | Mapping[str, Any]
Columns = slice | Sequence[int] | Sequence[str]
ONE = "features"  # name of the only modality of a plain array


class InputError(DataError, ValueError):
    """Arrays that an estimator cannot use; scikit-learn's tools know it as a ValueError."""


class _Estimator(BaseEstimator):
    """What classifier and regressor share: parameters, the reading of X, training.

    model, preset, settings: of the registry. recipe: name of a recipe's preset; recipe_settings: changes in it.
    modalities: name -> columns of a two-dimensional X. missing, rate: hide values while training (see `train`).
    seeds: networks trained, whose scores are averaged; the first seed is `random_state` if that is a whole number.
    valid_share: share of the samples, in (0, 1), on which the epoch is chosen; whole groups if `fit` gets groups.
    scale: standardise the features. device: "cpu", "cuda", "cuda:1", ...

    trained_: the `Trained` model; its `save_pretrained` stores it.
    """

    def __init__(
        self,
        model: str = "mlp",
        *,
        preset: str = "clean",
        settings: Mapping[str, Any] | None = None,
        recipe: str = "small",
        recipe_settings: Mapping[str, Any] | None = None,
        modalities: Mapping[str, Columns] | None = None,
        missing: str | None = None,
        rate: float = 0.5,
        seeds: int = 1,
        valid_share: float = 0.15,
        scale: bool = True,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.preset = preset
        self.settings = settings
        self.recipe = recipe
        self.recipe_settings = recipe_settings
        self.modalities = modalities
        self.missing = missing
        self.rate = rate
        self.seeds = seeds
        self.valid_share = valid_share
        self.scale = scale
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = self.modalities is not None
        return tags

    def _train(self, x: Inputs, y: Array, task: Task, groups: ArrayLike | None, environment: ArrayLike | None) -> Self:
        if not 0 < self.valid_share < 1:
            raise InputError(f"valid_share = {self.valid_share!r} must lie between 0 and 1")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            raise InputError(f"seeds = {self.seeds!r} must be a whole number >= 1")
        values, observed, lengths = self._read(x, reset=True)
        n = len(y)
        for m, v in values.items():
            if len(v) != n:
                raise InputError(f"X has {len(v)} samples of {m!r}, y has {n}: inconsistent numbers of samples")
        if n < 2:
            raise InputError(f"n_samples = {n}: two or more samples are needed, to train on and to choose the epoch on")
        group = np.arange(n) if groups is None else _codes(groups, n, "groups")
        seed = self._seed()
        chosen = _split(task, y, group, self.valid_share, seed)
        data = AffectData(
            "arrays", task, values, y, chosen, lengths=lengths, observed=observed, group=group,
            environment=None if environment is None else _codes(environment, n, "environment"),
        )  # fmt: skip
        recipe: Recipe = named_recipe(self.recipe, **(self.recipe_settings or {}))
        self.trained_: Trained = train(
            self.model, data, preset=self.preset, settings=self.settings, recipe=recipe,
            seeds=range(seed, seed + self.seeds), missing=self.missing, rate=self.rate, scale=self.scale,
            device=self.device,
        )  # fmt: skip
        return self

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _scores(self, x: Inputs) -> NDArray[np.float64]:
        check_is_fitted(self, "trained_")
        values, observed, lengths = self._read(x, reset=False)
        n = len(next(iter(values.values())))
        rows = torch.arange(n)
        task = self.trained_.shape.task
        y = torch.zeros((n, task.outputs) if task.kind == "multi_label" else (n,))
        shown = {m: np.where(observed[m][..., None], v, 0) for m, v in values.items()}
        batch = Batch(
            {m: torch.as_tensor(v, dtype=torch.float32) for m, v in shown.items()},
            {m: torch.as_tensor(k) for m, k in lengths.items()},
            {m: torch.as_tensor(o) for m, o in observed.items()},
            y, rows, rows,
        )  # fmt: skip
        try:
            return np.asarray(self.trained_.mean(batch, self.device), np.float64)
        except DataError as e:
            raise InputError(str(e)) from e

    # --- reading X

    def _read(self, x: Inputs, reset: bool) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
        """Return values (N, T, D), observed (N, T) and lengths (N,) by modality."""
        if isinstance(x, Mapping):
            if self.modalities is not None:
                raise InputError(
                    "X is a mapping of modalities: leave out the parameter `modalities`, which cuts columns"
                )
            if not x:
                raise InputError("X is an empty mapping: it must name at least one modality")
            given = {str(m): _sequence(str(m), v) for m, v in x.items()}
        else:
            given = {m: (v, None) for m, v in self._columns(x, reset).items()}
        sizes = {m: len(v) for m, (v, _) in given.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(f"X has inconsistent numbers of samples: {sizes}")
        values, observed, lengths = {}, {}, {}
        named = isinstance(x, Mapping) or self.modalities is not None
        for m, (v, length) in given.items():
            lengths[m] = np.full(len(v), v.shape[1]) if length is None else length
            values[m] = np.array(v)  # a copy: torch warns of memory that it must not write
            observed[m] = _observed(m, v, lengths[m], named)
        return values, observed, lengths

    def _columns(self, x: ArrayLike, reset: bool) -> dict[str, Array]:
        nan: bool | str = True if self.modalities is None else "allow-nan"
        kinds = [np.float64, np.float32]
        a: Array = validate_data(self, x, reset=reset, dtype=kinds, ensure_all_finite=nan, allow_nd=True)
        if a.ndim == 3 and self.modalities is None:
            return {ONE: a}
        if a.ndim != 2:
            raise InputError(f"X has shape {a.shape}: it must be (samples, features), or (samples, steps, features)")
        if self.modalities is None:
            return {ONE: a[:, None]}
        names = getattr(self, "feature_names_in_", None)
        return {str(m): a[:, _numbers(str(m), c, a.shape[1], names)][:, None] for m, c in self.modalities.items()}


def _numbers(m: str, columns: Columns, width: int, names: Array | None) -> list[int]:
    """Return the column numbers of a modality."""
    if isinstance(columns, slice):
        found = list(range(width))[columns]
    else:
        found = []
        for c in columns:
            if isinstance(c, str):
                if names is None or c not in names:
                    raise InputError(f"modalities[{m!r}] names column {c!r}, which X has not")
                c = int(np.flatnonzero(names == c)[0])
            if not isinstance(c, int | np.integer) or not -width <= c < width:
                raise InputError(f"modalities[{m!r}] names column {c!r}, X has {width} features")
            found.append(int(c))
    if not found:
        raise InputError(f"modalities[{m!r}] = {columns!r} selects no column of the {width} of X")
    return found


def _sequence(m: str, v: Any) -> tuple[Array, Array | None]:
    """Return values (N, T, D) of a modality, and lengths if they were given as a list of sequences."""
    if isinstance(v, list | tuple) and v and all(np.ndim(s) == 2 for s in v) and len({np.shape(s) for s in v}) > 1:
        parts = [np.asarray(s, np.float64) for s in v]
        if len({p.shape[1] for p in parts}) > 1 or min(len(p) for p in parts) < 1:
            raise InputError(f"X[{m!r}] must be sequences of one width and of one step or more")
        length = np.array([len(p) for p in parts])
        out = np.zeros((len(parts), length.max(), parts[0].shape[1]))
        for row, p in zip(out, parts):
            row[: len(p)] = p
        return out, length
    try:
        a = check_array(v, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", allow_nd=True)
    except ValueError as e:
        raise InputError(f"X[{m!r}]: {str(e).splitlines()[0]}") from e
    if a.ndim > 3:
        raise InputError(f"X[{m!r}] has shape {a.shape}: it must be (samples, features) or (samples, steps, features)")
    return (a[:, None] if a.ndim == 2 else a), None


def _observed(m: str, v: Array, length: Array, named: bool) -> Array:
    """Return (N, T) bool: the step exists and is not NaN throughout."""
    exists = np.arange(v.shape[1]) < length[:, None]
    nan = np.isnan(v)
    part = (nan.any(-1) & ~nan.all(-1) & exists).nonzero()
    if len(part[0]):
        row, step = int(part[0][0]), int(part[1][0])
        count = f"{int(nan[row, step].sum())} of {v.shape[-1]} features"
        raise InputError(
            f"X: {m!r} row {row} step {step} contains NaN in {count}; a step that is missing is NaN throughout"
        )
    if not named and nan.any():
        raise InputError(f"X: row {int(nan.any((1, 2)).argmax())} contains NaN")
    seen: Array = exists & ~nan.all(-1)
    return seen


def _codes(labels: ArrayLike, n: int, what: str) -> Array:
    given = column_or_1d(labels)
    if len(given) != n:
        raise InputError(f"{what} has {len(given)} entries, X has {n} samples: inconsistent numbers of samples")
    return np.asarray(np.unique(given, return_inverse=True)[1], np.int64)


def _split(task: Task, y: Array, group: Array, share: float, seed: int) -> dict[str, Array]:
    """Return rows to train on and rows to choose the epoch on, no group in both, classes in both where they can be."""
    count = len(np.unique(group))
    if count < 2:
        raise InputError("groups has 1 group: two or more are needed, to train on and to choose the epoch on")
    parts = min(max(round(1 / share), 2), count)
    few, some = _parts(strata(task, y), group, parts, seed, True)[0]
    return {"train": few, "valid": some}


class AffectClassifier(ClassifierMixin, _Estimator):
    """Classifier over any registered model: one class a sample (y (N,)), or label sets (y (N, C) of 0 and 1).

    See the module for the forms of X, and the parameters below. `classes_` holds the classes, or the numbers of the
    labels. `score` is accuracy; for label sets the share of samples whose whole set is right.
    """

    __doc__ = f"{__doc__}\n    {_Estimator.__doc__}"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self, X: Inputs, y: ArrayLike, groups: ArrayLike | None = None, environment: ArrayLike | None = None
    ) -> Self:
        """Return the estimator, trained. groups: whoever may not be both trained and validated on (speakers, videos).

        environment: where each sample comes from, for models that learn across environments.
        """
        y = _target(self, X, y, multi=True)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multilabel-indicator":
            self.classes_ = np.arange(y.shape[1])
            task = Task("multi_label", tuple(map(str, self.classes_)))
            return self._train(X, np.asarray(y, np.float32), task, groups, environment)
        if kind not in ("binary", "multiclass"):
            raise InputError(f"y is {kind}: give one class a sample, or a column of 0 and 1 for every label")
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y holds 1 class, {self.classes_.tolist()[0]!r}: a classifier needs two or more")
        task = Task("single_label", tuple(map(str, self.classes_)))
        return self._train(X, codes.astype(np.int64), task, groups, environment)

    def predict_proba(self, X: Inputs) -> NDArray[np.float64]:
        """Return probabilities (N, C), in the order of `classes_`; of every label by itself for label sets."""
        p = self._scores(X)
        return p if self.trained_.shape.task.kind == "multi_label" else p / p.sum(1, keepdims=True)

    def predict(self, X: Inputs) -> Array:
        """Return the most probable class (N,), or for label sets 0 and 1 (N, C)."""
        p = self._scores(X)
        if self.trained_.shape.task.kind == "multi_label":
            return (p >= self.trained_.threshold).astype(np.int64)
        return np.asarray(self.classes_[p.argmax(1)])


class AffectRegressor(RegressorMixin, _Estimator):
    """Regressor over any registered model, y (N,). `score` is R squared."""

    # scikit-learn reads parameters off this signature alone, so those of `_Estimator` stand here again

    def __init__(
        self,
        model: str = "mlp",
        *,
        bounds: tuple[float, float] | None = None,
        preset: str = "clean",
        settings: Mapping[str, Any] | None = None,
        recipe: str = "small",
        recipe_settings: Mapping[str, Any] | None = None,
        modalities: Mapping[str, Columns] | None = None,
        missing: str | None = None,
        rate: float = 0.5,
        seeds: int = 1,
        valid_share: float = 0.15,
        scale: bool = True,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            model, preset=preset, settings=settings, recipe=recipe, recipe_settings=recipe_settings,
            modalities=modalities, missing=missing, rate=rate, seeds=seeds, valid_share=valid_share, scale=scale,
            random_state=random_state, device=device,
        )  # fmt: skip
        self.bounds = bounds

    __doc__ = f"""{__doc__}
    See the module for the forms of X. bounds: the scale of the target, both ends included, such as (-3, 3) for
    sentiment; None takes the least and largest training target. Models see it mapped onto [-3, 3].
    {_Estimator.__doc__}"""

    def fit(
        self, X: Inputs, y: ArrayLike, groups: ArrayLike | None = None, environment: ArrayLike | None = None
    ) -> Self:
        """Return the estimator, trained. groups, environment: as for `AffectClassifier`."""
        y = np.asarray(_target(self, X, y, multi=False), np.float64)
        low, high = self._bounds(y)
        self.bounds_ = low, high
        inner = np.clip(-3 + 6 * (y - low) / (high - low), -3, 3)  # beyond by rounding alone
        return self._train(X, inner.astype(np.float32), Task("regression", ("target",)), groups, environment)

    def _bounds(self, y: Array) -> tuple[float, float]:
        least, most = float(y.min()), float(y.max())
        if self.bounds is None:
            return (least, most) if least < most else (least - 1, most + 1)
        low, high = map(float, self.bounds)
        if not low < high or least < low or most > high:
            raise InputError(f"bounds = {self.bounds!r} must rise and hold every y, {least:g} to {most:g}")
        return low, high

    def predict(self, X: Inputs) -> NDArray[np.float64]:
        """Return predictions (N,) on the scale of y, not clipped to it."""
        low, high = self.bounds_ if hasattr(self, "bounds_") else (-3.0, 3.0)
        return low + (self._scores(X) + 3) / 6 * (high - low)


def _target(estimator: _Estimator, x: Inputs, y: ArrayLike, *, multi: bool) -> Array:
    """Return y, checked against X as scikit-learn does."""
    if y is None:
        raise InputError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    if issparse(x):
        raise InputError("X is sparse, and sparse input is not supported: use X.toarray()")
    numeric = not multi
    given = check_array(y, ensure_2d=False, dtype="numeric" if numeric else None, input_name="y")
    if given.ndim > 1 and (numeric or given.shape[1] == 1):
        given = column_or_1d(given, warn=True)
    return np.asarray(given)
