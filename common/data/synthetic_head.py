"""A parametric head: landmarks and a depth relief, from numbers alone.

Frame of the head: x to the image's right, y down, z to the viewer, origin between the eyes; the unit is the distance
of the outer eye corners of the average face. The relief is a height over the frontal plane, cut off at the silhouette.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.schemes import IBUG68, WFLW98

# Half of the average face, image-right side mirrored from it. x is the distance from the middle line.
JAW = np.array([(0.80, 0.02), (0.79, 0.24), (0.755, 0.45), (0.70, 0.66), (0.61, 0.86), (0.47, 1.03), (0.31, 1.16),
                (0.155, 1.26), (0.0, 1.29)])  # fmt: skip
BROW = np.array([(0.66, -0.17), (0.55, -0.27), (0.42, -0.30), (0.29, -0.27), (0.16, -0.22)])  # upper edge
BRIDGE_Y = np.array([-0.03, 0.13, 0.29, 0.45])
NOSTRILS = np.array([(0.17, 0.53), (0.09, 0.565), (0.0, 0.59)])
EYE_CENTRE, EYE_HALF = (0.355, 0.0), 0.145
MOUTH_Y, MOUTH_HALF = 0.87, 0.30
BROW_THICKNESS, JAW_RIM = 0.06, 0.97
CROWN = -1.12  # top of the skull
POSE_LIMITS, YAW_SPREAD = (60.0, 30.0, 35.0), 24.0


@dataclass(frozen=True)
class Head:
    """One person in one moment; every field but the pose is 0 for the average face."""

    width: float = 0.0
    length: float = 0.0
    chin: float = 0.0
    nose_length: float = 0.0
    nose_width: float = 0.0
    nose_depth: float = 0.0
    eye_size: float = 0.0
    eye_gap: float = 0.0
    eye_tilt: float = 0.0
    brow_height: float = 0.0
    lip: float = 0.0
    mouth_width: float = 0.0
    mouth_open: float = 0.0
    smile: float = 0.0
    eye_close: float = 0.0
    brow_raise: float = 0.0
    gaze: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def expressive(self) -> bool:
        """Whether the face is far from rest."""
        return self.mouth_open > 0.12 or abs(self.smile) > 0.07 or self.eye_close > 0.7


def draw_head(rng: np.random.Generator) -> Head:
    """Draw a person, an expression and a pose."""
    n = rng.normal(size=12) * 0.9
    excited = rng.uniform() < 0.35
    opened = float(np.clip(rng.exponential(0.11), 0, 0.42)) * excited
    yaw, pitch, roll = np.clip(rng.normal(size=3) * [YAW_SPREAD, 9, 8], np.negative(POSE_LIMITS), POSE_LIMITS)
    return Head(
        width=0.06 * n[0], length=0.06 * n[1], chin=0.08 * n[2], nose_length=0.05 * n[3], nose_width=0.12 * n[4],
        nose_depth=0.12 * n[5], eye_size=0.14 * n[6], eye_gap=0.03 * n[7], eye_tilt=0.07 * n[8],
        brow_height=0.03 * n[9], lip=0.25 * n[10], mouth_width=0.08 * n[11], mouth_open=opened,
        smile=float(rng.normal() * 0.03 + (0.1 if rng.uniform() < 0.4 else 0)),
        eye_close=float(np.clip(rng.exponential(0.15), 0, 1)), brow_raise=float(rng.normal() * 0.025),
        gaze=float(rng.uniform(-0.35, 0.35)), yaw=float(yaw), pitch=float(pitch), roll=float(roll),
    )  # fmt: skip


def _both(half: np.ndarray) -> np.ndarray:
    """Return the left points from outside inwards, given by their distance from the middle line."""
    return half * [-1, 1]


def eye_outline(head: Head, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return upper and lower lid (count, 2) of the left eye, from the outer to the inner corner."""
    half = EYE_HALF * (1 + 0.3 * head.eye_size)
    centre = np.array([-EYE_CENTRE[0] - head.eye_gap, EYE_CENTRE[1]])
    t = np.linspace(-1, 1, count)
    rise = np.clip(1 - np.abs(t) ** 2.2, 0, None)
    opening = 0.072 * (1 + head.eye_size) * (1 - head.eye_close)
    base = -t * head.eye_tilt * 0.25
    upper = np.stack([t * half, base - rise * opening], 1)
    lower = np.stack([t * half, base + rise * (0.042 * (1 + 0.5 * head.eye_size) * (1 - 0.3 * head.eye_close))], 1)
    if head.eye_close > 0.9:
        upper = lower.copy()
    return centre + upper, centre + lower


def mouth_outline(head: Head) -> dict[str, np.ndarray]:
    """Return the four lip lines from left to right: outer and inner, upper (7, 5 points) and lower (7, 5)."""
    half = MOUTH_HALF * (1 + head.mouth_width) + 0.4 * max(head.smile, -0.1)
    drop, corner = head.mouth_open, -0.6 * head.smile
    y = MOUTH_Y + 0.5 * head.length
    thick = 0.075 * (1 + head.lip)

    def line(xs: list[float], ys: list[float]) -> np.ndarray:
        x = np.array(xs) * half
        return np.stack([x, y + np.array(ys) + corner * (x / half) ** 2], 1)

    outer = [-1, -0.62, -0.24, 0, 0.24, 0.62, 1]
    inner = [-0.85, -0.28, 0, 0.28, 0.85]
    return {
        "outer_upper": line(outer, [0, -0.85 * thick, -1.25 * thick, -1.05 * thick, -1.25 * thick, -0.85 * thick, 0]),
        "outer_lower": line(outer, [0, *(np.array([1.05, 1.5, 1.6, 1.5, 1.05]) * thick + 0.9 * drop).tolist(), 0]),
        "inner_upper": line(inner, [0, -0.15 * thick, -0.05 * thick, -0.15 * thick, 0]),
        "inner_lower": line(inner, [0, 0.05 * thick + 0.85 * drop, 0.1 * thick + drop, 0.05 * thick + 0.85 * drop, 0]),
    }


def _jaw(head: Head, count: int) -> np.ndarray:
    """Return the contour (count, 2) from the left ear over the chin to the right ear, along its arc."""
    half = JAW.copy()
    half[:, 0] *= 1 + head.width + head.chin * np.clip(half[:, 1] - 0.6, 0, None)
    half[:, 1] *= 1 + 0.6 * head.length
    half[:, 1] += 0.55 * head.mouth_open * np.clip(half[:, 1] - 0.4, 0, None)
    full = np.concatenate([_both(half), half[-2::-1]])
    at = np.linspace(0, len(full) - 1, count)
    return np.stack([np.interp(at, np.arange(len(full)), full[:, k]) for k in range(2)], 1)


def frontal_landmarks(head: Head) -> dict[str, np.ndarray]:
    """Return the head's landmark lines in the frontal plane, by the names of the schemes' curves."""
    brow = BROW + [0, -head.brow_height - head.brow_raise]
    nose_y = 1 + 0.5 * head.nose_length
    bridge = np.stack([np.zeros(4), BRIDGE_Y * nose_y], 1)
    wing = NOSTRILS * [1 + head.nose_width, nose_y]
    lips = mouth_outline(head)
    flip = np.array([-1, 1])
    left_brow, lower_brow = _both(brow), _both(brow[1:] + [0.02, BROW_THICKNESS])
    return {
        "left_brow": left_brow, "right_brow": left_brow[::-1] * flip,
        "left_brow_low": lower_brow, "right_brow_low": lower_brow[::-1] * flip,
        "nose_bridge": bridge, "nose_bottom": np.concatenate([_both(wing), wing[-2::-1]]),
        "lips_outer_upper": lips["outer_upper"], "lips_outer_lower": lips["outer_lower"],
        "lips_inner_upper": lips["inner_upper"], "lips_inner_lower": lips["inner_lower"],
    }  # fmt: skip


def _eyes(head: Head, count: int) -> list[np.ndarray]:
    """Return upper left, lower left, upper right, lower right lids, each from left to right."""
    upper, lower = eye_outline(head, count)
    return [upper, lower, upper[::-1] * [-1, 1], lower[::-1] * [-1, 1]]


def plane_points(head: Head, scheme: str) -> np.ndarray:
    """Return the scheme's points (L, 2) in the frontal plane; schemes ibug68 and wflw98."""
    lines = frontal_landmarks(head)
    lips = [lines["lips_outer_upper"], lines["lips_outer_lower"][-2:0:-1], lines["lips_inner_upper"],
            lines["lips_inner_lower"][-2:0:-1]]  # fmt: skip
    nose = [lines["nose_bridge"], lines["nose_bottom"]]
    if scheme == IBUG68.name:
        ul, ll, ur, lr = _eyes(head, 4)
        brows = [lines["left_brow"], lines["right_brow"]]
        parts = [_jaw(head, 17), *brows, *nose, ul, ll[2:0:-1], ur, lr[2:0:-1], *lips]
    else:
        ul, ll, ur, lr = _eyes(head, 5)
        brows = [lines["left_brow"], lines["left_brow_low"][::-1], lines["right_brow"], lines["right_brow_low"][::-1]]
        pupils = [np.array([c]) for c in pupil_centres(head)]
        parts = [_jaw(head, 33), *brows, *nose, ul, ll[3:0:-1], ur, lr[3:0:-1], *lips, *pupils]
    points = np.concatenate(parts)
    assert len(points) in (IBUG68.num_points, WFLW98.num_points)
    return points


def pupil_centres(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Return the left and right pupil (2,) in the frontal plane; both look to one side."""
    upper, lower = eye_outline(head, 5)
    middle = (upper[2] + lower[2]) / 2
    shift = np.array([head.gaze * EYE_HALF, 0])
    return middle + shift, middle * [-1, 1] + shift


def half_width(head: Head, y: np.ndarray) -> np.ndarray:
    """Return the half width of the head's silhouette at heights y; 0 outside."""
    jaw = _jaw(head, 17)[8:]  # chin to right ear
    below = np.interp(y, jaw[::-1, 1], jaw[::-1, 0], right=0)
    ear = jaw[-1]
    above = ear[0] * np.sqrt(np.clip(1 - ((y - ear[1]) / (CROWN - ear[1])) ** 2, 0, None))
    return np.where(y > ear[1], below, np.where(y < CROWN, 0, above)) / JAW_RIM


def relief(head: Head, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the depth z of the head's surface over points of the frontal plane; 0 on and outside the silhouette."""
    width = np.maximum(half_width(head, y), 1e-6)
    round_x = np.sqrt(np.clip(1 - (x / width) ** 2, 0, None))
    z = 0.78 * round_x * np.clip(width / 0.82, 0.3, 1.1) ** 0.6

    def bump(cx: float, cy: float, sx: float, sy: float, height: float) -> np.ndarray:
        # A product, so that a row of x and a column of y stay cheap until they meet.
        return (height * np.exp(-(((x - cx) / sx) ** 2))) * np.exp(-(((y - cy) / sy) ** 2))

    tip = 0.45 * (1 + 0.5 * head.nose_length)
    along = np.clip((y + 0.1) / (tip + 0.1), 0, 1)
    under = 1 / (1 + np.exp((y - tip - 0.08) / 0.03))
    spread = (0.075 + 0.05 * along) * (1 + head.nose_width)
    nose = (0.06 + 0.24 * along**1.5) * (1 + head.nose_depth) * np.exp(-((x / spread) ** 2)) * under
    nose = nose * (y > -0.3) * np.clip((y + 0.3) / 0.2, 0, 1)
    for side in (-1, 1):
        z = z + bump(side * 0.36, 0.0, 0.17, 0.11, -0.09) + bump(side * 0.38, -0.2, 0.26, 0.08, 0.05)
        z = z + bump(side * 0.45, 0.42, 0.2, 0.2, 0.04) + bump(side * 0.13, 0.53, 0.06, 0.05, 0.05)
    chin = 1.16 * (1 + 0.6 * head.length) + 0.4 * head.mouth_open
    z = z + nose + bump(0, MOUTH_Y, 0.28, 0.13, 0.07) + bump(0, chin, 0.2, 0.12, 0.06)
    return np.where(half_width(head, y) > np.abs(x), z, 0.0)


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return (3, 3) for degrees: yaw turns the nose to the image's right, pitch up, roll the head clockwise."""
    a, b, c = np.deg2rad([yaw, -pitch, roll])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    tilt = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(tilt @ nod @ turn)
