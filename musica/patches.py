"""Cutting patches round landmarks, in two ways: the official nearest-pixel rule and a differentiable bilinear one.

Centres are (row, column) in pixels of the level that is cut from, the first pixel's centre at 0. For a whole-numbered
centre c both rules read the pixels c - p/2 .. c + p/2 - 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from musica.types import SLACK, Level

SAMPLINGS = ("bilinear", "official")


def empty_level(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Level:
    """Return a level of shape (B, H, W, C) on the device of `like`, with uninitialised pixels."""
    count, slack = shape[0] * shape[1] * shape[2] * shape[3], SLACK * shape[3]
    memory = torch.empty(count + 2 * slack, dtype=dtype, device=like.device)
    memory[:slack] = 0
    memory[slack + count :] = 0
    return Level(memory[slack : slack + count].view(shape), memory)


def make_level(image: Tensor) -> Level:
    """Return a level with the pixels of (B, H, W, C), copied; bytes become float32."""
    dtype = image.dtype if image.is_floating_point() else torch.float32
    level = empty_level(tuple(image.shape), image, dtype)
    level.image.copy_(image)
    return level


def _windows(level: Level, faces: Tensor, corner: Tensor, size: int, first: int) -> Tensor:
    """Return (A * M, size, size, C) windows, zero outside the image.

    Args:
        level: image that the windows are cut from.
        faces: (A,) rows of the level.
        corner: (A, M, 2) integers, the windows' first pixels, row first.
        size: side of a window.
        first: number of the first row and column that count as the image's.
    """
    _, height, width, channels = level.image.shape
    limit = corner.new_tensor([height, width])
    # A window that is outside altogether is all zeros wherever it is; so are NaN coordinates.
    corner = torch.nan_to_num(corner, nan=-size).clamp(min=-size).minimum(limit).long()
    reach = torch.arange(size, device=corner.device)
    rows, columns = (corner[..., axis, None] + reach for axis in (0, 1))  # (A, M, size)
    inside = ((rows >= first) & (rows < height))[..., None] & ((columns >= first) & (columns < width))[..., None, :]
    starts = (faces[:, None, None] * height + rows.clamp(0, height - 1)) * width + corner[..., 1, None] + SLACK
    # Rows of windows as a view of overlapping memory: nothing is copied but what is looked up, and a row of a window,
    # colours included, is contiguous. An embedding's look-up copies such rows fastest.
    pieces = level.memory.as_strided((len(level.memory) // channels - size + 1, size * channels), (channels, 1))
    taken = F.embedding(starts.view(-1), pieces).view(-1, size, size, channels)
    return taken.masked_fill_(~inside.view(-1, size, size, 1), 0)


def cut_patches(
    level: Level, centres: Tensor, patch: int, sampling: str, faces: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """Return patches (A * M, C, p, p), channels last in memory, face by face, landmark by landmark.

    Outside the image is zero, the mean of a normalised face.

    Args:
        level: of the pyramid, of B faces.
        centres: (A, M, 2) row, column.
        patch: side p in pixels, even, less than SLACK.
        sampling: official truncates centre - p/2 toward zero (as C does) and copies pixels, without a gradient; it
            never reads row 0 and column 0. bilinear interpolates, and the gradient reaches the centres.
        faces: (A,) rows of the level that the centres belong to; None for all.
        scale: (B, 1, 1, 1) factor of each face's pixels; None for 1.
    """
    if faces is None:
        faces = torch.arange(centres.shape[0], device=centres.device)
    corner = centres - patch // 2
    if sampling == "official":
        window = _windows(level, faces, corner.detach().trunc(), patch, first=1)
    else:
        whole = corner.detach().floor()
        share = torch.nan_to_num(corner - whole).reshape(-1, 2)  # in [0, 1), and its derivative is the centre's
        window = _windows(level, faces, whole, patch + 1, first=0)
        down, right = share[:, 0, None, None, None], share[:, 1, None, None, None]
        window = torch.lerp(window[:, :-1], window[:, 1:], down)
        window = torch.lerp(window[:, :, :-1], window[:, :, 1:], right)
    if scale is not None:
        window = window * scale[faces].repeat_interleave(centres.shape[1], 0)
    return window.permute(0, 3, 1, 2)
