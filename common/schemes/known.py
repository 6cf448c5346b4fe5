"""The published landmark schemes."""

from __future__ import annotations

from common.schemes.maps import Indices, span
from common.schemes.scheme import Curve, LandmarkScheme


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
    (span(0, 7), span(16, 9)),
    (span(17, 21), span(26, 22)),
    (span(31, 32), span(35, 34)),
    ((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46)),
    (span(48, 50), span(54, 52)),
    ((59, 58), (55, 56)),
    ((60, 61, 67), (64, 63, 65)),
)
_CURVES68: dict[str, Indices] = {
    "jaw": span(0, 16),
    "left_brow": span(17, 21),
    "right_brow": span(22, 26),
    "nose_bridge": span(27, 30),
    "nose_bottom": span(31, 35),
    "left_eye_upper": span(36, 39),
    "left_eye_lower": (36, 41, 40, 39),
    "right_eye_upper": span(42, 45),
    "right_eye_lower": (42, 47, 46, 45),
    "outer_lip_upper": span(48, 54),
    "outer_lip_lower": (48, 59, 58, 57, 56, 55, 54),
    "inner_lip_upper": span(60, 64),
    "inner_lip_lower": (60, 67, 66, 65, 64),
}
_PUPILS68 = (span(36, 41), span(42, 47))
IBUG68 = _scheme("ibug68", _MIRROR68, (36, 45), _PUPILS68, _CURVES68)
MERLRAV68 = _scheme("merlrav68", _MIRROR68, (36, 45), _PUPILS68, _CURVES68)

WFLW98 = _scheme(
    "wflw98",
    _mirror(
        98,
        (span(0, 15), span(32, 17)),
        (span(33, 37), span(46, 42)),
        (span(38, 41), span(50, 47)),
        ((55, 56), (59, 58)),
        (span(60, 64), span(72, 68)),
        (span(65, 67), span(75, 73)),
        (span(76, 78), span(82, 80)),
        ((87, 86), (83, 84)),
        ((88, 89, 95), (92, 91, 93)),
        ((96,), (97,)),
    ),
    (60, 72),
    ((96,), (97,)),
    {
        "jaw": span(0, 32),
        "left_brow": span(33, 37),
        "left_brow_lower": (33, 41, 40, 39, 38),
        "right_brow": span(42, 46),
        "right_brow_lower": (50, 49, 48, 47, 46),
        "nose_bridge": span(51, 54),
        "nose_bottom": span(55, 59),
        "left_eye_upper": span(60, 64),
        "left_eye_lower": (60, 67, 66, 65, 64),
        "right_eye_upper": span(68, 72),
        "right_eye_lower": (68, 75, 74, 73, 72),
        "outer_lip_upper": span(76, 82),
        "outer_lip_lower": (76, 87, 86, 85, 84, 83, 82),
        "inner_lip_upper": span(88, 92),
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
        (span(0, 15), span(32, 17)),
        (span(33, 37), span(46, 42)),
        (span(38, 41), span(50, 47)),
        (span(55, 59), span(65, 61)),
        (span(66, 70), span(79, 75)),
        (span(71, 73), span(82, 80)),
        ((74,), (83,)),
        (span(84, 86), span(90, 88)),
        ((95, 94), (91, 92)),
        ((96, 97, 103), (100, 99, 101)),
        ((104,), (105,)),
    ),
    (66, 79),
    ((104,), (105,)),
    {
        "jaw": span(0, 32),
        "left_brow": span(33, 37),
        "left_brow_lower": (33, 41, 40, 39, 38),
        "right_brow": span(42, 46),
        "right_brow_lower": (50, 49, 48, 47, 46),
        "nose_bridge": span(51, 54),
        "nose_bottom": span(55, 65),
        "left_eye_upper": span(66, 70),
        "left_eye_lower": (66, 73, 72, 71, 70),
        "right_eye_upper": span(75, 79),
        "right_eye_lower": (75, 82, 81, 80, 79),
        "outer_lip_upper": span(84, 90),
        "outer_lip_lower": (84, 95, 94, 93, 92, 91, 90),
        "inner_lip_upper": span(96, 100),
        "inner_lip_lower": (96, 103, 102, 101, 100),
    },
    {74: "left_eye_centre", 83: "right_eye_centre", 104: "left_pupil", 105: "right_pupil"},
)
JD106 = LAPA106

SCHEMES: dict[str, LandmarkScheme] = {s.name: s for s in (WFLW98, IBUG68, COFW29, AFLW19, MERLRAV68, LAPA106)}
