"""Crop and decoding of the official implementation, for its weights and published figures.

Images are (H, W, 3) uint8; boxes are (4,) x, y, width, height; points are (L, 2). Warps take the nearest source pixel:
output pixel (column i, row j) shows source pixel floor(inverse(i + 0.5, j + 0.5)), and black outside. Training uses the
project's own crop (one warp), whose options bring these quirks back one by one; see docs/studies/spiga.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import LabError
from common.export.graph import GraphPart, Net
from common.geometry import disagreement
from common.types import Prediction
from spiga.network import SpigaNet

SIZE, TARGET_DIST = 256, 1.6


@dataclass
class Face:
    """An image with its annotation, all in one frame."""

    image: np.ndarray
    points: np.ndarray
    box: np.ndarray


def warp_nearest(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the image (rows, columns as in `size`) after the map source -> output (2, 3) is applied, nearest pixel."""
    rows, columns = size
    linear = np.linalg.inv(matrix[:, :2])
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    source = (np.stack([x, y], -1) - matrix[:, 2]) @ linear.T
    column, row = np.floor(source).astype(np.int64).transpose(2, 0, 1)
    inside = (column >= 0) & (column < image.shape[1]) & (row >= 0) & (row < image.shape[0])
    found = image[np.where(inside, row, 0), np.where(inside, column, 0)]
    return np.where(inside[..., None], found, 0).astype(image.dtype)


def crop_map(box: np.ndarray, size: int = SIZE, target_dist: float = TARGET_DIST) -> np.ndarray:
    """Return the map image -> crop (2, 3) of a box: a square of `target_dist` times its longer side.

    Raises:
        LabError: the box has no area.
    """
    x, y, width, height = np.asarray(box, np.float64).tolist()
    side = max(width, height) * target_dist
    if not side > 0:
        raise LabError(f"box {[x, y, width, height]} (x, y, width, height) has no area")
    factor = size / side
    left, top = x + (width - side) / 2, y + (height - side) / 2
    return np.array([[factor, 0, -left * factor], [0, factor, -top * factor]])


def move_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (L, 2) after applying the map (2, 3)."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def crop_face(face: Face, size: int = SIZE, target_dist: float = TARGET_DIST) -> Face:
    """Return the crop with points and box in its pixels (not rounded)."""
    matrix = crop_map(face.box, size, target_dist)
    corner = move_points(matrix, face.box[None, :2])[0]
    box = np.concatenate([corner, np.asarray(face.box[2:], np.float64) * matrix[0, 0]])
    return Face(warp_nearest(face.image, matrix, (size, size)), move_points(matrix, face.points), box)


def round_points(points: np.ndarray, map_size: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return the training targets of crop points (L, 2), and the mask (L,).

    Args:
        points: exact, pixels of the crop.
        map_size: side that the targets are wanted for; `size` for the pose.
        size: side of the crop.

    Returns:
        Whole coordinates; points whose rounded place lies outside the crop have mask 0 and lie at (0, 0); a point
        that is inside but rounds beyond the map has both coordinates in its last cell, as the official code does.
    """
    whole: np.ndarray = np.round(points)
    mask = np.asarray(((whole >= 0) & (whole < size)).all(axis=1))
    if map_size != size:
        whole = np.round(points * (map_size / size))
        whole[(whole >= map_size).any(axis=1)] = map_size - 1
    return np.where(mask[:, None], whole, 0.0), mask


class Steps(nn.Module):
    """What official predictions need of a network: each step's points (B, T, L, 2) and the last pose (B, 6)."""

    def __init__(self, net: SpigaNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return them for crops (B, 3, 256, 256) uint8."""
        found = self.net.predict(self.net.prepare(crops))
        return torch.stack(found.steps, dim=1), found.poses[-1]


def official_parts(net: SpigaNet) -> dict[str, GraphPart]:
    """Return the network that `predict_official` runs."""
    crops = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    return {"steps": GraphPart(Steps(net).eval(), {"image": crops}, ("steps", "pose"))}


@torch.inference_mode()
def predict_official(
    net: SpigaNet, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
) -> Prediction:
    """Return points (N, L, 2) in image pixels, yaw, pitch, roll (N, 3) in degrees, and each step's points.

    Args:
        net: a network for crops of 256 pixels.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels; the official weights were trained and scored with tight boxes of the
            landmarks.
        nets: what to run in place of `official_parts`.
    """
    nothing = np.zeros((1, 2))
    given = [np.array([x0, y0, x1 - x0, y1 - y0], np.float64) for x0, y0, x1, y1 in np.asarray(boxes).tolist()]
    crops = [crop_face(Face(image, nothing, box)) for box in given]
    device = net.mean_face.device
    pixels = torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2).to(device)
    found, pose = (nets["steps"] if nets else Steps(net))(pixels)
    corner = torch.from_numpy(np.stack([crop.box[:2] for crop in crops])).to(device)[:, None]
    factor = torch.tensor([box[2] / crop.box[2] for box, crop in zip(given, crops, strict=True)], device=device)
    start = torch.from_numpy(np.stack([box[:2] for box in given])).to(device)[:, None]
    steps = [(SIZE * step.double() - corner) * factor[:, None, None] + start for step in found.unbind(1)]
    score = -disagreement(steps[-2], steps[-1])
    return Prediction(points=steps[-1], score=score, pose=pose[:, :3], steps=steps, translation=pose[:, 3:])
