"""Which facial contour lines make up the boundary channel, per landmark scheme.

The 98- and 68-point lines are the scheme's own curves (98: without the lower edges of the brows). For 29 and 19
points the official code draws lines of its own, which are kept as tables.
"""

from __future__ import annotations

from common.errors import LabError
from common.schemes import LandmarkScheme

Polylines = tuple[tuple[int, ...], ...]

# Thirteen three-point arcs; the chin (28) and the pupils (16, 17) are in none.
COFW29_LINES: Polylines = (
    (0, 4, 2), (0, 5, 2), (1, 6, 3), (1, 7, 3),
    (8, 12, 10), (8, 13, 10), (9, 14, 11), (9, 15, 11),
    (18, 21, 19),
    (22, 24, 23), (22, 25, 23), (22, 26, 23), (22, 27, 23),
)  # fmt: skip

# The right brow has two points only: the official code leaves out point 5. Mouth and chin are in no line.
AFLW19_LINES: Polylines = ((0, 1, 2), (3, 4), (6, 7, 8), (9, 10, 11), (12, 13, 14))

OWN_LINES: dict[str, Polylines] = {"cofw29": COFW29_LINES, "aflw19": AFLW19_LINES}
LEFT_OUT = ("left_brow_lower", "right_brow_lower")


def boundary_lines(scheme: LandmarkScheme) -> Polylines:
    """Return the index tuples (0-based, in drawing order) of the boundary channel's open lines."""
    lines = OWN_LINES.get(scheme.name)
    if lines is None:
        lines = tuple(
            tuple(curve.points) + ((curve.points[0],) if curve.closed else ())
            for curve in scheme.curves
            if curve.name not in LEFT_OUT and len(curve.points) > 1
        )
    if not lines:
        raise LabError(f"scheme {scheme.name} has no curves, so no boundary can be drawn; set the boundary off")
    return lines
