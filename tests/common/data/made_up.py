"""Faces without a picture worth reading, for tests of what is above readers."""

from __future__ import annotations

import numpy as np

from common.data.base import FaceDataset
from common.schemes import get_scheme
from common.types import FaceSample


class Flat(FaceDataset):
    """Faces of a gray picture, told apart by their ids."""

    def __init__(self, count: int, scheme: str = "ibug68") -> None:
        self.name, self.scheme, self.count = "flat", get_scheme(scheme), count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> FaceSample:
        points = np.random.default_rng(index).uniform(10, 50, (self.scheme.num_points, 2)).astype(np.float32)
        return FaceSample(
            image=np.full((64, 64, 3), 127, np.uint8),
            points=points,
            visible=np.ones(len(points), bool),
            box=np.array([8, 8, 52, 52], np.float32),
            id=str(index),
        )
