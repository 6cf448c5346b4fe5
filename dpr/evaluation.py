"""Scores of a trained network on a split of its data: GSR's and GLSR's landmarks of the same faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from common.data.batching import Collate
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.errors import LabError
from common.geometry import apply_affine
from common.metrics.functional import nme, point_errors
from common.types import FaceBatch
from dpr.module import DprTask

EVAL_BATCH = 42
STAGE_NAMES = ("gsr", "glsr")  # the order of a prediction's steps


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a run, or a recipe.

    Raises:
        LabError: the file is missing, no YAML, or names no data.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such configuration; give the config.yaml of the run")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content["data"], dict):
            raise TypeError
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise LabError(f"{path}: names no data; give the config.yaml of the run") from None
    return dict(content)


def load_data(config: Path, root: str | None = None) -> FaceDataModule:
    """Return the data of a configuration; `root` overrides its folder.

    Raises:
        LabError: see `read_config`.
    """
    content = dict(read_config(config)["data"])
    content["crop"] = CropConfig(**(content.get("crop") or {}))
    if root is not None:
        content["root"] = root
    return FaceDataModule(**content)


def batches(data: FaceDataModule, split: str, size: int = EVAL_BATCH) -> Iterator[FaceBatch]:
    """Yield the faces of a split (train, val, test), cropped without augmentation, in order."""
    cropped = data.cropped(split)
    collate = Collate(cropped.faces.subset_names)
    for first in range(0, len(cropped), size):
        yield collate([cropped[row] for row in range(first, min(first + size, len(cropped)))])


@torch.inference_mode()
def face_errors(task: DprTask, data: FaceDataModule, split: str) -> dict[str, np.ndarray]:
    """Return the NME of each face (N,) in percent, by stage: gsr, and glsr where the local stage has learnt."""
    found: dict[str, list[np.ndarray]] = {}
    for batch in batches(data, split):
        for name, points in zip(STAGE_NAMES, task.predict_batch(batch).steps, strict=False):
            there = apply_affine(batch.to_image.double(), points.double()).numpy()
            errors = point_errors(there, batch.image_points[..., :2].numpy(), batch.norm.numpy())
            found.setdefault(name, []).append(nme(errors, batch.weight.numpy()))
    if not found:
        raise LabError(f"split {split} of {data.dataset} holds no face")
    return {name: np.concatenate(values) for name, values in found.items()}
