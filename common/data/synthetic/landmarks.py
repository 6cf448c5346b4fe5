"""Landmarks of the parametric head: where the points of a scheme lie on it, as annotators of photographs place them.

Points of eyes, brows, nose and mouth are fixed to the skin. The contour of the face is not: under a turned head
annotators follow the outline that the camera sees, so each contour point slides along a ray of the chart, from the
jaw's rim towards the middle of the face, to where the ray reaches furthest out in the picture.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from common.data.synthetic._math import snap
from common.data.synthetic.head import (
    BROW_HALF,
    BROW_X,
    EYE_HALF,
    EYE_X,
    Head,
    brow_edges,
    iris_centre,
    lids,
    lips,
    mouth_half,
    rotation_matrix,
)
from common.data.synthetic.surface import CENTRE_Y, PIVOT, RIM, plane_to_chart, rim_radius, sample, undrop
from common.schemes import IBUG68, WFLW98

JAW_TOP = 0.03  # height of the contour's two ends
BROW_INSET = 0.12  # how far below the brow's upper edge its points lie, as a share of its thickness
BROW_ENDS = (-0.97, 0.97)
CONTOUR_REACH = np.linspace(0.42, 0.985, 28)  # of the rim's radius: where a contour point may lie on its ray
BRIDGE_Y = (-0.022, 0.11, 0.24, 0.372)
NOSTRILS = np.array([(-0.168, 0.485), (-0.087, 0.518), (0.0, 0.54), (0.087, 0.518), (0.168, 0.485)])
INNER_CORNER = 0.86  # of the mouth's half width
LIP_UPPER, LIP_LOWER, LIP_INNER = (0.64, 0.26, 0.0), (0.66, 0.3, 0.0), (0.3, 0.0)


class View:
    """A camera before a turned head.

    Args:
        head: gives the turn.
        scale: pixels a unit at the pivot's distance.
        centre: (2,) picture pixels of the point between the eyes, seen from the front.
        distance: from the camera to the pivot, in units.
    """

    def __init__(self, head: Head, scale: float, centre: np.ndarray, distance: float) -> None:
        self.matrix = snap(rotation_matrix(head.yaw, head.pitch, head.roll))
        self.scale, self.centre, self.distance = scale, centre, distance

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (3, ...) of the head in the camera's frame."""
        rows = [m[0] * vectors[0] + m[1] * vectors[1] + m[2] * vectors[2] for m in self.matrix]
        return np.array(rows)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return picture pixels (3, ...) of points (3, ...) of the head; z to the viewer, in pixels."""
        axes = (-1,) + (1,) * (points.ndim - 1)
        x, y, z = self.turn(points - PIVOT.reshape(axes))
        size = self.scale / (1 - z / self.distance)
        return snap(np.array([
            (x + PIVOT[0]) * size + self.centre[0], (y + PIVOT[1]) * size + self.centre[1], z * self.scale
        ]))  # fmt: skip


@cache
def _rim_points(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return plane points (count, 2) along the average outline, evenly spaced, and its outward normals there."""
    angle = np.linspace(0, np.pi, 721)  # from the right over the chin to the left
    x, y = np.cos(angle), np.sin(angle)
    radius = rim_radius(x, y + CENTRE_Y)
    line = np.stack([-x * radius, CENTRE_Y + y * radius], axis=1)
    ears = np.array([[-rim_radius(np.ones(1), np.full(1, JAW_TOP))[0], JAW_TOP]])
    line = np.concatenate([ears, line, ears * [-1, 1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0, length[-1], count)
    points = np.stack([np.interp(at, length, line[:, k]) for k in (0, 1)], axis=1)
    points = (points + points[::-1] * [-1, 1]) / 2
    tangent = np.gradient(points, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    return snap(points), snap(normal / np.hypot(*normal.T)[:, None])


@cache
def _contour_rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return texture coordinates s, t (count, reaches) of the contour points' rays."""
    s, t = plane_to_chart(*_rim_points(count)[0].T)
    radius = np.hypot(s, t)
    return s[:, None] / radius[:, None] * RIM * CONTOUR_REACH, t[:, None] / radius[:, None] * RIM * CONTOUR_REACH


def contour(head: Head, surface: np.ndarray, view: View, count: int) -> np.ndarray:
    """Return texture coordinates (count, 2) of the contour as the camera sees it, left to right over the chin."""
    s, t = _contour_rays(count)
    pixels = view.project(sample(surface, s.ravel(), t.ravel())).reshape(3, *s.shape)
    normal = _rim_points(count)[1]
    roll = rotation_matrix(0, 0, head.roll)
    nx = roll[0, 0] * normal[:, 0] + roll[0, 1] * normal[:, 1]
    ny = roll[1, 0] * normal[:, 0] + roll[1, 1] * normal[:, 1]
    out = snap(pixels[0] * nx[:, None] + pixels[1] * ny[:, None])
    best = out.argmax(axis=1)
    inner = np.clip(best, 1, s.shape[1] - 2)
    row = np.arange(count)
    low, mid, high = out[row, inner - 1], out[row, inner], out[row, inner + 1]
    bend = np.minimum(low - 2 * mid + high, -1e-6)
    shift = np.clip((low - high) / (2 * bend), -1, 1)  # the parabola's top, between samples
    reach = np.interp(inner + shift, np.arange(s.shape[1]), CONTOUR_REACH)
    scale = reach / CONTOUR_REACH[-1]
    return snap(np.stack([s[:, -1] * scale, t[:, -1] * scale], axis=1))


def eye_points(head: Head, side: int, inner_points: int) -> np.ndarray:
    """Return the upper lid, corners included, and the lower lid, corners left out, both from left to right."""
    along = np.linspace(-1, 1, inner_points + 2) * [1, *(1.1 if inner_points == 2 else 1,) * inner_points, 1]
    along = along if side else -along
    upper, lower = lids(head.eye_close[side], along)
    x = (EYE_X + EYE_HALF * along) * (1 if side else -1)
    return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[1:-1]])


def brow_points(head: Head, side: int, count: int, lower: bool) -> np.ndarray:
    """Return points (count, 2) of an edge of a brow, from the inner to the outer end."""
    along = np.linspace(*BROW_ENDS, 5)[:count]
    top, bottom = brow_edges(head, along)
    inset = 1 - BROW_INSET if lower else BROW_INSET
    x = (BROW_X + BROW_HALF * along) * (1 if side else -1)
    return np.stack([x, top + inset * (bottom - top)], axis=1)


def mouth_points(head: Head) -> np.ndarray:
    """Return the 20 points of the lips in the order of both schemes, with the jaw dropped."""
    half, upper, lower, inner = mouth_half(head), np.array(LIP_UPPER), np.array(LIP_LOWER), np.array(LIP_INNER)
    upper = np.concatenate([[-1], -upper, upper[1::-1], [1]])
    lower = np.concatenate([lower, -lower[1::-1]])
    inner_upper = np.concatenate([[-INNER_CORNER], -inner, inner[:1], [INNER_CORNER]])
    inner_lower = np.concatenate([inner, -inner[:1]])
    lines = ((upper, 0), (lower, 3), (inner_upper, 1), (inner_lower, 2))
    return np.concatenate([np.stack([along * half, lips(head, along)[line]], 1) for along, line in lines])


def plane_points(head: Head, scheme: str) -> np.ndarray:
    """Return the scheme's points (L, 2) on the average head's plane, the contour on its rim."""
    bridge = np.stack([np.zeros(4), BRIDGE_Y], axis=1)
    dense = scheme == WFLW98.name
    left, right = (eye_points(head, side, 3 if dense else 2) for side in (0, 1))
    middle = 5 if dense else 4
    eyes = [left[:middle], left[: middle - 1 : -1], right[:middle], right[: middle - 1 : -1]]
    brows = [brow_points(head, 0, 5, False)[::-1], brow_points(head, 1, 5, False)]
    pupils = []
    if dense:
        low = [brow_points(head, 0, 4, True), brow_points(head, 1, 4, True)[::-1]]
        brows = [brows[0], low[0], brows[1], low[1]]
        pupils = [iris_centre(head, side)[None] for side in (0, 1)]
    mouth = mouth_points(head)
    mouth[:, 1] = undrop(head, mouth[:, 1])
    jaw = _rim_points(33 if dense else 17)[0]
    points = np.concatenate([jaw, *brows, bridge, NOSTRILS, *eyes, mouth, *pupils])
    assert len(points) == (WFLW98 if dense else IBUG68).num_points
    return points


def chart_points(head: Head, surface: np.ndarray, view: View, scheme: str, fixed_contour: bool = False) -> np.ndarray:
    """Return texture coordinates (L, 2) of a scheme's points.

    Args:
        surface: nodes of the head without hair.
        fixed_contour: leave the contour's points on the rim of the jaw, whatever the camera sees.
    """
    points = np.stack(plane_to_chart(*plane_points(head, scheme).T), axis=1)
    if not fixed_contour:
        count = 33 if scheme == WFLW98.name else 17
        points[:count] = contour(head, surface, view, count)
    return points
