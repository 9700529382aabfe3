"""What the book's own Sphinx extension does to the HTML of a page."""

import os
import re
from pathlib import Path

import pytest
from bookassets import together
from bs4 import BeautifulSoup

SITE = Path(os.environ.get("AFFECTCORE_SITE", "_build/html"))
SPACE = "\N{NO-BREAK SPACE}"


def test_a_number_stays_beside_its_per_cent_sign() -> None:
    assert (
        together("95 % of 0.5 % and <b>4</b> % or 3 percent")
        == f"95{SPACE}% of 0.5{SPACE}% and <b>4</b> % or 3 percent"
    )
    assert together("<td>5 %</td>\n<td>7 %</td>") == f"<td>5{SPACE}%</td>\n<td>7{SPACE}%</td>"


def test_a_formula_keeps_the_mark_behind_it() -> None:
    formula = r'<span class="math notranslate nohighlight">\(a\)</span>'
    assert together(f"({formula}), {formula} and {formula}.") == (
        f'(<span class="held">{formula}),</span> {formula} and <span class="held">{formula}.</span>'
    )


def test_what_is_shown_as_it_is_stays_so() -> None:
    for kept in (
        "<code>5 % 3</code>",
        '<pre class="x">5 %\n<span>6 %</span></pre>',
        '<img alt="5 %"/>',
        "<script>5 % 2</script>",
    ):
        assert together(kept) == kept
        assert together(f"1 % {kept} 2 %") == f"1{SPACE}% {kept} 2{SPACE}%"


@pytest.mark.skipif(not (SITE / "index.html").is_file(), reason=f"no site in {SITE}; run `make site`")
def test_no_line_of_the_site_ends_between_them() -> None:
    loose, held = [], 0
    for page in sorted(SITE.rglob("*.html")):
        if "_static" in page.parts or not (
            article := BeautifulSoup(page.read_text("utf-8"), "html.parser").find("article")
        ):
            continue
        for part in article.find_all(["script", "style", "pre", "code", "textarea", "dt"]):
            part.decompose()
        text = article.get_text()
        loose += [f"{page.relative_to(SITE)}: {found}" for found in re.findall(r".{0,20}\d %.{0,10}", text)]
        held += text.count(f"{SPACE}%")
    assert not loose, loose[:5]
    assert held > 100
