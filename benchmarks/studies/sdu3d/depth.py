"""Errors of x, y and z on synthetic faces, and pictures of the 3D points from the front and from the side.

python -m benchmarks.studies.sdu3d.depth RUN/checkpoints/best.ckpt --picture docs/pictures/sdu3d_depth.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.datamodule import TEST_OFFSET
from common.data.synthetic import SyntheticFaces
from common.data.wrappers import WithDepth, centre_depth
from common.errors import LabError, command
from common.evaluation import evaluate
from common.files.images import write_image
from common.prediction.plotting import PREDICTED, TRUE, draw_landmarks, grid
from common.schemes import IBUG68
from common.task import load_task
from sdu3d.module import SduTask

COLUMNS, CELL, MEAN_FACES = 4, 180, 64
AXES = ("x", "y", "z")


def box_root(points: np.ndarray) -> np.ndarray:
    """Return the root of the landmark box's area (N,) in the picture plane of points (N, L, 2+)."""
    sides = points[..., :2].max(axis=1) - points[..., :2].min(axis=1)
    return np.asarray(np.sqrt(sides.prod(axis=-1)))


def mean_depth(count: int = MEAN_FACES) -> np.ndarray:
    """Return the training faces' mean z (68,) in shares of their box root."""
    faces = SyntheticFaces(count)
    points = np.stack([centre_depth(faces.points3d(i)) for i in range(count)]).astype(np.float64)
    return np.asarray((points[..., 2] / box_root(points)[:, None]).mean(axis=0))


def summary(pred: np.ndarray, true: np.ndarray, yaw: np.ndarray, mean_z: np.ndarray) -> dict[str, float]:
    """Return errors in percent of the box root: each axis, the plane, space; z of the mean face and of a flat one.

    Args:
        pred, true: (N, 68, 3).
        yaw: (N,) degrees.
        mean_z: (68,) shares of the box root.
    """
    root = box_root(true)[:, None]
    error = 100 * np.abs(pred - true) / root[..., None]
    z_mean = 100 * np.abs(mean_z * root - true[..., 2]) / root
    report = {axis: float(error[..., k].mean()) for k, axis in enumerate(AXES)}
    report |= {
        "nme_2d": float(np.linalg.norm(error[..., :2], axis=-1).mean()),
        "nme_3d": float(np.linalg.norm(error, axis=-1).mean()),
        "z_of_the_mean_face": float(z_mean.mean()),
        "z_of_a_flat_face": float((100 * np.abs(true[..., 2]) / root).mean()),
        "faces": float(len(true)),
    }
    turned = np.abs(yaw) > 30
    if turned.any():
        report |= {"z_beyond_30_degrees": float(error[turned][..., 2].mean()),
                   "z_of_the_mean_face_beyond_30_degrees": float(z_mean[turned].mean())}  # fmt: skip
    return report


def side_view(points: np.ndarray) -> np.ndarray:
    """Return points (L, 3) as seen from the image's right: z runs left, so that the nose points to the left."""
    return np.stack([-points[:, 2], points[:, 1]], axis=1)


def cell(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return a picture (CELL, 2 * CELL, 3): front and side of prediction over truth, points (68, 3)."""
    views = []
    for project in (lambda p: p[:, :2], side_view):
        both = np.concatenate([project(true), project(pred)])
        middle, side = (both.max(0) + both.min(0)) / 2, np.ptp(both, axis=0).max() * 1.15
        blank = np.full((CELL, CELL, 3), 250, np.uint8)
        for points, color in ((true, TRUE), (pred, PREDICTED)):
            placed = (project(points) - middle) * CELL / side + CELL / 2
            blank = draw_landmarks(blank, placed, IBUG68, color)
        views.append(cv2.rectangle(blank, (0, 0), (CELL - 1, CELL - 1), (200, 200, 200)))
    return np.concatenate(views, axis=1)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a JSON report and write the picture; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.sdu3d.depth", description="Score 3D landmarks.")
    parser.add_argument("checkpoint", type=Path, help="of a training with --model.net.depth_head true")
    parser.add_argument("--count", type=int, default=128, help="synthetic test faces")
    parser.add_argument("--box_scale", type=float, default=1.35, help="of the crops, as in training")
    parser.add_argument("--picture", type=Path, default=None, help="picture of some faces from two sides; .png")
    options = parser.parse_args(arguments)
    task = load_task(SduTask, options.checkpoint)
    if task.dims != 3:
        raise LabError(f"{options.checkpoint}: has no depth head; train with --model.net.depth_head true")
    faces = WithDepth(SyntheticFaces(options.count, offset=TEST_OFFSET))
    crop = CropConfig(size=task.input_size, box_scale=options.box_scale)
    found = evaluate(task, CroppedFaces(faces, crop))
    pred, true, yaw = found.points, found.annotated_truth, found.pose[:, 0]
    print(json.dumps(summary(pred, true, yaw, mean_depth()), indent=1))
    if options.picture is not None:
        order = np.argsort(yaw)[np.linspace(0, len(yaw) - 1, min(8, len(yaw))).astype(int)]
        write_image(options.picture, grid([cell(pred[i], true[i]) for i in order], COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
