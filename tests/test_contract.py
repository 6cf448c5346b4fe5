"""What every registered method must keep: the next paper is tested by being registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.files.checkpoints import build, load_weights, read_state_dict
from common.files.recipes import read_recipe
from common.methods import METHODS
from common.task import LandmarkTask
from common.task import make_task as build_task
from common.types import FaceBatch


def make_task(name: str) -> LandmarkTask:
    """Return the method as its smoke recipe makes it."""
    method = METHODS[name]
    recipe = read_recipe(method.file(method.stages("smoke")[0]))
    torch.manual_seed(0)
    settings = {"scheme": recipe["data"]["scheme"], "input_size": recipe["data"]["crop"]["size"], **recipe["model"]}
    task = build_task(method.task_class(), settings, "recipe")
    assert isinstance(task, LandmarkTask)
    return task


def make_batch(task: LandmarkTask, count: int = 4) -> FaceBatch:
    faces = SyntheticFaces(count, scheme=task.scheme.name, seed=5)
    crops = CroppedFaces(faces, CropConfig(size=task.input_size))
    return Collate(faces.subset_names)([crops[i] for i in range(count)])


@pytest.fixture(params=sorted(METHODS))
def made(request: pytest.FixtureRequest) -> tuple[str, LandmarkTask, FaceBatch]:
    task = make_task(request.param)
    return request.param, task, make_batch(task)


def test_prediction_has_the_batch_s_shape_and_frame(made: tuple[str, LandmarkTask, FaceBatch]) -> None:
    _, task, batch = made
    task.eval()
    with torch.inference_mode():
        prediction = task.predict_batch(batch)
    assert prediction.points.shape == (4, task.scheme.num_points, 2)
    assert torch.isfinite(prediction.points).all()
    assert all(step.shape == prediction.points.shape for step in prediction.steps)
    margin = task.input_size / 2
    assert prediction.points.min() > -margin and prediction.points.max() < task.input_size + margin


def test_every_trained_parameter_gets_a_finite_gradient(made: tuple[str, LandmarkTask, FaceBatch]) -> None:
    _, task, batch = made
    task.train()
    parts = task.training_loss(batch)
    assert "loss" in parts and parts["loss"].ndim == 0
    parts["loss"].backward()
    trained = {id(p) for group in task.parameter_groups() for p in group["params"]}
    for name, parameter in task.named_parameters():
        if id(parameter) in trained:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite"


def test_a_batch_of_one_face_trains(made: tuple[str, LandmarkTask, FaceBatch]) -> None:
    """BatchNorm over one value would refuse it; the last batch of an epoch may hold one face."""
    _, task, _ = made
    task.train()
    loss = task.training_loss(make_batch(task, 1))["loss"]
    loss.backward()
    assert torch.isfinite(loss)


# Steps in which the loss on four faces must fall to 0.6; 12 where nothing is said. A cross-entropy over the cells (SDU)
# starts at log(cells) and cannot fall below its targets' entropy, about 0.4 of that; empty maps lower a squared error.
# It is at 0.6 after 61 steps; SPIGA's loss, a sum over stacks and heads, after 19.
STEPS = {"sdu3d": 70, "spiga": 20}


def test_it_can_learn_four_faces(made: tuple[str, LandmarkTask, FaceBatch]) -> None:
    name, task, batch = made
    task.train()
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=2e-3)
    losses: list[float] = []
    while len(losses) < STEPS.get(name, 12) and (not losses or losses[-1] >= 0.6 * losses[0]):
        optimizer.zero_grad()
        loss = task.training_loss(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_checkpoint_round_trip(made: tuple[str, LandmarkTask, FaceBatch], tmp_path: Path) -> None:
    name, task, batch = made
    task.eval()
    path = tmp_path / "task.ckpt"
    content: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": task.settings()}
    torch.save(content, path)
    hyper = torch.load(path, weights_only=True)["hyper_parameters"]
    again = build(type(task), hyper, path)
    load_weights(again, read_state_dict(path), str(path))
    again.eval()
    with torch.inference_mode():
        assert torch.equal(task.predict_batch(batch).points, again.predict_batch(batch).points)


def test_predictions_do_not_depend_on_the_batch(made: tuple[str, LandmarkTask, FaceBatch]) -> None:
    """One face alone gets the answer that it gets among others (no batch statistics at inference)."""
    _, task, batch = made
    task.eval()
    single = FaceBatch(**{k: v[:1] if k != "subset_names" else v for k, v in vars(batch).items()})
    with torch.inference_mode():
        first, alone = task.predict_batch(batch), task.predict_batch(single)
    assert (first.points[:1] - alone.points).norm(dim=-1).median() < 0.05


def test_points_are_in_float32_whatever_the_trainer_s_precision(made: tuple[str, LandmarkTask, FaceBatch]) -> None:
    """Validation, test and prediction leave the autocast that a trainer of bf16-mixed puts round them."""
    _, task, batch = made
    task.eval()
    with torch.inference_mode():
        plain = task.to_image_pixels(task.predict_batch(batch).points, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tested, predicted = task.test_step(batch, 0), task.predict_step(batch, 0)["points"]
    assert (predicted - plain).abs().max() < 1e-2
    assert (task.to_image_pixels(tested.points, batch) - plain).abs().max() < 1e-2
    assert abs(task.faces.result().points - plain.numpy()).max() < 1e-2


def test_recipes_exist_and_name_a_known_data_set() -> None:
    from common.data.datamodule import DATASETS

    for method in METHODS.values():
        for recipe in (stage for name in method.recipes for stage in method.stages(name)):
            content = read_recipe(method.file(recipe))
            assert content["data"]["dataset"] in DATASETS, recipe
