"""MATLAB 5 files: their arrays of numbers, read with every length checked; and faces fitted by a morphable model.

Own code, since SciPy's reader ends the whole process on some files with one changed byte. What is no array of numbers
(text, cells, structures, sparse matrices) is passed over.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from common.errors import LabError

MATLAB_FIRST = 1  # number of the first pixel
HEADER = 128  # bytes
LARGEST = 64 * 2**20  # bytes of all that a file may unpack to
MATRIX, COMPRESSED = 14, 15  # types of elements
# Type of an element, and class of a matrix -> numbers.
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x0800
Order = Literal["<", ">"]  # of bytes
ORDERS: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}


class _Damaged(Exception):
    """A length, a type or a number in the file cannot be."""


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of numbers of a MATLAB 5 file.

    Raises:
        LabError: it is missing, truncated, damaged, too large or no MATLAB 5 file.
    """
    if not path.is_file():
        raise LabError(f"{path}: annotation is missing; is the data set complete?")
    data = path.read_bytes()
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data.startswith(b"MATLAB 7.3"):
        raise LabError(f"{path}: is a MATLAB 7.3 file, where version 5 is expected; save it with -v6 or -v7")
    order = ORDERS.get(data[126:128])
    if order is None or len(data) > LARGEST:
        raise LabError(f"{path}: is damaged or no MATLAB 5 file; copy it again")
    try:
        return dict(_arrays(data[HEADER:], order))
    except (_Damaged, zlib.error) as error:
        raise LabError(f"{path}: is damaged or no MATLAB 5 file ({error}); copy it again") from None


def _elements(data: bytes, order: Order) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of the elements that follow one another."""
    at = 0
    while at + 8 <= len(data):
        kind, length = (int(word) for word in np.frombuffer(data, f"{order}u4", 2, at))
        start, end = at + 8, at + 8 + length
        if kind >> 16:  # the short form: up to four bytes beside type and length
            kind, length = kind & 0xFFFF, kind >> 16
            start, end = at + 4, at + 4 + length
            if length > 4:
                raise _Damaged("a short element is too long")
        if end > len(data):
            raise _Damaged("an element goes beyond the file's end")
        yield kind, data[start:end]
        at = max(end, at + 8)
        if kind != COMPRESSED:
            at += -at % 8


def _arrays(data: bytes, order: Order) -> Iterator[tuple[str, np.ndarray]]:
    left = LARGEST
    for kind, content in _elements(data, order):
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            content = unpacker.decompress(content, left)
            left -= len(content)
            if not unpacker.eof:
                raise _Damaged("a packed array is cut short, or too large")
            kind, content = next(_elements(content, order), (0, b""))
        if kind == MATRIX:
            found = _matrix(content, order)
            if found is not None:
                yield found


def _matrix(content: bytes, order: Order) -> tuple[str, np.ndarray] | None:
    parts = _elements(content, order)
    heads = [part for _, part in zip(range(3), parts, strict=False)]
    if len(heads) < 3 or len(heads[0][1]) < 4:
        raise _Damaged("the head of an array is cut short")
    flags = int(np.frombuffer(heads[0][1], f"{order}u4", 1)[0])
    if heads[1][0] not in (5, 6) or len(heads[1][1]) % 4 or flags & 0xFF not in CLASSES or flags & COMPLEX:
        return None
    shape = tuple(int(side) for side in np.frombuffer(heads[1][1], f"{order}i4"))
    name, (kind, numbers) = heads[2][1].decode("latin-1"), next(parts, (0, b""))
    if min(shape, default=-1) < 0 or kind not in STORED or len(shape) > 8:
        raise _Damaged("an array has an impossible shape or type")
    stored = np.dtype(STORED[kind]).newbyteorder(order)
    if math.prod(shape) * stored.itemsize != len(numbers):
        raise _Damaged("an array's shape does not fit its numbers")
    values = np.frombuffer(numbers, stored).astype(CLASSES[flags & 0xFF])
    return name, values.reshape(shape, order="F")


def landmarks(content: dict[str, np.ndarray], name: str, path: Path, axes: int) -> np.ndarray:
    """Return landmarks (L, axes), x and y with the first pixel's centre at 0.

    Raises:
        LabError: the array is missing or has another shape.
    """
    if name not in content:
        raise LabError(f"{path}: array {name} is missing; it has {', '.join(content) or 'none'}")
    value = content[name]
    if value.ndim != 2 or value.shape[0] != axes:
        raise LabError(f"{path}: {name} has shape {value.shape}, expected ({axes}, landmarks)")
    points = value.T.astype(np.float64)
    points[:, :2] -= MATLAB_FIRST
    return points


def head_pose(content: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """Return yaw, pitch, roll in degrees (3,) float32 from Pose_Para (pitch, yaw, roll in radians, ...).

    Yaw changes its sign: there it is positive for a face turned to the image's left, here to its right.

    Raises:
        LabError: the array is missing, or has another shape or a value that is not finite.
    """
    value = content.get("Pose_Para")
    if value is None or value.size != 7 or not np.isfinite(value).all():
        raise LabError(f"{path}: Pose_Para is missing or is not seven finite numbers")
    pitch, yaw, roll = np.degrees(value.astype(np.float64).ravel()[:3]).tolist()
    return np.array([-yaw, pitch, roll], np.float32)
