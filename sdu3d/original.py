"""Crops and decoding of the official implementation, for its weights and its published figures.

It keeps records of 384 pixels. Its tests (`test_rec_nme.py`) first align the face by five points, then cut round the
aligned landmarks, with room for the forehead that depends on the test set: both look at the truth. Its demo (`test.py`)
aligns by a detector's five points and cuts round the box that the detector finds then; a photograph with a box alone is
cut round the box, unturned.

    python -m sdu3d.original WEIGHTS.safetensors PICTURE... --detector FILE

goes the demo's way with any detector of five points whose boxes hold the forehead.

Points are (L, 2) x, y with the first pixel's centre at (0, 0); matrices are (2, 3); images are (H, W, 3) uint8.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from common.errors import LabError, command
from common.export.graph import GraphPart, Net
from common.files.images import read_image
from common.geometry import apply_affine, fit_similarity, invert_affine, tight_box
from common.prediction.inference import Predictor
from common.types import Prediction
from sdu3d.decode import decode_released
from sdu3d.loss import PEAK
from sdu3d.network import SduNet

if TYPE_CHECKING:
    from common.prediction.detection import Detector

RECORD, CROP = 384, 128  # sides of a stored record and of the network's input
BOX_FACTOR = 1.2
# Places of the eye centres, the tip of the nose and the corners of the mouth in a frame of 112 pixels.
TEMPLATE = np.array(
    [[38.2946, 41.6963], [73.5318, 41.5014], [56.0252, 61.7366], [41.5493, 82.3655], [70.7299, 82.2041]]
)
TEMPLATE_SHIFT = 80.0  # the record's frame is the template at twice the size, moved by this
FIVE_OF_68 = ((36, 39), (42, 45), (30,), (48,), (54,))
# Pixels of the aligned record by which the landmarks' box is raised to hold the forehead, by test set.
FOREHEAD: Mapping[str, float] = {"ibug": 36.0, "cofw_testset": 45.0, "300W": 40.0, "AFLW2000-3D": 30.0}


def five_points(points: np.ndarray) -> np.ndarray:
    """Return eye centres, nose tip and mouth corners (5, 2) of 68 points (68, 2)."""
    return np.stack([points[list(group)].mean(axis=0) for group in FIVE_OF_68])


def align_matrix(points: np.ndarray, size: int = RECORD) -> np.ndarray:
    """Return the similarity from the image to the aligned frame.

    Args:
        points: (68, 2) or five points (5, 2), image pixels.
        size: side of the frame; only the record's side has the face in its middle (official).

    Raises:
        LabError: another number of points, or the five coincide.
    """
    if len(points) not in (5, 68):
        raise LabError(f"alignment needs 5 or 68 points, got {len(points)}")
    five = points if len(points) == 5 else five_points(np.asarray(points, np.float64))
    target = 2 * TEMPLATE + TEMPLATE_SHIFT if size == RECORD else TEMPLATE
    try:
        return fit_similarity(np.asarray(five, np.float64), target)
    except ValueError:
        raise LabError("the five points of a face coincide; check its landmarks") from None


def square_matrix(box: np.ndarray, size: int = CROP) -> np.ndarray:
    """Return the map of the square round a box x0 y0 x1 y1, 1.2 times its longer side, to a crop; centre truncated."""
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(x1 - x0, y1 - y0)
    if side <= 0:
        raise LabError(f"box {x0:g} {y0:g} {x1:g} {y1:g} (x0 y0 x1 y1) has no area")
    scale = size / (BOX_FACTOR * side)
    cx, cy = int((x0 + x1) / 2), int((y0 + y1) / 2)
    return np.array([[scale, 0.0, size / 2 - scale * cx], [0.0, scale, size / 2 - scale * cy]])


def forehead_box(points: np.ndarray, dataset: str) -> np.ndarray:
    """Return the landmarks' box (4,) in the aligned record, raised as for that test set; others as AFLW2000-3D."""
    box = tight_box(np.asarray(points, np.float64))
    box[1] = max(box[1] - FOREHEAD.get(dataset, FOREHEAD["AFLW2000-3D"]), 0.0)
    return box


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Return the (size, size, 3) picture after applying the map, bilinear, black outside."""
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))


def released_test_crop(
    image: np.ndarray, points: np.ndarray, dataset: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Align a record by its ground truth and cut the test crop, in two warps as the official code does.

    Returns:
        The crop (128, 128, 3), the map from record to aligned record, and the map from there to the crop.
    """
    align = align_matrix(points)
    cut = square_matrix(forehead_box(apply_affine(align, np.asarray(points, np.float64)), dataset))
    return warp(warp(image, align, RECORD), cut, CROP), align, cut


class ReleasedMaps(nn.Module):
    """What official predictions need of a network: the landmarks' maps (B, T, L, M, M) of all stacks.

    The official test takes the last map before its refinement by a deformable join.
    """

    def __init__(self, net: SduNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, crops: Tensor) -> tuple[Tensor]:
        """Return the maps of crops (B, 3, 128, 128) uint8."""
        return (torch.stack([maps.float() for maps in self.net(crops, released=True).heatmaps], dim=1),)


def official_parts(net: SduNet) -> dict[str, GraphPart]:
    """Return the network that `predict_official` runs."""
    crops = torch.zeros(2, 3, CROP, CROP, dtype=torch.uint8)
    return {"maps": GraphPart(ReleasedMaps(net).eval(), {"image": crops}, ("maps",))}


@torch.inference_mode()
def predict_official(
    net: SduNet, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
) -> Prediction:
    """Return points (N, L, 2) in image pixels, heights of the peaks (N, L), about 1 at a landmark, and stacks' points.

    A point is the pixel of the crop with the highest value after the map is enlarged to the crop, as `test.py` does it.

    Args:
        net: with official weights.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels, of a detector: from the forehead to the chin.
        nets: what to run in place of `official_parts`.
    """
    matrices = [square_matrix(box) for box in np.asarray(boxes)]
    device = next(net.parameters()).device
    crops = np.stack([warp(image, matrix, CROP) for matrix in matrices])
    back = torch.from_numpy(np.stack([invert_affine(matrix) for matrix in matrices])).to(device)
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).to(device)
    heatmaps = (nets["maps"] if nets else ReleasedMaps(net))(pixels)[0].unbind(1)
    # From cells to the crop's pixels, whose centres are whole numbers.
    cells = [(decode_released(maps, CROP // maps.shape[-1]), CROP // maps.shape[-1]) for maps in heatmaps]
    steps = [apply_affine(back, found.double() * stride - 0.5) for found, stride in cells]
    return Prediction(points=steps[-1], score=heatmaps[-1].flatten(2).amax(-1).clamp(min=0) / PEAK, steps=steps)


def predict_demo(net: SduNet, image: np.ndarray, detector: Detector) -> list[np.ndarray]:
    """Return the points (68, 2), image pixels, of each face that is found, as the demo does it.

    A face is aligned by the detector's five points, looked for again in the aligned record, and cut round the surest
    box there. One that is not found a second time is left out.

    Raises:
        LabError: the detector gives no five points.
    """
    faces = []
    for five in detector.detect(image).five:
        if not np.isfinite(five).all():
            raise LabError(f"detector {detector.name} gives no five points to align by; give a YuNet model")
        align = align_matrix(five)
        aligned = warp(image, align, RECORD)
        again = detector.detect(aligned)
        if len(again):
            found = predict_official(net, aligned, again.boxes[:1]).points[0].double().cpu().numpy()
            faces.append(apply_affine(invert_affine(align), found))
    return faces


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a line of JSON for each picture; return the exit code."""
    from common.prediction.detector_file import open_detector  # here: only the command looks for faces

    parser = argparse.ArgumentParser(prog="python -m sdu3d.original", description="Official weights, the demo's way.")
    parser.add_argument("weights", type=Path, help="file of `python -m sdu3d.convert`")
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--detector", help="YuNet model, .onnx; default: the one that is found")
    options = parser.parse_args(arguments)
    predictor = Predictor.load(options.weights)
    net = predictor.task.network()
    if not isinstance(net, SduNet) or not predictor.official:
        raise LabError(f"{options.weights}: no official weights of this method; make them by python -m sdu3d.convert")
    detector = open_detector(options.detector)
    for path in options.pictures:
        faces = predict_demo(net, read_image(path), detector)
        print(json.dumps({"picture": str(path), "faces": [{"points": points.tolist()} for points in faces]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
