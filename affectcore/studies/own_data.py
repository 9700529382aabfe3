"""A study on a data set of your own: the arms of one of its data labels, run on a file or folder instead."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from affectcore.errors import ConfigError
from affectcore.studies.spec import DataSpec, Options, Study, Transform


@dataclass(frozen=True)
class Elsewhere:
    """Where another set takes its place: `ELSEWHERE = {label: Elsewhere(...)}` in a study's study.py.

    instead_of: the study's data label whose arms run on it. options: of the reader, unless the set is in the own
    format, which says all that itself. transforms: fitted on the training split.
    """

    instead_of: str
    options: Options
    transforms: tuple[Transform, ...]


def on_own_data(study: Study, label: str, path: str | Path) -> Study:
    """Return a study with the arms of `ELSEWHERE[label].instead_of`, on the set at `path`, in the set's own splits.

    Raises ConfigError if the study has no such label or nothing is at the path.
    """
    places: Mapping[str, Elsewhere] = getattr(import_module(f"affectcore.studies.{study.name}.study"), "ELSEWHERE", {})
    if label not in places:
        known = ", ".join(places) or "none"
        raise ConfigError(f"study {study.name} takes no data {label!r} of your own; labels that it takes: {known}")
    if not Path(path).exists():
        raise ConfigError(f"data {label} = {str(path)!r}: nothing is there")
    place = places[label]
    own_format = Path(path).suffix == ".toml" or (Path(path) / "affectcore.toml").is_file()
    options = {} if own_format else place.options
    data = DataSpec(label, "reader", str(Path(path).resolve()), options, transforms=place.transforms)
    arms = tuple(replace(a, data=(label,)) for a in study.arms if not a.data or place.instead_of in a.data)
    profiles = {k: replace(p, data={}) for k, p in study.profiles.items()}
    return replace(study, arms=arms, data=(data,), profiles=profiles, deciding_data=(), drawn=(), publish_targets=())
