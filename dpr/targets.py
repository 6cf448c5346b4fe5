"""What the reinitialisation networks and the regressors are taught, from true landmarks alone.

Shapes: B batch (any leading axes), L landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.geometry import compose_affine, fit_similarity, tight_box
from common.schemes import Indices
from dpr.stages.reinit import SIZE
from dpr.transform import invert, map_theta, move_points

# Bounding box of the official mean face in its unit square, x0 y0 x1 y1; the means of other schemes are laid into it.
MEAN_BOX = (0.0608, 0.1161, 0.9384, 0.9853)
ROUNDS = 3  # of averaging; the mean turns by less than 0.01 degrees in a fourth


def normalising_map(points: Tensor, mean: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the maps (..., 2, 3) that bring faces into the normalised state, the unit square of the mean face.

    They turn by the Procrustes angle, then lay the bounding box on the mean face's, each axis on its own: of the forms
    tried, the one closest to the official network.

    Args:
        points: (..., L, 2) true landmarks, any frame.
        mean: (L, 2) mean face, unit square.
        weight: (..., L), 0 for landmarks without annotation.
    """
    mean = mean.to(points.dtype).expand_as(points)
    similar = fit_similarity(points, mean, weight)
    scale = similar[..., :2, 0].norm(dim=-1).clamp(min=1e-12)
    turn = similar[..., :2] / scale[..., None, None]
    upright = torch.cat([turn, torch.zeros_like(turn[..., :1])], dim=-1)
    use = None if weight is None else weight > 0
    low, high = tight_box(move_points(upright, points), use).split(2, -1)
    mean_low, mean_high = tight_box(mean, use).split(2, -1)
    ratio = (mean_high - mean_low) / (high - low).clamp(min=1e-9)
    return torch.cat([turn * ratio[..., None], (mean_low - low * ratio)[..., None]], dim=-1)


def reinit_target(points: Tensor, box_map: Tensor, mean: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return what the global reinitialisation should return (B, 2, 3), translation in units of the crop's side.

    Args:
        points: (B, L, 2) true landmarks, image pixels.
        box_map: (B, 2, 3) from image to the reinitialisation crop.
        mean: (L, 2) mean face, unit square.
        weight: (..., L), 0 for landmarks without annotation.
    """
    wanted = normalising_map(points.to(box_map.dtype), mean, weight) * SIZE
    return map_theta(compose_affine(wanted, invert(box_map)), SIZE)


LEAST_POINTS = 2  # of a part that give its similarity


def part_target(
    face_points: Tensor, parts: Sequence[Indices], means: Sequence[Tensor], size: int, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what the local reinitialisation should return (B, G, 2, 3): similarities, as the official weights show.

    And which parts have a target (B, G) bool: those of which LEAST_POINTS are annotated.

    Args:
        face_points: (B, L, 2) true landmarks, face pixels.
        parts: G groups of landmarks.
        means: their mean parts (n, 2), unit square.
        size: side of the part crops in pixels.
        weight: (B, L), 0 for landmarks without annotation, which count for nothing; None where all have it.
    """
    maps, known = [], []
    for part, mean in zip(parts, means, strict=True):
        source = face_points[:, list(part)]
        own = torch.ones_like(source[..., 0]) if weight is None else weight[:, list(part)].to(source.dtype)
        maps.append(fit_similarity(source, (mean.to(source.dtype) * size).expand_as(source), own))
        known.append((own > 0).sum(1) >= min(LEAST_POINTS, len(part)))
    return map_theta(torch.stack(maps, dim=1), size), torch.stack(known, dim=1)


def offset_target(points: Tensor, mean: Tensor, size: int) -> Tensor:
    """Return the offsets (..., L, 2) in half sides that give landmarks (..., L, 2), pixels of a crop of `size`."""
    return 2 * (points / size - mean)


def average_face(shapes: np.ndarray, start: np.ndarray, mirror: Indices) -> np.ndarray:
    """Return the mean face (L, 2) of shapes (N, L, 2), unit square, its bounding box on MEAN_BOX, left as right.

    Args:
        shapes: true landmarks, any frames.
        start: (L, 2) a face that says what upright is, any frame.
        mirror: the scheme's mirror index.
    """
    points = torch.from_numpy(np.array(shapes, np.float64))
    mean = _into_mean_box(torch.from_numpy(np.array(start, np.float64)))
    for _ in range(ROUNDS):
        mean = _into_mean_box(move_points(normalising_map(points, mean), points).mean(0))
    middle = MEAN_BOX[0] + MEAN_BOX[2]
    mirrored = mean[list(mirror)] * torch.tensor([-1.0, 1.0]) + torch.tensor([middle, 0.0])
    return _into_mean_box((mean + mirrored) / 2).numpy()


def _into_mean_box(face: Tensor) -> Tensor:
    low, high = face.amin(0), face.amax(0)
    box = torch.tensor(MEAN_BOX, dtype=face.dtype)
    return box[:2] + (face - low) / (high - low) * (box[2:] - box[:2])
