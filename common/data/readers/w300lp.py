"""300W-LP: photographs of 300W turned to large poses by a morphable model, 68 points each (Zhu et al., CVPR 2016)."""

from __future__ import annotations

import zlib

import numpy as np

from common.data.base import FaceDataset, check_root, files_in
from common.data.readers._mat import read_mat
from common.data.readers.aflw2000 import YAW_BINS, read_face
from common.errors import LabError
from common.schemes import IBUG68
from common.types import FaceSample

FOLDER = "300W_LP"
PARTS = ("AFW", "HELEN", "IBUG", "LFPW")
FLIPPED = "_Flip"
VAL_SHARE = 50  # one photograph in this many is kept for validation


def photo_of(stem: str) -> str:
    """Return the photograph that a file was turned from: IBUG_image_008_1_0 and .._1_7 come from IBUG_image_008_1."""
    return stem.rpartition("_")[0]


def is_validation(stem: str) -> bool:
    """Return whether a file belongs to validation; all turns of a photograph, and its mirrored ones, go together."""
    return zlib.crc32(photo_of(stem).encode()) % VAL_SHARE == 0


class W300LP(FaceDataset):
    """300W-LP in its published tree: AFW, AFW_Flip, HELEN, ..., with `NAME.jpg` beside `NAME.mat`.

    The files hold pt2d (2, 68), the projections that the model's fit gives, hidden points at their true place; depth
    is not in them (it needs the morphable model itself), unless pt3d_68 (3, 68) was added as in AFLW2000-3D. Points
    are read 1-based and returned 0-based; all count as visible, and the box is their tight box. The set has no official
    split; subsets are bins of the absolute yaw.

    Args:
        root: the set's folder, or the one above it.
        split: train, val (all turns of one photograph in fifty) or all.
        dims: 2, or 3 for files with pt3d_68 (see `common.data.wrappers`).
        flipped: use the mirrored copies too; augmentation mirrors anyway.

    Raises:
        LabError: no part is there, the split is unknown, or a file is missing or wrong.
    """

    subset_names = tuple(YAW_BINS)

    def __init__(self, root: str, split: str = "train", dims: int = 2, flipped: bool = False) -> None:
        folder = check_root(root, "w300lp")
        self.root = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        if split not in ("train", "val", "all"):
            raise LabError(f"w300lp has the splits train, val and all, not {split}")
        if dims not in (2, 3):
            raise LabError(f"w300lp has 2 or 3 coordinates a landmark, not {dims}")
        self.name, self.scheme, self.dims = f"w300lp/{split}", IBUG68, dims
        parts = [part + end for part in PARTS for end in (("", FLIPPED) if flipped else ("",))]
        found = [self.root / part for part in parts if (self.root / part).is_dir()]
        if not found:
            raise LabError(f"{self.root}: none of {', '.join(parts)} is there; give the folder that holds {FOLDER}")
        # Not read yet: the set has some 60,000 files, and a run needs their points only with their pictures.
        self.files = [
            path for part in found for path in files_in(part, "*.mat")
            if split == "all" or is_validation(path.stem) == (split == "val")
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> FaceSample:
        path = self.files[index]
        content = read_mat(path)
        if self.dims == 3 and "pt3d_68" not in content:
            raise LabError(f"{path}: array pt3d_68 is missing, so the face has no depth; use 2 coordinates, or add it")
        return read_face(path, content, "pt3d_68" if self.dims == 3 else "pt2d", self.dims, self.root)


def balanced_mean(figures: dict[str, float]) -> float:
    """Return the mean of the yaw bins' figures, each bin counted once; NaN when a bin has no face."""
    return float(np.mean([figures.get(name, np.nan) for name in YAW_BINS]))
