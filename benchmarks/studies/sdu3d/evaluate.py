"""Scores by the official evaluator, and without its quirks.

python -m benchmarks.studies.sdu3d.evaluate WEIGHTS.safetensors --records ibug.rec
    official records, official crops
python -m benchmarks.studies.sdu3d.evaluate RUN/checkpoints/best.ckpt --data crops_300w --split val
    this project's crops

Both give every decoder's NME on the same maps, by the distance of the eye centres and by the root of the landmark
box's area.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.data.base import FaceDataset
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.readers.crops import PreparedCrops
from common.data.readers.records import RecordFaces
from common.errors import LabError, command
from common.evaluation import batches, evaluate_batches
from common.files.checkpoints import load_weights, read_state_dict
from common.geometry import apply_affine, compose_affine, invert_affine
from common.metrics.functional import nme, normaliser, point_errors
from common.packing import crop_of
from common.schemes import IBUG68
from common.task import load_task
from common.types import FaceBatch, Prediction
from sdu3d.convert import TASK_PREFIX, build, describe
from sdu3d.decode import DECODERS, decode
from sdu3d.module import SduTask
from sdu3d.network import SduNet
from sdu3d.original import released_test_crop

NORMS = ("eye_centres", "lnd_bbox")
PLANE = slice(0, 2)
ROUNDING = {"AFLW2000-3D": np.round}  # how true points are quantised in the crop; others are floored


def quantised_truth(points: np.ndarray, matrix: np.ndarray, dataset: str) -> np.ndarray:
    """Return true points (68, 2), whole numbers of crop pixels carried back to the record."""
    rounding = ROUNDING.get(dataset, np.floor)
    return np.asarray(apply_affine(invert_affine(matrix), rounding(apply_affine(matrix, points))))


def mean_nme(pred: np.ndarray, true: np.ndarray, norm: str) -> float:
    """Return the mean NME in percent of points (N, 68, 2); the normaliser is taken from `true`."""
    return float(nme(point_errors(pred, true, normaliser(norm, true, IBUG68))).mean())


@torch.inference_mode()
def score_records(net: SduNet, faces: FaceDataset, dataset: str) -> dict[str, dict[str, float]]:
    """Score a network on records of 384 pixels by the official crops.

    Args:
        net: in evaluation mode.
        faces: records with 68 points.
        dataset: ibug, cofw_testset, 300W or AFLW2000-3D; decides the crop and the rounding.

    Returns:
        decoder -> "released_NORM" (quantised truth) and "exact_NORM" (true points as they are, predictions moved by
        half a pixel, since the official targets fall into truncated cells), in percent.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in DECODERS}
    moved: dict[str, list[np.ndarray]] = {name: [] for name in DECODERS}
    rounded, exact = [], []
    for index in range(len(faces)):
        sample = faces[index]
        points = sample.points.astype(np.float64)
        crop, align, cut = released_test_crop(sample.image, points, dataset)
        matrix = compose_affine(cut, align)
        maps = net(torch.from_numpy(crop).permute(2, 0, 1)[None], released=True).heatmaps[-1]
        for name in DECODERS:
            place = decode(maps, name, net.stride)[0].double().numpy() * net.stride - 0.5
            found[name].append(apply_affine(invert_affine(matrix), place))
            moved[name].append(apply_affine(invert_affine(matrix), place + 0.5))
        rounded.append(quantised_truth(points, matrix, dataset))
        exact.append(points)
    report: dict[str, dict[str, float]] = {}
    for name in DECODERS:
        report[name] = {f"released_{n}": mean_nme(np.stack(found[name]), np.stack(rounded), n) for n in NORMS}
        report[name] |= {f"exact_{n}": mean_nme(np.stack(moved[name]), np.stack(exact), n) for n in NORMS}
    return report


def score_crops(task: SduTask, faces: FaceDataset, config: CropConfig) -> dict[str, dict[str, float]]:
    """Score a trained task on this project's crops: decoder -> normaliser -> NME in percent."""

    def predict(batch: FaceBatch) -> Prediction:
        maps, steps = task(batch.image).heatmaps[-1], []
        for task.decode in DECODERS:
            steps.append(task.decode_maps(maps))
        return Prediction(points=steps[-1], steps=steps)

    own = task.decode
    found = evaluate_batches(task, batches(CroppedFaces(faces, config)), predict)
    task.decode = own
    return {
        name: {norm: float(found.errors(points, norm, PLANE).mean()) for norm in ("corners", *NORMS)}
        for name, points in zip(DECODERS, found.steps, strict=True)
    }


def own_crop(path: Path, box_scale: float | None = None) -> CropConfig:
    """Return the crop that a checkpoint's network was trained with; with another scale where one is given."""
    own = crop_of(path)
    return own if box_scale is None else replace(own, box_scale=box_scale)


def load_net(path: Path) -> SduNet:
    """Return the network of a converted file, in evaluation mode.

    Raises:
        LabError: the file is missing or holds other weights.
    """
    state = {key.removeprefix(TASK_PREFIX): value for key, value in read_state_dict(path).items()}
    arrays = {key.replace(".", "_"): value.numpy() for key, value in state.items()}
    net = build(describe(arrays))
    load_weights(net, state, str(path))
    return net.eval()


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a JSON report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.sdu3d.evaluate", description="Score weights.")
    parser.add_argument("weights", type=Path, help="converted .safetensors with --records, checkpoint with --data")
    parser.add_argument("--records", type=Path, help="official record file; its name decides crop and rounding")
    parser.add_argument("--data", type=Path, help="folder of prepared crops")
    parser.add_argument("--split", default="val", help="of the prepared crops")
    parser.add_argument("--box_scale", type=float, help="of the prepared crops; default: the run's own crop")
    options = parser.parse_args(arguments)
    report: Mapping[str, object]
    if options.records is not None:
        faces = RecordFaces(str(options.records))
        report = score_records(load_net(options.weights), faces, faces.name)
    elif options.data is not None:
        task = load_task(SduTask, options.weights)
        config = own_crop(options.weights, options.box_scale)
        report = score_crops(task, PreparedCrops(str(options.data), options.split), config)
    else:
        raise LabError("give --records FILE or --data FOLDER")
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
