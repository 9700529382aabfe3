"""Task, Batch and AffectData: what every reader and world makes and every model reads.

Padding and missing are different things, and both are known:

    position < length    the step exists            (`Batch.valid`)
    observed             its value is really there  (`Batch.observed`, never True in padding)

Shapes: B samples, T_m steps and D_m features of modality m, C classes or targets.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree

from affectcore.errors import ConfigError, DataError, TestLocked

Kind = Literal["regression", "single_label", "multi_label"]
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Task:
    """What is predicted.

    kind: "regression" (target (N,) float), "single_label" ((N,) int64 class numbers), "multi_label" ((N, C) 0 or 1).
    names: class names in the order of the outputs; one target name for regression.
    low, high: the scale of a regression target, both ends included.
    """

    kind: Kind
    names: tuple[str, ...]
    low: float = -3.0
    high: float = 3.0

    def __post_init__(self) -> None:
        if self.kind not in ("regression", "single_label", "multi_label"):
            raise ConfigError(f"task kind {self.kind!r} is unknown: use regression, single_label or multi_label")
        if len(self.names) < (2 if self.kind == "single_label" else 1) or len(set(self.names)) != len(self.names):
            raise ConfigError(f"task names {self.names!r} must be distinct, two or more for single_label")
        if self.kind == "regression" and (len(self.names) != 1 or not self.low < self.high):
            raise ConfigError(
                f"a regression task needs one name and low < high, got {self.names!r}, {self.low}, {self.high}"
            )

    @property
    def outputs(self) -> int:
        """Number of outputs of a model for this task: classes, or 1 for regression."""
        return len(self.names)


@dataclass(frozen=True)
class Batch:
    """Samples on one device. Modalities are ordered: text, audio, vision first, then any others.

    features[m]: (B, T_m, D_m) float, zero wherever `observed` is False; lengths[m]: (B,) int64, 1..T_m;
    observed[m]: (B, T_m) bool; target: see `Task`; index: (B,) int64 row in the data set;
    group: (B,) int64 speaker or video; environment: (B,) int64 or None;
    extras: further per-sample tensors of a world or a text encoder, by name (oracle counterfactuals, token ids).
    """

    features: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    observed: Mapping[str, Tensor]
    target: Tensor
    index: Tensor
    group: Tensor
    environment: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    def valid(self, modality: str) -> Tensor:
        """(B, T_m) bool, True where the step exists, whether or not its value was observed."""
        steps = torch.arange(self.features[modality].shape[-2], device=self.lengths[modality].device)
        return steps < self.lengths[modality].unsqueeze(-1)

    def rows(self, rows: Tensor) -> "Batch":
        """The batch of these positions (int64), in this order."""
        return self.map(lambda x: x[rows])

    def map(self, f: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `f` applied to every tensor."""

        def each(d: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {k: f(v) for k, v in d.items()}

        return Batch(
            each(self.features), each(self.lengths), each(self.observed), f(self.target), f(self.index), f(self.group),
            None if self.environment is None else f(self.environment), each(self.extras),
        )  # fmt: skip

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "Batch":
        """The batch on `device`, floating tensors in `dtype` if given."""
        return self.map(lambda x: x.to(device, dtype if x.is_floating_point() else None))

    def remembering(self, before: "Batch") -> "Batch":
        """The batch, made of `before` by a protocol, with what that hid kept in `extras`, for `complete`."""
        kept = {f"complete.{m}": x for m, x in before.features.items()}
        kept |= {f"complete_observed.{m}": o for m, o in before.observed.items()}
        return replace(self, extras={**self.extras, **kept})

    @property
    def remembers(self) -> bool:
        """Whether the batch knows what a protocol hid."""
        return all(f"complete.{m}" in self.extras for m in self.features)

    def complete(self) -> "Batch":
        """The batch before a protocol hid values if it `remembers`, itself otherwise: targets of training alone."""
        if not self.remembers:
            return self
        x = {m: self.extras[f"complete.{m}"] for m in self.features}
        return replace(self, features=x, observed={m: self.extras[f"complete_observed.{m}"] for m in self.features})

    def with_observed(self, observed: Mapping[str, Tensor]) -> "Batch":
        """The batch with values hidden: zero where the new mask is False. What is already hidden stays hidden."""
        both = {m: self.observed[m] & observed.get(m, self.observed[m]) for m in self.features}
        shown = {m: x * both[m].unsqueeze(-1).to(x.dtype) for m, x in self.features.items()}
        return replace(self, features=shown, observed=both)


def _flatten(b: Batch) -> tuple[list[object], None]:
    environment = [] if b.environment is None else [b.environment]  # vmap takes no None
    features, lengths, observed, extras = dict(b.features), dict(b.lengths), dict(b.observed), dict(b.extras)
    return [features, lengths, observed, b.target, b.index, b.group, environment, extras], None


def _unflatten(children: Iterable[Any], _: None) -> Batch:
    features, lengths, observed, target, index, group, environment, extras = children
    return Batch(features, lengths, observed, target, index, group, environment[0] if environment else None, extras)


_pytree.register_pytree_node(Batch, _flatten, _unflatten)  # lets torch.func.vmap take batches


@dataclass(frozen=True)
class Selection:
    """What was chosen before the test split may be read, and by which rule.

    rule: "valid_best", "valid_last", "fixed", ... or, for the re-enacted leaky protocols only, a name that begins with
    "oracle_test_": the name goes into every record. epoch: the chosen epoch (None where nothing is trained).
    """

    rule: str
    epoch: int | None = None
    value: float | None = None

    @property
    def leaky(self) -> bool:
        return self.rule.startswith("oracle_test_")


class AffectData:
    """A data set held in memory, split by name, its test part locked until a `Selection` is frozen.

    features[m]: (N, T_m, D_m) float32; lengths[m]: (N,); observed[m]: (N, T_m) (None: every existing step is observed);
    target: see `Task`; splits: name -> row numbers (train, valid, test; further names allowed, e.g. "test_ood");
    group: (N,) int64 codes; environment: (N,) int64 or None.
    notes: what the reader dropped, filled in or decided, one sentence each.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        features: Mapping[str, NDArray[np.floating] | Tensor],
        target: NDArray[np.generic] | Tensor,
        splits: Mapping[str, NDArray[np.integer]],
        *,
        lengths: Mapping[str, NDArray[np.integer] | Tensor] | None = None,
        observed: Mapping[str, NDArray[np.bool_] | Tensor] | None = None,
        group: NDArray[np.integer] | Tensor | None = None,
        environment: NDArray[np.integer] | Tensor | None = None,
        extras: Mapping[str, NDArray[np.generic] | Tensor] | None = None,
        feature_names: Mapping[str, tuple[str, ...]] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self.name, self.task = name, task
        n = len(target)
        if not features or n == 0:
            raise DataError(f"{name}: a data set needs at least one modality and one sample")
        x: dict[str, Tensor] = {}
        length: dict[str, Tensor] = {}
        seen: dict[str, Tensor] = {}
        for m, values in features.items():
            v = torch.as_tensor(values, dtype=torch.float32)
            if v.ndim != 3 or len(v) != n:
                raise DataError(f"{name}: features[{m!r}] has shape {tuple(v.shape)}, expected ({n}, steps, features)")
            given = None if lengths is None else lengths.get(m)
            k = torch.full((n,), v.shape[1]) if given is None else torch.as_tensor(given, dtype=torch.int64)
            if k.shape != (n,) or int(k.min()) < 1 or int(k.max()) > v.shape[1]:
                rule = f"({n},) whole numbers in 1..{v.shape[1]}; a sequence of length 0 is refused"
                raise DataError(
                    f"{name}: lengths[{m!r}] must hold {rule}, got {tuple(k.shape)} in {k.min()}..{k.max()}"
                )
            exists = torch.arange(v.shape[1]) < k[:, None]
            mask = None if observed is None else observed.get(m)
            o = exists.clone() if mask is None else torch.as_tensor(mask, dtype=torch.bool)
            if o.shape != v.shape[:2]:
                raise DataError(f"{name}: observed[{m!r}] has shape {tuple(o.shape)}, expected {tuple(v.shape[:2])}")
            if bool((o & ~exists).any()):
                raise DataError(f"{name}: observed[{m!r}] is True beyond a sequence's length")
            if not bool(torch.isfinite(v[o]).all()):
                row, step = (o & ~torch.isfinite(v).all(-1)).nonzero()[0].tolist()
                raise DataError(
                    f"{name}: features[{m!r}] row {row} step {step} is NaN or infinite where it is marked observed"
                )
            x[m], length[m], seen[m] = torch.where(o[..., None], v, torch.zeros(())), k, o
        y = self._check_target(target)
        g = torch.arange(n) if group is None else torch.as_tensor(group, dtype=torch.int64)
        e = None if environment is None else torch.as_tensor(environment, dtype=torch.int64)
        more = {k: torch.as_tensor(v) for k, v in (extras or {}).items()}
        for label, t in {"group": g, "environment": e, **more}.items():
            if t is not None and len(t) != n:
                raise DataError(f"{name}: {label} has {len(t)} rows, expected {n}")
        self._all = Batch(x, length, seen, y, torch.arange(n), g, e, more)
        self.feature_names = dict(feature_names or {})
        self.notes = tuple(notes)
        self._rows = self._check_splits(splits)

    def _check_target(self, target: NDArray[np.generic] | Tensor) -> Tensor:
        kind, c = self.task.kind, self.task.outputs
        y = torch.as_tensor(target)
        shape = tuple(y.shape)
        if kind == "single_label":
            if y.ndim != 1 or y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= c:
                rule = f"integers 0..{c - 1} of shape (N,)"
                raise DataError(f"{self.name}: target must hold {rule}, got {shape} in {y.min():g}..{y.max():g}")
            return y.long()
        y = y.float()
        if not bool(torch.isfinite(y).all()):
            raise DataError(f"{self.name}: target row {int((~torch.isfinite(y)).nonzero()[0, 0])} is NaN or infinite")
        if kind == "regression":
            low, high = self.task.low, self.task.high
            if y.ndim != 1 or float(y.min()) < low or float(y.max()) > high:
                rule = f"values in [{low:g}, {high:g}] of shape (N,)"
                raise DataError(f"{self.name}: target must hold {rule}, got {shape} in [{y.min():g}, {y.max():g}]")
        elif y.ndim != 2 or y.shape[1] != c or not bool(((y == 0) | (y == 1)).all()):
            raise DataError(f"{self.name}: target must hold 0 or 1 of shape (N, {c}), got {shape}")
        return y

    def _check_splits(self, splits: Mapping[str, NDArray[np.integer]]) -> dict[str, Tensor]:
        rows = {k: torch.as_tensor(np.asarray(v), dtype=torch.int64) for k, v in splits.items()}
        for k, r in rows.items():
            if r.ndim != 1 or len(r) == 0 or int(r.min()) < 0 or int(r.max()) >= len(self):
                raise DataError(f"{self.name}: split {k!r} must hold row numbers 0..{len(self) - 1}, at least one")
            if len(r.unique()) != len(r):
                raise DataError(f"{self.name}: split {k!r} holds a row twice")
        names = list(rows)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                if not (a.startswith("test") and b.startswith("test")) and bool(torch.isin(rows[a], rows[b]).any()):
                    raise DataError(f"{self.name}: splits {a!r} and {b!r} share rows")
        return rows

    def __len__(self) -> int:
        return len(self._all)

    @property
    def modalities(self) -> tuple[str, ...]:
        return self._all.modalities

    @property
    def dims(self) -> dict[str, int]:
        """Features per modality."""
        return {m: x.shape[-1] for m, x in self._all.features.items()}

    @property
    def steps(self) -> dict[str, int]:
        """Longest sequence per modality."""
        return {m: x.shape[-2] for m, x in self._all.features.items()}

    @property
    def splits(self) -> dict[str, int]:
        """Samples per split."""
        return {k: len(v) for k, v in self._rows.items()}

    @property
    def group(self) -> Tensor:
        return self._all.group

    def split(self, name: str, selection: Selection | None = None) -> Batch:
        """The samples of one split. A split whose name begins with "test" needs the frozen selection.

        A leaky protocol must freeze a selection whose rule is named oracle_test_...
        Raises TestLocked without a selection, ConfigError for an unknown split.
        """
        if name not in self._rows:
            raise ConfigError(f"{self.name}: split {name!r} is unknown, it has {', '.join(self._rows)}")
        if name.startswith("test") and not isinstance(selection, Selection):
            raise TestLocked(f"{self.name}: split {name!r} is locked until a Selection is frozen")
        return self._all.rows(self._rows[name])

    def _with(self, **changes: Any) -> "AffectData":
        other = object.__new__(AffectData)
        other.__dict__.update(self.__dict__ | changes)
        return other

    def with_splits(self, splits: Mapping[str, NDArray[np.integer]], name: str | None = None) -> "AffectData":
        """The same resident samples under other splits: folds, re-splits by environment or lexicon."""
        return self._with(_rows=self._check_splits(splits), name=name or self.name)

    def map_features(self, functions: Mapping[str, Callable[[Tensor], Tensor]]) -> "AffectData":
        """The same data with features[m] replaced by functions[m](features[m]): scaling, projections.

        Each function takes (N, T_m, D) and returns (N, T_m, D'); values that are not observed are zeroed again.
        """
        x = dict(self._all.features)
        for m, f in functions.items():
            if m not in x:
                raise ConfigError(f"{self.name}: modality {m!r} is unknown, it has {', '.join(x)}")
            new, seen = f(x[m]), self._all.observed[m]
            if new.shape[:2] != seen.shape or not bool(torch.isfinite(new[seen]).all()):
                rule = "finite values of the same samples and steps"
                raise DataError(f"{self.name}: the new features[{m!r}] of shape {tuple(new.shape)} must hold {rule}")
            x[m] = torch.where(seen[..., None], new, torch.zeros((), dtype=new.dtype))
        return self._with(_all=replace(self._all, features=x))

    def only(self, modalities: tuple[str, ...]) -> "AffectData":
        """The same data with these modalities alone, in this order."""
        unknown = [m for m in modalities if m not in self.modalities]
        if unknown or not modalities:
            raise ConfigError(f"{self.name}: modality {unknown} is unknown, it has {', '.join(self.modalities)}")
        b = self._all
        features, lengths, observed = ({m: d[m] for m in modalities} for d in (b.features, b.lengths, b.observed))
        return self._with(_all=replace(b, features=features, lengths=lengths, observed=observed))

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any value, mask, target, group, split or name order of the data."""
        h = blake2b(digest_size=8)
        for label, t in self._named():
            h.update(f"{label}{tuple(t.shape)}{t.dtype}".encode())
            h.update(np.ascontiguousarray(t.numpy()).tobytes())
        h.update(repr(self.task).encode())
        return h.hexdigest()

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        b = self._all
        for kind in ("features", "lengths", "observed", "extras"):
            yield from ((f"{kind}/{k}", v) for k, v in getattr(b, kind).items())
        yield from (("target", b.target), ("group", b.group))
        if b.environment is not None:
            yield "environment", b.environment
        yield from ((f"split/{k}", v) for k, v in self._rows.items())
