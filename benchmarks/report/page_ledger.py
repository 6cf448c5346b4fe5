"""The ledger on the report's page: paper, released weights and our training side by side; what papers print; costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.published.figures import Figure, read_published
from benchmarks.published.ledger import COLUMNS, cost_figures, ledger_rows, plain, titles
from benchmarks.report.model import Report
from benchmarks.report.page_tables import MISSING, Cell, Column, table, text

NO_FIGURE = '<span class="none" title="no figure" aria-label="no figure">–</span>'
NUMERIC = ("paper", "official", "ours", "sd", "gap")
HINTS = {
    "official": "NME of the authors' released weights or predictions, scored by our canonical protocol",
    "ours": "Mean NME of our trainings over their seeds, canonical protocol",
    "gap": "Ours minus the paper's, where both have one normaliser",
}  # fmt: skip
PUBLISHED_HEADS = ("method", "data set", "variant", "NME", "FR", "AUC", "normaliser", "threshold", "source", "remark")
COST_HEADS = ("method", "what", "params, M", "MACs, G", "ms", "frames a second", "machine", "source")


def _cell(row: Mapping[str, Any], key: str) -> Cell:
    """Return a cell of the ledger."""
    value = row.get(key)
    if value is None or value == "" or value == []:
        return Cell(MISSING if key == "ours" else NO_FIGURE if key in NUMERIC else "")
    shown = plain(dict(row), key)
    if key == "remark":
        return Cell(f'<span class="mark same">{escape(shown)}</span>', shown)
    return Cell(escape(shown).replace("-", "−") if key == "gap" else escape(shown),
                float(value) if key in NUMERIC else shown)  # fmt: skip


def ledger_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the ledger; columns in which no row has anything are left out."""
    shown = [(key, head) for key, head in COLUMNS if any(row.get(key) not in (None, "", []) for row in rows)]
    columns = [Column(head, HINTS.get(key, ""), numeric=key in NUMERIC) for key, head in shown]
    caption = "NME in percent; a gap is told only where both figures have one normaliser"
    return table(columns, [[_cell(row, key) for key, _ in shown] for row in rows], caption)


def remark(figure: Figure) -> str:
    """Return what a reader of a published figure must know."""
    if figure.facts.get("slip"):
        return f"cannot be: {figure.facts['slip']}"
    if not figure.remembered:
        return ""
    return f"from memory, check before quoting: {', '.join(figure.remembered)}"


def published_rows(names: Mapping[str, str]) -> list[list[Cell]]:
    """Return the rows of published figures over full test sets.

    Args:
        names: method -> how tables call it.
    """
    rows = []
    for figure in read_published():
        if figure.method not in names or figure.subset != "full" or "nme" not in figure.values:
            continue
        numbers = [Cell(value.text, float(value)) if (value := figure.values.get(key)) is not None else Cell(NO_FIGURE)
                   for key in ("nme", "fr", "auc")]  # fmt: skip
        limit = Cell(NO_FIGURE) if figure.threshold is None else Cell(f"{figure.threshold:g} %", figure.threshold)
        places = ": ".join(filter(None, (figure.facts.get("source"), figure.facts.get("table"))))
        word = remark(figure)
        rows.append([
            text(names[figure.method]), text(figure.dataset), text(figure.facts.get("variant", "")), *numbers,
            text(figure.facts.get("normaliser", "")), limit, text(places),
            Cell(f'<span class="mark same">{escape(word)}</span>', word) if word else Cell("", ""),
        ])  # fmt: skip
    return sorted(rows, key=lambda row: (str(row[0].value), str(row[1].value)))


def cost_rows(names: Mapping[str, str]) -> list[list[Cell]]:
    """Return sizes and times of the authors' own implementations, each on its own machine."""
    rows = []
    for figure in cost_figures(names):
        numbers = [Cell(value.text, float(value)) if (value := figure.values.get(key)) is not None else Cell(NO_FIGURE)
                   for key in ("params", "macs", "ms", "fps")]  # fmt: skip
        places = ": ".join(filter(None, (figure.facts.get("source"), figure.facts.get("table"))))
        rows.append([text(names[figure.method]), text(figure.facts.get("protocol", "")), *numbers,
                     text(figure.facts.get("machine", "")), text(places)])  # fmt: skip
    return rows


def _folded(title: str, content: str) -> str:
    return f'<details class="cards"><summary>{escape(title)}</summary>{content}</details>'


def _named(heads: Sequence[str], numeric: Sequence[str]) -> list[Column]:
    return [Column(head, numeric=head in numeric) for head in heads]


def ledger(report: Report) -> str:
    """Return the ledger and what the methods' papers print, empty where nothing was trained or scored."""
    if not report.comparisons:
        return ""
    known = titles(report)
    parts = [ledger_table(ledger_rows(report))]
    if published := published_rows(known):
        caption = "NME, FR and AUC in percent over the full test sets; not to be compared across normalisers"
        columns = _named(PUBLISHED_HEADS, ("NME", "FR", "AUC", "threshold"))
        parts.append(_folded("Figures as published", table(columns, published, caption)))
    if costs := cost_rows(known):
        caption = "Authors' own implementations, as published or measured apart from this benchmark; machines differ"
        columns = _named(COST_HEADS, ("params, M", "MACs, G", "ms", "frames a second"))
        parts.append(_folded("Reference implementations: size and time", table(columns, costs, caption)))
    return "".join(parts)
