"""Augmentation of the official SPIGA loader, in its order of draws, to compare golden data and `spiga.original` with.

Used by tests only. Frames as in `spiga.original`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from common.errors import LabError
from common.schemes import Indices
from spiga.original import Face, move_points, warp_nearest

SHIFT, SCALE, ANGLE = 0.05, 0.15, 45.0  # shares of the box, share, degrees
OCCLUDER = (0.1, 0.4)  # side of the occluder over the box's
HSV_LIMITS = (179, 255, 255)


def flip_face(face: Face, mirror: Indices) -> Face:
    """Return the mirrored face: x becomes W - x (not W - 1 - x), for points and box."""
    width = face.image.shape[1]
    points = np.asarray(face.points, np.float64)[list(mirror)]
    points = np.column_stack([width - points[:, 0], points[:, 1]])
    box = np.array([width - face.box[0] - face.box[2], *face.box[1:]], np.float64)
    return Face(np.ascontiguousarray(face.image[:, ::-1]), points, box)


def draw_motion(rng: np.random.RandomState) -> tuple[float, float, float, float]:
    """Return shift x, y as shares of the box, scale and degrees, drawn in the released order."""
    shift_x, shift_y = rng.uniform(-SHIFT, SHIFT), rng.uniform(-SHIFT, SHIFT)
    return shift_x, shift_y, 1 + rng.uniform(-SCALE, SCALE), rng.uniform(-ANGLE, ANGLE)


def move_face(face: Face, shift_x: float, shift_y: float, scale: float, degrees: float) -> Face:
    """Turn (positive is clockwise) and scale about the middle of the box; shift the box alone.

    The new box holds the turned corners of the old one, so that a turn enlarges the later crop by up to 1.41.
    """
    x, y, width, height = np.asarray(face.box, np.float64).tolist()
    middle = np.array([x + width / 2, y + height / 2])
    angle = math.radians(degrees)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.column_stack([linear, middle - linear @ middle])
    left, top = x + shift_x * width, y + shift_y * height
    corners = np.array([[left, top], [left + width, top], [left, top + height], [left + width, top + height]])
    moved = move_points(matrix, corners)
    box = np.concatenate([moved.min(axis=0), np.ptp(moved, axis=0)])
    return Face(warp_nearest(face.image, matrix, face.image.shape[:2]), move_points(matrix, face.points), box)


def occlude(face: Face, rng: np.random.RandomState) -> tuple[Face, np.ndarray, np.ndarray]:
    """Lay a rectangle of one colour over a part of the box.

    Returns:
        The face; the rectangle (4,) x0, y0, x1, y1 with exclusive ends; visibility (L,) of the points.
    """
    x, y, width, height = np.asarray(face.box, np.float64).tolist()
    low, high = OCCLUDER
    try:
        cover_x = int(rng.randint(int(width * low), int(width * high)))
        cover_y = int(rng.randint(int(height * low), int(height * high)))
        left = int(rng.randint(int(x), int(x + width - cover_x)))
        top = int(rng.randint(int(y), int(y + height - cover_y)))
    except ValueError:
        raise LabError(f"a box of {width:g} x {height:g} pixels is too small for an occluder") from None
    colour = rng.uniform(0, 255, 3)
    rows, columns = face.image.shape[:2]
    x0, x1 = max(left, 0), min(left + cover_x, columns)
    y0, y1 = max(top, 0), min(top + cover_y, rows)
    image = face.image.copy()
    image[y0:y1, x0:x1] = colour
    px, py = np.asarray(face.points, np.float64).T
    hidden = (px > x0) & (px < x1) & (py > y0) & (py < y1)
    return Face(image, face.points, face.box), np.array([x0, y0, x1, y1]), ~hidden


def change_light(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return an RGB image with hue, saturation and value (OpenCV's 8-bit ranges) times the factors (3,), clipped."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float64) * factors
    hsv = np.minimum(hsv, HSV_LIMITS).astype(np.uint8)  # cut off, not rounded; the hue does not wrap
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def draw_light(rng: np.random.RandomState, reach: float = 0.5) -> np.ndarray:
    """Return factors (3,) of hue, saturation and value in 1 - reach ... 1 + reach."""
    return np.array([1 + rng.uniform(-reach, reach) for _ in range(3)])


def blur(image: np.ndarray, kernel: int) -> np.ndarray:
    """Return the image behind a Gaussian of 1, 3 or 5 taps, whose sigma follows the number of taps."""
    return np.asarray(cv2.GaussianBlur(image, (kernel, kernel), 0))
