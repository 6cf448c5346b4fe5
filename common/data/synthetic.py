"""Faces drawn by code, with exact landmarks, pose, visibility and attributes: no download, no licence, no faces of
people. Sample i of a seed is the same on every machine and in every order of access.
"""

from __future__ import annotations

import cv2
import numpy as np

from common.data.base import FaceDataset
from common.data.synthetic_head import Head, draw_head, plane_points, relief, rotation_matrix
from common.data.synthetic_render import Look, background, draw_look, shaded_points, splat
from common.errors import LabError
from common.geometry import tight_box
from common.schemes import IBUG68, WFLW98, get_scheme
from common.types import FaceSample

ATTRIBUTES = ("pose", "expression", "illumination", "makeup", "occlusion", "blur")
LARGE_YAW, STRONG_BLUR = 30.0, 1.2
HIDDEN_NORMAL = 0.15  # a point whose surface turns further away than this (cosine) is self-occluded
FACE_SHARE = (0.24, 0.31)  # inter-ocular distance over the picture's side


class SyntheticFaces(FaceDataset):
    """Synthetic faces.

    Points are exact projections of the head's 3D points; jaw points are points of the head, so under a large yaw those
    of the far side lie inside the visible outline.

    Args:
        count: faces.
        scheme: ibug68 or wflw98.
        seed: of the whole set.
        size: side of the pictures in pixels.
        offset: index of the first face; sets of one seed with disjoint ranges share no face.

    Raises:
        LabError: another scheme, or a count or size that is not positive.
    """

    subset_names = ATTRIBUTES

    def __init__(self, count: int, scheme: str = "ibug68", seed: int = 0, size: int = 256, offset: int = 0) -> None:
        if scheme not in (IBUG68.name, WFLW98.name):
            raise LabError(f"synthetic faces have the schemes {IBUG68.name} and {WFLW98.name}, not {scheme}")
        if count < 1 or size < 32:
            raise LabError(f"synthetic faces: count must be at least 1 and size at least 32, got {count} and {size}")
        self.name, self.scheme = "synthetic", get_scheme(scheme)
        self.count, self.seed, self.size, self.offset = count, seed, size, offset

    def __len__(self) -> int:
        return self.count

    def _draws(self, index: int) -> tuple[np.random.Generator, Head, Look, float, np.ndarray]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.offset + index])))
        head, look = draw_head(rng), draw_look(rng)
        scale = self.size * rng.uniform(*FACE_SHARE)
        centre = self.size * (np.array([0.5, 0.44]) + rng.uniform(-0.04, 0.04, 2))
        return rng, head, look, scale, centre

    def _project(self, head: Head, scale: float, centre: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return picture points (N, 3) of the head's points; z to the viewer, in pixels."""
        pivot = np.array([0, 0.2, 0.2])  # about where a head turns
        turned = (points - pivot) @ rotation_matrix(head.yaw, head.pitch, head.roll).T + pivot
        return np.concatenate([turned[:, :2] * scale + centre, turned[:, 2:] * scale], axis=1)

    def _surface(self, head: Head, plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return 3D points (L, 3) and normals (L, 3) of the surface over points of the frontal plane."""
        step = 0.02

        def z(dx: float, dy: float) -> np.ndarray:
            return relief(head, plane[:, 0] + dx, plane[:, 1] + dy)

        normal = np.stack([z(-step, 0) - z(step, 0), z(0, -step) - z(0, step), np.full(len(plane), 2 * step)], 1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return np.concatenate([plane, z(0, 0)[:, None]], 1), normal

    def points3d(self, index: int) -> np.ndarray:
        """Return the 3D landmarks (L, 3) of a face: picture pixels, z to the viewer in the same unit."""
        _, head, _, scale, centre = self._draws(index)
        surface, _ = self._surface(head, plane_points(head, self.scheme.name))
        return self._project(head, scale, centre, surface).astype(np.float32)

    def __getitem__(self, index: int) -> FaceSample:
        rng, head, look, scale, centre = self._draws(index)
        surface, normal = self._surface(head, plane_points(head, self.scheme.name))
        points = self._project(head, scale, centre, surface)[:, :2].astype(np.float32)
        facing = (normal @ rotation_matrix(head.yaw, head.pitch, head.roll).T)[:, 2]
        image = self._draw(rng, head, look, scale, centre)
        visible = facing > HIDDEN_NORMAL
        if look.occluder:
            visible &= ~self._occlude(rng, image, points)
        return FaceSample(
            image=self._finish(rng, image, look),
            points=points,
            visible=visible,
            box=tight_box(points),
            pose=np.array([head.yaw, head.pitch, head.roll], np.float32),
            subsets=self._subsets(head, look),
            id=f"synthetic-{self.seed}-{self.offset + index}",
        )

    def _subsets(self, head: Head, look: Look) -> tuple[str, ...]:
        flags = (abs(head.yaw) > LARGE_YAW, head.expressive, look.harsh, look.makeup, look.occluder or look.glasses,
                 look.blur >= STRONG_BLUR)  # fmt: skip
        return tuple(name for name, flag in zip(ATTRIBUTES, flags, strict=True) if flag)

    def _draw(self, rng: np.random.Generator, head: Head, look: Look, scale: float, centre: np.ndarray) -> np.ndarray:
        """Return the float picture (size, size, 3): background, hair and neck behind, then the head."""
        image = background(rng, self.size)
        points, colors, _ = shaded_points(head, look, rng)
        behind = self._project(head, scale, centre, np.array([[0, -0.32, -0.35], [0, 1.3, -0.3]]))
        long_hair = rng.uniform() < 0.45
        axes = (int(scale * 0.92), int(scale * (1.35 if long_hair else 0.92)))
        middle = (int(behind[0, 0]), int(behind[0, 1] + (scale * 0.45 if long_hair else 0)))
        cv2.ellipse(image, middle, axes, head.roll, 0, 360, (look.hair * 0.75).tolist(), -1, cv2.LINE_AA)
        neck = (int(behind[1, 0]), int(behind[1, 1]))
        cv2.ellipse(image, (neck[0], neck[1] + int(scale * 1.35)), (int(scale * 1.7), int(scale)), 0, 0, 360,
                    rng.uniform(10, 220, 3).tolist(), -1, cv2.LINE_AA)  # fmt: skip
        cv2.line(image, neck, (neck[0], neck[1] + int(scale * 0.5)), (look.skin * 0.6).tolist(), int(scale * 0.8))
        splat(self._project(head, scale, centre, points), colors, image, 2)
        if look.glasses:
            self._glasses(rng, image, head, scale, centre)
        return image

    def _glasses(
        self, rng: np.random.Generator, image: np.ndarray, head: Head, scale: float, centre: np.ndarray
    ) -> None:
        angle = np.linspace(0, 2 * np.pi, 28)
        power = rng.uniform(0.5, 1.0)
        round_x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * 0.24
        round_y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * 0.17
        frame, dark = rng.uniform(0, 90, 3).tolist(), rng.uniform() < 0.3
        for side in (-1, 1):
            ring = np.stack([side * 0.36 + round_x, 0.02 + round_y, np.full(28, 0.78)], 1)
            pixels = np.round(self._project(head, scale, centre, ring)[:, :2] * 8).astype(np.int32)
            if dark:
                cv2.fillPoly(image, [pixels], frame, cv2.LINE_AA, 3)
            cv2.polylines(image, [pixels], True, frame, 2, cv2.LINE_AA, 3)
        bar = np.array([[-0.12, -0.02, 0.84], [0.12, -0.02, 0.84]])
        ends = np.round(self._project(head, scale, centre, bar)[:, :2]).astype(int).tolist()
        cv2.line(image, ends[0], ends[1], frame, 2, cv2.LINE_AA)

    def _occlude(self, rng: np.random.Generator, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Lay a turned patch over a part of the face; return which points it hides."""
        extent = np.ptp(points, axis=0)
        middle = points.min(axis=0) + rng.uniform(0, 1, 2) * extent
        rect = (middle.tolist(), (extent * rng.uniform(0.2, 0.55, 2)).tolist(), float(rng.uniform(0, 180)))
        corners = cv2.boxPoints(rect)
        patch = background(rng, self.size)
        mask = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
        image[mask > 0] = patch[mask > 0]
        return np.array([cv2.pointPolygonTest(corners, (float(x), float(y)), False) >= 0 for x, y in points])

    def _finish(self, rng: np.random.Generator, image: np.ndarray, look: Look) -> np.ndarray:
        """Return the uint8 picture after exposure, colour cast, blur and noise of a camera."""
        image = image * rng.uniform(0.7, 1.25) * (1 + rng.normal(size=3) * 0.05) + rng.uniform(-12, 12)
        image = cv2.GaussianBlur(image, (0, 0), max(look.blur, 0.35))
        image = image + rng.normal(size=(self.size, self.size, 1)) * look.noise
        if rng.uniform() < 0.12:
            image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
        return np.clip(image, 0, 255).astype(np.uint8)
