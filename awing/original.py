"""Crops of the released pipeline, for parity with its published figures and weights.

The released code crops twice: WFLW photographs to 450 x 450, written as JPEG, and these to 256 x 256. Both steps look
at the ground truth, at test time too: the window grows until the landmarks fit. Training here uses the laboratory's
own single warp; these functions are for converting data and comparing figures.

Points are (L, 2) x, y in pixels of the image they belong to, no half-pixel terms; images are (H, W, 3) uint8.
"""

from __future__ import annotations

import cv2
import numpy as np

from common.errors import LabError

UNIT = 200.0  # pixels of the window at scale 1
FRAME, CROP = 450, 256  # sides of the stored frame and of the network's input
NARROW, WIDE = 1.8, 2.25  # scales of the second crop: 360 pixels of the frame, or all of it
BORDER = 5  # pixels of the crop that must stay free of landmarks
SHIFT_BORDER, SHIFT_TRIES, SHIFT_GROWTH = 15, 5, 0.05  # of `shift_crop`


def crop_window(
    image: np.ndarray, points: np.ndarray, center: tuple[float, float] | np.ndarray, scale: float, size: int = CROP
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square window, padded with zeros where it leaves the image, and resize it bilinearly.

    Args:
        image: (H, W, 3) uint8.
        points: (L, 2).
        center: x, y of the window's centre.
        scale: side of the window over 200 pixels.
        size: side of the result.

    Returns:
        (size, size, 3) uint8 and the points in its pixels. The cut has whole pixels while the points are scaled with
        the exact side, so they can disagree by up to a pixel of the source, as in the released code.
    """
    side = UNIT * scale
    half = side // 2
    if half < 1:
        raise LabError(f"a crop window of {side:g} pixels is empty; check the box")
    cx, cy = center
    left, right, top, bottom = int(cx - half), int(cx + half), int(cy - half), int(cy + half)
    # The padding is symmetric, so the larger overhang of the two sides counts.
    pad_x = max(-left, right - image.shape[1], 0)
    pad_y = max(-top, bottom - image.shape[0], 0)
    padded = cv2.copyMakeBorder(image, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    left, right, top, bottom = left + pad_x, right + pad_x, top + pad_y, bottom + pad_y
    crop = cv2.resize(padded[top:bottom, left:right], (size, size), interpolation=cv2.INTER_LINEAR)
    moved = (np.asarray(points, np.float64) + [pad_x - left, pad_y - top]) * size / side
    return np.asarray(crop), moved


def convert_wflw(image: np.ndarray, points: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut a photograph to the 450 x 450 frame round a face, wide enough to hold its landmarks.

    Args:
        image: (H, W, 3) uint8.
        points: (98, 2) annotated landmarks.
        box: (4,) x0, y0, x1, y1 of the annotation.

    Returns:
        The frame, the points in it, and the divisor of the side (250, or less where the window had to grow).
    """
    left, top, right, bottom = (int(v) for v in box)
    pad_x, pad_y = int(0.05 * (right - left) / 2), int(0.05 * (bottom - top) / 2)
    left, top, right, bottom = max(left - pad_x, 0), max(top - pad_y, 0), right + pad_x, bottom + pad_y
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0:
        raise LabError(f"box {left} {top} {right} {bottom} is empty; it must be x0 y0 x1 y1 with x0 < x1 and y0 < y1")
    center = np.array([right - width / 2, bottom - height / 2], np.float32)
    for divisor in range(250, 0, -10):
        frame, moved = crop_window(image, points, center, (width + height) / divisor, FRAME)
        if moved.min() >= 10 and moved.max() <= FRAME - 10:
            return frame, moved, float(divisor)
    raise LabError(f"no window round box {left} {top} {right} {bottom} holds the landmarks; check box and points")


def crop_frame(frame: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut the 450 x 450 frame to the network's 256 x 256.

    Returns:
        The crop, the points in it, and the scale: 1.8, or 2.25 (all of the frame) where a landmark would come to lie
        within 5 pixels of the border.
    """
    center = (FRAME / 2, FRAME / 2)
    crop, moved = crop_window(frame, points, center, NARROW)
    if moved.min() >= BORDER and moved.max() <= 255 - BORDER:
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
        if moved.min() >= SHIFT_BORDER and moved.max() <= 255 - SHIFT_BORDER:
            return crop, moved, scale
        if attempt < SHIFT_TRIES:
            scale += SHIFT_GROWTH
    if moved.min() >= BORDER and moved.max() <= 255 - BORDER:
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
