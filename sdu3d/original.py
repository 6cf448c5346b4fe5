"""Crops of the released pipeline, for its weights and its published figures (specification, sections 8.2 and 9).

The release keeps 384-pixel records. Training cuts about their centre; its tests first align the face by five points,
then cut round the aligned landmarks, with room for the forehead that depends on the test set. Both look at the ground
truth; the laboratory's own crops (`common.data.crops`) do not turn faces upright.

Points are (L, 2) x, y with the first pixel's centre at (0, 0); matrices are (2, 3); images are (H, W, 3) uint8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from common.errors import LabError
from common.geometry import apply_affine, fit_similarity, tight_box

RECORD, CROP = 384, 128  # sides of a stored record and of the network's input
BASE_SIDE = 256  # pixels of the record that a training crop shows at scale 1
BOX_FACTOR = 1.2
# Places of the eye centres, the tip of the nose and the corners of the mouth in a frame of 112 pixels.
TEMPLATE = np.array(
    [[38.2946, 41.6963], [73.5318, 41.5014], [56.0252, 61.7366], [41.5493, 82.3655], [70.7299, 82.2041]]
)
TEMPLATE_SHIFT = 80.0  # the record's frame is the template at twice the size, moved by this
FIVE_OF_68 = ((36, 39), (42, 45), (30,), (48,), (54,))
TRIES = 3  # training crops that are drawn before a face is left out
# Pixels of the aligned record by which the landmarks' box is raised to hold the forehead, by test set.
FOREHEAD: Mapping[str, float] = {"ibug": 36.0, "cofw_testset": 45.0, "300W": 40.0, "AFLW2000-3D": 30.0}


def five_points(points: np.ndarray) -> np.ndarray:
    """Return eye centres, nose tip and mouth corners (5, 2) of 68 points (68, 2)."""
    return np.stack([points[list(group)].mean(axis=0) for group in FIVE_OF_68])


def align_matrix(points: np.ndarray, size: int = RECORD) -> np.ndarray:
    """Return the similarity from the image to the aligned frame.

    Args:
        points: (68, 2) or five points (5, 2), image pixels.
        size: side of the frame; only the record's side has the face in its middle, as released.

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


def training_matrix(rotation: float, side: int, center: tuple[float, float] = (192.0, 192.0)) -> np.ndarray:
    """Return the map of a training crop: `side` pixels of the record round `center`, turned by degrees."""
    scale, angle = CROP / side, math.radians(rotation)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shift = CROP / 2 - linear @ np.asarray(center, np.float64)
    return np.concatenate([linear, shift[:, None]], axis=1)


def draw_training_matrix(points: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return a random training map that keeps all points inside the crop, or None after three tries."""
    for _ in range(TRIES):
        rotation = int(rng.integers(-40, 40))
        side = int(BASE_SIDE * np.clip(1 + 0.2 * rng.standard_normal(), 0.8, 1.2))
        matrix = training_matrix(rotation, side)
        moved = apply_affine(matrix, np.asarray(points, np.float64))
        if moved.min() >= 0 and moved.max() < CROP:
            return matrix
    return None


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Return the (size, size, 3) picture behind the map, bilinear, black outside."""
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))


def released_test_crop(
    image: np.ndarray, points: np.ndarray, dataset: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Align a record by its ground truth and cut the test crop, in two warps as released.

    Returns:
        The crop (128, 128, 3), the map from record to aligned record, and the map from there to the crop.
    """
    align = align_matrix(points)
    cut = square_matrix(forehead_box(apply_affine(align, np.asarray(points, np.float64)), dataset))
    return warp(warp(image, align, RECORD), cut, CROP), align, cut
