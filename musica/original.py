"""Crop of the official implementation for prediction, with all its rounding, and the cascade on it, for its weights.

python -m musica.original WEIGHTS.safetensors IMAGE --box X0 Y0 X1 Y1 [--policy FILE]
python -m musica.original WEIGHTS.safetensors --list wflw_expressions.txt --boxes BOXES --truth PTS --out FOLDER

The command adds to `python -m common.predict` the early exit, the iterations run and the failure flag, and reads the
official archive: boxes and true points as .pts files. Its mean error is a fraction of the outer eye corners' distance.

Training here uses the project's one square crop; official weights have learned this one. Frames: image and crop pixels
with the first pixel's centre at (0, 0); boxes are x0 y0 x1 y1 with both corners inside (inclusive sizes).
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

from common.data.base import check_box
from common.data.readers._pts import read_pts
from common.errors import LabError, command
from common.files.images import read_image, write_image
from common.geometry import apply_affine
from common.metrics.protocols import evaluate
from common.prediction.inference import Predictor
from common.prediction.plotting import draw_landmarks
from common.prediction.sources import expand
from common.schemes import LandmarkScheme
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


def read_box(path: Path) -> np.ndarray:
    """Return the box x0 y0 x1 y1 (4,), image pixels, of a box file of the archive: a .pts of four corners.

    Raises:
        LabError: the file is missing or of another form.
    """
    corners = read_pts(path, 4) - 1  # left top, left bottom, right bottom, right top
    return check_box(np.concatenate([corners[0], corners[2]]), str(path))


def write_face(folder: Path, name: str, points: np.ndarray, image: np.ndarray, scheme: LandmarkScheme) -> None:
    """Write NAME.pts as the official program does (counted from 1, three decimals) and NAME.png, the points drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points + 1)
    (folder / f"{name}.pts").write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}}}\n", encoding="ascii")
    write_image(folder / f"{name}.png", draw_landmarks(image, points, scheme))


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(prog="python -m musica.original", description="Official weights on photographs.")
    result.add_argument("weights", type=Path, help="file of `python -m musica.convert`")
    result.add_argument("pictures", type=Path, nargs="*", help="photographs or folders")
    result.add_argument("--list", type=Path, help="text file with a photograph on each line, relative to it")
    result.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="of a single photograph")
    result.add_argument("--boxes", type=Path, help="folder of NAME.pts with the four corners of each photograph's box")
    result.add_argument("--truth", type=Path, help="folder of NAME.pts with the true points: the mean error is printed")
    result.add_argument("--out", type=Path, help="folder for NAME.pts and the drawn NAME.png")
    result.add_argument("--policy", type=Path, default=None, help="file of `python -m musica.choose_exit`")
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a line of JSON for each photograph, and the mean error; return the exit code."""
    options = parser().parse_args(arguments)
    predictor = Predictor.load(options.weights)
    net, scheme = predictor.task.network(), predictor.scheme
    if not isinstance(net, CascadeNet) or not predictor.official:
        raise LabError(
            f"{options.weights}: not official weights of this method; make the file with python -m musica.convert"
        )
    pictures = expand(options.pictures, options.list)
    if (options.box is None) == (options.boxes is None) or (options.box is not None and len(pictures) != 1):
        raise LabError("give --box for one photograph, or --boxes FOLDER for any number")
    policy = None
    if options.policy is not None:
        policy = read_policy(options.policy, len(net.level_of), scheme.name)
    errors = []
    for path in pictures:
        image = read_image(path)
        box = np.array(options.box) if options.boxes is None else read_box(options.boxes / f"{path.stem}.pts")
        found = run_official(net, [image], [box], policy.exit_below if policy else None)
        points = found.steps[-1][0].cpu().numpy()
        result = {"picture": str(path), "points": points.tolist(), "predicted_error": float(found.error[0]),
                  "iterations": int(found.iterations[0])}  # fmt: skip
        if policy is not None:
            result["failed"] = not found.error[0] <= policy.fail_above
        if options.truth is not None:
            truth = read_pts(options.truth / f"{path.stem}.pts", scheme.num_points) - 1
            errors.append(evaluate("musica", points[None], truth[None], scheme, "any")["nme"] / 100)
            result["error"] = errors[-1]
        print(json.dumps(result))
        if options.out is not None:
            write_face(options.out, path.stem, points, image, scheme)
    if errors:
        print(json.dumps({"faces": len(errors), "mean_error": float(np.mean(errors))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
