"""Faces listed in a JSON file: `SPLIT.json` beside `db_info.json` and the photographs.

`SPLIT.json` is a list of samples: "imgpath" below the folder, "bbox" x, y, width, height, "ids" and "landmarks" of the
annotated points, "visible" 1 or 0 for each, and perhaps "headpose", whose first three numbers are yaw, pitch and roll.
`db_info.json` says in which order the points come ("ldm_ids"), and which rows belong to a subset ("test_subsets").
Coordinates are 0-based image pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

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
from common.files.validation import Finite, read_json, validated
from common.schemes import get_scheme
from common.types import FaceSample


class _About(BaseModel):
    """What is read of db_info.json."""

    ldm_ids: list[int]
    test_subsets: dict[str, list[int]] | None = None


class _Sample(BaseModel):
    """What is read of a face."""

    imgpath: str
    bbox: tuple[Finite, Finite, Finite, Finite]
    ids: list[int]
    landmarks: list[tuple[Finite, Finite]]
    visible: list[Finite]
    headpose: Annotated[list[Finite], Field(min_length=3)] | None = None


@dataclass(frozen=True)
class _Face:
    """A checked face; arrays are in the scheme's order."""

    number: int
    image: str
    points: np.ndarray
    annotated: np.ndarray
    visible: np.ndarray
    pose: np.ndarray | None
    box: np.ndarray
    norm: float | None


class JsonFaces(FaceDataset):
    """Faces of a JSON list. Points that a sample does not name lie at 0 and count for nothing.

    The box is the file's; visible is 1 or 0. A file is a split; only `test` has subsets, those of `db_info.json`.

    Args:
        root: folder of the two files and the photographs.
        split: name of the list, such as train or test.
        scheme: landmark scheme; `ldm_ids` are its points in order.
        norm: what errors are divided by: corners (distance of the outer eye corners; both must be annotated) or box
            (root of the area of the annotated points' tight box).

    Raises:
        LabError: a file or a photograph is missing or damaged, or a sample is wrong (named with its number).
    """

    def __init__(self, root: str, split: str, scheme: str = "ibug68", norm: str = "corners") -> None:
        self.root, self.scheme, self.norm = check_root(root, "json"), get_scheme(scheme), check_norm(norm)
        self.name, path = f"{self.root.name}/{split}", self.root / f"{split}.json"
        hint = "a split is SPLIT.json beside db_info.json"
        listed = self.root / "db_info.json"
        about = validated(_About, read_json(listed, hint), str(listed))
        samples = validated(list[_Sample], read_json(path, hint), str(path))
        order = {name: row for row, name in enumerate(about.ldm_ids)}
        if not len(order) == len(about.ldm_ids) == self.scheme.num_points:
            raise LabError(
                f"{listed}: ldm_ids names {len(order)} points; scheme {self.scheme.name} has {self.scheme.num_points}"
            )
        subsets = {k: set(rows) for k, rows in (about.test_subsets or {}).items()} if split == "test" else {}
        for key, rows in subsets.items():
            absent = [row for row in rows if not 0 <= row < len(samples)]
            if absent:
                raise LabError(f"{listed}: test_subsets.{key} names face {absent[0]} of {len(samples)} in {path.name}")
        self.subset_names = tuple(subsets)
        once, numbered = Once(), list(enumerate(samples))
        self.rows = each(lambda face: self._sample(face[1], order, face[0], path, once), numbered)
        self.member_of = [tuple(k for k, rows in subsets.items() if row.number in rows) for row in self.rows]

    def _sample(self, value: _Sample, order: dict[int, int], number: int, path: Path, once: Once) -> _Face:
        """Return a checked sample as arrays in the scheme's order."""
        where = f"{path}: face {number}"
        count, ids = self.scheme.num_points, value.ids
        foreign = [name for name in ids if name not in order]
        if foreign or len(set(ids)) < len(ids):
            what = f"{foreign[0]}, which db_info.json does not list" if foreign else "a point twice"
            raise LabError(f"{where}: ids names {what}")
        if not len(ids) == len(value.landmarks) == len(value.visible):
            raise LabError(f"{where}: ids, landmarks and visible differ in length")
        points, known, seen = np.zeros((count, 2)), np.zeros(count, bool), np.zeros(count, bool)
        rows = [order[name] for name in ids]
        if rows:
            points[rows], known[rows], seen[rows] = value.landmarks, True, np.asarray(value.visible) > 0
        x, y, width, height = value.bbox
        pose = None if value.headpose is None else np.asarray(value.headpose[:3], np.float32)
        checked = check_points(points, self.scheme, where)
        if not known.any():
            raise LabError(f"{where}: no landmark is annotated; remove this face")
        check_photo(self.root / value.imgpath, where)
        once.check(where, value.imgpath, checked, known)
        box = check_box(np.array([x, y, x + width, y + height]), where)
        norm = own_norm(checked, known, self.scheme, self.norm, where)
        return _Face(number, value.imgpath, checked, known, seen, pose, box, norm)

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
            pose=row.pose,
            subsets=self.member_of[index],
            id=f"{row.number:05d}/{row.image}",  # a photograph may hold several faces
            annotated=row.annotated,
            norm=row.norm,
        )
