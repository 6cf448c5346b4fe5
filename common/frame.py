"""What of Lightning a task is built on.

A process that only predicts (`common.only_predict`) does without: Lightning brings torchmetrics, torchvision and
torch's compiler along, whose import takes longer than a picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common import trains


class BareModule(nn.Module):
    """A task's base where nothing is trained; what it has is as in `lightning.LightningModule`."""

    current_epoch = global_step = 0

    def __init__(self) -> None:
        super().__init__()
        self.hparams: dict[str, object] = {}

    def save_hyperparameters(self, *, ignore: Sequence[str] = ()) -> None:
        """Keep the arguments of the constructor that calls this."""
        frame = inspect.currentframe()
        assert frame is not None and frame.f_back is not None  # CPython has frames
        given = frame.f_back.f_locals
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        self.hparams = {name: given[name] for name in names if name not in ignore}

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(chain(self.parameters(), self.buffers())).device


if not (TYPE_CHECKING or trains()):  # in this form, since jsonargparse runs what is for type checking only
    LightningModule, WeightAveraging, OptimizerLRScheduler = BareModule, object, object
else:
    from lightning import LightningModule as LightningModule
    from lightning import Trainer
    from lightning.pytorch.callbacks import WeightAveraging
    from lightning.pytorch.utilities.types import OptimizerLRScheduler as OptimizerLRScheduler

Tensors = tuple[Tensor, ...] | list[Tensor]


def coming_epoch(trainer: Trainer) -> int:
    """Return the epoch that the next optimiser step belongs to."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return trainer.current_epoch + int(progress.is_last_batch)


class MovingAverage(WeightAveraging):
    """Moving average of the weights with the decay of `TrainConfig.ema`; buffers are those of the last step.

    Args:
        decay: largest decay.
    """

    def __init__(self, decay: float) -> None:
        def follow(mean: Tensors, current: Tensors, updates: Tensor | int) -> None:
            step = int(updates) - 1  # the count starts at 1, see `setup`
            torch._foreach_lerp_(mean, current, 1 - min(decay, (1 + step) / (10 + step)))

        super().__init__(use_buffers=False, multi_avg_fn=follow)
        self._swapped = False  # the network holds the mean, as in validation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin with the initial weights as the mean; torch would replace it whole in its first update."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._average_model is not None:
            self._average_model.n_averaged.fill_(1)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self._swapped = self._average_model is not None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        self._swapped = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the trained weights back where a validation was stopped, so that they can be saved."""
        if self._swapped:
            self.on_validation_epoch_end(trainer, pl_module)
