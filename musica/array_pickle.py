"""Reading one pickled NumPy array without running anything that the file names.

A pickle is a program. Here the few names that an array's pickle needs stand for inert records of our own; every other
name stops the reading, and NumPy itself is only given the bytes at the end.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import LabError

LARGEST = 64 * 2**20  # bytes; a start shape has a few hundred
GZIP = b"\x1f\x8b"
DTYPES = ("f4", "f8")


class _Array:
    """Stands for numpy.ndarray while a pickle is read: keeps the state that it is given."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """Stands for numpy.dtype: keeps the code and the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar_bytes(text: Any, encoding: Any) -> bytes:
    # Python 3 writes bytes of protocol 2 as a call of codecs.encode(text, "latin1").
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes in another encoding")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _scalar_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def _unpack(path: Path) -> bytes:
    if not path.is_file():
        raise LabError(f"{path}: no such file")
    data = path.read_bytes()[: LARGEST + 1]
    if data[:2] == GZIP:
        try:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(LARGEST + 1)
        except (OSError, EOFError, zlib.error):
            raise LabError(f"{path}: damaged; copy it again") from None
    if len(data) > LARGEST:
        raise LabError(f"{path}: over {LARGEST} bytes; this is no start shape")
    return data


def read_array_pickle(path: Path) -> np.ndarray:
    """Return the float array of a pickle written by Python 2 or 3, gzip-compressed or not.

    Raises:
        LabError: the file is missing or damaged, names anything but an array, or is no array of floats.
    """
    data = _unpack(path)
    try:
        found = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise LabError(f"{path}: refused, this pickle is more than an array of numbers ({error})") from None
    except Exception:  # a damaged pickle fails in any way at all; nothing of it was run
        raise LabError(f"{path}: damaged or no pickle of an array; copy it again") from None
    try:
        _, shape, dtype, fortran, raw = found.state
        code = str(dtype.code)
        values = raw.encode("latin1") if isinstance(raw, str) else raw
        if code not in DTYPES or dtype.order not in ("<", ">", "="):
            raise ValueError(code)
        array = np.frombuffer(values, np.dtype(code).newbyteorder(dtype.order))
        return array.reshape(shape, order="F" if fortran else "C").astype(np.float64)
    except (AttributeError, TypeError, ValueError):
        raise LabError(f"{path}: holds no array of floats") from None
