"""Patches on the CPU as compiled loops: cut from a level and described by the two convolutions, one by one.

A patch is so little work that starting the tensors' operations takes longer than doing it, and all its values stay in
the nearest cache. Sums run over the channels side by side, which lie next to each other in memory; what a loop over
them adds up is written out, since only then does it become one multiplication and addition of whole registers.

Symbols: M patches, p side of a patch (14), C channels (32).
"""

from __future__ import annotations

import numpy as np

from common.native import compiled, compiled_sums
from musica.types import CHANNELS, PATCH

# Compiled code takes these as fixed numbers, so that loops over them have a known length.
MAP = PATCH - 2  # side of the first convolution's map
POOLED = MAP // 2  # of its maxima
INNER = POOLED - 2  # of the second convolution's map
COLOURS = 3
LINE = COLOURS * PATCH  # values in a row of a patch


@compiled
def _cut(image: np.ndarray, row: int, column: int, first: int, window: np.ndarray) -> None:
    """Copy a window (n, 3 n) of image (H, 3 W), colours side by side; zero before `first` and after the end."""
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
def _cut_patch(window: np.ndarray, y: object, x: object, scale: object, official: bool, cut: np.ndarray) -> None:
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


@compiled_sums
def _first_maxima(cut: np.ndarray, weight: np.ndarray, bias: np.ndarray, maps: np.ndarray, out: np.ndarray) -> None:
    """Fill out (36 C,) with the rectified 2 x 2 maxima of the first convolution's map, row, column, channel.

    Args:
        cut: (p * 3 p,) the patch, row, column, colour.
        weight: (27 C,) row, column, colour, channel.
        bias: (C,).
        maps: (at least 4 C,) room for the four places of a maximum.
        out: (36 C,).
    """
    c1, c2, c3 = CHANNELS, 2 * CHANNELS, 3 * CHANNELS
    for i in range(0, MAP, 2):
        for j in range(0, MAP, 2):
            for c in range(CHANNELS):
                maps[c] = maps[c1 + c] = maps[c2 + c] = maps[c3 + c] = bias[c]
            for d in range(3):
                u, k0 = (i + d) * LINE + COLOURS * j, 9 * d * CHANNELS
                v = u + LINE  # four neighbours of three colours: a, b, ... above, n, o, ... in the row below
                a, b, e, f, g, h = cut[u], cut[u + 1], cut[u + 2], cut[u + 3], cut[u + 4], cut[u + 5]
                q, r, s, t, y, z = cut[u + 6], cut[u + 7], cut[u + 8], cut[u + 9], cut[u + 10], cut[u + 11]
                a_, b_, e_, f_, g_, h_ = cut[v], cut[v + 1], cut[v + 2], cut[v + 3], cut[v + 4], cut[v + 5]
                q_, r_, s_, t_, y_, z_ = cut[v + 6], cut[v + 7], cut[v + 8], cut[v + 9], cut[v + 10], cut[v + 11]
                for c in range(CHANNELS):
                    k = k0 + c
                    w0, w1, w2 = weight[k], weight[k + c1], weight[k + c2]
                    w3, w4, w5 = weight[k + c3], weight[k + 4 * c1], weight[k + 5 * c1]
                    w6, w7, w8 = weight[k + 6 * c1], weight[k + 7 * c1], weight[k + 8 * c1]
                    maps[c] += a * w0 + b * w1 + e * w2 + f * w3 + g * w4 + h * w5 + q * w6 + r * w7 + s * w8
                    maps[c1 + c] += f * w0 + g * w1 + h * w2 + q * w3 + r * w4 + s * w5 + t * w6 + y * w7 + z * w8
                    maps[c2 + c] += (
                        a_ * w0 + b_ * w1 + e_ * w2 + f_ * w3 + g_ * w4 + h_ * w5 + q_ * w6 + r_ * w7 + s_ * w8
                    )
                    maps[c3 + c] += (
                        f_ * w0 + g_ * w1 + h_ * w2 + q_ * w3 + r_ * w4 + s_ * w5 + t_ * w6 + y_ * w7 + z_ * w8
                    )
            place = (i // 2 * POOLED + j // 2) * CHANNELS
            for c in range(CHANNELS):
                most = max(max(maps[c], maps[c1 + c]), max(maps[c2 + c], maps[c3 + c]))
                out[place + c] = max(most, np.float32(0))


@compiled_sums
def _second_features(seen: np.ndarray, weight: np.ndarray, bias: np.ndarray, maps: np.ndarray, out: np.ndarray) -> None:
    """Fill out (8 C,) with the features: per place of 2 x 2, the second map's middle, then its maxima, rectified.

    Args:
        seen: (36 C,) from `_first_maxima`.
        weight: (9 C C,) row, column, input channel, channel.
        bias: (C,).
        maps: (16 C,) room for the second convolution's map.
        out: (8 C,).
    """
    c1, zero = CHANNELS, np.float32(0)
    for place in range(INNER * INNER):
        for c in range(CHANNELS):
            maps[place * c1 + c] = bias[c]
    for d in range(3):
        for e in range(3):
            for first in range(0, CHANNELS, 8):  # eight channels of two neighbouring places at a time
                k0 = ((3 * d + e) * c1 + first) * c1
                for i in range(INNER):
                    for j in range(0, INNER, 2):
                        u, o = ((i + d) * POOLED + j + e) * c1 + first, (INNER * i + j) * c1
                        v = u + c1
                        a, b, f, g = seen[u], seen[u + 1], seen[u + 2], seen[u + 3]
                        h, q, r, s = seen[u + 4], seen[u + 5], seen[u + 6], seen[u + 7]
                        a_, b_, f_, g_ = seen[v], seen[v + 1], seen[v + 2], seen[v + 3]
                        h_, q_, r_, s_ = seen[v + 4], seen[v + 5], seen[v + 6], seen[v + 7]
                        for c in range(CHANNELS):
                            k = k0 + c
                            w0, w1, w2, w3 = weight[k], weight[k + c1], weight[k + 2 * c1], weight[k + 3 * c1]
                            w4, w5, w6 = weight[k + 4 * c1], weight[k + 5 * c1], weight[k + 6 * c1]
                            w7 = weight[k + 7 * c1]
                            maps[o + c] += a * w0 + b * w1 + f * w2 + g * w3 + h * w4 + q * w5 + r * w6 + s * w7
                            maps[o + c1 + c] += (
                                a_ * w0 + b_ * w1 + f_ * w2 + g_ * w3 + h_ * w4 + q_ * w5 + r_ * w6 + s_ * w7
                            )
    below = INNER * c1
    for i in range(2):
        for j in range(2):
            o, m, u = (2 * i + j) * 2 * c1, (INNER * (i + 1) + j + 1) * c1, (2 * INNER * i + 2 * j) * c1
            for c in range(CHANNELS):
                out[o + c] = max(maps[m + c], zero)
                upper = max(maps[u + c], maps[u + c1 + c])
                lower = max(maps[u + below + c], maps[u + below + c1 + c])
                out[o + c1 + c] = max(max(upper, lower), zero)


@compiled
def flat_weights(weight: np.ndarray) -> np.ndarray:
    """Return weights (C, I, 3, 3) of a convolution as (9 I C,): row, column, input channel, channel."""
    outputs, inputs = weight.shape[:2]
    flat = np.empty(9 * inputs * outputs, np.float32)
    for o in range(outputs):
        for i in range(inputs):
            for place in range(9):
                flat[(place * inputs + i) * outputs + o] = weight[o, i, place // 3, place % 3]
    return flat


@compiled
def describe_patches(
    image: np.ndarray,
    centres: np.ndarray,
    scale: object,
    official: bool,
    first: np.ndarray,
    first_bias: np.ndarray,
    second: np.ndarray,
    second_bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Describe patches of one face.

    Args:
        image: (H, 3 W) a level's pixels.
        centres: (M, 2) row, column, single precision.
        scale: factor of the pixels, single precision.
        official: truncate and copy, never reading row 0 and column 0; else interpolate.
        first, second: (27 C,) and (9 C C,) from `flat_weights`.
        first_bias, second_bias: (C,).
        out: (M or more, 8 C), filled: per place of 2 x 2, the rectified middle, then the rectified maxima.
    """
    height, width, half = image.shape[0], image.shape[1] // COLOURS, PATCH // 2
    reach = PATCH if official else PATCH + 1
    window, cut = np.empty((reach, COLOURS * reach), np.float32), np.empty((PATCH, LINE), np.float32)
    maps, maxima = np.empty(INNER * INNER * CHANNELS, np.float32), np.empty(POOLED * POOLED * CHANNELS, np.float32)
    for m in range(len(centres)):
        y, x = centres[m, 0] - half, centres[m, 1] - half
        if not (-reach < y < height and -reach < x < width):  # outside the image altogether, or NaN
            y, x = np.float32(-reach), np.float32(-reach)
        row, column = (np.trunc(y), np.trunc(x)) if official else (np.floor(y), np.floor(x))
        _cut(image, int(row), int(column), 1 if official else 0, window)
        _cut_patch(window, np.float32(y - row), np.float32(x - column), scale, official, cut)
        _first_maxima(cut.reshape(-1), first, first_bias, maps, maxima)
        _second_features(maxima, second, second_bias, maps, out[m])
