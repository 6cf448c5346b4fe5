"""What is timed without trained weights: a recipe's task with random weights, and a batch of drawn faces."""

from __future__ import annotations

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.files.recipes import read_recipe
from common.methods import METHODS
from common.task import LandmarkTask
from common.task import make_task as build_task
from common.types import FaceBatch

STEP_FACES = 8  # faces in a timed training step


def made_up_batch(task: LandmarkTask, faces: int = STEP_FACES) -> FaceBatch:
    """Return a batch of synthetic faces as a task's training takes it."""
    drawn = SyntheticFaces(faces, scheme=task.scheme.name)
    crops = CroppedFaces(drawn, CropConfig(size=task.input_size))
    return Collate(drawn.subset_names)([crops[index] for index in range(faces)])


def make_task(name: str, recipe: str, stage: int = -1) -> LandmarkTask:
    """Return a method's task as a stage of a recipe, in general the last one, makes it, with random weights."""
    method = METHODS[name]
    content = read_recipe(method.file(method.stages(recipe)[stage]))
    data = content["data"]
    size = data.get("crop", {}).get("size", CropConfig.size)
    settings = {"scheme": data["scheme"], "input_size": size, **content["model"]}
    return build_task(method.task_class(), settings, method.stages(recipe)[stage])
