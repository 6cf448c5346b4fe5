"""Predictions that are probably written in another way than they are read: shares of the picture, y before x, ..."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MUCH_BETTER = 0.3  # an error that falls below this share of itself when read in another way is suspicious


def suspicions(points: np.ndarray, truth: np.ndarray) -> Iterator[str]:
    """Yield a line for each other reading of predictions that fits the truth far better.

    Args:
        points: (N, L, 2) predictions, pixels; NaN where a face has no answer.
        truth: (N, L, 2), pixels.
    """
    known = np.isfinite(points).all(axis=(1, 2))
    if not known.any():
        return
    points, truth = points[known], truth[known]
    if points.min() >= -0.5 and points.max() <= 1.5 and np.nanmax(truth) > 3:
        yield "all predicted points lie in 0..1: are they shares of the picture instead of pixels?"
        return
    error = _error(points, truth)
    count = points.shape[1]
    columns = points.reshape(len(points), 2, count).transpose(0, 2, 1)
    readings = {"y before x": points[..., ::-1], "all x, then all y": columns, "counted from 1": points - 1}
    for name, other in readings.items():
        limit = MUCH_BETTER if name != "counted from 1" else 0.05
        found = _error(other, truth)
        if found < limit * error:
            yield f"read as {name}, the mean distance would be {found:.2f} px instead of {error:.2f} px: check the file"


def _error(points: np.ndarray, truth: np.ndarray) -> float:
    return float(np.nanmean(np.linalg.norm(points - truth, axis=-1)))
