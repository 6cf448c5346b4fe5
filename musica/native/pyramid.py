"""The levels of a face as compiled loops; the arithmetic of `musica.pyramid`, whose sums run in another order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from common.native import compiled_sums
from musica.pyramid import halving_taps

COLOURS = 3


@compiled_sums
def centre_bytes(image: np.ndarray, out: np.ndarray) -> float:
    """Fill out (H, 3 W) float32 with image (H, 3 W) uint8 less its mean; return the deviation."""
    total = np.int64(0)
    for i in range(len(image)):
        row, part = image[i], np.uint32(0)
        for k in range(len(row)):
            part += np.uint32(row[k])
        total += np.int64(part)
    mean = np.float32(total / image.size)
    squares = np.float64(0)
    for i in range(len(image)):
        row, target, own = image[i], out[i], np.float32(0)
        for k in range(len(row)):
            value = np.float32(row[k]) - mean
            target[k] = value
            own += value * value
        squares += own
    return (squares / image.size) ** 0.5


@compiled_sums
def halve_level(
    image: np.ndarray, rows: np.ndarray, row_shares: np.ndarray, columns: np.ndarray, column_shares: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Fill out (h, 3 w) with the next coarser level of image (H, 3 W).

    Args:
        image: float32.
        rows: (h, taps) source rows of each row.
        row_shares: (h, taps) their weights.
        columns: (w, taps) source columns of each column.
        column_shares: (w, taps) their weights.
        out: float32.
    """
    line = np.empty(image.shape[1], np.float32)
    for i in range(len(out)):
        line[:] = 0
        for tap in range(rows.shape[1]):
            source, share = image[rows[i, tap]], row_shares[i, tap]
            for k in range(len(line)):
                line[k] += share * source[k]
        target = out[i]
        for j in range(len(columns)):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for tap in range(columns.shape[1]):
                place, share = COLOURS * columns[j, tap], column_shares[j, tap]
                red += share * line[place]
                green += share * line[place + 1]
                blue += share * line[place + 2]
            target[COLOURS * j] = red
            target[COLOURS * j + 1] = green
            target[COLOURS * j + 2] = blue


@lru_cache(maxsize=64)
def taps_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return source indices and weights (n, taps) of `musica.pyramid.halving_taps`, place by place."""
    index, weight = halving_taps(count)
    return np.ascontiguousarray(index.T), np.ascontiguousarray(weight.T, np.float32)
