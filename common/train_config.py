"""How a method is trained: optimiser, schedule, moving average and photometric changes, the same words for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from common.data.augment import PhotometricAugment
from common.errors import check_ranges

ParameterGroup = dict[str, Any]  # as torch takes it: params, and what differs from the optimiser's own settings


@dataclass(frozen=True)
class TrainConfig:
    """Training of a network; each method brings its own defaults.

    Attributes:
        optimizer: rule of the steps.
        lr: learning rate.
        weight_decay: L2 penalty (decoupled with adamw).
        momentum: of rmsprop and sgd.
        schedule: multistep (factor `gamma` at `milestones`), cosine (to 0 at the last step) or constant.
        milestones: epochs at which the learning rate falls.
        gamma: factor of each fall.
        warmup_steps: optimiser steps of linear growth of the learning rate.
        ema: largest decay of a moving average of the weights, which validation, checkpoints and test use; None or 0
            for no average. In step n the decay is min(ema, (1 + n) / (10 + n)), so that the first steps are not held
            back by the initial weights.
        augment: colours, blur, noise and occluders; None for none.
        compile_net: compile what the training loss calls, before training; it takes a minute or more.
        channels_last: run the network in channels-last memory order, which is faster on most machines.

    Raises:
        LabError: a value is out of its range.
    """

    optimizer: Literal["rmsprop", "adam", "adamw", "nadam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Literal["multistep", "cosine", "constant"] = "constant"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_steps: int = 0
    ema: float | None = None
    augment: PhotometricAugment | None = None
    compile_net: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_ranges("train", self, lr="[0, 100]", weight_decay="[0, 100]", momentum="[0, 1)", gamma="(0, 1]",
                     milestones="[0, 1000000]", warmup_steps="[0, 1000000]", ema="[0, 1)")  # fmt: skip

    def prepare(self, network: nn.Module, parts: Iterable[nn.Module]) -> None:
        """Give a network its memory order and let torch compile parts of it, as the settings say."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in parts if self.compile_net else ():
            part.compile()

    def make_optimizer(self, groups: list[ParameterGroup], fused: bool | None = None) -> torch.optim.Optimizer:
        """Return the optimiser of parameter groups.

        Args:
            groups: as torch takes them.
            fused: one pass over the weights instead of several, where the rule has it.
        """
        match self.optimizer:
            case "rmsprop":
                return torch.optim.RMSprop(groups, self.lr, weight_decay=self.weight_decay, momentum=self.momentum)
            case "sgd":
                return torch.optim.SGD(groups, self.lr, weight_decay=self.weight_decay, momentum=self.momentum)
            case "nadam":
                return torch.optim.NAdam(groups, self.lr, weight_decay=self.weight_decay)
            case "adam":
                return torch.optim.Adam(groups, self.lr, weight_decay=self.weight_decay, fused=fused)
            case "adamw":
                return torch.optim.AdamW(groups, self.lr, weight_decay=self.weight_decay, fused=fused)

    def follow(
        self, optimizers: Iterable[torch.optim.Optimizer], schedulers: Iterable[object], groups: list[ParameterGroup]
    ) -> None:
        """Give a resumed optimiser the rates of these settings, which may have changed since; its own state stays.

        Args:
            optimizers: the trainer's, restored.
            schedulers: the trainer's, restored.
            groups: of a new optimiser by these settings.
        """
        rates = [group["lr"] for group in groups]
        for optimizer in optimizers:
            for group, new in zip(optimizer.param_groups, groups, strict=True):
                group |= {key: new[key] for key in ("weight_decay", "momentum") if key in new}
        for scheduler in schedulers:
            if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR) and scheduler.base_lrs != rates:
                for group, rate, former in zip(
                    scheduler.optimizer.param_groups, rates, scheduler.base_lrs, strict=True
                ):
                    group["lr"] = group["lr"] * rate / former if former else rate
                scheduler.base_lrs = rates

    def rate_factor(self, step: int, epoch: int, total: float) -> float:
        """Return the learning rate of an optimiser step as a share of `lr`.

        Args:
            step: optimiser steps before it.
            epoch: that it belongs to.
            total: steps of the whole training, for the cosine.
        """
        value = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "cosine":
            return value * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        if self.schedule == "multistep":
            return value * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return value


class MeansState(TypedDict):
    """What a checkpoint keeps of `Means`: its constructor's arguments."""

    faces: int
    sums: dict[str, float]


class Means:
    """Means of the losses over the faces of an epoch.

    Args:
        faces: that were added.
        sums: name -> sum over them.
    """

    def __init__(self, faces: int = 0, sums: Mapping[str, float | Tensor] | None = None) -> None:
        self._faces, self._sums = faces, dict(sums or {})

    def add(self, values: Mapping[str, Tensor], faces: int) -> None:
        """Add the means of a batch; nothing waits for the device."""
        self._faces += faces
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach() * faces

    def values(self) -> dict[str, float]:
        """Return the means so far, none before the first batch."""
        return {name: float(total) / self._faces for name, total in self._sums.items()}

    def state(self) -> MeansState:
        """Return the constructor's arguments, as checkpoints keep them."""
        return {"faces": self._faces, "sums": {name: float(total) for name, total in self._sums.items()}}
