"""The built site: links, alternative texts, captions, formulas, leaks and sizes. `make site-checks` builds it first."""

import os
import re
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from bs4.element import Tag

SITE = Path(os.environ.get("AFFECTCORE_SITE", "_build/html"))
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|root|work|tmp|Users|mnt|opt|builds|private|var/folders)/[\w.-]|[A-Z]:\\\\?Users"
)
PAGE_LIMIT, IMAGE_LIMIT, SITE_LIMIT = 1_500_000, 600_000, 60_000_000  # bytes

pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason=f"no site in {SITE}; run `make site`")


@pytest.fixture(scope="module")
def pages() -> dict[Path, BeautifulSoup]:
    found = {p: BeautifulSoup(p.read_text("utf-8"), "html.parser") for p in sorted(SITE.rglob("*.html"))}
    found = {p: soup for p, soup in found.items() if "_static" not in p.parts}
    assert len(found) >= 8
    return found


def article(soup: BeautifulSoup) -> Tag | BeautifulSoup:
    return soup.find("article") or soup


def test_every_local_link_resolves(pages: dict[Path, BeautifulSoup]) -> None:
    ids = {page.resolve(): {tag.get("id") for tag in soup.find_all(id=True)} for page, soup in pages.items()}
    dead = []
    for page, soup in pages.items():
        for tag in soup.find_all(href=True) + soup.find_all(src=True):
            address = urlsplit(str(tag.get("href") or tag.get("src")))
            if address.scheme or address.netloc:
                continue
            target = (page.parent / unquote(address.path)).resolve() if address.path else page.resolve()
            if target.is_dir():
                target /= "index.html"
            fragment = unquote(address.fragment)
            if not target.is_file():
                dead.append(f"{page.relative_to(SITE)}: {address.geturl()} leads nowhere")
            elif fragment and target in ids and fragment not in ids[target]:
                dead.append(f"{page.relative_to(SITE)}: {address.geturl()} names no place on that page")
    assert not dead, "\n".join(dead)


def test_pages_read_offline(pages: dict[Path, BeautifulSoup]) -> None:
    foreign = [
        f"{page.relative_to(SITE)}: {tag.get('src') or tag.get('href')}"
        for page, soup in pages.items()
        for tag in soup.find_all(["script", "img", "iframe", "link"])
        if re.match(
            r"(https?:)?//", str(tag.get("src") or (tag.get("href") if "canonical" not in tag.get("rel", []) else ""))
        )
    ]
    assert not foreign, "\n".join(foreign)


def test_every_image_has_an_alternative_text_that_says_something(pages: dict[Path, BeautifulSoup]) -> None:
    bad = []
    for page, soup in pages.items():
        for image in article(soup).find_all("img"):
            alt = str(image.get("alt", "")).strip()
            if len(alt.split()) < 4 or re.search(r"\.(png|svg|jpe?g)$", alt):
                bad.append(f"{page.relative_to(SITE)}: alt={alt!r} of {image.get('src')}")
    assert not bad, "\n".join(bad)


def test_every_drawn_figure_has_a_caption(pages: dict[Path, BeautifulSoup]) -> None:
    bad = []
    for page, soup in pages.items():
        for image in soup.select("div.cell_output img:not(.claim-badge)"):
            figure = image.find_parent("figure")
            caption = figure.find("figcaption") if figure else None
            if caption is None or len(caption.get_text().split()) < 4:
                bad.append(f"{page.relative_to(SITE)}: {image.get('src')} has no caption")
    assert not bad, "\n".join(bad)


def test_formulas_are_set_and_their_script_is_there(pages: dict[Path, BeautifulSoup]) -> None:
    raw = []
    for page, soup in pages.items():
        body = BeautifulSoup(str(article(soup)), "html.parser")
        if body.select(".math"):
            script = next((s for s in soup.find_all("script", src=True) if "mathjax" in s["src"]), None)
            assert script is not None, page
            assert (page.parent / urlsplit(script["src"]).path).resolve().is_file(), script["src"]
        for tag in body.select(".math, code, pre, script, style"):
            tag.decompose()
        text = body.get_text(" ")
        raw += [
            f"{page.relative_to(SITE)}: {m.group()}"
            for m in re.finditer(r"\$[^\s$][^$\n]{0,80}\$|\\[([a-z]{3,}\{?", text)
        ]
    assert not raw, "\n".join(raw)
    assert len(list((SITE / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))) >= 20


def test_nothing_of_the_machine_or_of_a_failure_shows() -> None:
    host = socket.gethostname()
    bad = []
    for path in SITE.rglob("*"):
        if path.suffix not in {".html", ".ipynb", ".md", ".js", ".txt", ".xml"} or "_static" in path.parts:
            continue
        text = path.read_text("utf-8")
        found = [m.group() for m in MACHINE_PATH.finditer(text)]
        found += [word for word in ("Traceback (most recent", "site-packages", "ipykernel_") if word in text]
        if len(host) >= 6 and host not in ("localhost", "ubuntu") and re.search(rf"\b{re.escape(host)}\b", text):
            found.append("the host's name")
        bad += [f"{path.relative_to(SITE)}: {what}" for what in found]
    assert not bad, "\n".join(bad)


def test_sizes_are_bounded() -> None:
    sizes = {p.relative_to(SITE): p.stat().st_size for p in SITE.rglob("*") if p.is_file()}
    limits = {".html": PAGE_LIMIT, ".png": IMAGE_LIMIT}
    large = [f"{p}: {size} bytes" for p, size in sizes.items() if size > limits.get(p.suffix, SITE_LIMIT)]
    assert not large, "\n".join(large)
    assert sum(sizes.values()) < SITE_LIMIT


def test_every_page_names_its_language_and_has_one_title(pages: dict[Path, BeautifulSoup]) -> None:
    for page, soup in pages.items():
        assert soup.html is not None
        assert soup.html.get("lang") == "en", page
        if page.name not in ("genindex.html", "search.html"):
            assert len(article(soup).find_all("h1")) == 1, page
