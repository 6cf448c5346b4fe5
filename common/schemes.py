"""Landmark schemes: which points there are, how they mirror, which lines they draw, how schemes map to each other.

Indices are 0-based. "Left" means the image's left, which is the subject's right. Curves run from image-left to
image-right (the bridge of the nose from above), and neighbouring curves share their end points. Everything here is a
plain tuple, so that no averaging or moving of modules can change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from common.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")
Indices = tuple[int, ...]


@dataclass(frozen=True)
class Curve:
    """A line through landmarks, in order; `closed` joins the last to the first."""

    name: str
    points: Indices
    closed: bool = False


@dataclass(frozen=True)
class SchemeMap:
    """How one scheme's points give another's: each target point is the mean of some source points.

    Attributes:
        source: name of the scheme that is given.
        target: name of the scheme that is wanted.
        indices: for each target point, its source points.
        meaning: what is exact and what is only close.
    """

    source: str
    target: str
    indices: tuple[Indices, ...]
    meaning: str

    def apply(self, points: Array) -> Array:
        """Return target points (..., L', D) for source points (..., L, D)."""
        columns = [points[..., list(group), :].mean(-2) for group in self.indices]
        if isinstance(points, np.ndarray):
            return np.stack(columns, axis=-2)
        import torch  # here: scoring files needs NumPy alone, and torch takes seconds and hundreds of megabytes

        return torch.stack(columns, dim=-2)


@dataclass(frozen=True)
class LandmarkScheme:
    """A set of landmarks.

    Attributes:
        name: key in SCHEMES.
        num_points: L.
        names: a name for each point.
        mirror: `flipped = points[mirror]` once x is mirrored.
        corners: outer eye corners, left first; their distance is the inter-ocular distance.
        pupils: points whose mean is the left and the right eye centre.
        curves: lines, for boundaries and pictures.
        singles: points on no curve.
    """

    name: str
    num_points: int
    names: tuple[str, ...]
    mirror: Indices
    corners: tuple[int, int]
    pupils: tuple[Indices, Indices]
    curves: tuple[Curve, ...]
    singles: Indices = ()

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of neighbouring points, to draw."""
        pairs: list[tuple[int, int]] = []
        for curve in self.curves:
            pairs += zip(curve.points, curve.points[1:], strict=False)
            if curve.closed:
                pairs.append((curve.points[-1], curve.points[0]))
        return tuple(dict.fromkeys(pairs))

    def curve(self, name: str) -> Curve:
        """Return the curve of that name, or raise a LabError that lists the names."""
        for curve in self.curves:
            if curve.name == name:
                return curve
        raise LabError(f"scheme {self.name} has no curve {name}; it has {', '.join(c.name for c in self.curves)}")

    def map_to(self, other: str | LandmarkScheme) -> SchemeMap:
        """Return the map to another scheme.

        Raises:
            LabError: no map with a clear meaning is known.
        """
        target = get_scheme(other) if isinstance(other, str) else other
        if target.name == self.name:
            return SchemeMap(self.name, self.name, tuple((i,) for i in range(self.num_points)), "the same scheme")
        found = MAPS.get((self.name, target.name))
        if found is None:
            raise LabError(f"no map from scheme {self.name} to {target.name} is known")
        return found


def _span(first: int, last: int) -> Indices:
    """Return first..last with both ends, upwards or downwards."""
    return tuple(range(first, last + 1)) if first <= last else tuple(range(first, last - 1, -1))


def _mirror(count: int, *pairs: tuple[Indices, Indices]) -> Indices:
    """Return the mirror index from ranges that change places; points not named stay."""
    index = list(range(count))
    for left, right in pairs:
        for a, b in zip(left, right, strict=True):
            index[a], index[b] = b, a
    return tuple(index)


def _names(count: int, curves: tuple[Curve, ...], singles: dict[int, str]) -> tuple[str, ...]:
    """Name each point after the first curve that holds it and its place on it."""
    names = [singles.get(i, "") for i in range(count)]
    for curve in curves:
        for place, point in enumerate(curve.points):
            names[point] = names[point] or f"{curve.name}_{place}"
    return tuple(names)


def _scheme(
    name: str,
    mirror: Indices,
    corners: tuple[int, int],
    pupils: tuple[Indices, Indices],
    curves: dict[str, Indices],
    singles: dict[int, str] | None = None,
) -> LandmarkScheme:
    lines = tuple(Curve(key, points) for key, points in curves.items())
    alone = singles or {}
    return LandmarkScheme(
        name, len(mirror), _names(len(mirror), lines, alone), mirror, corners, pupils, lines, tuple(sorted(alone))
    )


_MIRROR68 = _mirror(
    68,
    (_span(0, 7), _span(16, 9)),
    (_span(17, 21), _span(26, 22)),
    (_span(31, 32), _span(35, 34)),
    ((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46)),
    (_span(48, 50), _span(54, 52)),
    ((59, 58), (55, 56)),
    ((60, 61, 67), (64, 63, 65)),
)
_CURVES68: dict[str, Indices] = {
    "jaw": _span(0, 16),
    "left_brow": _span(17, 21),
    "right_brow": _span(22, 26),
    "nose_bridge": _span(27, 30),
    "nose_bottom": _span(31, 35),
    "left_eye_upper": _span(36, 39),
    "left_eye_lower": (36, 41, 40, 39),
    "right_eye_upper": _span(42, 45),
    "right_eye_lower": (42, 47, 46, 45),
    "outer_lip_upper": _span(48, 54),
    "outer_lip_lower": (48, 59, 58, 57, 56, 55, 54),
    "inner_lip_upper": _span(60, 64),
    "inner_lip_lower": (60, 67, 66, 65, 64),
}
_PUPILS68 = (_span(36, 41), _span(42, 47))
IBUG68 = _scheme("ibug68", _MIRROR68, (36, 45), _PUPILS68, _CURVES68)
MERLRAV68 = _scheme("merlrav68", _MIRROR68, (36, 45), _PUPILS68, _CURVES68)

WFLW98 = _scheme(
    "wflw98",
    _mirror(
        98,
        (_span(0, 15), _span(32, 17)),
        (_span(33, 37), _span(46, 42)),
        (_span(38, 41), _span(50, 47)),
        ((55, 56), (59, 58)),
        (_span(60, 64), _span(72, 68)),
        (_span(65, 67), _span(75, 73)),
        (_span(76, 78), _span(82, 80)),
        ((87, 86), (83, 84)),
        ((88, 89, 95), (92, 91, 93)),
        ((96,), (97,)),
    ),
    (60, 72),
    ((96,), (97,)),
    {
        "jaw": _span(0, 32),
        "left_brow": _span(33, 37),
        "left_brow_lower": (33, 41, 40, 39, 38),
        "right_brow": _span(42, 46),
        "right_brow_lower": (50, 49, 48, 47, 46),
        "nose_bridge": _span(51, 54),
        "nose_bottom": _span(55, 59),
        "left_eye_upper": _span(60, 64),
        "left_eye_lower": (60, 67, 66, 65, 64),
        "right_eye_upper": _span(68, 72),
        "right_eye_lower": (68, 75, 74, 73, 72),
        "outer_lip_upper": _span(76, 82),
        "outer_lip_lower": (76, 87, 86, 85, 84, 83, 82),
        "inner_lip_upper": _span(88, 92),
        "inner_lip_lower": (88, 95, 94, 93, 92),
    },
    {96: "left_pupil", 97: "right_pupil"},
)

COFW29 = _scheme(
    "cofw29",
    _mirror(29, ((0, 2, 4, 5, 8, 10, 12, 13, 16, 18, 22), (1, 3, 6, 7, 9, 11, 14, 15, 17, 19, 23))),
    (8, 9),
    ((16,), (17,)),
    {
        "left_brow": (0, 4, 2),
        "left_brow_lower": (0, 5, 2),
        "right_brow": (3, 6, 1),
        "right_brow_lower": (3, 7, 1),
        "left_eye_upper": (8, 12, 10),
        "left_eye_lower": (8, 13, 10),
        "right_eye_upper": (11, 14, 9),
        "right_eye_lower": (11, 15, 9),
        "nose_bottom": (18, 21, 19),
        "outer_lip_upper": (22, 24, 23),
        "inner_lip_upper": (22, 25, 23),
        "inner_lip_lower": (22, 26, 23),
        "outer_lip_lower": (22, 27, 23),
    },
    {16: "left_pupil", 17: "right_pupil", 20: "nose_tip", 28: "chin"},
)

AFLW19 = _scheme(
    "aflw19",
    _mirror(19, ((0, 1, 2, 6, 7, 8, 12, 15), (5, 4, 3, 11, 10, 9, 14, 17))),
    (6, 11),
    ((7,), (10,)),
    {
        "left_brow": (0, 1, 2),
        "right_brow": (3, 4, 5),
        "left_eye": (6, 7, 8),
        "right_eye": (9, 10, 11),
        "nose_bottom": (12, 13, 14),
        "mouth": (15, 16, 17),
    },
    {18: "chin"},
)

LAPA106 = _scheme(
    "lapa106",
    _mirror(
        106,
        (_span(0, 15), _span(32, 17)),
        (_span(33, 37), _span(46, 42)),
        (_span(38, 41), _span(50, 47)),
        (_span(55, 59), _span(65, 61)),
        (_span(66, 70), _span(79, 75)),
        (_span(71, 73), _span(82, 80)),
        ((74,), (83,)),
        (_span(84, 86), _span(90, 88)),
        ((95, 94), (91, 92)),
        ((96, 97, 103), (100, 99, 101)),
        ((104,), (105,)),
    ),
    (66, 79),
    ((104,), (105,)),
    {
        "jaw": _span(0, 32),
        "left_brow": _span(33, 37),
        "left_brow_lower": (33, 41, 40, 39, 38),
        "right_brow": _span(42, 46),
        "right_brow_lower": (50, 49, 48, 47, 46),
        "nose_bridge": _span(51, 54),
        "nose_bottom": _span(55, 65),
        "left_eye_upper": _span(66, 70),
        "left_eye_lower": (66, 73, 72, 71, 70),
        "right_eye_upper": _span(75, 79),
        "right_eye_lower": (75, 82, 81, 80, 79),
        "outer_lip_upper": _span(84, 90),
        "outer_lip_lower": (84, 95, 94, 93, 92, 91, 90),
        "inner_lip_upper": _span(96, 100),
        "inner_lip_lower": (96, 103, 102, 101, 100),
    },
    {74: "left_eye_centre", 83: "right_eye_centre", 104: "left_pupil", 105: "right_pupil"},
)
JD106 = LAPA106

SCHEMES: dict[str, LandmarkScheme] = {s.name: s for s in (WFLW98, IBUG68, COFW29, AFLW19, MERLRAV68, LAPA106)}


def _picks(*parts: Indices) -> tuple[Indices, ...]:
    return tuple((point,) for part in parts for point in part)


_JAW68 = tuple(range(0, 33, 2))
_IDENTITY68 = _picks(_span(0, 67))
MAPS: dict[tuple[str, str], SchemeMap] = {
    ("ibug68", "merlrav68"): SchemeMap("ibug68", "merlrav68", _IDENTITY68, "the same points under other names"),
    ("merlrav68", "ibug68"): SchemeMap("merlrav68", "ibug68", _IDENTITY68, "the same points under other names"),
    ("wflw98", "ibug68"): SchemeMap(
        "wflw98",
        "ibug68",
        _picks(_JAW68, _span(33, 37), _span(42, 46), _span(51, 59), (60, 61, 63, 64, 65, 67),
               (68, 69, 71, 72, 73, 75), _span(76, 95)),
        "every second jaw point; brows by their upper edge; lids by the nearest of the eight eye points",
    ),
    ("lapa106", "ibug68"): SchemeMap(
        "lapa106",
        "ibug68",
        _picks(_JAW68, _span(33, 37), _span(42, 46), _span(51, 54), _span(58, 62), (66, 67, 69, 70, 71, 73),
               (75, 76, 78, 79, 80, 82), _span(84, 103)),
        "every second jaw point; brows by their upper edge; base of the nose by its five middle points",
    ),
}  # fmt: skip


def scheme_of_size(points: int) -> LandmarkScheme:
    """Return the first scheme of so many points.

    Raises:
        LabError: there is none.
    """
    for scheme in SCHEMES.values():
        if scheme.num_points == points:
            return scheme
    raise LabError(f"no landmark scheme of {points} points is known")


def get_scheme(name: str) -> LandmarkScheme:
    """Return the scheme of that name, or raise a LabError that lists the names."""
    if name not in SCHEMES:
        raise LabError(f"unknown landmark scheme {name}; known are {', '.join(SCHEMES)}")
    return SCHEMES[name]
