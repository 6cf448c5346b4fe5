"""The ledger of the report's page: each figure as printed, with official weights, and from this training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.html_tables import MISSING, Cell, Column, table, text
from benchmarks.report_data import Report

PUBLISHED = Path(__file__).with_name("published.yaml")
RECORD = "ledger.json"  # of `python -m benchmarks ledger`: a list of flat records
HEADS = {
    "title": "method", "method": "method", "dataset": "data set", "paper": "paper", "official": "official weights",
    "ours": "ours", "sd": "sd of seeds", "seeds": "seeds", "commit": "commit", "device": "device",
}  # fmt: skip


NO_FIGURE = '<span class="none" title="no figure" aria-label="no figure">–</span>'


def _cell(name: str, value: Any) -> Cell:
    """Return the cell of any value of a flat record."""
    if value is None or value == "":
        return Cell(MISSING if name == "ours" else NO_FIGURE)
    if isinstance(value, float):
        return Cell(f"{value:.2f}", value)
    if isinstance(value, list):
        return text(", ".join(map(str, value)))
    return Cell(str(value), value) if isinstance(value, int) else text(value)


def own_rows(report: Report) -> list[dict[str, Any]]:
    """Return the rows of our trainings, and of the published figures of the same methods, where no ledger is recorded.

    A published figure stands in a row of its own: the data set's printed name need not mean the same test faces.
    """
    rows: list[dict[str, Any]] = []
    published = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")) or {}
    titles: dict[str, str] = {}
    for comparison in report.comparisons:
        for entry in comparison.entries:
            titles.setdefault(entry.first["method"], entry.first["title"])
            rows.append({
                "title": entry.label, "dataset": comparison.title, "paper": None, "official": None,
                "ours": entry.metrics["nme"], "sd": entry.sd, "seeds": entry.seeds,
                "commit": entry.first.get("commit"), "device": entry.first.get("device"),
            })  # fmt: skip
    for method, title in titles.items():
        for figure in published.get(method) or []:
            if isinstance(figure, dict) and isinstance(figure.get("nme"), float | int):
                rows.append({"title": title, "dataset": figure.get("dataset"), "paper": float(figure["nme"]),
                             "official": None, "ours": None})  # fmt: skip
    return sorted(rows, key=lambda row: str(row["title"]))


def ledger_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table of flat records; the columns are the records' keys."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row)
             if any(row.get(name) not in (None, "", []) for row in rows)]  # fmt: skip
    names = [name for name in names if name != "method" or "title" not in names]
    numeric = {name: any(isinstance(row.get(name), float | int) for row in rows) for name in names}
    columns = [Column(HEADS.get(name, name.replace("_", " ")), numeric=numeric[name]) for name in names]
    return table(columns, [[_cell(name, row.get(name)) for name in names] for row in rows],
                 "NME in percent, each under the protocol of its source")  # fmt: skip


def ledger(report: Report) -> str:
    """Return the ledger, empty where nothing is recorded."""
    path = report.folder / RECORD
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else own_rows(report)
    return ledger_table(rows) if rows else ""
