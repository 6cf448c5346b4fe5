"""How a training writes and reads its checkpoints: whole or not at all, with a checksum that reading verifies.

Lightning's own way writes to the folder of temporary files and moves the result, which copies where that folder is on
another disk (as on most clusters): a kill or a full disk then leaves half a file in place of the former one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from common.errors import LabError
from common.files.checkpoints import read_checkpoint
from common.files.checksum import sealed
from common.files.whole import PART, write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's plugin for reading and writing checkpoints; see the module's text."""

    def save_checkpoint(self, checkpoint: dict[str, object], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint with its checksum.

        Raises:
            LabError: the system refuses; the former file is as it was.
        """
        path = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            for left in path.parent.glob(f".*{path.suffix}{PART}"):  # of a process that was killed
                left.unlink()
            write_whole(path, *sealed(buffer.getbuffer()))
        except OSError as error:
            raise LabError(f"{path}: cannot be written ({error.strerror}); the former file is kept: make room or "
                           "choose another --run, and go on with --resume") from None  # fmt: skip

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return a checkpoint's content on the CPU; code is never run, whatever `weights_only` says.

        Raises:
            LabError: see `read_checkpoint`.
        """
        return read_checkpoint(path)
