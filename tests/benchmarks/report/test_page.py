"""The report's page: its text as it stands, and in a real browser, where it renders, sorts and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.report import build
from benchmarks.report.charts import BOTTOM, RIGHT, TOP, Axis, Chart, front, log_ticks, ticks
from benchmarks.report.model import read_report
from benchmarks.report.page import TEMPLATES, page
from benchmarks.report.sections import reproduction
from tests.benchmarks import made_up
from tests.benchmarks.made_up import append_record
from tests.conftest import needs_shared

VOID = {"meta", "link", "img", "br"}
SHAPES = {"path", "rect"}


class Reader(HTMLParser):
    """Checks nesting and collects what a page names: ids, addresses, headings, pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[int] = []
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(str(values["id"]))
        self.addresses += [str(values[name]) for name in ("src", "href") if name in values]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if (tag == "img" and not values.get("alt")) or (values.get("role") == "img" and not values.get("aria-label")):
            self.unnamed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES, f"<{tag}/> does not close itself in HTML"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"


def luminance(color: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours (WCAG 2)."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a whole benchmark's page; one row was not timed."""
    folder = made_up.write_benchmark(tmp_path_factory.mktemp("benchmark"))
    append_record(folder / "records.jsonl", made_up.record(folder, "dpr", speed={}))
    build.write(folder, None)
    return folder / "report.html"


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return written.read_text(encoding="utf-8")


def test_the_page_is_sound(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert reader.open == [] and len(set(reader.ids)) == len(reader.ids) and reader.unnamed == []
    anchors = [address[1:] for address in reader.addresses if address.startswith("#")]
    assert anchors and set(anchors) <= set(reader.ids)
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    assert reader.headings[0] == 1 and reader.headings.count(1) == 1
    steps = zip(reader.headings, reader.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps), "a level of headings is left out"


def test_names_are_escaped(text: str) -> None:
    assert "MuSiCa &lt;with &amp; marks&gt;" in text and "<with" not in text


def test_figures_stand_in_the_page(text: str) -> None:
    nme = made_up.nmes("sdu3d").mean()
    assert f">{nme:.2f}</span><span" in text and "not significantly different</span>" in text
    for title in ("Results: synthetic", "Results: helen", "Accuracy against cost", "Robustness", "Risk and coverage",
                  "Faces", "HELEN references", "Reproduction", "Machines"):  # fmt: skip
        assert f"{title}</h2>" in text, title
    assert text.count("data:image/webp") == 8 * len(made_up.METHODS)
    assert "Rows differ in box" in text and "A made-up processor" in text
    worst = sorted(made_up.nmes("awing"))[-1]
    assert f'alt="worst face 1 of AWing, NME {worst:.1f} %"' in text


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    empty = page(read_report(tmp_path))
    assert "No trial has been measured yet" in empty and "<svg" not in empty and "<table" not in empty
    append_record(
        tmp_path / "records.jsonl", made_up.record(tmp_path, "spiga", speed={}, predictions=None, pictures=None)
    )
    alone = page(read_report(tmp_path))
    for title in ("Accuracy against cost", "Robustness", "Risk and coverage", "Faces", "Machines"):
        assert f"{title}</h2>" not in alone
    assert ">params</th>" not in alone and "All others" not in alone and ">3.49<" in alone


def test_reproduced_figures_stand_beside_what_papers_print(text: str) -> None:
    """Paper, official weights under our metric and our training of one method; slips and memory are marked."""
    found = text[text.index('id="reproduction"') :]
    ours = f"{made_up.nmes('spiga').mean():.2f}"
    assert all(f"<span>{figure}</span>" in found for figure in ("4.36", "3.43", ours))
    assert "Figures as published</summary>" in found and "cannot be: 154 of 2501 faces" in found
    assert "from memory, check before quoting: fr, auc" in found
    assert "Reference implementations: size and time</summary>" in found and "iPhone 6S, MNN" in found


def test_nothing_is_reproduced_without_records(tmp_path: Path) -> None:
    assert reproduction(read_report(tmp_path)) is None


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    """Each text of each record, and each key, holds a tag that would run a script."""
    evil = "\"'><img src=x onerror=pwn()><script>pwn()</script>"
    made = made_up.record(tmp_path, "spiga")
    texts = ("title", "method", "dataset", "recipe", "commit", "device", "date", "torch", "pictures", "cell")
    made |= {name: evil for name in texts} | {"card": made["card"] | {evil: evil, "box": evil}}
    made["metrics"] |= {f"{evil}/nme": 1.0}
    made["speed"]["machine"] = {evil: evil}
    append_record(tmp_path / "records.jsonl", made)
    append_record(
        tmp_path / "records.jsonl", made | {"cell": "b", "recipe": "b", "card": made["card"] | {"flip": evil}}
    )
    shift = {"method": evil, "title": evil, "dataset": evil, "kind": evil, "unit": evil, "level": 0.1, "nme": 1.0}
    for number, more in enumerate(({}, {"level": 0.2}, {"kind": "flicker"})):
        append_record(tmp_path / "robustness.jsonl", shift | {"cell": str(number)} | more)
    (tmp_path / "helen.json").write_text(json.dumps({evil: {"nme": 1.0, "fr8": 1.0, "auc8": 1.0, "n": 3}}))
    found = page(read_report(tmp_path))
    reader = Reader()
    reader.feed(found)
    assert reader.open == [] and "<img" not in found and found.count("<script") == 1
    assert found.count("&lt;img src=x onerror=pwn()&gt;") > 20


@needs_shared
def test_the_recorded_attack_is_text(shared_dir: Path, tmp_path: Path) -> None:
    shutil.copy(shared_dir / "cases/faults/xss_robustness.jsonl", tmp_path / "robustness.jsonl")
    assert "<img" not in page(read_report(tmp_path))


def test_only_the_page_s_own_script_may_run(text: str) -> None:
    """The policy names the hashes of the one style and the one script, and allows nothing else inline."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and "unsafe" not in policy[1] and "default-src 'none'" in policy[1]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_ticks_are_round() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10] and ticks(0, 0.2, 4) == [0, 0.05, 0.1, 0.15, 0.2]
    assert ticks(2.7, 6.4, 4) == [3, 4, 5, 6]
    assert log_ticks(0.9, 21) == [1, 2, 5, 10, 20] and log_ticks(0.01, 1000) == [0.01, 0.1, 1, 10, 100, 1000]


def test_charts_put_values_where_the_axes_say() -> None:
    chart = Chart("c", "t", Axis("x", 1, 100, log=True), Axis("y", 0, 10), 300, 160)
    assert (chart.px(1), chart.px(100)) == (chart.left, chart.right) and chart.right == 300 - RIGHT
    assert chart.px(10) == pytest.approx((chart.left + chart.right) / 2)
    assert (chart.py(0), chart.py(10)) == (160 - BOTTOM, TOP)
    chart.line("a", 0, [1, 100], [0, 10])
    assert chart.strokes[0].path == f"M{chart.left:.1f} {160 - BOTTOM}.0L{chart.right}.0 {TOP}.0"


def test_the_axis_title_has_room_beside_its_labels() -> None:
    left = [Chart("c", "t", Axis("x", 0, 1), Axis("y", 0, high)).left for high in (10, 1000)]
    assert left[1] - left[0] >= 2 * 7, "two more digits"


def test_the_front_is_what_nothing_cheaper_matches() -> None:
    assert front([(3, 2.0), (1, 5.0), (2, 6.0), (4, 2.0), (5, 1.0)]) == [(1, 5.0), (3, 2.0), (5, 1.0)]


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_can_be_read(theme: int) -> None:
    """Text keeps a contrast of 4.5, drawn series 3 (WCAG 2.2, AA), in both themes."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    colors = {name: pair.split(", ")[theme] for name, pair in re.findall(r"--([\w-]+): light-dark\((#.*?)\);", style)}
    for name in ("ink", "soft", "link"):
        assert min(contrast(colors[name], colors[back]) for back in ("paper", "wash")) >= 4.5, name
    for name in ("good", "bad", "same"):
        assert contrast(colors[name], colors[f"{name}-wash"]) >= 4.5, name
    for k in range(8):
        assert contrast(colors[f"s{k}"], colors["paper"]) >= 3, k
