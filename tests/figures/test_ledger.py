"""The ledger's cards, data and badges: every claim once, at its own address, with its numbers as computed."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from bs4.element import Tag
from typer.testing import CliRunner

from affectcore import cli
from affectcore.errors import ConfigError
from affectcore.figures.badge import COLOURS, NAMES, address, badge, title, verdicts
from affectcore.figures.effects import STATUSES
from affectcore.figures.executed import LEDGER, findings
from affectcore.figures.ledger import CHAPTERS, Finding, Ledger, cards
from affectcore.studies.claims import Claim, Row

ROOT = Path(__file__).parents[2]
C1 = Claim(
    "affect_diff", "C1", "a < b & <script>", "Table 2", ".384", "it is not", "main", ("world: w", "corpus: c"), test="t"
)
C2 = Claim("affect_diff", "C2", "not here", "Fig. 1", 3, "never", "main", ("corpus: c",), not_testable="no data")
WORLD = Row("affect_diff", "C1", "refuted", "world: w", -0.0123, (-0.02, -0.001), 4e-5, 10, 0.01, 0.03, "below margin")
CORPUS = Row("affect_diff", "C1", "unresolved", "corpus: c", 0.5, (-0.1, 0.6), float("nan"), 10, 0.2, 0.03)
NOT_HERE = Row("affect_diff", "C2", "not testable here", "corpus: c", reason="no data")
CODE, RECORDS = "affectcore/studies/x/evidence.py", "results/standard/x.jsonl.xz"
FOUND = [Finding(C1, WORLD, CODE, RECORDS), Finding(C1, CORPUS, CODE, RECORDS), Finding(C2, NOT_HERE, CODE, None)]


@pytest.fixture
def page() -> BeautifulSoup:
    return BeautifulSoup(cards(FOUND), "html.parser")


def card(page: BeautifulSoup, key: str) -> Tag:
    found = page.select_one(f"details#{key}")
    assert found is not None
    return found


def test_a_card_says_what_was_claimed_and_found(page: BeautifulSoup) -> None:
    assert [d["id"] for d in page.select("details.claim")] == ["affect-diff-c1", "affect-diff-c2"]
    first = card(page, "affect-diff-c1")
    assert not page.select("script")
    assert "a < b & <script>" in first.text
    assert (first["data-verdict"], first["data-on"]) == ("refuted|unresolved", "corpus world")
    assert [s.text for s in first.select("summary .verdict")] == ["refuted", "unresolved"]
    assert "on world: w" in first.text
    assert "estimate −.012; 95 % interval −.020 to −.001; p below .001" in first.text
    assert "The paper reports: .384 (Table 2)" in first.text
    root = [f"../../{p}" for p in (CODE, "book/affect_diff/verdicts.html", RECORDS)]
    assert [a["href"] for a in first.select("a")] == [*root, "#affect-diff-c1"]
    image = first.select_one("img.claim-badge")
    assert image is not None
    assert image["src"] == "../../badges/affect-diff-c1.svg"
    assert image["alt"] == "Badge: Affect-Diff C1, refuted (world); unresolved (corpus)"
    assert "(badges/affect-diff-c1.svg)](book/appendix/claims_ledger.html#affect-diff-c1)" in first.text


def test_a_card_without_a_test_offers_no_code_and_no_records(page: BeautifulSoup) -> None:
    second = card(page, "affect-diff-c2")
    assert "no data" in second.text
    for absent in ("Controls", "Code", "Records"):
        assert absent not in second.text
    assert not second.select("svg")


def test_the_drawing_keeps_order_and_proportion(page: BeautifulSoup) -> None:
    first, second = card(page, "affect-diff-c1").select("svg.effect")
    assert first["aria-label"] == "Estimate −.012, 95 % interval −.020 to −.001, margin .030"
    zero, margin = (float(str(p["d"]).split()[0][1:]) for p in first.select("path.rule"))
    low, high = (float(x) for x in re.split(r" 15H|M", str(first.select_one("path.interval")["d"]))[1:])  # type: ignore[index]
    estimate = float(str(first.select_one("circle")["cx"]))  # type: ignore[index]
    assert low < estimate < high < zero < margin
    assert (zero - low) / (margin - zero) == pytest.approx(0.02 / 0.03, abs=0.01)
    assert (estimate - low) / (high - low) == pytest.approx(0.0077 / 0.019, abs=0.01)
    for x in (low, margin):
        assert 0 <= x <= float(str(first["width"]))
    assert "verdict-unresolved" in second["class"]


def test_the_data_are_the_row_the_claim_and_their_places() -> None:
    data = Ledger([*FOUND, Finding(C1, WORLD, CODE, None)]).to_json()
    first = data[0]
    assert (first["status"], first["estimate"], first["interval"]) == ("refuted", -0.0123, [-0.02, -0.001])
    assert (first["statement"], first["paper_value"], first["controls"]) == ("a < b & <script>", ".384", [])
    assert first["address"] == "book/appendix/claims_ledger.html#affect-diff-c1"
    assert first["badge"] == "badges/affect-diff-c1.svg"
    assert (first["code"], first["test"], first["records"]) == (CODE, "t", RECORDS)
    assert data[1]["p"] is None
    assert data[2]["test"] is None
    json.dumps(data, allow_nan=False)
    far = Finding(C1, Row("affect_diff", "C1", "refuted", "world: w", 0.123456789), CODE, None)
    assert far.to_json()["estimate"] == 0.123457


def test_the_data_come_by_study() -> None:
    other = Finding(Claim("a", "Z", *"xxxxx", ("computation",)), Row("a", "Z", "open", "computation"), CODE, None)
    assert [f["paper"] for f in Ledger([*FOUND, other]).to_json()] == ["a", *["affect_diff"] * 3]


def test_the_page_holds_what_the_command_prints() -> None:
    """Mend: make refresh CHAPTER=appendix/claims_ledger."""
    done = CliRunner().invoke(cli.app, ["claims", "--format", "json"])
    assert done.exit_code == 0
    stored = findings(ROOT / LEDGER)
    assert stored == json.loads(done.stdout)
    for f in stored:
        assert (ROOT / f["code"]).is_file()
        assert f["test"] is None or f"def {f['test']}(" in (ROOT / f["code"]).read_text()
        assert f["records"] is None or (ROOT / f["records"]).is_file()


def test_every_paper_leads_to_the_chapter_of_its_verdicts() -> None:
    toc = (ROOT / "_toc.yml").read_text()
    assert set(CHAPTERS) == set(NAMES)
    for paper, chapter in CHAPTERS.items():
        assert f"file: {chapter}\n" in toc
        if f"file: book/{paper}/verdicts\n" in toc:
            assert chapter == f"book/{paper}/verdicts"


def test_verdicts_that_differ_say_on_what() -> None:
    world, mosi, mosei = "world: w", "corpus: mosi", "corpus: mosei"
    assert verdicts([("refuted", world), ("refuted", mosi)]) == [("refuted", "refuted")]
    said = verdicts([("refuted", world), ("open", mosi), ("open", mosei)])
    assert said == [("refuted", "refuted (world)"), ("open", "open (corpus)")]
    said = verdicts([("refuted", mosi), ("open", mosei), ("open", "computation")])
    assert said == [("refuted", "refuted (mosi)"), ("open", "open (mosei, computation)")]


def test_a_badge_says_its_verdicts_in_words_that_fit() -> None:
    svg = ElementTree.fromstring(badge("A & B", [("refuted", "refuted (world)"), ("not testable here", "not < here")]))
    name = "{http://www.w3.org/2000/svg}"
    assert svg.get("aria-label") == "A & B: refuted (world); not < here"
    texts, boxes = svg.findall(f".//{name}text"), svg.findall(f"{name}g/{name}rect")
    assert [t.text for t in texts] == ["A & B", "refuted (world)", "not < here"]
    assert [b.get("fill") for b in boxes[1:]] == [COLOURS["refuted"], COLOURS["not"]]
    for text, box in zip(texts, boxes, strict=True):
        left, right = int(box.get("x", "")), int(box.get("x", "")) + int(box.get("width", ""))
        assert left < int(text.get("x", "")) < int(text.get("x", "")) + int(text.get("textLength", "")) < right
    assert int(svg.get("width", "")) == right
    assert title("affect_diff", "C12") == "Affect-Diff C12"


def test_every_status_has_a_colour_the_same_on_page_and_badge() -> None:
    css = (ROOT / "book/_static/custom.css").read_text()
    light = dict(re.findall(r"\n\.verdict-(\w+) \{ color: (#\w+); \}", css))
    for s in (s.partition(" ")[0] for s in STATUSES):
        assert f".verdict-{s}" in css
        if s in light:
            assert int(COLOURS[s][1:], 16) == int(light[s][1:] * (2 if len(light[s]) == 4 else 1), 16)
    assert set(COLOURS) == {s.partition(" ")[0] for s in STATUSES}
    assert address("affect_diff", "C12") == "affect-diff-c12"


# --- the box at a chapter's end ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handouts() -> ModuleType:
    spec = spec_from_file_location("handouts", ROOT / "book" / "_ext" / "handouts.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def built(folder: Path, directive: str) -> tuple[str, str]:
    """Return the text of a page with one citation and the directive, and the warnings of its build."""
    from io import StringIO

    from sphinx.application import Sphinx

    source = folder / "source"
    (source / "book" / "room").mkdir(parents=True)
    (source / "book" / "references.bib").write_text((ROOT / "book" / "references.bib").read_text())
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        'extensions = ["sphinxcontrib.bibtex", "handouts"]\nbibtex_bibfiles = ["book/references.bib"]\n'
    )
    (source / "index.rst").write_text("Book\n====\n\n.. toctree::\n\n   book/room/page\n\n.. bibliography::\n")
    (source / "book/room/page.rst").write_text(f"Page\n====\n\n:cite:p:`cider`\n\n{directive}\n")
    warnings = StringIO()
    app = Sphinx(source, source, folder / "out", folder / "trees", "text", status=None, warning=warnings)
    app.build()
    return app.env.get_doctree("book/room/page").pformat(), warnings.getvalue()


@pytest.mark.filterwarnings("ignore::Warning")
def test_a_box_hands_out_notebook_data_and_bibtex(tmp_path: Path) -> None:
    from affectcore.models.cite import BIBTEX

    page, warnings = built(tmp_path, ".. hand-out:: affect_diff costs.json")
    assert warnings == ""
    for place in ("_sources/book/room/page.ipynb", "results/standard/affect_diff.jsonl.xz", "results/costs.json"):
        assert f'refuri="../../{place}"' in page
    for line in BIBTEX["cider"].splitlines():
        assert line.strip() in page
    assert "{affectdiff," not in page


@pytest.mark.filterwarnings("ignore::Warning")
def test_a_box_refuses_what_is_neither_study_nor_file(tmp_path: Path) -> None:
    _, warnings = built(tmp_path, ".. hand-out:: nonsense")
    assert "hand-out 'nonsense': neither a study nor a file in results/" in warnings


def test_entries_are_read_as_they_are_written(handouts: ModuleType) -> None:
    from affectcore.models.cite import BIBTEX

    read = handouts.bibtex(ROOT / "book" / "references.bib")
    assert {k: read[k] for k in BIBTEX} == BIBTEX


@pytest.mark.parametrize(
    ("n", "text"), [(12, "1 kB"), (40_200, "40 kB"), (99_999, "100 kB"), (100_000, "0.1 MB"), (3_120_000, "3.1 MB")]
)
def test_small_files_are_given_in_kilobytes(handouts: ModuleType, n: int, text: str) -> None:
    assert handouts.sized(n) == text


def test_a_ledger_without_findings_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text('{"cells": [{"cell_type": "code", "outputs": []}]}')
    with pytest.raises(ConfigError, match="0 outputs hold the ledger's findings"):
        findings(tmp_path / "x.ipynb")
