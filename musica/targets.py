"""The shape from which the cascade starts: the mean face of the training set in the crop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from common.data.base import FaceDataset
from common.data.crops import CropConfig, crop_box, draw_matrix
from common.data.synthetic import DRAWN, mean_face
from common.errors import LabError
from common.geometry import apply_affine, tight_box
from common.schemes import LandmarkScheme

BOX_SCALE = 1.6  # of the paper's crops: a margin of 0.3 of the box on every side


def mean_shape(faces: FaceDataset, crop: CropConfig, most: int) -> Tensor:
    """Return the mean (N, 2) row, column of a set's faces in the pixels of the crop without augmentation.

    Each landmark's mean is that of the faces in which it is annotated.

    Args:
        faces: the training faces.
        crop: how they are cropped.
        most: take so many of them at most, spread evenly (each one's photograph is decoded).

    Raises:
        LabError: a landmark is annotated in none of them.
    """
    rows = np.unique(np.linspace(0, len(faces) - 1, min(most, len(faces))).astype(int))
    total, count = np.zeros((faces.scheme.num_points, 2)), np.zeros((faces.scheme.num_points, 1))
    for row in rows.tolist():
        sample = faces[row]
        matrix, _ = draw_matrix(crop_box(sample, crop), crop.still(), None)
        known = np.ones(len(count)) if sample.annotated is None else sample.annotated.astype(np.float64)
        total += apply_affine(matrix, sample.points[:, :2].astype(np.float64)) * known[:, None]
        count += known[:, None]
    if not count.all():
        name = faces.scheme.names[int(np.flatnonzero(count == 0)[0])]
        raise LabError(f"data set {faces.name}: point {name} is annotated in no face that was looked at, so that the "
                       "cascade has no place to start from; raise --model.start_faces, or annotate it")  # fmt: skip
    return torch.from_numpy((total / count)[:, ::-1].astype(np.float32).copy())


def default_shape(scheme: LandmarkScheme, size: int) -> Tensor:
    """Return a first guess (N, 2) row, column, for a crop of `size` pixels, before any training set was seen.

    It is the drawn faces' mean where the drawing knows the scheme, else the crop's centre for every landmark.
    """
    if scheme.name not in DRAWN:
        return torch.full((scheme.num_points, 2), (size - 1) / 2)
    points = mean_face(scheme.name)[:, :2]
    matrix, _ = draw_matrix(tight_box(points), CropConfig(size=size, box_scale=BOX_SCALE), None)
    return torch.from_numpy(apply_affine(matrix, points)[:, ::-1].astype(np.float32))
