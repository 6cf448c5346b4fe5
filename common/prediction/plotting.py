"""Pictures: landmarks on faces, grids of them, cumulative error curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from common.schemes import LandmarkScheme

PREDICTED, TRUE, BOX = (255, 80, 40), (60, 230, 90), (215, 215, 215)  # RGB
DOT_SHARE = 0.009  # radius of a dot over the longer side of the face's points
SHIFT = 3  # OpenCV draws at 1/8 pixel
CAPITAL = 22.0  # height in pixels of a digit of OpenCV's plain font at scale 1
LABEL_SHARE, SMALLEST_LABEL = 0.09, 9.0  # height of a label over the box's longer side, and its least in pixels


def draw_landmarks(
    image: np.ndarray,
    points: np.ndarray,
    scheme: LandmarkScheme,
    color: tuple[int, int, int] = PREDICTED,
    copy: bool = True,
) -> np.ndarray:
    """Return a copy of the RGB image (H, W, 3) with the scheme's edges and the points (L, 2), image pixels.

    Without `copy`, they are drawn into the image itself, which must be contiguous.
    """
    canvas = np.array(image, order="C") if copy else image
    size = stroke(points)
    width = max(1, round(size / 2))
    fixed = np.round(points[:, :2] * 2**SHIFT).astype(np.int32)
    for first, second in scheme.edges:
        cv2.line(canvas, fixed[first].tolist(), fixed[second].tolist(), color, width, cv2.LINE_AA, SHIFT)
    radius = round(size * 2**SHIFT)
    for x, y in fixed.tolist():
        cv2.circle(canvas, (x, y), radius, color, -1, cv2.LINE_AA, SHIFT)
    return canvas


def draw_box(image: np.ndarray, box: np.ndarray, roll: float = 0.0, label: str = "", copy: bool = True) -> np.ndarray:
    """Return a copy of the RGB image (H, W, 3) with a thin box and, in its upper left corner, a label.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) x0 y0 x1 y1, image pixels, before the turn.
        roll: degrees clockwise by which the box is turned about its centre.
        label: a few characters.
        copy: False draws into the image itself, which must be contiguous.
    """
    canvas = np.array(image, order="C") if copy else image
    x0, y0, x1, y1 = box.tolist()
    side = max(x1 - x0, y1 - y0)
    corners = cv2.boxPoints((((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0, y1 - y0), roll))
    fixed = np.round(corners * 2**SHIFT).astype(np.int32)
    cv2.polylines(canvas, [fixed], True, BOX, max(1, round(side * DOT_SHARE / 2)), cv2.LINE_AA, SHIFT)
    if label:
        size = max(side * LABEL_SHARE, SMALLEST_LABEL)
        left, top = np.maximum(corners.min(axis=0), 0) + size / 3  # a box may begin outside the picture
        at, width = (round(float(left)), round(float(top + size))), max(1, round(size / 9))
        for color, extra in (((0, 0, 0), 2), (BOX, 0)):  # a dark rim, to be read on any picture
            cv2.putText(canvas, label, at, cv2.FONT_HERSHEY_SIMPLEX, size / CAPITAL, color, width + extra, cv2.LINE_AA)
    return canvas


def stroke(points: np.ndarray) -> float:
    """Return the radius in pixels of the dots of a face with points (L, 2): about 1 % of its size, at least 1."""
    return max(1.0, float(np.ptp(points[:, :2], axis=0).max()) * DOT_SHARE)


def grid(images: list[np.ndarray], columns: int) -> np.ndarray:
    """Return equal RGB images side by side, filled up with black."""
    rows = -(-len(images) // columns)
    blank = np.zeros_like(images[0])
    cells = images + [blank] * (rows * columns - len(images))
    return np.concatenate([np.concatenate(cells[r * columns : (r + 1) * columns], axis=1) for r in range(rows)])


def write_ced(path: Path, errors: Mapping[str, np.ndarray], threshold: float) -> None:
    """Write the cumulative error distribution of several methods as a picture.

    Args:
        path: picture to write.
        errors: name -> (N,) NME of each face in percent.
        threshold: right end of the axis in percent.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, values in errors.items():
        steps = np.sort(values)
        share = np.arange(1, len(steps) + 1) / len(steps)
        axes.step(np.r_[0, steps], np.r_[0, share], where="post", label=f"{name} ({values.mean():.2f} %)")
    axes.set(xlim=(0, threshold), ylim=(0, 1), xlabel="NME, percent", ylabel="share of faces")
    axes.grid(alpha=0.3)
    # Beside the axes: many rows would cover the curves.
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
