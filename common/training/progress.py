"""What a run shows while it trains: a bar in a terminal, one line an epoch in a file; figures by step."""

from __future__ import annotations

import time
from collections.abc import Mapping

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT

from common.task import LandmarkTask
from common.types import FaceBatch

Shown = dict[str, int | str | float | dict[str, float]]  # of a progress bar


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{minutes} min {whole % 60} s" if hours == 0 else f"{hours} h {minutes % 60} min"


class EpochLog(Callback):
    """Knows an epoch's loss, its NME, the best one, and the time left.

    Args:
        lines: print one line an epoch.
        shown: print one line at the start.
    """

    def __init__(self, lines: bool, shown: bool = True) -> None:
        self.lines, self.shown = lines, shown
        self.best: tuple[float, int] | None = None
        self.began = self.epoch_began = time.monotonic()
        self._taken = 0.0  # seconds of a resumed epoch before the resume
        self._first = 0
        self._nme: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and self.shown:
            count = sum(p.numel() for p in pl_module.parameters())
            learned = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
            part = "" if learned == count else f", {learned / 1e6:.2f} M of them trained"
            print(f"{count / 1e6:.2f} M parameters{part}; on {trainer.strategy.root_device}", flush=True)
        # In the middle of an epoch Lightning does not say that it starts, and its time began in a former process.
        taken = self._taken if trainer.fit_loop.restarted_mid_epoch else 0.0
        self.began = self.epoch_began = time.monotonic() - taken
        self._first = trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_began, self._nme = time.monotonic(), None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or "val/nme" not in trainer.callback_metrics:
            return
        self._nme = float(trainer.callback_metrics["val/nme"])
        if self.best is None or self._nme < self.best[0]:
            self.best = self._nme, trainer.current_epoch + 1

    def state_dict(self) -> dict[str, tuple[float, ...]]:
        """Return what a resumed run must know: the seconds of this epoch, the best NME so far, and its epoch."""
        known: dict[str, tuple[float, ...]] = {"taken": (time.monotonic() - self.epoch_began,)}
        return known if self.best is None else {**known, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, tuple[float, ...]]) -> None:
        """Take up what a former start knew."""
        (self._taken,) = state_dict.get("taken", (0.0,))
        if "best" in state_dict:
            nme, epoch = state_dict["best"]
            self.best = float(nme), int(epoch)

    def left(self, trainer: L.Trainer, done: int) -> str | None:
        """Return the time left after `done` epochs of this start, None where the end is not known."""
        if not trainer.max_epochs or trainer.max_epochs < 0 or not done:
            return None
        epochs = trainer.max_epochs - self._first - done
        return duration((time.monotonic() - self.began) / done * epochs)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.lines or not trainer.is_global_zero:
            return
        last = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        assert isinstance(pl_module, LandmarkTask)
        loss = pl_module.means.values().get("train/loss")  # of the whole epoch, also where it was resumed
        parts = [] if loss is None else [f"loss {loss:.4g}"]
        if self._nme is not None and self.best is not None:
            parts.append(f"val NME {self._nme:.2f} % (best {self.best[0]:.2f} % in epoch {self.best[1]})")
        parts.append(duration(time.monotonic() - self.epoch_began))
        left = self.left(trainer, trainer.current_epoch + 1 - self._first)
        parts += [f"{left} left"] if left else []
        print(f"epoch {trainer.current_epoch + 1} of {last}: {', '.join(parts)}", flush=True)


class Bar(TQDMProgressBar):
    """A bar with epoch, loss, NME and the time that the whole run still takes.

    Args:
        log: what the epochs gave.
    """

    def __init__(self, log: EpochLog) -> None:
        super().__init__(refresh_rate=1)
        self.log_of_epochs = log

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # type: ignore[override]
        super().on_train_start(trainer, pl_module)
        if trainer.fit_loop.restarted_mid_epoch:  # Lightning does not say that this epoch starts
            self.on_train_epoch_start(trainer, pl_module)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Shown:
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        found: Shown = {"NME" if name == "val/nme" else name: value for name, value in shown.items()}
        left = self.log_of_epochs.left(trainer, trainer.current_epoch - self.log_of_epochs._first)
        return found | ({"left": left} if left else {})


class StepFigures(Callback):
    """Logs loss, learning rate, gradient norm and faces a second every `log_every_n_steps` steps."""

    def __init__(self) -> None:
        self._faces, self._since, self._norm = 0, 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._faces, self._since = 0, time.monotonic()

    def _due(self, trainer: L.Trainer, step: int) -> bool:
        every = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
        return bool(trainer.loggers) and every > 0 and step % every == 0

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._due(trainer, trainer.global_step + 1):
            norms = [p.grad.detach().norm() for p in pl_module.parameters() if p.grad is not None]
            self._norm = float(torch.stack(norms).norm()) if norms else 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: STEP_OUTPUT, batch: FaceBatch, batch_idx: int
    ) -> None:
        self._faces += len(batch) * trainer.world_size
        if not self._due(trainer, trainer.global_step):
            return
        assert isinstance(outputs, Mapping)
        now = time.monotonic()
        values = {
            "step/loss": float(outputs["loss"]),
            "step/lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "step/gradient_norm": self._norm,
            "step/faces_per_second": self._faces / max(1e-9, now - self._since),
        }
        self._faces, self._since = 0, now
        for logger in trainer.loggers:
            logger.log_metrics(values, trainer.global_step - 1)  # steps count from 0, as Lightning's own
