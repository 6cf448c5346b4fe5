"""From maps to points, in map cells (the first cell's centre is 0.5; see `common.heatmaps`)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from common.heatmaps import decode_argmax, decode_quarter, decode_window, soft_argmax

Decoder = Literal["released", "argmax", "quarter", "window", "local_soft", "soft"]
DECODERS: tuple[Decoder, ...] = get_args(Decoder)
SOFT_RADIUS = 2  # cells each side of the peak
SOFT_SHARE = 0.15  # temperature of the local soft-arg-max over the peak's height above the map's mean


def decode_released(maps: Tensor, factor: int = 2) -> Tensor:
    """Return the middle of the highest crop pixel after bilinear enlargement, the first where several tie.

    Args:
        maps: (B, L, H, W).
        factor: crop pixels a cell.

    Returns:
        (B, L, 2) x, y in map cells; whole numbers of crop pixels after `cell * factor - 0.5`.
    """
    return decode_argmax(F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)) / factor


def decode_local_soft(maps: Tensor, radius: int = SOFT_RADIUS) -> Tensor:
    """Return the mean position under a soft-max over the square window round the highest cell.

    The temperature follows each map's own height, so that the output does not depend on the scale of the targets.

    Args:
        maps: (B, L, H, W).
        radius: the window has 2 * radius + 1 cells a side; it is cut at the border.

    Returns:
        (B, L, 2) x, y in map cells.
    """
    peak = decode_argmax(maps) - 0.5
    columns = torch.arange(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    rows = torch.arange(maps.shape[-2], device=maps.device, dtype=maps.dtype)
    near = (rows - peak[..., 1:]).abs()[..., None] <= radius
    near = near & ((columns - peak[..., :1]).abs() <= radius)[..., None, :]
    height = (maps.amax((-2, -1)) - maps.mean((-2, -1))).clamp(min=1e-6)
    logits = maps / (SOFT_SHARE * height[..., None, None])
    mass = logits.masked_fill(~near, -torch.inf).flatten(2).softmax(-1).view_as(maps)
    return torch.stack([mass.sum(-2) @ (columns + 0.5), mass.sum(-1) @ (rows + 0.5)], -1)


def decode(maps: Tensor, kind: Decoder, factor: int = 2) -> Tensor:
    """Return points (B, L, 2) in map cells of maps (B, L, H, W)."""
    match kind:
        case "released":
            return decode_released(maps, factor)
        case "argmax":
            return decode_argmax(maps)
        case "quarter":
            return decode_quarter(maps)
        case "window":
            return decode_window(maps, SOFT_RADIUS)
        case "local_soft":
            return decode_local_soft(maps)
        case "soft":
            return soft_argmax(maps, temperature=1.0)
