"""Crop and decoding of the official implementation, for its weights.

It crops twice: photographs to frames of 450 x 450 (`dataset/convert_WFLW.py`), and these to 256 x 256. It grows the
frame where annotated landmarks would leave it, which a photograph without annotation cannot have, and stores the frame
as JPEG, which is left out here. Training uses the project's own single warp.

Points are (L, 2) x, y in pixels of the image they belong to, no half-pixel terms; images are (H, W, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from common.errors import LabError
from common.export.graph import GraphPart, Net
from common.geometry import apply_affine
from common.heatmaps import decode_quarter
from common.types import Prediction

UNIT = 200.0  # pixels of the window at scale 1
FRAME, CROP = 450, 256  # sides of the stored frame and of the network's input
DIVISOR = 250.0  # sum of the padded box's sides over the frame window's scale
NARROW = 1.8  # scale of the second crop: 360 pixels of the frame
PAD = 0.05  # of the box's sides, both ends together
STRIDE = 4  # crop pixels a map cell


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
        the exact side, so they can disagree by up to a pixel of the source, as in the official code.
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


def face_window(box: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the centre (2,) of a face's window and the sum of its padded box's sides.

    Args:
        box: (4,) x0, y0, x1, y1 of the annotation, image pixels.

    Raises:
        LabError: the box is empty.
    """
    left, top, right, bottom = (int(v) for v in box)
    pad_x, pad_y = int(PAD * (right - left) / 2), int(PAD * (bottom - top) / 2)
    left, top, right, bottom = max(left - pad_x, 0), max(top - pad_y, 0), right + pad_x, bottom + pad_y
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0:
        raise LabError(f"box {left} {top} {right} {bottom} is empty; it must be x0 y0 x1 y1 with x0 < x1 and y0 < y1")
    return np.array([right - width / 2, bottom - height / 2], np.float32), float(width + height)


def window_map(center: np.ndarray, scale: float, size: int) -> np.ndarray:
    """Return the map (2, 3) of points from a crop of `crop_window` back to its image."""
    side = UNIT * scale
    corner = [int(v - side // 2) for v in np.asarray(center)]
    return np.array([[side / size, 0, corner[0]], [0, side / size, corner[1]]], np.float64)


def official_crop(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input (256, 256, 3) for a face, and the map (2, 3) of its points to image pixels.

    Raises:
        LabError: the box is empty.
    """
    center, sides = face_window(box)
    nothing, middle = np.zeros((0, 2)), np.full(2, FRAME / 2)
    frame, _ = crop_window(image, nothing, center, sides / DIVISOR, FRAME)
    crop, _ = crop_window(frame, nothing, middle, NARROW, CROP)
    to_frame, to_image = window_map(middle, NARROW, CROP), window_map(center, sides / DIVISOR, FRAME)
    back = to_image[:, :2] @ to_frame
    back[:, 2] += to_image[:, 2]
    return crop, back


class StackMaps(nn.Module):
    """What official predictions need of a network: the landmarks' maps (B, T, L, 64, 64) of all stacks."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, crops: Tensor) -> tuple[Tensor]:
        """Return the maps of crops (B, 3, 256, 256) uint8."""
        return (torch.stack([maps[:, :-1].float() for maps in self.net(crops)], dim=1),)


def official_parts(net: nn.Module) -> dict[str, GraphPart]:
    """Return the network that `predict_official` runs."""
    crops = torch.zeros(2, 3, CROP, CROP, dtype=torch.uint8)
    return {"maps": GraphPart(StackMaps(net).eval(), {"image": crops}, ("maps",))}


@torch.inference_mode()
def predict_official(
    net: nn.Module, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
) -> Prediction:
    """Return points (N, L, 2) in image pixels, the peaks' heights (N, L), and each stack's points.

    Args:
        net: with official weights.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels; the weights were scored with the boxes of WFLW's lists.
        nets: what to run in place of `official_parts`.
    """
    crops = [official_crop(image, box) for box in np.asarray(boxes)]
    device = next(net.parameters()).device
    pixels = torch.from_numpy(np.stack([crop for crop, _ in crops])).permute(0, 3, 1, 2).to(device)
    back = torch.from_numpy(np.stack([matrix for _, matrix in crops])).to(device)
    maps = (nets["maps"] if nets else StackMaps(net))(pixels)[0].unbind(1)
    steps = [apply_affine(back, decode_quarter(each).double() * STRIDE) for each in maps]
    return Prediction(points=steps[-1], score=maps[-1].flatten(2).amax(-1), steps=steps)
