"""BENCHMARKS.md from the records in runs/benchmark: `python -m benchmarks report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.runner import read_records
from benchmarks.tables import comparison, markdown

ROOT = Path(__file__).resolve().parents[1]
TITLE = (
    "# Benchmarks\n\nWritten by `python -m benchmarks report` from the records of the scripts named here. Ratios are "
    "of one run on one machine.\n"
)


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None


def render(folder: Path) -> str:
    """Return the document for the records that are there; what was not measured is not mentioned."""
    parts = [TITLE]
    if records := read_records(folder / "records.jsonl"):
        parts.append("## Methods on synthetic faces (`make benchmark`)\n\n" + comparison(records) + "\n")
    if found := _read(folder / "helen.json"):
        rows = [(k, f"{v['nme']:.2f}", f"{v['fr8']:.1f}", f"{v['auc8']:.1f}", str(v["n"])) for k, v in found.items()]
        table = markdown(("method", "NME", "FR8", "AUC8", "faces"), rows)
        parts.append(f"## HELEN test faces (`python -m benchmarks helen`)\n\n{table}\n")
    if found := _read(folder / "boundary_speed.json"):
        times = found["times"]
        parts.append(
            "## Targets (`python -m benchmarks.boundary_speed`)\n\n"
            f"Heatmaps and boundaries of {found['batch']} faces, {found['threads']} threads: the batched path is "
            f"{found['exact_over_batched']:.1f} times as fast as the exact path image by image with a reused buffer "
            f"and {times['exact']['best_ms'] / times['batched_fresh_memory']['best_ms']:.1f} times with fresh memory "
            f"(goal 50, not reached); {found['differing_pixels_percent']:.2f} % of the boundary's pixels differ "
            "(limit 4 %).\n"
        )
    if found := _read(folder / "loader_speed.json"):
        memory = found["peak_memory_mb"]
        parts.append(
            "## Loader (`python -m benchmarks.loader_speed`)\n\n"
            f"{found['ratio']:.2f} of the rate of read, decode and one warp alone (goal 0.85, not reached), median of "
            f"{found['rounds']} epochs; peak memory {memory[0]:.0f} MB after the first, {memory[-1]:.0f} MB after "
            "the last.\n"
        )
    return "\n".join(parts)


def write(folder: Path = Path("runs/benchmark")) -> None:
    """Write BENCHMARKS.md."""
    (ROOT / "BENCHMARKS.md").write_text(render(folder))
    print(f"wrote {ROOT / 'BENCHMARKS.md'}")
