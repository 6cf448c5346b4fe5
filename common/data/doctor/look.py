"""What the doctor takes from each face: its numbers and two thumbnails; pictures are read once, on all cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from common.data.base import FaceDataset, begin_worker
from common.errors import LabError
from common.geometry import apply_affine, fit_similarity
from common.schemes import LandmarkScheme
from common.types import FaceSample

THUMB = 32  # side of the thumbnails in pixels
FACE_SHARE = 0.7  # of the thumbnail that the reference's points cover
SHAPES = 300  # faces that the reference is the mean of
_faces: FaceDataset  # of a worker process
_reference: np.ndarray


@dataclass(frozen=True)
class Look:
    """One face as the doctor sees it.

    Attributes:
        size: height and width of the picture.
        points: (L, 2) image pixels.
        known: (L,) bool, annotated.
        photo: (THUMB, THUMB) uint8, the whole picture, grey.
        face: (THUMB, THUMB) uint8, the face by its points; `mirrored` the same by its points mirrored in the picture.
        residual: root mean square distance to the reference after a similarity, as a share of the reference's size.
        reflected: the same with the points reflected.
        bent: the same after an affine map, which takes up much of a turned head.
    """

    id: str
    size: tuple[int, int]
    points: np.ndarray
    known: np.ndarray
    box: np.ndarray
    subsets: tuple[str, ...]
    photo: np.ndarray
    face: np.ndarray
    mirrored: np.ndarray
    residual: float
    reflected: float
    bent: float


def reference_shape(faces: FaceDataset) -> np.ndarray:
    """Return the mean shape (L, 2) of a set after similarities, centred, its larger side 1, its eyes level."""
    rows = np.linspace(0, len(faces) - 1, min(SHAPES, len(faces))).astype(int)
    shapes = faces.shapes()
    drawn = []
    for row in rows.tolist():
        try:
            drawn.append(shapes[row] if shapes is not None else _complete(faces[row]))
        except LabError:
            continue  # reported when all faces are looked at
    stack = np.array([points[:, :2] for points in drawn if points is not None], np.float64)
    if not len(stack):
        raise LabError(f"{faces.name}: not one face is whole, so that there is nothing to compare with")
    scale = np.sqrt(((stack - stack.mean(1, keepdims=True)) ** 2).sum((1, 2)))
    stack = (stack - stack.mean(1, keepdims=True))[scale > 0] / scale[scale > 0, None, None]
    mean = np.median(stack, axis=0)
    for _ in range(3):
        mean = np.median([apply_affine(fit_similarity(points, mean), points) for points in stack], axis=0)
    left, right = faces.scheme.corners
    x, y = mean[right] - mean[left]
    angle = -np.arctan2(y, x)
    mean = mean @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    low, high = mean.min(0), mean.max(0)
    return (mean - (low + high) / 2) / (high - low).max()


def _complete(sample: FaceSample) -> np.ndarray | None:
    return sample.points if sample.annotated is None or sample.annotated.all() else None


def look(sample: FaceSample, reference: np.ndarray, scheme: LandmarkScheme) -> Look:
    """Return what the doctor keeps of a face; `reference` as of `reference_shape`."""
    grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
    points = sample.points[:, :2].astype(np.float64)
    known = np.ones(len(points), bool) if sample.annotated is None else sample.annotated
    mirrored = points.copy()
    mirrored[:, 0] = grey.shape[1] - 1 - mirrored[:, 0]
    mirrored, order = mirrored[list(scheme.mirror)], known[list(scheme.mirror)]
    reflection = points * [-1, 1]
    return Look(
        id=sample.id,
        size=(grey.shape[0], grey.shape[1]),
        points=points,
        known=known,
        box=np.asarray(sample.box, np.float64),
        subsets=sample.subsets,
        photo=cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
        face=_aligned(grey, points, known, reference),
        mirrored=_aligned(grey, mirrored, order, reference),
        residual=misfit(points, known, reference),
        reflected=misfit(reflection, known, reference),
        bent=affine_misfit(points[known], reference[known]),
    )


def misfit(points: np.ndarray, known: np.ndarray, reference: np.ndarray) -> float:
    """Return the root mean square distance of the points to the reference after the best similarity."""
    if known.sum() < 3 or not np.ptp(points[known], axis=0).any():
        return float("nan")
    moved = apply_affine(fit_similarity(points[known], reference[known]), points[known])
    return float(np.sqrt(((moved - reference[known]) ** 2).sum(1).mean()))


def affine_misfit(points: np.ndarray, reference: np.ndarray) -> float:
    """Return the root mean square distance of points (N, 2) to the reference (N, 2) after the best affine map."""
    return float(np.sqrt((affine_gap(points, reference) ** 2).sum(1).mean())) if len(points) else float("nan")


def affine_gap(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return what is left between points (N, 2) and the reference (N, 2) after the best affine map."""
    size = max(float(np.ptp(points, axis=0).max()), 1e-9)
    columns = np.column_stack([(points - points.mean(0)) / size, np.ones(len(points))])
    return columns @ np.linalg.lstsq(columns, reference, rcond=None)[0] - reference


def _aligned(grey: np.ndarray, points: np.ndarray, known: np.ndarray, reference: np.ndarray) -> np.ndarray:
    if known.sum() < 3 or not np.ptp(points[known], axis=0).any():
        return np.zeros((THUMB, THUMB), np.uint8)
    target = reference[known] * THUMB * FACE_SHARE + (THUMB - 1) / 2
    matrix = fit_similarity(points[known], target)
    shrink = 1 / max(float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1e-6)
    while shrink >= 2 and min(grey.shape) >= 4:  # averaged first: bilinear sampling alone aliases
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
        matrix = np.column_stack([matrix[:, :2] * 2, matrix[:, 2] + matrix[:, :2].sum(1) * 0.5])
        shrink /= 2
    return cv2.warpAffine(grey, matrix, (THUMB, THUMB), flags=cv2.INTER_LINEAR)


def _start(faces: FaceDataset, reference: np.ndarray) -> None:
    global _faces, _reference
    _faces, _reference = faces, reference
    begin_worker()


def _one(index: int) -> Look | str:
    try:
        return look(_faces[index], _reference, _faces.scheme)
    except LabError as error:
        return str(error)


def looks(
    faces: FaceDataset, reference: np.ndarray, workers: int | None = None, tick: Callable[[], None] = lambda: None
) -> Iterator[Look | str]:
    """Yield a `Look` for each face in order, or what is wrong with its picture.

    Args:
        faces: the set.
        reference: as of `reference_shape`.
        workers: processes; None for one a core.
        tick: called after each face.
    """
    count = min(workers or len(os.sched_getaffinity(0)), max(1, len(faces) // 8))
    if count <= 1:
        _start(faces, reference)
        for index in range(len(faces)):
            yield _one(index)
            tick()
        return
    with multiprocessing.get_context("fork").Pool(count, _start, (faces, reference)) as pool:
        for found in pool.imap(_one, range(len(faces)), chunksize=8):
            yield found
            tick()
