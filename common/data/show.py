"""`python -m common.data show`: faces of a set with points, boxes and ids, as they are and as training sees them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from common.data.batching import CroppedFaces
from common.data.crops import CroppedFace
from common.prediction.plotting import TRUE, draw_landmarks, grid

CELL = 256  # side of a face in the grid, pixels
BOX = (70, 140, 255)  # RGB
TEXT = 12  # characters of an id that a cell has room for, per 100 pixels


def draw_face(face: CroppedFace, faces: CroppedFaces, label: str) -> np.ndarray:
    """Return a cropped face (CELL, CELL, 3) with its annotated points, its box and a line of text."""
    scale = CELL / face.image.shape[0]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(face.image, (CELL, CELL), interpolation=way)
    points = (face.points[:, :2] + 0.5) * scale - 0.5
    if face.weight.all():
        canvas = draw_landmarks(canvas, points, faces.faces.scheme, TRUE)
    for x, y in points[face.weight > 0].round().astype(int).tolist():
        cv2.circle(canvas, (x, y), 1, TRUE, -1, cv2.LINE_AA)
    x0, y0, x1, y1 = ((face.box + 0.5) * scale - 0.5).round().astype(int).tolist()
    cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX, 1)
    return write_words(canvas, label)


def write_words(canvas: np.ndarray, label: str) -> np.ndarray:
    """Write a line of text into a cell (CELL, CELL, 3), at its lower edge, and return it."""
    words = label if len(label) <= TEXT * CELL // 100 else "..." + label[3 - TEXT * CELL // 100 :]
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, words, (4, CELL - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.36, color, width, cv2.LINE_AA)
    return canvas


def data_grid(cropped: CroppedFaces, rows: Sequence[int], columns: int = 4) -> np.ndarray:
    """Return a picture of faces, each twice: as annotated, and to its right as training sees it in the first epoch.

    Args:
        cropped: the training faces with their augmentation (or others, which are then the same twice).
        rows: places in the data set.
        columns: faces side by side; half of them where the set's faces are shown twice.
    """
    plain = CroppedFaces(cropped.faces, cropped.config.still())
    cells = []
    for row in rows:
        before = plain[row]
        cells += [draw_face(before, plain, before.id), draw_face(cropped[row], cropped, "augmented")]
    return grid(cells, columns)


def spread(count: int, wanted: int) -> list[int]:
    """Return places evenly over a data set, the first and the last included."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()
