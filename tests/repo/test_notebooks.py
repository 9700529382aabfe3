"""What every committed notebook keeps: the rules of book/appendix/template.md."""

import lzma
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml

from affectcore.chapters import discover

ROOT = Path(__file__).parents[2]
CHAPTERS = {chapter.name: chapter for chapter in discover(ROOT / "book")}
PARAMETERS = """\
profile: str = "committed"  # committed, smoke, standard or full
seeds: int = 0  # 0 means the number the profile sets
device: str = "cpu"  # cpu or cuda
data: str = "auto"  # auto, none or a folder with the real data"""
PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|root|work|tmp|Users|mnt|opt|usr|builds|private)/[\w.-]|[A-Z]:\\\\?Users|site-packages"
)
FORBIDDEN_TAGS = {"nbval-skip", "raises-exception", "remove-cell", "skip-execution"}

every_chapter = pytest.mark.parametrize("name", CHAPTERS)


@cache
def cells(name: str) -> list[Any]:
    return nbformat.read(CHAPTERS[name].notebook, as_version=4).cells


def code_cells(name: str) -> list[Any]:
    return [cell for cell in cells(name) if cell.cell_type == "code"]


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def test_there_are_chapters() -> None:
    assert "foundations/start_here" in CHAPTERS


@every_chapter
def test_the_notebook_is_valid_and_was_run_from_top_to_bottom(name: str) -> None:
    notebook = nbformat.read(CHAPTERS[name].notebook, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(name) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1)), "run `make refresh`"
    assert notebook.metadata.affectcore.profile == "committed"


@every_chapter
def test_the_parameters_are_the_same_four_everywhere(name: str) -> None:
    marked = [cell for cell in code_cells(name) if "parameters" in tags(cell)]
    assert len(marked) == 1
    assert marked[0] is code_cells(name)[0]
    assert marked[0].source.startswith(PARAMETERS)
    assert all(line.count("=") < 2 for line in marked[0].source.splitlines()), "papermill drops a line with two ="


@every_chapter
def test_outputs_are_compared(name: str) -> None:
    code = code_cells(name)
    ignored = [cell for cell in code if "nbval-ignore-output" in tags(cell) or "NBVAL_" in cell.source]
    assert len(ignored) <= 0.1 * len(code)
    for cell in code:
        assert not tags(cell) & FORBIDDEN_TAGS, cell.source


@every_chapter
def test_every_drawing_cell_has_caption_name_and_alternative_text(name: str) -> None:
    for cell in code_cells(name):
        drawn = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        if drawn:
            assert len(drawn) == 1, f"one figure a cell:\n{cell.source}"
            shown = cell.metadata.get("mystnb", {})
            assert len(shown.get("figure", {}).get("caption", "").split()) >= 4, cell.source
            assert shown.get("figure", {}).get("name", "").startswith("fig:"), cell.source
            assert len(shown.get("image", {}).get("alt", "").split()) >= 4, cell.source


@every_chapter
def test_outputs_hold_no_path_warning_or_error(name: str) -> None:
    for cell in code_cells(name):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"{cell.source}\n{output.text}"
            text = str(output.get("text", "")) + "".join(
                str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")
            )
            assert not PATH.search(text), text
            assert not re.search(r"\bat 0x[0-9a-f]{6,}|\b\w*Warning:", text), text


@every_chapter
def test_the_chapter_shows_how_to_run_it(name: str) -> None:
    text = CHAPTERS[name].text.read_text("utf-8")
    assert f"papermill book/{name}.ipynb" in text
    assert f"--cwd book/{Path(name).parent.as_posix()}" in text


@every_chapter
def test_the_chapter_ends_with_what_it_hands_out(name: str) -> None:
    """Mend: end the text with ```{hand-out} STUDY, or a file below results/, or nothing; see book/appendix/template."""
    text = CHAPTERS[name].text.read_text("utf-8")
    assert re.search(r"\n```\{hand-out\}[^\n]*\n```\n$", text)
    assert text.count("{hand-out}") == 1


@every_chapter
def test_chapters_hold_no_class_and_no_long_function(name: str) -> None:
    for cell in code_cells(name):
        assert not re.search(r"^class ", cell.source, re.M), cell.source
        for body in re.split(r"^(?=def )", cell.source, flags=re.M)[1:]:
            lines = re.split(r"\n(?=\S)", body)[0].count("\n") + 1
            assert lines <= 40, f"a function of {lines} lines belongs in the library:\n{body[:80]}"


def test_every_chapter_and_page_is_in_the_table_of_contents() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {entry["file"] for part in toc["parts"] for entry in part["chapters"]}
    listed |= {s["file"] for part in toc["parts"] for e in part["chapters"] for s in e.get("sections", [])}
    pages = {p.relative_to(ROOT).with_suffix("").as_posix() for p in (ROOT / "book").rglob("*.md")}
    pages |= {f"book/{name}" for name in CHAPTERS}
    assert listed == {page for page in pages if "/_" not in page}


# With the real data at hand: nothing of theirs is in what is tracked


def _real() -> Path | None:
    folder = os.environ.get("AFFECTCORE_DATA")
    return Path(folder) if folder and Path(folder, "cmu_mosi_utt").is_dir() else None


@pytest.fixture(scope="module")
def shown_text() -> dict[str, str]:
    """Every tracked text that could show data: the book, the results and the landing pages."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    found = {}
    for name in filter(None, listed):
        if name.startswith(("book/", "results/")) or name.endswith(".md"):
            path = ROOT / name
            raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
            found[name] = raw.decode("utf-8", "ignore")
    return found


@pytest.mark.skipif(_real() is None, reason="real data not present")
def test_no_id_of_the_real_sets_is_shown(shown_text: dict[str, str]) -> None:
    data = _real()
    assert data is not None
    ids: set[str] = set()
    for path, columns in {
        "cmu_mosi_utt/utterances.csv": ["utt_id", "video_id"],
        "cmu_mosei_labels/segments.csv.gz": ["video_id"],
        "label_tables/iemocap_labels.csv": ["utt_id"],
    }.items():
        table = pd.read_csv(data / path, dtype=str)
        ids |= {value for column in columns if column in table for value in table[column].dropna()}
    ids = {value for value in ids if len(value) >= 8}
    assert len(ids) > 5000
    for name, text in shown_text.items():
        words = set(re.findall(r"[\w-]{8,}", text))
        assert not words & ids, (name, sorted(words & ids)[:3])


@pytest.mark.skipif(_real() is None, reason="real data not present")
def test_no_sentence_of_a_transcript_is_shown(shown_text: dict[str, str]) -> None:
    data = _real()
    assert data is not None
    sentences: set[str] = set()
    for path in ("cmu_mosi_utt/utterances.csv", "cmu_mosei_labels/segments.csv.gz", "meld_text/utterances.csv.gz"):
        table = pd.read_csv(data / path, dtype=str)
        for column in {"text", "utterance", "transcript"} & set(table.columns):
            sentences |= {re.sub(r"\W+", " ", value).strip().lower() for value in table[column].dropna()}
    sentences = {value for value in sentences if value.count(" ") >= 4}
    assert len(sentences) > 5000
    whole = {name: re.sub(r"\W+", " ", text).lower() for name, text in shown_text.items()}
    for name, text in whole.items():
        words = text.split(" ")
        starts = {" ".join(words[i : i + 5]) for i in range(len(words))}
        hits = [value for value in sentences if " ".join(value.split(" ")[:5]) in starts and value in text]
        assert not hits, (name, len(hits))
