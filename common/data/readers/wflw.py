"""WFLW: one list file a split, 98 points and six attributes a line (Wu et al., "Look at Boundary", CVPR 2018)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from pydantic_core import from_json

from common.data.base import FaceDataset, Once, check_box, check_photo, check_points, check_root, each
from common.errors import LabError
from common.files.images import read_image
from common.schemes import WFLW98
from common.types import FaceSample

ATTRIBUTES = ("pose", "expression", "illumination", "makeup", "occlusion", "blur")
LISTS = "WFLW_annotations/list_98pt_rect_attr_train_test"
COORDINATES, BOX = 2 * WFLW98.num_points, 4
FIELDS = COORDINATES + BOX + len(ATTRIBUTES) + 1  # 207: the last is the photograph's path
Row = tuple[np.ndarray, np.ndarray, tuple[str, ...], str]  # points, box, subsets, photograph


class WFLW(FaceDataset):
    """WFLW in its published tree: WFLW_annotations and WFLW_images.

    The coordinates are taken as 0-based, as the field does; the box is the list's, a detector's rectangle in whole
    pixels. Methods that were published with the landmarks' tight box take `--data.box gt`. All points count as visible.
    The official lists have 7,500 faces (train) and 2,500 (test); subsets are the six attributes.

    Args:
        root: folder that holds the two folders.
        split: train or test, or the path of a list file in the same format.

    Raises:
        LabError: the list or a photograph is missing, a line is wrong, or a face is given twice; with file and line.
    """

    subset_names = ATTRIBUTES

    def __init__(self, root: str, split: str = "train") -> None:
        folder = check_root(root, "wflw")
        path = Path(split) if split.endswith(".txt") else folder / LISTS / f"list_98pt_rect_attr_{split}.txt"
        if not path.is_file():
            raise LabError(f"{path}: list is missing; wflw has the splits train and test")
        self.name, self.scheme, self.images = f"wflw/{split}", WFLW98, folder / "WFLW_images"
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        numbered = [(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
        once = Once()
        self.rows = self._sound_rows(numbered) or each(lambda item: self._row(*item, once), numbered)

    def _sound_rows(self, numbered: list[tuple[str, str]]) -> list[Row] | None:
        """Return all rows, checked together, which long lists need; None where one has a fault, which `_row` names."""
        table, names = np.empty((len(numbered), FIELDS - 1)), []
        try:
            for row, (_, line) in enumerate(numbered):
                table[row], name = _numbers(line)
                names.append(name)
        except (ValueError, TypeError):
            return None
        with np.errstate(over="ignore"):
            single = table.astype(np.float32)
        points, box, flags = np.split(single, [COORDINATES, COORDINATES + BOX], axis=1)
        sound = np.isfinite(single).all() and (box[:, :2] < box[:, 2:]).all() and np.isin(flags, (0, 1)).all()
        if not sound or not all(os.path.isfile(f"{self.images}/{name}") for name in set(names)):
            return None
        if len({(name, row.tobytes()) for name, row in zip(names, points, strict=True)}) < len(names):
            return None
        subsets = [tuple(name for name, flag in zip(ATTRIBUTES, row, strict=True) if flag) for row in flags.tolist()]
        return list(zip(points.reshape(-1, COORDINATES // 2, 2), box, subsets, names, strict=True))

    def _row(self, where: str, line: str, once: Once) -> Row:
        row = _parse(line, where)
        check_photo(self.images / row[3], where)
        once.check(where, row[3], row[0])  # a photograph may hold several faces, but each once
        return row

    def __len__(self) -> int:
        return len(self.rows)

    def shapes(self) -> np.ndarray:
        return np.stack([points for points, *_ in self.rows])

    def __getitem__(self, index: int) -> FaceSample:
        points, box, subsets, name = self.rows[index]
        return FaceSample(
            image=read_image(self.images / name),
            points=points,
            visible=np.ones(len(points), dtype=bool),
            box=box,
            subsets=subsets,
            id=f"{index:05d}/{name}",  # a photograph may hold several faces
        )


def _numbers(line: str) -> tuple[list[float], str]:
    """Return the numbers of a line and its photograph, by JSON's parser, which is quicker than `float`.

    Raises:
        ValueError: they are something else than numbers.
    """
    head, _, name = line.rpartition(" ")
    if "," not in head:
        try:
            values: list[float] = from_json(f"[{head.replace(' ', ',')}]")
        except ValueError:
            values = []
        if len(values) == FIELDS - 1:
            return values, name
    words = line.split(maxsplit=FIELDS - 1)  # several blanks between numbers, or some in the photograph's name
    return from_json(f"[{','.join(words[:-1])}]"), words[-1].rstrip()


def _parse(line: str, where: str) -> Row:
    """Return points, box, subsets and photograph of one line."""
    words = line.split(maxsplit=FIELDS - 1)  # the photograph's name may hold blanks
    if len(words) != FIELDS:
        raise LabError(f"{where}: {len(words)} fields, expected {FIELDS} (98 points, box, 6 attributes, photograph)")
    try:
        numbers = np.array([float(word) for word in words[:-1]])
    except ValueError as error:
        raise LabError(f"{where}: {error}") from None
    points = check_points(numbers[:COORDINATES].reshape(-1, 2), WFLW98, where)
    box = check_box(numbers[COORDINATES : COORDINATES + BOX], where)
    flags = numbers[COORDINATES + BOX :]
    if not np.isin(flags, (0, 1)).all():
        raise LabError(f"{where}: the six attributes must be 0 or 1, got {flags.tolist()}")
    return points, box, tuple(name for name, flag in zip(ATTRIBUTES, flags, strict=True) if flag), words[-1].rstrip()
