"""MERL-RAV: 19,314 AFLW faces with 68 points and what hides each (Kumar et al., "LUVLi", CVPR 2020)."""

from __future__ import annotations

import math
from pathlib import Path

from common.data.base import check_root, each, files_in
from common.data.readers._listed import Face, ListedFaces, make_face, photo_beside
from common.data.readers._pts import read_pts, signed_points
from common.errors import LabError
from common.geometry import tight_box
from common.schemes import MERLRAV68

POSES = ("frontal", "left", "lefthalf", "right", "righthalf")
SPLITS = {"train": "trainset", "test": "testset"}  # 15,449 and 3,865 faces


class MerlRav(ListedFaces):
    """MERL-RAV as its authors' script lays it out: POSE/{trainset,testset}/NAME.jpg beside NAME.pts.

    Points are read 1-based and returned 0-based. A point that something else hides has its true place with a minus
    before both coordinates, and is answered as annotated and not visible; one that the head hides is -1 -1, and is not
    annotated. The box is the tight box of the annotated points, and errors are divided by the root of its area, as the
    authors do. The official splits have 15,449 faces (train) and 3,865 (test); subsets are the five poses.

    Args:
        root: folder of the poses, or the one above it (merl_rav_organized).
        split: train or test.

    Raises:
        LabError: no pose is there, the split is unknown, or a photograph or a landmark file is missing or wrong.
    """

    subset_names = POSES

    def __init__(self, root: str, split: str = "train") -> None:
        folder = check_root(root, "merlrav")
        inner = folder / "merl_rav_organized"
        self.root = inner if inner.is_dir() else folder
        if split not in SPLITS:
            raise LabError(f"merlrav has the splits {', '.join(SPLITS)}, not {split}")
        self.name, self.scheme = f"merlrav/{split}", MERLRAV68
        files = [(path, pose) for pose in POSES for path in files_in(self.root / pose / SPLITS[split], "*.pts")]
        if not files:
            raise LabError(f"{self.root}: no .pts file in {POSES[0]}/{SPLITS[split]} and the other poses' folders")

        def face(item: tuple[Path, str]) -> Face:
            path, pose = item
            places, known, seen = signed_points(read_pts(path, self.scheme.num_points))
            points = places - 1
            norm = None
            if known.any():
                x0, y0, x1, y1 = tight_box(points[known]).tolist()
                norm = math.sqrt((x1 - x0) * (y1 - y0)) or None
            return make_face(photo_beside(path), points, self.scheme, str(path), self.root, annotated=known,
                             visible=seen, norm=norm, subsets=(pose,))  # fmt: skip

        self.faces = each(face, files)
