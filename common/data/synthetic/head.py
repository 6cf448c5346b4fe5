"""A person in one moment: pose, proportions, expression, and the lines of eyes, brows and mouth on the average face.

Frame of the head: x to the image's right, y down, z to the viewer, origin between the eyes; the unit is the distance
of the outer eye corners of the average face, about 91 mm. Proportions follow anthropometric means (distances between
eye corners, nose wings, mouth corners, cheekbones and chin), never a data set's annotations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.data.synthetic._math import clip

# Spread of each way in which faces differ, in units of its displacement field (synthetic_surface.fields).
SPREADS = {
    "width": 0.055, "lower_width": 0.075, "jaw_square": 0.035, "chin_long": 0.055, "face_long": 0.075,
    "forehead": 0.08, "forehead_width": 0.05, "nose_long": 0.045, "nose_width": 0.17, "nose_height": 0.24,
    "nose_tip": 0.025, "nose_hump": 0.02, "eye_gap": 0.022, "eye_size": 0.07, "eye_open": 0.15, "eye_tilt": 0.07,
    "brow_y": 0.03, "brow_tilt": 0.09, "mouth_y": 0.028, "mouth_width": 0.1, "lips_forward": 0.03, "cheek": 0.04,
    "chin_forward": 0.05, "depth": 0.06, "skew_x": 0.018, "skew_y": 0.014, "bend": 0.03, "ears": 0.35,
}  # fmt: skip
# What sets a young child apart, in the same units.
CHILD = {"face_long": -0.17, "nose_height": -0.35, "eye_size": 0.16, "forehead": 0.08, "cheek": 0.05,
         "nose_long": -0.05, "lower_width": 0.04, "eye_open": 0.12, "chin_long": -0.03, "brow_y": -0.02}  # fmt: skip
CHILD_SHARE = 0.12
POSE_LIMITS = (60.0, 30.0, 35.0)  # degrees
EYE_X, EYE_HALF, IRIS = 0.345, 0.155, 0.064
BROW_X, BROW_HALF = 0.405, 0.27
MOUTH_Y, MOUTH_HALF = 0.730, 0.29


@dataclass(frozen=True)
class Head:
    """One person in one moment; every field is 0 for the average face at rest, seen from the front.

    Attributes:
        shape: factors of the displacement fields, by name.
        mouth_open: distance of the inner lips.
        smile: 1 for a broad one, negative for a sulk.
        pucker: 1 for lips drawn together.
        lip: relative change of the lips' thickness.
        raised_lip: share of the opening that the upper lip gives.
        eye_close: left and right lid, 0 open, 1 shut.
        gaze: right and down, of the iris, -1 to 1.
        brow_raise: left and right brow, in units.
        frown: 1 for brows drawn together.
        brow_thick, brow_arch: relative changes.
        yaw, pitch, roll: degrees.
    """

    shape: dict[str, float] = field(default_factory=dict)
    mouth_open: float = 0.0
    smile: float = 0.0
    pucker: float = 0.0
    lip: float = 0.0
    raised_lip: float = 0.2
    eye_close: tuple[float, float] = (0.0, 0.0)
    gaze: tuple[float, float] = (0.0, 0.0)
    brow_raise: tuple[float, float] = (0.0, 0.0)
    frown: float = 0.0
    brow_thick: float = 0.0
    brow_arch: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def jaw_drop(self) -> float:
        """How far the chin moves down, in units; a little opening is the lips' alone."""
        return 0.85 * max(self.mouth_open - 0.05, 0.0)

    @property
    def expressive(self) -> bool:
        """Whether the face is far from rest."""
        return self.mouth_open > 0.15 or abs(self.smile) > 0.75 or min(self.eye_close) > 0.8 or self.frown > 0.6


def _draw_pose(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return yaw, pitch and roll: mostly frontal, with a wide tail."""
    wide = rng.uniform() < 0.36
    angles = rng.normal(size=3) * ([27, 11, 10] if wide else [12, 8, 6])
    yaw, pitch, roll = np.clip(angles, np.negative(POSE_LIMITS), POSE_LIMITS).tolist()
    return yaw, pitch, roll


def _draw_mouth(rng: np.random.Generator) -> dict[str, float]:
    """Draw one of the usual mouths: at rest, smile, smile with teeth, talk, shout, pucker."""
    kind = rng.choice(6, p=[0.3, 0.17, 0.25, 0.14, 0.08, 0.06])
    low, high = [((0, -0.4), (0, 0.3)), ((0, 0.3), (0.01, 0.9)), ((0.03, 0.4), (0.13, 1.1)),
                 ((0.02, -0.3), (0.16, 0.4)), ((0.15, -0.3), (0.45, 0.6)), ((0, -0.2), (0.05, 0.1))][kind]  # fmt: skip
    opened, smile = rng.uniform(low, high).tolist()
    raised = rng.uniform(0.3, 0.65) if kind == 2 else rng.uniform(0.05, 0.3)
    pucker = rng.uniform(0.4, 1) if kind == 5 else max(rng.normal() * 0.12, -0.2)
    return {"mouth_open": opened, "smile": smile, "raised_lip": float(raised), "pucker": float(pucker)}


def draw_head(rng: np.random.Generator) -> Head:
    """Draw a person, an expression and a pose."""
    yaw, pitch, roll = _draw_pose(rng)
    factors = np.clip(rng.normal(size=len(SPREADS)), -2.3, 2.3)
    child = rng.uniform(0.5, 1.1) if rng.uniform() < CHILD_SHARE else 0.0
    shape = {name: float(f * SPREADS[name] + child * CHILD.get(name, 0.0))
             for f, name in zip(factors, SPREADS, strict=True)}  # fmt: skip
    mouth = _draw_mouth(rng)
    squint = 0.22 * max(mouth["smile"], 0) * rng.uniform(0, 1.6)
    close = float(np.clip(rng.uniform(0.75, 1.0) if rng.uniform() < 0.1 else rng.exponential(0.09) + squint, 0, 1))
    wink = close if rng.uniform() > 0.03 else 1 - close
    raise_ = rng.normal() * 0.022 + (rng.uniform(0.02, 0.07) if rng.uniform() < 0.12 else 0)
    uneven = rng.normal() * 0.008
    gaze = np.clip(rng.normal(size=2) * [0.35, 0.3], -0.9, 0.9)
    return Head(
        shape=shape, **mouth, lip=float(np.clip(rng.normal() * 0.25, -0.55, 0.7)), eye_close=(close, wink),
        gaze=(float(gaze[0]), float(gaze[1])), brow_raise=(raise_ + uneven, raise_ - uneven),
        frown=float(np.clip(rng.normal() * 0.3 + (0.6 if rng.uniform() < 0.1 else 0), -0.2, 1)),
        brow_thick=float(np.clip(rng.normal() * 0.3, -0.5, 0.8)), brow_arch=float(rng.normal() * 0.35),
        yaw=yaw, pitch=pitch, roll=roll,
    )  # fmt: skip


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return (3, 3) for degrees: yaw turns the nose to the image's right, pitch up, roll the head clockwise."""
    a, b, c = np.deg2rad([yaw, -pitch, roll])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    tilt = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(tilt @ nod @ turn)


def lids(close: np.ndarray | float, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the y of the upper and lower lid.

    Args:
        close: 0 for an open eye, 1 for a shut one.
        along: -1 at the inner corner, 1 at the outer one.
    """
    base = 0.011 * (1 - along)
    inside = np.maximum(1 - along**2, 0)
    lower = base + inside * (0.033 - 0.008 * close)
    upper = base - inside**0.7 * (0.080 + 0.008 * along * (1 - along))
    return upper + (lower - 0.004 * inside - upper) * close, lower


def iris_centre(head: Head, side: int) -> np.ndarray:
    """Return the (2,) centre of the iris of the left (0) or right (1) eye; both look to one side."""
    sign = (-1, 1)[side]
    return np.array([sign * EYE_X + 0.065 * head.gaze[0], -0.008 + 0.025 * head.gaze[1]])


def brow_edges(head: Head, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the y of the upper and lower edge of a brow; along is -1 at the inner end and 1 at the outer one."""
    arch = 0.030 * (1 + head.brow_arch)
    rise = np.maximum(1 - ((along - 0.1) / 1.07) ** 2, 0)
    upper = -0.168 + 0.048 * along - (0.057 + arch) * rise
    taper = np.maximum(0.82 + 0.25 * along - 0.62 * np.maximum(along, 0) ** 1.5, 0.1)
    return upper, upper + 0.066 * (1 + head.brow_thick) * taper


def mouth_half(head: Head) -> float:
    """Return the half width of the mouth."""
    return MOUTH_HALF * (1 + 0.24 * max(head.smile, -0.2) - 0.3 * head.pucker - 0.35 * head.mouth_open)


def lips(head: Head, along: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the y of the outer upper, inner upper, inner lower and outer lower lip line, jaw dropped.

    Args:
        along: -1 at the left corner of the mouth, 1 at the right one.
    """
    square = clip(along, -1, 1) ** 2
    middle = MOUTH_Y + head.smile * (0.012 - 0.085 * square) + 0.4 * head.mouth_open * square
    gap = np.maximum(1 - square, 0) ** (0.62 if head.mouth_open > 0.15 else 0.8)
    upper = middle - gap * head.raised_lip * head.mouth_open
    lower = middle + gap * (1 - head.raised_lip) * head.mouth_open
    thick = (1 + head.lip) * (1 - 0.22 * max(head.smile, 0) + 0.35 * head.pucker)
    size = np.abs(along)
    bow = np.interp(size, [0, 0.12, 0.26, 0.6, 0.85, 1], [0.86, 0.92, 1.0, 0.66, 0.26, 0])
    belly = np.maximum(1 - size**2.3, 0)
    return upper - 0.074 * thick * bow, upper, lower, lower + 0.088 * thick * belly
