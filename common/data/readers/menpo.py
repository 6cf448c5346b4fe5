"""Menpo 2D: 6,679 half-frontal faces with 68 points, 2,300 profiles with 39 (Zafeiriou et al., CVPRW 2017)."""

from __future__ import annotations

from pathlib import Path

from common.data.base import check_root, each, files_in
from common.data.readers._listed import Face, ListedFaces, make_face, one_in, photo_beside
from common.data.readers._pts import read_pts
from common.errors import LabError
from common.files.validation import read_text
from common.schemes import IBUG68

SPLITS = ("train", "val", "all")
PROFILE = 39  # points of a profile face, which has no place among the 68
VAL_SHARE = 20  # one face in this many is kept for validation; the organisers kept the test's annotation


class Menpo(ListedFaces):
    """Menpo's training set: `NAME.jpg` beside `NAME.pts`, at any depth below the folder.

    Points are read 1-based and returned 0-based; the box is their tight box; all count as visible. Profiles are left
    out, and `profiles` says how many. No subsets; the split is this project's.

    Args:
        root: folder of the set.
        split: train, val (one face in twenty) or all.

    Raises:
        LabError: there is no landmark file, the split is unknown, or a photograph or a file is missing or wrong.
    """

    def __init__(self, root: str, split: str = "train") -> None:
        self.root = check_root(root, "menpo")
        if split not in SPLITS:
            raise LabError(f"menpo has the splits {', '.join(SPLITS)}, not {split}")
        self.name, self.scheme = f"menpo/{split}", IBUG68
        files = files_in(self.root, "**/*.pts")
        if not files:
            raise LabError(f"{self.root}: no .pts file below it; give Menpo's folder")
        chosen = [path for path in files if split == "all" or one_in(path.stem, VAL_SHARE) == (split == "val")]
        frontal = [path for path in chosen if not _is_profile(path)]
        self.profiles = len(chosen) - len(frontal)
        self.faces = each(self._face, frontal)

    def _face(self, path: Path) -> Face:
        points = read_pts(path, self.scheme.num_points) - 1
        return make_face(photo_beside(path), points, self.scheme, str(path), self.root)


def _is_profile(path: Path) -> bool:
    lines = (line.partition(":") for line in read_text(path).splitlines()[:3])
    return any(key.strip() == "n_points" and value.strip() == str(PROFILE) for key, _, value in lines)
