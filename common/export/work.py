"""What a method predicts from, crops or photographs: by its network, and by graphs that take its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.export.graph import Net, to_onnx
from common.export.method import CHECKED, check_batches, drawn_scheme, export_task
from common.export.runtime import GraphRunner, Session
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction

BESIDE = (6.0, -4.0, 10.0, 3.0)  # pixels by which the boxes of one drawn face differ


@dataclass(frozen=True)
class Photograph:
    """A picture with its faces.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, its pixels.
    """

    image: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.boxes)


Case = TypeVar("Case", FaceBatch, Photograph)
Run = Callable[[Case], Prediction]


class Work(Protocol[Case]):
    """A method's work.

    Attributes:
        task: the method with its weights.
        about: what its graphs depend on beside the task.
    """

    task: LandmarkTask
    about: str

    def cases(self, counts: tuple[int, ...] = CHECKED) -> list[Case]:
        """Return drawn faces, so many in each case, to compare and to time with."""

    def by_network(self, case: Case) -> Prediction:
        """Return what the network itself predicts."""

    def export(self) -> dict[str, bytes]:
        """Return the content of the graphs' files by names.

        Raises:
            LabError: see `to_onnx`.
        """

    def by_graphs(self, sessions: Mapping[str, Session]) -> Run[Case]:
        """Return what predicts by opened graphs."""


class CropWork:
    """One graph from crops to points.

    Args:
        task: the method with its weights.
        crop: the crop that it was trained on.
    """

    def __init__(self, task: LandmarkTask, crop: CropConfig) -> None:
        self.task, self.crop, self.about = task, crop, repr(crop)

    def cases(self, counts: tuple[int, ...] = CHECKED) -> list[FaceBatch]:
        return check_batches(self.task, self.crop, counts)

    def by_network(self, case: FaceBatch) -> Prediction:
        return self.task.predict_batch(case)

    def export(self) -> dict[str, bytes]:
        return {"": export_task(self.task, self.crop)}

    def by_graphs(self, sessions: Mapping[str, Session]) -> Run[FaceBatch]:
        return GraphRunner(sessions[""])


class PhotographWork:
    """Networks as graphs, inside a method's own way from a photograph to points.

    Args:
        task: the method with its weights.
        official: its way with official weights.
    """

    def __init__(self, task: LandmarkTask, official: bool) -> None:
        self.task, self.official, self.about = task, official, f"photographs, official: {official}"
        self.parts = task.photograph_parts(official)

    def cases(self, counts: tuple[int, ...] = CHECKED) -> list[Photograph]:
        faces = SyntheticFaces(len(counts), scheme=drawn_scheme(self.task), seed=11)
        samples = [faces[row] for row in range(len(counts))]
        return [Photograph(sample.image, sample.box + np.arange(count)[:, None] * np.array(BESIDE))
                for sample, count in zip(samples, counts, strict=True)]  # fmt: skip

    def by_network(self, case: Photograph) -> Prediction:
        return self._predict(case, None)

    def export(self) -> dict[str, bytes]:
        return {name: to_onnx(part.net, list(part.examples.values()), list(part.examples), part.outputs)
                for name, part in self.parts.items()}  # fmt: skip

    def by_graphs(self, sessions: Mapping[str, Session]) -> Run[Photograph]:
        nets = {name: session_net(session, self.parts[name].outputs) for name, session in sessions.items()}
        return lambda case: self._predict(case, nets)

    def _predict(self, case: Photograph, nets: Mapping[str, Net] | None) -> Prediction:
        predict = self.task.predict_official if self.official else self.task.predict_image
        return predict(case.image, case.boxes, nets)


def session_net(session: Session, outputs: tuple[str, ...]) -> Net:
    """Return an opened graph as a network: tensors in, tensors out."""

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        feeds = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(session.inputs, given, strict=True)}
        found = session(feeds)
        return tuple(torch.from_numpy(found[name]) for name in outputs)

    return run
