"""What the dual transformers bring on real faces: one training for each choice, scored on the validation split.

python -m sdu3d.ablation --data ../shared/data/crops_300w --epochs 12 --out runs/sdu3d/ablation
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.data.crops import CropConfig
from common.data.prepared import PreparedCrops
from common.errors import LabError
from common.metrics.stats import bootstrap_interval
from sdu3d.cli import main as train
from sdu3d.evaluate import face_scores, load_task

RECIPE = Path(__file__).parent / "helen.yaml"
BOX_SCALE = 1.35  # as the recipe
CHOICES: dict[str, tuple[str, ...]] = {
    "none": (),
    "deformable joins and heads": ("--model.inside", "dcn"),
    "spatial transformer": ("--model.inside", "stn"),
    "coherent loss": ("--model.coherent", "0.001"),
    "deformable and coherent": ("--model.inside", "dcn", "--model.coherent", "0.001"),
}


def run(data: Path, out: Path, epochs: int, more: Sequence[str]) -> dict[str, dict[str, float]]:
    """Train what is not trained yet and score everything; return choice -> nme, low, high in percent."""
    faces, report = PreparedCrops(str(data), "val"), {}
    for name, options in CHOICES.items():
        folder = out / name.replace(" ", "_")
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if not checkpoint.is_file():
            train(["fit", "--config", str(RECIPE), "--data.root", str(data), "--run", str(folder), "--track", "false",
                   "--trainer.max_epochs", str(epochs), *options, *more])  # fmt: skip
        task = load_task(checkpoint)
        scores = face_scores(task, faces, CropConfig(size=task.input_size, box_scale=BOX_SCALE))
        low, high = bootstrap_interval(scores)
        report[name] = {"nme": float(scores.mean()), "low": low, "high": high}
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a table and write report.json; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sdu3d.ablation", description="Compare the transformers.")
    parser.add_argument("--data", type=Path, required=True, help="folder of prepared crops")
    parser.add_argument("--out", type=Path, default=Path("runs/sdu3d/ablation"))
    parser.add_argument("--epochs", type=int, default=12)
    options, more = parser.parse_known_args(arguments)
    try:
        report = run(options.data, options.out, options.epochs, more)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (options.out / "report.json").write_text(json.dumps(report, indent=1))
    print("| transformers | NME, % of the outer eye corners' distance | 95 % interval |\n|---|---|---|")
    for name, values in report.items():
        print(f"| {name} | {values['nme']:.2f} | [{values['low']:.2f}, {values['high']:.2f}] |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
