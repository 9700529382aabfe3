"""Study = arms x data x conditions x seeds; RunSpec = one run of it, frozen, JSON-able, named by its hash.

A spec holds names and numbers alone: what the names stand for is looked up when the run starts (`execute.py`). Two
specs with equal content have the same hash on every machine; the hash also covers the sources the run imports
(`sources.py`), so a stored result is never taken for one of other code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal

from affectcore.errors import ConfigError

PROFILES = ("smoke", "standard", "full")
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Transform:
    """A function of `affectcore.data.transform` by name, fitted on the training split: "standardise", ..."""

    name: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class DataSpec:
    """What a run learns from.

    name: label in tables. source: "world" (every seed draws its own) or "reader" (one fixed set). dataset: name of the
    world, or name or path for `readers.load`; options go there. only: modalities kept, () = all. resplit: options of
    `folds.fold` (k, n_folds, seed, by, valid_share), None = the set's own splits. transforms: applied in this order.
    """

    name: str
    source: Literal["world", "reader"]
    dataset: str
    options: Options = field(default_factory=dict)
    only: tuple[str, ...] = ()
    resplit: Options | None = None
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True)
class Condition:
    """How the samples are changed before they are scored: a registered protocol at one rate.

    protocol: "missing/NAME" or "corruption/NAME", None = samples as they are. options: further fields of the protocol.
    seed: of the masks, None = the run's seed. Arms of one seed always see the same masks.
    """

    name: str = "clean"
    protocol: str | None = None
    rate: float = 0.0
    options: Options = field(default_factory=dict)
    seed: int | None = None


CLEAN = Condition()


@dataclass(frozen=True)
class RunSpec:
    """One training run of one arm: everything that decides its numbers, beside the code.

    execute: "module:function" that turns specs into outcomes, default `execute.train_and_score`. recipe: preset name,
    None for closed-form estimators. augment: condition applied to training batches. metrics: names, () = all that the
    task has. options: whatever a study's own executor needs.
    """

    study: str
    arm: str
    profile: str
    seed: int
    data: DataSpec
    model: str
    preset: str = "clean"
    overrides: Options = field(default_factory=dict)
    recipe: str | None = None
    recipe_overrides: Options = field(default_factory=dict)
    augment: Condition | None = None
    conditions: tuple[Condition, ...] = (CLEAN,)
    metrics: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    execute: str = "affectcore.studies.execute:train_and_score"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ConfigError(f"{self.label}: profile {self.profile!r} is unknown: use {', '.join(PROFILES)}")
        names = [c.name for c in self.conditions]
        if len(set(names)) != len(names) or not names:
            raise ConfigError(f"{self.label}: condition names must be distinct, at least one, got {names}")
        plain(asdict(self), self.label)

    @property
    def label(self) -> str:
        """The run in one short line, for progress bars and messages."""
        return f"{self.study}/{self.arm}/{self.data.name} seed {self.seed} ({self.profile})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        content: dict[str, Any] = plain(asdict(self), self.label)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunSpec":
        """The spec of a record. Raises ConfigError if a field is unknown, absent or of the wrong form."""
        try:
            c = dict(content)
            d = dict(c["data"])
            d["transforms"] = tuple(Transform(**t) for t in d["transforms"])
            d["only"] = tuple(d["only"])
            c["data"] = DataSpec(**d)
            c["conditions"] = tuple(Condition(**x) for x in c["conditions"])
            c["augment"] = None if c["augment"] is None else Condition(**c["augment"])
            c["metrics"] = tuple(c["metrics"])
            return cls(**c)
        except (KeyError, TypeError) as e:
            raise ConfigError(f"run spec: {type(e).__name__} {e}; it was written by another version") from e

    def identity(self) -> str:
        """16 hexadecimal digits of the content alone, whatever the code is."""
        return digest(self.to_json())

    def hash(self) -> str:
        """20 hexadecimal digits of the content and of the sources the run imports: the run's name in the store."""
        from affectcore.studies.sources import sources_hash  # it looks names up, which needs the rooms below

        return digest({"spec": self.to_json(), "sources": sources_hash(self)}, 10)


@dataclass(frozen=True)
class Arm:
    """One thing compared: a model, a preset and what is changed in it. See `RunSpec` for the fields they share.

    tier: 1 decides a claim, 2 illustrates, 3 only at full size. data: labels of the data sets it runs on, () = all.
    conditions: scored in, () = the study's.
    """

    name: str
    model: str
    preset: str = "clean"
    overrides: Options = field(default_factory=dict)
    recipe: str | None = None
    recipe_overrides: Options = field(default_factory=dict)
    augment: Condition | None = None
    options: Options = field(default_factory=dict)
    tier: Literal[1, 2, 3] = 1
    data: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    execute: str = "affectcore.studies.execute:train_and_score"


@dataclass(frozen=True)
class Profile:
    """A size of a study. An arm's own settings win over the profile's, the profile's over the preset.

    seeds: tier -> number of seeds (0, 1, ...); a tier that is not named is not run. recipe: changes in every arm's
    recipe (epochs ...). overrides: model name -> changes in its config (width ...). data: data label -> changes in
    its options.
    """

    seeds: Mapping[int, int]
    recipe: Options = field(default_factory=dict)
    overrides: Mapping[str, Options] = field(default_factory=dict)
    data: Mapping[str, Options] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A question, its arms, data, conditions and sizes: `STUDY` in `affectcore/studies/<name>/study.py`.

    profiles: "smoke", "standard", "full" -> Profile. deciding, deciding_data: conditions and data labels whose per-item
    predictions are exported, () = all. drawn: data labels (without folds) whose bootstrap draws are exported, () = all;
    worlds need none, since every seed has its own and seeds alone are compared. publish_targets: data labels of real
    sets whose targets may be stored, by row number, beside exported predictions (those of worlds always are): only
    where the licence allows it.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    data: tuple[DataSpec, ...]
    profiles: Mapping[str, Profile]
    conditions: tuple[Condition, ...] = (CLEAN,)
    metrics: tuple[str, ...] = ()
    deciding: tuple[str, ...] = ()
    deciding_data: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    publish_targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = [d.name for d in self.data]
        for what, names in {"arm": [a.name for a in self.arms], "data": labels}.items():
            if len(set(names)) != len(names) or not names:
                raise ConfigError(f"study {self.name}: {what} names must be distinct, at least one, got {names}")
        self._known("profile", self.profiles, PROFILES)
        for a in self.arms:
            self._known(f"arm {a.name}: data", a.data, labels)
        for p in self.profiles.values():
            self._known("profile data", p.data, labels)
            self._known("profile overrides", p.overrides, [a.model for a in self.arms])
        self._known("deciding", self.deciding, [c.name for a in self.arms for c in a.conditions or self.conditions])
        self._known("deciding_data", self.deciding_data, labels)
        self._known("drawn", self.drawn, [x.partition("/")[0] for x in labels])
        self._known("publish_targets", self.publish_targets, labels)

    def _known(self, what: str, names: Sequence[str] | Mapping[str, Any], legal: Sequence[str]) -> None:
        for n in names:
            if n not in legal:
                raise ConfigError(f"study {self.name}: {what} {n!r} is unknown: use {', '.join(sorted(set(legal)))}")

    def arm(self, name: str) -> Arm:
        self._known("arm", [name], [a.name for a in self.arms])
        return next(a for a in self.arms if a.name == name)

    def specs(self, profile: str, seeds: int | Sequence[int] | None = None) -> tuple[RunSpec, ...]:
        """The runs of a profile, arm by arm. `seeds` (a number or a list) replaces the profile's numbers of seeds.

        Raises ConfigError for an unknown profile or for no or negative seeds.
        """
        self._known("profile", [profile], list(self.profiles))
        p = self.profiles[profile]
        runs: list[RunSpec] = []
        for a in self.arms:
            if a.tier not in p.seeds:
                continue
            for d in self.data:
                if a.data and d.name not in a.data:
                    continue
                of_tier = p.seeds[a.tier] if seeds is None else seeds
                chosen = list(range(of_tier)) if isinstance(of_tier, int) else list(of_tier)
                if not chosen or min(chosen) < 0 or len(set(chosen)) != len(chosen):
                    raise ConfigError(
                        f"study {self.name}: seeds {seeds!r} must be a number >= 1 or distinct seeds >= 0"
                    )
                data = DataSpec(**(d.__dict__ | {"options": {**d.options, **p.data.get(d.name, {})}}))
                recipe = {} if a.recipe is None else {**p.recipe, **a.recipe_overrides}
                common = RunSpec(
                    study=self.name, arm=a.name, profile=profile, seed=0, data=data, model=a.model, preset=a.preset,
                    overrides={**p.overrides.get(a.model, {}), **a.overrides}, recipe=a.recipe, recipe_overrides=recipe,
                    augment=a.augment, conditions=a.conditions or self.conditions, metrics=self.metrics,
                    options=a.options, execute=a.execute,
                )  # fmt: skip
                runs += [replace(common, seed=seed) for seed in chosen]
        return tuple(runs)


def plain(value: Any, where: str) -> Any:
    """Return `value` as plain JSON (tuples become lists). Raises ConfigError for anything JSON cannot say exactly."""
    if isinstance(value, Mapping):
        for k in value:
            if not isinstance(k, str):
                raise ConfigError(f"{where}: key {k!r} must be a string")
        return {k: plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    finite = not isinstance(value, float) or abs(value) < float("inf")  # False for NaN too
    if value is None or (isinstance(value, bool | int | float | str) and finite):
        return value
    raise ConfigError(f"{where}: {value!r} ({type(value).__name__}) must be a finite number, string, list or mapping")


def canonical(content: Any) -> str:
    """Return the one JSON text of plain content: sorted keys, no spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(content: Any, size: int = 8) -> str:
    """Return 2 * size hexadecimal digits of the canonical JSON of plain content."""
    return blake2b(canonical(content).encode(), digest_size=size).hexdigest()
