"""From a crop to the levels that patches are cut from: normalised brightness and an image pyramid.

The arithmetic is that of the official implementation (whose pyramid and normalisation are the menpo library's). Frames:
level l's pixel (row, column) belongs to the crop's pixel (row, column) * 2^l; the resampling aligns the corners, so
near the far border pixels and points disagree by up to half a pixel of the level. Training has that too. Channels are
the last axis here, so that a row of pixels is one piece of memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musica.patches import make_level
from musica.types import Level, Pyramid

SIGMA = 2 / 3  # pixels, of the blur before each halving
TRUNCATE = 4.0  # the blur's reach in sigmas
FLAT = 1e-8  # below this deviation a crop is of one colour


def centre(image: Tensor) -> tuple[Level, Tensor]:
    """Return faces (B, H, W, 3) with mean 0 over pixels and channels, and the factor (B, 1, 1, 1) to deviation 1.

    Bytes come out as float32, floating types as they are. The scale of the values cancels out.
    """
    level = make_level(image)
    flat = level.image.flatten(1)
    flat -= flat.mean(1, keepdim=True)
    deviation = torch.linalg.vector_norm(flat, dim=1) / flat.shape[1] ** 0.5
    return level, deviation.clamp_min(FLAT).reciprocal()[:, None, None, None]


def normalise(image: Tensor) -> Tensor:
    """Return faces (B, H, W, 3) with mean 0 and deviation 1 over all pixels and channels of a face together."""
    level, scale = centre(image)
    return level.image * scale


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


def _halve_rows(image: Tensor) -> Tensor:
    """Return faces (B, ceil(H / 2), W, 3) of (B, H, W, 3).

    A sum of weighted rows is what an embedding bag computes, in one pass over memory; on the CPU that is some ten times
    as fast as selecting rows tap by tap.
    """
    faces, count, width, channels = image.shape
    taps, weights = halving_taps(count)
    bags = torch.from_numpy(taps.T.copy()).to(image.device)  # (rows, taps)
    first = torch.arange(faces, device=image.device)[:, None, None] * count
    shares = torch.from_numpy(weights.T.copy()).to(image).expand(faces, -1, -1)
    rows = F.embedding_bag(
        (bags + first).flatten(0, 1), image.reshape(faces * count, width * channels), mode="sum",
        per_sample_weights=shares.flatten(0, 1),
    )  # fmt: skip
    return rows.view(faces, len(bags), width, channels)


def halve(image: Tensor) -> Level:
    """Return the next coarser level (B, ceil(H / 2), ceil(W / 2), 3) of a level's pixels (B, H, W, 3)."""
    halved = _halve_rows(_halve_rows(image).transpose(1, 2)).transpose(1, 2)
    return make_level(halved)


def halvings(image: Tensor | Level, depth: int) -> list[Level]:
    """Return `depth` levels of faces (B, H, W, 3), finest first, the first being the faces themselves."""
    levels = [image if isinstance(image, Level) else make_level(image)]
    while len(levels) < depth:
        levels.append(halve(levels[-1].image))
    return levels


def pyramid(image: Tensor, depth: int) -> Pyramid:
    """Return the pyramid of `depth` levels of faces (B, H, W, 3), bytes or floats at any scale."""
    centred, scale = centre(image)
    return Pyramid(halvings(centred, depth), scale)
