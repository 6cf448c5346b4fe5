"""Fill the figures of docs/studies/dpr.md from the records.

python -m benchmarks.studies.dpr.readme [--speed FILE] [--ablation FILE].
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.provenance import ROOT
from benchmarks.readme import NOT_MEASURED, fill, table
from benchmarks.studies.dpr.ablation import CELLS, RECORD, Row, read_record
from benchmarks.studies.dpr.speed import BATCH
from benchmarks.studies.dpr.speed import RECORD as SPEED
from common.errors import LabError, command
from common.metrics.stats import bootstrap_interval

PAGE = ROOT / "docs" / "studies" / "dpr.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
REFERENCE = "plain"  # cell that the others are compared with


def speed_text(path: Path) -> str:
    """Return the section on speed.

    Raises:
        LabError: the file is damaged.
    """
    if not path.is_file():
        return f"{NOT_MEASURED}: `python -m benchmarks.studies.dpr.speed`."
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
        return f"{NOT_MEASURED}: `python -m benchmarks.studies.dpr.ablation`."
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
    text = (f"### Speed on a CPU\n\n{speed_text(options.speed)}\n\n### Landmark weighting\n\n"
            f"{ablation_text(options.ablation)}")  # fmt: skip
    fill(options.document, BEGIN, END, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
