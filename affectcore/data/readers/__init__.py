"""Readers of real data: `load` makes an AffectData of a named set or of a file, `table` a data frame of labels."""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectcore.errors import ConfigError, DataError

if TYPE_CHECKING:  # torch and pandas are imported when something is read, not before
    import pandas as pd

    from affectcore.data.readers.problems import Problem
    from affectcore.data.schema import AffectData

_NOT_SETS = "a .csd file holds one modality: load its folder, or call affectcore.data.readers.csd.load"


def _call(reader: "Callable[..., AffectData]", what: str, *args: Any, **options: Any) -> "AffectData":
    known = [p.name for p in signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ConfigError(f"{what}: option {name!r} is unknown: there are {', '.join(known) or 'none'}")
    return reader(*args, **options)


def load(name_or_path: str | Path, **options: Any) -> "AffectData":
    """Return a data set by its name in the catalog, or by the path of a file or folder.

    A path is a folder with an `affectcore.toml` (own format), that file itself, a folder of .csd files, or an
    MMSA-format pickle. Options are those of the set's reader (`affectcore.data.catalog.entry(name).options`,
    `mmsa.load`, `own.load`, `csd.load`), and `lexical`: options of `shift.lexical_split`, which then splits the set by
    its words.
    Raises ConfigError for unknown names and options, DataError for what is absent or broken.
    """
    from affectcore.data import catalog

    lexical = options.pop("lexical", None)
    if lexical is not None:
        from affectcore.data.shift import lexical_split

        return lexical_split(load(name_or_path, **options), **dict(lexical))
    name = str(name_or_path)
    if name in catalog.CATALOG:
        from affectcore.data.readers import bundles

        if name in bundles.READERS:
            return _call(bundles.READERS[name], name, **options)
        if catalog.CATALOG[name].kind != "features":
            raise ConfigError(f"{name} holds no features: use affectcore.data.readers.table({name!r})")
        from affectcore.data.readers import mmsa

        return _call(mmsa.load, name, catalog.locate(name), **({"name": name} | options))
    path = Path(name_or_path)
    if not path.exists():
        names = ", ".join(catalog.CATALOG)
        raise ConfigError(f"data {name!r} is neither a file, nor a folder, nor a known set: the sets are {names}")
    if path.suffix == ".csd":
        raise ConfigError(f"{path}: {_NOT_SETS}")
    if path.is_dir() and not (path / "affectcore.toml").is_file() and any(path.glob("*.csd")):
        from affectcore.data.readers import csd

        return csd.folder(path, **options)
    if path.is_dir() or path.suffix == ".toml":
        from affectcore.data.readers import own

        return _call(own.load, name, path, **options)
    from affectcore.data.readers import mmsa

    return _call(mmsa.load, name, path, **options)


def table(name: str) -> "pd.DataFrame":
    """Return the label table of a set, ids as strings and nothing read as missing; rows in the order of `load`.

    Sets: cmu_mosi_utt, cmu_mosei_labels, iemocap_labels, sims_labels, simsv2_labels, meld_text. Transcripts and ids in
    it stay in memory: never store or show them.
    """
    from affectcore.data.readers import bundles

    return bundles.table(name)


def check(path: str | Path) -> "list[Problem]":
    """Return everything found wrong with a file or folder of any format this package reads; empty when it is well."""
    from affectcore.data.readers.checking import check as run

    return run(Path(path))


__all__ = ["DataError", "check", "load", "table"]
