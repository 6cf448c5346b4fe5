"""The contract of a method: a LightningModule that returns predictions and a training loss; all else is given.

A method writes `predict_batch` and `training_loss`. Training, validation, test, metrics, optimiser and checkpoint
checks are the same for all, so that their figures can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.errors import LabError, check_range
from common.export.graph import CropGraph, GraphPart, Nets
from common.files.checkpoints import (
    INSTANTIATOR,
    build,
    load_weights,
    plain,
    read_checkpoint,
    state_of,
    upgrade,
    upgrade_averages,
)
from common.files.room import of_file
from common.frame import LightningModule, MovingAverage, OptimizerLRScheduler, coming_epoch
from common.geometry import apply_affine
from common.metrics.landmark import Evaluation, FaceCollector
from common.schemes import get_scheme
from common.train_config import Means, ParameterGroup, TrainConfig
from common.types import FaceBatch, Prediction

Task = TypeVar("Task", bound="LandmarkTask")


class FaceData(Protocol):
    """What a task takes from the trainer's data."""

    scheme: str
    crop: CropConfig
    box: str

    def cropped(self, split: str) -> CroppedFaces: ...


class LandmarkTask(LightningModule):
    """Base of every method.

    Args:
        scheme: landmark scheme that the method predicts: its name, or a file of your own (`get_scheme`).
        input_size: side of the crops in pixels.
        threshold: FR and AUC threshold in percent of the normaliser.
        train: optimiser, schedule, moving average and photometric changes.

    Raises:
        LabError: a value is out of its range.
    """

    METHOD = "base"  # written to checkpoints, so that another method's are refused
    flip_test: bool = False  # whether predictions are the mean with the mirrored crop's; part of the protocol card
    # Arguments of the former constructor -> their present place.
    MOVED: ClassVar[dict[str, str]] = {
        name: f"train.{name}" for name in TrainConfig.__dataclass_fields__ if name != "ema"
    }
    # Arguments that former versions had -> the only value with which this version computes the same.
    REMOVED: ClassVar[dict[str, object]] = {}
    # Arguments that only choose initial values -> what they are where weights come from a file.
    LOADED: ClassVar[dict[str, object]] = {}

    def __init__(
        self,
        scheme: str,
        input_size: int,
        threshold: float = 10.0,
        train: TrainConfig = TrainConfig(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        check_range("model.input_size (data.crop.size)", input_size, "[8, 4096]")
        check_range("model.threshold", threshold, "(0, 1000]")
        self.last_loss: float | None = None
        self.means = Means()
        self.scheme = get_scheme(scheme)
        self.input_size = input_size
        self.train_config = train
        self.threshold = threshold
        self.faces = FaceCollector(self.scheme, threshold)
        self.evaluation: Evaluation | None = None  # of the last validation or test

    # What a method brings.

    def network(self) -> nn.Module:
        """Return the network proper: what is counted, timed and exported."""
        raise NotImplementedError

    def compiled_parts(self) -> list[nn.Module]:
        """Return the modules that the training loss calls: the network, or those of its parts that are called."""
        return [self.network()]

    def inference(self) -> Callable[[Tensor], object]:
        """Return what predicts uint8 crops (B, 3, S, S), as it is timed: the network, or a faster version of it."""
        return self.network()

    def exportable(self) -> CropGraph:
        """Return what `common.export` writes: crops and boxes in, the fields of a prediction out, in crop pixels."""
        return CropGraph(self, self.predict_batch)

    def export_parts(self) -> dict[str, GraphPart]:
        """Return further graphs by their names, such as each iteration of a cascade; none for most methods."""
        return {}

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        """Return points in the batch's crop pixels; no loss, no logging."""
        raise NotImplementedError

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return "loss" and its named parts, weighted as they were added."""
        raise NotImplementedError

    def photograph_parts(self, official: bool) -> dict[str, GraphPart]:
        """Return what `predict_image`, or `predict_official`, may run as graphs, by name; none for some methods."""
        return {}

    def predict_image(self, image: np.ndarray, boxes: np.ndarray, nets: Nets = None) -> Prediction:
        """Return points in image pixels; only of methods that take more of a photograph than `predict_batch`'s crops.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4) x0 y0 x1 y1, image pixels.
            nets: what to run in place of `photograph_parts`.
        """
        raise NotImplementedError

    def predict_official(self, image: np.ndarray, boxes: np.ndarray, nets: Nets = None) -> Prediction:
        """Return what `predict_image` does, by the official crop and decoding, for converted official weights."""
        raise NotImplementedError

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the optimiser's groups; here all parameters that are trained."""
        return [{"name": "all", "params": [p for p in self.parameters() if p.requires_grad]}]

    def prepare(self, train: CroppedFaces) -> None:
        """Take from the training faces what is taken once, such as a mean face; before weights are restored."""

    def new_parts(self) -> tuple[str, ...]:
        """Return prefixes of keys that a warm start's file need not have."""
        return ()

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

    def settings(self) -> dict[str, object]:
        """Return the constructor's arguments as plain values, as checkpoints keep them."""
        found = {key: plain(value) for key, value in self.hparams.items() if key != INSTANTIATOR}
        return found | ({"scheme": self.scheme.word} if "scheme" in found else {})  # a file may not be there later

    def configure_callbacks(self) -> list[MovingAverage]:  # type: ignore[override]
        return [MovingAverage(self.train_config.ema)] if self.train_config.ema else []

    def face_data(self) -> FaceData | None:
        """Return the trainer's data, where they are this project's."""
        from common.data.datamodule import FaceDataModule  # here: prediction needs no Lightning

        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, FaceDataModule) else None

    def setup(self, stage: str) -> None:
        if stage == "fit" and (data := self.face_data()) is not None:
            self.prepare(data.cropped("train"))

    def on_fit_start(self) -> None:
        self.train_config.prepare(self.network(), self.compiled_parts())

    def _augment_generator(self) -> torch.Generator:
        # Drawn from the step, not from a running stream: a resumed run goes on with the same changes.
        seed = int(np.random.SeedSequence([torch.initial_seed() % 2**63, self.global_step]).generate_state(1)[0])
        return torch.Generator(device="cpu").manual_seed(seed)

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self.check_batch(batch)
        if self.train_config.augment is not None:
            batch = self.train_config.augment(batch, self._augment_generator())
        parts = self.training_loss(batch)
        loss = parts["loss"]
        self._check_finite(loss)
        self.means.add({f"train/{name}": value for name, value in parts.items()}, len(batch))
        self.log("loss", loss.detach(), batch_size=len(batch), prog_bar=True, logger=False)
        return loss

    def _check_finite(self, loss: Tensor) -> None:
        """Raise a LabError at the first loss that is NaN or infinite: nothing after it would be worth keeping."""
        value = float(loss.detach())
        if not math.isfinite(value):
            last = "none before it" if self.last_loss is None else f"the last finite one was {self.last_loss:.6g}"
            raise LabError(
                f"the training loss is {value} at step {self.global_step} (epoch {self.current_epoch}), {last}; "
                "try a smaller --model.train.lr or --trainer.gradient_clip_val, and go on with --resume"
            )
        self.last_loss = value

    def on_train_start(self) -> None:
        if self.trainer.ckpt_path is not None:
            schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
            self.train_config.follow(self.trainer.optimizers, schedulers, self.make_optimizer().param_groups)
        if self.trainer.fit_loop.restarted_mid_epoch:  # Lightning calls it at an epoch's first batch only
            self.on_train_epoch_start()

    def on_train_batch_start(self, batch: FaceBatch, batch_idx: int) -> None:
        # The steps of the curves; Lightning's own count is one off after some resumes.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step

    def on_train_epoch_end(self) -> None:
        # Written here, not by Lightning's own means: those are lost where an epoch is gone on with, and are written
        # after the checkpoint, so that a kill between the two would lose a row of the curve.
        values = self.means.values()
        if self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:  # not where max_steps ended it early
            self.means = Means()
        self.log_dict(values, logger=False)
        for logger in self.loggers:
            logger.log_metrics({**values, "epoch": self.current_epoch}, self.global_step - 1)
            logger.save()

    def maps(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the heatmaps (B, C, H, W) of a batch by name: targets, and the last answers in the targets' sense.

        Empty for a method without heatmaps.
        """
        return {}

    def predict(self, batch: FaceBatch) -> Prediction:
        """Return `predict_batch` in float32, whatever the trainer's precision.

        Half precision has steps of a whole pixel from 128 pixels (bfloat16) or 2,048 (float16) on.
        """
        with torch.autocast(batch.image.device.type, enabled=False):
            return self.predict_batch(batch)

    def mirror_back(self, points: Tensor) -> Tensor:
        """Return points (B, L, 2+) of mirrored crops in the pixels of the crops, left and right landmarks exchanged."""
        swapped = points[:, self.scheme.mirror]
        return torch.cat([self.input_size - 1 - swapped[..., :1], swapped[..., 1:]], dim=-1)

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
            self.evaluation = self.faces.result()
            self._log_metrics(self.evaluation, "val")

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
        found = {"rows": batch.rows, "points": points, "score": prediction.score, "pose": prediction.pose,
                 "translation": prediction.translation}  # fmt: skip
        return {"ids": batch.ids} | {name: value.detach().cpu() for name, value in found.items() if value is not None}

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser of `parameter_groups`."""
        # Lightning cannot clip the gradients of fused steps under mixed precision.
        fused = True if self.trainer.precision == "32-true" else None
        return self.train_config.make_optimizer(self.parameter_groups(), fused)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer, config, trainer = self.make_optimizer(), self.train_config, self.trainer
        total = 1.0
        if config.schedule == "cosine":
            total = max(1.0, float(trainer.estimated_stepping_batches))
            if np.isinf(total):
                raise LabError("train.schedule cosine ends at the last step: give --trainer.max_epochs or "
                               "--trainer.max_steps")  # fmt: skip
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: config.rate_factor(step, coming_epoch(trainer), total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["method"] = self.METHOD
        checkpoint["hyper_parameters"] = self.settings()
        if (data := self.face_data()) is not None:
            checkpoint["data"] = {"scheme": data.scheme, "crop": plain(data.crop.still()), "box": data.box}
        if "loops" in checkpoint:
            checkpoint["train_means"] = self.means.state()
            from common.data.position import save_position

            save_position(self.trainer, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_method(checkpoint, self.METHOD, "checkpoint")
        upgrade_averages(checkpoint)
        if self.trainer.state.fn == "fit":
            from common.data.position import restore_position

            restore_position(self.trainer, checkpoint)
            self.means = Means(**checkpoint.get("train_means", {}))


def check_method(checkpoint: dict[str, object], method: str, where: Path | str) -> None:
    """Raise a LabError when the checkpoint was written by another method."""
    found = checkpoint.get("method")
    if found is not None and found != method:
        raise LabError(f"{where}: is a checkpoint of method {found}, not of {method}; use that method's command")


def make_task(
    kind: type[Task], settings: Mapping[str, object], where: Path | str, state: Mapping[str, Tensor] | None = None
) -> Task:
    """Return a new task with a file's settings, of this version or a former one.

    Args:
        kind: the method's task.
        settings: of its constructor.
        where: file they come from, for messages.
        state: the file's weights, which are loaded into it.

    Raises:
        LabError: a setting is unknown, of the wrong type, or was removed and had another effect than the task has now;
            or the settings make no network, or one that is much larger than the weights.
    """
    if state is None:
        return build(kind, upgrade(kind, settings, where), where)
    with of_file(state, where):
        task = build(kind, {**upgrade(kind, settings, where), **kind.LOADED}, where)
    load_weights(task, state, str(where))
    return task.eval()


def load_task(kind: type[Task], path: Path | str, **changes: object) -> Task:
    """Return the task of a checkpoint of `fit` with its weights, ready to predict.

    Args:
        kind: the method's task.
        path: the checkpoint.
        changes: settings that replace the checkpoint's.

    Raises:
        LabError: the file is missing, damaged, another method's, or holds no settings or some that the task lacks.
    """
    content = read_checkpoint(path)
    check_method(content, kind.METHOD, path)
    if not content.get("hyper_parameters"):
        raise LabError(f"{path}: holds no hyper-parameters; give a .ckpt that `fit` wrote")
    return make_task(kind, {**content["hyper_parameters"], **changes}, path, state_of(content, path))
