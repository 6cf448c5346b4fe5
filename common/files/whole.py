"""Files that are written whole or not at all: beside the target, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PART = ".part"  # ending of a file that is being written; a leading dot hides it


def part_of(path: Path) -> Path:
    """Return where the new content of a file is written first: in its own folder, so that a rename suffices."""
    return path.with_name(f".{path.name}{PART}")


def write_whole(path: Path, *content: bytes | memoryview) -> None:
    """Write a file; whoever reads it, also after a crash or on a full disk, finds the former or the new content.

    Args:
        path: the file; its folder is made.
        content: written one after the other.

    Raises:
        OSError: the system refuses (no room, no permission); the error names the file, which is as it was.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system that names no file, such as of a full disk while a file grows, this name.

    Raises:
        OSError: as raised inside. A closed pipe, which is no file's matter, stays as it is.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to a compressed .npz file, as `write_whole` does.

    Raises:
        OSError: the system refuses.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getbuffer())


def _flush_folder(folder: Path) -> None:
    """Let the renaming reach the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
