"""Arrays of files from others (.npy, .npz, members of a zip): what they claim to hold is looked at before it is read.

A header of a hundred bytes can claim terabytes, and two megabytes of a zip can unpack to gigabytes. Nothing here takes
more memory than a file of that size may need.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from common.errors import LabError

ALWAYS = 1 << 28  # bytes that any file may unpack to
RATIO = 32  # ... and a larger one so many times its own size
NUMBERS = "fiu"  # kinds of NumPy's types
MAX_MEMBER = 1 << 28  # bytes of one picture of a zip
# What zipfile, zlib and NumPy raise of damaged content, besides OSError.
DAMAGED = (ValueError, LookupError, EOFError, TypeError, AttributeError, RuntimeError, MemoryError, SyntaxError,
           OverflowError, RecursionError, zipfile.BadZipFile, zlib.error, struct.error,
           tokenize.TokenError)  # fmt: skip


def read_array(path: Path, hint: str = "copy it again") -> np.ndarray:
    """Return the array of a .npy file.

    Args:
        path: the file.
        hint: what to do, for the message's end.

    Raises:
        LabError: it is missing, is no array of plain values, or its header claims more than there is.
    """
    try:
        with path.open("rb") as file:
            return _array(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise LabError(f"{path}: is missing; {hint}") from None
    except (OSError, *DAMAGED) as error:
        raise LabError(f"{path}: is damaged or no array of plain values ({_reason(error)}); {hint}") from None


def read_numbers(path: Path, hint: str = "copy it again") -> np.ndarray:
    """Return the numbers of a .npy file as float64.

    Raises:
        LabError: as `read_array`, or it holds something else than real numbers.
    """
    found = read_array(path, hint)
    if found.dtype.kind not in NUMBERS:
        raise LabError(f"{path}: holds {found.dtype}, not numbers; {hint}")
    return found.astype(np.float64)


def read_weights(path: Path, hint: str = "copy it again") -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file of weights, in this machine's order of bytes.

    Raises:
        LabError: as `read_arrays`, or an array holds something else than real numbers.
    """
    found = read_arrays(path, hint)
    for name, array in found.items():
        if array.dtype.kind not in NUMBERS or array.dtype.itemsize > 8:
            raise LabError(f"{path}: {name} holds {array.dtype}, not numbers; {hint}")
    return {name: array.astype(array.dtype.newbyteorder("=")) for name, array in found.items()}


def read_arrays(path: Path, hint: str = "copy it again") -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file.

    Args:
        path: the file.
        hint: what to do, for the message's end.

    Raises:
        LabError: it is missing, damaged, encrypted or no .npz of plain values, or unpacks to more than its size allows.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            check_unpacked(archive, os.fstat(file.fileno()).st_size)
            found = {}
            for info in archive.infolist():
                with _open(archive, info) as member:
                    found[info.filename.removesuffix(".npy")] = _array(member, info.file_size)
            return found
    except FileNotFoundError:
        raise LabError(f"{path}: is missing; {hint}") from None
    except (OSError, *DAMAGED) as error:
        raise LabError(f"{path}: is damaged or no .npz of plain values ({_reason(error)}); {hint}") from None


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of one small member of a zip.

    Raises:
        ValueError: it claims more than `MAX_MEMBER` bytes.
        OSError, ...: see `DAMAGED`.
    """
    info = archive.getinfo(name)
    if info.file_size > MAX_MEMBER:
        raise ValueError(f"it would unpack to {info.file_size >> 20} MB, more than {MAX_MEMBER >> 20} MB")
    with _open(archive, info) as member:
        return member.read(info.file_size)  # a number: without one, zipfile unpacks before it looks at the claim


def check_unpacked(archive: zipfile.ZipFile, size: int, ratio: int = RATIO) -> None:
    """Raise a ValueError if the members of a zip of so many bytes unpack to more than `ALWAYS` and the ratio allow."""
    most, total = max(ALWAYS, ratio * size), sum(info.file_size for info in archive.infolist())
    if total > most:
        raise ValueError(f"it would unpack to {total >> 20} MB, more than {most >> 20} MB")


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks other kinds at once
        raise ValueError(f"member {info.filename} is packed by another way than deflate")
    return archive.open(info)


def _array(file: IO[bytes], length: int) -> np.ndarray:
    """Return the array of an opened .npy file of so many bytes."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    shape, by_columns, dtype = read_header[version](file)
    if dtype.hasobject:
        raise ValueError("pickled objects, which are not read")
    count, rest = math.prod(shape), length - file.tell()
    if min(shape, default=1) < 0 or (count and not dtype.itemsize) or count * dtype.itemsize != rest:
        raise ValueError(f"its header claims the shape {shape} of {dtype}, but {rest} bytes follow")
    content = file.read(rest)
    if len(content) != rest:
        raise EOFError("it is cut short")
    array = np.frombuffer(bytearray(content), dtype) if rest else np.zeros(0, dtype)
    return array.reshape(shape, order="F" if by_columns else "C")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
