"""LaPa: 22,168 faces with 106 points (Liu et al., "A New Dataset and Boundary-Attention ...", AAAI 2020)."""

from __future__ import annotations

from pathlib import Path

from common.data.base import check_root, each, files_in
from common.data.readers._listed import Face, ListedFaces, make_face, photo_beside
from common.data.readers.aflw19 import read_numbers
from common.errors import LabError
from common.schemes import LAPA106

SPLITS = ("train", "val", "test")  # 18,176, 2,000 and 2,000 faces


class LaPa(ListedFaces):
    """LaPa in its published tree: SPLIT/images/NAME.jpg and SPLIT/landmarks/NAME.txt, its first line the count.

    Coordinates are taken as they are, 0-based; all points are annotated and count as visible; the box is their tight
    box. The folder of labels, a segmentation, is not read. The official splits have 18,176, 2,000 and 2,000 faces; no
    subsets.

    Args:
        root: folder of train, val and test, or the one above it (LaPa).
        split: train, val or test.

    Raises:
        LabError: the split's folder is missing, or a photograph or a landmark file is missing or wrong.
    """

    def __init__(self, root: str, split: str = "train") -> None:
        folder = check_root(root, "lapa")
        self.root = folder / "LaPa" if (folder / "LaPa").is_dir() else folder
        if split not in SPLITS:
            raise LabError(f"lapa has the splits {', '.join(SPLITS)}, not {split}")
        self.name, self.scheme = f"lapa/{split}", LAPA106
        files = files_in(self.root / split / "landmarks", "*.txt")
        if not files:
            raise LabError(f"{self.root / split / 'landmarks'}: no .txt file; give the folder of train, val and test")
        self.faces = each(self._face, files)

    def _face(self, path: Path) -> Face:
        count, points = LAPA106.num_points, read_numbers(path, 2, head=1)
        if len(points) != count:
            raise LabError(f"{path}: {len(points)} points, expected {count}")
        image = photo_beside(path.parents[1] / "images" / path.name)
        return make_face(image, points, self.scheme, str(path), self.root)
