"""The surface of the parametric head: a chart from texture to space, and fields that move it.

Texture coordinates (s, t) lie in [-1, 1], s to the right, t down. The distance from the middle is an angle from the
line of sight (the chart is azimuthal), so the rim of the face is the circle of radius RIM, and beyond it lie the sides
of the head, the ears, the crown and the underside of the jaw. "Plane" means x and y of the average head.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from common.data.synthetic._math import blob, clip, pair, snap, step
from common.data.synthetic.head import EYE_X, Head

NODES, RIM, CENTRE_Y, FRONT_Z = 57, 0.8, 0.15, 0.60
EAR_HEIGHT = 0.11  # of the ears over the head
OUTER = 1.12  # nothing of the head is drawn beyond this radius of the chart
PIVOT = np.array([0.0, 0.25, -0.15])  # about where a head turns
# Right half of the outline of the average head seen from the front, crown to chin.
OUTLINE = np.array([(0.0, -1.20), (0.36, -1.12), (0.64, -0.86), (0.785, -0.50), (0.82, -0.20), (0.822, 0.02),
                    (0.81, 0.24), (0.785, 0.44), (0.74, 0.64), (0.665, 0.84), (0.545, 1.02), (0.37, 1.165),
                    (0.185, 1.255), (0.0, 1.285)])  # fmt: skip


@cache
def _rim_table() -> tuple[np.ndarray, np.ndarray]:
    """Return angles from straight up over the right to straight down, and the outline's radii there."""
    offset = OUTLINE - [0, CENTRE_Y]
    angle = np.arctan2(offset[:, 0], -offset[:, 1])
    fine = np.linspace(0, np.pi, 181)
    radius = np.interp(fine, angle, np.hypot(offset[:, 0], offset[:, 1]))
    padded = np.concatenate([radius[6:0:-1], radius, radius[-2:-8:-1]])
    kernel = np.array([1, 3, 6, 9, 11, 12, 12, 12, 11, 9, 6, 3, 1], float)
    return fine, snap(np.convolve(padded, kernel / kernel.sum(), "valid"))


def rim_radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the outline's distance from the chart's centre in the direction of plane points."""
    return np.interp(np.arctan2(np.abs(x), CENTRE_Y - y), *_rim_table())


def _angle(radius: np.ndarray) -> np.ndarray:
    """Return the angle from the line of sight at a radius of the chart; the middle is magnified."""
    share = radius / RIM
    return np.pi / 2 * (0.75 * share + 0.25 * share**3)


def chart_to_plane(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y of the average head and the angle from the line of sight at texture coordinates."""
    radius = np.hypot(s, t)
    angle = _angle(radius)
    reach = rim_radius(s, t + CENTRE_Y) * np.sin(np.minimum(angle, np.pi))
    unit = np.where(radius > 0, reach / np.maximum(radius, 1e-9), 0.0)
    return s * unit, CENTRE_Y + t * unit, angle


def plane_to_chart(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return texture coordinates of plane points; those outside the outline come to lie on the rim."""
    table = np.linspace(0, RIM, 401)
    distance = np.hypot(x, y - CENTRE_Y)
    share = np.minimum(distance / rim_radius(x, y), 1)
    radius = np.interp(np.arcsin(share), _angle(table), table)
    unit = radius / np.maximum(distance, 1e-9)
    return snap(x * unit), snap((y - CENTRE_Y) * unit)


def _depth(x: np.ndarray, y: np.ndarray, s: np.ndarray, t: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return z of the average head without its nose."""
    down = t / np.maximum(np.hypot(s, t), 1e-9)
    rim = np.where(down > 0, -0.5 + 0.8 * np.abs(down) ** 2.5, -0.5 + 0.2 * np.abs(down))
    cosine = np.cos(angle)
    z = rim + np.where(cosine > 0, (FRONT_Z - rim) * np.abs(cosine) ** 0.92, 0.9 * cosine)
    hills = (
        -0.085 * pair(x, y, EYE_X, -0.01, 0.19, 0.115) + 0.05 * pair(x, y, EYE_X, 0, 0.12, 0.075)
        + 0.045 * pair(x, y, 0.34, -0.20, 0.26, 0.075) + 0.03 * blob(x, y, 0, -0.2, 0.12, 0.1)
        + 0.035 * pair(x, y, 0.47, 0.28, 0.19, 0.17) - 0.03 * pair(x, y, 0.70, -0.3, 0.12, 0.2)
        + 0.07 * blob(x, y, 0, 0.73, 0.30, 0.16) + 0.022 * blob(x, y, 0, 0.685, 0.2, 0.035)
        + 0.030 * blob(x, y, 0, 0.79, 0.17, 0.04) - 0.035 * blob(x, y, 0, 0.90, 0.2, 0.05)
        + 0.065 * blob(x, y, 0, 1.07, 0.2, 0.11)
    )  # fmt: skip
    return np.asarray(z + hills * (cosine > 0))


def _nose(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the height of the average nose over the face."""
    along = clip((y + 0.12) / 0.505, 0, 1)
    under = step(y, 0.535, 0.385)
    wide = 0.065 + 0.05 * along**2
    ridge = (0.035 + 0.225 * along**1.5) * np.exp(-((x / wide) ** 2)) * step(y, -0.2, -0.02) * under
    return np.asarray(ridge + 0.065 * pair(x, y, 0.125, 0.455, 0.05, 0.055))


def ear_share(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return how much a place of the average head belongs to an ear."""
    return np.exp(-(((angle - 1.74) / 0.15) ** 2)) * step(y, -0.14, 0.0) * step(y, 0.44, 0.3) * (np.abs(x) > 0.3)


def jaw_share(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how much of the chin's way a plane point goes when the mouth opens."""
    return step(y, 0.70, 1.05) * (1 - 0.8 * step(np.abs(x), 0.42, 0.85))


def drop(head: Head, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the heights to which the jaw brings plane points."""
    return y + head.jaw_drop * jaw_share(x, y)


def undrop(head: Head, y: np.ndarray) -> np.ndarray:
    """Return the heights that `drop` brings to y at the mouth, whose corners are not far enough out to matter."""
    table = np.linspace(0.4, 1.4, 501)
    return np.interp(y, drop(head, np.zeros_like(table), table), table)


@cache
def nodes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the average head (3, NODES, NODES), its texture coordinates s and t, and the angle at each node."""
    t, s = np.meshgrid(*(np.linspace(-1, 1, NODES),) * 2, indexing="ij")
    x, y, angle = chart_to_plane(s, t)
    z = _depth(x, y, s, t, angle) + _nose(x, y) * (angle < np.pi / 2)
    return snap(np.stack([x, y, z])), s, t, angle


@cache
def fields() -> dict[str, np.ndarray]:
    """Return displacement fields (3, NODES, NODES) of the average head by name; `Head.shape` holds their factors."""
    (x, y, z), _, _, angle = nodes()
    side, none = np.sign(x), np.zeros_like(x)
    eye, front = pair(x, y, EYE_X, 0, 0.24, 0.17), angle < np.pi / 2
    brow = pair(x, y, 0.4, -0.23, 0.34, 0.13)
    right, left = step(x, 0.02, 0.14), step(x, -0.02, -0.14)
    nose_low = np.exp(-((x / 0.3) ** 2)) * step(y, -0.05, 0.5) * step(y, 0.95, 0.55)
    mouth = np.exp(-((x / 0.5) ** 2) - ((y - 0.73) / 0.2) ** 2)
    out = np.stack([x, y - CENTRE_Y, z + 0.2])
    ear = ear_share(x, y, angle)
    raw = {
        "width": (x, none, none), "lower_width": (x * step(y, 0.2, 1.0), none, none),
        "jaw_square": (side * blob(np.abs(x), y, 0.62, 0.86, 0.25, 0.28), none, none),
        "chin_long": (none, step(y, 0.72, 1.2), none), "face_long": (none, clip(y - 0.02, 0, 9), none),
        "forehead": (none, clip(y + 0.3, -9, 0), none), "forehead_width": (x * step(y, -0.05, -0.7), none, none),
        "nose_long": (none, nose_low, 0.3 * nose_low),
        "nose_width": (x * blob(x, y, 0, 0.46, 0.3, 0.2), none, none), "nose_height": (none, none, _nose(x, y) * front),
        "nose_tip": (none, -blob(x, y, 0, 0.40, 0.12, 0.1), 0.5 * blob(x, y, 0, 0.40, 0.12, 0.1)),
        "nose_hump": (none, none, blob(x, y, 0, 0.16, 0.07, 0.11)),
        "eye_gap": (side * pair(x, y, 0.36, -0.05, 0.3, 0.3), none, none),
        "eye_size": (side * (np.abs(x) - EYE_X) * eye, y * eye, none), "eye_open": (none, y * eye, none),
        "eye_tilt": (none, -(np.abs(x) - EYE_X) * eye, none),
        "brow_y": (none, brow, none), "brow_tilt": (none, -(np.abs(x) - 0.4) * brow, none),
        "mouth_y": (none, blob(x, y, 0, 0.73, 0.5, 0.28), none), "mouth_width": (x * mouth, none, none),
        "lips_forward": (none, none, blob(x, y, 0, 0.73, 0.25, 0.12)),
        "cheek": (side * blob(np.abs(x), y, 0.68, 0.5, 0.25, 0.3), none, pair(x, y, 0.42, 0.5, 0.2, 0.2)),
        "chin_forward": (none, none, blob(x, y, 0, 1.1, 0.35, 0.25)), "depth": (none, none, z),
        "skew_x": (step(y, 0, 1.2) - step(y, 0, -1.2), none, none), "skew_y": (none, np.sin(2 * x), none),
        "bend": (0.5 * (y - 0.4) ** 2 * step(y, 0.2, 0.6), none, none),
        "ears": (side * ear * 0.3, none, -0.1 * ear), "ear": (side * ear * EAR_HEIGHT, none, -0.03 * ear),
        "jaw": (none, jaw_share(x, y), -0.25 * jaw_share(x, y)),
        "smile": (0.02 * side * pair(x, y, 0.5, 0.45, 0.2, 0.2), -0.03 * pair(x, y, 0.42, 0.38, 0.2, 0.16),
                  0.05 * pair(x, y, 0.42, 0.4, 0.17, 0.16)),
        "raise_left": (none, -brow * left, none), "raise_right": (none, -brow * right, none),
        "frown": (-0.04 * side * brow * pair(x, y, 0.15, -0.2, 0.18, 0.15), 0.035 * pair(x, y, 0.15, -0.2, 0.16, 0.12),
                  0.015 * pair(x, y, 0.1, -0.2, 0.1, 0.1)),
        "hair": tuple(out / np.maximum(np.sqrt((out**2).sum(axis=0)), 0.2)),
    }  # fmt: skip
    return {name: snap(np.array(parts)) for name, parts in raw.items()}


def build(head: Head, hair: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the head's nodes (3, NODES, NODES) in the head's frame.

    Args:
        hair: height of the hair over the scalp at each node.
    """
    move = fields()
    factors = dict(head.shape)
    left, right = head.brow_raise
    factors |= {"jaw": head.jaw_drop, "smile": max(head.smile, 0.0), "raise_left": left, "raise_right": right,
                "frown": head.frown, "ear": 1.0}  # fmt: skip
    shape = nodes()[0].copy()
    for name, factor in factors.items():
        shape += factor * move[name]
    if not np.isscalar(hair):
        shape += hair * move["hair"]
    return snap(shape)


def sample(grid: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return values (..., N) of node values (..., NODES, NODES) at texture coordinates, as the triangles give them."""
    u, v = ((clip(c, -1, 1) + 1) * ((NODES - 1) / 2) for c in (s, t))
    j, i = (np.minimum(c.astype(int), NODES - 2) for c in (u, v))
    u, v, first = u - j, v - i, i * NODES + j
    flat = grid.reshape(*grid.shape[:-2], -1)
    right, below = (np.take(flat, first + k, axis=-1) for k in (1, NODES))
    upper = u + v <= 1
    near = np.take(flat, np.where(upper, first, first + NODES + 1), axis=-1)
    by_u = np.where(upper, u, 1 - u) * (np.where(upper, right, below) - near)
    by_v = np.where(upper, v, 1 - v) * (np.where(upper, below, right) - near)
    return np.asarray(near + by_u + by_v)
