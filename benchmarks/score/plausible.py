"""Predictions that are probably written in another way than they are read: shares of the picture, y before x, ..."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Other readings, and the share of the error below which an error that is found with one is suspicious.
READINGS = {"y before x": 0.3, "all x, then all y": 0.3, "counted from 1": 0.05}
BLOCK = 1000  # faces


def suspicions(points: np.ndarray, truth: np.ndarray) -> Iterator[str]:
    """Yield a line for each other reading of predictions that fits the truth far better.

    Args:
        points: (N, L, 2) predictions, pixels; NaN where a face has no prediction.
        truth: (N, L, 2), pixels.
    """
    known = np.isfinite(points).all(axis=(1, 2))
    if not known.any():
        return
    if np.nanmin(points) >= -0.5 and np.nanmax(points) <= 1.5 and np.nanmax(truth) > 3:
        yield "all predicted points lie in 0..1: are they shares of the picture instead of pixels?"
        return
    rows = np.flatnonzero(known)
    # In blocks: the readings of 50,000 faces at once would take several times their memory.
    sums = [_sums(points[block], truth[block]) for block in np.array_split(rows, len(rows) // BLOCK + 1)]
    count = np.isfinite(truth[rows]).all(axis=-1).sum()
    error, *others = (np.sum(sums, axis=0) / max(count, 1)).tolist()
    for name, limit, found in zip(READINGS, READINGS.values(), others, strict=True):
        if found < limit * error:
            yield f"read as {name}, the mean distance would be {found:.2f} px instead of {error:.2f} px: check the file"


def _sums(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the sums (1 + readings) of distances to the known truth, of points (N, L, 2) as they are and as read."""
    columns = points.reshape(len(points), 2, -1).transpose(0, 2, 1)
    read = (points, points[..., ::-1], columns, points - 1)
    return np.array([np.nansum(np.linalg.norm(other - truth, axis=-1)) for other in read])
