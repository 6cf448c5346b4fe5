"""Prediction of photographs behind the released crop, which the released weights were trained on."""

from __future__ import annotations

import numpy as np
import torch

from common.types import Prediction
from spiga.network import SpigaNet
from spiga.original import SIZE, Face, crop_face


@torch.inference_mode()
def predict_release(net: SpigaNet, image: np.ndarray, boxes: np.ndarray) -> Prediction:
    """Return points (N, L, 2) in image pixels, and yaw, pitch, roll (N, 3) in degrees.

    Args:
        net: a network for crops of 256 pixels.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels; the release was trained and scored with tight boxes of the landmarks.
    """
    nothing = np.zeros((1, 2))
    given = [np.array([x0, y0, x1 - x0, y1 - y0], np.float64) for x0, y0, x1, y1 in np.asarray(boxes).tolist()]
    crops = [crop_face(Face(image, nothing, box)) for box in given]
    device = net.mean_face.device
    pixels = torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2).to(device)
    found = net.answer(net.prepare(pixels))
    corner = torch.from_numpy(np.stack([crop.box[:2] for crop in crops])).to(device)[:, None]
    factor = torch.tensor([box[2] / crop.box[2] for box, crop in zip(given, crops, strict=True)], device=device)
    start = torch.from_numpy(np.stack([box[:2] for box in given])).to(device)[:, None]
    steps = [(SIZE * step.double() - corner) * factor[:, None, None] + start for step in found.steps]
    return Prediction(points=steps[-1], pose=found.poses[-1][:, :3], steps=steps)
