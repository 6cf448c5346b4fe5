"""What the golden numbers rest on: weights by a formula, pictures by a formula, and the recorded arrays.

The official implementations were run with weights that follow from each parameter's name, so that no weights have to be
stored: the name seeds a generator whose stream NumPy has frozen. The pictures are sums of waves, so that no photograph
has to be stored either.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parent
SET = "set:"  # prefix of arrays that hold the value of one parameter
AXES = 4  # a row of `shapes` has so many numbers; -1 where the parameter has fewer axes
POSITIVE = ("weight", "gamma", "var", "variance")  # ends of the names of scales and variances
WAVES = 6  # of each plane of a picture
TURN = 6.2832  # as the recorded pictures have it, instead of 2 pi
ARCS = (  # of the made-up face in WFLW's order: points, centre, radii, first and last angle; unit square, y down
    (33, 0.50, 0.35, 0.42, 0.56, 180, 0),  # contour
    (9, 0.29, 0.22, 0.13, 0.03, 180, 500),  # brows
    (9, 0.71, 0.22, 0.13, 0.03, 180, 500),
    (4, 0.50, 0.44, 0.00, 0.12, -90, 40),  # nose
    (5, 0.50, 0.56, 0.09, 0.05, 180, 0),
    (8, 0.30, 0.34, 0.08, 0.03, 180, 495),  # eyes
    (8, 0.70, 0.34, 0.08, 0.03, 180, 495),
    (12, 0.50, 0.74, 0.16, 0.07, 180, 510),  # mouth
    (8, 0.50, 0.74, 0.13, 0.03, 180, 495),
    (1, 0.30, 0.34, 0.00, 0.00, 0, 0),  # pupils
    (1, 0.70, 0.34, 0.00, 0.00, 0, 0),
)
NOSE_TIP = 54  # origin of the face in space


def load(name: str) -> dict[str, np.ndarray]:
    """Return the recorded arrays of a method."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def parameter(name: str, shape: tuple[int, ...], inputs_first: bool = False) -> np.ndarray:
    """Return the value of a parameter, float32; int64 zero for a counter (no axis).

    Args:
        name: its name in the official implementation.
        shape: its shape there.
        inputs_first: matrices and kernels have the output channels last (TensorFlow) instead of first.
    """
    if not shape:
        return np.zeros((), np.int64)
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:  # He: normal, variance 2 over the number of inputs
        inputs = np.prod(shape[:-1] if inputs_first else shape[1:])
        return (stream.standard_normal(shape) * np.sqrt(2.0 / inputs)).astype(np.float32)
    if name.endswith(POSITIVE):
        return stream.uniform(0.5, 1.5, shape).astype(np.float32)
    return (stream.standard_normal(shape) * 0.1).astype(np.float32)


def picture(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a smooth picture (..., H, W), float32: each plane is a sum of waves, stretched to [0, 1]."""
    stream = np.random.RandomState(seed)
    y = np.linspace(0.0, 1.0, shape[-2])[:, None]
    x = np.linspace(0.0, 1.0, shape[-1])[None]
    planes = np.zeros((int(np.prod(shape[:-2])), *shape[-2:]))
    for plane in planes:
        waves = stream.uniform((0, 0, 0, 0.3), (8, 8, 6.28, 1), (WAVES, 4))
        for down, across, phase, height in waves:
            plane += height * np.sin(TURN * (down * y + across * x) + phase)
        plane -= plane.min()
        plane /= plane.max()
    return planes.reshape(shape).astype(np.float32)


def photograph(seed: int, height: int, width: int, rounded: bool = False) -> np.ndarray:
    """Return such a picture (H, W, 3) uint8, its grey levels cut or rounded to whole ones."""
    levels = 255 * picture(seed, (3, height, width))
    return np.ascontiguousarray((np.round(levels) if rounded else levels).astype(np.uint8).transpose(1, 2, 0))


def made_up_face() -> np.ndarray:
    """Return a face (98, 2) in the unit square, float64: arcs by formula, no data set's mean."""
    parts = []
    for count, x, y, across, down, first, last in ARCS:
        angle = np.deg2rad(np.linspace(first, last, count))
        parts.append(np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1))
    return np.concatenate(parts)


def made_up_head() -> np.ndarray:
    """Return that face on an ellipsoid (98, 3), float64, frame and unit of `spiga.mean_face`."""
    x, y = 1.5 * (made_up_face() - 0.5).T  # eyes 0.84 apart
    head = np.stack([np.sqrt(0.68 - 0.9 * x**2 - 0.4 * y**2), -x, y], axis=1)
    return head - head[NOSE_TIP]


def weights(recorded: dict[str, np.ndarray], inputs_first: bool = False) -> dict[str, np.ndarray]:
    """Return official name -> value for the names, shapes and factors of a recording."""
    found = {}
    for name, row, factor in zip(recorded["names"], recorded["shapes"], recorded["factors"], strict=True):
        key, shape = str(name), tuple(int(side) for side in row if side >= 0)
        value = recorded.get(SET + key)
        if value is None:
            value = parameter(key, shape, inputs_first)
            value = value if factor == 1 else value * factor
        found[key] = value
    return found


def tensors(values: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the values as tensors."""
    return {key: torch.from_numpy(np.asarray(value)) for key, value in values.items()}


def furthest(ours: Tensor | np.ndarray, official: np.ndarray) -> float:
    """Return the largest absolute difference of two arrays of one shape."""
    ours = np.asarray(ours, np.float64)
    assert ours.shape == official.shape, f"{ours.shape} against {official.shape}"
    return float(np.abs(ours - official).max())
