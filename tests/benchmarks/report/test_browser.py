"""The report's page in a real browser: it renders, fits, sorts, prints, can be read, and asks for nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import build
from tests.benchmarks import made_up
from tests.benchmarks.made_up import append_record

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a whole benchmark's page; one row was not timed."""
    folder = made_up.write_benchmark(tmp_path_factory.mktemp("benchmark"))
    append_record(folder / "records.jsonl", made_up.record(folder, "dpr", speed={}))
    build.write(folder, None)
    return folder / "report.html"


def driver() -> Any:
    """Return a headless browser that reaches this machine alone; skip without one, fail under CI."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    service = shutil.which("chromedriver")
    if browser is None or service is None:
        reason = "no browser here: install chromium and chromium-driver to test the report's page"
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    only_here = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000",
                     "--disable-background-networking", only_here):  # fmt: skip
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=service))


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    found = driver()
    yield found
    found.quit()


@pytest.fixture
def browser(started: Any, written: Path) -> Any:
    """Open the page in its first state."""
    started.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    theme(started, "light")
    started.get(written.as_uri())
    started.execute_script("localStorage.clear()")
    started.get_log("browser")
    started.get_log("performance")
    started.refresh()
    return started


def theme(browser: Any, name: str) -> None:
    """Make the browser ask for a theme, as a reader's system does."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def column(browser: Any, name: str) -> tuple[Any, Any, int]:
    """Return the first table that sorts, its head of a name, and the head's place."""
    table = browser.find_element("css selector", "table.sort")
    heads = table.find_elements("css selector", "thead th")
    place = [head.text.split("\n")[0].strip() for head in heads].index(name)
    return table, heads[place], place


def order(browser: Any) -> list[str]:
    rows = browser.find_elements("css selector", "table.sort:first-of-type tbody th")
    table = rows[0].find_element("xpath", "ancestor::table")
    return [row.get_attribute("data-value") for row in table.find_elements("css selector", "tbody th")]


def test_the_page_renders_without_a_word(browser: Any) -> None:
    """Everything is laid out, nothing is said on the console, and nothing but the page itself is asked for."""
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
    assert sum(url.startswith("file:") for url in asked) == 1
    broken = "return [...document.images].filter((i) => !i.complete || i.naturalWidth === 0).length"
    assert browser.execute_script(broken) == 0
    flat = (
        "return [...document.querySelectorAll('svg')].filter((s) => s.checkVisibility() && s.clientHeight < 10).length"
    )
    assert browser.execute_script(flat) == 0
    charts = [chart for chart in browser.find_elements("css selector", "svg.chart") if chart.is_displayed()]
    assert len(charts) == 2 + 2 + len(made_up.KINDS) + 1
    assert all(chart.size["height"] > 100 for chart in charts)


def test_tables_sort_by_click(browser: Any) -> None:
    titles = {method: values[0] for method, values in made_up.METHODS.items()}
    best_first = [titles[m] for m in ("spiga", "awing", "sdu3d", "dpr", "musica")]
    assert order(browser) == best_first
    _, head, _ = column(browser, "params")
    button = head.find_element("tag name", "button")
    button.click()
    by_size = [titles[m] for m in ("musica", "awing", "sdu3d", "spiga")]
    assert order(browser) == [*by_size, titles["dpr"]] and head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert order(browser) == [*by_size[::-1], titles["dpr"]] and head.get_attribute("aria-sort") == "descending"
    _, name, _ = column(browser, "method")
    name.find_element("tag name", "button").send_keys("\n")  # the keyboard does it too
    assert order(browser) == sorted(titles.values()) and head.get_attribute("aria-sort") is None
    assert browser.find_element("css selector", "[role=status]").get_attribute("textContent") == (
        "sorted by method, ascending"
    )
    assert browser.get_log("browser") == []


def test_every_column_sorts(browser: Any) -> None:
    """Numbers sort as numbers, words as words, and what was not measured stays last."""
    script = """
    const wrong = [];
    for (const table of document.querySelectorAll("table.sort")) {
      const heads = [...table.querySelectorAll("thead th")];
      heads.forEach((head, k) => ["ascending", "descending"].forEach((way) => {
        head.querySelector("button").click();
        const found = [...table.tBodies[0].rows].map((row) => row.cells[k].dataset.value);
        const known = found.filter((value) => value !== undefined);
        const sorted = [...known].sort((a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
        if (way === "descending") sorted.reverse();
        const last = found.slice(known.length).every((value) => value === undefined);
        if (head.ariaSort !== way || !last || known.join() !== sorted.join()) wrong.push([head.textContent, way]);
      }));
    }
    return [document.querySelectorAll("table.sort thead th").length, wrong];"""
    count, wrong = browser.execute_script(script)
    assert count > 40 and wrong == []


def test_the_pair_table_does_not_sort(browser: Any) -> None:
    assert browser.execute_script("return document.querySelectorAll('table:not(.sort) button').length") == 0


def test_both_themes(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    paper = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(paper) == "rgb(255, 255, 255)"
    theme(browser, "dark")
    assert browser.execute_script(paper) == "rgb(20, 23, 28)"
    toggle = browser.find_element("id", "theme")
    # The page hears of the system's theme by an event, which comes after the style has changed.
    WebDriverWait(browser, 10).until(lambda _: toggle.text == "Light theme", "the button keeps its old name")
    toggle.click()
    assert browser.execute_script(paper) == "rgb(255, 255, 255)" and toggle.text == "Dark theme"
    browser.refresh()
    assert browser.execute_script(paper) == "rgb(255, 255, 255)", "the reader's choice is kept"


def test_without_its_script_the_page_is_whole(browser: Any, written: Path) -> None:
    before = browser.execute_script("return document.querySelector('main').innerText.length")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(written.as_uri())
    assert browser.find_elements("css selector", "button") == []
    assert browser.find_element("css selector", "table.sort tbody th").is_displayed()
    assert browser.find_element("css selector", "svg.chart path.line").is_displayed()
    assert len(browser.find_element("tag name", "main").text) > 0.9 * before


# What is wrong with the page as it is laid out: parts cut without a sign, text over text, text outside its chart, and
# text of too little contrast (WCAG 2.2, AA: 4.5, of large letters 3).
LAYOUT = """
for (const part of document.querySelectorAll("details")) part.open = true;
dispatchEvent(new Event("resize"));
const cut = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && !e.closest("svg")
  && getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1
  && !(e.matches(".frame.cut") && e.previousElementSibling.matches(".hint:not([hidden])")))
  .map((e) => e.outerHTML.slice(0, 90));
const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, k, n) => sum + k * channel(c[n]), 0);
const color = (text) => text.match(/[0-9.]+/g).map(Number);
const behind = (e) => { for (; e; e = e.parentElement) { const c = color(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
const rects = [], pale = [], outside = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode());) {
  const e = node.parentElement, text = node.textContent.trim();
  if (!text || e.closest(".skip, script, title, dialog") || !e.checkVisibility()) continue;
  const look = getComputedStyle(e), svg = e.closest("svg");
  const [a, b] = [light(color(svg ? look.fill : look.color)), light(behind(e))].sort((x, y) => y - x);
  const size = parseFloat(look.fontSize), large = size >= 24 || (size >= 18.66 && look.fontWeight >= 700);
  if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) pale.push([text, look.color, (a + 0.05) / (b + 0.05)]);
  const range = document.createRange();
  range.selectNodeContents(node);
  const frame = e.closest(".frame")?.getBoundingClientRect();
  for (const r of range.getClientRects()) {
    const box = { text, node, left: r.left, right: r.right, top: r.top, bottom: r.bottom };
    if (frame) { box.left = Math.max(box.left, frame.left); box.right = Math.min(box.right, frame.right); }
    if (box.right - box.left > 1) rects.push(box);
    const room = svg?.getBoundingClientRect();
    if (room && (r.left < room.left - 1 || r.right > room.right + 1 || r.top < room.top - 1
      || r.bottom > room.bottom + 1)) outside.push(text);
  }
}
rects.sort((a, b) => a.top - b.top);
const over = [];
rects.forEach((a, k) => { for (let j = k + 1; j < rects.length && rects[j].top < a.bottom - 2; j++) {
  const b = rects[j];
  if (a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5) over.push([a.text, b.text]);
} });
return { width: document.documentElement.scrollWidth, texts: rects.length, cut, over, outside, pale };
"""


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_covered_or_pale(browser: Any, width: int, look: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    theme(browser, look)
    try:
        found = browser.execute_script(LAYOUT)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert found["width"] <= width and found["texts"] > 500
    assert [found[name] for name in ("cut", "over", "outside", "pale")] == [[]] * 4


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_prints_on_a4(browser: Any, look: str) -> None:
    """Within the margins of a sheet (186 mm) nothing is cut or covered; on white paper, and no column is empty."""
    size = {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": look}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    wide = "return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 704).length"
    empty = """return [...document.querySelectorAll("table")].filter((t) => t.checkVisibility()).flatMap((table) =>
      [...table.tHead.rows[0].cells].filter((head, k) => [...table.tBodies[0].rows].every((row) => row.cells[k]
        && !row.cells[k].innerText.trim() && ![...row.cells[k].children].some((e) => e.checkVisibility())))
      .map((head) => head.innerText))"""
    try:
        found = browser.execute_script(LAYOUT)
        assert found["width"] <= 703 and browser.execute_script(wide) == 0
        assert [found[name] for name in ("cut", "over", "outside", "pale")] == [[]] * 4
        assert browser.execute_script(empty) == []
        paper = "return getComputedStyle(document.body).backgroundColor"
        assert browser.execute_script(paper) == "rgb(255, 255, 255)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_face_is_enlarged_by_the_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    picture = browser.find_element("css selector", ".strips button")
    small = picture.find_element("tag name", "img").size["width"]
    picture.send_keys(Keys.ENTER)
    dialog = browser.find_element("tag name", "dialog")
    assert dialog.is_displayed() and dialog.find_element("tag name", "img").size["width"] > 2 * small
    assert "worst face 1" in dialog.text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed() and browser.get_log("browser") == []


def test_a_pointer_reads_the_curves(browser: Any) -> None:
    """At the middle of the curves the reading tells each method's share of faces there."""
    from selenium.webdriver import ActionChains

    chart = browser.find_element("id", "ced-0")
    ActionChains(browser).move_to_element(chart).perform()
    reading = chart.find_element("xpath", "following-sibling::div")
    lines = reading.text.split("\n")
    level = float(lines[0].removeprefix("at "))
    errors = made_up.nmes("musica")
    said = float(lines[lines.index(f"{made_up.METHODS['musica'][0]}") + 1])
    assert said == pytest.approx(100 * (errors <= level).mean(), abs=2.0)
    assert browser.get_log("browser") == []


def test_a_legend_lifts_its_series(browser: Any) -> None:
    from selenium.webdriver import ActionChains

    item = browser.find_element("css selector", "figure .legend li")
    ActionChains(browser).move_to_element(item).perform()
    figure = item.find_element("xpath", "ancestor::figure")
    lines = figure.find_elements("css selector", ".wide path.line")
    dim = [line.get_attribute("data-series") for line in lines if "dim" in line.get_attribute("class").split()]
    assert len(dim) == len(lines) - 1 and item.get_attribute("data-for") not in dim
