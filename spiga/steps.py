"""What each step adds: python -m spiga.steps CHECKPOINT --root FOLDER [--split test]

Prints a table of the mean face, its projection by the predicted pose, and the points after each step of the cascade,
and writes it to runs/benchmark/spiga_steps.json. Errors are percent of the distance of the outer eye corners.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.datamodule import FaceDataModule
from common.errors import LabError
from common.inference import Predictor
from common.metrics.functional import failure_rate
from common.metrics.stats import bootstrap_interval
from spiga.module import HALF, SpigaTask
from spiga.network import FRONTAL

THRESHOLD = 8.0
RECORD = Path("runs/benchmark/spiga_steps.json")


def stages_of(task: SpigaTask) -> list[str]:
    """Return the names of the rows, in order."""
    return ["mean face", "projected mean face", *(f"step {k + 1}" for k in range(len(task.net.cascade)))]


@torch.inference_mode()
def step_errors(task: SpigaTask, data: FaceDataModule, split: str) -> dict[str, np.ndarray]:
    """Return each face's NME (N,) in percent, row by row."""
    task.eval()
    rows: dict[str, list[np.ndarray]] = {name: [] for name in stages_of(task)}
    frontal = torch.tensor([FRONTAL])
    data.setup("fit" if split == "val" else "test")
    for batch in data.val_dataloader() if split == "val" else data.test_dataloader():
        steps = task.net.answer(task.net.prepare(batch.image)).steps
        start = task.net.place(frontal).expand_as(steps[0])
        for name, points in zip(rows, (start, *steps), strict=True):
            found = task.to_image_pixels(points * task.input_size - HALF, batch)
            weight = (batch.weight > 0).float()
            error = (found - batch.image_points[..., :2]).norm(dim=-1) * weight
            rows[name].append((100 * error.sum(1) / weight.sum(1) / batch.norm).numpy())
    return {name: np.concatenate(values) for name, values in rows.items()}


def summarise(errors: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return NME, its 95 % interval, failures above THRESHOLD and whether the row improves on the one before."""
    result, before = {}, float("inf")
    for name, values in errors.items():
        mean = float(values.mean())
        result[name] = {"nme": mean, "interval": list(bootstrap_interval(values)), "median": float(np.median(values)),
                        "fr8": failure_rate(values, THRESHOLD), "n": len(values), "better": mean < before}  # fmt: skip
        before = mean
    return result


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| stage | NME | 95 % interval | median | FR8 |", "|---|---|---|---|---|"]
    for name, row in figures.items():
        low, high = row["interval"]
        lines.append(
            f"| {name} | {row['nme']:.2f} | [{low:.2f}, {high:.2f}] | {row['median']:.2f} | {row['fr8']:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the table and write the record."""
    parser = argparse.ArgumentParser(prog="python -m spiga.steps", description="What each step of the cascade adds.")
    parser.add_argument("weights", type=Path, help="checkpoint of stage 2 or 3, or .safetensors")
    parser.add_argument("--root", help="folder of the data set")
    parser.add_argument("--dataset", default="crops")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--count", type=int, default=200, help="faces of a synthetic set")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor.load(options.weights)
        if not isinstance(predictor.task, SpigaTask):
            raise LabError(f"{options.weights}: are weights of another method")
        data = FaceDataModule(options.dataset, options.root, predictor.scheme.name, predictor.crop, num_workers=0,
                              val_count=options.count, test_count=options.count)  # fmt: skip
        figures = summarise(step_errors(predictor.task, data, options.split))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"weights": str(options.weights), "dataset": options.dataset, "split": options.split, "rows": figures}
    options.out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
