"""What the dual transformers bring on real faces: one training for each choice, scored on the validation split.

python -m benchmarks.studies.sdu3d.ablation --data ../shared/data/crops_300w --out runs/sdu3d/ablation

A training that was cut off goes on from its last epoch; `--only NAME` trains one choice and scores what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.timing import count_parameters
from benchmarks.provenance import ROOT
from benchmarks.readme import table
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.readers.crops import PreparedCrops
from common.errors import command
from common.evaluation import evaluate
from common.files.checkpoints import read_checkpoint
from common.metrics.stats import bootstrap_interval
from common.task import load_task
from sdu3d.cli import main as train
from sdu3d.module import SduTask

RECIPE = ROOT / "sdu3d" / "helen.yaml"
BOX_SCALE = 1.35  # as the recipe
EPOCHS, WIDTH = 3, 32
CHOICES: dict[str, tuple[str, ...]] = {
    "none": (),
    "deformable inside": ("--model.net.inside", "dcn"),
    "coherent outside": ("--model.views.weight", "1.0"),
    "spatial transformer inside": ("--model.net.inside", "stn"),
    # A cross-entropy leaves the maps' height free, so at weight 1 flat maps serve the coherent loss best; at 0.001 it
    # is a small part of the loss, and what remains is what a second, moved view of each face brings.
    "coherent outside 0.001": ("--model.views.weight", "0.001"),
    "deformable and coherent": ("--model.net.inside", "dcn", "--model.views.weight", "0.001"),
}


def folder_of(out: Path, name: str) -> Path:
    """Return the folder of a choice's training."""
    return out / name.replace(" ", "_")


def epochs_done(checkpoint: Path) -> int:
    """Return the number of whole epochs in a checkpoint; 0 when there is none."""
    return int(read_checkpoint(checkpoint)["epoch"]) + 1 if checkpoint.is_file() else 0


def train_choice(name: str, data: Path, out: Path, epochs: int, more: Sequence[str]) -> None:
    """Train a choice, or go on with it, up to `epochs` epochs."""
    folder = folder_of(out, name)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    done = epochs_done(checkpoint)
    if done >= epochs:
        return
    resume = ["--ckpt_path", str(checkpoint)] if done else []
    # The recipe validates rarely; what is scored, and gone on with, is the last epoch.
    sizes = ["--trainer.max_epochs", str(epochs), "--model.net.width", str(WIDTH),
             "--last_checkpoint.save_on_train_epoch_end", "true"]  # fmt: skip
    train(["fit", "--config", str(RECIPE), "--data.root", str(data), "--run", str(folder), "--track", "false",
           *sizes, *CHOICES[name], *resume, *more])  # fmt: skip


def score(data: Path, out: Path, epochs: int) -> dict[str, dict[str, float]]:
    """Return choice -> nme, low, high in percent, and the parameters, of every choice whose training is complete."""
    faces, report = PreparedCrops(str(data), "val"), {}
    for name in CHOICES:
        checkpoint = folder_of(out, name) / "checkpoints" / "last.ckpt"
        if epochs_done(checkpoint) < epochs:
            continue
        task = load_task(SduTask, checkpoint)
        scores = evaluate(task, CroppedFaces(faces, CropConfig(size=task.input_size, box_scale=BOX_SCALE))).nme
        low, high = bootstrap_interval(scores)
        values = count_parameters(task)
        report[name] = {"nme": float(scores.mean()), "low": low, "high": high, "parameters": values}
    return report


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a table and write report.json; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.sdu3d.ablation", description="Compare the transformers."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of prepared crops")
    parser.add_argument("--out", type=Path, default=Path("runs/sdu3d/ablation"))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--only", choices=tuple(CHOICES), help="train this choice alone")
    options, more = parser.parse_known_args(arguments)
    for name in (options.only,) if options.only else CHOICES:
        train_choice(name, options.data, options.out, options.epochs, more)
    report = score(options.data, options.out, options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    rows = [[name, f"{row['nme']:.2f}", f"[{row['low']:.2f}, {row['high']:.2f}]"] for name, row in report.items()]
    print(table(["transformers", "NME, % of the outer eye corners' distance", "95 % interval"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
