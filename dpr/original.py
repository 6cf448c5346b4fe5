"""Crops of the official implementation, for its weights.

    python -m dpr.original WEIGHTS.safetensors PICTURES --out FOLDER

is its demo: boxes from NAME.rct, the points drawn, and the error where true points are in NAME.txt.

It cuts with OpenCV's `warpAffine` and keeps every crop as whole grey levels (`demo_GSR.py`, `demo_GLSR.py`); all else
of its way from a photograph to points is the network's own. Training and evaluation here sample with PyTorch, so that
gradients reach the maps.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from common.data.base import check_points
from common.errors import LabError, command
from common.files.images import read_image, write_image
from common.files.validation import read_text
from common.metrics.functional import nme, normaliser, point_errors
from common.prediction.inference import Predictor
from common.prediction.plotting import draw_landmarks
from common.prediction.sources import expand, read_rct
from common.schemes import LandmarkScheme
from common.types import Prediction
from dpr.network import DPRNet


def official_sample(image: Tensor, matrix: Tensor, size: int, rounded: bool = True) -> Tensor:
    """Return crops (B, C, S, S) of whole grey levels as `dpr.transform.sample` does, by OpenCV's warp.

    Args:
        image: (B, C, H, W), values 0 to 255; outside of it is 0 (black).
        matrix: (B, 2, 3) from image to crop pixels.
        size: S.
        rounded: as in `sample`; these crops always are.
    """
    crops = [
        cv2.warpAffine(
            picture.permute(1, 2, 0).round().byte().cpu().numpy(),
            each.double().cpu().numpy(),
            (size, size),
            flags=cv2.INTER_LINEAR,
        )
        for picture, each in zip(image, matrix, strict=True)
    ]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(image)


@torch.inference_mode()
def predict_official(net: DPRNet, image: np.ndarray, boxes: np.ndarray) -> Prediction:
    """Return points (N, L, 2) in image pixels: GLSR's where there is a local stage, else GSR's; GSR's come first.

    Args:
        net: with official weights.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels, as the `.rct` files beside the official samples.
    """
    official = copy.copy(net)  # shares the weights; the given network keeps its own sampler
    official.sampler = official_sample
    device = net.mean_face.device
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1).float()[None]
    box = torch.from_numpy(np.asarray(boxes, np.float64)).to(device)
    found = official(pixels.expand(len(box), -1, -1, -1), box)
    steps = [found.global_points, found.points] if found.part_offsets else [found.points]
    return Prediction(points=steps[-1], steps=steps)


def read_points(path: Path, scheme: LandmarkScheme) -> np.ndarray:
    """Return the true points (L, 2) of an official sample: their number, then a line "x y" each, image pixels.

    Raises:
        LabError: the file is missing or of another form.
    """
    words = read_text(path).split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise LabError(f"{path}: expected the number of points, then a line x y each") from None
    if len(values) != 1 + 2 * scheme.num_points or values[0] != scheme.num_points:
        raise LabError(f"{path}: expected {scheme.num_points} points after their number, got {len(values) - 1} values")
    return check_points(np.array(values[1:]).reshape(-1, 2), scheme, str(path))


def demo(predictor: Predictor, path: Path, out: Path) -> float | None:
    """Draw the points of a picture into a folder; return its error in percent where NAME.txt has the truth.

    Raises:
        LabError: the picture, its NAME.rct or its NAME.txt cannot be read.
    """
    image, scheme = read_image(path), predictor.scheme
    points = predictor(image, read_rct(path.with_suffix(".rct"))[None]).points.double().cpu().numpy()
    out.mkdir(parents=True, exist_ok=True)
    write_image(out / f"{path.stem}.png", draw_landmarks(image, points[0], scheme))
    if not path.with_suffix(".txt").is_file():
        return None
    truth = read_points(path.with_suffix(".txt"), scheme)[None].astype(np.float64)
    return float(nme(point_errors(points, truth, normaliser("corners", truth, scheme)))[0])


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print errors in percent of the outer eye corners' distance; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dpr.original", description="The official demo, with its errors.")
    parser.add_argument("weights", type=Path, help="file of `python -m dpr.convert`")
    parser.add_argument("pictures", type=Path, nargs="+", help="pictures or folders, each picture with its NAME.rct")
    parser.add_argument("--out", type=Path, default=Path("dpr_demo"), help="folder for the drawn pictures")
    options = parser.parse_args(arguments)
    predictor = Predictor.load(options.weights, backend="eager")
    errors = []
    for path in expand(options.pictures):
        error = demo(predictor, path, options.out)
        print(f"{path}: " + ("no truth" if error is None else f"{error:.2f} %"))
        errors += [] if error is None else [error]
    if errors:
        print(f"mean of {len(errors)}: {np.mean(errors):.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
