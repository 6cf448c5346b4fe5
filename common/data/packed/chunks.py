"""The chunks of a split in a local folder, as litdata writes them: any row by one read.

litdata's own reader takes seconds to import in each process, and maps one chunk at a time, anew for nearly every row of
a shuffled epoch. Pages of mapped files would count as the process's memory, too.

A chunk is a number of rows n, n + 1 offsets, and the rows: the lengths of a row's leaves, then the leaves. All numbers
are uint32.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from common.data.packed.layout import Row

NAMES = ("image", "numbers", "words")
LEAVES = ["bytes"] * len(NAMES)  # other formats of litdata would decode what a file says, down to pickles
HEAD = struct.Struct(f"<{len(NAMES)}I")
OPEN = 128  # files that are kept open


class ChunkFiles(Sequence[Row]):
    """Rows of a split; opens files when they are needed, and belongs to one process.

    Args:
        folder: of the chunks.
        sizes: file name of each chunk -> its rows.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        self.paths = [folder / name for name in sizes]
        self.starts = np.cumsum([0, *sizes.values()])
        self._open: dict[int, tuple[int, np.ndarray]] = {}  # chunk -> file descriptor, offsets of its rows

    def _chunk(self, number: int) -> tuple[int, np.ndarray]:
        found = self._open.get(number)
        if found is None:
            if len(self._open) >= OPEN:
                os.close(self._open.pop(next(iter(self._open)))[0])
            file = os.open(self.paths[number], os.O_RDONLY)
            try:
                offsets = self._offsets(file, number)
            except ValueError:
                os.close(file)
                raise
            self._open[number] = found = (file, offsets)
        return found

    def _offsets(self, file: int, number: int) -> np.ndarray:
        count, size = int(self.starts[number + 1] - self.starts[number]), os.fstat(file).st_size
        if 4 * (count + 2) <= size:
            table = np.frombuffer(os.pread(file, 4 * (count + 2), 0), "<u4")
            if table[0] == count and (table[1:-1] <= table[2:]).all() and table[-1] <= size:
                return table[1:]
        raise ValueError(f"{self.paths[number]} has not {count} rows")

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        """Return the leaves of a row by their names.

        Raises:
            OSError, ValueError, IndexError, struct.error: the chunk is missing or damaged.
        """
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        file, offsets = self._chunk(number)
        row = index - int(self.starts[number])
        begin, end = int(offsets[row]), int(offsets[row + 1])
        data = memoryview(os.pread(file, end - begin, begin))
        lengths, at, found = HEAD.unpack_from(data), HEAD.size, {}
        for name, length in zip(NAMES, lengths, strict=True):
            found[name] = data[at : at + length]
            at += length
        if at != len(data) or at != end - begin:
            raise ValueError(f"row {index} of {self.paths[number]} is cut short")
        return found

    def __del__(self) -> None:
        for file, _ in self._open.values():
            os.close(file)
