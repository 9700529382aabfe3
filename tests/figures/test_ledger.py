"""The ledger's cards: every claim once, at its own address, with its words made safe and its numbers as computed."""

import pytest
from bs4 import BeautifulSoup

from affectcore.errors import ConfigError
from affectcore.figures.ledger import STATUSES, address, cards
from affectcore.studies.claims import Claim, Row

C1 = Claim(
    "affect_diff", "C1", "a < b & <script>", "Table 2", ".384", "it is not", "main", ("world: w", "corpus: c"), test="t"
)
C2 = Claim("affect_diff", "C2", "not here", "Fig. 1", 3, "never", "main", ("corpus: c",), not_testable="no data")
ROWS = [
    Row("affect_diff", "C1", "refuted", "world: w", -0.0123, (-0.02, -0.001), 4e-5, 10, 0.01, 0.03, "below margin"),
    Row("affect_diff", "C1", "unresolved", "corpus: c", 0.5, (-0.1, 0.2), float("nan"), 10, 0.2, 0.03),
    Row("affect_diff", "C2", "not testable here", "corpus: c", reason="no data"),
]  # fmt: skip


def test_a_card_says_what_was_claimed_and_found() -> None:
    page = BeautifulSoup(cards([C1, C2], ROWS, {"affect_diff": "../x.html"}), "html.parser")
    assert [d["id"] for d in page.select("details.claim")] == ["affect-diff-c1", "affect-diff-c2"]
    first = page.select_one("#affect-diff-c1")
    assert first is not None
    assert not page.select("script")
    assert "a < b & <script>" in first.text
    assert (first["data-verdict"], first["data-on"]) == ("refuted|unresolved", "corpus world")
    assert [s.text for s in first.select("summary .verdict")] == ["refuted", "unresolved"]
    assert "estimate −.012; 95 % interval −.020 to −.001; p below .001" in first.text
    assert [a["href"] for a in first.select("a")] == ["#affect-diff-c1", "../x.html"]
    second = page.select_one("#affect-diff-c2")
    assert second is not None
    assert "no data" in second.text
    assert "Controls" not in second.text


def test_a_claim_without_a_row_is_an_error() -> None:
    with pytest.raises(ConfigError, match="affect_diff C2 has no row"):
        cards([C1, C2], ROWS[:2])


def test_every_status_has_a_colour() -> None:
    from pathlib import Path

    css = (Path(__file__).parents[2] / "book/_static/custom.css").read_text()
    for s in STATUSES:
        assert f".verdict-{s.partition(' ')[0]}" in css
    assert address("affect_diff", "C12") == "affect-diff-c12"
