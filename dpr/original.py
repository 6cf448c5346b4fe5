"""Crops of the official implementation, for its weights.

It cuts with OpenCV's `warpAffine` and keeps every crop as whole grey levels (`demo_GSR.py`, `demo_GLSR.py`); all else
of its way from a photograph to points is the network's own. Training and evaluation here sample with PyTorch, so that
gradients reach the maps.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from common.export.graph import Net
from common.types import Prediction
from dpr.network import DPRNet
from dpr.photograph import find


def official_sample(image: Tensor, matrix: Tensor, size: int, rounded: bool = True) -> Tensor:
    """Return crops (B, C, S, S) of whole grey levels as `dpr.transform.sample` does, by OpenCV's warp.

    Args:
        image: (B, C, H, W), values 0 to 255; outside of it is 0 (black).
        matrix: (B, 2, 3) from image to crop pixels.
        size: S.
        rounded: as in `sample`; these crops always are.
    """
    crops = [
        cv2.warpAffine(
            (picture if picture.dtype == torch.uint8 else picture.round().byte()).permute(1, 2, 0).cpu().numpy(),
            each.double().cpu().numpy(),
            (size, size),
            flags=cv2.INTER_LINEAR,
        )
        for picture, each in zip(image, matrix, strict=True)
    ]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(image.device).float()


@torch.inference_mode()
def predict_official(
    net: DPRNet, image: np.ndarray, boxes: np.ndarray, nets: Mapping[str, Net] | None = None
) -> Prediction:
    """Return points (N, L, 2) in image pixels: GLSR's where there is a local stage, else GSR's; GSR's come first.

    Args:
        net: with official weights.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels, as the `.rct` files beside the official samples.
        nets: what to run in place of `photograph_parts`.
    """
    box = torch.from_numpy(np.asarray(boxes, np.float64)).to(net.mean_face.device)
    found = find(net, image, box, nets=nets, sampler=official_sample)
    steps = [found.global_points, found.points] if found.part_offsets else [found.points]
    return Prediction(points=steps[-1], steps=steps)
