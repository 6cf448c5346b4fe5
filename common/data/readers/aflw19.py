"""AFLW with 19 points: headerless `.pts` lines "x y visible" and a `.rct` box beside each photograph.

The form in which Zhu et al. (CVPR 2016, "Unconstrained Face Alignment via Cascaded Compositional Learning") chose the
points, as later authors pass it on; as COCO JSON the set is read by `common.data.readers.coco`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.data.base import check_root, each, files_in
from common.data.readers._listed import Face, ListedFaces, make_face, photo_beside
from common.errors import LabError
from common.files.validation import read_text
from common.schemes import AFLW19

SPLITS = ("train", "test", "all")  # 20,000 and 4,386 faces; lists of the authors, here folders of these names


class AFLW(ListedFaces):
    """AFLW's 19-point annotation, `NAME.jpg` beside `NAME.pts` and `NAME.rct`, in the folders train and test.

    Coordinates are taken as they are, 0-based. Visible is 1 or 0; a hidden point keeps its estimated place. The box is
    that of the `.rct` file (x0 y0 x1 y1), or the tight box of the points where there is none. The official splits have
    20,000 faces (train) and 4,386 (test), and no subsets.

    Args:
        root: folder of train and test; for split all, of the files themselves.
        split: train, test or all.

    Raises:
        LabError: there is no file, or one is wrong (named with its line).
    """

    def __init__(self, root: str, split: str = "train") -> None:
        folder = check_root(root, "aflw")
        if split not in SPLITS:
            raise LabError(f"aflw has the splits {', '.join(SPLITS)}, not {split}")
        self.root = folder if split == "all" else folder / split
        self.name, self.scheme = f"aflw/{split}", AFLW19
        files = files_in(self.root, "*.pts")
        if not files:
            raise LabError(f"{self.root}: no .pts file of aflw; give the folder above train and test, or split all")
        self.faces = each(self._face, files)

    def _face(self, path: Path) -> Face:
        numbers = read_numbers(path, 3)
        if len(numbers) != AFLW19.num_points:
            raise LabError(f"{path}: {len(numbers)} points, expected {AFLW19.num_points}")
        if not np.isin(numbers[:, 2], (0, 1)).all():
            raise LabError(f"{path}: the third number of a line says visible, 1 or 0")
        beside = path.with_suffix(".rct")
        box = read_numbers(beside, 4)[0] if beside.is_file() else None
        seen = numbers[:, 2] == 1
        return make_face(photo_beside(path), numbers[:, :2], AFLW19, str(path), self.root, box=box, visible=seen)


def read_numbers(path: Path, columns: int, head: int = 0) -> np.ndarray:
    """Return the lines (N, columns) of a text file of numbers after the first `head` lines.

    Raises:
        LabError: the file cannot be read, is empty, or a line has other columns (named with its number).
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if number <= head or not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != columns or not np.isfinite(row).all():
            raise LabError(f"{path}:{number}: expected {columns} finite numbers, got '{line.strip()[:40]}'")
        rows.append(row)
    if not rows:
        raise LabError(f"{path}: is empty; copy it again")
    return np.array(rows)
