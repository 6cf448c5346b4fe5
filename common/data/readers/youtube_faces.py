"""YouTube Faces keypoints: a CSV of 68 machine-made points a frame, weak labels (a course of Udacity)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from common.data.base import Once, check_root, each
from common.data.readers._listed import Face, ListedFaces, make_face, one_in
from common.errors import LabError
from common.files.validation import read_text
from common.schemes import IBUG68

# Split -> table and folder. The course's test frames are frames of the training clips: no test of generalisation.
TABLES = {"train": ("training_frames_keypoints.csv", "training"), "val": ("training_frames_keypoints.csv", "training"),
          "test": ("test_frames_keypoints.csv", "test")}  # fmt: skip
VAL_SHARE = 10  # one person in this many is kept for validation
L = IBUG68.num_points


class YouTubeFaces(ListedFaces):
    """The course's tables: a name and 136 numbers x y x y ... a line, beside the folders of frames.

    Coordinates are taken as they are, 0-based whole pixels; all points count as visible; the box is their tight box.
    Validation takes whole persons out of the training table, by the frames' names. No subsets.

    Args:
        root: folder of the tables.
        split: train, val or test.

    Raises:
        LabError: the table is missing, or a line or a frame is missing or wrong (named with its line).
    """

    def __init__(self, root: str, split: str = "train") -> None:
        self.root = check_root(root, "youtube_faces")
        if split not in TABLES:
            raise LabError(f"youtube_faces has the splits {', '.join(TABLES)}, not {split}")
        self.name, self.scheme = f"youtube_faces/{split}", IBUG68
        table, self.folder = self.root / TABLES[split][0], self.root / TABLES[split][1]
        rows: list[tuple[str, list[str]]] = []
        lines = csv.reader(io.StringIO(read_text(table, "give the folder of the course's tables")), strict=True)
        try:
            for words in lines:
                if lines.line_num > 1 and words:
                    rows.append((f"{table}:{lines.line_num}", words))
        except csv.Error as error:
            raise LabError(f"{table}:{lines.line_num}: is not valid CSV ({error}); copy it again") from None
        if split != "test":
            rows = [row for row in rows if one_in(person_of(row[1][0]), VAL_SHARE) == (split == "val")]
        once = Once()
        self.faces = each(lambda row: self._face(*row, once), rows)

    def _face(self, where: str, row: list[str], once: Once) -> Face:
        name, *words = row
        if len(words) != 2 * L:
            raise LabError(f"{where}: {len(words)} numbers, expected {2 * L} after the frame's name")
        try:
            points = np.array([float(word) for word in words]).reshape(L, 2)
        except ValueError as error:
            raise LabError(f"{where}: {error}") from None
        once.check(where, name, points)
        return make_face(self.folder / name, points, self.scheme, where, self.root)


def person_of(name: str) -> str:
    """Return the person of a frame's name such as Luis_Fonsi_21.jpg."""
    return Path(name).stem.rpartition("_")[0]
