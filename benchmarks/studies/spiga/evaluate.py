"""Score predictions as the release does.

python -m benchmarks.studies.spiga.evaluate PREDICTIONS.npz --dataset 300wpublic

The file holds `pred` and `gt` (N, L, 2) in image pixels, `bbox` (N, 4) x, y, width, height, and perhaps `headpose_pred`
(N, 6 or 3), `headpose_gt` (else found by POSIT, as the release's annotation was), `visible` and `subset_NAME`.
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

from common.errors import LabError, command
from common.files.arrays import read_arrays
from common.metrics.pose import pose_report
from common.metrics.protocols import PROTOCOLS, dataset_key, evaluate
from common.pose import Camera, posit
from common.schemes import IBUG68, MERLRAV68, WFLW98, LandmarkScheme
from spiga.mean_face import default_mean_face, read_mean_face
from spiga.original import SIZE, crop_map, move_points, round_points
from spiga.schemes import POSE_POINTS

PROTOCOL = "spiga"
SCHEMES = {"wflw": WFLW98, "merlrav": MERLRAV68}  # the other sets have 68 points of the common scheme
SUBSET = "subset_"
FIGURES = ("nme", "nme_p90", "nme_p95", "nme_p99", "auc", "fr")


def find_poses(points: np.ndarray, boxes: np.ndarray, scheme: LandmarkScheme, model: torch.Tensor) -> np.ndarray:
    """Return poses (N, 6) of annotated faces by POSIT, as the training targets are made; NaN where there is none.

    Args:
        points: (N, L, 2) image pixels.
        boxes: (N, 4) x, y, width, height, image pixels.
        scheme: of the points.
        model: (L, 3) mean face.
    """
    chosen = np.zeros(scheme.num_points, bool)
    chosen[list(POSE_POINTS[scheme.name])] = True
    rounded = [round_points(move_points(crop_map(b), p), SIZE) for p, b in zip(points, boxes, strict=True)]
    whole = torch.from_numpy(np.stack([point for point, _ in rounded]))
    mask = torch.from_numpy(np.stack([mask & chosen for _, mask in rounded]).astype(np.float64))
    pose, known = posit(whole, model.double(), mask, Camera.of_size(SIZE))
    pose[~known] = torch.nan
    return pose.numpy()


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file.

    Raises:
        LabError: the file is missing, damaged, or lacks pred or gt.
    """
    arrays = read_arrays(path)
    absent = [name for name in ("pred", "gt", "bbox") if name not in arrays]
    if absent:
        raise LabError(f"{path}: array {absent[0]} is missing; it has {', '.join(arrays) or 'none'}")
    return arrays


def report(arrays: dict[str, np.ndarray], dataset: str, model: torch.Tensor | None = None) -> dict[str, Any]:
    """Return landmark figures of all faces and each subset, and pose figures if poses were predicted.

    Args:
        arrays: see the module.
        dataset: wflw, 300wpublic (or 300w), 300wprivate, cofw68 or merlrav.
        model: mean face for poses that are not in the file; None for this project's own.

    Raises:
        LabError: the data set is unknown, or the arrays do not fit.
    """
    known = PROTOCOLS[PROTOCOL].measures
    if dataset_key(dataset) not in known:
        raise LabError(f"--dataset must be one of {', '.join(known)}, got {dataset}")
    scheme = SCHEMES.get(dataset_key(dataset), IBUG68)
    subsets = {k.removeprefix(SUBSET): v for k, v in arrays.items() if k.startswith(SUBSET)}
    try:
        found = evaluate(PROTOCOL, arrays["pred"], arrays["gt"], scheme, dataset, arrays["bbox"],
                         arrays.get("visible"), subsets)  # fmt: skip
    except (ValueError, IndexError) as error:
        raise LabError(f"predictions do not fit data set {dataset}: {error}") from None
    result: dict[str, Any] = {
        "dataset": dataset, "n": found["n"], "normaliser": found["norm"], "threshold": found["threshold"],
        "full": {name: found[name] for name in FIGURES},
        "subset": {k: {name: v[name] for name in FIGURES} for k, v in found["subset"].items()},
    }  # fmt: skip
    if "headpose_pred" in arrays:
        true = arrays.get("headpose_gt")
        if true is None:
            face = default_mean_face(scheme) if model is None else model
            true = find_poses(arrays["gt"], arrays["bbox"], scheme, face)
        rows = np.isfinite(true).all(axis=1)
        result["headpose"] = {"n": int(rows.sum()), **pose_report(arrays["headpose_pred"][rows], true[rows])}
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the report as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.spiga.evaluate", description="Score predictions as the release."
    )
    parser.add_argument("predictions", type=Path, help=".npz")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--mean_face", type=Path, help="for poses of the truth, where the file has none")
    parser.add_argument("--out", type=Path, help="file to write the report to; .json")
    options = parser.parse_args(arguments)
    scheme = SCHEMES.get(dataset_key(options.dataset), IBUG68)
    model = None if options.mean_face is None else read_mean_face(options.mean_face, scheme)
    text = json.dumps(report(read_predictions(options.predictions), options.dataset, model), indent=1)
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
