"""How a training is stopped: a signal saves it first, and one line says how to go on."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

SIGTERM_EXIT = 143  # 128 and the signal's number, as shells say it


def last_file(trainer: L.Trainer) -> Path:
    """Return the run's file of the last epoch."""
    return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"


def requeued_file(folder: Path) -> Path | None:
    """Return what a run goes on from whose job Slurm has stopped: Lightning's file of that, or a later last.ckpt."""
    files = sorted(folder.glob("hpc_ckpt_*.ckpt"))
    return max([*files, *folder.glob("checkpoints/last.ckpt")], key=_written) if files else None


def _written(file: Path) -> float:
    return file.stat().st_mtime


class SaveWhenStopped(Checkpoint):  # a kind that Lightning calls last, when the others have put weights back
    """Writes last.ckpt when the process is asked to end (SIGTERM), and removes requeued checkpoints that are outdated.

    Slurm's requeue is Lightning's own: on the signal that `#SBATCH --signal` names it writes hpc_ckpt_N.ckpt to the
    run's folder and requeues the job. The next start goes on from that file, on Slurm or not.
    """

    def __init__(self) -> None:
        self._begun = 0  # optimiser steps at the start of this process

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begun = trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._forget_requeued(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._forget_requeued(trainer)

    def _forget_requeued(self, trainer: L.Trainer) -> None:
        last = last_file(trainer)
        if not trainer.is_global_zero or not last.is_file():
            return
        for file in Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"):
            if _written(file) < _written(last):
                file.unlink()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        asked, last = isinstance(exception, SIGTERMException), last_file(trainer)
        if not asked and not isinstance(exception, KeyboardInterrupt):
            return
        fitting = trainer.state.fn == "fit" and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if asked and fitting and trainer.global_step > self._begun:
            # Without the barrier of `save_checkpoint`, at which other processes may no longer arrive.
            content: dict[str, object] = trainer._checkpoint_connector.dump_checkpoint(False)  # more than weights
            trainer.strategy.save_checkpoint(content, str(last))
        if trainer.is_global_zero:
            name = "SIGTERM" if asked else "Ctrl-C"
            if fitting and last.is_file():
                what = f"step {trainer.global_step} is in {last}" if asked else f"its last epoch is in {last}"
                print(f"stopped by {name}; {what}: go on by the same command with --resume", file=sys.stderr)
            else:
                print(f"stopped by {name}; nothing was kept", file=sys.stderr)
