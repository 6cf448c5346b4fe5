"""Reader of MXNet parameter files (`model-0000.params`) in plain NumPy.

The file is bytes and lengths only; nothing of it is run. Every length is checked against the bytes that are left
before it is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import LabError
from common.files.checkpoints import check_content

LIST_MAGIC = 0x112
DENSE_V1, DENSE_V2, DENSE_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", "?")  # by the file's type flag
MAX_AXES = 32


class _Reader:
    """Bytes of a file with a place; every request past the end is an error that names the place."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.place = data, where, 0

    def fail(self, what: str) -> LabError:
        return LabError(f"{self.where}: byte {self.place}: {what}")

    def take(self, count: int, what: str) -> bytes:
        """Return the next bytes.

        Raises:
            LabError: fewer are left.
        """
        left = len(self.data) - self.place
        if count > left:
            raise self.fail(f"{what} needs {count} bytes but {left} are left; the file is truncated or a length in it "
                            "is wrong; copy or download it again")  # fmt: skip
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, code: str, what: str) -> int:
        """Return one little-endian integer of a struct code."""
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0])

    def dims(self, count: int, code: str, name: str) -> tuple[int, ...]:
        """Return the sides of an array."""
        if not 0 <= count <= MAX_AXES:
            raise self.fail(f"{name} claims {count} axes; the file is damaged")
        sides = tuple(self.number(code, f"shape of {name}") for _ in range(count))
        if any(side < 0 for side in sides):
            raise self.fail(f"{name} claims the shape {sides}; the file is damaged")
        return sides


def _read_array(reader: _Reader, name: str) -> np.ndarray:
    """Return one array of any of the four known layouts.

    Raises:
        LabError: the array is sparse, of an unknown type, or its shape does not fit the bytes that are left.
    """
    magic = reader.number("I", f"head of {name}")
    scalar = magic == DENSE_V3
    if magic in (DENSE_V2, DENSE_V3):
        storage = reader.number("i", f"storage type of {name}")
        if storage != 0:
            raise reader.fail(f"{name} has storage type {storage}; only dense arrays can be read")
        axes = reader.number("i", f"axes of {name}")
        if scalar and axes == -1:
            return np.zeros(0, np.float32)
        shape = reader.dims(axes, "q", name)
    elif magic == DENSE_V1:
        shape = reader.dims(reader.number("I", f"axes of {name}"), "q", name)
    else:  # the oldest layout has no magic number: the word is the number of axes
        if magic > MAX_AXES:
            raise reader.fail(f"{name} starts with {magic:#x}, which no known layout of arrays does")
        shape = reader.dims(magic, "I", name)
    if not shape and not scalar:
        return np.zeros(0, np.float32)
    reader.take(8, f"device of {name}")
    flag = reader.number("i", f"type of {name}")
    if not 0 <= flag < len(DTYPES):
        raise reader.fail(f"{name} has the unknown type {flag}; the file is damaged")
    dtype = np.dtype(DTYPES[flag])
    count = 1
    for side in shape:
        count *= side  # Python's own integers: a lying shape cannot wrap round
    data = reader.take(count * dtype.itemsize, f"{name} of shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def parse_params(data: bytes, where: str = "parameters") -> list[np.ndarray] | dict[str, np.ndarray]:
    """Return the arrays of a parameter file: by name, or as a list where it was saved without names.

    Names keep their `arg:` and `aux:` prefixes.

    Args:
        data: content of the file.
        where: its name, for messages.

    Raises:
        LabError: another kind of file, a length that lies, a truncated file, bytes left over, or a name twice.
    """
    reader = _Reader(data, where)
    magic = reader.number("Q", "magic number")
    if magic != LIST_MAGIC:
        raise LabError(f"{where}: starts with {magic:#x} instead of {LIST_MAGIC:#x}: no MXNet parameter file; "
                       "give model-0000.params")  # fmt: skip
    reader.number("Q", "head")
    count = reader.number("Q", "number of arrays")
    if count * 4 > len(data):
        raise reader.fail(f"it claims {count} arrays, more than its {len(data)} bytes can hold; the file is damaged")
    arrays = [_read_array(reader, f"array {i} of {count}") for i in range(count)]
    names = _read_names(reader)
    if reader.place != len(data):
        raise reader.fail(f"{len(data) - reader.place} bytes are left over; the file is damaged")
    if not names:
        return arrays
    if len(names) != count:
        raise reader.fail(f"{count} arrays but {len(names)} names; the file is damaged")
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise reader.fail(f"name {min(twice)} is there twice; the file is damaged")
    return dict(zip(names, arrays, strict=True))


def _read_names(reader: _Reader) -> list[str]:
    total = reader.number("Q", "number of names")
    if total * 8 > len(reader.data):
        raise reader.fail(f"it claims {total} names, more than its bytes can hold; the file is damaged")
    names = []
    for i in range(total):
        raw = reader.take(reader.number("Q", f"length of name {i}"), f"name {i}")
        try:
            names.append(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise reader.fail(f"name {i} is no text; the file is damaged") from None
    return names


def read_params(path: Path | str) -> dict[str, np.ndarray]:
    """Return name -> array of a parameter file with names.

    Raises:
        LabError: the file is missing, damaged, something else (see `check_content`), or has no names.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"{path}: parameter file is missing; check the path")
    check_content(path)
    content = parse_params(path.read_bytes(), str(path))
    if isinstance(content, list):
        raise LabError(f"{path}: its {len(content)} arrays have no names; give a file that `save_checkpoint` wrote")
    return content


def params_bytes(shapes: Sequence[tuple[str, Sequence[int]]]) -> int:
    """Return the size of a version-2 file with float32 arrays of these full names (`arg:...`) and shapes."""
    size = 32
    for name, shape in shapes:
        count = 1
        for side in shape:
            count *= int(side)
        size += 24 + 8 * len(shape) + 4 * count + 8 + len(name.encode())
    return size
