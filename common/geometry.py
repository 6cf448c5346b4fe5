"""Affine maps between image and crop, boxes, similarity fits. Pure functions on NumPy arrays or tensors.

One pixel convention holds in the whole project: x runs right, y runs down, the centre of the first pixel is (0, 0).
A square of `side` image pixels round `center` becomes a crop of `size` pixels by
`crop = (image - center) * size / side + (size - 1) / 2`: pixel *areas* are mapped on each other, so the crop's outer
edge is the square's outer edge, whatever the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def apply_affine(matrix: Array, points: Array) -> Array:
    """Map points by an affine matrix; a third coordinate is scaled by the map's mean scale, so depth keeps its unit.

    Args:
        matrix: (..., 2, 3).
        points: (..., L, D) with D 2 or 3; leading axes as the matrix's.

    Returns:
        (..., L, D), in the target frame of the matrix.
    """
    linear, shift = matrix[..., :2], matrix[..., 2]
    if isinstance(points, Tensor):  # products of numbers: those of matrices would be in half precision under autocast
        columns = linear[..., None, :, :]
        xy = points[..., :1] * columns[..., 0] + points[..., 1:2] * columns[..., 1] + shift[..., None, :]
    else:
        xy = points[..., :2] @ linear.swapaxes(-1, -2) + shift[..., None, :]
    if points.shape[-1] == 2:
        return xy
    det = linear[..., 0, 0] * linear[..., 1, 1] - linear[..., 0, 1] * linear[..., 1, 0]
    z = points[..., 2:] * (abs(det) ** 0.5)[..., None, None]
    if isinstance(xy, Tensor):
        return torch.cat([xy, z], dim=-1)  # type: ignore[return-value]
    return np.concatenate([xy, z], axis=-1)


def compose_affine(second: Array, first: Array) -> Array:
    """Return the matrices (..., 2, 3) that apply `first`, then `second`."""
    both = second[..., :2] @ first
    if isinstance(both, Tensor):  # not in place, which exported graphs keep for one size of the batch only
        moved = [both[..., :2], both[..., 2:] + second[..., 2:]]
        return torch.cat(moved, dim=-1)  # type: ignore[return-value, arg-type]
    both[..., 2:] += second[..., 2:]
    return both


def invert_affine(matrix: Array, least: float = 0.0) -> Array:
    """Return the inverse of affine matrices (..., 2, 3).

    Args:
        matrix: array or tensor.
        least: a tensor's determinants below it are taken as if they were just not, so that all stays finite, the
            gradient too.

    Raises:
        ValueError: a NumPy matrix is singular (a tensor gives infinities, as a check would wait for the device).
    """
    if isinstance(matrix, np.ndarray) and matrix.ndim == 2:
        return _invert_one(matrix)
    a, b, tx = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    c, d, ty = matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2]
    det = a * d - b * c
    if isinstance(matrix, np.ndarray) and not np.all(np.abs(det) > 0):
        raise ValueError("affine matrix is singular")
    if least and isinstance(det, Tensor):
        det = torch.where(det.abs() < least, torch.where(det < 0, -least, least), det)
    values = [d / det, -b / det, (b * ty - d * tx) / det, -c / det, a / det, (c * tx - a * ty) / det]
    if isinstance(matrix, Tensor):
        return torch.stack(values, dim=-1).unflatten(-1, (2, 3))
    return np.stack(values, axis=-1).reshape(*matrix.shape[:-2], 2, 3)


def _invert_one(matrix: np.ndarray) -> np.ndarray:
    # In plain numbers, which for six of them is ten times as fast as in arrays; every sample needs it.
    (a, b, tx), (c, d, ty) = matrix.tolist()
    det = a * d - b * c
    if not abs(det) > 0:
        raise ValueError("affine matrix is singular")
    values = [[d / det, -b / det, (b * ty - d * tx) / det], [-c / det, a / det, (c * tx - a * ty) / det]]
    return np.array(values, dtype=matrix.dtype)


def crop_matrix(
    center: Sequence[float] | np.ndarray, side: float, size: int, angle_deg: float = 0.0, flip: bool = False
) -> np.ndarray:
    """Return the (2, 3) float64 map from image to crop pixels.

    Args:
        center: (2,) x, y of the square's centre in image pixels.
        side: side of the square in image pixels.
        size: side of the crop in pixels.
        angle_deg: turns the picture's content counter-clockwise, as seen on the screen.
        flip: mirrors left and right after the turn.

    Raises:
        ValueError: `side` or `size` is not positive.
    """
    if not (side > 0 and size > 0):
        raise ValueError(f"side and size must be positive, got {side} and {size}")
    scale, angle = size / side, math.radians(angle_deg)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    sign, (x, y), middle = (-1.0 if flip else 1.0), map(float, center), (size - 1) / 2
    top, bottom = (sign * cos, sign * sin), (-sin, cos)
    return np.array([[*top, middle - top[0] * x - top[1] * y], [*bottom, middle - bottom[0] * x - bottom[1] * y]])


def tight_box(points: Array, use: Array | None = None) -> Array:
    """Return x0 y0 x1 y1 (..., 4) of the points (..., L, D) that are no NaN and that `use` (..., L) bool marks."""
    xy = points[..., :2]
    if isinstance(xy, Tensor):
        hidden = xy.isnan() if use is None else xy.isnan() | ~use[..., None]
        low, high = (xy.masked_fill(hidden, sign * torch.inf) for sign in (1, -1))
        return torch.cat([low.amin(-2), high.amax(-2)], dim=-1)
    if use is not None:
        xy = np.where(use[..., None], xy, np.nan)
    return np.concatenate([np.nanmin(xy, axis=-2), np.nanmax(xy, axis=-2)], axis=-1)


def box_center(box: np.ndarray) -> np.ndarray:
    """Return the centre (..., 2) of boxes x0 y0 x1 y1 (..., 4)."""
    return (box[..., :2] + box[..., 2:]) / 2


def box_sides(box: np.ndarray) -> np.ndarray:
    """Return width and height (..., 2) of boxes x0 y0 x1 y1 (..., 4)."""
    return box[..., 2:] - box[..., :2]


def fit_similarity(source: Array, target: Array, weight: Array | None = None) -> Array:
    """Return least-squares similarities (..., 2, 3), without reflection, from source to target (..., L, 2).

    Closed form of the orthogonal Procrustes problem in the plane.

    Args:
        source, target: points.
        weight: (..., L), 0 leaves a point out.

    Raises:
        ValueError: an array has fewer than two distinct source points (a tensor gives a shift, as a check would wait
            for the device).
    """
    if isinstance(source, np.ndarray):
        if (np.ptp(source, axis=-2) == 0).all(-1).any():
            raise ValueError("a similarity needs at least two distinct points")
        one, two = (torch.from_numpy(np.asarray(given, np.float64)) for given in (source, target))
        return fit_similarity(one, two, None if weight is None else torch.from_numpy(np.asarray(weight))).numpy()
    w = torch.ones_like(source[..., :1]) if weight is None else weight[..., None].to(source.dtype)
    total = w.sum(-2).clamp(min=1e-9)
    p0, q0 = (w * source).sum(-2) / total, (w * target).sum(-2) / total
    p, q = source - p0[..., None, :], target - q0[..., None, :]
    spread = (w * p * p).sum((-1, -2)).clamp(min=1e-12)
    a = (w * p * q).sum((-1, -2)) / spread
    b = (w[..., 0] * (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0])).sum(-1) / spread
    linear = torch.stack([a, -b, b, a], dim=-1).unflatten(-1, (2, 2))
    return torch.cat([linear, (q0 - (linear @ p0[..., None])[..., 0])[..., None]], dim=-1)


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Return how far points (B, L, 2) lie from others of the same faces (B, L), as a share of the faces' size.

    The size is the root of the area of the second points' tight box;
    """
    one, other = one[..., :2], other[..., :2]
    size = (other.amax(dim=1) - other.amin(dim=1)).prod(dim=-1).clamp(min=1e-12).sqrt()
    return (one - other).norm(dim=-1) / size[:, None]
