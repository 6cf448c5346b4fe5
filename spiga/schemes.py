"""What SPIGA adds to the landmark schemes: edges of the attention, points of the pose, identifiers of model files.

The edges are the curves of the project's schemes, in their order, which is that of the official weights; only the
direction in which one of them is run through differs, which its sampled target shows at the open end.
"""

from __future__ import annotations

from common.errors import LabError
from common.schemes import IBUG68, MERLRAV68, WFLW98, Indices, LandmarkScheme

REVERSED = {"right_brow_lower"}  # curves that the official targets run through from image-right to image-left

_POSE68: Indices = (17, 19, 21, 22, 24, 26, 36, 39, 42, 45, 31, 30, 35, 48, 54, 51, 57, 8)
_POSE98: Indices = (33, 35, 37, 42, 44, 46, 60, 64, 62, 66, 68, 72, 70, 74, 55, 54, 59, 76, 82, 79, 85, 16)
# Rigid enough and found by every annotator: brows, eye corners and lids, nose, mouth, chin (identifiers 1 to 24).
POSE_POINTS: dict[str, Indices] = {WFLW98.name: _POSE98, IBUG68.name: _POSE68, MERLRAV68.name: _POSE68}
NOSE_TIP: dict[str, int] = {WFLW98.name: 54, IBUG68.name: 30, MERLRAV68.name: 30}  # origin of the mean face

# Identifiers of the points in the official model files: numbers up to 24 are shared by all schemes, the others are
# the point's own place plus a base.
_SHARED68 = {8: 24, 17: 1, 19: 2, 21: 3, 22: 4, 24: 5, 26: 6, 30: 17, 31: 16, 35: 18, 36: 7, 39: 8, 42: 11, 45: 12,
             48: 20, 51: 22, 54: 21, 57: 23}  # fmt: skip
_SHARED98 = {16: 24, 33: 1, 35: 2, 37: 3, 42: 4, 44: 5, 46: 6, 54: 17, 55: 16, 59: 18, 60: 7, 62: 9, 64: 8, 66: 10,
             68: 11, 70: 13, 72: 12, 74: 14, 76: 20, 79: 22, 82: 21, 85: 23}  # fmt: skip
_BASE = {WFLW98.name: 100, IBUG68.name: 101, MERLRAV68.name: 101}
_SHARED = {WFLW98.name: _SHARED98, IBUG68.name: _SHARED68, MERLRAV68.name: _SHARED68}


def check_scheme(scheme: LandmarkScheme) -> LandmarkScheme:
    """Return the scheme, or raise a LabError when no 3D face and no pose points are known for it."""
    if scheme.name not in POSE_POINTS:
        raise LabError(f"this method knows the schemes {', '.join(POSE_POINTS)} and your own, not {scheme.name}")
    return scheme


def check_trainable(scheme: LandmarkScheme) -> LandmarkScheme:
    """Return a scheme of the user's own, or as `check_scheme`."""
    return scheme if scheme.text else check_scheme(scheme)


def pose_points(scheme: LandmarkScheme) -> Indices:
    """Return the points that the pose is computed from: all of a scheme of the user's own."""
    return POSE_POINTS.get(scheme.name, tuple(range(scheme.num_points)))


def origin(scheme: LandmarkScheme) -> Indices:
    """Return the points whose mean is the mean face's origin: the tip of the nose where it is known, else all."""
    return (NOSE_TIP[scheme.name],) if scheme.name in NOSE_TIP else tuple(range(scheme.num_points))


def edge_curves(scheme: LandmarkScheme) -> tuple[Indices, ...]:
    """Return the E curves as ordered points, in the order of the edge maps; closed ones end where they begin.

    Raises:
        LabError: the scheme has no curves, or as `check_trainable`.
    """
    if not check_trainable(scheme).curves:
        raise LabError(f"scheme {scheme.name} has no curves, whose edges this method attends to; add `curves` to its "
                       "file")  # fmt: skip
    lines = (c.points + c.points[:1] if c.closed else c.points for c in scheme.curves)
    return tuple(line[::-1] if c.name in REVERSED else line for c, line in zip(scheme.curves, lines, strict=True))


def identifiers(scheme: LandmarkScheme) -> Indices:
    """Return each point's identifier in the official model files."""
    name = check_scheme(scheme).name
    return tuple(_SHARED[name].get(i, _BASE[name] + i) for i in range(scheme.num_points))
