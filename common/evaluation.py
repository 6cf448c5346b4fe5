"""The one way from a trained method and a split to errors: `evaluate(model, data, split) -> Evaluation`.

Training's own test collects in the same way (`LandmarkTask.test_step`); benchmarks and studies call this function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from common.data.base import FaceDataset, begin_worker
from common.data.batching import Collate, CroppedFaces
from common.data.crops import crop_box
from common.data.datamodule import FaceDataModule
from common.data.options import upgrade
from common.errors import LabError
from common.files.checkpoints import build
from common.files.recipes import merged, read_recipe
from common.metrics.landmark import Evaluation, FaceCollector
from common.prediction.inference import Predictor
from common.schemes import LandmarkScheme
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction

__all__ = [
    "EVAL_BATCH",
    "Evaluation",
    "Faces",
    "batches",
    "evaluate",
    "evaluate_batches",
    "load_data",
    "read_config",
]

EVAL_BATCH = 32
SPLITS = ("train", "val", "test")
Faces = FaceDataModule | CroppedFaces  # a data module's split, or faces with their crop
Predict = Callable[[FaceBatch], Prediction]


def batches(data: Faces, split: str = "test", size: int = EVAL_BATCH, count: int | None = None) -> Iterator[FaceBatch]:
    """Yield the faces of a split, in the data set's order, cropped without augmentation.

    Args:
        data: a data module, or faces with their crop (then the split says nothing, and their augmentation stays).
        split: train, val or test.
        size: faces a batch.
        count: the first faces only.

    Raises:
        LabError: there is no such split.
    """
    workers = 0
    if isinstance(data, FaceDataModule):
        if split not in SPLITS:
            raise LabError(f"split must be one of {', '.join(SPLITS)}, got {split}")
        workers, data = data.num_workers, CroppedFaces(data.cropped(split).faces, data.crop.still())
    rows = range(min(len(data), count or len(data)))
    yield from DataLoader(
        data,  # type: ignore[arg-type]
        size,
        sampler=rows,
        num_workers=workers,
        worker_init_fn=begin_worker,
        collate_fn=Collate(data.faces.subset_names),
    )


def evaluate(
    model: LandmarkTask | Predictor,
    data: Faces | FaceDataset,
    split: str = "test",
    *,
    count: int | None = None,
    batch_size: int = EVAL_BATCH,
) -> Evaluation:
    """Predict a split and compare with its truth, in float32 or better.

    Args:
        model: a predictor, which crops faces as its weights were trained to see them; or a task, which gets the crops
            of the data.
        data: a data module; or faces with their crop; or, for a predictor, a data set.
        split: train, val or test of a data module.
        count: the first faces only.
        batch_size: faces a batch.

    Raises:
        LabError: there is no such split, the data do not fit the model, or a face has no annotated point.
    """
    if isinstance(model, LandmarkTask):
        if isinstance(data, FaceDataset):
            raise LabError(
                f"data set {data.name}: a task needs faces with their crop; give CroppedFaces or a Predictor"
            )
        return evaluate_batches(model, batches(data, split, batch_size, count))
    if not isinstance(data, FaceDataset):
        data = data.cropped(split).faces if isinstance(data, FaceDataModule) else data.faces
    crops = CroppedFaces(data, model.crop)
    if not model.photographs:
        faces = batches(crops, size=batch_size, count=count)
        return evaluate_batches(model.task, faces, model.fast, data.scheme, model.device)
    found, collate = FaceCollector(data.scheme), Collate(data.subset_names)
    for row in range(min(len(data), count or len(data))):
        sample = data[row]
        found.add(collate([crops[row]]), model(sample.image, crop_box(sample, model.crop)[None]), frame="image")
    return found.result()


@torch.inference_mode()
def evaluate_batches(
    task: LandmarkTask,
    faces: Iterable[FaceBatch],
    predict: Predict | None = None,
    scheme: LandmarkScheme | None = None,
    device: torch.device | None = None,
) -> Evaluation:
    """Predict batches of faces and compare with their truth, in float32 or better.

    Args:
        task: the method; it is left in evaluation mode.
        faces: batches.
        predict: what predicts a batch, crop pixels; default the task.
        scheme: of the true points, where it may be another than the task's; errors can then not be computed.
        device: where the faces go; default the task's.

    Raises:
        LabError: there is no face, the data do not fit the task, or a face has no annotated point.
    """
    task.eval()
    found = FaceCollector(scheme or task.scheme, task.threshold)
    for batch in faces:
        batch = batch.to(device or task.device)
        if scheme is None:
            task.check_batch(batch)
        with torch.autocast(batch.image.device.type, enabled=False):
            found.add(batch, (predict or task.predict_batch)(batch))
    return found.result()


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a run, or a recipe.

    Raises:
        LabError: the file is missing, no YAML, or names no data.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such configuration file; give the config.yaml of the run")
    content = read_recipe(path)
    if not isinstance(content.get("data"), dict):
        raise LabError(f"{path}: names no data; give the config.yaml of the run")
    return content


def load_data(
    config: Path, root: str | None = None, /, task: LandmarkTask | None = None, **changes: object
) -> FaceDataModule:
    """Return the data of a run's configuration or of a recipe.

    Args:
        config: the file.
        root: another folder of the data set.
        task: whose crops and scheme they must be.
        changes: other arguments of `FaceDataModule`; of a group, such as `crop`, those that change.

    Raises:
        LabError: see `read_config`; an argument is unknown, or the crops are not what the task was trained on.
    """
    content = merged(upgrade(read_config(config)["data"]), upgrade(changes))
    content |= {} if root is None else {"root": root}
    data = build(FaceDataModule, content, f"{config}: data")
    if task is not None and (data.crop.size != task.input_size or data.scheme != task.scheme.word):
        raise LabError(f"{config}: crops of {data.crop.size} px with scheme {data.landmarks.name}, but the checkpoint "
                       f"has {task.input_size} px and {task.scheme.name}")  # fmt: skip
    return data
