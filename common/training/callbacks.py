"""Callbacks of every run: picture grid, error curve, configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from common.data.datamodule import FaceDataModule
from common.data.show import data_grid, spread
from common.files.images import write_image
from common.files.whole import save_arrays, write_whole
from common.metrics.landmark import distinct_rows, gathered
from common.prediction.plotting import TRUE, draw_landmarks, grid, write_ced
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder of this run."""
    return Path(trainer.default_root_dir)


def as_given(config: Namespace, folder: Path) -> Namespace:
    """Return a configuration without what belongs to this one start, so that it can be run again elsewhere."""
    kept = config.clone()
    for name in ("checkpoint", "last_checkpoint"):
        if kept.get(name) is not None and kept[name].dirpath == str(folder / "checkpoints"):
            kept[name].dirpath = None
    kept.ckpt_path = None
    kept.resume = kept.overwrite = False
    return kept


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml to the run's folder."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.already_saved or trainer.fast_dev_run or stage != "fit":  # type: ignore[attr-defined]
            return
        self.already_saved = True
        if not trainer.is_global_zero:
            return
        folder = run_folder(trainer)
        text = self.parser.dump(as_given(self.config, folder), skip_none=False)
        write_whole(folder / "config.yaml", text.encode())


class FiniteBest(ModelCheckpoint):
    """Lightning's checkpoint of the best score, for which NaN or infinity is no score: Lightning keeps it if first."""

    def check_monitor_top_k(self, trainer: L.Trainer, current: torch.Tensor | None = None) -> bool:
        return current is not None and bool(torch.isfinite(current)) and super().check_monitor_top_k(trainer, current)

    @property
    def state_key(self) -> str:
        """Return the key of this callback's state in checkpoints, which is that of Lightning's."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)


class PredictionPictures(Callback):
    """Draws the first faces of validation and test, prediction beside truth, and the curve of the test errors.

    Args:
        count: faces in the grid.
        columns: of the grid.
        every: epochs from one validation picture to the next; the first validation that comes after so many.
    """

    def __init__(self, count: int = 16, columns: int = 4, every: int = 5) -> None:
        self.count, self.columns, self.every = count, columns, every
        self._cells: list[np.ndarray] = []

    def _collect(self, task: L.LightningModule, batch: object, prediction: object) -> None:
        if not isinstance(task, LandmarkTask):
            return
        assert isinstance(batch, FaceBatch) and isinstance(prediction, Prediction)
        for index in range(min(len(batch), self.count - len(self._cells))):
            image = batch.image[index].permute(1, 2, 0).cpu().numpy()
            true, points = batch.points[index].cpu().numpy(), prediction.points[index].detach().float().cpu().numpy()
            pose = None if prediction.pose is None else prediction.pose[index].detach().float().cpu().numpy()
            drawn = draw_landmarks(draw_landmarks(image, true, task.scheme, TRUE), points, task.scheme)
            self._cells.append(task.decorate(drawn, points, pose))

    def _write(self, trainer: L.Trainer, name: str) -> None:
        if self._cells and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            cells = self._cells
            self._show(trainer, name, name.split("-")[0], lambda path: write_image(path, grid(cells, self.columns)))
        self._cells = []

    def _show(self, trainer: L.Trainer, name: str, key: str, write: Callable[[Path], None]) -> None:
        """Write a picture and send it to W&B; one that cannot be written or sent does not end the run."""
        path = run_folder(trainer) / "pictures" / f"{name}.png"
        try:
            write(path)
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.log_image(f"pictures/{key}", [str(path)])
        except Exception as error:  # of the system or, with no common class, of W&B
            print(f"{path}: this picture is left out ({error}); the run goes on", file=sys.stderr)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw training faces before and after augmentation: what the run is about to learn from."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, FaceDataModule) and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            cropped = data.cropped("train")
            picture = data_grid(cropped, spread(len(cropped), self.count // 2), self.columns)
            self._show(trainer, "data", "data", lambda path: write_image(path, picture))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object,
                                batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        done = trainer.current_epoch + 1
        before = done - (trainer.check_val_every_n_epoch or 1)  # where the former validation was
        due = done // self.every > before // self.every or done == trainer.max_epochs
        fitting = trainer.state.fn == "fit"  # `trainer.training` is false while a fit validates
        if not trainer.sanity_checking and (due or not fitting):
            self._collect(pl_module, batch, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, f"val-{trainer.current_epoch:04d}")

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object,
                          batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        self._collect(pl_module, batch, outputs)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer, "test")
        if not isinstance(pl_module, LandmarkTask) or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = pl_module.evaluation
        assert found is not None
        found.save(run_folder(trainer) / "test_predictions.npz")
        method, threshold = pl_module.METHOD, found.threshold
        self._show(trainer, "test-ced", "ced", lambda path: write_ced(path, {method: found.nme}, threshold))


class PredictionFile(Callback):
    """Writes what `predict` returned to `predictions.npz`: ids, points (N, L, 2) in image pixels.

    A method may return more tensors with one row a face; they are written under their names.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object,
                             batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        assert isinstance(outputs, dict)
        self._rows.append(outputs)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        own, self._rows = self._rows, []
        parts = gathered(own)
        if not trainer.is_global_zero or not parts or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        ids = np.array([i for part in parts for i in part["ids"]])
        names = [name for name, value in parts[0].items() if isinstance(value, torch.Tensor)]
        arrays = {name: torch.cat([part[name] for part in parts]).numpy() for name in names}
        if len(parts) > len(own):
            order = distinct_rows(arrays["rows"])
            ids, arrays = ids[order], {name: values[order] for name, values in arrays.items()}
        path = run_folder(trainer) / "predictions.npz"
        save_arrays(path, ids=ids, **arrays)
        print(f"wrote {len(ids)} faces to {path}")
