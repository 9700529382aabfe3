"""What a site gets when it knows its address (buttons, sitemap, robots, 404), the notebooks for Colab, and the PDF.

On a book of two pages with the real configuration and extensions.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import colab
import nbformat
import pytest
from browser import serve
from bs4 import BeautifulSoup
from playwright.sync_api import Browser
from printed import join, pages, printed
from pypdf import PdfReader

ROOT = Path(__file__).parents[2]
URL, REPOSITORY = "https://example.org/book/", "https://github.com/someone/fork"


def write_book(folder: Path) -> None:
    shutil.copytree(ROOT / "book" / "_ext", folder / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: book/one/page\n")
    (folder / "index.md").write_text("# Front\n\nSee {doc}`the page <book/one/page>`.\n")
    (folder / "book" / "appendix").mkdir()  # claims.json is taken from the ledger's notebook
    shutil.copy(ROOT / "book" / "appendix" / "claims_ledger.ipynb", folder / "book" / "appendix")
    (folder / "book" / "one").mkdir()
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    cells = [nbformat.v4.new_markdown_cell("# One page\n\nIt says something."), nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(metadata=kernel, cells=cells), folder / "book" / "one" / "page.ipynb")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_book(folder)
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "-W", "-n", "--quiet", str(folder)]
    environment = os.environ | {"BOOK_URL": URL, "BOOK_REPOSITORY": REPOSITORY, "BOOK_BRANCH": "v1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def test_a_chapter_leads_to_binder_and_colab(site: Path) -> None:
    links = [str(a["href"]) for a in soup(site / "book/one/page.html").find_all("a", href=True)]
    assert "https://mybinder.org/v2/gh/someone/fork/v1?urlpath=lab/tree/book/one/page.ipynb" in links
    assert "https://colab.research.google.com/github/someone/fork/blob/colab/book/one/page.ipynb" in links
    assert not [link for link in links if "/blob/v1/" in link and "colab" in link]


def test_a_link_to_a_page_has_a_picture_that_the_site_serves(site: Path) -> None:
    for name in ("index.html", "book/one/page.html"):
        tag = soup(site / name).find("meta", property="og:image")
        assert tag is not None
        address = str(tag["content"])
        assert address.startswith(URL)
        assert (site / address.removeprefix(URL)).read_bytes().startswith(b"\x89PNG")


def test_search_engines_find_the_pages_and_only_them(site: Path) -> None:
    listed = re.findall("<loc>(.*?)</loc>", (site / "sitemap.xml").read_text())
    assert set(listed) == {URL + "index.html", URL + "book/one/page.html"}
    assert f"Sitemap: {URL}sitemap.xml" in (site / "robots.txt").read_text()
    assert soup(site / "book/one/page.html").find("link", rel="canonical")["href"] == URL + "book/one/page.html"


def test_the_page_for_what_is_not_there_works_at_any_depth(site: Path) -> None:
    page = soup(site / "404.html")
    assert page.find("base")["href"] == URL
    head = [tag.name for tag in page.head.find_all(["base", "link", "script"]) if tag.get("href") or tag.get("src")]
    assert head[0] == "base"  # what stands before it would be sought beside the missing page


def test_notebooks_for_colab_begin_with_fetching_and_hold_no_outputs(tmp_path: Path) -> None:
    count = colab.main(tmp_path / "out", REPOSITORY, "v1", ROOT / "book")
    assert count == len([p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts])
    notebook = nbformat.read(tmp_path / "out/book/affect_diff/method.ipynb", as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0].source
    assert f"--branch v1 {REPOSITORY} " in first
    assert "book-of-affectcore/book/affect_diff" in first
    assert not any(cell.get("outputs") for cell in notebook.cells)
    exec(first, {})  # here the library is installed: nothing is fetched, no folder changes
    assert not Path("book-of-affectcore").exists()


def test_the_pdf_holds_every_page_and_its_links_stay_inside(site: Path, browser: Browser, tmp_path: Path) -> None:
    with serve(site) as address:
        found = pages(site, browser, address)
        assert [link.removeprefix(address) for link in found] == ["index.html", "book/one/page.html"]
        join({link: printed(browser, link) for link in found}, address, URL).write(tmp_path / "book.pdf")
        port = address.rsplit(":", 1)[1].strip("/")
    book = PdfReader(tmp_path / "book.pdf")
    assert [entry.title for entry in book.outline if not isinstance(entry, list)] == ["Front", "One page"]
    assert "It says something." in book.pages[-1].extract_text()
    notes = [note.get_object() for page in book.pages for note in page.get("/Annots", ())]
    inside = [note for note in notes if "/Dest" in note and not isinstance(note["/Dest"], str)]
    assert any(note["/Dest"][0].get_object() == book.pages[-1].get_object() for note in inside)
    assert not [note for note in notes if port in str(note.get("/A", {}).get("/URI", ""))]
