"""Cutting patches round landmarks, in two ways: the released nearest-pixel rule and a differentiable bilinear one.

Centres are (row, column) in pixels of the level that is cut from, the first pixel's centre at 0. For a whole-numbered
centre c both rules read the pixels c - p/2 .. c + p/2 - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLINGS = ("bilinear", "official")


@dataclass
class Level:
    """A level of the pyramid inside a border of zeros, so that every window lies in memory.

    Attributes:
        image: (A, H + 2 * margin, W + 2 * margin, 3).
        margin: width of the border in pixels.
    """

    image: Tensor
    margin: int


def prepare_level(image: Tensor, patch: int, sampling: str) -> Level:
    """Return a level (A, H, W, 3) ready for cutting; zero, the mean of a normalised crop, stands outside it.

    The released rule never reads row 0 and column 0, so for it they are zero as well.
    """
    margin = patch + 1
    padded = F.pad(image, (0, 0) + (margin,) * 4)
    if sampling == "official":
        padded[:, margin] = 0
        padded[:, :, margin] = 0
    return Level(padded, margin)


def _windows(level: Level, corner: Tensor, size: int) -> Tensor:
    """Return (A * M, size, size, 3) windows whose first pixels are `corner` (A, M, 2) whole numbers, row first."""
    image, margin = level.image, level.margin
    _, height, width, channels = image.shape
    limit = corner.new_tensor([height - 2 * margin, width - 2 * margin])
    # A window that lies outside altogether reads the border; so do coordinates that are no number.
    corner = torch.nan_to_num(corner, nan=-margin).clamp(min=-margin).minimum(limit).long() + margin
    rows = torch.arange(image.shape[0], device=image.device)[:, None].expand(corner.shape[:2])
    # Window (r, c) of a face as a view of overlapping memory: nothing is copied but what the index takes. A row of a
    # window, colours included, is one piece of memory.
    face, row, column, channel = image.stride()
    views = image.as_strided(
        (image.shape[0], height - size + 1, width - size + 1, size, size * channels),
        (face, row, column, row, channel), image.storage_offset(),
    )  # fmt: skip
    taken = views[rows.reshape(-1), corner[..., 0].reshape(-1), corner[..., 1].reshape(-1)]
    return taken.view(-1, size, size, channels)


def cut_patches(level: Level, centres: Tensor, patch: int, sampling: str) -> Tensor:
    """Return patches (A * M, 3, p, p), channels last in memory, face by face, landmark by landmark.

    Args:
        level: from `prepare_level` with the same patch and sampling.
        centres: (A, M, 2) row, column.
        patch: side p in pixels, even.
        sampling: official truncates centre - p/2 toward zero (as C does) and copies pixels, without a gradient;
            bilinear interpolates, and the gradient reaches the centres.
    """
    corner = centres - patch // 2
    if sampling == "official":
        return _windows(level, corner.detach().trunc(), patch).permute(0, 3, 1, 2)
    first = corner.detach().floor()
    share = torch.nan_to_num(corner - first).reshape(-1, 2)  # in [0, 1), and its derivative is the centre's
    window = _windows(level, first, patch + 1)
    down, right = share[:, 0, None, None, None], share[:, 1, None, None, None]
    window = torch.lerp(window[:, :-1], window[:, 1:], down)
    return torch.lerp(window[:, :, :-1], window[:, :, 1:], right).permute(0, 3, 1, 2)
