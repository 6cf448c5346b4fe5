"""Differentiable image and point transformers: box to crop, crop to normalised face, face to part.

A 2x3 matrix maps source pixels to destination pixels, (x', y') = A (x, y, 1). Everything differentiates with respect
to images, matrices and points. Matrices are kept in float64 where the device has it, since translations of several
hundred pixels cost float32 digits. Shapes: B batch, H W image, L landmarks, S crop side in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.geometry import apply_affine, invert_affine

SMALLEST_SIDE = 1e-3  # pixels; a box without area would make its map singular
SMALLEST_DET = 1e-4  # of a predicted map; below it the inverse is no picture of a face


def matrix_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64


def box_map(box: Tensor, size: int) -> Tensor:
    """Return the maps (B, 2, 3) that stretch boxes to squares: corners come to 0 and size - 1 (no margin).

    Args:
        box: (B, 4) x0 y0 x1 y1, source pixels.
        size: side of the crop.
    """
    box = box.to(matrix_dtype(box.device))
    scale = (size - 1) / (box[:, 2:] - box[:, :2]).clamp(min=SMALLEST_SIDE)
    shift = -box[:, :2] * scale
    zero = torch.zeros_like(shift[:, 0])
    rows = [scale[:, 0], zero, shift[:, 0], zero, scale[:, 1], shift[:, 1]]
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


def theta_map(theta: Tensor, size: int) -> Tensor:
    """Return pixel maps (..., 2, 3) for network outputs, whose translation is in units of `size` pixels."""
    theta = theta.to(matrix_dtype(theta.device))
    return torch.cat([theta[..., :2], theta[..., 2:] * size], dim=-1)


def map_theta(matrix: Tensor, size: int) -> Tensor:
    """Return the network's form (..., 2, 3) of pixel maps; the inverse of `theta_map`."""
    return torch.cat([matrix[..., :2], matrix[..., 2:] / size], dim=-1)


def scaled(matrix: Tensor, factor: float) -> Tensor:
    """Return the maps followed by a scaling about the origin."""
    return matrix * factor


def invert(matrix: Tensor) -> Tensor:
    """Return inverse maps (..., 2, 3); a map that is nearly singular is inverted as if it were just not.

    A wild input can make the predicted map collapse; the guard keeps the result, and the gradient, finite.
    """
    return invert_affine(matrix, SMALLEST_DET)


def move_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Point transformer: return A (x, y, 1) for maps (..., 2, 3) and points (..., L, 2), in the maps' dtype."""
    return apply_affine(matrix, points.to(matrix.dtype))


def sample(image: Tensor, matrix: Tensor, size: int, rounded: bool = False) -> Tensor:
    """Image transformer: return crops (B, C, S, S) whose pixel (u, v) takes the image at A^-1 (u, v), bilinearly.

    Args:
        image: (B, C, H, W), values 0 to 255; outside of it is 0 (black).
        matrix: (B, 2, 3) from image to crop pixels.
        size: S.
        rounded: round to whole grey levels, as files of 8 bits do (an official quirk; not differentiable).
    """
    inverse = invert(matrix)
    height, width = image.shape[-2:]
    # grid_sample with align_corners counts from the centre of the first pixel (-1) to that of the last (1).
    unit = torch.tensor([2 / (width - 1), 2 / (height - 1)], dtype=inverse.dtype, device=inverse.device)
    to_grid = (inverse * unit[:, None] - torch.tensor([0.0, 0.0, 1.0], dtype=unit.dtype, device=unit.device)).float()
    axis = torch.arange(size, dtype=torch.float32, device=image.device)
    columns = to_grid[:, None, None, :, 0] * axis[None, None, :, None]
    rows = to_grid[:, None, None, :, 1] * axis[None, :, None, None] + to_grid[:, None, None, :, 2]
    crop = F.grid_sample(image, columns + rows, mode="bilinear", padding_mode="zeros", align_corners=True)
    return crop.round() if rounded else crop


def normalise(crop: Tensor) -> Tensor:
    """Return grey levels 0..255 in the networks' range [-1, 1]; black outside the image is -1."""
    return crop / 127.5 - 1
