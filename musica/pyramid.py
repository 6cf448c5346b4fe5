"""From a crop to what the patches are cut from: normalised brightness and a pyramid of three levels.

The arithmetic is that of the released pipeline (its pyramid and normalisation came from the menpo library). Frames:
level l's pixel (row, column) belongs to the crop's pixel (row, column) * 2^l; the resampling aligns the corners, so
near the far border pixels and points disagree by up to half a pixel of the level. Training has that too.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SIGMA = 2 / 3  # pixels, of the blur before each halving
TRUNCATE = 4.0  # the blur's reach in sigmas
FLAT = 1e-8  # below this deviation a crop is of one colour


def normalise(image: Tensor) -> Tensor:
    """Return crops (B, 3, H, W) with mean 0 and deviation 1 over all pixels and channels of a face together.

    Bytes come out as float32, floating types as they are. The scale of the values cancels out.
    """
    image = image if image.is_floating_point() else image.float()
    variance, mean = torch.var_mean(image, dim=(1, 2, 3), correction=0, keepdim=True)
    return (image - mean) / variance.sqrt().clamp_min(FLAT)


def _reflect(index: np.ndarray, count: int) -> np.ndarray:
    """Return indices folded back into 0..count-1, the edge pixel repeated."""
    index = np.mod(index, 2 * count)
    return np.where(index < count, index, 2 * count - 1 - index)


@lru_cache(maxsize=64)
def halving_taps(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return source indices and weights (taps, n) that blur and halve an axis of `count` pixels.

    Output i reads the blurred axis at i * (count - 1) / (count / 2 - 1), clamped; n is ceil(count / 2). Blur and
    interpolation are one sum of eight source pixels, so the blurred image is never made.
    """
    radius = int(TRUNCATE * SIGMA + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel /= kernel.sum()
    size = -(-count // 2)
    step = (count - 1) / (count / 2 - 1) if count > 2 else 0.0
    position = np.minimum(np.arange(size) * step, count - 1)
    first = np.minimum(np.floor(position).astype(np.int64), max(count - 2, 0))
    share = position - first
    index = first + np.arange(-radius, radius + 2)[:, None]
    weight = np.zeros(index.shape)
    weight[:-1] += kernel[:, None] * (1 - share)
    weight[1:] += kernel[:, None] * share
    return _reflect(index, count), weight


def _halve_axis(image: Tensor, axis: int) -> Tensor:
    index, weight = halving_taps(image.shape[axis])
    shape = [1] * image.ndim
    shape[axis] = -1
    total: Tensor | None = None
    for columns, values in zip(index, weight, strict=True):
        taken = image.index_select(axis, torch.from_numpy(columns).to(image.device))
        factor = torch.from_numpy(values).to(image).view(shape)
        total = taken * factor if total is None else torch.addcmul(total, taken, factor)
    assert total is not None
    return total


def halve(image: Tensor) -> Tensor:
    """Return the next coarser level (B, 3, ceil(H / 2), ceil(W / 2)) of a level (B, 3, H, W)."""
    return _halve_axis(_halve_axis(image, 2), 3)


def pyramid(image: Tensor, depth: int) -> list[Tensor]:
    """Return `depth` levels of a normalised crop (B, 3, H, W), finest first."""
    levels = [image]
    while len(levels) < depth:
        levels.append(halve(levels[-1]))
    return levels
