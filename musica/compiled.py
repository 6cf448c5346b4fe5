"""One or a few faces on the CPU as compiled loops: cutting and describing patches, and hidden layers of integers.

Fifty patches of 14 x 14 pixels are so little work that starting the tensors' operations takes longer than doing it.
Here patches are cut straight into the rows that the first convolution multiplies, its maxima into those of the second.
The arithmetic is that of `musica.patches` and `Stage.describe`, without gradients; sums run in another order.

Needs the optional package numba, see `common.compiled`.
Letters: B faces, A faces still in the cascade, M patches, p side of a patch, C channels of a convolution, I inputs and
U units of a hidden layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from common.compiled import available, compiled, compiled_sums
from musica.patches import Level

MOST_FACES = 2  # more at once are as fast as tensors, which use every core


def usable(like: Tensor, faces: int) -> bool:
    """Return whether so many faces are best worked on here, given a tensor of what they are made of.

    Not while operators are watched, as by a counter of multiply-adds, which would not see these.
    """
    return (
        available
        and faces <= MOST_FACES
        and like.device.type == "cpu"
        and like.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not is_in_torch_dispatch_mode()
        and not torch.compiler.is_compiling()
    )


@compiled
def _cut(image: np.ndarray, row: int, column: int, first: int, window: np.ndarray) -> None:
    """Copy a window (n, 3 n) of image (H, 3 W), colours side by side; zero before `first` and behind the end."""
    height, width, side = image.shape[0], image.shape[1] // 3, window.shape[0]
    top, bottom = max(first - row, 0), min(height - row, side)
    left, right = max(first - column, 0), min(width - column, side)
    if top > 0 or bottom < side or left > 0 or right < side:
        window[:] = 0
        if top >= bottom or left >= right:
            return
    for i in range(top, bottom):
        window[i, 3 * left : 3 * right] = image[row + i, 3 * (column + left) : 3 * (column + right)]


@compiled
def _cut_patch(window: np.ndarray, y: Any, x: Any, scale: Any, official: bool, cut: np.ndarray) -> None:
    """Fill cut (p, 3 p) from window (p or p + 1, ...): copied, or interpolated at the shares y, x; times scale.

    The three numbers are of single precision: others would widen every product.
    """
    patch, width = len(cut), cut.shape[1]
    if official:
        for i in range(patch):
            for k in range(width):
                cut[i, k] = window[i, k] * scale
        return
    blend = np.empty(window.shape[1], np.float32)
    for i in range(patch):
        upper, lower, target, beside = window[i], window[i + 1], cut[i], blend[3:]
        for k in range(len(blend)):
            blend[k] = upper[k] + y * (lower[k] - upper[k])
        for k in range(width):
            target[k] = (blend[k] + x * (beside[k] - blend[k])) * scale


@compiled
def _colour_neighbourhoods(image: np.ndarray, out: np.ndarray) -> None:
    """Fill out ((n - 2)^2, 27) with the 3 x 3 neighbourhoods of image (n, 3 n)."""
    inner, line = len(image) - 2, 0
    for i in range(inner):
        for j in range(inner):
            for d in range(3):
                for k in range(9):  # a number that the compiler knows: nine moves, no loop
                    out[line, 9 * d + k] = image[i + d, 3 * j + k]
            line += 1


@compiled
def _neighbourhoods(image: np.ndarray, channels: int, out: np.ndarray) -> None:
    """Fill out ((n - 2)^2, 9 C) with the 3 x 3 neighbourhoods of image (n, n C)."""
    inner, part, line = len(image) - 2, 3 * channels, 0
    for i in range(inner):
        for j in range(inner):
            for d in range(3):  # three neighbours lie side by side in both
                source, target = image[i + d, j * channels :], out[line, d * part : (d + 1) * part]
                for k in range(len(target)):
                    target[k] = source[k]
            line += 1


@compiled
def _pool(maps: np.ndarray, side: int, bias: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n / 2, n / 2 C) with the 2 x 2 maxima of maps (n n, C), plus bias, rectified."""
    channels = len(bias)
    for i in range(side // 2):
        for j in range(side // 2):
            corner = 2 * i * side + 2 * j
            one, two, three, four = maps[corner], maps[corner + 1], maps[corner + side], maps[corner + side + 1]
            target = out[i, j * channels : (j + 1) * channels]
            for c in range(channels):
                upper, lower = one[c] if one[c] > two[c] else two[c], three[c] if three[c] > four[c] else four[c]
                most = (upper if upper > lower else lower) + bias[c]
                target[c] = most if most > 0 else np.float32(0)


@compiled
def _describe(
    levels: np.ndarray,
    faces: np.ndarray,
    centres: np.ndarray,
    scale: np.ndarray,
    patch: int,
    official: bool,
    first: np.ndarray,
    first_bias: np.ndarray,
    second: np.ndarray,
    second_bias: np.ndarray,
    out: np.ndarray,
    begin: int,
    end: int,
) -> None:
    """Describe the patches from `begin` to before `end`, one by one, so that each one's data stay in the nearest cache.

    Args:
        levels: (B, H, 3 W).
        faces: (A,) rows of the level.
        centres: (A, M, 2) row, column.
        scale: (B,) factors of the pixels.
        patch: p.
        official: truncate and copy, never reading row 0 and column 0; else interpolate.
        first, second: (27, C) and (9 C, C) weights, row, column and channel.
        first_bias, second_bias: (C,).
        out: (A M, 8 C), filled: per place of 2 x 2, the rectified middle, then the rectified maxima.
        begin, end: rows of out.
    """
    height, width, channels = levels.shape[1], levels.shape[2] // 3, len(first_bias)
    reach, side, half = patch if official else patch + 1, patch - 2, patch // 2
    window, cut = np.empty((reach, 3 * reach), np.float32), np.empty((patch, 3 * patch), np.float32)
    pixels, maps = np.empty((side * side, 27), np.float32), np.empty((side * side, channels), np.float32)
    pooled = np.empty((side // 2, side // 2 * channels), np.float32)
    inner = side // 2 - 2
    joined, small = np.empty((inner * inner, 9 * channels), np.float32), np.empty((inner * inner, channels), np.float32)
    most = np.empty((2, 2 * channels), np.float32)
    for number in range(begin, end):
        a, m = number // centres.shape[1], number % centres.shape[1]
        y, x = centres[a, m, 0] - half, centres[a, m, 1] - half
        if not (-reach < y < height and -reach < x < width):  # beside the image altogether, or no number
            y, x = np.float32(-reach), np.float32(-reach)
        row, column = (np.trunc(y), np.trunc(x)) if official else (np.floor(y), np.floor(x))
        _cut(levels[faces[a]], int(row), int(column), 1 if official else 0, window)
        _cut_patch(window, np.float32(y - row), np.float32(x - column), scale[faces[a]], official, cut)
        _colour_neighbourhoods(cut, pixels)
        np.dot(pixels, first, maps)
        _pool(maps, side, first_bias, pooled)
        _neighbourhoods(pooled, channels, joined)
        np.dot(joined, second, small)
        _pool(small, inner, second_bias, most)
        target = out[number]
        for i in range(2):
            for j in range(2):
                place, middle = (2 * i + j) * 2 * channels, small[inner * (i + 1) + j + 1]
                for c in range(channels):
                    value = middle[c] + second_bias[c]
                    target[place + c] = value if value > 0 else np.float32(0)
                    target[place + channels + c] = most[i, j * channels + c]


@lru_cache
def _helpers(count: int) -> ThreadPoolExecutor:
    """Return threads that wait for work; the compiled loops leave the interpreter's lock to others."""
    return ThreadPoolExecutor(count, thread_name_prefix="patches")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # a forked process has the pool, but not its threads


def _side_by_side(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call work(begin, end) for shares of range(count), one share in this thread and the others in helpers."""
    threads = max(1, min(threads, count))
    bounds = [count * share // threads for share in range(threads + 1)]
    others = [_helpers(threads - 1).submit(work, bounds[k], bounds[k + 1]) for k in range(1, threads)]
    try:
        work(0, bounds[1])
    finally:  # they write into memory that is let go after this
        for other in others:
            other.result()


@compiled
def _matrix(weight: np.ndarray) -> np.ndarray:
    """Return weights (O, I, 3, 3) of a convolution as (row, column, input channel) x output channel (9 I, O)."""
    outputs, inputs = weight.shape[:2]
    matrix = np.empty((9 * inputs, outputs), np.float32)
    for o in range(outputs):
        for i in range(inputs):
            for place in range(9):
                matrix[place * inputs + i, o] = weight[o, i, place // 3, place % 3]
    return matrix


def describe(
    level: Level,
    centres: Tensor,
    patch: int,
    sampling: str,
    faces: Tensor | None,
    scale: Tensor | None,
    first: nn.Conv2d,
    second: nn.Conv2d,
) -> Tensor:
    """Return what `Stage.describe` answers (A M, 8 C) for what `cut_patches` returns; the same arguments.

    Args:
        first: the stage's first convolution.
        second: its second one.
    """
    image, count = level.image, centres.shape[0] * centres.shape[1]
    rows = np.arange(len(centres)) if faces is None else faces.numpy()
    factors = np.ones(len(image), np.float32) if scale is None else scale.view(-1).float().numpy()
    assert first.bias is not None and second.bias is not None
    features = torch.empty(count, 8 * first.out_channels)
    work = partial(
        _describe, image.flatten(2).numpy(), rows, centres.contiguous().numpy(), factors, patch,
        sampling == "official", _matrix(first.weight.detach().numpy()), first.bias.detach().numpy(),
        _matrix(second.weight.detach().numpy()), second.bias.detach().numpy(), features.numpy(),
    )  # fmt: skip
    _side_by_side(work, count, torch.get_num_threads())
    return features


@compiled_sums
def _integer_products(
    weight: np.ndarray, scale: np.ndarray, bias: np.ndarray, x: np.ndarray, out: np.ndarray, begin: int, end: int
) -> None:
    """Fill out[4 begin : 4 end] (U,) with weight (U, I) times x (I,), times scale, plus bias; four rows at a time."""
    for u in range(4 * begin, 4 * end, 4):
        one, two, three, four = weight[u], weight[u + 1], weight[u + 2], weight[u + 3]
        a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for k in range(len(x)):
            value = x[k]
            a += value * np.float32(one[k])
            b += value * np.float32(two[k])
            c += value * np.float32(three[k])
            d += value * np.float32(four[k])
        out[u] = a * scale[u] + bias[u]
        out[u + 1] = b * scale[u + 1] + bias[u + 1]
        out[u + 2] = c * scale[u + 2] + bias[u + 2]
        out[u + 3] = d * scale[u + 3] + bias[u + 3]


def integer_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return (A, U) for x (A, I), what `musica.integer.IntegerLinear` answers.

    Args:
        x: float32.
        weight: (U, I) integers.
        scale: (U,) float32.
        bias: (U,) float32.
    """
    units = len(weight)
    out = torch.empty(len(x), units)
    fours = units // 4
    for row, answer in zip(x.contiguous().numpy(), out.numpy(), strict=True):
        work = partial(_integer_products, weight.numpy(), scale.numpy(), bias.numpy(), row, answer)
        _side_by_side(work, fours, torch.get_num_threads())
    if rest := units - 4 * fours:  # the few units that make no four
        out[:, -rest:] = F.linear(x, weight[-rest:].float() * scale[-rest:, None], bias[-rest:])
    return out
