"""Ablation of the landmark weighting on real faces: the same recipe with each form, scored on validation faces.

python -m benchmarks.studies.dpr.ablation --config dpr/helen.yaml --root FOLDER [--cells plain weighted]
    [--seeds 0 1] [--set NAME=VALUE]

One JSON line a cell goes to --out; cells that have a line with the same settings are left out, and a cell that was
broken off goes on from its last checkpoint. So the command may be stopped and given again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import LabError, command
from common.evaluation import Evaluation, evaluate, load_data
from common.metrics.stats import bootstrap_interval
from common.task import load_task
from dpr.module import DprTask

Row = dict[str, Any]  # a finished cell, as its line says
RECORD = Path("runs/dpr/ablation.jsonl")
RUNS = Path("runs/dpr/ablation")
# Form -> settings of DprTask; each one's source is in `dpr.loss.LandmarkLoss`.
CELLS: dict[str, dict[str, object]] = {
    "plain": {"weighting": "plain"},
    "weighted": {"weighting": "inverse"},
    "error_driven": {"weighting": "direct"},
}
DECIMALS = 4
STAGE_NAMES = ("gsr", "glsr")  # the order of a prediction's steps


def stage_errors(found: Evaluation) -> dict[str, np.ndarray]:
    """Return the NME of each face (N,) in percent, by stage: gsr, and glsr where the local stage has learnt."""
    return dict(zip(STAGE_NAMES, found.step_nme.T, strict=False))


def read_record(path: Path) -> list[Row]:
    """Return the finished cells; a line that was broken off in writing is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "key" in row:
            rows.append(row)
    return rows


def key_of(options: argparse.Namespace, cell: str, seed: int) -> str:
    """Return a digest of all that decides a cell's result: form, seed, recipe's content, overrides, split."""
    content = {"cell": CELLS[cell], "seed": seed, "recipe": options.config.read_text(encoding="utf-8"),
               "set": sorted(options.set), "split": options.split}  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def arguments_of(options: argparse.Namespace, cell: str, seed: int, run: Path) -> list[str]:
    """Return the arguments of `fit` for a cell."""
    words = ["fit", "--config", str(options.config), "--run", str(run), "--seed_everything", str(seed), "--track",
             "false", "--trainer.enable_progress_bar", "false"]  # fmt: skip
    if options.root is not None:
        words += ["--data.root", options.root]
    for name, value in CELLS[cell].items():
        words += [f"--model.loss.{name}", str(value)]
    for setting in options.set:
        name, mark, value = setting.partition("=")
        if not mark:
            raise LabError(f"--set {setting}: must be NAME=VALUE, such as trainer.max_epochs=5")
        words += [f"--{name}", value]
    last = run / "checkpoints" / "last.ckpt"
    return words + (["--ckpt_path", str(last)] if last.is_file() else [])


def run_cell(options: argparse.Namespace, cell: str, seed: int, key: str) -> Row:
    """Train and score a cell; return its line."""
    from dpr.cli import main as cli

    run = options.runs / f"{cell}-seed{seed}-{key}"
    start = time.perf_counter()
    cli(arguments_of(options, cell, seed, run))
    task = load_task(DprTask, run / "checkpoints" / "best.ckpt")
    errors = stage_errors(evaluate(task, load_data(run / "config.yaml", options.root), options.split))
    row: Row = {"key": key, "cell": cell, "seed": seed, "split": options.split, **CELLS[cell],
                           "recipe": options.config.name, "set": sorted(options.set),
                           "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip
    for stage, values in errors.items():
        low, high = bootstrap_interval(values)
        row[stage] = {"nme": float(values.mean()), "interval": [low, high],
                      "faces": [round(float(value), DECIMALS) for value in values]}  # fmt: skip
    return row


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.dpr.ablation", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--config", type=Path, default=Path("dpr/helen.yaml"), help="recipe of all cells")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--cells", nargs="+", choices=sorted(CELLS), default=list(CELLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="overrides of the recipe")
    parser.add_argument("--split", default="val", choices=("val", "test"), help="faces that are scored")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs")
    parser.add_argument("--out", type=Path, default=RECORD, help="record, one line a cell")
    return parser.parse_args(arguments)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    options = parse(arguments)
    if not options.config.is_file():
        raise LabError(f"{options.config}: no such recipe")
    for seed in options.seeds:
        for cell in options.cells:
            key = key_of(options, cell, seed)
            if any(row["key"] == key for row in read_record(options.out)):
                print(f"{cell}, seed {seed}: has a line already")
                continue
            row = run_cell(options, cell, seed, key)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            scores = [f"{stage.upper()} {row[stage]['nme']:.3f} %" for stage in STAGE_NAMES if stage in row]
            print(f"{cell}, seed {seed}: {', '.join(scores)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
