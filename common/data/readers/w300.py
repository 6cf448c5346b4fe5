"""300W: folders of photographs with a `.pts` file of 68 points beside each (Sagonas et al., ICCV workshops 2013)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, check_box, check_points, check_root, each, files_in, other_form
from common.data.readers._pts import read_pts
from common.errors import LabError
from common.files.images import read_image
from common.geometry import tight_box
from common.schemes import IBUG68
from common.types import FaceSample

IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".bmp")
# Folder -> subset. Training is AFW and the two trainsets (3,148 faces); common + challenge = full (689 faces); public
# is both (3,837 faces), which the private test leaves for training.
SPLITS: dict[str, dict[str, str]] = {
    "train": {"afw": "afw", "helen/trainset": "helen", "lfpw/trainset": "lfpw"},
    "common": {"helen/testset": "common", "lfpw/testset": "common"},
    "challenge": {"ibug": "challenge"},
    "full": {"helen/testset": "common", "lfpw/testset": "common", "ibug": "challenge"},
    "public": {"afw": "afw", "helen/trainset": "helen", "lfpw/trainset": "lfpw", "helen/testset": "helen",
               "lfpw/testset": "lfpw", "ibug": "challenge"},
    "private": {"300W/01_Indoor": "indoor", "300W/02_Outdoor": "outdoor"},
}  # fmt: skip


class W300(FaceDataset):
    """300W in its published tree: afw, helen, lfpw, ibug, and 300W for the private test.

    Points are read 1-based and returned 0-based; the box is their tight box; all count as visible.
    Splits and subsets with their official counts: train 3,148 (afw 337, helen 2,000, lfpw 811), full 689 (common 554,
    challenge 135), public 3,837, private 600 (indoor 300, outdoor 300).

    Args:
        root: folder that holds the folders above.
        split: train, common, challenge, full, public or private.
        headerless: accept `.pts` files without their header lines.
        allow_missing: read a part of the set, whichever of the split's folders are there.

    Raises:
        LabError: a folder, a photograph or a landmark file is missing, or a file is wrong.
    """

    def __init__(self, root: str, split: str = "train", headerless: bool = False, allow_missing: bool = False) -> None:
        folder = check_root(root, "w300")
        if split not in SPLITS:
            raise LabError(f"w300 has the splits {', '.join(SPLITS)}, not {split}")
        self.name, self.scheme = f"w300/{split}", IBUG68
        self.subset_names = tuple(dict.fromkeys(SPLITS[split].values()))
        self.root, self.headerless = folder, headerless
        found: list[tuple[Path | None, Path | None, str]] = []
        for part, subset in SPLITS[split].items():
            if not (folder / part).is_dir():
                if allow_missing:
                    continue
                raise LabError(f"{folder / part}: folder is missing; split {split} of w300 needs it")
            found += [(image, pts, subset) for image, pts in _pairs(folder / part)]
        read = each(self._read_face, found)
        self.items, self.points = [item for item, _ in read], [points for _, points in read]

    def _read_face(self, found: tuple[Path | None, Path | None, str]) -> tuple[tuple[Path, Path, str], np.ndarray]:
        image, path, subset = found
        if image is None or path is None:
            wanted, there = "its photograph" if image is None else "its .pts file", path or image
            if there is not None and (twin := other_form(there)):
                raise LabError(f"{there}: {wanted} is missing; {twin.name} looks the same in another Unicode form, "
                               "rename one of them")  # fmt: skip
            raise LabError(f"{there}: {wanted} is missing; is the data set complete?")
        points = read_pts(path, self.scheme.num_points, self.headerless) - 1
        return (image, path, subset), check_points(points, self.scheme, str(path))

    def __len__(self) -> int:
        return len(self.items)

    def shapes(self) -> np.ndarray:
        return np.stack(self.points)

    def __getitem__(self, index: int) -> FaceSample:
        image, pts, subset = self.items[index]
        points = self.points[index]
        return FaceSample(
            image=read_image(image),
            points=points,
            visible=np.ones(len(points), dtype=bool),
            box=check_box(tight_box(points), str(pts)),
            subsets=(subset,),
            id=image.relative_to(self.root).as_posix(),
        )


def _pairs(folder: Path) -> list[tuple[Path | None, Path | None]]:
    """Return (photograph, landmark file) of a folder by name; None for one that is missing."""
    landmarks = {path.stem: path for path in files_in(folder, "*.pts")}
    images: dict[str, Path] = {}
    for path in files_in(folder, "*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and images.setdefault(path.stem, path) != path:
            raise LabError(f"{images[path.stem]} and {path.name}: two photographs of one name; keep one")
    return [(images.get(stem), landmarks.get(stem)) for stem in sorted(landmarks.keys() | images.keys())]
