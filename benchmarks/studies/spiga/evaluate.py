"""Score predictions, or a model of one's own, as the official evaluator does.

python -m benchmarks.studies.spiga.evaluate PREDICTIONS.npz --dataset 300wpublic
python -m benchmarks.studies.spiga.evaluate results.json --truth test.json --dataset 300wpublic
python -m benchmarks.studies.spiga.evaluate RUN/checkpoints/last.ckpt --root FOLDER --dataset 300wpublic

A result JSON is what the official program writes: a list of faces with `imgpath`, `landmarks` and perhaps `headpose`;
its truth is the annotation of the same form. A checkpoint predicts the test split of its run's own data; the true head
poses are then found by POSIT, from the true landmarks.

An .npz file holds `pred` and `gt` (N, L, 2) in image pixels, `bbox` (N, 4) x, y, width, height, and perhaps
`headpose_pred` (N, 6 or 3), `headpose_gt` (else found by POSIT, as the official annotation was), `visible` and
`subset_NAME`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from common.errors import LabError, command
from common.evaluation import batches, evaluate_batches, load_data
from common.files.arrays import read_arrays
from common.files.validation import Finite, read_json, validated
from common.geometry import tight_box
from common.metrics.pose import pose_report
from common.metrics.protocols import PROTOCOLS, dataset_key, evaluate
from common.pose import Camera, posit
from common.schemes import IBUG68, MERLRAV68, WFLW98, LandmarkScheme
from common.task import load_task
from common.types import FaceBatch, Prediction
from spiga.mean_face import default_mean_face, read_mean_face
from spiga.module import SpigaTask
from spiga.original import SIZE, crop_map, move_points, round_points
from spiga.schemes import POSE_POINTS

PROTOCOL = "spiga"
SCHEMES = {"wflw": WFLW98, "merlrav": MERLRAV68}  # the other sets have 68 points of the common scheme
SUBSET = "subset_"
FIGURES = ("nme", "nme_p90", "nme_p95", "nme_p99", "auc", "fr")


class _Face(BaseModel):
    """What is read of a face of a result or annotation JSON."""

    imgpath: str
    landmarks: list[tuple[Finite, Finite]]
    bbox: tuple[Finite, Finite, Finite, Finite] = (0, 0, 0, 0)
    headpose: Annotated[list[Finite], Field(min_length=6, max_length=6)] | None = None


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


def read_results(path: Path, truth: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a result JSON and its annotation, with the subsets of a db_info.json next to that.

    Raises:
        LabError: a file is wrong, or the two do not hold the same faces in the same order.
    """
    predicted = validated(list[_Face], read_json(path), str(path))
    annotated = validated(list[_Face], read_json(truth), str(truth))
    names, wanted = [face.imgpath for face in predicted], [face.imgpath for face in annotated]
    if names != wanted:
        row = next((k for k, pair in enumerate(zip(names, wanted, strict=False)) if pair[0] != pair[1]), len(names))
        raise LabError(f"{path}: face {row} is not that of {truth} ({len(names)} and {len(wanted)} faces)")
    counts = {len(face.landmarks) for face in (*predicted, *annotated)}
    if len(counts) != 1:
        raise LabError(f"{path} and {truth}: faces have {min(counts)} to {max(counts)} points; all must have as many")
    arrays = {"pred": np.array([face.landmarks for face in predicted]),
              "gt": np.array([face.landmarks for face in annotated]),
              "bbox": np.array([face.bbox for face in annotated])}  # fmt: skip
    for name, faces in (("headpose_pred", predicted), ("headpose_gt", annotated)):
        if all(face.headpose is not None for face in faces):
            arrays[name] = np.array([face.headpose for face in faces], dtype=np.float64)
    about = truth.with_name("db_info.json")
    if about.is_file():
        subsets = read_json(about).get("test_subsets") or {}
        arrays |= {SUBSET + key: np.array(rows, dtype=int) for key, rows in subsets.items()}
    return arrays


def predict(weights: Path, root: str | None, split: str) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint's predictions on the data of its run's configuration.

    Raises:
        LabError: the checkpoint is another method's or has no head pose, or its data cannot be read.
    """
    task = load_task(SpigaTask, weights)
    data = load_data(weights.resolve().parents[1] / "config.yaml", root, task)
    poses: list[np.ndarray] = []

    def answer(batch: FaceBatch) -> Prediction:
        found = task.predict_batch(batch)
        if found.pose is not None and found.translation is not None:
            poses.append(torch.cat([found.pose, found.translation], dim=1).double().cpu().numpy())
        return found

    found = evaluate_batches(task, batches(data, split), answer)
    if not poses:
        raise LabError(f"{weights}: a network of stage 1 has no head pose; give a checkpoint of stage 2 or 3")
    corners = found.box if found.box is not None else np.stack([tight_box(points) for points in found.truth])
    arrays = {"pred": found.points, "gt": found.annotated_truth, "visible": found.visible,
              "bbox": np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
              "headpose_pred": np.concatenate(poses)}  # fmt: skip
    return arrays | {SUBSET + name: np.flatnonzero(rows) for name, rows in found.subsets.items()}


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
    result: dict[str, object] = {
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


def _arrays(options: argparse.Namespace) -> dict[str, np.ndarray]:
    path: Path = options.predictions
    match path.suffix:
        case ".ckpt":
            return predict(path, options.root, options.split)
        case ".json":
            if options.truth is None:
                raise LabError(f"{path}: give the annotation of the same faces by --truth")
            return read_results(path, options.truth)
        case _:
            return read_predictions(path)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the report as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.spiga.evaluate",
        description="Score predictions as the official evaluator does.",
    )
    parser.add_argument("predictions", type=Path, help=".npz, the official result .json, or a checkpoint .ckpt")
    parser.add_argument("--truth", type=Path, help="annotation .json of a result .json")
    parser.add_argument("--root", help="folder of the data that a checkpoint predicts; default: that of its run")
    parser.add_argument("--split", default="test", help="of those data")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--mean_face", type=Path, help="for poses of the truth, where the file has none")
    parser.add_argument("--out", type=Path, help="file to write the report to; .json")
    options = parser.parse_args(arguments)
    scheme = SCHEMES.get(dataset_key(options.dataset), IBUG68)
    model = None if options.mean_face is None else read_mean_face(options.mean_face, scheme)
    text = json.dumps(report(_arrays(options), options.dataset, model), indent=1)
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
