"""Prints the built site as one PDF: every page of the table of contents by headless Chromium, then joined.

    python book/_ext/printed.py _build/html _build/affectcore.pdf

The outline holds the pages and their headings. A link to another page of the book leads to that page in the PDF; one to
a file of the site leads to its address under BOOK_URL, and nowhere where that is not set.
"""

import io
import os
import sys
from html import escape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from browser import headless, serve
from playwright.sync_api import Browser
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject, TextStringObject

SMALL = "font-size: 7pt; width: 100%; margin: 0 15mm; display: flex; justify-content: space-between; color: #444"
# Folded code stays in the notebooks; whatever else is folded on the site stands open on paper.
UNFOLD = """
for (const fold of document.querySelectorAll('details.above-input'))
  if (!fold.querySelector('.cell_output')) fold.remove();
for (const fold of document.querySelectorAll('details')) fold.open = true;
for (const fold of document.querySelectorAll('.toggle-hidden')) fold.classList.remove('toggle-hidden');
for (const image of document.images) image.loading = 'eager';
"""


def pages(site: Path, browser: Browser, address: str) -> list[str]:
    """Return the addresses of the book's pages, in the order of its table of contents."""
    page = browser.new_page()
    page.goto(address + "index.html")
    links = page.eval_on_selector_all("nav.bd-links a.reference.internal", "links => links.map((a) => a.href)")
    page.close()
    found = dict.fromkeys([address + "index.html", *(link.split("#")[0] for link in links)])
    return [link for link in found if (site / urlsplit(link).path.lstrip("/")).is_file()]


def printed(browser: Browser, address: str) -> tuple[str, bytes]:
    """Return one page's title and its PDF, unfolded and with formulas set."""
    page = browser.new_page(color_scheme="light")
    page.set_default_timeout(300_000)
    page.goto(address)
    page.evaluate("window.MathJax?.startup?.promise.then(() => true)")
    page.evaluate(UNFOLD)
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    title = page.locator("article h1").first.inner_text().removesuffix("#").strip()
    foot = f'<div style="{SMALL}"><span>{escape(title)}</span><span><span class="pageNumber"></span></span></div>'
    content = page.pdf(
        format="A4",
        margin={"top": "15mm", "bottom": "18mm", "left": "15mm", "right": "15mm"},
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=foot,
        outline=True,
        tagged=True,
    )
    page.close()
    return title, content


def join(parts: dict[str, tuple[str, bytes]], address: str, published: str) -> PdfWriter:
    """Return one document of the parts (address of a page -> title and PDF), whose links stay inside where they can."""
    book, starts = PdfWriter(), {}
    for link, (title, content) in parts.items():
        starts[link] = len(book.pages)
        book.append(PdfReader(io.BytesIO(content)), outline_item=title)
    for page in book.pages:
        for note in page.get("/Annots", ()):
            action = note.get_object().get("/A", {})
            target = str(action.get("/URI", ""))
            if not target.startswith(address):
                continue
            start = starts.get(target.split("#")[0])
            if start is not None:
                note.get_object()[NameObject("/Dest")] = ArrayObject(
                    [book.pages[start].indirect_reference, NameObject("/Fit")]
                )
                del note.get_object()["/A"]
            elif published:
                action[NameObject("/URI")] = TextStringObject(urljoin(published, target.removeprefix(address)))
            else:
                del note.get_object()["/A"]
    book.add_metadata({"/Title": "affectcore", "/Author": "The affectcore contributors"})
    book.compress_identical_objects()
    return book


def main(site: Path, out: Path) -> None:
    if not (site / "index.html").is_file():
        sys.exit(f"{site}: no site there; run `make site`")
    with serve(site) as address, headless() as browser:
        if browser is None:
            sys.exit("no Chromium; name one in CHROMIUM or run `.venv/bin/playwright install chromium`")
        parts = {link: printed(browser, link) for link in pages(site, browser, address)}
    book = join(parts, address, os.environ.get("BOOK_URL", ""))
    out.parent.mkdir(parents=True, exist_ok=True)
    book.write(out)
    print(f"{out}: {len(parts)} pages of the site on {len(book.pages)} sheets, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
