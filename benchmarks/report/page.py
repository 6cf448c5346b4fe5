"""One self-contained page from a report: no network, readable without its script, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template

from benchmarks.report import page_sections as sections
from benchmarks.report.model import Report
from benchmarks.report.page_ledger import ledger

ASSETS = Path(__file__).with_name("templates")
COMMAND = "<p>No cell has been measured yet. <code>make benchmark</code> trains and compares the methods.</p>"

# Title, what it is about, and what makes its content; a section without content is left out.
SECTIONS: tuple[tuple[str, str, Callable[[Report], str]], ...] = (
    ("Accuracy against cost", "What an error costs in multiply-adds and in time on this machine.", sections.cost),
    ("Robustness", "Wrong boxes and bad pictures, drawn from the same seeds for every method. The scales of the error "
     "differ from chart to chart.", sections.robustness),
    ("Risk and coverage", "The error when only the faces are kept of which a method is surest.", sections.risk),
    ("Faces", "The faces with the largest errors, and faces in the middle of the order.", sections.faces),
    ("HELEN references", "Our runs beside published predictions and a baseline, by one metric.", sections.references),
    ("Ledger", "What was trained here, and what papers print and official weights give.", ledger),
    ("Machines", "What the timings were measured on.", sections.machines),
)  # fmt: skip


def _section(title: str, about: str, content: str) -> str:
    name = sections.anchor(title)
    intro = f'<p class="about">{escape(about)}</p>' if about else ""
    head = f'<h2 id="{name}-head">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-head">{head}{intro}{content}</section>'


def _facts(report: Report) -> str:
    """Return the line below the title: what was run, when, where."""
    records = [record for comparison in report.comparisons for entry in comparison.entries for record in entry.records]
    if not records:
        return ""
    methods = len({record.method for record in records})
    data = len({record.dataset for record in records})
    dates = sorted(record.date[:10] for record in records if record.date)
    commits = list(dict.fromkeys(record.commit for record in records if record.commit))
    devices = list(dict.fromkeys(record.device for record in records if record.device))

    def plural(number: int, word: str) -> str:
        return f"{number} {word}{'s' if number != 1 else ''}"

    facts = [f"{plural(methods, 'method')} on {plural(data, 'data set')}, {plural(len(records), 'training')}"]
    if dates:
        facts.append(dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")
    if commits:
        facts.append(f"{'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}")
    facts += devices
    return f'<ul class="facts">{"".join(f"<li>{escape(fact)}</li>" for fact in facts)}</ul>'


def page(report: Report) -> str:
    """Return the page."""
    parts = [
        (f"Results: {comparison.title}", "", sections.dataset(report, comparison, number))
        for number, comparison in enumerate(report.comparisons)
    ]
    if not parts:
        parts.append(("Results", "", COMMAND))
    parts += [(title, about, content) for title, about, make in SECTIONS if (content := make(report))]
    contents = "".join(f'<li><a href="#{sections.anchor(title)}">{escape(title)}</a></li>' for title, _, _ in parts)
    read = {name: (ASSETS / f"report.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    return Template(read["html"]).substitute(
        style=read["css"], script=read["js"], facts=_facts(report), contents=contents,
        main="".join(_section(*part) for part in parts),
    )  # fmt: skip
