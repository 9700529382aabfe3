"""The robustness explorer, the power calculator and the arena's table as a reader uses them: by mouse, by keyboard, and
without a script.

Needs the built site, Playwright and a Chromium; skips itself by name where one of them is absent.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import serve
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, expect

from affectcore.evaluation import statistics as s
from affectcore.evaluation.resolution import Design

SITE = Path(os.environ.get("AFFECTCORE_SITE", "_build/html"))
EXPLORER, POWER = "book/foundations/explorer.html", "book/foundations/power.html"
ARENA = "book/arena/index.html"
VERDICTS = "book/cider/verdicts.html"
PATIENCE = 120_000  # ms: a busy machine is not a fault

pytestmark = pytest.mark.skipif(not (SITE / EXPLORER).is_file(), reason=f"no site in {SITE}; run `make site`")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(SITE) as found:
        yield found


@pytest.fixture(params=[(1280, True), (390, True)], ids=["wide", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Any]:
    """A fresh page; script errors, failed requests and requests that leave the site fail the test."""
    width, script = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=script, base_url=address, accept_downloads=True
    )
    context.set_default_timeout(PATIENCE)
    made, wrong = context.new_page(), []
    made.on("pageerror", lambda error: wrong.append(error.message))
    made.on("response", lambda r: r.status >= 400 and wrong.append(f"{r.status} {r.url}"))
    made.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or wrong.append(f"leaves: {r.url}"))
    yield made
    context.close()
    assert not wrong, "\n".join(wrong)


without_script = pytest.mark.parametrize("page", [(390, False)], indirect=True, ids=["no script"])


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def stored() -> dict[str, Any]:
    """What the page's JSON holds."""
    text = (SITE / EXPLORER).read_text("utf-8")
    found = re.search(r'<script type="application/json">(.*?)</script>', text, re.S)
    assert found is not None
    return dict(json.loads(found.group(1)))


def choose(page: Any, name: str, value: str) -> None:
    page.locator(f"select[name={name}]").select_option(value)


def test_every_view_of_the_explorer_draws_and_says_what_it_shows(page: Any) -> None:
    page.goto(EXPLORER)
    for scene in stored()["scenes"]:
        choose(page, "scene", scene["key"])
        for name in scene["models"]:
            page.get_by_label(name, exact=True).check()
        kind = "Real data." if scene["kind"] == "corpus" else "A world."
        expect(page.locator(".scope")).to_contain_text(f"{kind} {scene['scope']}")
        for stressor in scene["stressors"]:
            choose(page, "stressor", stressor["key"])
            for metric in scene["metrics"]:
                choose(page, "metric", metric["key"])
                cells = scene["values"][f"{metric['key']}/{stressor['key']}"]
                rows = page.locator(".explorer div:not(.explorer-plain) > table tbody tr")
                bounds = sum(metric[b] is not None for b in ("floor", "ceiling"))
                assert rows.count() == len(scene["models"]) + bounds
                first = rows.first.locator("td").first.inner_text()
                assert float(first.split()[0].replace("−", "-")) == pytest.approx(cells[0][0][0], abs=6e-4)
                picture = page.locator(".picture svg")
                names = [t for t in picture.locator("text").all_text_contents() if t.startswith(("floor", "ceiling"))]
                assert len(names) == bounds
                assert picture.locator("title").count() == len(scene["models"]) * len(stressor["settings"])
                assert overflow(page) <= 1
    assert not page.locator(".explorer-plain").is_visible()


def test_one_strength_fewer_models_and_the_download_agree(page: Any) -> None:
    page.goto(EXPLORER)
    scene = next(s for s in stored()["scenes"] if s["key"] == "baselines_world_recovery")
    choose(page, "scene", scene["key"])
    choose(page, "setting", "3")
    for name in scene["models"][4:]:  # the first four are chosen
        page.get_by_label(name, exact=True).check()
    page.get_by_label(scene["models"][0], exact=True).uncheck()
    page.get_by_label("single seeds as dots").check()
    cells = [row[3] for row in scene["values"]["mae/missing"]][1:]
    expect(page.locator(".explorer output")).to_contain_text(f"6 of 7 models on {scene['title']}")
    assert page.locator(".picture svg circle[r='1.8']").count() == sum(len(c[3]) for c in cells)
    with page.expect_download() as got:
        page.get_by_role("button", name="Download this table (CSV)").click()
    assert got.value.suggested_filename == "robustness_baselines_world_recovery_missing_mae.csv"
    lines = list(csv.DictReader(io.StringIO(Path(got.value.path()).read_text("utf-8"))))
    assert [line["model"] for line in lines] == scene["models"][1:]
    assert [[float(line[k]) for k in ("mean", "low95", "high95")] for line in lines] == [c[:3] for c in cells]
    assert {line["setting"] for line in lines} == {"0.6"}
    assert {line["kind"] for line in lines} == {"world"}


def test_the_explorer_by_keyboard(page: Any) -> None:
    page.goto(EXPLORER)
    page.locator("select[name=scene]").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".scope")).to_contain_text("CMU-MOSEI")
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "model"
    page.keyboard.press("Space")
    expect(page.locator(".explorer output")).to_contain_text("3 of 7 models")
    for name in stored()["scenes"][1]["models"]:
        page.get_by_label(name, exact=True).uncheck()
    expect(page.locator(".explorer output")).to_have_text("No model is chosen.")
    assert page.get_by_role("button", name="Download this table (CSV)").is_disabled()


@without_script
def test_without_a_script_tables_and_a_picture_stand_there(page: Any) -> None:
    page.goto(EXPLORER)
    folds = page.locator(".explorer-plain details")
    assert folds.count() == sum(len(scene["stressors"]) for scene in stored()["scenes"])
    folds.first.locator("summary").click()
    assert folds.first.locator("table").is_visible()
    assert page.locator("figure img").count() == 1
    page.goto(POWER)
    assert page.get_by_text("the tables below hold without it").is_visible()
    assert page.locator("article table").count() == 4  # one of them in the check


def least(page: Any) -> float:
    text = page.locator(".power output strong").inner_text()
    return float(text.rpartition(" ")[2])


def test_the_calculator_starts_with_the_pages_example(page: Any) -> None:
    page.goto(POWER)
    start = json.loads(str(page.locator(".power").get_attribute("data-start")))
    number = {k: float(v) for k, v in start.items() if k != "kind"}
    design = Design(int(number["items"]), number["discordance"], int(number["seeds"]), number["sd"], number["stable"])
    assert least(page) == pytest.approx(design.detectable(), rel=5e-3)
    assert overflow(page) <= 1


def test_the_calculator_answers_all_three_questions(page: Any) -> None:
    page.goto(POWER)
    page.get_by_label("other seeds, on this test set").check()
    assert not page.get_by_label("test items", exact=True).is_visible()
    page.get_by_label("seeds (pairs of runs)").fill("7")
    page.get_by_label("standard deviation of the difference over seeds").fill("0.05")
    page.get_by_label("difference that matters").fill("0,03")  # a decimal comma will do
    assert least(page) == pytest.approx(s.minimal_detectable_effect(0.05, 7), abs=6e-5)
    answer = page.locator(".power output")
    expect(answer).to_contain_text(f"it takes {s.sample_size(0.05, 0.03)} seeds")
    expect(answer).to_contain_text(f"probability {100 * s.power(0.03, 0.05, 7):.0f} %")

    page.get_by_label("other test items, for these two trained models").check()
    page.get_by_label("test items", exact=True).fill("686")
    page.get_by_label(re.compile("^discordance")).fill("0.2")
    page.get_by_label(re.compile("^groups")).fill("31")
    page.get_by_label(re.compile("^how alike")).fill("0.1")
    design = Design(686, 0.2, groups=31, alike=0.1)
    assert least(page) == pytest.approx(design.detectable(), abs=6e-4)
    expect(answer).to_contain_text(f"it takes {design.items_needed(0.03):,} items")

    page.get_by_label("other seeds and other test items").check()
    page.get_by_label(re.compile("^share of the discordance")).fill("0.5")
    page.get_by_label("difference that matters").fill("0.001")
    expect(answer).to_contain_text("no number of items does with these seeds, or no number of seeds does")
    assert page.locator(".power > table tbody tr").count() == 2


@pytest.mark.parametrize(
    ("label", "typed", "said"),
    [
        ("test items", "many", "test items: “many” must be a whole number at least 2"),
        ("discordance", "1.2", "discordance: “1.2” must be a number above 0 and at most 1"),
        ("groups", "5000", "groups: “5000” must be a whole number at least 2 and at most 922"),
        ("level of significance", "", "level of significance: “” must be a number above 0"),
    ],
)
def test_the_calculator_names_what_it_cannot_read(page: Any, label: str, typed: str, said: str) -> None:
    page.goto(POWER)
    field = page.get_by_label(re.compile(f"^{label}"))
    field.fill(typed)
    expect(page.locator(".power output")).to_contain_text(said)
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("5" if label != "discordance" else "0.1")


def test_the_calculator_by_keyboard(page: Any) -> None:
    page.goto(POWER)
    page.locator(".power input[value=both]").focus()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("seeds (pairs of runs)")).to_be_hidden()
    before = least(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "items"
    page.keyboard.press("Control+A")
    page.keyboard.type("100000")
    assert least(page) < before / 5
    assert page.locator(".power output").get_attribute("aria-live") == "polite"


# --- the arena's table ------------------------------------------------------------------------------------------------


def column(page: Any, name: str) -> list[str]:
    """The texts of a column of the arena's table, top to bottom."""
    heads = page.locator(".sortable th").all_inner_texts()
    i = [h.split("\n")[0].strip(" ↕↑↓") for h in heads].index(name)
    return [str(x).strip() for x in page.locator(f".sortable tbody td:nth-child({i + 1})").all_inner_texts()]


def test_the_arenas_table_sorts_by_mouse_and_keyboard(page: Any) -> None:
    page.goto(ARENA)
    ranks = [float(x) for x in column(page, "rank")]
    assert ranks == sorted(ranks)
    head = page.locator(".sortable th", has_text="model")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    models = column(page, "model")
    assert models == sorted(models, key=str.lower)
    head = page.locator(".sortable th", has_text="samples_per_s")
    for way in ("ascending", "descending"):
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", way)
        assert page.locator(".sortable th[aria-sort]").count() == 1
        speeds = column(page, "samples_per_s")
        known = [float(x.replace(",", "")) for x in speeds if x]
        assert known == sorted(known, reverse=way == "descending")
        assert 0 < len(known) < len(speeds)
        assert not any(speeds[len(known) :])  # what is not known comes last
    assert overflow(page) <= 0


def test_the_arenas_table_is_a_file(page: Any) -> None:
    page.goto(ARENA)
    with page.expect_download() as got:
        page.get_by_role("link", name="Download this table").click()
    rows = list(csv.DictReader(io.StringIO(Path(got.value.path()).read_text("utf-8"))))
    assert got.value.suggested_filename == "arena_standings.csv"
    assert [r["model"] for r in rows] == column(page, "model")


@without_script
def test_the_arenas_table_is_there_without_a_script(page: Any) -> None:
    page.goto(ARENA)
    assert page.locator(".sortable tbody tr").count() > 20
    assert page.locator(".sortable button").count() == 0


@pytest.mark.parametrize("page", [(1280, True)], indirect=True, ids=["wide"])
def test_long_frames_sort_too(page: Any) -> None:
    page.goto("book/foundations/models_and_cost.html")
    table = page.locator("table.dataframe:has(th > button)").first
    head = table.locator("th", has_text="clean")

    def parameters() -> list[int]:
        return [int(x.replace(",", "")) for x in table.locator("tbody td:nth-child(3)").all_inner_texts()]

    before = parameters()
    assert before != sorted(before)
    for way in ("ascending", "descending"):
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", way)
        assert parameters() == sorted(before, reverse=way == "descending")
    few = page.locator("table.dataframe:not(:has(tbody tr:nth-child(8)))")
    assert few.count() > 0
    assert few.locator("th > button").count() == 0
    assert overflow(page) <= 0


# --- tables of sentences ----------------------------------------------------------------------------------------------


def test_a_table_of_verdicts_fits_and_loses_nothing(page: Any) -> None:
    """Reasons stand below the numbers of their row; on a telephone rows are lists of named entries."""
    stored = BeautifulSoup((SITE / VERDICTS).read_text("utf-8"), "html.parser")
    head = ["verdict", "estimate, 95 %", "p", "seeds", "MDE", "margin", "reason"]
    (frame, *_) = [t for t in stored.select("table.dataframe") if t.thead and "MDE" in t.thead.get_text()]
    page.goto(VERDICTS)
    table = page.locator("table.dataframe", has_text="MDE").first
    for row in frame.select("tbody tr"):
        texts = [" ".join(c.get_text().split()) for c in row.select("td")]
        if texts[-1]:
            assert table.locator("tr.reason td[data-name='reason']", has_text=texts[-1]).count() >= 1
    assert table.locator("tr.reason").count() == len(frame.select("tbody tr"))
    assert [str(x).replace("\u00a0", " ") for x in table.evaluate(
        "t => [...new Set([...t.querySelectorAll('td')].map((c) => c.dataset.name))]"
    )] == head  # fmt: skip
    assert table.locator("thead").is_visible() == (page.viewport_size["width"] > 600)
    assert table.evaluate("t => t.scrollWidth - t.clientWidth") <= 1


@without_script
def test_a_table_of_verdicts_is_whole_without_a_script(page: Any) -> None:
    page.goto(VERDICTS)
    heads = page.locator("table.dataframe", has_text="MDE").first.locator("thead")
    assert heads.is_visible()
    assert "reason" in heads.inner_text()
