"""Training crops of the official SDU loader, to compare golden data with; used by tests only."""

from __future__ import annotations

import math

import numpy as np

from common.geometry import apply_affine
from sdu3d.original import CROP

BASE_SIDE = 256  # pixels of the record that a training crop shows at scale 1
TRIES = 3  # training crops that are drawn before a face is left out


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
