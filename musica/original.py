"""Crop of the official implementation for prediction, with all its rounding, and the cascade on it, for its weights.

python -m musica.original WEIGHTS.safetensors IMAGE --box X0 Y0 X1 Y1 [--policy FILE]

The command adds to `python -m common.predict` the early exit, the iterations run and the failure flag. Training here
uses the project's one square crop; official weights have learned this one. Frames: image and crop pixels with the first
pixel's centre at (0, 0); boxes are x0 y0 x1 y1 with both corners inside (inclusive sizes).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import LabError, command
from common.files.images import decode_image
from common.geometry import apply_affine
from common.prediction.inference import Predictor
from musica.exit import read_policy
from musica.network import CascadeNet
from musica.patches import make_level
from musica.pyramid import halvings, normalise
from musica.types import Pyramid

BOX_SIDE = 142  # pixels of the box's longer side in the crop
MARGIN = 0.3  # of the box's width and height, on every side


@dataclass(frozen=True)
class OfficialCrop:
    """A face as the official implementation gives it to the network, before its brightness is normalised.

    Attributes:
        pixels: (H, W, 3) float64, 0..255, RGB.
        matrix: (3, 3) acting on (x, y, 1), image to crop.
        shift: (3, 3) first map, by the crop's corner.
        blur: (3, 3) second map, half a pixel along axes of odd size.
        box: (4,) int, x0 y0 x1 y1 after the second map.
        corner: (2,) int, x, y of the scaled box's corner, from which the start shape counts.
    """

    pixels: np.ndarray
    matrix: np.ndarray
    shift: np.ndarray
    blur: np.ndarray
    box: np.ndarray
    corner: np.ndarray


def round_away(value: float) -> int:
    """Return the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _cut(image: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Return the window (inclusive corners) as floats, black outside the image."""
    canvas = np.zeros((y1 - y0 + 1, x1 - x0 + 1, 3))
    height, width = image.shape[:2]
    top, bottom, left, right = max(y0, 0), min(y1 + 1, height), max(x0, 0), min(x1 + 1, width)
    if top < bottom and left < right:
        canvas[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return canvas


def _half_pixel(canvas: np.ndarray, axis: int) -> np.ndarray:
    """Return the canvas read half a pixel further on along an axis; 0 follows the last pixel."""
    ahead = np.zeros_like(canvas)
    size = canvas.shape[axis]
    target, source = [slice(None)] * 3, [slice(None)] * 3
    target[axis], source[axis] = slice(0, size - 1), slice(1, size)
    ahead[tuple(target)] = canvas[tuple(source)]
    return np.asarray((canvas + ahead) / 2)


def official_crop(image: np.ndarray, box: np.ndarray) -> OfficialCrop:
    """Cut, blur and resize a face.

    Args:
        image: (H, W, 3) uint8, RGB.
        box: (4,) x0 y0 x1 y1 in image pixels.

    Raises:
        LabError: the box has no area, or the image is not an RGB image of bytes.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise LabError(f"the image must be (H, W, 3) bytes, got {image.shape} {image.dtype}")
    if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
        raise LabError(f"box {np.asarray(box).tolist()} is empty; it must be x0 y0 x1 y1 with x0 < x1 and y0 < y1")
    x0, y0, x1, y1 = (round_away(float(v)) for v in box)
    width, height = x1 - x0 + 1, y1 - y0 + 1
    grow_x, grow_y = MARGIN * width, MARGIN * height
    left, top = round_away(x0 - grow_x), round_away(y0 - grow_y)
    canvas = _cut(image, left, top, round_away(x1 + grow_x), round_away(y1 + grow_y))
    rows, columns = canvas.shape[:2]
    blur = np.eye(3)
    for axis, size, entry in ((0, rows, 1), (1, columns, 0)):
        # The official step turns by 0 degrees round floor(size / 2) - size / 2: a blur for odd sizes.
        if size % 2:
            canvas, blur[entry, 2] = _half_pixel(canvas, axis), -0.5
    middle = np.array([columns // 2, rows // 2])
    half = np.array([width, height]) / 2
    turned = np.concatenate([np.trunc(middle - half), np.trunc(middle + half)]).astype(np.int64)
    scale = BOX_SIDE / float(max(turned[2] - turned[0] + 1, turned[3] - turned[1] + 1))
    pixels = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]])
    matrix = np.diag([scale, scale, 1.0]) @ blur @ shift
    corner = np.array([round_away(float(turned[0] * scale)), round_away(float(turned[1] * scale))])
    return OfficialCrop(np.asarray(pixels), matrix, shift, blur, turned, corner)


@dataclass(frozen=True)
class OfficialFaces:
    """What the cascade predicts for some faces.

    Attributes:
        steps: for each iteration (B, N, 2) x, y, image pixels.
        error: (B,) last predicted errors, in the unit of the landmark loss.
        iterations: (B,) iterations that were run.
    """

    steps: list[Tensor]
    error: Tensor
    iterations: Tensor


@torch.inference_mode()
def run_official(
    net: CascadeNet,
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    exit_below: Sequence[float] | None = None,
) -> OfficialFaces:
    """Run a network with official weights on faces of any sizes.

    Every level is padded with zeros to the largest crop after its pyramid is made. Zero is also what the patches read
    outside a crop, so a face's points do not depend on the others of its batch.

    Args:
        net: with sampling official, whose `start` counts from the box's corner.
        images: B photographs (H, W, 3) uint8.
        boxes: B boxes (4,) x0 y0 x1 y1, image pixels.
        exit_below: thresholds, or None for all iterations.
    """
    crops = [official_crop(image, box) for image, box in zip(images, boxes, strict=True)]
    depth, device = max(net.level_of) + 1, net.start.device
    pyramids = [halvings(normalise(torch.from_numpy(crop.pixels)[None] / 255), depth) for crop in crops]
    levels = []
    for level in range(depth):
        faces = [pyramid[level].image for pyramid in pyramids]
        height, width = max(f.shape[1] for f in faces), max(f.shape[2] for f in faces)
        padded = [F.pad(f, (0, 0, 0, width - f.shape[2], 0, height - f.shape[1])) for f in faces]
        levels.append(make_level(torch.cat(padded).float().to(device)))
    corners = torch.tensor(np.stack([crop.corner[::-1] for crop in crops]).copy(), dtype=torch.float32, device=device)
    run = net.run(Pyramid(levels), net.first_shape(len(crops), corners), exit_below)
    back = torch.from_numpy(np.stack([np.linalg.inv(crop.matrix)[:2] for crop in crops])).to(device)
    steps = [apply_affine(back, points.flip(-1).double()) for points in run.points]
    return OfficialFaces(steps, run.errors[-1], run.iterations)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the landmarks as JSON and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m musica.original", description="Official weights on a photograph.")
    parser.add_argument("weights", type=Path, help="file of `python -m musica.convert`")
    parser.add_argument("image", type=Path, help="photograph")
    parser.add_argument("--box", type=float, nargs=4, required=True, metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--policy", type=Path, default=None, help="file of `python -m musica.choose_exit`")
    options = parser.parse_args(arguments)
    predictor = Predictor.load(options.weights)
    net = predictor.task.network()
    if not isinstance(net, CascadeNet) or not predictor.official:
        raise LabError(
            f"{options.weights}: not official weights of this method; make the file with python -m musica.convert"
        )
    if not options.image.is_file():
        raise LabError(f"{options.image}: no such file")
    image = decode_image(options.image.read_bytes(), str(options.image))
    policy = None
    if options.policy is not None:
        policy = read_policy(options.policy, len(net.level_of), predictor.scheme.name)
    found = run_official(net, [image], [np.array(options.box)], policy.exit_below if policy else None)
    result = {"points": found.steps[-1][0].tolist(), "predicted_error": float(found.error[0]),
              "iterations": int(found.iterations[0])}  # fmt: skip
    if policy is not None:
        result["failed"] = not found.error[0] <= policy.fail_above
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
