"""Heatmaps: rendering of Gaussian peaks and decoding of points, batched and on the tensors' own device.

Frames. Points of a heatmap are given in *map cells*: x runs right, y runs down, and a cell covers a unit square, so
the first cell spans [0, 1) and its centre is (0.5, 0.5). A point at (x, y) lies in column floor(x) and row floor(y).
Decoders return points in the same frame: the middle of column c is c + 0.5. Two conversions to crop pixels are in use:

* pixel centres on integers (this project): crop = cell * stride - 0.5, see `cells_to_crop` and `crop_to_cells`;
* pixel areas (many releases of heatmap code): crop = cell * stride; pass `pixel_offset=0.0`.

Symbols: B batch, L landmarks, H and W sides of the map in cells.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "cells_to_crop",
    "crop_to_cells",
    "decode_argmax",
    "decode_quarter",
    "decode_window",
    "gaussian_patches",
    "merge_heatmaps",
    "render_gaussians",
    "soft_argmax",
    "write_patches",
]

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, Tensor)


def cells_to_crop(cells: ArrayOrTensor, stride: float = 4.0, pixel_offset: float = 0.5) -> ArrayOrTensor:
    """Convert map cells to crop pixels.

    Args:
        cells: (..., 2) points in map cells; the middle of the first cell is 0.5.
        stride: crop pixels that one cell covers.
        pixel_offset: 0.5 where the centre of the first crop pixel is (0, 0); 0 where its corner is (0, 0), in which
            case the middle of cell c lies at (c + 0.5) * stride.

    Returns:
        (..., 2) points in crop pixels.
    """
    return cells * stride - pixel_offset


def crop_to_cells(points: ArrayOrTensor, stride: float = 4.0, pixel_offset: float = 0.5) -> ArrayOrTensor:
    """Convert crop pixels (..., 2) to map cells; the inverse of `cells_to_crop`."""
    return (points + pixel_offset) / stride


def gaussian_patches(
    points: Tensor,
    size: int,
    sigma: float,
    radius: int,
    legacy_border: bool = False,
    quantise: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the cells of each point's square patch and the two profiles whose outer product fills it.

    Args:
        points: (B, L, 2) x, y in map cells; not finite, or far off the map, gives zeros.
        size: side of the map in cells.
        sigma: standard deviation in cells.
        radius: half side of the patch; the patch has P = 2 * radius + 1 cells a side.
        legacy_border: place patches as a widespread implementation does, shifted within `radius` cells of the left and
            top border; it also leaves out points with x <= 0, which mark missing points there.
        quantise: peak of 1 in the middle of the point's cell (True) or centred on the point itself.

    Returns:
        Cells (B, L, 2, P) int64, x then y, possibly off the map; profiles (B, L, 2, P), zero off the map.
    """
    if size < 1 or sigma <= 0 or radius < 0:
        raise ValueError(f"size and sigma must be positive and radius not negative, got {size}, {sigma}, {radius}")
    if legacy_border and not quantise:
        raise ValueError("legacy_border=True draws in whole cells and needs quantise=True, got quantise=False")
    off = -float(size + 2 * radius)  # where no patch reaches the map
    points = points.nan_to_num(nan=off).clamp(off, 2.0 * size + 2 * radius)
    cell = points.floor()
    middle = cell if quantise else points - 0.5
    if legacy_border:
        # First cell of the patch (one-based) less than 1: the official code starts copying at kernel column
        # max(1, -first), where 2 - first would be right.
        first = cell + 1 - radius
        middle = torch.where(first < 1, radius + 1 - (-first).clamp(min=1), cell)
    cells = cell[..., None] + torch.arange(-radius, radius + 1, device=points.device, dtype=points.dtype)
    profiles = torch.exp((cells - middle[..., None]).square() * (-0.5 / sigma**2))
    profiles = profiles * ((cells >= 0) & (cells < size))
    if legacy_border:
        profiles = profiles * (points[..., :1, None] > 0)
    return cells.long(), profiles


def write_patches(maps: Tensor, cells: Tensor, values: Tensor) -> Tensor:
    """Write square patches into zero maps, in place; few cells are touched, whatever the size of the maps.

    Args:
        maps: (B, L, H, W) zeros, H = W, contiguous within each map.
        cells: (B, L, 2, P) columns and rows of the patches, P <= W.
        values: (B, L, P, P) rows by columns; must be 0 off the map.

    Returns:
        `maps`.
    """
    size = maps.shape[-1]
    # Cells off the map wrap round to other cells of the same map and leave a 0 there; as P <= W, each patch still has
    # P * P distinct cells, so the order of writing does not matter.
    columns, rows = (cells % size).unbind(-2)
    index = rows[..., :, None] * size + columns[..., None, :]
    maps.flatten(2).scatter_(2, index.flatten(2), values.flatten(2).to(maps.dtype))
    return maps


def render_gaussians(
    points: Tensor,
    size: int,
    sigma: float,
    radius: int,
    legacy_border: bool = False,
    quantise: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """Draw one Gaussian per point, cut to a square patch.

    Args:
        points: (B, L, 2) x, y in map cells. Points beside the map keep the part of the patch that reaches it.
        size, sigma, radius, legacy_border, quantise: see `gaussian_patches`.
        out: (B, L, size, size) zeros to draw into, for instance a part of a larger tensor.

    Returns:
        (B, L, size, size) maps with peaks of height 1.
    """
    cells, profiles = gaussian_patches(points, size, sigma, radius, legacy_border, quantise)
    maps = points.new_zeros((*points.shape[:2], size, size)) if out is None else out
    if cells.shape[-1] > size:  # a patch wider than the map: no cell may be written twice
        cells, profiles = _cut_to_map(cells, profiles, size)
    columns, rows = profiles.unbind(-2)
    return write_patches(maps, cells, rows[..., :, None] * columns[..., None, :])


def _cut_to_map(cells: Tensor, profiles: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return every cell of the map, (B, L, 2, size), and the profiles there."""
    whole = torch.arange(size, device=cells.device).expand(*cells.shape[:-1], size)
    place = whole - cells[..., :1]
    inside = (place >= 0) & (place < cells.shape[-1])
    return whole, profiles.gather(-1, place.clamp(0, cells.shape[-1] - 1)) * inside


def merge_heatmaps(maps: Tensor, dim: int = 1) -> Tensor:
    """Add maps along `dim` and clip at 1, for several points that share a channel."""
    return maps.sum(dim).clamp(max=1.0)


def _peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns and rows (B, L) of the highest cells, the first in row-major order where several tie."""
    flat = maps.flatten(2)
    # torch.argmax promises no order among ties, a comparison with the maximum does.
    count = flat.shape[-1]
    order = torch.arange(count, device=maps.device)
    index = torch.where(flat == flat.amax(-1, keepdim=True), order, count).amin(-1).clamp(max=count - 1)
    return index % maps.shape[-1], torch.div(index, maps.shape[-1], rounding_mode="floor")


def decode_argmax(maps: Tensor) -> Tensor:
    """Return the middles of the highest cells.

    Args:
        maps: (B, L, H, W).

    Returns:
        (B, L, 2) x, y in map cells; the first in row-major order where several cells tie.
    """
    return torch.stack(_peaks(maps), -1).to(maps.dtype) + 0.5


def decode_quarter(maps: Tensor) -> Tensor:
    """Return the highest cells' middles, moved a quarter of a cell towards the higher neighbour on each axis.

    A peak in the first or last row or column is not moved at all, on either axis; equal neighbours move nothing.

    Args:
        maps: (B, L, H, W).

    Returns:
        (B, L, 2) x, y in map cells.
    """
    height, width = maps.shape[-2:]
    column, row = _peaks(maps)
    inside = (column > 0) & (column < width - 1) & (row > 0) & (row < height - 1)
    flat = maps.flatten(2)
    index = row * width + column

    def level(offset: int) -> Tensor:
        return flat.gather(-1, (index + offset).clamp(0, height * width - 1)[..., None]).squeeze(-1)

    shift = torch.stack([level(1) - level(-1), level(width) - level(-width)], -1).sign() * 0.25
    return torch.stack([column, row], -1).to(maps.dtype) + torch.where(inside[..., None], shift, 0.0) + 0.5


def _centre_of_mass(mass: Tensor) -> Tensor:
    """Return the mean position (B, L, 2) in map cells of masses (B, L, H, W) that sum to 1."""
    columns = torch.arange(mass.shape[-1], device=mass.device, dtype=mass.dtype) + 0.5
    rows = torch.arange(mass.shape[-2], device=mass.device, dtype=mass.dtype) + 0.5
    return torch.stack([mass.sum(-2) @ columns, mass.sum(-1) @ rows], -1)


def soft_argmax(maps: Tensor, temperature: float = 0.04) -> Tensor:
    """Return the mean position under softmax(maps / temperature); differentiable.

    Args:
        maps: (B, L, H, W).
        temperature: smaller is nearer to the peak. For peaks of height 1 on a zero background, anything above about
            0.05 is pulled to the middle of the map.

    Returns:
        (B, L, 2) x, y in map cells.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return _centre_of_mass((maps.flatten(2) / temperature).softmax(-1).view_as(maps))


def decode_window(maps: Tensor, radius: int = 3) -> Tensor:
    """Return the centre of mass of the positive cells in a square window round the highest cell.

    Args:
        maps: (B, L, H, W).
        radius: the window has 2 * radius + 1 cells a side and is cut at the border.

    Returns:
        (B, L, 2) x, y in map cells; the middle of the highest cell where no cell of the window is positive.
    """
    if radius < 0:
        raise ValueError(f"radius must not be negative, got {radius}")
    column, row = _peaks(maps)
    columns = torch.arange(maps.shape[-1], device=maps.device)
    rows = torch.arange(maps.shape[-2], device=maps.device)
    near_columns = (columns - column[..., None]).abs() <= radius
    near_rows = (rows - row[..., None]).abs() <= radius
    mass = maps.clamp(min=0) * (near_rows[..., :, None] & near_columns[..., None, :])
    total = mass.sum((-2, -1), keepdim=True)
    centre = _centre_of_mass(mass / total.clamp(min=torch.finfo(maps.dtype).tiny))
    return torch.where(total.squeeze(-1) > 0, centre, torch.stack([column, row], -1).to(maps.dtype) + 0.5)
