"""The command line. Every command imports what it needs when it runs, so that `affectcore --help` answers at once."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from affectcore.errors import AffectError, ConfigError

app = typer.Typer(
    name="affectcore",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Robust multimodal emotion recognition: models, worlds, data, studies and claims.",
)
data = typer.Typer(no_args_is_help=True, help="Data sets: what there is, fetching, checking.")
results = typer.Typer(no_args_is_help=True, help="Committed results: export finished runs, recompute a sample.")
app.add_typer(data, name="data")
app.add_typer(results, name="results")


class Format(StrEnum):
    text = "text"
    json = "json"


UsageError: Any = typer.BadParameter.__base__  # click's, which newer versions of Typer carry inside
AsFormat = Annotated[Format, typer.Option("--format", help="text for people, json for programs")]
Profile = Annotated[str, typer.Option(help="smoke, standard or full")]
Row = Mapping[str, Any]


def main() -> None:
    """Run the command line; an error of the input is one line on stderr, exit status 1, or 2 for a wrong call."""
    try:
        status = app(standalone_mode=False)
    except AffectError as error:
        typer.echo(f"affectcore: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except UsageError as error:
        message = error.format_message()
        if not message.strip():  # no command given: Typer has printed the help
            sys.exit(2)
        typer.echo(f"affectcore: {' '.join(message.split())} (see --help)", err=True)
        sys.exit(2)
    if status == 130:
        typer.echo("affectcore: interrupted; finished runs are kept, the same command goes on", err=True)
    sys.exit(status)


def show(rows: Sequence[Row], form: Format, columns: Sequence[str] | None = None) -> None:
    """Print rows as JSON (every field) or as a table (`columns`, default all)."""
    if form is Format.json:
        typer.echo(json.dumps(list(rows), indent=1, ensure_ascii=False))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo("none")
        return
    names = list(columns or rows[0])
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    console = Console()
    if not console.is_terminal:  # in a file or pipe nothing is cut to a terminal's width
        console = Console(width=200)
    console.print(table, markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(v) for v in value)
    return str(value)


# --- what there is -------------------------------------------------------------------------------------------------


@app.command()
def models(form: AsFormat = Format.text) -> None:
    """List the models: parameters at the shape of data that each was published on, presets, switches."""
    from affectcore.models.registry import MODELS, parameters

    rows = []
    for e in MODELS.values():
        count = {preset: parameters(e.name, preset) for preset in e.presets}
        row = {"name": e.name, "kind": e.kind, "parameters": count["clean"], "parameters_of_presets": count}
        row |= {"shape": e.shape, "presets": list(e.presets), "switches": list(e.switches)}
        rows.append(row | {"summary": e.summary, "citation": e.citation})
    show(rows, form, ["name", "kind", "parameters", "presets", "summary"])


@app.command()
def worlds(form: AsFormat = Format.text) -> None:
    """List the synthetic worlds, their tasks and difficulties."""
    from affectcore.data.worlds import WORLDS

    rows = [
        {"name": e.name, "task": e.task, "difficulties": list(e.difficulties), "for": e.section, "summary": e.summary}
        for e in WORLDS.values()
    ]
    show(rows, form)


@app.command()
def studies(form: AsFormat = Format.text) -> None:
    """List the studies, their profiles and sizes."""
    from affectcore.studies.runner import find_study, study_names

    rows: list[dict[str, Any]] = []
    for name in study_names():
        study = find_study(name)
        runs = {p: len(study.specs(p)) for p in study.profiles}
        row = {"name": name, "arms": len(study.arms), "data": [d.name for d in study.data]}
        rows.append(row | {"runs": runs, "question": study.question})
    if form is Format.text:
        rows = [row | {"runs": [f"{p} {n}" for p, n in row["runs"].items()]} for row in rows]
    show(rows, form)


@app.command()
def cite(name: Annotated[str, typer.Argument(help="a model's name; see `affectcore models`")]) -> None:
    """Print the BibTeX of a model's sources."""
    from affectcore.models.registry import cite as citation

    typer.echo(citation(name) or f"{name}: a standard method, nothing to cite")


# --- data ----------------------------------------------------------------------------------------------------------


@data.command("list")
def data_list(form: AsFormat = Format.text) -> None:
    """List the data sets: what each holds, its terms, whether it is here."""
    from affectcore.data.catalog import CATALOG

    rows = [
        {
            "name": e.name, "here": e.present, "n": e.n, "level": e.level, "modalities": list(e.modalities),
            "labels": e.labels, "description": e.description, "licence": e.licence, "source": e.source,
            "traps": list(e.traps), "options": dict(e.options),
        }
        for e in CATALOG.values()
    ]  # fmt: skip
    show(rows, form, ["name", "here", "n", "level", "modalities", "labels"])
    if form is Format.text:
        typer.echo("Terms, sources, traps and options of each: affectcore data list --format json")


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a set with public sources; see `affectcore data list`")],
    folder: Annotated[Path | None, typer.Option(help="where to put it (default: where `load` looks)")] = None,
    mirror: Annotated[str | None, typer.Option(help="read the pinned files from this address instead")] = None,
) -> None:
    """Download a set's public sources and rebuild it. An interrupted download goes on where it stopped."""
    from affectcore.data import fetch as fetching

    typer.echo(fetching.fetch(name, folder, mirror or fetching.HOST))


@data.command()
def check(
    path: Annotated[Path, typer.Argument(help="file or folder of any format that can be read")],
    form: AsFormat = Format.text,
) -> None:
    """Say what is wrong with a data file or folder, and how to mend it."""
    from dataclasses import asdict

    from affectcore.data.readers import check as run

    problems = run(path)
    if form is Format.json:
        show([asdict(p) for p in problems], form)
    else:
        for problem in problems:
            typer.echo(str(problem))
        found = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}" if problems else "nothing wrong"
        typer.echo(f"{path}: {found}")
    if problems:
        raise typer.Exit(1)


# --- studies -------------------------------------------------------------------------------------------------------


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="see `affectcore studies`")],
    profile: Profile = "standard",
    seeds: Annotated[int | None, typer.Option(min=1, help="seeds an arm (default: the profile's)")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    jobs: Annotated[int, typer.Option(min=1, help="processes on this machine")] = 1,
    cluster: Annotated[str | None, typer.Option(help="address of a Dask scheduler")] = None,
    store: Annotated[Path | None, typer.Option(help="folder of the runs (default: the user's cache)")] = None,
    data: Annotated[
        str | None, typer.Option(help="run on a set of your own instead: LABEL=PATH, such as mosei=folder")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="print runs x seconds and stop")] = False,
    force: Annotated[bool, typer.Option("--force", help="run although the plan is over the budget")] = False,
) -> None:
    """Run what is missing of a study. Killed at any moment, the same command goes on."""
    from affectcore.errors import ConfigError
    from affectcore.studies import runner
    from affectcore.studies.own_data import on_own_data
    from affectcore.studies.store import Store

    place, chosen = Store(store), runner.find_study(study)
    if data is not None:
        label, equals, path = data.partition("=")
        if not equals:
            raise ConfigError(f"--data {data!r} must read LABEL=PATH, such as mosei=folder")
        chosen = on_own_data(chosen, label, path)
    if plan:
        typer.echo(runner.plan(chosen, profile, seeds, store=place))
        return
    report = runner.run_study(
        chosen, profile, seeds, device=device, jobs=jobs, cluster=cluster, store=place, force=force
    )  # fmt: skip
    typer.echo(report)
    raise typer.Exit(report.exit_code)


@app.command()
def arena(
    model: Annotated[str, typer.Argument(help="a registered model that is not in the arena yet")],
    seeds: Annotated[int | None, typer.Option(min=1, help="the first so many seeds (default: all)")] = None,
    profile: Annotated[str, typer.Option(help="committed, or the profile of runs in the store")] = "committed",
    jobs: Annotated[int, typer.Option(min=1, help="processes on this machine")] = 1,
    store: Annotated[Path | None, typer.Option(help="folder of the runs (default: the user's cache)")] = None,
    form: AsFormat = Format.text,
) -> None:
    """Train one model of your own by the arena's protocol and rank it among the others, which are not run again.

    Prints the standings, best first: mean rank over blocks (data set x stressor; 1 is best) with its 95 % interval over
    seeds, the mean rank under each stressor, parameters, and training samples per CPU second.
    """
    from affectcore.figures.arena import board, costs, standings
    from affectcore.studies.arena.own import enter
    from affectcore.studies.store import Store

    table, records = enter(model, seeds, profile=profile, jobs=jobs, store=Store(store))
    found = board(table)
    rows = standings(found, found.rank(), costs(records)).round(2).reset_index()
    show(json.loads(rows.to_json(orient="records")), form)
    if form == Format.text:
        place = list(rows["model"]).index(model) + 1
        seen = f"{len(found.blocks)} blocks, seeds: {len(found.losses)}"
        typer.echo(f"{model}: place {place} of {len(rows)} by mean rank over {seen}; 1 is best, low and high are 95 %")


@results.command()
def export(
    study: Annotated[str, typer.Argument(help="see `affectcore studies`")],
    profile: Profile = "standard",
    store: Annotated[Path | None, typer.Option(help="folder of the runs (default: the user's cache)")] = None,
) -> None:
    """Pack the finished runs of a study into the results folder."""
    from affectcore.studies import resampling
    from affectcore.studies.results import export as pack
    from affectcore.studies.runner import find_study
    from affectcore.studies.store import Store

    found, place = find_study(study), Store(store)
    for file in (*pack(found, profile, place), *resampling.export(found, profile, place)):
        typer.echo(file)


@results.command()
def verify(
    study: Annotated[str | None, typer.Argument(help="see `affectcore studies` (default: all of them)")] = None,
    sample: Annotated[int, typer.Option(min=1, help="records to recompute, a study")] = 3,
    cheap: Annotated[bool, typer.Option("--cheap", help="draw among the cheapest quarter")] = False,
    arms: Annotated[bool, typer.Option("--arms", help="the cheapest record of every arm instead of a sample")] = False,
    declare: Annotated[bool, typer.Option("--declare", help="mark stale records whose sample is equal")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
) -> None:
    """Recompute a sample of committed records from nothing and compare; list the stale ones."""
    from affectcore.studies import results as committed
    from affectcore.studies.runner import find_study, study_names

    bad = 0
    for name in [study] if study else study_names():
        found = find_study(name)
        for checked in committed.verify(found, sample, cheap=cheap, arms=arms, declare=declare, device=device):
            typer.echo(checked)
            bad += not checked.ok
        for old in committed.stale(found):
            typer.echo(old)
            bad += 1
    raise typer.Exit(min(bad, 1))


@app.command()
def claims(
    paper: Annotated[str | None, typer.Option(help="one study's claims (default: all)")] = None,
    profile: Annotated[str, typer.Option(help="committed, or a profile in the store")] = "committed",
    form: AsFormat = Format.text,
) -> None:
    """Print the ledger: every claim with its computed verdict. As JSON it is the claims.json of the book's site."""
    from affectcore.figures.ledger import findings
    from affectcore.studies.claims import Results
    from affectcore.studies.runner import find_study, study_names

    if paper is not None and paper not in study_names():
        raise ConfigError(f"paper {paper!r} is unknown: there are {', '.join(study_names())}")
    names = [paper] if paper else study_names()
    rows = [f.to_json() for name in names for f in findings(Results(find_study(name), profile))]
    show(rows, form, ["paper", "id", "status", "scope", "estimate", "interval", "p", "seeds", "mde", "margin"])


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="benchmarks (default: all, some minutes)")] = None,
    form: AsFormat = Format.text,
) -> None:
    """Measure training throughput against the naive form in one run, on one thread."""
    from dataclasses import asdict

    from affectcore.training.bench import run_benchmarks

    show([asdict(b) for b in run_benchmarks(names or None)], form)


# --- the door for strangers, and help ------------------------------------------------------------------------------


class TaskKind(StrEnum):
    auto = "auto"
    regression = "regression"
    single_label = "single_label"
    multi_label = "multi_label"


@app.command()
def audit(
    predictions: Annotated[Path, typer.Argument(help=".csv or .parquet: id, target, prediction or scores, ...")],
    task: Annotated[TaskKind, typer.Option(help="what is predicted; auto reads it off the columns")] = TaskKind.auto,
    html: Annotated[Path | None, typer.Option(help="write the report as one web page, too")] = None,
    form: AsFormat = Format.text,
    low: Annotated[float | None, typer.Option(help="least target of a regression's scale")] = None,
    high: Annotated[float | None, typer.Option(help="largest target of a regression's scale")] = None,
    batch_size: Annotated[int, typer.Option(help="of the batch-averaged recall")] = 64,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 2_000,
) -> None:
    """Report on anyone's predictions: floors, conventions, traps, intervals, tests, calibration, resolution.

    One row per model, seed and item. Columns: id; target and prediction (numbers or classes) or score_<class>; for
    label sets target_<label> and prediction_<label> or score_<label>; optionally group, seed, model.
    """
    from affectcore.audit import html as page
    from affectcore.audit import text
    from affectcore.audit.read import read
    from affectcore.audit.report import audit as compute

    submission = read(predictions, task.value, low=low, high=high)
    report = compute(submission, draws=draws, batch_size=batch_size, low=low, high=high)
    if html is not None:
        page.write(report, html)
    if form is Format.json:
        typer.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        text.show(report)
        if html is not None:
            typer.echo(f"\nThe page: {html}")


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="of the world and the models")] = 0,
    out: Annotated[Path, typer.Option(help="where the picture goes")] = Path("runs/demo"),
) -> None:
    """Train and compare three models on a world, and on real data if there are any (about a minute)."""
    from affectcore.demo import run as demonstrate

    demonstrate(seed, out)


@app.command()
def doctor(form: AsFormat = Format.text) -> None:
    """Say what this installation has and lacks: versions, devices, data, folders."""
    from affectcore.doctor import examine

    rows = examine()
    show(rows, form)
    raise typer.Exit(int(any(r["state"] == "wrong" for r in rows)))


if __name__ == "__main__":
    main()
