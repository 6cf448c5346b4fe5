"""Evaluations and methods that tests make up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from common.data.synthetic.dataset import SyntheticFaces
from common.metrics.landmark import Evaluation
from common.schemes import IBUG68
from common.task import LandmarkTask
from common.types import FaceBatch, FaceSample, Prediction

GARBAGE = 1e4  # coordinate of a point that is not annotated
HIDDEN = slice(0, 20)  # points that `HalfAnnotated` does not annotate


def evaluation(nmes: np.ndarray, subsets: dict[str, np.ndarray], threshold: float = 10.0) -> Evaluation:
    """Return the evaluation of faces of 68 points whose errors (N,) in percent are given."""
    count = len(nmes)
    truth = np.zeros((count, 68, 2))
    return Evaluation(
        scheme=IBUG68,
        ids=tuple(map(str, range(count))),
        points=truth + np.stack([nmes, np.zeros(count)], axis=1)[:, None],
        truth=truth,
        weight=np.ones((count, 68)),
        norm=np.full(count, 100.0),
        subsets=subsets,
        steps=np.zeros((0, count, 68, 2)),
        score=None,
        pose=np.full((count, 3), np.nan),
        visible=np.ones((count, 68), bool),
        box=None,
        threshold=threshold,
    )


class Truth(LandmarkTask):
    """A method that knows the truth of annotated points, moved by `move` crop pixels; others it finds in the middle."""

    def __init__(self, scheme: str = "ibug68", input_size: int = 64, move: float = 0.0) -> None:
        super().__init__(scheme, input_size)
        self.move = move

    def network(self) -> nn.Module:
        return self

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        known = (batch.weight > 0)[..., None]
        points = torch.where(known, batch.points + torch.tensor([self.move, 0.0]), self.input_size / 2)
        score: Tensor = -batch.points.mean(-1)
        return Prediction(points=points, score=score, steps=[points, points])


class HalfAnnotated(SyntheticFaces):
    """Synthetic faces of which the first points are not annotated and hold garbage."""

    garbage = GARBAGE

    def __getitem__(self, index: int) -> FaceSample:
        sample = super().__getitem__(index)
        points, annotated = sample.points.copy(), np.ones(len(sample.points), bool)
        points[HIDDEN], annotated[HIDDEN] = self.garbage, False
        return replace(sample, points=points, annotated=annotated)
