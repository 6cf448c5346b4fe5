"""The contract of a method: a LightningModule that answers predictions and a training loss; all else is given.

A method writes `predict_batch` and `training_loss`. Training, validation, test, metrics, optimiser and checkpoint
checks are the same for all, so that their figures can be compared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from common.checkpoints import load_weights, read_checkpoint
from common.data.augment import PhotometricAugment
from common.errors import LabError
from common.geometry import apply_affine
from common.metrics.landmark import Evaluation, FaceCollector
from common.schemes import get_scheme
from common.types import FaceBatch, Prediction

OPTIMIZERS = ("rmsprop", "adam", "adamw", "sgd")
SCHEDULES = ("multistep", "cosine", "constant")
NEXT_STEP = "train it anew, or use the version that made it"
Task = TypeVar("Task", bound="LandmarkTask")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return the value, or raise a LabError that lists the choices."""
    if value not in choices:
        raise LabError(f"{name} must be one of {', '.join(choices)}, got {value}")
    return value


class LandmarkTask(L.LightningModule):
    """Base of every method.

    Args:
        scheme: name of the landmark scheme that the method predicts.
        input_size: side of the crops in pixels.
        threshold: FR and AUC threshold in percent of the normaliser.
        optimizer: one of OPTIMIZERS.
        lr: learning rate.
        weight_decay: L2 penalty (decoupled with adamw).
        momentum: of rmsprop and sgd.
        schedule: multistep (factor `gamma` at `milestones`), cosine (to 0 at the last epoch) or constant.
        milestones: epochs at which the learning rate falls.
        gamma: factor of each fall.
        warmup_steps: optimiser steps of linear growth of the learning rate.
        augment: arguments of `PhotometricAugment`; None for none.
        compile_net: compile the network in place before training.
        channels_last: run the network in channels-last memory order, which is faster on most machines.
    """

    METHOD = "base"  # written to checkpoints, so that another method's are refused
    # Arguments that former versions had -> the only value with which this version computes the same.
    REMOVED: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        scheme: str,
        input_size: int,
        threshold: float = 10.0,
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        schedule: str = "constant",
        milestones: tuple[int, ...] = (),
        gamma: float = 0.1,
        warmup_steps: int = 0,
        augment: dict[str, Any] | None = None,
        compile_net: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.scheme = get_scheme(scheme)
        self.input_size = input_size
        self.optimizer_name = check_choice("optimizer", optimizer, OPTIMIZERS)
        self.schedule = check_choice("schedule", schedule, SCHEDULES)
        self.lr, self.weight_decay, self.momentum = lr, weight_decay, momentum
        self.milestones, self.gamma, self.warmup_steps = tuple(milestones), gamma, warmup_steps
        self.compile_net, self.channels_last = compile_net, channels_last
        self.augment = PhotometricAugment(**augment) if augment else None
        self.threshold = threshold
        self.faces = FaceCollector(self.scheme, threshold)
        self.evaluation: Evaluation | None = None  # of the last test

    # What a method brings.

    def network(self) -> nn.Module:
        """Return the network proper: what is counted, compiled, timed and exported."""
        raise NotImplementedError

    def inference(self) -> Callable[[Tensor], Any]:
        """Return what predicts uint8 crops (B, 3, S, S), as it is timed: the network, or a faster version of it."""
        return self.network()

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        """Return points in the batch's crop pixels; no loss, no logging."""
        raise NotImplementedError

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return "loss" and its named parts, weighted as they were added."""
        raise NotImplementedError

    def predict_image(self, image: np.ndarray, boxes: np.ndarray) -> Prediction | None:
        """Return points in image pixels, or None where a crop of each face is enough for `predict_batch`.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4) x0 y0 x1 y1, image pixels.
        """
        return None

    def predict_official(self, image: np.ndarray, boxes: np.ndarray) -> Prediction:
        """Return points in image pixels through the official crop and decoding, for converted official weights.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4) x0 y0 x1 y1, image pixels.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups; here all parameters that are trained."""
        return [{"name": "all", "params": [p for p in self.parameters() if p.requires_grad]}]

    def new_parts(self) -> tuple[str, ...]:
        """Return prefixes of keys that a warm start's file need not have."""
        return ()

    def start_hint(self, source: str) -> str:
        """Return what to do when the weights to start from, `source`, are missing."""
        return "check the path, or train it first"

    def decorate(self, canvas: np.ndarray, points: np.ndarray, pose: np.ndarray | None) -> np.ndarray:
        """Return a picture (H, W, 3) with what the method knows of a face besides points (L, 2), given in its pixels.

        Args:
            canvas: RGB picture with the points drawn.
            points: in the picture's pixels.
            pose: (3,) yaw, pitch, roll in degrees, or None.
        """
        return canvas

    # What every method is given.

    def check_batch(self, batch: FaceBatch) -> None:
        """Raise a LabError when the batch is not what this network was made for."""
        if batch.points.shape[1] != self.scheme.num_points or batch.image.shape[-1] != self.input_size:
            raise LabError(
                f"data has {batch.points.shape[1]} landmarks at {batch.image.shape[-1]} px, the model "
                f"{self.scheme.num_points} ({self.scheme.name}) at {self.input_size} px: make --data.scheme equal to "
                "--model.scheme and --data.crop.size to --model.input_size"
            )

    def on_fit_start(self) -> None:
        if self.channels_last:
            self.network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile_net:
            self.network().compile()

    def _augment_generator(self) -> torch.Generator:
        # Drawn from the step, not from a running stream: a resumed run goes on with the same changes.
        seed = int(np.random.SeedSequence([torch.initial_seed() % 2**63, self.global_step]).generate_state(1)[0])
        return torch.Generator(device="cpu").manual_seed(seed)

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self.check_batch(batch)
        if self.augment is not None:
            batch = self.augment(batch, self._augment_generator())
        parts = self.training_loss(batch)
        loss = parts["loss"]
        logged = {f"train/{name}": value.detach() for name, value in parts.items()}
        self.log_dict(logged, batch_size=len(batch), on_step=False, on_epoch=True)
        self.log("loss", loss.detach(), batch_size=len(batch), prog_bar=True, logger=False)
        return loss

    def predict(self, batch: FaceBatch) -> Prediction:
        """Return `predict_batch` in float32, whatever the trainer's precision.

        Half precision has steps of a whole pixel from 128 pixels (bfloat16) or 2,048 (float16) on.
        """
        with torch.autocast(batch.image.device.type, enabled=False):
            return self.predict_batch(batch)

    def to_image_pixels(self, points: Tensor, batch: FaceBatch) -> Tensor:
        """Return crop points (B, L, D) in image pixels, float32 or better."""
        return apply_affine(batch.to_image.float(), points if points.dtype == torch.float64 else points.float())

    def _collect(self, batch: FaceBatch, batch_idx: int) -> Prediction:
        if batch_idx == 0:
            self.check_batch(batch)
        prediction = self.predict(batch)
        self.faces.add(batch, prediction)
        return prediction

    def on_validation_epoch_start(self) -> None:
        self.faces.clear()

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> Prediction:  # type: ignore[override]
        return self._collect(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self._log_metrics(self.faces.result(), "val")

    def on_test_epoch_start(self) -> None:
        self.faces.clear()

    def test_step(self, batch: FaceBatch, batch_idx: int) -> Prediction:  # type: ignore[override]
        return self._collect(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self.evaluation = self.faces.result()
        self._log_metrics(self.evaluation, "test")

    def _log_metrics(self, found: Evaluation, prefix: str) -> None:
        values = {f"{prefix}/{k}": torch.tensor(v, dtype=torch.float32) for k, v in found.metrics().items()}
        main = f"{prefix}/nme"
        self.log(main, values.pop(main), prog_bar=True)
        self.log_dict(values)

    def predict_step(self, batch: FaceBatch, batch_idx: int) -> dict[str, Any]:
        """Return ids, rows and points (B, L, D) in image pixels, and score and pose where the method has them."""
        prediction = self.predict(batch)
        points = self.to_image_pixels(prediction.points, batch)
        found = {"rows": batch.rows, "points": points, "score": prediction.score, "pose": prediction.pose}
        return {"ids": batch.ids} | {name: value.detach().cpu() for name, value in found.items() if value is not None}

    def configure_optimizers(self) -> Any:
        groups = self.parameter_groups()
        decay = self.weight_decay
        optimizer: torch.optim.Optimizer
        match self.optimizer_name:
            case "rmsprop":
                optimizer = torch.optim.RMSprop(groups, lr=self.lr, weight_decay=decay, momentum=self.momentum)
            case "sgd":
                optimizer = torch.optim.SGD(groups, lr=self.lr, weight_decay=decay, momentum=self.momentum)
            case "adam":
                optimizer = torch.optim.Adam(groups, lr=self.lr, weight_decay=decay)
            case _:
                optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=decay)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "step"},
        }

    def _scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        total = max(1, int(self.trainer.estimated_stepping_batches))
        steps_per_epoch = max(1, total // max(1, self.trainer.max_epochs or 1))

        def factor(step: int) -> float:
            value = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
            if self.schedule == "cosine":
                return float(value * 0.5 * (1 + np.cos(np.pi * min(1.0, step / total))))
            if self.schedule == "multistep":
                passed = sum(step // steps_per_epoch >= milestone for milestone in self.milestones)
                return float(value * self.gamma**passed)
            return float(value)

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["method"] = self.METHOD

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_method(checkpoint, self.METHOD, "checkpoint")


def check_method(checkpoint: dict[str, Any], method: str, where: Path | str) -> None:
    """Raise a LabError when the checkpoint was written by another method."""
    found = checkpoint.get("method")
    if found is not None and found != method:
        raise LabError(f"{where}: is a checkpoint of method {found}, not of {method}; use that method's command")


def upgrade(kind: type[LandmarkTask], values: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    """Return a file's hyper-parameters as the task takes them; what former versions had besides is left out.

    Args:
        kind: the method's task.
        values: hyper-parameters, as `fit` wrote them.
        where: file they come from, for messages.

    Raises:
        LabError: a setting is unknown, or was removed and had another effect than the task has now.
    """
    known = inspect.signature(kind.__init__).parameters
    former = {key: value for key, value in values.items() if key in kind.REMOVED and key not in known}
    for key, value in former.items():
        if value != kind.REMOVED[key]:
            raise LabError(f"{where}: was made with {key} {value}, which {kind.METHOD} no longer has; {NEXT_STEP}")
    # _instantiator is Lightning's note of who made the object.
    kept = {key: value for key, value in values.items() if key not in former and key != "_instantiator"}
    unknown = sorted(set(kept) - set(known))
    if unknown:
        raise LabError(f"{where}: was made with {', '.join(unknown)}, which {kind.METHOD} does not know; {NEXT_STEP}")
    return kept


def load_task(kind: type[Task], path: Path | str, **changes: Any) -> Task:
    """Return the task of a checkpoint of `fit` with its weights, ready to predict.

    Args:
        kind: the method's task.
        path: the checkpoint.
        changes: hyper-parameters that replace the checkpoint's.

    Raises:
        LabError: the file is missing, damaged, another method's, holds no hyper-parameters or some that the task lacks.
    """
    content = read_checkpoint(path)
    check_method(content, kind.METHOD, path)
    values = upgrade(kind, content.get("hyper_parameters") or {}, path)
    if not values:
        raise LabError(f"{path}: holds no hyper-parameters; give a .ckpt that `fit` wrote")
    task = kind(**{**values, **changes})
    load_weights(task, content["state_dict"], str(path))
    return task.eval()
