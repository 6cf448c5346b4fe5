"""Landmarks with depth: x and y in image pixels, z in the same unit towards the viewer, relative to the face's mean.

Depth has no natural zero in a photograph, so every 3D data set answers z with mean 0 over the face's landmarks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from common.data.base import FaceDataset, own_norm
from common.types import FaceSample


def centre_depth(points: np.ndarray) -> np.ndarray:
    """Return points (..., L, 3) with z moved to mean 0 over the landmarks."""
    moved = points.copy()
    moved[..., 2] -= moved[..., 2].mean(axis=-1, keepdims=True)
    return moved


class WithDepth(FaceDataset):
    """Another data set's faces with 3D landmarks (L, 3) in place of 2D ones.

    Args:
        faces: a data set that offers `points3d(index)`.
    """

    def __init__(self, faces: FaceDataset) -> None:
        self.faces = faces
        self.name, self.scheme, self.subset_names = f"{faces.name}-3d", faces.scheme, faces.subset_names

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        return replace(sample, points=centre_depth(self.faces.points3d(index)).astype(np.float32))


class ByBox(FaceDataset):
    """Another data set's faces, whose errors are divided by the root of the area of the landmarks' tight box."""

    def __init__(self, faces: FaceDataset) -> None:
        self.faces = faces
        self.name, self.scheme, self.subset_names = faces.name, faces.scheme, faces.subset_names

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        known = np.ones(len(sample.points), bool) if sample.annotated is None else sample.annotated
        return replace(sample, norm=own_norm(sample.points[:, :2], known, self.scheme, "box", sample.id))

    def shapes(self) -> np.ndarray | None:
        return self.faces.shapes()


class CachedFaces(FaceDataset):
    """Keeps the samples of another data set in memory once they were asked for."""

    def __init__(self, faces: FaceDataset) -> None:
        self.faces = faces
        self.name, self.scheme, self.subset_names = faces.name, faces.scheme, faces.subset_names
        self._kept: dict[int, FaceSample] = {}

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> FaceSample:
        if index not in self._kept:
            self._kept[index] = self.faces[index]
        return self._kept[index]

    def shapes(self) -> np.ndarray | None:
        return self.faces.shapes()

    def points3d(self, index: int) -> np.ndarray:
        return self.faces.points3d(index)
