"""Targets and losses. Maps are (B, L, H, W); every loss is a plain mean."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.heatmaps import render_gaussians

LossKind = Literal["l2", "ce", "bce"]
PEAK = 20.0  # height of the official Gaussians
RADIUS = 3  # half side of their patch, in standard deviations


def gaussian_targets(cells: Tensor, size: int, sigma: float = 1.0, peak: float = PEAK, quantise: bool = True) -> Tensor:
    """Return Gaussian targets (B, L, size, size), each cut to a patch of 6 sigma + 1 cells.

    Args:
        cells: (B, L, 2) x, y in map cells; the cell is the floor of it.
        size: side of the map.
        sigma: standard deviation in cells; 0 gives a single 1 in the point's cell.
        peak: height.
        quantise: centre on the cell's middle, as the official code does; False centres on the point itself.
    """
    if sigma == 0:
        return render_gaussians(cells, size, 1.0, 0, quantise=True)
    return render_gaussians(cells, size, sigma, round(RADIUS * sigma), quantise=quantise) * peak


def l2_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference."""
    return (maps - target).square().mean()


def spatial_cross_entropy(maps: Tensor, target: Tensor) -> Tensor:
    """Return the mean of -target * log softmax(maps) over each map's cells, the official code's earlier loss."""
    return -(target * maps.flatten(2).log_softmax(-1).view_as(maps)).mean()


def sigmoid_cross_entropy(maps: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy per cell, the paper's loss; targets lie in [0, 1]."""
    return F.binary_cross_entropy_with_logits(maps, target)


def heatmap_loss(kind: LossKind, maps: Tensor, target: Tensor) -> Tensor:
    """Return a loss by its name; targets have the height PEAK (l2, ce) or 1 (bce)."""
    match kind:
        case "l2":
            return l2_loss(maps, target)
        case "ce":
            return spatial_cross_entropy(maps, target)
        case "bce":
            return sigmoid_cross_entropy(maps, target)


def coherent_loss(first: Tensor, second: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the mean squared difference of two predictions of the same faces in the same frame (6.2).

    Args:
        first: (B, L, H, W), already carried to the frame of `second`.
        second: (B, L, H, W).
        inside: (B, 1, H, W) or (B, L, H, W), 1 where both pictures show something; None for everywhere.
    """
    if inside is None:
        return (first - second).square().mean()
    inside = inside.to(first.dtype).expand_as(first)
    return ((first - second).square() * inside).sum() / inside.sum().clamp(min=1.0)


def centred(points: Tensor) -> Tensor:
    """Return depths (B, L) relative to each face's mean depth."""
    return points - points.mean(-1, keepdim=True)


def depth_loss(pred: Tensor, true: Tensor, norm: float) -> Tensor:
    """Return the mean absolute error of centred depths (B, L), in shares of `norm` crop pixels."""
    return (centred(pred) - centred(true)).abs().mean() / norm


def read_depth(maps: Tensor, heatmaps: Tensor, power: float = 1.0) -> Tensor:
    """Return the depth (B, L) that depth maps show under the peaks of heatmaps.

    Args:
        maps: (B, L, H, W) depth maps.
        heatmaps: (B, L, H, W), positive at the landmarks; no gradient flows into them.
        power: larger looks at the peak alone.
    """
    mass = heatmaps.detach().clamp(min=0)
    height = mass.amax((-2, -1), keepdim=True).clamp(min=1e-6)
    mass = torch.where(mass >= 0.2 * height, mass, 0.0) ** power
    total = mass.sum((-2, -1))
    return (maps * mass).sum((-2, -1)) / total.clamp(min=1e-6)
