"""The report's tables, curves and pictures in W&B: never a question, never a failure of the benchmark."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.published.ledger import COLUMNS, ledger_rows, plain
from benchmarks.report.markdown import plain_rows
from benchmarks.report.model import Report, ced_curves, disturbances, read_report, risk_curves
from common.training.tracking import wandb_logger

if TYPE_CHECKING:
    import wandb


def _key(*parts: str) -> str:
    """Return a key of W&B, which also names files: a part holds no slash and nothing that a file's name may not."""
    return "/".join(re.sub(r"[^\w .,()+-]", "-", part) for part in parts)


def _charts(report: Report) -> dict[str, object]:
    """Return the curves as W&B charts."""
    import wandb

    found: dict[str, object] = {}
    for comparison in report.comparisons:
        levels, shares = ced_curves(comparison)
        if shares:
            found[_key("ced", comparison.title)] = wandb.plot.line_series(
                levels.tolist(), [y.tolist() for y in shares.values()], list(shares), "faces, percent", "NME, percent"
            )
    groups = [(_key("robustness", d.dataset, d.kind), d.curves, d.unit) for d in disturbances(report.robustness)]
    groups += [(_key("risk", name), curves, "coverage") for name, curves in risk_curves(report.robustness).items()]
    for key, curves, unit in groups:
        labels = [curve.label for curve in curves]
        found[key] = wandb.plot.line_series([c.x for c in curves], [c.y for c in curves], labels, "NME, percent", unit)
    return found


def _pictures(report: Report) -> dict[str, object]:
    """Return the worst and median faces of each row."""
    import wandb

    found: dict[str, object] = {}
    for comparison in report.comparisons:
        for entry in comparison.entries:
            folder = report.folder / str(entry.first.pictures or "none")
            paths = [path for kind in ("worst", "median") for path in sorted(folder.glob(f"{kind}-*.png"))]
            if paths:
                images = [wandb.Image(str(path), caption=path.stem) for path in paths]
                found[_key("faces", comparison.title, entry.label)] = images
    return found


def log_report(run: wandb.Run, report: Report) -> None:
    """Log a report to a run: tables, curves, pictures, the page, and each NME in the summary."""
    import wandb

    content: dict[str, object] = {}
    for comparison in report.comparisons:
        columns, rows = plain_rows(comparison)
        content[_key("tables", comparison.title)] = wandb.Table(columns=[*columns], data=rows)
        for entry in comparison.entries:
            run.summary[_key(comparison.title, entry.label, "nme")] = entry.metrics["nme"]
    lines = [[plain(row, key) for key, _ in COLUMNS] for row in ledger_rows(report)] if report.comparisons else []
    if lines:
        content["ledger"] = wandb.Table(columns=[head for _, head in COLUMNS], data=lines)
    content |= _charts(report) | _pictures(report)
    page = report.folder / "report.html"
    if page.is_file():
        content["report"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False)
    if content:
        run.log(content)


def to_wandb(folder: Path) -> bool:
    """Log the report of a folder's records; offline unless the user is logged in.

    Returns:
        Whether it was logged; a failure is reported in one line and goes no further.
    """
    try:
        run = wandb_logger(folder, "benchmark", "report").experiment
        try:
            log_report(run, read_report(folder))
        finally:
            run.finish()
    except Exception as error:  # W&B's failures have no common class, and none may end a benchmark
        print(f"W&B has not got the report ({type(error).__name__}: {error})", file=sys.stderr)
        return False
    return True
