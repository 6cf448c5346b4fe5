"""Faces of your own with any number of points: `faces.csv`, or `faces.json`, beside the photographs.

`faces.csv` has a heading and one face a line; coordinates are 0-based pixels, the centre of the first pixel at (0, 0):

    image                       photograph, below the folder
    NAME_x, NAME_y              for each point of the scheme; both empty where the point is not annotated
    NAME_visible                1 or 0, may be left out
    box_x0 ... box_y1           x0 y0 x1 y1, may be left out: then the tight box of the annotated points
    split                       train, val or test, may be left out: then see `split_of`
    subset                      names of test subsets, several with spaces between them, may be left out

`faces.json` is a list of {"image", "points": {NAME: [x, y], ...}, "hidden": [NAME, ...], "box", "split", "subset"}.
"""

from __future__ import annotations

import csv
import io
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from common.data.base import (
    FaceDataset,
    Once,
    check_box,
    check_norm,
    check_photo,
    check_points,
    check_root,
    each,
    own_norm,
)
from common.errors import LabError
from common.files.images import read_image
from common.files.validation import Finite, Strict, read_json, read_text, validated
from common.geometry import tight_box
from common.schemes import LandmarkScheme, get_scheme
from common.types import FaceSample

TABLE, LIST = "faces.csv", "faces.json"
HINT = "docs/your_landmarks.md shows a file"
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
OTHER = ("image", "split", "subset", *BOX)
SPLITS = ("train", "val", "test")
TENTHS = {"test": (0,), "val": (1,)}  # of the photographs, where the file does not say; the others are for training


class _Face(Strict):
    """A face of the JSON list, and what a line of the table is brought to."""

    image: Annotated[str, Field(min_length=1)]
    points: dict[str, Annotated[list[Finite], Field(min_length=2, max_length=2)]]
    hidden: list[str] = []
    box: Annotated[list[Finite], Field(min_length=4, max_length=4)] | None = None
    split: Literal["train", "val", "test"] | None = None
    subset: list[str] = []


@dataclass(frozen=True)
class _Row:
    """A checked face."""

    image: str
    points: np.ndarray
    annotated: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    norm: float | None
    subset: tuple[str, ...]


def split_of(image: str) -> str:
    """Return the split of a photograph whose face names none: one in ten for test, one for val, by the name's sum."""
    tenth = zlib.crc32(unicodedata.normalize("NFC", image).encode()) % 10
    return next((split for split, tenths in TENTHS.items() if tenth in tenths), "train")


class OwnFaces(FaceDataset):
    """Faces of the user's own. Points that a face lacks lie at 0 and count for nothing.

    Args:
        root: folder of `faces.csv` or `faces.json` and the photographs.
        split: train, val or test.
        scheme: landmark scheme, known or of your own (`common.schemes.get_scheme`).
        norm: what errors are divided by: corners (the distance of the scheme's two points) or box (root of the area of
            the annotated points' tight box).

    Raises:
        LabError: the file is missing or not sound, a photograph is missing, or a face is wrong or given twice (reported
            with its line).
    """

    def __init__(self, root: str, split: str, scheme: str, norm: str = "corners") -> None:
        self.root, self.scheme, self.norm = check_root(root, "csv"), get_scheme(scheme), check_norm(norm)
        if split not in SPLITS:
            raise LabError(f"data set csv has the splits {', '.join(SPLITS)}, not {split}")
        self.name, self.split = f"{self.root.name}/{split}", split
        table, listed = self.root / TABLE, self.root / LIST
        as_list = listed.is_file() and not table.is_file()
        found: Iterator[tuple[str, _Face | dict[str, str]]] = _list(listed) if as_list else _table(table, self.scheme)
        once = Once()
        read = each(lambda item: self._face(*item, once), list(found))
        self.rows = [row for name, row in read if name == split]
        self.subset_names = tuple(dict.fromkeys(name for row in self.rows for name in row.subset))

    def _face(self, where: str, given: _Face | dict[str, str], once: Once) -> tuple[str, _Row]:
        """Return the split of a face, and the face."""
        face = given if isinstance(given, _Face) else _face(given, self.scheme, where)
        row = self._row(face, where)
        once.check(where, face.image, row.points, row.annotated)
        return face.split or split_of(face.image), row

    def _row(self, face: _Face, where: str) -> _Row:
        names = {name: place for place, name in enumerate(self.scheme.names)}
        foreign = [name for name in (*face.points, *face.hidden) if name not in names]
        if foreign:
            raise LabError(f"{where}: point {foreign[0]} is not in scheme {self.scheme.name}; it has "
                           f"{', '.join(self.scheme.names[:6])}{', ...' if len(names) > 6 else ''}")  # fmt: skip
        points, known = np.zeros((len(names), 2)), np.zeros(len(names), bool)
        for name, xy in face.points.items():
            points[names[name]], known[names[name]] = xy, True
        visible = known.copy()
        visible[[names[name] for name in face.hidden]] = False
        if not known.any():
            raise LabError(f"{where}: no point is annotated; remove this face")
        checked = check_points(points, self.scheme, where)
        check_photo(self.root / face.image, where)
        box = tight_box(checked[known]) if face.box is None else np.array(face.box)
        return _Row(
            image=face.image,
            points=checked,
            annotated=known,
            visible=visible,
            box=check_box(box, where),
            norm=own_norm(checked, known, self.scheme, self.norm, where),
            subset=tuple(face.subset),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def shapes(self) -> np.ndarray:
        return np.stack([np.where(row.annotated[:, None], row.points, np.nan) for row in self.rows])

    def __getitem__(self, index: int) -> FaceSample:
        row = self.rows[index]
        return FaceSample(
            image=read_image(self.root / row.image),
            points=row.points,
            visible=row.visible,
            box=row.box,
            subsets=row.subset,
            id=f"{index:05d}/{row.image}",  # a photograph may hold several faces
            annotated=row.annotated,
            norm=row.norm,
        )


def _list(path: Path) -> Iterator[tuple[str, _Face]]:
    for number, value in enumerate(validated(list[_Face], read_json(path, HINT), str(path), HINT), 1):
        yield f"{path}: face {number}", value


def _table(path: Path, scheme: LandmarkScheme) -> Iterator[tuple[str, dict[str, str]]]:
    text = read_text(path, f"data set csv needs {TABLE} or {LIST}; {HINT}")
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    heading: list[str] = []
    try:
        for words in lines:
            if not any(word.strip() for word in words):
                continue
            where = f"{path}:{lines.line_num}"
            if not heading:
                heading = _heading([word.strip() for word in words], scheme, where)
                continue
            if len(words) != len(heading):
                raise LabError(f"{where}: {len(words)} fields, but the heading has {len(heading)}; {HINT}")
            yield where, {name: word.strip() for name, word in zip(heading, words, strict=True)}
    except csv.Error as error:
        raise LabError(f"{path}:{lines.line_num}: is not valid CSV ({error}); {HINT}") from None
    if not heading:
        raise LabError(f"{path}: is empty; {HINT}")


def _heading(names: list[str], scheme: LandmarkScheme, where: str) -> list[str]:
    """Return the heading's names.

    Raises:
        LabError: a column is missing, unknown or given twice.
    """
    known = {f"{name}_{end}" for name in scheme.names for end in ("x", "y", "visible")} | set(OTHER)
    wanted = ["image", *(f"{name}_{axis}" for name in scheme.names for axis in "xy")]
    wanted += [name for name in BOX if set(BOX) & set(names)]
    missing, unknown = [name for name in wanted if name not in names], [name for name in names if name not in known]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    for what, found in (("is missing", missing), (f"is not known to scheme {scheme.name}", unknown),
                        ("is given twice", twice)):  # fmt: skip
        if found:
            raise LabError(f"{where}: column {found[0]!r} {what}; {HINT}")
    return names


def _face(cells: Mapping[str, str], scheme: LandmarkScheme, where: str) -> _Face:
    points, hidden = {}, []
    for name in scheme.names:
        given = [cells[f"{name}_x"], cells[f"{name}_y"]]
        if any(given):
            points[name] = [_number(word, f"{name}_{axis}", where) for axis, word in zip("xy", given, strict=True)]
        seen = cells.get(f"{name}_visible", "")
        if seen not in ("", "0", "1"):
            raise LabError(f"{where}: {name}_visible must be 1, 0 or empty, got {seen[:20]!r}")
        if seen == "0":
            hidden.append(name)
    box = [_number(cells[name], name, where) for name in BOX] if any(cells.get(name) for name in BOX) else None
    split = cells.get("split") or None
    content = {"image": cells["image"], "points": points, "hidden": hidden, "box": box, "split": split,
               "subset": cells.get("subset", "").split()}  # fmt: skip
    return validated(_Face, content, where, HINT)


def _number(word: str, column: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise LabError(f"{where}: {column} is no number: {word[:20]!r}; leave both coordinates of a point empty where "
                       "it is not annotated") from None  # fmt: skip
