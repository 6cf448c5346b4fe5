"""The landmarks of a training set as shapes: what methods take their mean faces from."""

from __future__ import annotations

import numpy as np

from common.data.base import FaceDataset
from common.errors import LabError
from common.geometry import apply_affine, fit_similarity, invert_affine

MOST_READ = 2000  # faces that are read where their points are not at hand without their pictures
ENOUGH = 100  # whole faces; with fewer, those that lack points are completed
ROUNDS = 3  # of averaging; the mean turns by less than 0.01 degrees in a fourth
LEAST_POINTS = 3  # that a face must have to be completed


def training_shapes(faces: FaceDataset) -> np.ndarray:
    """Return whole shapes (N, L, 2) of a data set, without reading pictures where it keeps its points at hand.

    Where fewer than ENOUGH faces have all points, the others' gaps are filled by the mean face laid on what they have.

    Raises:
        LabError: a point is annotated in no face.
    """
    points = faces.shapes()
    if points is None:
        step = max(1, len(faces) // MOST_READ)
        points = np.stack([known_points(faces, index) for index in range(0, len(faces), step)])
    points = points[..., :2]
    known = np.isfinite(points).all(axis=-1)
    whole = known.all(axis=1)
    if whole.all() or whole.sum() >= ENOUGH:
        return points[whole]
    absent = np.flatnonzero(~known.any(axis=0))
    if absent.size:
        name = faces.scheme.names[int(absent[0])]
        raise LabError(f"data set {faces.name}: point {name} is annotated in no face that was looked at, so that there "
                       "is no mean face; annotate it, or leave it out of the scheme")  # fmt: skip
    return completed(points, known)


def known_points(faces: FaceDataset, index: int) -> np.ndarray:
    """Return the points (L, 2) of a face, NaN where it is not annotated."""
    sample = faces[index]
    points = sample.points[:, :2].astype(np.float64)
    return points if sample.annotated is None else np.where(sample.annotated[:, None], points, np.nan)


def rough_mean(points: np.ndarray) -> np.ndarray:
    """Return the mean (L, 2) of shapes (N, L, 2) in the frame of their boxes: as upright as they are on average.

    NaN counts for nothing.
    """
    low, high = np.nanmin(points, axis=1, keepdims=True), np.nanmax(points, axis=1, keepdims=True)
    side = np.maximum((high - low).max(axis=-1, keepdims=True), 1e-9)
    mean: np.ndarray = np.nanmean((points - (low + high) / 2) / side, axis=0)
    return mean


def completed(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return shapes (M, L, 2) whose gaps are filled; faces of fewer than LEAST_POINTS are left out.

    Args:
        points: (N, L, 2).
        known: (N, L), False where `points` says nothing.
    """
    kept = known.sum(axis=1) >= LEAST_POINTS
    known, filled = known[kept], np.where(known[kept][..., None], points[kept], 0.0)
    mean = rough_mean(np.where(known[..., None], filled, np.nan))
    for _ in range(ROUNDS):
        maps = fit_similarity(filled, np.broadcast_to(mean, filled.shape).copy(), known.astype(np.float64))
        filled = np.where(known[..., None], filled, apply_affine(invert_affine(maps), mean))
        mean = apply_affine(maps, filled).mean(axis=0)
    return filled


def mean_shape(shapes: np.ndarray) -> np.ndarray:
    """Return the mean (L, 2) of whole shapes (N, L, 2) after similarities onto it, upright as they are on average."""
    mean = rough_mean(shapes)
    for _ in range(ROUNDS):
        maps = fit_similarity(shapes.astype(np.float64), np.broadcast_to(mean, shapes.shape).copy())
        mean = apply_affine(maps, shapes.astype(np.float64)).mean(axis=0)
    return mean
