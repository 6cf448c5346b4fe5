"""Scores on AFLW2000-3D: one mean over all faces, as published, and by bins of the absolute yaw.

python -m benchmarks.studies.sdu3d.poses RUN/checkpoints/best.ckpt --aflw2000 FOLDER

The normaliser is the root of the landmark box's area. Networks with a depth head are scored in z too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.studies.sdu3d.evaluate import own_crop
from common.data.batching import CroppedFaces
from common.data.readers.aflw2000 import AFLW2000, YAW_BINS, yaw_subset
from common.data.readers.w300lp import balanced_mean
from common.errors import LabError, command
from common.evaluation import Evaluation, evaluate
from common.task import load_task
from sdu3d.module import SduTask

NORM = "lnd_bbox"


def by_yaw(values: np.ndarray, yaw: np.ndarray) -> dict[str, float]:
    """Return the pooled mean of values (N,), the mean of each bin of yaw (N,) that has a face, and the bins' mean.

    The bins' mean counts each bin once, so it is NaN where a bin is empty; it is left out there.
    """
    names = np.array([yaw_subset(float(value)) for value in yaw])
    bins = {name: float(values[names == name].mean()) for name in YAW_BINS if (names == name).any()}
    balanced = balanced_mean(bins)
    return {"pooled": float(values.mean()), **bins} | ({} if np.isnan(balanced) else {"balanced": balanced})


def score(found: Evaluation) -> dict[str, dict[str, float]]:
    """Return errors in percent of the box root by yaw: "plane" (x and y), and with depth "z" and "space".

    Raises:
        LabError: a face has no pose.
    """
    yaw = found.pose[:, 0]
    if not np.isfinite(yaw).all():
        raise LabError(f"{found.ids[int(np.isnan(yaw).argmax())]}: has no head pose, so it cannot be scored by yaw")
    parts = {"plane": slice(0, 2)}
    if found.points.shape[-1] == 3:
        parts |= {"z": slice(2, 3), "space": slice(0, 3)}
    return {name: by_yaw(found.errors(found.points, NORM, dims), yaw) for name, dims in parts.items()}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a JSON report; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.sdu3d.poses", description="Score on AFLW2000-3D."
    )
    parser.add_argument("checkpoint", type=Path, help="of a training")
    parser.add_argument("--aflw2000", type=Path, required=True, help="folder of the set")
    parser.add_argument("--box_scale", type=float, help="of the crops; default: the run's own")
    options = parser.parse_args(arguments)
    report: dict[str, object]
    task = load_task(SduTask, options.checkpoint)
    faces = AFLW2000(str(options.aflw2000), task.dims)
    config = own_crop(options.checkpoint, options.box_scale)
    report = {"faces": len(faces), **score(evaluate(task, CroppedFaces(faces, config)))}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
