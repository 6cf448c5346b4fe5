"""Head pose: Euler angles, perspective projection and POSIT, batched and on the tensors' own device.

Frames. A *rigid model* (L, 3) has its first axis along the depth (minus the distance from the viewer, so that the tip
of the nose is the largest), its second to the image's left (the subject's right) and its third downwards. A *camera*
looks along +z with x to the right and y down. A *pose* is six numbers: yaw, pitch, roll in degrees and a translation
in units of the model. At yaw = pitch = roll = 0 a model point (a, b, c) lies at (-b, c, -a) plus the translation, so
that a face looks straight into the camera. Positive angles turn the nose to the image's right (yaw), raise it (pitch)
and turn the head clockwise as seen on the screen (roll).

Symbols: B batch, L points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FOCAL_RATIO = 1.5  # focal length over the side of the picture
QUARTER = 90.0  # degrees between the model's frame and the camera's
GIMBAL = 1e-12  # |sin(pitch)| nearer to 1 than this leaves yaw and roll undetermined


@dataclass(frozen=True)
class Camera:
    """A camera without distortion.

    Attributes:
        focal: focal length in pixels, the same for both axes.
        center: x, y of the optical axis in pixels.
    """

    focal: float
    center: tuple[float, float]

    @classmethod
    def of_size(cls, size: float, ratio: float = FOCAL_RATIO) -> Camera:
        """Return the camera of a square picture; `size` 1 gives coordinates as shares of the side."""
        return cls(ratio * size, (size / 2, size / 2))


def _planar(cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    """Return rotations (..., 3, 3) from a layout of nine letters: c, s, n (minus s), 0, 1."""
    letters = {"c": cos, "s": sin, "n": -sin, "0": torch.zeros_like(cos), "1": torch.ones_like(cos)}
    return torch.stack([letters[letter] for letter in layout], dim=-1).unflatten(-1, (3, 3))


def angles_to_matrix(angles: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) from the model's frame to the camera's.

    Args:
        angles: (..., 3) yaw, pitch, roll in degrees; not changed.
    """
    yaw, pitch, roll = (angles * (torch.pi / 180)).unbind(-1)  # ONNX has no deg2rad
    quarter = torch.pi / 2
    # First about x, then z, then y. The quarter turns bring the model's axes onto the camera's.
    turn, nod, tilt = -(yaw - quarter), -pitch, -(roll + quarter)
    return (
        _planar(turn.cos(), turn.sin(), "c0s010n0c")
        @ _planar(nod.cos(), nod.sin(), "cn0sc0001")
        @ _planar(tilt.cos(), tilt.sin(), "1000cn0sc")
    )


def matrix_to_angles(matrix: Tensor) -> Tensor:
    """Return yaw, pitch, roll (..., 3) in degrees, each in [-180, 180], of rotations (..., 3, 3).

    Where the head looks straight up or down, yaw and roll turn about one axis; then roll is set to -90.
    """
    sine = matrix[..., 1, 0].clamp(-1, 1)
    locked = sine.abs() > 1 - GIMBAL
    turn = torch.atan2(-matrix[..., 2, 0], matrix[..., 0, 0])
    turn = torch.where(locked, torch.atan2(matrix[..., 0, 2], matrix[..., 2, 2]), turn)
    tilt = torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1])
    tilt = torch.where(locked, torch.zeros_like(tilt), tilt)
    turn, nod, tilt = (torch.rad2deg(angle) for angle in (turn, torch.asin(sine), tilt))
    angles = torch.stack([QUARTER - turn, -nod, -tilt - QUARTER], dim=-1)
    return torch.where(angles > 180, angles - 360, torch.where(angles < -180, angles + 360, angles))


def project(points: Tensor, pose: Tensor, camera: Camera, min_depth: float | None = None) -> Tensor:
    """Project a rigid model by a pinhole camera.

    Args:
        points: (L, 3) or (B, L, 3), model frame.
        pose: (B, 6) yaw, pitch, roll in degrees, translation in units of the model.
        camera: gives the frame of the result.
        min_depth: depths below it are raised to it, so that a point beside or behind the camera stays finite; None
            for no guard.

    Returns:
        (B, L, 2) x, y in the camera's pixels.
    """
    placed = points @ angles_to_matrix(pose[..., :3]).transpose(-1, -2) + pose[..., None, 3:]
    depth = placed[..., 2:] if min_depth is None else placed[..., 2:].clamp(min=min_depth)
    center = torch.tensor(camera.center, dtype=points.dtype, device=points.device)
    return placed[..., :2] / depth * camera.focal + center


def nearest_rotation(matrix: Tensor) -> Tensor:
    """Return the orthogonal matrices (..., 3, 3) that are nearest to the given ones."""
    u, _, vh = torch.linalg.svd(matrix)
    return u @ vh


def posit(
    points: Tensor,
    model: Tensor,
    mask: Tensor,
    camera: Camera,
    iterations: int = 100,
    tolerance: float = 0.01,
    min_points: int = 4,
) -> tuple[Tensor, Tensor]:
    """Find the pose of a rigid model from its picture (POSIT: DeMenthon and Davis, 1995).

    Args:
        points: (B, L, 2) picture of the points, the camera's pixels.
        model: (L, 3) the points in the model's frame.
        mask: (B, L), above 0 where a point counts.
        camera: that took the picture.
        iterations: at most.
        tolerance: a face is done when one pass moves its scaled picture by less than this (squared pixels, summed).
        min_points: a face with fewer points has no pose.

    Returns:
        Poses (B, 6) as in `project`, and (B,) bool, False where a face has no pose; there the rotation is the
        identity matrix and the translation 0.
    """
    used = (mask > 0).to(model.dtype)
    homogeneous = torch.cat([model, torch.ones_like(model[:, :1])], dim=1)  # (L, 4)
    inverse = torch.linalg.pinv(homogeneous * used[..., None])  # (B, 4, L); points that do not count are 0
    center = torch.tensor(camera.center, dtype=points.dtype, device=points.device)
    picture = torch.where(used[..., None] > 0, (points - center) / camera.focal, 0.0).to(model.dtype)
    known = used.sum(1) >= min_points
    scaled, active = picture, known.clone()
    matrix = torch.eye(3, dtype=model.dtype, device=model.device).repeat(len(points), 1, 1)
    shift = torch.zeros(len(points), 3, dtype=model.dtype, device=model.device)
    for step in range(iterations):
        found, moved = _scaled_orthography(inverse @ scaled)
        # The pass that ends a face still counts for it; later ones do not.
        matrix = torch.where(active[:, None, None], found, matrix)
        shift = torch.where(active[:, None], moved, shift)
        depth = torch.cat([found[:, 2], moved[:, 2:]], dim=1)  # (B, 4)
        factor = (homogeneous @ depth[..., None])[..., 0] / moved[:, 2:]
        after = factor[..., None] * picture
        change = camera.focal**2 * (after - scaled).square().flatten(1).sum(1)
        scaled = after
        if step:
            active = active & ~(change < tolerance)
        if not active.any():
            break
    rotation = torch.where(known[:, None, None], nearest_rotation(matrix), matrix)
    return torch.cat([matrix_to_angles(rotation), shift], dim=1), known


def _scaled_orthography(axes: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of a rotation (B, 3, 3) and the translation (B, 3) from the two picture axes (B, 4, 2)."""
    length = axes[:, :3].norm(dim=1)  # (B, 2)
    depth = (1 / (length[:, :1] * length[:, 1:])).sqrt()  # (B, 1)
    first, second = ((depth * axes[:, :3, k]).clamp(-1, 1) for k in (0, 1))
    rows = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
    return rows, torch.cat([depth * axes[:, 3], depth], dim=1)
