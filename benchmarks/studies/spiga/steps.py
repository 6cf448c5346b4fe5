"""What each step adds.

python -m benchmarks.studies.spiga.steps CHECKPOINT --root FOLDER [--split test] [--document docs/studies/spiga.md]

Prints a table of the mean face laid into each face's box, its projection by the predicted pose, and the points after
each step of the cascade; writes it to runs/benchmark/spiga_steps.json and, if asked, between the marks of a document.
Errors are percent of the data set's normaliser (crops: the distance of the outer eye corners).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.readme import fill, table
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.errors import LabError, command
from common.evaluation import Faces, batches, evaluate_batches
from common.metrics.functional import failure_rate
from common.metrics.stats import bootstrap_interval
from common.prediction.inference import Predictor
from common.types import FaceBatch, Prediction
from spiga.module import HALF, SpigaTask
from spiga.network import FRONTAL, SpigaNet

Row = dict[str, Any]  # figures of a stage, see `summarise`
THRESHOLD = 8.0
RECORD = Path("runs/benchmark/spiga_steps.json")
BEGIN, END = "<!-- steps:begin -->", "<!-- steps:end -->"


def stages_of(task: SpigaTask) -> list[str]:
    """Return the names of the rows, in order."""
    return ["mean face", "projected mean face", *(f"step {k + 1}" for k in range(len(task.net.cascade)))]


def lay_mean_face(net: SpigaNet, boxes: Tensor) -> Tensor:
    """Return the mean face as it looks from the front, (B, L, 2), in the frame of the boxes (B, 4) x0 y0 x1 y1.

    It has the boxes' middle and their longer side: what is known of a face before the network has seen it.
    """
    face = net.place(boxes.new_tensor([FRONTAL]))[0]
    low, high = face.amin(0), face.amax(0)
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1) / (high - low).max()
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return (face - (low + high) / 2) * side[:, None, None] + middle[:, None]


def step_errors(task: SpigaTask, data: Faces, split: str) -> dict[str, np.ndarray]:
    """Return each face's NME (N,) in percent, row by row."""

    def predict(batch: FaceBatch) -> Prediction:
        assert batch.box is not None  # of the data module's batches
        steps = task.net.predict(task.net.prepare(batch.image)).steps
        pixels = [step * task.input_size - HALF for step in steps]
        return Prediction(points=pixels[-1], steps=[lay_mean_face(task.net, batch.box.float()), *pixels])

    found = evaluate_batches(task, batches(data, split), predict)
    return dict(zip(stages_of(task), found.step_nme.T, strict=True))


def summarise(errors: dict[str, np.ndarray]) -> dict[str, Row]:
    """Return each row's figures of faces' NMEs (N,): nme, interval (95 %), median, fr8 and n.

    Rows but the first have "change" and "change_interval" too, the paired difference from the row before, and
    "better", whether that interval lies below zero.
    """
    result: dict[str, Row] = {}
    before: np.ndarray | None = None
    for name, values in errors.items():
        row: Row = {"nme": float(values.mean()), "interval": list(bootstrap_interval(values))}
        row |= {"median": float(np.median(values)), "fr8": failure_rate(values, THRESHOLD), "n": len(values)}
        if before is not None:
            low, high = bootstrap_interval(values - before)
            row |= {"change": float((values - before).mean()), "change_interval": [low, high], "better": high < 0}
        result[name], before = row, values
    return result


def step_table(figures: dict[str, Row]) -> str:
    """Return the figures as a Markdown table."""
    rows = []
    for name, row in figures.items():
        low, high = row["interval"]
        cells = [name, f"{row['nme']:.2f}", f"[{low:.2f}, {high:.2f}]", f"{row['median']:.2f}", f"{row['fr8']:.1f}"]
        change = ["", ""]
        if "change" in row:
            low, high = row["change_interval"]
            change = [f"{row['change']:+.2f} [{low:+.2f}, {high:+.2f}]", "yes" if row["better"] else "no"]
        rows.append(cells + change)
    head = ("stage", "NME", "95 % interval", "median", "FR8", "change from the row before", "better")
    return table(head, rows)


def caption(dataset: str, split: str, count: int, weights: Path) -> str:
    """Return what the table shows."""
    return (f"{count} faces of the {split} split of {dataset}, percent; weights {weights.parent.parent.name}/"
            f"{weights.name}. By `python -m benchmarks.studies.spiga.steps`.")  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the table and write the record."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.spiga.steps", description="What each step of the cascade adds."
    )
    parser.add_argument("weights", type=Path, help="checkpoint of stage 3, or .safetensors")
    parser.add_argument("--root", help="folder of the data set")
    parser.add_argument("--dataset", default="crops")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--count", type=int, default=200, help="faces of a synthetic set")
    parser.add_argument("--out", type=Path, default=RECORD, help="record to write; .json")
    parser.add_argument("--document", type=Path, help=f"Markdown file to fill between {BEGIN} and {END}")
    options = parser.parse_args(arguments)
    predictor = Predictor.load(options.weights)
    if not isinstance(predictor.task, SpigaTask):
        raise LabError(f"{options.weights}: are weights of another method")
    data = FaceDataModule(options.dataset, options.root, predictor.scheme.name, predictor.crop, num_workers=0,
                          synthetic=SyntheticConfig(val_count=options.count, test_count=options.count))  # fmt: skip
    figures = summarise(step_errors(predictor.task, data, options.split))
    shown = step_table(figures)
    if options.document is not None:
        count = next(iter(figures.values()))["n"]
        fill(
            options.document,
            BEGIN,
            END,
            f"{shown}\n\n{caption(options.dataset, options.split, count, options.weights)}",
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"weights": str(options.weights), "dataset": options.dataset, "split": options.split, "rows": figures}
    options.out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
