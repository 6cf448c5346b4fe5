"""Where a training stands within an epoch, so that a resumed one goes on at the very next face.

Lightning keeps counts of batches, which mean other faces once the batch size differs, and it takes up a run again
in ways that depend on which of its hooks wrote the checkpoint. Here a checkpoint holds the epoch and how many of its
faces are done; on loading, Lightning's counts are written anew from these two, always in the same form.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from common.data.datamodule import FaceDataModule

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Checkpoint = dict[str, Any]  # Lightning's, or its part on loops
KEY = "position"  # in checkpoints


def _position(loops: Checkpoint, faces_a_batch: int, accumulated: int = 1) -> tuple[int, int | None]:
    """Return the epoch and the faces of it that are trained on, None for all, from Lightning's counts.

    Batches after the last optimiser step count as not done: their gradients are in no checkpoint.
    """
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]
    done = batches["current"]["processed"]
    if epochs["processed"] == epochs["ready"] and (batches["is_last_batch"] or not batches["current"]["ready"]):
        return epochs["ready"], 0
    if batches["is_last_batch"]:
        return epochs["ready"] - 1, None
    return max(epochs["ready"] - 1, 0), (done - done % accumulated) * faces_a_batch


def save_position(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Add the position of a training to its checkpoint."""
    data, loop = getattr(trainer, "datamodule", None), trainer.fit_loop.epoch_loop
    if not isinstance(data, FaceDataModule):
        return
    per_batch = data.train_batch() * trainer.world_size
    epoch, faces = _position(checkpoint["loops"]["fit_loop"], per_batch, trainer.accumulate_grad_batches)
    # In the middle of a validation (stopped by a signal) it is still to be made, and the epoch to be ended.
    validate = bool(trainer.validating) and not loop.val_loop.batch_progress.is_last_batch
    if faces is None and not validate:
        epoch, faces = epoch + 1, 0
    checkpoint[KEY] = {"epoch": epoch, "faces": faces, "validate": validate}


def restore_position(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Write a checkpoint's position as Lightning's counts, in place, and tell the data where to go on."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, FaceDataModule) or "loops" not in checkpoint:
        return
    loops = checkpoint["loops"]["fit_loop"]
    total, batch = data.cropped("train").faces.per_epoch(), data.train_batch()
    if KEY in checkpoint:
        epoch, faces, validate = (checkpoint[KEY][name] for name in ("epoch", "faces", "validate"))
    else:  # of a former version
        epoch, faces = _position(loops, batch * trainer.world_size)
        validate = False
        if faces is None:
            epoch, faces = epoch + 1, 0
    faces = total if faces is None else min(faces, total)
    own, own_done = math.ceil(total / trainer.world_size), math.ceil(faces / trainer.world_size)
    limit = trainer.limit_train_batches
    batches = min(own // batch, limit) if isinstance(limit, int) else int(own // batch * limit)
    done = min(own // batch - (own - own_done) // batch, batches)
    if faces and done == batches:  # what is left is less than a batch: only the epoch's end is to be made
        every = trainer.check_val_every_n_epoch
        validate = trainer.enable_validation and every is not None and (epoch + 1) % every == 0
        if not validate:
            epoch, faces, done = epoch + 1, 0, 0
    data.go_on_at(epoch, faces)
    loops["epoch_progress"] = _counts(epoch + (faces > 0), epoch)
    steps = loops["epoch_loop.batch_progress"]["total"]["processed"]
    loops["epoch_loop.batch_progress"] = {
        "total": _count(steps), "current": _count(done), "is_last_batch": bool(faces) and done == batches,
    }  # fmt: skip
    # One batch that was begun and not ended is Lightning's sign of a validation that is to be made.
    loops["epoch_loop.val_loop.batch_progress"] = {
        "total": _count(int(validate), 0), "current": _count(0), "is_last_batch": False,
    }  # fmt: skip
    loops["epoch_loop.state_dict"] = {"_batches_that_stepped": checkpoint["global_step"] - int(validate)}


def _count(begun: int, ended: int | None = None) -> dict[str, int]:
    ended = begun if ended is None else ended
    return {"ready": begun, "started": begun, "processed": ended, "completed": ended}


def _counts(begun: int, ended: int) -> dict[str, dict[str, int]]:
    return {"total": _count(begun, ended), "current": _count(begun, ended)}
