"""Records that survive a kill and are shared by several processes: JSON lines, and locks that die with their holder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, the last one of each cell; a line that was cut short by a kill is dropped."""
    records: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else []):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records[str(record.get("cell", number))] = record
    return list(records.values())


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line and bring it to the disk; a cut line before it is closed first, so that it swallows nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, allow_nan=True).encode()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def claim(path: Path) -> Iterator[int | None]:
    """Hold a lock file while the body runs; gives its descriptor, or None when another process holds it.

    The kernel lets go of the lock when the last process that has the descriptor ends, however it ends. Child
    processes that are given the descriptor (`pass_fds`) therefore keep the cell claimed when their parent is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
