"""Head pose from landmarks: the mean 3D face laid on the points by weak perspective, for methods without an own head.

Angles are yaw, pitch, roll in degrees in the frame of `common.pose`: positive ones turn the nose to the picture's
right, raise it, and turn the head clockwise. The mean face is that of the project's own drawn heads; points on the
outline and on the lower lips are left out, since they move over the head with its yaw, or with the mouth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from common.data.synthetic import DRAWN, mean_face
from common.pose import matrix_to_angles
from common.schemes import IBUG68, MAPS, LandmarkScheme, get_scheme

MOVING = ("jaw", "outer_lip_lower", "inner_lip_lower")  # curves whose points do not lie still on the head


@lru_cache
def _model(name: str) -> tuple[np.ndarray, list[int]]:
    """Return the 3D points (K, 3) of a drawn scheme that lie still on the head, frame of `common.pose`, and which."""
    scheme = get_scheme(name)
    moving = {point for curve in MOVING for point in scheme.curve(curve).points[1:-1]}
    moving |= set(scheme.curve("jaw").points)
    x, y, z = mean_face(name).T
    still = [point for point in range(scheme.num_points) if point not in moving]
    return np.column_stack([z, -x, y])[still], still


def has_mean_face(scheme: LandmarkScheme) -> bool:
    """Return whether a 3D mean face of the scheme's points is known, or of a scheme that they map to."""
    return scheme.name in DRAWN or (scheme.name, IBUG68.name) in MAPS


def fit_pose(points: np.ndarray, scheme: LandmarkScheme) -> np.ndarray | None:
    """Return yaw, pitch, roll (N, 3) in degrees of faces with points (N, L, 2), x right, y down, in any unit.

    None where no 3D mean face of the scheme is known (`has_mean_face`).
    """
    if not has_mean_face(scheme):
        return None
    if scheme.name not in DRAWN:
        points, scheme = scheme.map_to(IBUG68).apply(points), IBUG68
    model, still = _model(scheme.name)
    return weak_perspective(points[:, still], model)


def five_points_pose(five: np.ndarray) -> np.ndarray:
    """Return yaw, pitch, roll (N, 3) in degrees of a detector's five points (N, 5, 2): eyes, tip of the nose, mouth.

    Coarse, but independent of the network that places the landmarks. NaN where a point is.
    """
    x, y, z = mean_face(IBUG68.name).T
    face = np.column_stack([z, -x, y])
    eyes = [face[list(eye)].mean(axis=0) for eye in IBUG68.pupils]
    tip = face[IBUG68.curve("nose_bridge").points[-1]]
    mouth = IBUG68.curve("outer_lip_upper").points
    known = np.isfinite(five).all(axis=(1, 2))
    angles = np.full((len(five), 3), np.nan)
    if known.any():
        angles[known] = weak_perspective(five[known], np.stack([*eyes, tip, face[mouth[0]], face[mouth[-1]]]))
    return angles


def weak_perspective(points: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Return yaw, pitch, roll (N, 3) in degrees: the rotation nearest to the affine map of least squares.

    Args:
        points: (N, K, 2) x right, y down.
        model: (K, 3) in the frame of `common.pose`, not all in one plane.
    """
    inverse = np.linalg.pinv(model - model.mean(axis=0))  # (3, K)
    axes = np.swapaxes(inverse @ (points - points.mean(axis=1, keepdims=True)), 1, 2)  # (N, 2, 3)
    left, _, right = np.linalg.svd(axes, full_matrices=False)
    rows = left @ right
    rotation = np.concatenate([rows, np.cross(rows[:, :1], rows[:, 1:])], axis=1)
    return matrix_to_angles(torch.from_numpy(rotation)).numpy()
