"""Training targets (sec. 3.1 and 4.1): Gaussian point maps, boundary maps, and the head pose by POSIT.

Points are crop pixels as areas (a point at this project's pixel u lies at u + 0.5), so that p = points / S is a share
of the side and p * M a map cell whose centres are whole numbers. Symbols: B batch, E edges, L landmarks, M map side.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from common.pose import Camera, posit
from common.schemes import Indices, LandmarkScheme
from spiga.schemes import edge_curves, pose_points

POINT_SIGMA, EDGE_SIGMA = 1.5, 1.0  # cells
CUT = 3.0  # boundary maps end at so many sigmas
DEGREE = 3  # of the splines, or less where a curve has few points
NUDGE = 0.001  # cells by which the only point of a curve is doubled
LEAST_SAMPLES = 64
POSE_SIZE = 256  # rounded targets have their pose computed at this size


def point_maps(points: Tensor, size: int, sigma: float = POINT_SIGMA) -> Tensor:
    """Return Gaussians (B, L, M, M) of peak 1 round points (B, L, 2), in cells; not cut off."""
    cells = torch.arange(size, device=points.device, dtype=points.dtype)
    columns, rows = torch.exp((cells - points[..., None]).square() * (-0.5 / sigma**2)).unbind(-2)
    return rows[..., :, None] * columns[..., None, :]


def curve_cells(points: np.ndarray, size: int) -> np.ndarray:
    """Return the cells (N, 2), column and row, that the spline through a curve's points (K, 2) passes inside the map.

    The spline is sampled at u = 0, 1 / n, ..., (n - 1) / n, so that its end is not reached, as in the official targets.
    """
    keep = np.ones(len(points), bool)
    keep[1:] = (np.diff(points, axis=0) != 0).any(axis=1)  # a spline needs its neighbouring points to differ
    points = points[keep]
    if len(points) == 0:
        return np.zeros((0, 2), np.int64)
    if len(points) == 1:
        points = np.concatenate([points, points + NUDGE])
    count = max(size, LEAST_SAMPLES)
    from scipy.interpolate import splev, splprep  # here: prediction needs no scipy

    spline, _ = splprep(points.T, s=0, k=min(DEGREE, len(points) - 1))
    cells = np.round(np.stack(splev(np.arange(count) / count, spline), axis=1)).astype(np.int64)
    return cells[((cells >= 0) & (cells < size)).all(axis=1)]


def boundary_map(points: np.ndarray, size: int, sigma: float = EDGE_SIGMA) -> np.ndarray:
    """Return the map (M, M) float32 of one curve: a Gaussian of the distance to it; points (K, 2) in cells."""
    marked = np.full((size, size), 255, np.uint8)
    columns, rows = curve_cells(points, size).T
    if not len(columns):
        return np.zeros((size, size), np.float32)
    marked[rows, columns] = 0
    distance = cv2.distanceTransform(marked, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(distance < CUT * sigma, np.exp(-(distance**2) / (2 * sigma**2)), 0).astype(np.float32)


def boundary_maps(points: np.ndarray, weight: np.ndarray, curves: tuple[Indices, ...], size: int) -> np.ndarray:
    """Return maps (E, M, M) of points (L, 2) in cells; points of weight (L,) 0 are left out of their curves.

    A curve without points, or with a point that is not finite, gives zeros.
    """
    known = (weight > 0) & np.isfinite(points).all(axis=1)
    return np.stack([boundary_map(points[[i for i in curve if known[i]]], size) for curve in curves])


@dataclass
class Targets:
    """What a batch is trained towards.

    Attributes:
        shares: (B, L, 2) points as shares of the side, exact or rounded.
        mask: (B, L), 1 where the point is annotated and inside the crop.
        points: (B, L, M, M).
        edges: (B, E, M, M).
        edge_mask: (B, E), 0 where a curve has no point.
        pose: (B, 6) and pose_known (B,).
    """

    shares: Tensor
    mask: Tensor
    points: Tensor | None
    edges: Tensor | None
    edge_mask: Tensor | None
    pose: Tensor
    pose_known: Tensor


class TargetMaker:
    """Makes the targets of a batch.

    Args:
        scheme: of the points.
        size: side of the crop in pixels.
        map_size: side of the maps in cells.
        rounded: round the targets as the official loader does, to whole cells and, for the pose, to whole pixels of a
            crop of 256; else they are exact.
    """

    def __init__(self, scheme: LandmarkScheme, size: int, map_size: int, rounded: bool) -> None:
        self.curves, self.size, self.map_size, self.rounded = edge_curves(scheme), size, map_size, rounded
        self.pose_points = torch.zeros(scheme.num_points)
        self.pose_points[list(pose_points(scheme))] = 1

    def mask(self, shares: Tensor, weight: Tensor) -> Tensor:
        """Return 1 (B, L) where a point of non-zero weight lies inside the crop; rounded first if asked for."""
        pixels = shares * self.size
        inside = pixels.round() if self.rounded else pixels
        return ((inside >= 0) & (inside < self.size)).all(-1).to(weight.dtype) * (weight > 0)

    def pose(self, shares: Tensor, mask: Tensor, model: Tensor) -> tuple[Tensor, Tensor]:
        """Return poses (B, 6) float32 and which are known (B,) of points (B, L, 2) and a model (L, 3)."""
        pixels = shares.double() * POSE_SIZE
        used = mask * self.pose_points.to(mask.device)
        pose, known = posit(pixels.round() if self.rounded else pixels, model.double(), used, Camera.of_size(POSE_SIZE))
        known = known & torch.isfinite(pose).all(1) & (pose[:, 5] > 0)
        return torch.where(known[:, None], pose, 0.0).float(), known

    def __call__(self, points: Tensor, weight: Tensor, model: Tensor, maps: bool = True) -> Targets:
        """Return the targets of points (B, L, 2) in crop pixels as areas and weights (B, L); `maps` draws maps."""
        shares = torch.where(weight[..., None] > 0, points / self.size, 0.0)
        mask = self.mask(shares, weight)
        pose, known = self.pose(shares, mask, model)
        exact, size = shares * self.map_size, self.map_size
        whole = exact.round() if self.rounded else exact
        if self.rounded:  # as the official code does: beyond the map on either axis means its last cell on both
            whole = torch.where((whole >= size).any(-1, keepdim=True), size - 1.0, whole)
        if self.rounded:
            shares = torch.where(mask[..., None] > 0, whole / size, 0.0)
        if not maps:
            return Targets(shares, mask, None, None, None, pose, known)
        cells, weights = exact.cpu().double().numpy(), weight.cpu().numpy()
        drawn = np.stack([boundary_maps(p, w, self.curves, size) for p, w in zip(cells, weights, strict=True)])
        present = torch.stack([weight[:, list(curve)].amax(1) for curve in self.curves], 1) > 0
        edges = torch.from_numpy(drawn).to(points.device)
        return Targets(shares, mask, point_maps(whole, size), edges, present.to(weight.dtype), pose, known)
