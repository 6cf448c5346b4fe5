"""Tables from records; no figure is ever typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[k]) for row in table) for k in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in table]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def figure(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def comparison(records: Sequence[dict[str, Any]]) -> str:
    """Return the comparison of finished records: one row per method and subset, percent, one protocol."""
    header = ("method", "subset", "NME", "FR", "AUC", "parameters", "MACs", "ms/face b1", "ms/face b8")
    rows = []
    for record in records:
        metrics, speed = record["metrics"], record["speed"]
        subsets = sorted({key.rsplit("/", 1)[0] for key in metrics if "/" in key})
        size = (f"{speed['parameters'] / 1e6:.2f} M", f"{speed['macs'] / 1e9:.2f} G",
                figure(speed["ms_per_face_b1"], 1), figure(speed["ms_per_face_b8"], 1))  # fmt: skip
        for subset in ["", *subsets]:
            key = f"{subset}/" if subset else ""
            figures = [figure(metrics.get(f"{key}{name}")) for name in ("nme", "fr", "auc")]
            rows.append((record["title"], subset or "all", *figures, *(size if not subset else ("",) * 4)))
    return markdown(header, rows)
