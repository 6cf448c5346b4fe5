"""Fill the figures of docs/studies/dpr.md from the records.

python -m benchmarks.studies.dpr.readme [--speed FILE] [--ablation FILE].
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.provenance import ROOT
from benchmarks.readme import fill, table
from benchmarks.studies.dpr.ablation import CELLS, RECORD, Row, read_record
from benchmarks.studies.dpr.speed import BATCH
from benchmarks.studies.dpr.speed import RECORD as SPEED
from common.errors import LabError, command
from common.metrics.stats import bootstrap_interval

PAGE = ROOT / "docs" / "studies" / "dpr.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
SPEED_PART, ABLATION_PART = "Speed on a CPU", "Landmark weighting"
REFERENCE = "plain"  # cell that the others are compared with


def speed_text(path: Path) -> str:
    """Return the section on speed.

    Raises:
        LabError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            [name.upper(), f"{row['released_ms']:.1f}", f"{row['fast_ms']:.1f}", f"{row['ratio']:.1f}",
             f"{row['fast_batch_ms']:.1f}", f"{row['ratio_batch']:.1f}"]
            for name, row in ((name, found[name]) for name in ("gsr", "glsr"))
        ]  # fmt: skip
        caption = (f"{found['points']} points, threads: {found['threads']}; medians of calls that took turns, by "
                   "default in the faster runtime.")  # fmt: skip
    except (json.JSONDecodeError, KeyError, TypeError):
        raise LabError(f"{path}: is no record of python -m benchmarks.studies.dpr.speed; run it again") from None
    head = ["stage", "official way, ms", "by default, ms", "times as fast", f"in batches of {BATCH}, ms a face",
            "times as fast"]  # fmt: skip
    return f"{caption}\n\n{table(head, rows)}"


def _ablation_row(cell: str, stage: str, own: list[Row], reference: list[Row]) -> list[str]:
    """Return a line: mean over seeds, and the paired difference to the reference over faces and shared seeds."""
    nmes = [row[stage]["nme"] for row in own]
    plain = {row["seed"]: np.array(row[stage]["faces"]) for row in reference if stage in row}
    pairs = [np.array(row[stage]["faces"]) - plain[row["seed"]] for row in own if row["seed"] in plain]
    difference = ""
    if pairs and cell != REFERENCE:
        low, high = bootstrap_interval(np.mean(pairs, axis=0))
        difference = f"{np.mean(pairs):+.3f} [{low:+.3f}, {high:+.3f}]"
    settings = f"weighting {own[0]['weighting']}"
    return [cell, settings, stage.upper(), str(len(own)), f"{np.mean(nmes):.3f}", difference]


def ablation_text(path: Path) -> str:
    """Return the section on the ablation: the cells of the recipe and overrides that have the most lines."""
    rows = read_record(path)
    if not rows:
        return "Not run yet: `python -m benchmarks.studies.dpr.ablation`."
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row["recipe"], row["set"], row["split"]]), []).append(row)
    chosen = max(groups.values(), key=len)
    lines = []
    for cell in CELLS:
        own = [row for row in chosen if row["cell"] == cell]
        for stage in ("gsr", "glsr"):
            if own and all(stage in row for row in own):
                reference = [row for row in chosen if row["cell"] == REFERENCE]
                lines.append(_ablation_row(cell, stage, own, reference))
    first = chosen[0]
    changes = f" with {', '.join(first['set'])}" if first["set"] else ""
    head = ["form", "settings", "stage", "seeds", "NME, percent", "difference to plain, 95 % interval over faces"]
    return f"`{first['recipe']}`{changes}, faces of {first['split']}.\n\n{table(head, lines)}"


def kept(page: str, title: str, path: Path) -> str:
    """Return what a page has in a part whose record is not here, and say so: figures are not dropped in silence."""
    print(f"{path}: no such record; the figures of {title!r} stay as they are", file=sys.stderr)
    found = re.search(rf"^### {title}\n\n(.*?)\s*(?=^### |{END})", page, re.M | re.S)
    return found[1] if found else "Not measured yet."


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.dpr.readme", description="Fill the figures of docs/studies/dpr.md."
    )
    parser.add_argument("--speed", type=Path, default=SPEED, help="record of python -m benchmarks.studies.dpr.speed")
    parser.add_argument(
        "--ablation", type=Path, default=RECORD, help="record of python -m benchmarks.studies.dpr.ablation"
    )
    parser.add_argument("--document", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    page = options.document.read_text(encoding="utf-8") if options.document.is_file() else ""
    parts = {SPEED_PART: (options.speed, speed_text), ABLATION_PART: (options.ablation, ablation_text)}
    bodies = {title: make(path) if path.is_file() else kept(page, title, path) for title, (path, make) in parts.items()}
    text = "\n\n".join(f"### {title}\n\n{body}" for title, body in bodies.items())
    fill(options.document, BEGIN, END, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
