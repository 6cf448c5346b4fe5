"""MATLAB files of faces fitted by a morphable model: landmarks and head pose (Zhu et al., CVPR 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from common.errors import LabError

MATLAB_FIRST = 1  # number of the first pixel


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a MATLAB 5 file.

    Raises:
        LabError: it is missing, truncated or no MATLAB file.
    """
    if not path.is_file():
        raise LabError(f"{path}: annotation is missing; is the data set complete?")
    try:
        content = loadmat(path)
    except Exception as error:  # SciPy's readers raise errors of many classes, down to zlib's
        raise LabError(f"{path}: is damaged or no MATLAB 5 file ({type(error).__name__}); copy it again") from None
    return {name: value for name, value in content.items() if isinstance(value, np.ndarray)}


def landmarks(content: dict[str, np.ndarray], name: str, path: Path, axes: int) -> np.ndarray:
    """Return landmarks (L, axes), x and y with the first pixel's centre at 0.

    Raises:
        LabError: the array is missing or has another shape.
    """
    if name not in content:
        raise LabError(f"{path}: array {name} is missing; it has {', '.join(content) or 'none'}")
    value = content[name]
    if value.ndim != 2 or value.shape[0] != axes:
        raise LabError(f"{path}: {name} has shape {value.shape}, expected ({axes}, landmarks)")
    points = value.T.astype(np.float64)
    points[:, :2] -= MATLAB_FIRST
    return points


def head_pose(content: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """Return yaw, pitch, roll in degrees (3,) float32 from Pose_Para (pitch, yaw, roll in radians, ...).

    Yaw changes its sign: there it is positive for a face turned to the image's left, here to its right.

    Raises:
        LabError: the array is missing, or has another shape or a value that is not finite.
    """
    value = content.get("Pose_Para")
    if value is None or value.size != 7 or not np.isfinite(value).all():
        raise LabError(f"{path}: Pose_Para is missing or is not seven finite numbers")
    pitch, yaw, roll = np.degrees(value.astype(np.float64).ravel()[:3]).tolist()
    return np.array([-yaw, pitch, roll], np.float32)
