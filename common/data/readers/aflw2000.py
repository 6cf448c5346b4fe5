"""AFLW2000-3D: 2,000 photographs of 450 pixels with 68 fitted 3D landmarks each (Zhu et al., CVPR 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, check_box, check_points, check_root, files_in
from common.data.readers._mat import head_pose, landmarks, read_mat
from common.data.wrappers import centre_depth
from common.errors import LabError
from common.files.images import read_image
from common.geometry import tight_box
from common.schemes import IBUG68
from common.types import FaceSample

FOLDER = "AFLW2000"
YAW_BINS = {"yaw_0_30": (0.0, 30.0), "yaw_30_60": (30.0, 60.0), "yaw_60_90": (60.0, np.inf)}  # of the absolute yaw


def yaw_subset(yaw: float) -> str:
    """Return the name of the bin that an angle in degrees falls into; each bin holds its lower end."""
    return next(name for name, (low, high) in YAW_BINS.items() if low <= abs(yaw) < high)


class AFLW2000(FaceDataset):
    """AFLW2000-3D, a test set: `NAME.jpg` beside `NAME.mat` with pt3d_68 and Pose_Para.

    Points are read 1-based and returned 0-based; hidden points keep their projected place and count as visible. The box
    is the tight box of the landmarks. Subsets are bins of the absolute yaw; the field reports the mean of the three
    bins' figures as well as the mean over all faces, and the two differ.

    Args:
        root: the set's folder, or the one above it.
        dims: 2 for x and y, 3 for x, y and z (see `common.data.wrappers`).

    Raises:
        LabError: the folder has no annotation, or a file is missing or wrong.
    """

    subset_names = tuple(YAW_BINS)

    def __init__(self, root: str, dims: int = 2) -> None:
        folder = check_root(root, "aflw2000")
        self.root = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        if dims not in (2, 3):
            raise LabError(f"aflw2000 has 2 or 3 coordinates a landmark, not {dims}")
        self.name, self.scheme, self.dims = "aflw2000", IBUG68, dims
        self.files = files_in(self.root, "*.mat")
        if not self.files:
            raise LabError(f"{self.root}: no .mat file; give the folder that holds {FOLDER}")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> FaceSample:
        path = self.files[index]
        return read_face(path, read_mat(path), "pt3d_68", self.dims, self.root)


def read_face(path: Path, content: dict[str, np.ndarray], name: str, dims: int, root: Path) -> FaceSample:
    """Return the face of an annotation with its photograph beside it.

    Args:
        path: the .mat file.
        content: its arrays.
        name: the array of landmarks; (3, L) where its name says so, else (2, L).
        dims: coordinates to return.
        root: folder that the face's name starts from.

    Raises:
        LabError: an array or the photograph is missing or wrong.
    """
    points = landmarks(content, name, path, 3 if name.startswith("pt3d") else 2)
    points = check_points(centre_depth(points) if dims == 3 else points[:, :2], IBUG68, f"{path}: {name}")
    pose = head_pose(content, path)
    return FaceSample(
        image=read_image(path.with_suffix(".jpg")),
        points=points,
        visible=np.ones(len(points), dtype=bool),
        box=check_box(tight_box(points), str(path)),
        pose=pose,
        subsets=(yaw_subset(float(pose[0])),),
        id=path.relative_to(root).with_suffix(".jpg").as_posix(),
    )
