"""How a run ends: its result in a few lines, and in `results.json` with the commit, the machine and the command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from common.files.checkpoints import read_checkpoint
from common.files.provenance import commit, machine
from common.files.whole import write_whole
from common.metrics.landmark import Evaluation
from common.metrics.stats import metric_intervals

RESULTS = "results.json"


def read_results(folder: Path) -> dict[str, object]:
    """Return what former commands left in a run's results.json; nothing where it is missing or damaged."""
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_results(folder: Path, job: str, found: dict[str, object], command: str) -> Path:
    """Add a subcommand's result to a run's results.json.

    Args:
        folder: of the run.
        job: fit, validate or test; its former result is replaced.
        found: the result.
        command: what was typed.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    origin = {"commit": commit(), "command": command, "time": now, "machine": machine()}
    content = {**read_results(folder), job: {**found, **origin}}
    write_whole(folder / RESULTS, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return folder / RESULTS


def fit_result(
    checkpoints: Path, best: float | None, data: dict[str, object], epochs: int, seconds: float
) -> dict[str, object]:
    """Return the result of a training.

    Args:
        checkpoints: folder of best.ckpt and last.ckpt.
        best: least NME of validation in percent, None where there was no validation.
        data: data set, faces and crop.
        epochs: done.
        seconds: that this start took.
    """
    path = checkpoints / "best.ckpt"
    found: dict[str, object] = {"epochs": epochs, "seconds": round(seconds, 1), **data}
    if best is not None and path.is_file():
        found["val_nme"] = best
        found["best_epoch"] = int(read_checkpoint(path).get("epoch", epochs - 1)) + 1
        found["checkpoint"] = str(path)
    elif (checkpoints / "last.ckpt").is_file():
        found["checkpoint"] = str(checkpoints / "last.ckpt")
    return found


def fit_lines(found: dict[str, object], folder: Path, curves: str | None, method_cli: str) -> list[str]:
    """Return what is printed at the end of a training."""
    if "val_nme" in found:
        best = (
            f"best NME {found['val_nme']:.2f} % in epoch {found['best_epoch']} of {found['epochs']}, on "
            f"{found['val_faces']:,} faces of {found['dataset']} ({found['crop']})"
        )
    else:
        best = f"{found['epochs']} epochs on {found['dataset']}, not validated"
    lines = [best]
    if "checkpoint" in found:
        lines.append(f"checkpoint  {found['checkpoint']}")
    if list((folder / "pictures").glob("*.png")):
        lines.append(f"pictures    {folder / 'pictures'}")
    if curves:
        lines.append(f"curves      {Path(curves) / 'metrics.csv'}")
    lines.append(f"results     {folder / RESULTS}")
    if "checkpoint" in found:
        name = Path(str(found["checkpoint"])).stem
        given = f"--config {folder / 'config.yaml'} --run {folder} --ckpt_path {name}"
        lines.append(f"next        python -m {method_cli} test {given}")
    return lines


def test_result(found: Evaluation) -> dict[str, Any]:
    """Return the figures of a test: faces, and NME, FR and AUC with 95 % intervals, of all faces and of each subset."""
    rows = {"all": found.nme} | {name: found.nme[part] for name, part in found.subsets.items() if part.any()}
    sets: dict[str, object] = {}
    whole = found.metrics()
    for name, nmes in rows.items():
        prefix = "" if name == "all" else f"{name}/"
        intervals = metric_intervals(nmes, found.threshold)
        sets[name] = {
            "faces": len(nmes),
            **{key: [whole[prefix + key], *intervals[key]] for key in ("nme", "fr", "auc")},
        }
    return {"threshold": found.threshold, "sets": sets}


def test_lines(job: str, found: dict[str, Any], dataset: str, crop: str, folder: Path) -> list[str]:
    """Return the table of a job, validate or test."""
    split = "validation" if job == "validate" else job
    heads = ("set", "faces", "NME", "95 % interval", f"FR{found['threshold']:g}", f"AUC{found['threshold']:g}")
    rows = [
        (name, f"{row['faces']:,}", f"{row['nme'][0]:.2f}", f"[{row['nme'][1]:.2f}, {row['nme'][2]:.2f}]",
         f"{row['fr'][0]:.2f}", f"{row['auc'][0]:.2f}")
        for name, row in found["sets"].items()
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def shown(row: tuple[str, ...]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells)

    title = f"{dataset}, {split}: percent of the data set's normaliser ({crop})"
    return [title, *map(shown, (heads, *rows)), f"pictures    {folder / 'pictures'}", f"results     {folder / RESULTS}"]
