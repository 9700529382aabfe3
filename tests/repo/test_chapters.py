"""The chapter driver: settings, pairs, runs by papermill, refresh and staging, on a book of one chapter made here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import pytest
from typer.testing import CliRunner

from affectcore import chapters
from affectcore.chapters import Chapter, ConfigError
from affectcore.data import catalog
from affectcore.errors import AffectError

TEXT = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

```{code-cell} ipython3
:tags: [parameters]

profile: str = "committed"  # committed, smoke, standard or full
seeds: int = 0  # 0 means the number the profile sets
fast: bool = True
```

```{code-cell} ipython3
import os

print(profile, seeds, fast, os.path.isdir(os.environ.get("AFFECTCORE_RESULTS", ".")))
assert seeds < 5
```
"""


@pytest.fixture
def chapter(tmp_path: Path) -> Chapter:
    """A pair that agrees, with no outputs yet."""
    book = tmp_path / "book"
    (book / "room").mkdir(parents=True)
    (book / "room" / "one.md").write_text(TEXT)
    (book / "page.md").write_text("# Text only\n\nNo notebook belongs to it.\n")
    notebook = jupytext.reads(TEXT, fmt="md:myst")
    del notebook.metadata["jupytext"]
    nbformat.write(notebook, book / "room" / "one.ipynb")
    return Chapter(book, "room/one")


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(catalog.VARIABLE, str(tmp_path / "absent"))


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells if cell.cell_type == "code" for output in cell.outputs)


# Settings


def test_settings_take_the_defaults_of_a_page() -> None:
    assert chapters.settings("committed", 0, "cpu", "auto") == chapters.Settings("committed", 0, "cpu", None)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("comitted", 0, "cpu", "auto"), "committed, smoke, standard, full"),
        (("smoke", "3", "cpu", "auto"), "seeds = '3': must be of type int"),
        (("smoke", True, "cpu", "auto"), "seeds = True: must be of type int"),
        (("smoke", -1, "cpu", "auto"), "seeds = -1"),
        (("smoke", 0, "tpu", "auto"), "device = 'tpu'"),
        (("smoke", 0, "cpu", "/no/such/folder"), "no such folder"),
    ],
)
def test_settings_refuse_with_one_line_that_names_the_value(values: tuple[str, int, str, str], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        chapters.settings(*values)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_refuse_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees no GPU"):
        chapters.settings("smoke", 0, "cuda", "none")


def test_a_check_prints_what_is_wanted_and_stops_at_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    chapters.check("a half", 0.5004, 0.5, 1e-3)
    assert capsys.readouterr().out.split() == ["pass", "0.5", "±", "0.001", "a", "half"]
    for value in (0.502, float("nan")):
        with pytest.raises(AssertionError, match=f"a half: {value:g} is not 0.5 ± 0.001"):
            chapters.check("a half", value, 0.5, 1e-3)
        assert capsys.readouterr().out.split()[0] == "FAIL"


def test_a_committed_page_never_sees_the_machines_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise nbval would say one thing with real data and another without."""
    monkeypatch.setenv(catalog.VARIABLE, str(tmp_path))
    assert chapters.settings("smoke", 0, "cpu", "auto").data == tmp_path
    assert catalog.root() == tmp_path
    assert chapters.settings("smoke", 0, "cpu", "none").data is None
    monkeypatch.setenv(catalog.VARIABLE, str(tmp_path))
    assert chapters.settings("committed", 0, "cpu", "auto").data is None
    assert not catalog.root().is_dir()
    assert chapters.settings("committed", 0, "cpu", str(tmp_path)).data == tmp_path
    assert catalog.root() == tmp_path


# Pairs


def test_pages_without_a_notebook_are_no_chapters(chapter: Chapter) -> None:
    assert chapters.discover(chapter.book) == [chapter]
    assert chapters.pair_problem(chapter) is None


@pytest.mark.parametrize("half", ["text", "notebook"])
def test_a_missing_half_is_named(chapter: Chapter, half: str) -> None:
    getattr(chapter, half).unlink()
    assert "has no partner" in (chapters.pair_problem(chapter) or "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A chapter", "Another"),
        (":tags: [parameters]\n", ""),
        ("print(profile", "print(1, profile"),
        ("  language: python\n", ""),
        ("# A chapter\n", "# A chapter\n\n+++\n\nMore\n"),
    ],
    ids=["prose", "tag", "code", "language", "cell"],
)
def test_an_edit_of_the_text_alone_is_seen_whatever_the_file_times(chapter: Chapter, old: str, new: str) -> None:
    chapter.text.write_text(TEXT.replace(old, new))
    os.utime(chapter.text, (0, 0))
    assert chapters.pair_problem(chapter) is not None


def test_selecting(chapter: Chapter) -> None:
    assert chapters.select(chapter.book, ["book/room/one.md"], None) == [chapter]
    assert chapters.select(chapter.book, [], 0) == [chapter]
    with pytest.raises(ConfigError, match="there are 1 chapters"):
        chapters.select(chapter.book, [], 1)
    with pytest.raises(ConfigError, match=r"room/two.*room/one"):
        chapters.select(chapter.book, ["room/two"], None)


# Running


def test_a_run_takes_parameters_stays_out_of_the_book_and_is_not_repeated(chapter: Chapter, tmp_path: Path) -> None:
    before, out = chapter.notebook.read_bytes(), tmp_path / "runs"
    line = chapters.run(chapter, out, {"profile": "smoke", "fast": False, "seeds": 3})
    target = out / "room" / "one.ipynb"
    assert line.startswith("room/one: smoke in ")
    assert outputs(target) == "smoke 3 False False\n"  # the last: committed results are out of reach
    assert chapter.notebook.read_bytes() == before
    assert [p.name for p in target.parent.iterdir()] == ["one.ipynb"]
    made = nbformat.read(target, as_version=4).metadata
    assert made.affectcore.profile == "smoke"
    assert "papermill" not in made
    assert str(tmp_path) not in target.read_text()

    stamp = target.stat().st_mtime_ns
    assert chapters.run(chapter, out, {"profile": "smoke", "fast": False, "seeds": 3}) == "room/one: unchanged"
    assert target.stat().st_mtime_ns == stamp


def test_a_failing_chapter_leaves_no_result_and_the_error_beside(chapter: Chapter, tmp_path: Path) -> None:
    with pytest.raises(AffectError, match=r"room/one: failed after .*one\.failed\.ipynb"):
        chapters.run(chapter, tmp_path / "runs", {"seeds": 7})
    assert [p.name for p in (tmp_path / "runs" / "room").iterdir()] == ["one.failed.ipynb"]


def test_a_run_is_repeated_when_what_decides_it_changes(
    chapter: Chapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv(catalog.VARIABLE, str(data))
    seen = {chapters._fingerprint(chapter, {"seeds": 2})}
    seen.add(chapters._fingerprint(chapter, {"seeds": 3}))
    data.mkdir()
    (data / "features.npz").write_bytes(b"123")
    seen.add(chapters._fingerprint(chapter, {"seeds": 2}))
    chapter.text.write_text(TEXT + "\nMore.\n")
    seen.add(chapters._fingerprint(chapter, {"seeds": 2}))
    assert len(seen) == 4


def test_a_killed_run_leaves_nothing_that_could_be_taken_for_a_result(chapter: Chapter, tmp_path: Path) -> None:
    for path in (chapter.text, chapter.notebook):
        path.write_text(path.read_text().replace("assert seeds < 5", "import time; time.sleep(60 * (seeds == 1))"))
    command = [sys.executable, "-m", "affectcore.chapters", "run", "--book", str(chapter.book)]
    out = tmp_path / "runs"
    process = subprocess.Popen([*command, "--out", str(out), "-p", "seeds=1"], start_new_session=True)
    while not list(out.rglob("*.partial.ipynb")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "room" / "one.ipynb").exists()
    chapters.run(chapter, out, {"seeds": 2})
    assert outputs(out / "room" / "one.ipynb").startswith("committed 2")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-p", "sead=1"], "no parameter 'sead'; it has: profile, seeds, fast"),
        (["-p", "fast=flase"], "fast = 'flase' is of type str; must be bool"),
        (["-p", "seeds"], "must have the form NAME=VALUE"),
        (["--profile", "big"], "must be one of committed, smoke, standard, full"),
        (["--index", "4"], "there are 1 chapters"),
        (["nix"], "no such chapter"),
    ],
)
def test_the_command_line_refuses_with_one_line(
    chapter: Chapter, tmp_path: Path, arguments: list[str], named: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "affectcore.chapters",
        "run",
        "--book",
        str(chapter.book),
        "--out",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


# Refreshing and staging


def test_refresh_replaces_outputs_and_is_the_same_the_second_time(chapter: Chapter) -> None:
    chapter.text.write_text(TEXT.replace("# A chapter", "# A chapter, edited"))
    assert chapters.refresh(chapter).startswith("room/one: refreshed in ")
    assert chapters.pair_problem(chapter) is None
    assert outputs(chapter.notebook) == "committed 0 True True\n"
    first = nbformat.read(chapter.notebook, as_version=4)
    chapters.refresh(chapter)
    second = nbformat.read(chapter.notebook, as_version=4)
    assert first.cells == second.cells
    assert not any("execution" in cell.metadata for cell in second.cells)
    assert second.metadata.affectcore.versions["python"].startswith("3.")


def test_refresh_of_a_failing_text_leaves_the_notebook(chapter: Chapter) -> None:
    before = chapter.notebook.read_bytes()
    chapter.text.write_text(TEXT.replace("print(profile", "print(no_such_name"))
    with pytest.raises(AffectError, match="no_such_name"):
        chapters.refresh(chapter)
    assert chapter.notebook.read_bytes() == before
    assert sorted(p.name for p in chapter.notebook.parent.iterdir()) == ["one.ipynb", "one.md"]


def test_staging_needs_every_chapter_and_takes_the_runs(chapter: Chapter, tmp_path: Path) -> None:
    for name in ("_config.yml", "_toc.yml", "index.md"):
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match="lacks room/one"):
        chapters.stage(chapter.book, tmp_path / "runs", tmp_path / "site")
    ran = tmp_path / "runs" / "room" / "one.ipynb"
    ran.parent.mkdir(parents=True)
    ran.write_text("{}")
    chapters.stage(chapter.book, tmp_path / "runs", tmp_path / "site")
    assert (tmp_path / "site" / "book" / "room" / "one.ipynb").read_text() == "{}"
    assert (tmp_path / "site" / "book" / "room" / "one.md").is_file()


def test_pairs_command_fails_on_a_broken_pair(chapter: Chapter) -> None:
    runner = CliRunner()
    assert runner.invoke(chapters.app, ["pairs", "--book", str(chapter.book)]).output == "1 pairs agree\n"
    chapter.notebook.unlink()
    assert runner.invoke(chapters.app, ["pairs", "--book", str(chapter.book)]).exit_code == 1


def test_no_torch_is_imported() -> None:
    code = "import sys, affectcore.chapters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_kernel_stays_silent_about_progress_bars() -> None:
    """Without ipywidgets, pooch's import of tqdm.auto warns in a kernel, with the environment's path."""
    code = "import warnings, affectcore.chapters; warnings.warn('IProgress not found. Please', stacklevel=1)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""
