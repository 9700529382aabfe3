"""What the built site hands out: claims.json, badges at permanent addresses, and a box at each chapter's end."""

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("AFFECTCORE_SITE", "_build/html"))
CLAIMS = SITE / "claims.json"

pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason=f"no site in {SITE}; run `make site`")


@pytest.fixture(scope="module")
def findings() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(CLAIMS.read_text("utf-8"))
    return found


def test_every_finding_leads_to_its_card_badge_chapter_code_and_records(findings: list[dict[str, Any]]) -> None:
    """That these are what the command prints is held in tests/figures/test_ledger.py."""
    assert len({(f["paper"], f["id"]) for f in findings}) >= 94
    page = BeautifulSoup((SITE / "book/appendix/claims_ledger.html").read_text("utf-8"), "html.parser")
    cards = {str(d["id"]): d for d in page.select("details.claim")}
    assert set(cards) == {f["address"].partition("#")[2] for f in findings}
    for f in findings:
        card = cards[f["address"].partition("#")[2]]
        assert f["statement"] in card.text.replace("\N{NO-BREAK SPACE}%", " %")
        assert f["status"] in str(card["data-verdict"]).split("|")
        for kind in ("badge", "chapter", "code", "records"):
            assert f[kind] is None or (SITE / f[kind]).is_file(), f[kind]
        assert f["status"] in (SITE / f["badge"]).read_text("utf-8")


def test_badges_are_whole_and_small(findings: list[dict[str, Any]]) -> None:
    badges = sorted((SITE / "badges").glob("*.svg"))
    assert len(badges) == len({f["badge"] for f in findings})
    for badge in badges:
        ElementTree.fromstring(badge.read_text("utf-8"))
        assert badge.stat().st_size < 3_000


def test_every_chapter_ends_with_its_box() -> None:
    for notebook in sorted((ROOT / "book").glob("*/*.ipynb")):
        page = BeautifulSoup((SITE / notebook.relative_to(ROOT)).with_suffix(".html").read_text("utf-8"), "html.parser")
        (box,) = page.select(".hand-out")
        assert box.select(f'a[href$="_sources/{notebook.relative_to(ROOT)}"]')
        if page.select("article a.bibtex, article .citation"):
            assert "@" in box.text
