"""Runs the chapters of the book: `python -m affectcore.chapters --help`, or `make chapters` and `make refresh`.

A chapter is a pair: book/ROOM/NAME.md is written and reviewed, book/ROOM/NAME.ipynb holds the same cells with outputs.
`run` executes it with other parameters into `runs/`, never in place; `refresh` executes the text form as it stands and
replaces the notebook. Both write under a temporary name and rename, so a kill at any instant leaves no half notebook,
and both put into the notebook's metadata how it was made; the status page shows that.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from affectcore.data import catalog
from affectcore.errors import AffectError, ConfigError

PROFILES = ("committed", "smoke", "standard", "full")
# pooch imports tqdm.auto, which in a kernel without ipywidgets prints a warning with the path of the environment.
warnings.filterwarnings("ignore", message="IProgress not found")

SHOWN_VERSIONS = ("affectcore", "torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")


# What a chapter calls


@dataclass(frozen=True)
class Settings:
    """The checked parameters of a chapter. `seeds` is 0 where the profile decides; `data` is None without real data."""

    profile: str
    seeds: int
    device: str
    data: Path | None


def settings(profile: str, seeds: int, device: str, data: str) -> Settings:
    """Return the checked parameters of a chapter.

    `data` is "none", a folder, or "auto": the folder of `affectcore.data.catalog`, if it exists, except in the profile
    `committed`, whose pages must come out the same on every machine. The readers are pointed at the same place. Raises
    ConfigError for a value of the wrong type (papermill's `-p` makes strings of whatever it does not know), an unknown
    profile or device, a negative number of seeds, a folder that does not exist, and a GPU that is not there.
    """
    for name, value, kind in (
        ("profile", profile, str),
        ("seeds", seeds, int),
        ("device", device, str),
        ("data", data, str),
    ):
        if type(value) is not kind:
            raise ConfigError(f"{name} = {value!r}: must be of type {kind.__name__}")
    if profile not in PROFILES:
        raise ConfigError(f"profile = {profile!r}: must be one of {', '.join(PROFILES)}")
    if seeds < 0:
        raise ConfigError(f"seeds = {seeds}: must be 0 (the profile's own number) or more")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device = {device!r}: must be cpu or cuda")
    if device == "cuda":
        import torch  # only here: a chapter that stays on the CPU may need no torch

        if not torch.cuda.is_available():
            raise ConfigError("device = 'cuda': torch sees no GPU on this machine; use cpu")
    named = data not in ("auto", "none")
    folder = Path(data) if named else catalog.root()
    if named and not folder.is_dir():
        raise ConfigError(f"data = {data!r}: no such folder")
    present = folder.is_dir() and data != "none" and (named or profile != "committed")
    os.environ[catalog.VARIABLE] = str(folder.resolve()) if present else os.devnull
    return Settings(profile, seeds, device, folder if present else None)


def check(claim: str, value: float, wanted: float, tolerance: float) -> None:
    """Print a row of a chapter's check; raise AssertionError if `value` is further than `tolerance` from `wanted`.

    The value stands in the error alone: its last digits differ from machine to machine, and pages are compared.
    """
    good = abs(value - wanted) <= tolerance
    print(f"{'pass' if good else 'FAIL'}  {wanted:>9.5g} ± {tolerance:<6g} {claim}")
    if not good:
        raise AssertionError(f"{claim}: {value:.6g} is not {wanted:.6g} ± {tolerance:g}")


# Chapters and their pairs


@dataclass(frozen=True)
class Chapter:
    """One pair of files; `name` is its path below book/ without ending, such as foundations/data."""

    book: Path
    name: str

    @property
    def text(self) -> Path:
        return self.book / f"{self.name}.md"

    @property
    def notebook(self) -> Path:
        return self.book / f"{self.name}.ipynb"


def _is_chapter_text(path: Path) -> bool:
    """Return whether a Markdown file is the text of a chapter: its header names the notebook format."""
    return path.read_text("utf-8").startswith("---\n") and "\njupytext:" in path.read_text("utf-8").split("\n---", 1)[0]


def discover(book: Path) -> list[Chapter]:
    """Return every chapter below `book`, by name, also one of which half a pair is missing."""
    if not book.is_dir():
        raise ConfigError(f"{book}: no such folder; run from the root of the repository or name it with --book")
    files = [*book.rglob("*.ipynb")] + [p for p in book.rglob("*.md") if _is_chapter_text(p)]
    names = {p.relative_to(book).with_suffix("").as_posix() for p in files if ".ipynb_checkpoints" not in p.parts}
    return [Chapter(book, name) for name in sorted(names)]


def select(book: Path, names: Sequence[str], index: int | None) -> list[Chapter]:
    """Return the chapters of those names (all if none is named), or only the one numbered `index` of them."""
    every = {chapter.name: chapter for chapter in discover(book)}
    wanted = [name.removeprefix("book/").removesuffix(".ipynb").removesuffix(".md") for name in names] or list(every)
    for name in wanted:
        if name not in every:
            raise ConfigError(f"{name}: no such chapter; there are: {', '.join(every)}")
    if index is None:
        return [every[name] for name in wanted]
    if not 0 <= index < len(wanted):
        raise ConfigError(f"--index {index}: there are {len(wanted)} chapters, counted from 0")
    return [every[wanted[index]]]


def _cells(notebook: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what both halves of a pair must agree on: kind, source, tags and figure metadata of every cell."""
    return [
        (cell.cell_type, cell.source, {k: cell.metadata[k] for k in ("tags", "mystnb") if cell.metadata.get(k)})
        for cell in notebook.cells
    ]


def pair_problem(chapter: Chapter) -> str | None:
    """Return what is wrong with a pair in one line, or None. Time stamps play no part: a clone makes them arbitrary."""
    import jupytext
    import nbformat

    for path, other in ((chapter.text, chapter.notebook), (chapter.notebook, chapter.text)):
        if not path.is_file():
            return f"{other} has no partner {path.name}"
    text, notebook = jupytext.read(chapter.text), nbformat.read(chapter.notebook, as_version=4)
    for path, half in ((chapter.text, text), (chapter.notebook, notebook)):
        spec = half.metadata.get("kernelspec", {})
        if (spec.get("name"), spec.get("language")) != ("python3", "python"):
            return f"{path}: kernelspec must have name: python3 and language: python"
    if len(text.cells) != len(notebook.cells):
        return f"{chapter.notebook} has {len(notebook.cells)} cells, its text {len(text.cells)}; run `make refresh`"
    for number, (a, b) in enumerate(zip(_cells(text), _cells(notebook), strict=True), 1):
        if a != b:
            return f"{chapter.notebook}: cell {number} differs from the text; run `make refresh`"
    return None


# Executing


def _machine() -> str:
    """Return the kind of this machine, without its name."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    kind = f"{os.cpu_count()} x {model}, {platform.system()}"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
        kind += "".join(f", {n} x {name}" for name, n in Counter(gpus).items())
    return kind


def _made(profile: str, seconds: float) -> dict[str, Any]:
    """Return how a notebook was made, for its metadata."""
    return {
        "profile": profile,
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in SHOWN_VERSIONS},
    }


def _tidy(notebook: Any) -> None:
    """Drop what changes from one execution to the next though nothing in the chapter did: times, paths, empty tags."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.metadata.pop("papermill", None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]


def _write(notebook: Any, path: Path) -> None:
    import nbformat

    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.ipynb")
    nbformat.write(notebook, partial)
    partial.replace(path)


def refresh(chapter: Chapter) -> str:
    """Execute the text form with the parameters it names and replace the notebook; return a line to print."""
    import jupytext
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    if not chapter.text.is_file():
        raise ConfigError(f"{chapter.notebook} has no partner {chapter.text.name}: the text is what `refresh` executes")
    notebook = jupytext.read(chapter.text)
    notebook.metadata.pop("jupytext", None)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:  # an id follows from the source, so that only changed cells show in a diff
        name = sha256(cell.source.encode()).hexdigest()[:12]
        cell.id = f"{name}-{seen[name]}" if seen[name] else name
        seen[name] += 1
    start = time.perf_counter()
    resources = {"metadata": {"path": str(chapter.notebook.parent)}}
    try:
        NotebookClient(notebook, timeout=1800, resources=resources, record_timing=False).execute()
    except CellExecutionError as error:
        raise ConfigError(f"{chapter.text}: a cell failed and the notebook was left as it was\n{error}") from error
    seconds = time.perf_counter() - start
    _tidy(notebook)
    notebook.metadata["affectcore"] = _made("committed", seconds)
    _write(notebook, chapter.notebook)
    return f"{chapter.name}: refreshed in {seconds:.1f} s"


def _check_parameters(chapter: Chapter, parameters: dict[str, Any]) -> None:
    """Raise ConfigError for a parameter that the chapter lacks (papermill would only warn) or of a wrong type."""
    from papermill import inspect_notebook

    known = inspect_notebook(str(chapter.notebook))
    for name, value in parameters.items():
        if name not in known:
            raise ConfigError(f"{chapter.name} has no parameter {name!r}; it has: {', '.join(known) or 'none'}")
        kind = known[name]["inferred_type_name"]
        if kind not in ("None", type(value).__name__):
            raise ConfigError(f"{chapter.name}: {name} = {value!r} is of type {type(value).__name__}; must be {kind}")


def _fingerprint(chapter: Chapter, parameters: dict[str, Any]) -> str:
    """Return a hash of all that decides a run: the chapter's text, the library, the parameters and the data files."""
    digest = sha256(repr(sorted(parameters.items())).encode())
    for path in [chapter.text, *sorted(Path(__file__).parent.rglob("*.py"))]:
        digest.update(path.read_bytes())
    named = str(parameters.get("data", "auto"))
    folder = catalog.root() if named == "auto" else Path(named)
    files = sorted((p.relative_to(folder).as_posix(), p.stat().st_size) for p in folder.rglob("*") if p.is_file())
    digest.update(repr(files).encode())  # names and sizes: which sets are there, not what is in them
    return digest.hexdigest()[:16]


def run(chapter: Chapter, out: Path, parameters: dict[str, Any]) -> str:
    """Execute a chapter by papermill into `out`, with `parameters` over its own; return a line to print.

    A run whose chapter, library and parameters have not changed since is not repeated. Raises ConfigError for unknown
    parameters and AffectError when a cell fails; the notebook with the error then lies beside, as NAME.failed.ipynb.
    """
    import nbformat
    import yaml

    problem = pair_problem(chapter)
    if problem:
        raise ConfigError(problem)
    _check_parameters(chapter, parameters)
    target = out / f"{chapter.name}.ipynb"
    fingerprint = _fingerprint(chapter, parameters)
    if (
        target.is_file()
        and nbformat.read(target, as_version=4).metadata.get("affectcore", {}).get("run") == fingerprint
    ):
        return f"{chapter.name}: unchanged"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial.ipynb")
    command = [sys.executable, "-m", "papermill", str(chapter.notebook), str(partial)]
    command += ["--cwd", str(chapter.notebook.parent), "--no-progress-bar", "--log-level", "ERROR"]
    if parameters:
        command += ["--parameters_yaml", yaml.safe_dump(parameters)]
    start = time.perf_counter()
    profile = str(parameters.get("profile", "committed"))
    environment = {"OMP_NUM_THREADS": "1", **os.environ, catalog.VARIABLE: str(catalog.root().resolve())}
    if profile != "committed":
        environment["AFFECTCORE_RESULTS"] = os.devnull  # a rerun that read the committed results would prove nothing
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        failed = target.with_name(f"{target.stem}.failed.ipynb")
        if partial.is_file():
            partial.replace(failed)
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise AffectError(f"{chapter.name}: failed after {seconds:.1f} s: {last[0]} (see {failed})")
    notebook = nbformat.read(partial, as_version=4)
    _tidy(notebook)
    notebook.metadata["affectcore"] = _made(profile, seconds) | {"run": fingerprint}
    nbformat.write(notebook, partial)
    partial.replace(target)
    return f"{chapter.name}: {profile} in {seconds:.1f} s"


def stage(book: Path, runs: Path, to: Path) -> str:
    """Copy the book to `to` with the notebooks of `runs` in place of the committed ones; return a line to print.

    Raises ConfigError if a chapter has not been run: a site half from one place and half from another would mislead.
    """
    chapters = discover(book)
    missing = [chapter.name for chapter in chapters if not (runs / f"{chapter.name}.ipynb").is_file()]
    if missing:
        raise ConfigError(f"{runs} lacks {', '.join(missing)}; run `make chapters` first")
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(book, to / "book", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name in ("_config.yml", "_toc.yml", "index.md"):
        shutil.copy(book.parent / name, to / name)
    if (book.parent / "affectcore").is_dir():  # the API reference is read from its source
        shutil.copytree(book.parent / "affectcore", to / "affectcore", ignore=shutil.ignore_patterns("__pycache__"))
    for chapter in chapters:
        shutil.copy(runs / f"{chapter.name}.ipynb", to / "book" / f"{chapter.name}.ipynb")
    return f"{to}: the book with {len(chapters)} chapters from {runs}"


# Command line

app = typer.Typer(help="Run, refresh and check the chapters of the book.", no_args_is_help=True, add_completion=False)
Names = Annotated[list[str] | None, typer.Argument(help="Chapters such as foundations/data; all if none is named.")]
Book = Annotated[Path, typer.Option(help="Folder of the chapters.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Chapters at a time, one process each.")]
Index = Annotated[int | None, typer.Option(help="Only the chapter of this number, from 0: for job arrays.")]


def _all(work: Callable[[Chapter], str], chapters: list[Chapter], jobs: int) -> None:
    """Do `work` on every chapter, print a line as each ends, and go on past a failure; exit with 1 if any failed."""

    def line(chapter: Chapter) -> bool:
        try:
            typer.echo(work(chapter))
        except AffectError as error:
            typer.echo(f"error: {error}", err=True)
            return False
        return True

    with ThreadPoolExecutor(jobs) as pool:
        if not all(list(pool.map(line, chapters))):
            raise typer.Exit(1)


@app.command("list")
def list_command(book: Book = Path("book")) -> None:
    """List the chapters with their numbers."""
    for number, chapter in enumerate(discover(book)):
        typer.echo(f"{number:3d}  {chapter.name}")


@app.command("run")
def run_command(
    names: Names = None,
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = "smoke",
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, a YAML value.")] = None,
    jobs: Jobs = 1,
    index: Index = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the executed notebooks [default: runs/PROFILE].")] = None,
    book: Book = Path("book"),
) -> None:
    """Execute chapters by papermill into runs/PROFILE; what has not changed since is not repeated."""
    import yaml

    if profile not in PROFILES:
        raise ConfigError(f"--profile {profile}: must be one of {', '.join(PROFILES)}")
    parameters: dict[str, Any] = {"profile": profile}
    for entry in parameter or []:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"-p {entry}: must have the form NAME=VALUE")
        parameters[name] = yaml.safe_load(value)
    folder = out or Path("runs") / profile
    _all(lambda chapter: run(chapter, folder, parameters), select(book, names or [], index), jobs)


@app.command("refresh")
def refresh_command(names: Names = None, jobs: Jobs = 1, book: Book = Path("book")) -> None:
    """Execute the text form of chapters and update their committed notebooks."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _all(refresh, select(book, names or [], None), jobs)


@app.command("pairs")
def pairs_command(book: Book = Path("book")) -> None:
    """Check that every chapter's text and notebook hold the same cells."""
    problems = [problem for chapter in discover(book) if (problem := pair_problem(chapter))]
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(discover(book))} pairs agree")


@app.command("stage")
def stage_command(to: Path, runs: Path = Path("runs/full"), book: Book = Path("book")) -> None:
    """Copy the book with the executed notebooks of RUNS in place, ready for a site build."""
    typer.echo(stage(book, runs, to))


def main() -> None:
    """Run the command line; an error of the input is one line on stderr and exit status 1."""
    try:
        app()
    except AffectError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
