"""All documents from the records in runs/benchmark: `python -m benchmarks report`.

BENCHMARKS.md and the results section of the README; beside the records table.md, table.tex, ledger.json and
report.html, one page that needs no network. What was not measured is not mentioned, or says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.html import page
from benchmarks.ledger import COLUMNS, ledger_rows, plain
from benchmarks.report_data import Report, disturbances, flickers, read_report
from benchmarks.tables import NONE, described, figure, interval, latex, markdown
from common.errors import LabError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("runs/benchmark")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TITLE = (
    "# Benchmarks\n\nWritten by `python -m benchmarks report` from the records of the scripts named here. Ratios are "
    "of one run on one machine.\n"
)
TARGET_GOAL, TARGET_LIMIT, LOADER_GOAL = 50.0, 4.0, 0.85  # of the scripts whose records are told


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _goal(value: float, goal: float) -> str:
    return f"goal {goal:g}, {'reached' if value >= goal else 'not reached'}"


def _limit(value: float, limit: float) -> str:
    return f"limit {limit:g} %, {'kept' if value <= limit else 'exceeded'}"


def _comparisons(report: Report) -> str:
    parts = [described(comparison) for comparison in report.comparisons]
    return "## Methods (`python -m benchmarks run`)\n\n" + "\n\n".join(parts) + "\n"


def _robustness(report: Report) -> str:
    """Return the areas under the robustness curves and the flicker as one table."""
    found = disturbances(report.robustness)
    trembling = flickers(report.robustness)
    kinds = list(dict.fromkeys(disturbance.kind for disturbance in found))
    areas = {(d.dataset, curve.label, d.kind): curve.area for d in found for curve in d.curves}
    pairs = list(dict.fromkeys([*((d, label) for d, label, _ in areas), *trembling]))
    rows = [[label, data, *(figure(areas.get((data, label, kind))) for kind in kinds),
             figure(trembling.get((data, label)))] for data, label in pairs]  # fmt: skip
    table = markdown(["method", "data", *kinds, "flicker"], rows)
    return (
        "## Robustness (`python -m benchmarks robustness`)\n\nMean NME over the levels of each disturbance, and "
        f"flicker of a still face, percent.\n\n{table}\n"
    )


def _ledger(report: Report) -> str:
    """Return the ledger: paper, released weights, our training; columns without any figure are left out."""
    rows = ledger_rows(report)
    shown = [(key, head) for key, head in COLUMNS if any(plain(row, key) != NONE for row in rows)]
    table = markdown([head for _, head in shown], [[plain(row, key) for key, _ in shown] for row in rows])
    return (
        "## Ledger\n\nNME in percent, over full test sets: as the paper prints it, of the released weights under our "
        "canonical protocol, and of our trainings. The gap is ours minus the paper's, told only where both have one "
        f"normaliser.\n\n{table}\n"
    )


def _helen(found: dict[str, Any]) -> str:
    rows = [(name, figure(v["nme"]), interval(v.get("interval")), figure(v["fr8"], 1), figure(v["auc8"], 1),
             str(v["n"])) for name, v in found.items()]  # fmt: skip
    table = markdown(("method", "NME", "95 % interval", "FR8", "AUC8", "faces"), rows)
    return f"## HELEN test faces (`python -m benchmarks helen`)\n\n{table}\n"


def _targets(found: dict[str, Any]) -> str:
    times, ratio = found["times"], found["exact_over_batched"]
    fresh = times["exact"]["best_ms"] / times["batched_fresh_memory"]["best_ms"]
    pixels = found["differing_pixels_percent"]
    return (
        "## Targets (`python -m benchmarks.boundary_speed`)\n\n"
        f"Heatmaps and boundaries of {found['batch']} faces, {found['threads']} threads: the batched path is "
        f"{ratio:.1f} times as fast as the exact path image by image with a reused buffer and {fresh:.1f} times with "
        f"fresh memory ({_goal(ratio, TARGET_GOAL)}); {pixels:.2f} % of the boundary's pixels differ "
        f"({_limit(pixels, TARGET_LIMIT)}).\n"
    )


def _loader(found: dict[str, Any]) -> str:
    memory = found["memory_mb"]
    return (
        "## Loader (`python -m benchmarks.loader_speed`)\n\n"
        f"{found['ratio']:.2f} of the rate of read, decode and one warp alone ({_goal(found['ratio'], LOADER_GOAL)}), "
        f"median of {found['rounds']} epochs; memory {memory[0]:.0f} MB after the first, {memory[-1]:.0f} MB after "
        "the last.\n"
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "helen.json": _helen,
    "boundary_speed.json": _targets,
    "loader_speed.json": _loader,
}


def render(folder: Path, report: Report | None = None) -> str:
    """Return BENCHMARKS.md for the records that are there; what was not measured is not mentioned.

    Raises:
        LabError: a record file lacks a figure.
    """
    report = report or read_report(folder)
    parts = [TITLE]
    if report.comparisons:
        parts.append(_comparisons(report))
        parts.append(_ledger(report))
    if report.robustness:
        parts.append(_robustness(report))
    for name, section in SECTIONS.items():
        found = _read(folder / name)
        if found is None:
            continue
        try:
            parts.append(section(found))
        except KeyError as error:
            raise LabError(f"{folder / name}: has no {error}; run its script again") from None
    return "\n".join(parts)


def results(report: Report) -> str:
    """Return the README's results: one table for each data set, or what to run where there are no records."""
    if not report.comparisons:
        return "No results yet: `make benchmark` trains and compares the methods, and fills this section."
    parts = [described(comparison) for comparison in report.comparisons]
    return (
        "\n\n".join(parts)
        + "\n\nFrom `python -m benchmarks run` and `python -m benchmarks report`; intervals are 95 % "
        "bootstrap intervals over faces, and *not separable* means that the paired interval of the difference from the "
        "best row holds zero. `runs/benchmark/report.html` shows curves, faces and protocol cards."
    )


def fill(document: Path, begin: str, end: str, body: str) -> None:
    """Put text between two marks of a document.

    Raises:
        LabError: a mark is missing, or they stand in the wrong order.
    """
    text = document.read_text(encoding="utf-8")
    head, first, rest = text.partition(begin)
    _, second, tail = rest.partition(end)
    if not first or not second:
        raise LabError(f"{document}: the marks {begin} and {end} are missing")
    document.write_text(f"{head}{begin}\n{body}\n{end}{tail}", encoding="utf-8")


def write(folder: Path = FOLDER, documents: Path | None = ROOT) -> list[Path]:
    """Write all documents and return their paths.

    Args:
        folder: where the records are; the page and the tables go there.
        documents: where BENCHMARKS.md and README.md are; None leaves them alone.

    Raises:
        LabError: the folder is missing, a record lacks a figure, or the README lacks the marks.
    """
    if not folder.is_dir():
        raise LabError(f"{folder}: no such folder of records; run `make benchmark` first")
    report = read_report(folder)
    contents = {folder / "report.html": page(report)}
    if report.comparisons:
        contents[folder / "table.md"] = "\n\n".join(map(described, report.comparisons)) + "\n"
        contents[folder / "table.tex"] = latex(report.comparisons)
        contents[folder / "ledger.json"] = json.dumps(ledger_rows(report), indent=1) + "\n"
    if documents is not None:
        contents[documents / "BENCHMARKS.md"] = render(folder, report)
        fill(documents / "README.md", BEGIN, END, results(report))
    for path, content in contents.items():
        path.write_text(content, encoding="utf-8")
    return [*contents, *([documents / "README.md"] if documents is not None else [])]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the records are")
    parser.add_argument("--documents", action=argparse.BooleanOptionalAction, default=True,
                        help="write BENCHMARKS.md and the README's results too")  # fmt: skip
    parser.add_argument("--track", action=argparse.BooleanOptionalAction, default=True,
                        help="log the report to W&B (offline unless you are logged in)")  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Write the documents, name them, and log them to W&B."""
    for path in write(options.folder, ROOT if options.documents else None):
        print(f"wrote {path}")
    if options.track:
        from benchmarks.report_wandb import to_wandb

        to_wandb(options.folder)
