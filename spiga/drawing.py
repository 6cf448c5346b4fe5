"""Pictures of what this method knows besides points: head's axes, attention between landmarks, 3D mean face."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from common.pose import angles_to_matrix
from common.prediction.plotting import SHIFT, draw_landmarks, grid
from common.schemes import LandmarkScheme

# Ends of the axes in the model's frame (towards the viewer, the subject's left, up) and their colours, RGB.
AXES = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
COLORS = ((60, 120, 255), (255, 70, 70), (60, 230, 90))
AXIS_SHARE = 0.5  # length of an axis over the longer side of the points' box
VIEWS = (0.0, 45.0, 90.0)  # yaws from which the mean face is drawn
VIEW_SIDE, VIEW_SHARE, GROUND = 320, 0.8, 24  # pixels of a view, share that the face takes, gray behind it
WEAK, STRONG = np.array([40, 40, 90]), np.array([255, 235, 60])  # RGB of no and of the largest attention


def axis_ends(angles: np.ndarray, length: float) -> np.ndarray:
    """Return where the axes end (3, 2), seen from afar, relative to their origin, for yaw, pitch, roll in degrees."""
    rotation = angles_to_matrix(torch.as_tensor(angles, dtype=torch.float64)).numpy()
    return (AXES @ rotation.T)[:, :2] * length


def draw_pose_axes(image: np.ndarray, angles: np.ndarray, points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return a copy of an RGB image (H, W, 3) with the head's axes.

    Args:
        image: of any frame.
        angles: (3,) yaw, pitch, roll in degrees.
        points: (L, 2) in the image's pixels; their box gives the length of the axes.
        start: (2,) where the axes start, in its pixels.
    """
    canvas = np.ascontiguousarray(image).copy()
    ends = start + axis_ends(angles[:3], AXIS_SHARE * float(np.ptp(points[:, :2], axis=0).max()))
    if not (np.isfinite(ends).all() and np.isfinite(start).all()):
        return canvas
    width = max(1, round(min(image.shape[:2]) / 130))
    fixed = np.round(np.concatenate([start[None], ends]) * 2**SHIFT).astype(np.int32).tolist()
    for end, color in zip(fixed[1:], COLORS, strict=True):
        cv2.line(canvas, fixed[0], end, color, width, cv2.LINE_AA, SHIFT)
    return canvas


def draw_attention(image: np.ndarray, points: np.ndarray, weights: np.ndarray, query: int) -> np.ndarray:
    """Return a copy of an RGB image with lines from one landmark to those it attends to, brighter where more.

    Args:
        image: (H, W, 3) uint8.
        points: (L, 2) in its pixels.
        weights: (L,) attention of the query over all landmarks, summing to 1.
        query: landmark whose attention it is.
    """
    canvas = np.ascontiguousarray(image).copy()
    share = weights / max(float(weights.max()), 1e-12)
    fixed = np.round(points[:, :2] * 2**SHIFT).astype(np.int32).tolist()
    for index in np.argsort(share).tolist():  # the strongest last, on top
        color = (WEAK + share[index] * (STRONG - WEAK)).round().tolist()
        cv2.line(canvas, fixed[query], fixed[index], color, 1, cv2.LINE_AA, SHIFT)
        cv2.circle(canvas, fixed[index], int((1 + 2 * share[index]) * 2**SHIFT), color, -1, cv2.LINE_AA, SHIFT)
    return canvas


def draw_face_views(face: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return a picture of a 3D face from the front, from half the side and from the side.

    Args:
        face: (L, 3) in the model's frame of `common.pose`.
        scheme: of its points.
    """
    scale, cells = VIEW_SHARE * VIEW_SIDE / float(np.ptp(face, axis=0).max()), []
    for yaw in VIEWS:
        flat = (face @ angles_to_matrix(torch.tensor([yaw, 0.0, 0.0], dtype=torch.float64)).numpy().T)[:, :2]
        middle = (flat.min(axis=0) + flat.max(axis=0)) / 2
        ground = np.full((VIEW_SIDE, VIEW_SIDE, 3), GROUND, np.uint8)
        cells.append(draw_landmarks(ground, (flat - middle) * scale + VIEW_SIDE / 2, scheme))
    return grid(cells, len(cells))
