"""The ledger of the report's page: each figure as printed, with official weights, and from this training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from benchmarks.html_tables import MISSING, Cell, Column, table, text
from benchmarks.report_data import Report

PUBLISHED = Path(__file__).with_name("published.yaml")
RECORD = "ledger.json"  # of `python -m benchmarks ledger`: a list of flat records
HEADS = {
    "title": "method", "dataset": "data set", "official": "official weights", "sd": "sd of seeds", "fr": "FR",
    "auc": "AUC",
}  # fmt: skip
NO_FIGURE = '<span class="none" title="no figure" aria-label="no figure">–</span>'


def _cell(name: str, value: Any) -> Cell:
    """Return the cell of any value of a flat record."""
    if value is None or value == "":
        return Cell(MISSING if name == "ours" else "" if name == "remark" else NO_FIGURE)
    if isinstance(value, float):
        return Cell(f"{value:.2f}" if name in ("ours", "sd") else f"{value:g}", value)
    if isinstance(value, list):
        return text(", ".join(map(str, value)))
    if name == "remark":
        return Cell(f'<span class="mark same">{escape(str(value))}</span>', str(value))
    return Cell(str(value), value) if isinstance(value, int) else text(value)


def own_rows(report: Report) -> list[dict[str, Any]]:
    """Return the rows of our trainings."""
    return [
        {
            "title": entry.label, "dataset": comparison.title, "ours": entry.metrics["nme"], "sd": entry.sd,
            "seeds": entry.seeds, "commit": entry.first.get("commit"), "device": entry.first.get("device"),
        }
        for comparison in report.comparisons
        for entry in comparison.entries
    ]  # fmt: skip


def _remark(figure: dict[str, Any]) -> str:
    """Return what a reader of a published figure must know."""
    if figure.get("slip"):
        return f"cannot be: {figure['slip']}"
    marked = figure.get("remembered")
    if not marked:
        return ""
    return "from memory, check before quoting" + (f": {', '.join(marked)}" if isinstance(marked, list) else "")


def published_rows(titles: dict[str, str]) -> list[dict[str, Any]]:
    """Return the published figures of methods.

    Args:
        titles: method -> how tables call it.
    """
    published = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")) or {}
    rows = []
    for method, title in titles.items():
        for figure in published.get(method) or []:
            if not isinstance(figure.get("nme"), float | int):
                continue
            official = figure.get("evidence") == "measured"  # from released weights or predictions
            places = (figure.get("source"), figure.get("table"))
            rows.append({
                "title": title, "dataset": figure.get("dataset"), "variant": figure.get("variant"),
                "paper": None if official else float(figure["nme"]),
                "official": float(figure["nme"]) if official else None, "fr": figure.get("fr"),
                "auc": figure.get("auc"), "normaliser": figure.get("normaliser"),
                "threshold": figure.get("threshold"), "source": ": ".join(str(place) for place in places if place),
                "remark": _remark(figure),
            })  # fmt: skip
    return sorted(rows, key=lambda row: (str(row["title"]), str(row["dataset"])))


def ledger_table(rows: Sequence[dict[str, Any]], caption: str) -> str:
    """Return a table of flat records; the columns are the records' keys of which any has a value."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row)
             if any(row.get(name) not in (None, "", []) for row in rows)]  # fmt: skip
    names = [name for name in names if name != "method" or "title" not in names]
    numeric = {name: any(isinstance(row.get(name), float | int) for row in rows) for name in names}
    columns = [Column(HEADS.get(name, name.replace("_", " ")), numeric=numeric[name]) for name in names]
    return table(columns, [[_cell(name, row.get(name)) for name in names] for row in rows], caption)


def ledger(report: Report) -> str:
    """Return the ledger and what the methods' papers print, empty where nothing is recorded."""
    path = report.folder / RECORD
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else own_rows(report)
    if not rows:
        return ""
    entries = [entry for comparison in report.comparisons for entry in comparison.entries]
    parts = [ledger_table(rows, "NME in percent, each under the protocol of its source")]
    if published := published_rows({entry.first["method"]: entry.first["title"] for entry in entries}):
        caption = "NME, FR and AUC in percent over the full test sets; not to be compared across normalisers"
        parts.append('<details class="cards"><summary>Figures as published</summary>'
                     f"{ledger_table(published, caption)}</details>")  # fmt: skip
    return "".join(parts)
