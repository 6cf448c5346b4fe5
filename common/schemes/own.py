"""Landmark schemes of the user's own: a YAML file names the points, how they mirror and which lines they draw.

See docs/your_landmarks.md. The whole content travels inside checkpoints and packed weights as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import Field

from common.errors import LabError
from common.files.validation import Place, Strict, key_of, line_of, parse_json, read_yaml_as, validated
from common.schemes.known import SCHEMES
from common.schemes.maps import Indices
from common.schemes.scheme import Curve, LandmarkScheme

HINT = "docs/your_landmarks.md shows a file"
Name = Annotated[str, Field(pattern=r"^[^\s,;/{}]+$", max_length=80)]
Pair = Annotated[list[Name], Field(min_length=2, max_length=2)]
Group = Annotated[list[Name], Field(min_length=1)]
Line = Annotated[list[Name], Field(min_length=2)]


class _Loop(Strict):
    """A curve in its long form."""

    points: Line
    closed: bool = False


class _File(Strict):
    """What a scheme's file holds.

    Attributes:
        name: for tables and messages.
        points: a name for each, in the order of the annotation.
        mirror: pairs that change places when the picture is mirrored; the others stay.
        normaliser: two points whose distance divides errors, the image's left one first; best the outer eye corners.
        eyes: points whose mean is the left and the right eye centre; default: the normaliser's two.
        curves: name -> points in order, or {points, closed}.
        parts: name -> points that belong together; default: curves that share points, without those named jaw.
    """

    name: Name
    points: Annotated[list[Name], Field(min_length=3)]
    mirror: list[Pair] = []
    normaliser: Pair
    eyes: Annotated[list[Group], Field(min_length=2, max_length=2)] | None = None
    curves: dict[Name, Line | _Loop] = {}
    parts: dict[Name, Line] | None = None


def read_scheme(path: Path) -> LandmarkScheme:
    """Return the scheme of a YAML file.

    Raises:
        LabError: the file is missing or no YAML, a key is wrong, or a point is not among `points`; names line and key.
    """

    def fail(place: Place, what: str) -> NoReturn:
        raise LabError(f"{path}:{line_of(path, place)}: {key_of(place)}: {what}; {HINT}")

    return _scheme_of(read_yaml_as(_File, path, HINT), fail)


def parse_scheme(text: str, where: str) -> LandmarkScheme:
    """Return the scheme of a JSON text.

    Raises:
        LabError: as `read_scheme`.
    """

    def fail(place: Place, what: str) -> NoReturn:
        raise LabError(f"{where}: {key_of(place)}: {what}; {HINT}")

    return _scheme_of(validated(_File, parse_json(text, where, HINT), where, HINT), fail)


def _scheme_of(file: _File, fail: Callable[[Place, str], NoReturn]) -> LandmarkScheme:
    if file.name in SCHEMES:
        fail(("name",), f"{file.name} is a known scheme's name; choose another")
    order: dict[str, int] = {}
    for row, name in enumerate(file.points):
        if name in order:
            fail(("points", row), f"{name} is named twice")
        order[name] = row

    def rows(place: Place, names: Sequence[str]) -> Indices:
        for k, name in enumerate(names):
            if name not in order:
                fail((*place, k), f"{name} is not among the points")
            if name in names[:k]:
                fail((*place, k), f"{name} is named twice")
        return tuple(order[name] for name in names)

    mirror = list(range(len(order)))
    for k, pair in enumerate(file.mirror):
        left, right = rows(("mirror", k), pair)
        if mirror[left] != left or mirror[right] != right:
            fail(("mirror", k), f"{' or '.join(pair)} is in an earlier pair")
        mirror[left], mirror[right] = right, left
    left, right = rows(("normaliser",), file.normaliser)
    pupils: tuple[Indices, Indices] = ((left,), (right,))
    if file.eyes is not None:
        pupils = (rows(("eyes", 0), file.eyes[0]), rows(("eyes", 1), file.eyes[1]))
    curves = tuple(
        Curve(name, rows(("curves", name, "points"), line.points), line.closed)
        if isinstance(line, _Loop)
        else Curve(name, rows(("curves", name), line))
        for name, line in file.curves.items()
    )
    on_curves = {point for curve in curves for point in curve.points}
    parts = _components(curve.points for curve in curves if not curve.name.startswith("jaw"))
    if file.parts is not None:
        parts = tuple(tuple(sorted(rows(("parts", name), group))) for name, group in file.parts.items())
    return LandmarkScheme(
        name=file.name,
        num_points=len(order),
        names=tuple(order),
        mirror=tuple(mirror),
        corners=(left, right),
        pupils=pupils,
        curves=curves,
        singles=tuple(point for point in order.values() if point not in on_curves),
        parts=parts,
        text=file.model_dump_json(exclude_defaults=True),
    )


def _components(lines: Iterable[Indices]) -> tuple[Indices, ...]:
    """Return the points of lines that share points, joined; ascending, in the order of the first line of each."""
    found: list[set[int]] = []
    for line in lines:
        joined = set(line)
        place = len(found)
        for k in reversed(range(len(found))):
            if found[k] & joined:
                joined |= found.pop(k)
                place = k
        found.insert(place, joined)
    return tuple(tuple(sorted(group)) for group in found)
