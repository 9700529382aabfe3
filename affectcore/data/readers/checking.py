"""What is wrong with a file or folder of any format this package reads: the work behind `affectcore data check`."""

from hashlib import file_digest
from pathlib import Path

from affectcore.data import catalog
from affectcore.data.readers.problems import Problem
from affectcore.errors import DataError


def check(path: Path) -> list[Problem]:
    """Return all problems of a file or folder; empty when it is well.

    A folder is one in the own format, one of .csd files, a set of the catalog, or a folder of such sets; a file is a
    .csd, an `affectcore.toml`, or an MMSA-format pickle. Known files are also compared with the SHA-256 of the catalog.
    """
    if not path.exists():
        return [Problem(str(path), "the file", "is missing")]
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".toml":
        from affectcore.data.readers import own

        return own.problems(path)
    if path.suffix == ".csd":
        from affectcore.data.readers import csd

        return csd.problems(path)
    found = _checksum(path)
    if path.suffix in (".npz", ".parquet"):
        if not _listed(path):
            hint = "see the book's page on your own data"
            found.append(Problem(str(path), "the file", "needs an affectcore.toml beside it that names it", hint=hint))
        return found
    if path.suffix == ".csv" or path.name.endswith(".csv.gz"):
        return found if _listed(path) else [Problem(str(path), "the file", "is of no format that is read")]
    from affectcore.data.readers import mmsa, unpickle

    try:
        raw = unpickle.read(path)
    except DataError as e:
        return [*found, Problem(str(path), "the file", str(e).removeprefix(f"{path}: "))]
    return [*found, *mmsa.problems(raw, str(path))]


def _listed(path: Path) -> str | None:
    """The name of the catalog's set to which a file belongs, judged by the end of its path."""
    here = path.resolve().as_posix()
    return next((e.name for e in catalog.CATALOG.values() for f in e.files if here.endswith("/" + f)), None)


def _checksum(path: Path) -> list[Problem]:
    name = _listed(path)
    if name is None:
        return []
    here = path.resolve().as_posix()
    expected = next(sha for f, sha in catalog.entry(name).files.items() if here.endswith("/" + f))
    if expected is None:
        return []
    with path.open("rb") as f:
        found = file_digest(f, "sha256").hexdigest()
    if found == expected:
        return []
    return [Problem(str(path), "the file", f"must have SHA-256 {expected} as {name}", found)]


def _folder(path: Path) -> list[Problem]:
    if (path / "affectcore.toml").is_file():
        from affectcore.data.readers import own

        return own.problems(path)
    if sequences := sorted(path.glob("*.csd")):
        from affectcore.data.readers import csd

        return [p for f in sequences for p in csd.problems(f)]
    sets = {Path(f).parts[0] for e in catalog.CATALOG.values() for f in e.files}
    inside = [path] if path.name in sets else [p for p in sorted(path.iterdir()) if p.is_dir() and p.name in sets]
    if not inside:
        rule = "must hold an affectcore.toml or be one of the catalog's folders"
        return [Problem(str(path), "the folder", rule)]
    found = []
    for folder in inside:
        files = {f for e in catalog.CATALOG.values() for f in e.files if Path(f).parts[0] == folder.name}
        there = [f for f in sorted(files) if (folder.parent / f).is_file()]
        required = {f for e in catalog.CATALOG.values() for f in e.files if len(e.files) > 1} & files
        if not there:
            found.append(Problem(str(folder), "the folder", f"must hold {' or '.join(sorted(files))}"))
        found += [Problem(str(folder.parent / f), "the file", "is missing") for f in sorted(required - set(there))]
        for f in there:
            found += check(folder.parent / f)
    return found
