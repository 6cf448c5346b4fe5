"""Records of each face at each iteration: errors, predicted errors, milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from common.data.batching import CroppedFaces
from common.data.datamodule import FaceDataModule
from common.evaluation import batches, evaluate_batches
from common.types import FaceBatch, Prediction
from musica.loss import landmark_error
from musica.module import MusicaTask


@dataclass(frozen=True)
class Records:
    """Results of the full cascade on a split; T iterations, n faces.

    Attributes:
        nme: (n, T) percent of the data set's normaliser.
        true: (n, T) landmark error in the unit of the predicted error.
        predicted: (n, T) predicted error.
        ids: names of the faces.
    """

    nme: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    ids: list[str]


def augmented_batches(data: FaceDataModule, split: str, size: int, copies: int, share: float) -> Iterator[FaceBatch]:
    """Yield the faces of a split `copies` times, each time with other small random changes of the crop.

    Args:
        data: the data; its training crop says which changes there are.
        split: train, val or test.
        size: faces a batch.
        copies: how often.
        share: how much of the training crop's rotation, scale, shift, shear and stretch; mirroring stays as likely.
    """
    crop = data.crop
    less = {name: share * getattr(crop, name) for name in ("rotation", "scale", "shift", "shear", "stretch")}
    augmented = CroppedFaces(data.cropped(split).faces, replace(crop, **less), data.seed)
    for copy in range(copies):
        augmented.set_epoch(copy)
        yield from batches(augmented, size=size)


def collect(task: MusicaTask, faces: Iterable[FaceBatch]) -> Records:
    """Run all iterations on all faces."""
    true: list[np.ndarray] = []
    predicted: list[np.ndarray] = []
    task.policy = None

    def predict(batch: FaceBatch) -> Prediction:
        run = task.run_cascade(batch)
        truth, corners = batch.points[..., :2].flip(-1), task.scheme.corners
        errors = [landmark_error(points, truth, corners, weight=batch.weight) for points in run.points]
        true.append(torch.stack(errors, 1).cpu().numpy())
        predicted.append(torch.stack(run.errors, 1).cpu().numpy())
        return task.prediction(run)

    found = evaluate_batches(task, faces, predict)
    return Records(found.step_nme, np.concatenate(true), np.concatenate(predicted), list(found.ids))


def milliseconds(
    runs: Sequence[tuple[MusicaTask, Sequence[float] | None]], images: Tensor, batch: int, repeats: int
) -> list[float]:
    """Return the ms a face of each task with its exit rule, at a batch size: pyramid, patches, all of it.

    They take turns, so that other work on the machine touches all alike; medians over the passes after a first one.

    Args:
        runs: tasks and the thresholds they run with; None for no exit.
        images: (n, 3, S, S) uint8.
        batch: faces a call.
        repeats: passes over all faces.
    """
    chunks = [chunk for chunk in images.split(batch) if len(chunk) == batch] or [images]
    times: list[list[float]] = [[] for _ in runs]
    with torch.inference_mode():
        for _ in range(1 + repeats):
            for own, (task, exit_below) in zip(times, runs, strict=True):
                passed = 0.0
                for chunk in chunks:
                    start = time.perf_counter()
                    task.run_crops(chunk, exit_below=exit_below)
                    passed += time.perf_counter() - start
                own.append(1000 * passed / sum(len(chunk) for chunk in chunks))
    return [statistics.median(own[1:]) for own in times]
