"""The page, the terminal and the JSON: self-contained, escaped, told in words, and silent about ids."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import make_predictions as make
import pytest
from bs4 import BeautifulSoup

from affectcore.audit import text
from affectcore.audit.html import page, write
from affectcore.audit.read import read
from affectcore.audit.report import audit
from affectcore.audit.tables import Report
from affectcore.errors import DataError

Save = Callable[..., Path]
KINDS = {"regression": make.regression, "single_label": make.single, "multi_label": make.multi}
HOSTILE = "<script>alert('x')</script>\"&"


@pytest.fixture(params=KINDS)
def report(request: pytest.FixtureRequest, saved: Save) -> Report:
    return audit(read(saved(KINDS[request.param]())), draws=100)


def plain(report: Report) -> str:
    out = io.StringIO()
    text.show(report, out)
    return out.getvalue()


def test_the_page_loads_nothing(report: Report) -> None:
    soup = BeautifulSoup(page(report), "html.parser")
    assert not soup.find_all(["script", "link", "iframe", "object", "img", "base", "form"])
    assert not [t for t in soup.find_all(True) if {"src", "href", "srcset", "action", "style"} & set(t.attrs)]
    assert not re.search(r"https?:|url\(|@import|//", page(report))
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_the_page_is_whole(report: Report) -> None:
    soup = BeautifulSoup(page(report), "html.parser")
    assert soup.html["lang"] == "en"
    assert len(soup.find_all("h1")) == 1
    assert "width=device-width" in soup.find("meta", attrs={"name": "viewport"})["content"]
    opened, void = [], {"meta", "br", "wbr"}
    for close, name, end in re.findall(r"<(/?)([a-z][a-z0-9]*)[^>]*?(/?)>", page(report)):
        if close:
            assert opened.pop() == name
        elif name not in void and not end:
            opened.append(name)
    assert not opened


def test_pictures_say_what_they_show(report: Report) -> None:
    soup = BeautifulSoup(page(report), "html.parser")
    pictures = soup.find_all("svg")
    assert len(pictures) == len(report.headlines) + len(report.calibration)
    for svg in pictures:
        assert svg["role"] == "img"
        assert svg["aria-label"] == svg.title.text
        assert all(m in svg["aria-label"] for m in report.models) or "Reliability" in svg["aria-label"]
    spots = [float(v) for c in soup.find_all("circle") for v in (c["cx"], c["cy"])]
    assert min(spots) >= 0
    assert max(spots) <= 400


def test_wide_tables_scroll_inside_their_box(report: Report) -> None:
    for table in BeautifulSoup(page(report), "html.parser").find_all("table"):
        assert table.parent["class"] == ["scroll"]
        assert table.parent["tabindex"] == "0"  # so that the keyboard can scroll it
        widths = {len(row.find_all(["th", "td"])) for row in table.find_all("tr")}
        assert len(widths) == 1


def test_page_terminal_and_json_tell_the_same(report: Report) -> None:
    words, shown = BeautifulSoup(page(report), "html.parser").get_text(" "), plain(report)
    sentences = [
        *report.read,
        *report.findings,
        *report.resolution,
        *report.warnings,
        *(t.sentence for t in report.traps),
    ]
    for line in sentences:
        assert line in words
        assert line in shown
    for v in report.metrics:
        assert text.value(v) in words
        assert text.value(v) in shown
    for p in report.pairs:
        assert text.pair_cells(p)[3] in words
        assert text.pair_cells(p)[3] in shown
    known = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert len(known["metrics"]) == len(report.metrics)
    assert {p["p_holm"] for p in known["pairs"]} == {p.p_holm for p in report.pairs}


def test_names_are_escaped(saved: Save) -> None:
    frame = make.single(n=60).replace({"target": {"sad": HOSTILE}, "model": {"A": HOSTILE, "B": "[bold]B[/bold]"}})
    r = audit(read(saved(frame.rename(columns={"score_sad": f"score_{HOSTILE}"}), "<b>&.csv")), draws=100)
    soup = BeautifulSoup(page(r), "html.parser")
    assert not soup.find_all(["script", "b"])
    assert HOSTILE in soup.get_text()
    assert "<b>&.csv" in soup.h1.text
    assert [svg["aria-label"] for svg in soup.find_all("svg") if HOSTILE in svg["aria-label"]]
    assert "[bold]B[/bold]" in plain(r)  # and no markup of the terminal either


def test_no_report_shows_an_id_or_a_group(saved: Save) -> None:
    frame = make.regression().astype({"group": str})
    frame["id"], frame["group"] = "secret" + frame.id, "person" + frame.group
    r = audit(read(saved(frame)), draws=100)
    for shown in (page(r), plain(r), json.dumps(r.to_json())):
        assert "secret" not in shown
        assert "person" not in shown


def test_one_model_and_one_seed_are_enough(saved: Save) -> None:
    frame = make.single(models=("A",), seeds=1).drop(columns=["model", "seed"])
    r = audit(read(saved(frame)), draws=100)
    assert r.pairs == ()
    assert "Pairs of models" not in page(r)
    assert any("A second model" in line for line in r.resolution)


def test_many_models_are_shown_in_parts(saved: Save) -> None:
    frame = make.single(n=60, models=tuple("ABCDEFG"), seeds=2)
    r = audit(read(saved(frame)), draws=100)
    assert plain(r).count("balanced_accuracy  ") >= 3
    assert max(map(len, plain(r).splitlines())) < 400


def test_a_page_that_cannot_be_written(report: Report, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write(report, tmp_path / "absent" / "report.html")
