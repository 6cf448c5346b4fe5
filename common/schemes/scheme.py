"""What a landmark scheme is: points, their mirror, curves, and what errors are divided by."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import LabError
from common.schemes.maps import MAPS, Indices, SchemeMap


@dataclass(frozen=True)
class Curve:
    """A line through landmarks, in order; `closed` joins the last to the first."""

    name: str
    points: Indices
    closed: bool = False


@dataclass(frozen=True)
class LandmarkScheme:
    """A set of landmarks.

    Attributes:
        name: key in SCHEMES, or of the user's own file.
        num_points: L.
        names: a name for each point.
        mirror: `flipped = points[mirror]` once x is mirrored.
        corners: outer eye corners, left first; their distance is the inter-ocular distance. In a scheme of the user's
            own, any two points whose distance divides errors.
        pupils: points whose mean is the left and the right eye centre.
        curves: lines, for boundaries and pictures.
        singles: points on no curve.
        parts: groups of points for methods that look at parts of the face; empty: read off the names.
        text: a scheme of the user's own as JSON, so that it can travel inside checkpoints; empty for a known one.
    """

    name: str
    num_points: int
    names: tuple[str, ...]
    mirror: Indices
    corners: tuple[int, int]
    pupils: tuple[Indices, Indices]
    curves: tuple[Curve, ...]
    singles: Indices = ()
    parts: tuple[Indices, ...] = ()
    text: str = ""

    @property
    def word(self) -> str:
        """What options and checkpoints say for this scheme, for `get_scheme`: its name, or all of it."""
        return self.text or self.name

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
        target = other if isinstance(other, str) else other.name
        if target == self.name:
            return SchemeMap(self.name, self.name, tuple((i,) for i in range(self.num_points)), "the same scheme", 0.0)
        found = MAPS.get((self.name, target))
        if found is None:
            raise LabError(f"no map from scheme {self.name} to {target} is known")
        return found
