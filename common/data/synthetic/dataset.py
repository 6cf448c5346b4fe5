"""Faces drawn by code, with exact landmarks, pose, visibility and attributes: no download, no licence, no faces of
people. Sample i of a seed is the same on every machine and in every order of access: coordinates are 64-bit numbers
rounded to a fixed grain, and pictures go through 8-bit steps. What could still differ is another version of OpenCV's
drawing, blur or JPEG code, and with it single grey levels; points do not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

import common.data.synthetic.scene as scene
from common.data.base import FaceDataset
from common.data.synthetic.appearance import Look, draw_look
from common.data.synthetic.camera import finish
from common.data.synthetic.head import Head, draw_head
from common.data.synthetic.landmarks import View, chart_points
from common.data.synthetic.paint import hair_height, lit, paint
from common.data.synthetic.render import light, normals, rasterize, show
from common.data.synthetic.surface import build, fields, sample
from common.errors import LabError
from common.geometry import tight_box
from common.schemes import IBUG68, WFLW98, get_scheme
from common.types import FaceSample

DRAWN = (IBUG68.name, WFLW98.name)
ATTRIBUTES = ("pose", "expression", "illumination", "makeup", "occlusion", "blur")
LARGE_YAW, STRONG_BLUR = 30.0, 1.2
HIDDEN_NORMAL = 0.1  # a point whose surface turns further away than this (cosine) is self-occluded
HIDDEN_DEPTH, HIDDEN_RIM = 0.1, 0.4  # units by which another part of the head lies before a hidden point
PEOPLE, FAR = 100, 100.0  # heads of the mean face, and the distance of a camera that sees them without perspective
MEAN_FACES = Path(__file__).parent / "mean_faces.csv"  # what `average_face` returns, since that takes a while
FACE_SHARE = (0.28, 0.36)  # inter-ocular distance over the picture's side, as in crops of 1.9 times the face


@dataclass(frozen=True)
class Scene:
    """One face before it is drawn: the generator stands where drawing goes on."""

    rng: np.random.Generator
    head: Head
    look: Look
    view: View
    surface: np.ndarray
    chart: np.ndarray


def check_drawn(scheme: str) -> None:
    """Raise a LabError unless the drawing knows the points of a scheme."""
    if scheme not in DRAWN:
        raise LabError(f"synthetic faces have the schemes {' and '.join(DRAWN)}, not {scheme}")


class SyntheticFaces(FaceDataset):
    """Synthetic faces.

    Contour points lie on the outline that the camera sees, as annotators of photographs place them.

    Args:
        count: faces.
        scheme: ibug68 or wflw98.
        seed: of the whole set.
        size: side of the pictures in pixels.
        offset: index of the first face; sets of one seed with disjoint ranges share no face.
        fixed_contour: keep contour points on the jaw's rim in space, so that under a large yaw those of the far side
            lie inside the visible outline, as 3D annotations have them.

    Raises:
        LabError: another scheme, or a count or size that is not positive.
    """

    subset_names = ATTRIBUTES

    def __init__(
        self,
        count: int,
        scheme: str = "ibug68",
        seed: int = 0,
        size: int = 256,
        offset: int = 0,
        fixed_contour: bool = False,
    ) -> None:
        check_drawn(scheme)
        if count < 1 or size < 32:
            raise LabError(f"synthetic faces: count must be at least 1 and size at least 32, got {count} and {size}")
        self.name, self.scheme = "synthetic", get_scheme(scheme)
        self.count, self.seed, self.size, self.offset = count, seed, size, offset
        self.fixed_contour = fixed_contour

    def __len__(self) -> int:
        return self.count

    def _draws(self, index: int) -> tuple[np.random.Generator, Head, Look]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.offset + index])))
        return rng, draw_head(rng), draw_look(rng)

    def _scene(self, index: int) -> Scene:
        rng, head, look = self._draws(index)
        scale = self.size * rng.uniform(*FACE_SHARE)
        centre = self.size * (np.array([0.5, 0.42]) + rng.uniform(-0.04, 0.04, 2))
        view = View(head, scale, centre, look.distance)
        surface = build(head)
        chart = chart_points(head, surface, view, self.scheme.name, self.fixed_contour)
        return Scene(rng, head, look, view, surface, chart)

    @staticmethod
    def _points(face: Scene) -> np.ndarray:
        """Return the projected landmarks (L, 3) float64."""
        return face.view.project(sample(face.surface, *face.chart.T)).T

    def points3d(self, index: int) -> np.ndarray:
        """Return the 3D landmarks (L, 3) of a face: picture pixels, z to the viewer in the same unit."""
        return self._points(self._scene(index)).astype(np.float32)

    def __getitem__(self, index: int) -> FaceSample:
        face = self._scene(index)
        head, look = face.head, face.look
        points = self._points(face)
        image, visible = self._draw(face, points)
        if look.occluder:
            visible &= ~scene.occlude(face.rng, image, look, points[:, :2])
        flat = points[:, :2].astype(np.float32)
        return FaceSample(
            image=finish(face.rng, image, look),
            points=flat,
            visible=visible,
            box=tight_box(flat),
            pose=np.array([head.yaw, head.pitch, head.roll], np.float32),
            subsets=self._subsets(head, look),
            id=f"synthetic-{self.seed}-{self.offset + index}",
        )

    def _subsets(self, head: Head, look: Look) -> tuple[str, ...]:
        flags = (abs(head.yaw) > LARGE_YAW, head.expressive, look.harsh, look.makeup > 0,
                 look.occluder or look.glasses != "none", look.blur >= STRONG_BLUR)  # fmt: skip
        return tuple(name for name, flag in zip(ATTRIBUTES, flags, strict=True) if flag)

    def _draw(self, face: Scene, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture (size, size, 3) uint8 before the camera, and which points (L,) the head does not hide."""
        rng, head, look, view = face.rng, face.head, face.look, face.view
        image = scene.background(rng, self.size)
        if look.length:
            scene.hair_behind(rng, image, look, view)
        scene.body(rng, image, look, view)
        surface = face.surface + hair_height(look) * fields()["hair"]
        normal = normals(view, surface)
        towards = [sum(view.matrix[row, axis] * look.light[row] for row in range(3)) for axis in (0, 1)]
        texture = lit(paint(head, look), look, light(look, normal), (float(towards[0]), float(towards[1])))
        pixels = view.project(surface)
        drawn = rasterize(pixels, self.size)
        image = show(texture, *drawn, image)
        visible = self._visible(face, points, normal, pixels[2], drawn)
        if look.glasses != "none":
            bridge = sample(face.surface, np.zeros(1), np.array([-0.1]))[2, 0]
            scene.glasses(rng, image, look, view, float(bridge) + 0.12)
        scene.brim(rng, image, look, view)
        return image, visible

    def _visible(
        self,
        face: Scene,
        points: np.ndarray,
        normal: np.ndarray,
        depth: np.ndarray,
        drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """Return which landmarks (L,) the camera sees: turned to it, or on the outline, and not behind another part."""
        covered, s, t = drawn
        where = np.full(self.size * self.size, -1, np.int32)
        where[covered] = np.arange(len(covered), dtype=np.int32)
        column, row = (np.round(points[:, k]).astype(int) for k in (0, 1))
        inside = (column >= 0) & (row >= 0) & (column < self.size) & (row < self.size)
        hit = where[np.clip(row, 0, self.size - 1) * self.size + np.clip(column, 0, self.size - 1)]
        front = sample(depth, s[hit], t[hit]) if len(covered) else np.zeros(len(points))
        facing = sample(normal, *face.chart.T)[2] > HIDDEN_NORMAL
        margin = np.full(len(points), HIDDEN_DEPTH)
        if not self.fixed_contour:
            jaw = list(self.scheme.curve("jaw").points)
            facing[jaw], margin[jaw] = True, HIDDEN_RIM  # the surface falls away steeply beside the outline
        hidden = (hit >= 0) & (front > points[:, 2] + margin * face.view.scale)
        return facing & ~hidden & inside


@lru_cache
def mean_face(scheme: str) -> np.ndarray:
    """Return the mean (L, 3) float64 of drawn heads that look straight at the camera; not to be written into.

    Frame: x to the image's right, y down, z to the viewer, origin between the eyes; the unit is the distance of the
    outer eye corners of the average face.

    Raises:
        LabError: the drawing does not know the scheme.
    """
    check_drawn(scheme)
    rows = [line.split(",") for line in MEAN_FACES.read_text(encoding="ascii").split()]
    face = np.array([[float(number) for number in numbers] for name, *numbers in rows if name == scheme])
    face.setflags(write=False)
    return face


def average_face(scheme: str) -> np.ndarray:
    """Return what `mean_face` holds of a scheme, (L, 3) float64, made from the heads themselves."""
    rng, total = np.random.default_rng(0), np.zeros((3, get_scheme(scheme).num_points))
    for _ in range(PEOPLE):
        head = replace(draw_head(rng), yaw=0.0, pitch=0.0, roll=0.0)
        surface, view = build(head), View(head, 1.0, np.zeros(2), FAR)
        total += sample(surface, *chart_points(head, surface, view, scheme, fixed_contour=True).T)
    return (total / PEOPLE).T
