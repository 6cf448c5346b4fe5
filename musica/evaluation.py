"""From a checkpoint and a recipe's data to per-face records: errors, predicted errors, milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.errors import LabError
from common.geometry import apply_affine
from common.metrics.functional import nme, point_errors
from common.types import FaceBatch
from musica.loss import landmark_error
from musica.module import MusicaTask

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Records:
    """Results of the full cascade on a split; T iterations, n faces.

    Attributes:
        nme: (n, T) percent of the outer eye corners' distance, image pixels.
        true: (n, T) landmark error in the unit of the predicted error.
        predicted: (n, T) predicted error.
        ids: names of the faces.
    """

    nme: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    ids: list[str]


def load_data(config: Path, root: str | None, task: MusicaTask) -> FaceDataModule:
    """Return the data of a recipe; `root` overrides its folder.

    Raises:
        LabError: the recipe is missing or its crop is not what the task was trained on.
    """
    if not config.is_file():
        raise LabError(f"{config}: no such configuration file")
    content = dict(yaml.safe_load(config.read_text(encoding="utf-8"))["data"])
    content["crop"] = CropConfig(**content.get("crop", {}))
    if root is not None:
        content["root"] = root
    data = FaceDataModule(**content)
    if data.crop.size != task.input_size or data.scheme != task.scheme.name:
        raise LabError(f"{config}: crops of {data.crop.size} px with scheme {data.scheme}, but the checkpoint has "
                       f"{task.input_size} px and {task.scheme.name}")  # fmt: skip
    return data


def batches(data: FaceDataModule, split: str, size: int) -> Iterator[FaceBatch]:
    """Yield the faces of a split, cropped without augmentation, in order."""
    if split not in SPLITS:
        raise LabError(f"split must be one of {', '.join(SPLITS)}, got {split}")
    yield from _collated(data.cropped(split), size)


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
        yield from _collated(augmented, size)


def _collated(cropped: CroppedFaces, size: int) -> Iterator[FaceBatch]:
    collate = Collate(cropped.faces.subset_names)
    for first in range(0, len(cropped), size):
        yield collate(cropped.__getitems__(range(first, min(first + size, len(cropped)))))


def collect(task: MusicaTask, faces: Iterable[FaceBatch]) -> Records:
    """Run all iterations on all faces."""
    nmes, true, predicted, ids = [], [], [], []
    task.policy = None
    for batch in faces:
        with torch.inference_mode():
            run = task.run_cascade(batch)
            truth = batch.points[..., :2].flip(-1)
            true.append(torch.stack([landmark_error(p, truth, task.scheme.corners) for p in run.points], 1).numpy())
        predicted.append(torch.stack(run.errors, 1).numpy())
        columns = []
        for points in run.points:
            found = apply_affine(batch.to_image.double(), points.flip(-1).double()).numpy()
            columns.append(nme(point_errors(found, batch.image_points[..., :2].numpy(), batch.norm.numpy())))
        nmes.append(np.stack(columns, 1))
        ids += batch.ids
    return Records(np.concatenate(nmes), np.concatenate(true), np.concatenate(predicted), ids)


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
