"""COFW68: the 507 test faces of COFW with 68 points and their occlusion (Ghiasi and Fowlkes, CVPR 2014)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, check_box, check_points, check_root, each, files_in
from common.data.readers._mat import MATLAB_FIRST, read_mat
from common.data.readers.cofw import COFW
from common.errors import LabError
from common.schemes import IBUG68
from common.types import FaceSample

FOLDER, BOXES = "COFW68_Data", "cofw68_test_bboxes.mat"


class COFW68(FaceDataset):
    """COFW68, a test set: COFW68_Data/test_annotations/N_points.mat beside COFW_test_color.mat, whose face N it is.

    Points are read 1-based and returned 0-based; Occ is 1 for a hidden point, which keeps its estimated place. Boxes
    are those of cofw68_test_bboxes.mat (x, y, width, height), or COFW's own where that file is missing. No subsets.

    Args:
        root: folder of COFW68_Data and of the photographs' file.
        photos: name of the photographs' file, in the format of COFW's test file.

    Raises:
        LabError: a file is missing or wrong, or there is no annotation.
    """

    def __init__(self, root: str, photos: str = "COFW_test_color.mat") -> None:
        folder = check_root(root, "cofw68")
        self.name, self.scheme = "cofw68/test", IBUG68
        self.photos = COFW(root, str(folder / photos))
        listed = folder / FOLDER / BOXES
        self.boxes = self._read_boxes(listed) if listed.is_file() else None
        annotations = folder / FOLDER / "test_annotations"
        files = {path.name.partition("_")[0]: path for path in files_in(annotations, "*_points.mat")}
        numbers = sorted(int(name) for name in files if name.isascii() and name.isdigit())
        if not numbers:
            raise LabError(f"{annotations}: no N_points.mat; give the folder of {FOLDER}")

        def face(number: int) -> tuple[int, np.ndarray, np.ndarray]:
            path = files[str(number)]
            points, hidden = self._annotation(path)
            if not 1 <= number <= len(self.photos):
                raise LabError(f"{path}: face {number}, but {self.photos.path} has {len(self.photos)}")
            return number, points, ~hidden

        self.rows = each(face, numbers)

    def _annotation(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        content, count = read_mat(path), self.scheme.num_points
        points, hidden = content.get("Points"), content.get("Occ")
        if points is None or hidden is None or points.shape != (count, 2) or hidden.size != count:
            raise LabError(f"{path}: needs Points ({count}, 2) and Occ ({count}); it has "
                           f"{', '.join(content) or 'none'}")  # fmt: skip
        return check_points(points.astype(np.float64) - MATLAB_FIRST, self.scheme, str(path)), hidden.ravel() != 0

    def _read_boxes(self, path: Path) -> np.ndarray:
        boxes = read_mat(path).get("bboxes")
        if boxes is None or boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) < len(self.photos):
            raise LabError(f"{path}: needs bboxes ({len(self.photos)}, 4): x, y, width, height")
        low = boxes[:, :2].astype(np.float64) - MATLAB_FIRST
        return np.concatenate([low, low + boxes[:, 2:]], axis=1)

    def __len__(self) -> int:
        return len(self.rows)

    def shapes(self) -> np.ndarray:
        return np.array([points for _, points, _ in self.rows])

    def __getitem__(self, index: int) -> FaceSample:
        number, points, visible = self.rows[index]
        sample = self.photos[number - 1]
        box = sample.box if self.boxes is None else check_box(self.boxes[number - 1], f"cofw68: face {number}")
        return FaceSample(image=sample.image, points=points, visible=visible, box=box, id=f"cofw68/{number}")
