"""Small networks of every method whose points differ from face to face, with the crops that they see."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from common.data.crops import CropConfig
from common.files.recipes import read_recipe
from common.methods import METHODS
from common.task import LandmarkTask, make_task


def small_task(name: str, **changes: Any) -> LandmarkTask:
    """Return a method as the last stage of its smoke recipe makes it; `changes` replace settings, groups by keys."""
    method = METHODS[name]
    recipe = read_recipe(method.file(method.stages("smoke")[-1]))
    settings = {"scheme": recipe["data"]["scheme"], "input_size": recipe["data"]["crop"]["size"], **recipe["model"]}
    for key, value in changes.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    torch.manual_seed(0)
    return awake(make_task(method.task_class(), settings, "recipe"))


@torch.no_grad()
def awake(task: LandmarkTask) -> LandmarkTask:
    """Return the task with weights in place of zeros and running statistics of usual size, ready to predict."""
    for module in task.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in task.named_parameters():
        if ".decoder.layers" in name and parameter.ndim > 1:
            parameter.mul_(4)  # a cascade of graph attention hardly moves its points at first
        if parameter.ndim > 1 and not parameter.any():
            parameter.normal_(0, 0.02)
    return task.eval()


def crop_of(task: LandmarkTask) -> CropConfig:
    """Return the crop that a small task sees."""
    return CropConfig(size=task.input_size)
