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
from typing import Any

import numpy as np
import torch

from common.data.base import FaceDataset
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.readers.aflw2000 import AFLW2000, YAW_BINS, yaw_subset
from common.data.readers.w300lp import balanced_mean
from common.errors import LabError, command
from common.metrics.functional import nme, normaliser, point_errors
from common.schemes import IBUG68
from common.task import load_task
from sdu3d.module import SduTask

NORM = "lnd_bbox"
BATCH = 32


@torch.inference_mode()
def predict_faces(task: SduTask, faces: FaceDataset, config: CropConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predicted and true points (N, 68, D) in image pixels and the yaw (N,) in degrees.

    Raises:
        LabError: a face has no pose.
    """
    crops, collate, found, true, yaw = CroppedFaces(faces, config), Collate(faces.subset_names), [], [], []
    for start in range(0, len(crops), BATCH):
        batch = collate([crops[i] for i in range(start, min(start + BATCH, len(crops)))])
        if batch.pose is None:
            raise LabError(f"{faces.name}: has no head poses, so it cannot be scored by yaw")
        found.append(task.to_image_pixels(task.predict_batch(batch).points, batch).double().numpy())
        true.append(batch.image_points.double().numpy())
        yaw.append(batch.pose[:, 0].double().numpy())
    return np.concatenate(found), np.concatenate(true), np.concatenate(yaw)


def by_yaw(values: np.ndarray, yaw: np.ndarray) -> dict[str, float]:
    """Return the pooled mean of values (N,), the mean of each bin of yaw (N,) that has a face, and the bins' mean.

    The bins' mean counts each bin once, so it is not a number where a bin is empty; it is left out there.
    """
    names = np.array([yaw_subset(float(value)) for value in yaw])
    bins = {name: float(values[names == name].mean()) for name in YAW_BINS if (names == name).any()}
    balanced = balanced_mean(bins)
    return {"pooled": float(values.mean()), **bins} | ({} if np.isnan(balanced) else {"balanced": balanced})


def score(pred: np.ndarray, true: np.ndarray, yaw: np.ndarray) -> dict[str, dict[str, float]]:
    """Return errors in percent of the box root by yaw: "plane" (x and y), and with depth "z" and "space".

    Args:
        pred, true: (N, 68, D), D 2 or 3.
        yaw: (N,) degrees.
    """
    length = normaliser(NORM, true[..., :2], IBUG68)
    report = {"plane": by_yaw(nme(point_errors(pred[..., :2], true[..., :2], length)), yaw)}
    if pred.shape[-1] == 3:
        report["z"] = by_yaw(nme(point_errors(pred[..., 2:], true[..., 2:], length)), yaw)
        report["space"] = by_yaw(nme(point_errors(pred, true, length)), yaw)
    return report


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a JSON report; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.sdu3d.poses", description="Score on AFLW2000-3D."
    )
    parser.add_argument("checkpoint", type=Path, help="of a training")
    parser.add_argument("--aflw2000", type=Path, required=True, help="folder of the set")
    parser.add_argument("--box_scale", type=float, default=1.35, help="of the crops, as in training")
    options = parser.parse_args(arguments)
    report: dict[str, Any]
    task = load_task(SduTask, options.checkpoint)
    faces = AFLW2000(str(options.aflw2000), task.dims)
    config = CropConfig(size=task.input_size, box_scale=options.box_scale)
    pred, true, yaw = predict_faces(task, faces, config)
    report = {"faces": len(faces), **score(pred, true, yaw)}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
