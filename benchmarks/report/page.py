"""One self-contained page from a report: no network, readable without its script, light and dark, printable."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.record import slug
from benchmarks.report import sections
from benchmarks.report.charts import TOP, mark
from benchmarks.report.model import Report
from benchmarks.report.tables import dataset

TEMPLATES = Path(__file__).with_name("templates")


def _allowed(text: str) -> str:
    """Return the policy's word for an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page(report: Report) -> str:
    """Return the page. No text of a record can become markup, and no script but the page's own runs."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["anchor"] = slug
    templates.globals |= {"mark": mark, "TOP": TOP}
    style, script = ((TEMPLATES / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_allowed(style)}; script-src {_allowed(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    results = [dataset(report, comparison, number) for number, comparison in enumerate(report.comparisons)]
    parts = {
        "cost": ("Accuracy against cost", sections.cost(report)),
        "robustness": ("Robustness", sections.robustness(report)),
        "risk": ("Risk and coverage", sections.risk(report)),
        "faces": ("Faces", sections.faces(report)),
        "references": ("HELEN references", sections.references(report)),
        "reproduction": ("Reproduction", sections.reproduction(report)),
        "machines": ("Machines", report.machines),
    }

    def contents() -> Iterator[str]:
        yield from (str(result["title"]) for result in results) if results else ("Results",)
        yield from (title for title, content in parts.values() if content)

    return templates.get_template("page.html.j2").render(
        policy=Markup(policy), style=Markup(style), script=Markup(script), facts=sections.facts(report),
        contents=list(contents()), results=results, **{name: content for name, (_, content) in parts.items()},
    )  # fmt: skip
