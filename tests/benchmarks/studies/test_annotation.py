"""No study counts points that are not annotated, wherever their garbage is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measure.made_up import make_task
from benchmarks.studies.dpr.ablation import stage_errors
from benchmarks.studies.sdu3d.evaluate import score_crops
from benchmarks.studies.sdu3d.poses import score
from benchmarks.studies.spiga.steps import step_errors
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.evaluation import batches, evaluate
from musica.exit.records import collect
from tests.common.evaluations import GARBAGE, HalfAnnotated


def of_poses(task: Any, crops: CroppedFaces) -> Any:
    return score(evaluate(task, crops))


def of_musica(task: Any, crops: CroppedFaces) -> Any:
    records = collect(task, batches(crops))
    return [records.nme, records.true]


STUDIES: dict[str, tuple[str, Callable[[Any, CroppedFaces], Any]]] = {
    "dpr stages": ("dpr", lambda task, crops: stage_errors(evaluate(task, crops))),
    "musica records": ("musica", of_musica),
    "sdu decoders": ("sdu3d", lambda task, crops: score_crops(task, crops.faces, crops.config)),
    "sdu poses": ("sdu3d", of_poses),
    "spiga steps": ("spiga", lambda task, crops: step_errors(task, crops, "test")),
}


def numbers(found: Any) -> np.ndarray:
    """Return all numbers of nested results."""
    if isinstance(found, dict):
        found = list(found.values())
    return np.concatenate([numbers(part) for part in found]) if isinstance(found, list) else np.ravel(found)


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_garbage_changes_nothing(name: str) -> None:
    method, study = STUDIES[name]
    torch.manual_seed(0)
    task = make_task(method, "smoke")
    results = []
    for garbage in (GARBAGE, -3 * GARBAGE):
        faces = HalfAnnotated(2, scheme="ibug68", seed=2)
        faces.garbage = garbage
        results.append(numbers(study(task, CroppedFaces(faces, CropConfig(size=task.input_size)))))
    assert np.isfinite(results[0]).all() and results[0].max() < GARBAGE / 10
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
