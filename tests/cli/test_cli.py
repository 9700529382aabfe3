"""The command line as a user meets it: every command, the JSON it promises, and one line for every wrong input."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from affectcore import cli
from affectcore.studies import runner, store
from affectcore.studies.spec import Arm, DataSpec, Profile, Study

TOY = Study(
    "toy", "does it run?", (Arm("constant", "constant"),),
    (DataSpec("world", "world", "imbalance", options={"sizes": {"train": 60, "valid": 30, "test": 50}}),),
    profiles={"smoke": Profile({1: 2}), "standard": Profile({1: 2})},
)  # fmt: skip


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def affectcore(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run the entry point in this process, with a store and a results folder of its own and without real data."""
    monkeypatch.setenv("AFFECTCORE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["affectcore", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0 if code is None else 1, out, err)

    return run


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of one arm on one small world, instead of those in the package."""
    monkeypatch.setattr(runner, "study_names", lambda: ["toy"])
    monkeypatch.setattr(runner, "find_study", lambda name: {"toy": TOY}[name])


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    assert (outcome.status, outcome.err) == (0, "")
    return json.loads(outcome.out)


# --- light at the start --------------------------------------------------------------------------------------------

LIGHT = """
import sys
sys.argv = ["affectcore", *{arguments!r}]
try:
    from affectcore.cli import main
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = sorted({heavy!r} & set(sys.modules))
print("HEAVY", *heavy)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["data", "--help"], ["run", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = {"torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib"}
    script = LIGHT.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_the_package_imports_nothing_heavy() -> None:
    script = "import sys, affectcore; print({'torch', 'numpy', 'scipy', 'pandas'} & set(sys.modules) or 'light')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "light"


def test_an_audit_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,target,prediction\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(40)))
    script = LIGHT.format(arguments=["audit", str(path), "--draws", "100"], heavy={"torch", "sklearn"})
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "affectcore.cli", "--help"], capture_output=True, text=True, check=True
    )
    for command in [*LISTS, "run", "results", "bench", "cite", "audit"]:
        assert command.split()[0] in done.stdout


# --- what there is -------------------------------------------------------------------------------------------------

CLAIM = [
    "paper", "id", "status", "scope", "estimate", "interval", "p", "seeds", "mde", "margin", "reason",
    "statement", "source", "paper_value", "falsifier", "controls", "family",
    "address", "badge", "chapter", "code", "test", "records",
]  # fmt: skip
LISTS = {
    "models": {"name", "parameters", "presets", "switches", "citation"},
    "worlds": {"name", "task", "difficulties"},
    "studies": {"name", "arms", "data", "runs"},
    "data list": {"name", "here", "n", "level", "modalities", "licence", "source", "options"},
    "claims": set(CLAIM),
    "doctor": {"what", "state", "detail"},
}


@pytest.mark.parametrize("command", LISTS)
def test_lists_are_json_with_the_promised_fields_and_tables(affectcore: Cli, command: str) -> None:
    listed = rows(affectcore(*command.split(), "--format", "json"))
    assert listed
    for row in listed:
        assert LISTS[command] <= set(row)
    table = affectcore(*command.split())
    assert table.status == 0
    for row in listed:
        assert str(next(row[k] for k in ("name", "id", "what") if k in row)) in table.out


def test_claims_have_exactly_the_promised_fields_in_order(affectcore: Cli) -> None:
    for row in rows(affectcore("claims", "--format", "json")):
        assert list(row) == CLAIM


def test_bench_has_the_promised_fields(affectcore: Cli) -> None:
    (row,) = rows(affectcore("bench", "tfn", "--format", "json"))
    assert list(row) == [
        "name",
        "samples_per_s",
        "naive_samples_per_s",
        "ratio",
        "ratio_low",
        "ratio_high",
        "bound_samples_per_s",
        "reference_gemm_gflops",
        "threads",
    ]
    assert (row["name"], row["threads"]) == ("tfn", 1)
    assert min(row["samples_per_s"], row["naive_samples_per_s"], row["ratio"]) > 0


def test_cite(affectcore: Cli) -> None:
    for row in rows(affectcore("models", "--format", "json")):
        cited = affectcore("cite", row["name"])
        assert cited.status == 0
        assert cited.out.strip() == row["citation"].strip() or "nothing to cite" in cited.out
    assert affectcore("cite", "tfn").out.startswith("@")


# --- studies and results -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("toy")
def test_a_study_is_planned_run_exported_and_verified(affectcore: Cli, tmp_path: Path) -> None:
    plan = affectcore("run", "toy", "--profile", "smoke", "--plan")
    assert plan.status == 0
    assert "1 of    2 runs" in plan.out  # a constant has one seed
    ran = affectcore("run", "toy", "--profile", "smoke")
    assert ran.status == 0
    again = affectcore("run", "toy", "--profile", "smoke", "--plan")
    assert "0 of    2 runs" in again.out
    exported = affectcore("results", "export", "toy", "--profile", "smoke")
    assert exported.status == 0
    for line in exported.out.splitlines():
        assert (tmp_path / "results") in Path(line).parents
    verified = affectcore("results", "verify", "toy", "--sample", 1)
    assert verified.status == 0
    assert len(verified.out.splitlines()) == 1


@pytest.mark.usefixtures("toy")
def test_an_interrupted_run_says_so(affectcore: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_study", stop)
    done = affectcore("run", "toy", "--profile", "smoke")
    assert (done.status, done.out) == (130, "")
    assert done.err == "affectcore: interrupted; finished runs are kept, the same command goes on\n"


# --- data ----------------------------------------------------------------------------------------------------------


def test_data_check_says_what_is_wrong(affectcore: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"\x80\x04no pickle")
    told = affectcore("data", "check", broken)
    assert told.status == 1
    assert told.out.splitlines()[0].startswith(str(broken))
    problems = json.loads(affectcore("data", "check", broken, "--format", "json").out)
    assert len(problems) == len(told.out.splitlines()) - 1
    missing = affectcore("data", "check", tmp_path / "absent")
    assert missing.status == 1
    assert "missing" in missing.out


# --- audit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    path = tmp_path / "predictions.csv"
    lines = [f"{i},{m},{i % 3 - 1},{(i * k) % 7 / 3 - 1:.3f}" for m, k in (("A", 3), ("B", 5)) for i in range(60)]
    path.write_text("\n".join(["id,model,target,prediction", *lines]) + "\n")
    return path


def test_audit_prints_and_writes_the_page(affectcore: Cli, predictions: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = affectcore("audit", predictions, "--html", page, "--draws", 100)
    assert (done.status, done.err) == (0, "")
    for words in ("What was read", "Metrics", "Pairs of models", "What these data resolve", "other numbers", str(page)):
        assert words in done.out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_audit_as_json(affectcore: Cli, predictions: Path) -> None:
    done = affectcore("audit", predictions, "--format", "json", "--draws", 100, "--low", -3, "--high", 3)
    report = rows(done)
    assert {"task", "items", "models", "metrics", "traps", "calibration", "pairs", "resolution", "warnings"} <= set(
        report
    )
    assert {"metric", "model", "value", "interval", "floor"} <= set(report["metrics"][0])
    assert "acc7" in {m["metric"] for m in report["metrics"]}  # the scale is that of --low and --high


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["absent.csv"], "there is no such file"),
        (["{p}", "--task", "ranking"], "'ranking' is not one of"),
        (["{p}", "--task", "multi_label"], "target_<label> are missing"),
        (["{p}", "--draws", "3"], "--draws must be at least 100"),
        (["{p}", "--batch-size", "0", "--draws", "100"], "--batch-size must be at least 1"),
        (["{p}", "--low", "2", "--high", "1"], "--low must be below --high"),
        (["{p}", "--draws", "100", "--html", "absent/report.html"], "cannot be written"),
        (["{p}", "--nonsense"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_wrong_audits(affectcore: Cli, predictions: Path, arguments: list[str], part: str) -> None:
    one_line(affectcore("audit", *(a.replace("{p}", str(predictions)) for a in arguments)), part)


# --- wrong input ---------------------------------------------------------------------------------------------------


def one_line(done: Outcome, part: str) -> None:
    assert done.status != 0
    assert done.err.count("\n") == 1
    assert done.err.startswith("affectcore: ")
    assert part in done.err
    assert "Traceback" not in done.err + done.out


WRONG = {
    "nonsense": "No such command 'nonsense'",
    "data nonsense": "No such command 'nonsense'",
    "run": "Missing argument",
    "run nonsense": "study 'nonsense' is unknown",
    "run toy --profile nonsense": "profile 'nonsense' is unknown",
    "run toy --nonsense 3": "No such option: --nonsense",
    "run toy --seeds 0": "--seeds",
    "run toy --seeds many": "--seeds",
    "run toy --jobs 0": "--jobs",
    "run toy --profile smoke --device tpu": "device 'tpu' is unknown",
    "run toy --profile smoke --device cuda:99": "device 'cuda:99'",
    "run toy extra": "unexpected extra argument",
    "results export nonsense": "study 'nonsense' is unknown",
    "results export toy --profile smoke": "not in the store",
    "results verify nonsense": "study 'nonsense' is unknown",
    "results verify toy": "no complete profile is committed",
    "claims --paper nonsense": "paper 'nonsense' is unknown",
    "claims --paper toy --profile nonsense": "profile 'nonsense' is unknown",
    "cite nonsense": "model 'nonsense' is unknown",
    "bench nonsense": "benchmark 'nonsense' is unknown",
    "data fetch nonsense": "'nonsense'",
    "models --format xml": "'xml' is not one of",
}


def find(name: str) -> Study:
    if name == "toy":
        return TOY
    return FIND(name)


FIND = runner.find_study


@pytest.mark.parametrize("call", WRONG)
def test_wrong_input_is_told_in_one_line(affectcore: Cli, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(runner, "find_study", find)
    if call.startswith("claims"):
        call, part = call.replace("toy", runner.study_names()[0]), WRONG[call]  # the ledger reads the study's folder
    else:
        part = WRONG[call]
    one_line(affectcore(*call.split()), part)


@pytest.mark.usefixtures("toy")
def test_a_gpu_that_is_not_there(affectcore: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    one_line(affectcore("run", "toy", "--profile", "smoke", "--device", "cuda"), "no such GPU")


@pytest.mark.usefixtures("toy")
def test_a_cluster_that_does_not_answer(affectcore: Cli) -> None:
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}):
        done = affectcore("run", "toy", "--profile", "smoke", "--cluster", "127.0.0.1:9")
    one_line(done, "no Dask scheduler answers")


@pytest.mark.usefixtures("toy")
def test_a_store_that_cannot_be_written(affectcore: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one_line(affectcore("run", "toy", "--profile", "smoke", "--store", tmp_path / "file"), "cannot be made")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_refuses(affectcore: Cli, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store, "_flush", refuse)
    done = affectcore("run", "toy", "--profile", "smoke")
    assert done.status == 1
    told = done.err.splitlines()
    assert len(told) == 2  # one a run
    assert all(os.strerror(number) in line for line in told)
    assert done.out.splitlines()[-1] == "0 runs finished, 0 were there, 2 failed"


def test_no_command_shows_the_help(affectcore: Cli) -> None:
    for arguments in ([], ["data"], ["results"]):
        done = affectcore(*arguments)
        assert done.status == 2
        assert "Usage" in done.out + done.err
