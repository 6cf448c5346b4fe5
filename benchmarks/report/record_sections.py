"""Markdown of the records that single scripts write: each a section of BENCHMARKS.md, made from its file alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.readme import table
from benchmarks.report.markdown import figure, interval

TARGET_GOAL, TARGET_LIMIT, LOADER_GOAL = 50.0, 4.0, 0.85  # of the scripts whose records are shown
Found = dict[str, Any]


def _goal(value: float, goal: float) -> str:
    return f"goal {goal:g}, {'reached' if value >= goal else 'not reached'}"


def _limit(value: float, limit: float) -> str:
    return f"limit {limit:g} %, {'kept' if value <= limit else 'exceeded'}"


def _helen(found: Found) -> str:
    rows = [(name, figure(v["nme"]), interval(v.get("interval")), figure(v["fr8"], 1), figure(v["auc8"], 1),
             str(v["n"])) for name, v in found.items()]  # fmt: skip
    return table(("method", "NME", "95 % interval", "FR8", "AUC8", "faces"), rows)


def _targets(found: Found) -> str:
    times, ratio = found["times"], found["exact_over_batched"]
    fresh = times["exact"]["best_ms"] / times["batched_fresh_memory"]["best_ms"]
    pixels = found["differing_pixels_percent"]
    return (
        f"Heatmaps and boundaries of {found['batch']} faces, {found['threads']} threads: the batched path is "
        f"{ratio:.1f} times as fast as the exact path image by image as training draws them, by compiled loops into "
        f"memory that is used again ({_goal(ratio, TARGET_GOAL)}), and {fresh:.1f} times as tensors in fresh memory; "
        f"{pixels:.2f} % of the boundary's pixels differ "
        f"({_limit(pixels, TARGET_LIMIT)})."
    )


def _loader(found: Found) -> str:
    memory = found["memory_mb"]
    return (
        f"{found['ratio']:.3f} of the rate of read, decode and one warp alone ({_goal(found['ratio'], LOADER_GOAL)}), "
        f"median of {found['rounds']} epochs; memory {memory[0]:.0f} MB after the first, {memory[-1]:.0f} MB after "
        "the last."
    )


def _synthetic(found: Found) -> str:
    return (
        f"{found['faces_per_second']:.1f} faces of {found['size']} px a second, {found['threads']} thread; median of "
        f"{found['windows']} windows of {found['faces_a_window']} faces."
    )


def _dpr(found: Found) -> str:
    rows = [(name.upper(), figure(row["released_ms"], 1), figure(row["fast_ms"], 1), figure(row["ratio"], 1),
             figure(row["fast_batch_ms"], 1), figure(row["ratio_batch"], 1))
            for name, row in found.items() if isinstance(row, dict)]  # fmt: skip
    head = ("network", "official way, ms", "exported, ms", "times faster", "in batches, ms a face", "times faster")
    return f"{found['points']} points, {found['threads']} threads.\n\n{table(head, rows)}"


def _sdu(found: Found) -> str:
    rows = []
    for name, row in found["networks"].items():
        best = min(row["ms"], key=row["ms"].get)
        size, macs = f"{row['learned'] / 1e6:.2f} M", f"{row['macs'] / 1e9:.2f} G"
        ours = f"{row['ms'][best]:.2f} ({best.replace('_', ' ')})"
        rows.append((name, size, macs, figure(row["ms"]["released"]), ours, f"{100 * row['share'][best]:.0f} %"))
    head = ("network", "parameters", "MACs", "official way, ms", "fastest of ours, ms", "of peak arithmetic")
    peak = f"Peak of this machine {found['peak_gmacs']:.0f} G multiply-adds a second, {found['threads']} thread."
    return f"{peak}\n\n{table(head, rows)}"


def _spiga(found: Found) -> str:
    sizes = found["sizes"]
    rows = [(name, figure(row["plain_ms_per_face"], 1), figure(row["fast_ms_per_face"], 1), figure(row["ratio"]))
            for name, row in found["network"].items()]  # fmt: skip
    graphs = [(name, str(edges), *(figure(found["graphs"][f"batch {size}, ms"][name], 1) for size in (1, 8)))
              for name, edges in found["graphs"]["edges"].items()]  # fmt: skip
    return (
        f"{found['points']} points, {found['threads']} thread; {sizes['parameters'] / 1e6:.2f} M parameters, "
        f"{sizes['macs']['fast'] / 1e9:.2f} G multiply-adds.\n\n"
        f"{table(('network', 'plain, ms a face', 'fast, ms a face', 'times faster'), rows)}\n\n"
        f"{table(('attention over the landmarks', 'edges', 'batch 1, ms', 'batch 8, ms'), graphs)}"
    )


# File -> title, the script that writes it, what is shown of it.
SECTIONS: dict[str, tuple[str, str, Callable[[Found], str]]] = {
    "helen.json": ("HELEN test faces", "benchmarks helen", _helen),
    "boundary_speed.json": ("Targets", "benchmarks.studies.awing.targets_speed", _targets),
    "loader_speed.json": ("Loader", "benchmarks.studies.loader_speed", _loader),
    "synthetic_speed.json": ("Synthetic faces", "benchmarks.studies.synthetic_speed", _synthetic),
    "dpr_speed.json": ("DPR, exported networks against the official way", "benchmarks.studies.dpr.speed", _dpr),
    "spiga_speed.json": ("SPIGA, fast network and landmark graphs", "benchmarks.studies.spiga.speed", _spiga),
    "sdu3d_speed.json": ("SDU, ours against the official way", "benchmarks.studies.sdu3d.speed", _sdu),
}


def record_sections(folder: Path) -> dict[str, str]:
    """Return file -> section, for the records that are there.

    A record that an older script wrote may lack a figure: its section then says which, and so does the screen, and
    all others are shown.
    """
    found: dict[str, str] = {}
    for name, (title, script, section) in SECTIONS.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            body = section(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
            lacks = f"no {error}" if isinstance(error, KeyError) else "not the expected content"
            body = f"Not shown: the record has {lacks}; run its script again."
            print(f"{path}: has {lacks}; run its script again: python -m {script}", file=sys.stderr)
        found[name] = f"## {title} (`python -m {script}`)\n\n{body}\n"
    return found
