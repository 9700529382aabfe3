"""Which files a run's code is made of, and their hash: the static import graph inside the package.

Indexes (registries that name everything) are not followed: what a run takes out of them is named by the executor's
own `modules(spec)`, so adding a model does not make the records of another one stale. Nor is `spec`: its content has
a hash.
"""

import ast
import importlib
import importlib.util
import io
import tokenize
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from affectcore.errors import ConfigError
from affectcore.studies.spec import RunSpec

PACKAGE = "affectcore"
INDEXES = frozenset({"affectcore.models.registry", "affectcore.data.catalog", "affectcore.data.readers",
                     "affectcore.data.worlds", "affectcore.studies.spec"})  # fmt: skip


def executor(spec: RunSpec) -> Callable[..., Any]:
    """Return the function that `spec.execute` ("module:function") names. Raises ConfigError if there is none."""
    module, _, name = spec.execute.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(f"{spec.label}: execute {spec.execute!r} is no module:function ({e})") from e
    return found


def modules(spec: RunSpec) -> tuple[str, ...]:
    """Return the modules a run starts from: its executor's and those the executor looks up for this spec."""
    module = executor(spec).__module__
    more = getattr(importlib.import_module(module), "modules", None)
    return (module, *(more(spec) if more else ()))


@cache
def _file(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the package that a module's source names in an import statement, wherever it stands."""
    file = _file(module)
    if file is None or module in INDEXES:
        return ()
    here = module if file.name == "__init__.py" else module.rpartition(".")[0]
    named: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*here.split(".")[: len(here.split(".")) - node.level + 1], *filter(None, [base])])
            named += [base, *(f"{base}.{a.name}" for a in node.names)]
    return tuple(n for n in named if n.split(".")[0] == PACKAGE and _file(n) is not None)


def closure(roots: Iterable[str]) -> tuple[str, ...]:
    """Return the sorted modules reached from `roots` by imports, indexes and their contents left out."""
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        m = todo.pop()
        if m in seen:
            continue
        seen.add(m)
        parent = m.rpartition(".")[0]
        todo += [*_imports(m), *([parent] if parent.startswith(PACKAGE) else [])]
    return tuple(sorted(m for m in seen if m not in INDEXES and _file(m) is not None))


@cache
def _file_hash(module: str) -> str:
    file = _file(module)
    assert file is not None  # `closure` keeps modules with a file only
    return blake2b(code(file.read_text(encoding="utf-8")).encode(), digest_size=8).hexdigest()


def code(source: str) -> str:
    """Return what of a source file runs: its lines without docstrings, comments and what is blank.

    Cut out of the text, not written anew from the syntax tree, which differs from one Python to the next.
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    told: set[int] = set()  # rows of docstrings
    literal: set[int] = set()  # rows inside other strings, where a blank counts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno:
            literal |= {*range(node.lineno, node.end_lineno or 0)}
        if isinstance(node, documented) and ast.get_docstring(node):
            first = node.body[0]
            told |= {*range(first.lineno, (first.end_lineno or 0) + 1)}
    kept = [(k, x) for k, x in enumerate(lines, 1) if k not in told and (x.strip() or k in literal)]
    return "\n".join(x if k in literal else x.rstrip() for k, x in kept)


def sources_hash(spec: RunSpec) -> str:
    """Return 16 hexadecimal digits of every source file the run imports, by module name and code; see `code`.

    Read once a process: a running sweep keeps the hash of the code it started with.
    """
    return _hash(modules(spec))


@cache
def _hash(roots: tuple[str, ...]) -> str:
    h = blake2b(digest_size=8)
    for m in closure(roots):
        h.update(f"{m} {_file_hash(m)}\n".encode())
    return h.hexdigest()


def forget() -> None:
    """Read sources from disk again at the next question (for tests, and a notebook after an edit)."""
    for f in (_file, _imports, _file_hash, _hash):
        f.cache_clear()
