"""The built site as a reader meets it: in a headless Chromium, two widths, light and dark, by mouse and by keyboard.

`make site-checks` reads one page of each kind, `make browser` every page; both leave pictures in `_build/browser`.
The tests skip themselves where there is no Chromium (`.venv/bin/playwright install chromium` brings one).
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import serve
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, Route, expect

SITE = Path(os.environ.get("AFFECTCORE_SITE", "_build/html"))
PICTURES = Path("_build/browser")
WIDTHS = {"wide": 1280, "phone": 390}
KINDS = {  # one page of each kind
    "landing": "index.html",
    "foundations": "book/foundations/metrics_and_statistics.html",
    "method": "book/affect_diff/method.html",
    "results": "book/affect_diff/results.html",
    "verdicts": "book/affect_diff/verdicts.html",
    "ledger": "book/appendix/claims_ledger.html",
    "explorer": "book/foundations/explorer.html",
    "calculator": "book/foundations/power.html",
    "how-to": "book/appendix/add_a_model.html",
    "glossary": "book/appendix/glossary.html",
    "bibliography": "book/appendix/references.html",
    "API reference": "book/reference/front_door.html",
    "search": "search.html?q=bootstrap",
    "not found": "404.html",
}
LANDING_LIMIT, PAGE_LIMIT = 1_500_000, 3_000_000  # bytes transferred
# These come from the theme and from docutils, not from the book.
ALLOWED = {"label-content-name-mismatch", "aria-required-children", "aria-deprecated-role"}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "preload": False}

pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason=f"no site in {SITE}; run `make site`")


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    with serve(SITE) as address:
        yield address


@dataclass
class Visit:
    """A page in a browser of its own, the requests that it made and what went wrong while it was open."""

    page: Page
    address: str
    wrong: list[str] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script error: {error.message}"))
        self.page.on("response", self._answered)
        self.page.on("requestfinished", lambda request: self.finished.append(request))
        self.page.route(lambda url: not url.startswith((self.address, "data:", "blob:")), self._leaves)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):  # said by _answered
            self.wrong.append(f"console: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def _leaves(self, route: Route) -> None:
        self.wrong.append(f"a request leaves the site: {route.request.url}")
        route.abort()

    def open(self, name: str) -> Page:
        """Go to a page of the site and wait until all of it stands there, formulas and pictures included."""
        self.page.goto(self.address + name)
        self.page.evaluate("window.MathJax?.startup?.promise.then(() => true)")
        self.page.evaluate("for (const image of document.images) image.loading = 'eager'")
        self.page.wait_for_function("[...document.images].every((image) => image.complete)")
        return self.page

    def look(self, mode: str, width: int) -> None:
        """Show the page in a colour mode and at a width, and note what overflows."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.evaluate("(mode) => { document.documentElement.dataset.theme = mode }", mode)
        self.page.wait_for_timeout(400)  # the theme fades from one mode to the other
        extra = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if extra > 1:
            self.wrong.append(f"{width} px {mode}: {extra} px of sideways overflow")

    def check(self, mode: str, width: int) -> None:
        """Note what axe finds in the page as it is shown."""
        for v in Axe().run(self.page, options=RULES).response["violations"]:
            if v["id"] not in ALLOWED:
                places = "".join(f"\n    {node['html'][:160]}" for node in v["nodes"][:3])
                self.wrong.append(f"{width} px {mode}: {v['id']}: {v['help']}{places}")


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """A reader with an empty cache; whatever goes wrong while the page is open fails the test."""
    with visiting(browser, site) as guest:
        yield guest
    assert not guest.wrong, "\n".join(guest.wrong)


@contextmanager
def visiting(browser: Browser, site: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(120_000)  # a busy machine is not a fault
    guest = Visit(context.new_page(), site)
    guest.listen()
    try:
        yield guest
    finally:
        context.close()


def read(visit: Visit, name: str) -> None:
    """Open a page and note what is wrong with it in four renderings; leaves a picture of each."""
    page = visit.open(name)
    limit = LANDING_LIMIT if name == "index.html" else PAGE_LIMIT
    transferred = sum(request.sizes()["responseBodySize"] for request in visit.finished)
    if not 0 < transferred < limit:
        visit.wrong.append(f"{transferred} bytes transferred; at most {limit}")
    unset = page.evaluate(
        "[...document.querySelectorAll('.math')].filter((e) => !e.querySelector('mjx-container')).length"
    )
    if unset:
        visit.wrong.append(f"{unset} formulas not set")
    PICTURES.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"\W+", "-", name.removesuffix(".html"))
    for kind, width in WIDTHS.items():
        for mode in ("light", "dark"):
            visit.look(mode, width)
            if (kind, mode) in (("wide", "light"), ("phone", "dark")):  # each width and each mode once: axe is slow
                visit.check(mode, width)
            page.screenshot(path=PICTURES / f"{stem}-{kind}-{mode}.png", full_page=True)


def every_page() -> list[str]:
    found = [p.relative_to(SITE).as_posix() for p in sorted(SITE.rglob("*.html"))]
    return [name for name in found if not name.startswith("_") and name not in KINDS.values()]


# Pages


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
def test_a_page_of_each_kind_reads_well(visit: Visit, name: str) -> None:
    read(visit, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", every_page())
def test_every_other_page_reads_well(visit: Visit, name: str) -> None:
    read(visit, name)


def test_what_these_checks_look_for_is_found(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        """<html lang="en"><title>bad</title><main><h1>Bad</h1><p style="color: #999; width: 3000px">faint</p>
        <img src="gone.png" alt="gone"><img src="https://example.org/x.png" alt="away"><span class="math">x</span>
        <script>console.error("said"); undefined_name();</script></main>"""
    )
    with serve(tmp_path) as address, visiting(browser, address) as guest:
        read(guest, "bad.html")
    found = "\n".join(guest.wrong)
    for words in (
        "console: said",
        "undefined_name",
        "404:",
        "leaves the site: https://example.org",
        "sideways overflow",
        "color-contrast",
        "1 formulas not set",
    ):
        assert words in found, found


# What a reader does


def test_the_skip_link_leads_to_the_text(visit: Visit) -> None:
    page = visit.open("index.html")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text(re.compile("skip to main content", re.I))
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")


def test_dark_mode_is_dark_and_stays(visit: Visit) -> None:
    page = visit.open("index.html")
    root, switch = page.locator("html"), page.locator(".theme-switch-button:visible").first
    for _ in range(3):  # auto, light, dark
        if root.get_attribute("data-mode") != "dark":
            switch.click()
    expect(root).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(root).to_have_attribute("data-theme", "dark")
    page.wait_for_timeout(400)
    colours = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colours)[:3])) < 60


def test_search_finds_a_term(visit: Visit) -> None:
    page = visit.open("index.html")
    page.locator(".search-button-field:visible, .search-button:visible").first.click()
    page.keyboard.type("counterfactual")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=counterfactual*")
    results = page.locator("#search-results ul.search li a[href]")
    expect(results.filter(has_text="CIDer").first).to_be_visible()
    results.first.click()
    expect(page.locator("article h1")).to_be_visible()


def test_search_says_when_there_is_nothing(visit: Visit) -> None:
    page = visit.open("search.html?q=qwxyzzy")
    expect(page.locator("#search-results")).to_contain_text(re.compile("did not match any", re.I))


def test_the_ledger_is_filtered_by_mouse(visit: Visit) -> None:
    page = visit.open(KINDS["ledger"])
    cards, filters = page.locator("details.claim"), page.locator("form.ledger-filters")
    total = cards.count()
    filters.get_by_label("paper").select_option(index=1)
    first = cards.locator("visible=true").count()
    assert 0 < first < total
    expect(filters.locator("output")).to_have_text(f"{first} of {total} claims")
    filters.get_by_label("words").fill("qwxyzzy")
    expect(cards.locator("visible=true")).to_have_count(0)
    filters.get_by_label("words").fill("")
    cards.locator("visible=true").first.locator("summary").click()
    expect(cards.locator("visible=true").first).to_have_attribute("open", "")


def test_the_ledger_is_used_by_keyboard_alone(visit: Visit) -> None:
    page = visit.open(KINDS["ledger"])
    cards = page.locator("details.claim")
    total = cards.count()
    page.get_by_label("paper").focus()
    page.keyboard.press("ArrowDown")
    assert 0 < cards.locator("visible=true").count() < total
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('details.claim > summary')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("details.claim[open]")).to_have_count(1)


def test_an_address_of_a_claim_opens_its_card(visit: Visit) -> None:
    page = visit.open(KINDS["ledger"])
    name = page.locator("details.claim").last.get_attribute("id")
    page = visit.open(f"{KINDS['ledger']}#{name}")
    expect(page.locator(f"[id='{name}']")).to_have_attribute("open", "")
    expect(page.locator(f"[id='{name}']")).to_be_in_viewport()


def test_a_term_of_the_glossary_shows_its_definition(visit: Visit) -> None:
    page = visit.open("book/appendix/audit.html")
    term, note = page.locator("a[data-definition]").filter(has_text="minimal detectable effect").first, "#term-note"
    expect(page.locator(note)).to_be_hidden()
    term.hover()
    expect(page.locator(note)).to_contain_text("smallest true effect")
    page.keyboard.press("Escape")
    expect(page.locator(note)).to_be_hidden()
    visit.look("dark", WIDTHS["phone"])
    term.focus()
    expect(page.locator(note)).to_be_visible()
    expect(term).to_have_attribute("aria-describedby", "term-note")
    visit.check("dark", WIDTHS["phone"])


def test_a_page_that_is_not_there_says_so(browser: Browser, site: str) -> None:
    with visiting(browser, site) as guest:  # only a site that knows its address finds its styles from any depth
        page = guest.open("no/such/page.html")
        expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
