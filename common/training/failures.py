"""What Lightning, torch and the system raise in a run and is no defect of the project, reported in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from common.errors import LabError, check_ranges

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def check_trainer(trainer: L.Trainer) -> None:
    """Raise a LabError for settings that Lightning takes and that cannot work."""
    if trainer.precision not in PRECISIONS:
        raise LabError(f"trainer.precision {trainer.precision} is not supported, since pictures and coordinates need "
                       f"float32; take one of {', '.join(PRECISIONS)}")  # fmt: skip
    check_ranges("trainer", trainer, gradient_clip_val="[0, inf)", check_val_every_n_epoch="[1, inf)",
                 accumulate_grad_batches="[1, inf)", log_every_n_steps="[0, inf)", num_sanity_val_steps="[0, inf]",
                 limit_train_batches="(0, inf]")  # fmt: skip
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        raise LabError(f"trainer.devices {trainer.num_devices}: this machine has {cores} processor cores, and each "
                       "device would be a process; take fewer")  # fmt: skip


def check_safe(settings: object, place: str = "") -> None:
    """Look for `weights_only: false` in a configuration, at any depth.

    Raises:
        LabError: it is there; checkpoints are read as data only, so that it would have no effect.
    """
    whole = dict(enumerate(settings)) if isinstance(settings, list) else settings
    for name, value in whole.items() if isinstance(whole, Mapping) else ():
        if name == "weights_only" and value is False:
            raise LabError(f"{place}weights_only: false would let a checkpoint run code; checkpoints are read as data "
                           "only, leave it out")  # fmt: skip
        check_safe(value, f"{place}{name}.")


def check_epochs(path: Path, checkpoint: dict[str, Any], wanted: int | None) -> None:
    """Compare the epochs that a checkpoint has behind it with those of the run that is to go on from it.

    Raises:
        LabError: it has more.
    """
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {})
    done = progress.get("current", {}).get("processed", 0)
    if wanted is None or wanted < 0 or done < wanted:
        return
    if done > wanted:
        raise LabError(f"{path}: {done} epochs are done, and --trainer.max_epochs is {wanted}; give more than {done} "
                       "to go on, or another --run to begin anew")  # fmt: skip
    print(f"nothing is left to train: {done} of {wanted} epochs are done; --trainer.max_epochs goes beyond")


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn such an exception into a LabError.

    Raises:
        LabError: a file that the system refuses, a loader's process that was killed, a wrong setting of the trainer.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or "a file"
        raise LabError(f"{where}: {error.strerror or error}; make room or choose another place, and go on with "
                       "--resume") from error  # fmt: skip
    except MisconfigurationException as error:
        raise LabError(f"trainer: {error}") from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise LabError(f"a process that loads data was killed ({error}), often for lack of memory; try fewer "
                       "--data.num_workers, and go on with --resume") from error  # fmt: skip
