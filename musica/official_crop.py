"""The released preprocessing for inference, with all its rounding (spec section 5), for released weights.

Training here uses the laboratory's one square crop; released weights have learned this one. Frames: image and crop
pixels with the first pixel's centre at (0, 0); boxes are x0 y0 x1 y1 with both corners inside (inclusive sizes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from common.errors import LabError

BOX_SIDE = 142  # pixels of the box's longer side in the crop
MARGIN = 0.3  # of the box's width and height, on every side


@dataclass(frozen=True)
class OfficialCrop:
    """A face as the released program hands it to the network, before its brightness is normalised.

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
    """Return the canvas read half a pixel further on along an axis; 0 stands behind the last pixel."""
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
        LabError: the box has no area, or the image is no RGB image of bytes.
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
        # The released step turns by 0 degrees round floor(size / 2) - size / 2: a blur for odd sizes.
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
