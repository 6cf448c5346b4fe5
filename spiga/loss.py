"""Losses of the three stages (sec. 3.4), with everything that is not annotated or lies outside the crop left out.

M is the number of stacks, K of steps. The later a stack, the more it counts: 2 ** (h - 1) for h = 1 ... M.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.heatmaps import soft_argmax
from common.losses import adaptive_wing
from spiga.backbone import StackMaps
from spiga.targets import Targets

UNIT = 64  # coordinates are compared in cells of a map of this side, whatever the network's


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values (B, L, ...) where mask (B, L) is 1; 0 where it is nowhere."""
    weight = mask.reshape(*mask.shape, *[1] * (values.ndim - mask.ndim)).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def read_points(maps: Tensor) -> Tensor:
    """Return points (B, L, 2) as shares of the side, from attended maps (B, L, M, M) by a spatial softmax."""
    return (soft_argmax(maps.float(), temperature=1.0) - 0.5) / maps.shape[-1]


def coordinate_loss(shares: Tensor, targets: Targets) -> Tensor:
    """Return the smooth L1 loss of points (B, L, 2), in 64ths of the side."""
    error = F.smooth_l1_loss(shares * UNIT, targets.shares * UNIT, reduction="none")
    return masked_mean(error, targets.mask)


def attention_loss(maps: StackMaps, targets: Targets) -> Tensor:
    """Return the Adaptive Wing loss of point maps plus that of edge maps."""
    assert targets.points is not None and targets.edges is not None and targets.edge_mask is not None
    points = masked_mean(adaptive_wing(maps.points, targets.points), targets.mask)
    return points + masked_mean(adaptive_wing(maps.edges, targets.edges), targets.edge_mask)


def landmark_loss(
    heads: list[StackMaps], targets: Targets, coordinate_weight: float, attention_weight: float
) -> dict[str, Tensor]:
    """Return the parts of L_lnd: "coordinate" and "attention", weighted and summed over the stacks with maps."""
    parts = {"coordinate": targets.shares.new_zeros(()), "attention": targets.shares.new_zeros(())}
    for h, maps in enumerate(heads):
        parts["coordinate"] = parts["coordinate"] + 2**h * coordinate_weight * coordinate_loss(
            read_points(maps.attended), targets
        )
        parts["attention"] = parts["attention"] + 2**h * attention_weight * attention_loss(maps, targets)
    return parts


def pose_loss(poses: list[Tensor], targets: Targets) -> Tensor:
    """Return the mean squared error of the poses (B, 6), degrees and model units side by side, over the stacks."""
    total = targets.pose.new_zeros(())
    for h, pose in enumerate(poses):
        total = total + 2**h * masked_mean((pose.float() - targets.pose).square(), targets.pose_known.float())
    return total


def cascade_loss(steps: list[Tensor], targets: Targets) -> Tensor:
    """Return the smooth L1 loss of the steps' points (B, L, 2), summed over the steps (L_CR)."""
    return torch.stack([coordinate_loss(points.float(), targets) for points in steps]).sum()
