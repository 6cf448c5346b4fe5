"""What the official AWing code does besides predicting: conversion of annotated data, crops that follow the truth.

Used by tests only, to compare `awing.original` and the mirror tables with golden data. Points are (L, 2) x, y in pixels
of the image they belong to, no half-pixel terms; images are (H, W, 3) uint8.
"""

from __future__ import annotations

import cv2
import numpy as np

from awing.original import CROP, FRAME, NARROW, UNIT, crop_window, face_window
from common.errors import LabError

WIDE = 2.25  # scale of the second crop: all of the frame
BORDER = 5  # pixels of the crop that must stay free of landmarks
SHIFT_BORDER, SHIFT_TRIES, SHIFT_GROWTH = 15, 5, 0.05  # of `shift_crop`


def convert_wflw(image: np.ndarray, points: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut a photograph to the 450 x 450 frame round a face, wide enough to hold its landmarks.

    Args:
        image: (H, W, 3) uint8.
        points: (98, 2) annotated landmarks.
        box: (4,) x0, y0, x1, y1 of the annotation.

    Returns:
        The frame, the points in it, and the divisor of the side (250, or less where the window had to grow).
    """
    center, sides = face_window(box)
    for divisor in range(250, 0, -10):
        frame, moved = crop_window(image, points, center, sides / divisor, FRAME)
        if moved.min() >= 10 and moved.max() <= FRAME - 10:
            return frame, moved, float(divisor)
    raise LabError(f"no window round box {np.asarray(box).tolist()} holds the landmarks; check box and points")


def crop_frame(frame: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut the 450 x 450 frame to the network's 256 x 256.

    Returns:
        The crop, the points in it, and the scale: 1.8, or 2.25 (all of the frame) where a landmark would come to lie
        within 5 pixels of the border.
    """
    center = (FRAME / 2, FRAME / 2)
    crop, moved = crop_window(frame, points, center, NARROW)
    if moved.min() >= BORDER and moved.max() <= CROP - 1 - BORDER:
        return crop, moved, NARROW
    crop, moved = crop_window(frame, points, center, WIDE)
    return crop, moved, WIDE


def shift_crop(
    frame: np.ndarray, points: np.ndarray, reach: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut the 450 x 450 frame to 256 x 256 about a centre that is moved at random (the released "centre shift").

    The window is drawn again, each time a little wider, while a landmark would come within 15 pixels of the border;
    when `SHIFT_TRIES` new draws do not help and one is within 5 pixels, all of the frame is taken, unmoved.

    Args:
        frame: (450, 450, 3) uint8.
        points: (L, 2) in it.
        reach: largest move of either coordinate in pixels of the frame.
        rng: draws the moves.

    Returns:
        The crop, the points in it, and the scale of the window.
    """
    padded = cv2.copyMakeBorder(frame, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    scale, middle = NARROW, FRAME / 2
    for attempt in range(SHIFT_TRIES + 1):
        center = np.array([middle + int(rng.uniform(-reach, reach)) for _ in range(2)])
        crop, moved = crop_window(padded, np.asarray(points, np.float64) + reach, center + reach, scale)
        if moved.min() >= SHIFT_BORDER and moved.max() <= CROP - 1 - SHIFT_BORDER:
            return crop, moved, scale
        if attempt < SHIFT_TRIES:
            scale += SHIFT_GROWTH
    if moved.min() >= BORDER and moved.max() <= CROP - 1 - BORDER:
        return crop, moved, scale
    crop, moved = crop_window(frame, points, (middle, middle), WIDE)
    return crop, moved, WIDE


def rotate_crop(image: np.ndarray, points: np.ndarray, degrees: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn (positive is counter-clockwise) and scale a square crop about its centre.

    Returns:
        Image and points; both as they came where a point would leave the crop, so large faces are turned less often.
    """
    size = image.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), degrees, scale)
    moved = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    if moved.min() < 0 or moved.max() > size - 1:
        return image, np.asarray(points, np.float64)
    turned = cv2.warpAffine(image, matrix, (image.shape[1], size), flags=cv2.INTER_LINEAR)
    return np.asarray(turned), moved


def cells_to_source(
    cells: np.ndarray, center: tuple[float, float] | np.ndarray, scale: float, map_size: int = 64
) -> np.ndarray:
    """Map decoded map cells (..., 2) back to the image that `crop_window` cut, exactly (the release truncates)."""
    return (np.asarray(cells, np.float64) / map_size - 0.5) * UNIT * scale + np.asarray(center, np.float64)
