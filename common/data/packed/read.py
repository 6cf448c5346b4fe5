"""Faces of a prepared store, in any order: `--data.dataset store --data.root FOLDER`, or an object store's address."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.base import FaceDataset
from common.data.packed.chunks import LEAVES, ChunkFiles
from common.data.packed.layout import ABOUT, FORMAT, POINTS, READABLE, About, Row, decode
from common.errors import LabError
from common.files.arrays import read_array
from common.files.validation import read_json, validated
from common.schemes import get_scheme
from common.types import FaceSample

HINT = "a store is written by `python -m common.data prepare NAME --root FOLDER --out STORE`"


class PackedFaces(FaceDataset):
    """A split of a prepared store. Image pixels are those of the kept picture.

    A process opens the chunks itself, at its first face; nothing of the store but its index is held in memory. From a
    local folder each face is one read of a file; from an object store litdata fetches it by its range of bytes.

    Args:
        root: folder, or address such as s3://BUCKET/FOLDER.
        split: train, val or test.

    Raises:
        LabError: there is no store, it lacks the split, or it is damaged.
    """

    def __init__(self, root: str, split: str) -> None:
        self.root, self.remote = root.rstrip("/"), "://" in root
        if not self.remote and not Path(root).is_dir():
            raise LabError(f"{root}: no such folder; {HINT}")
        about = validated(About, self._json(ABOUT, HINT), f"{self.root}/{ABOUT}")
        if about.format not in READABLE:
            raise LabError(f"{self.root}: a store of format {about.format}, not {FORMAT}; prepare it anew")
        if split not in about.splits:
            raise LabError(f"{self.root}: the store has the splits {', '.join(about.splits)}, not {split}")
        own = about.splits[split]
        self.name, self.scheme, self.subset_names = own.name, get_scheme(about.scheme), tuple(own.subset_names)
        self.folder, self.count, self.dims, self.room = own.folder, own.count, own.dims, about.room
        self.raw = own.raw
        self._rows: tuple[int, Sequence[Row]] | None = None  # of the process of that number

    def check_room(self, box_scale: float) -> None:
        """Raise a LabError where crops of so many times the box would reach beyond what the store kept."""
        if box_scale > self.room:
            more = f"crop takes {box_scale:g} (--data.crop.box_scale); prepare it with --room {box_scale * 1.4:.1f}"
            raise LabError(f"{self.root}: keeps {self.room:g} times the box of a face, but the {more}")

    def _json(self, name: str, hint: str) -> Any:
        with tempfile.TemporaryDirectory() as scratch:
            return read_json(self._file(name, scratch), hint)

    def _file(self, name: str, scratch: str) -> Path:
        """Return the path of a small file of the store, fetched where the store is elsewhere."""
        if not self.remote:
            return Path(self.root) / name
        from litdata.streaming.downloader import get_downloader  # takes seconds

        path = Path(scratch) / name.replace("/", "-")
        try:
            get_downloader(self.root, scratch, []).download_file(f"{self.root}/{name}", str(path))
        except Exception as error:  # each kind of store has errors of its own
            what = (str(error).strip().splitlines() or [""])[0][:160]
            raise LabError(f"{self.root}/{name}: cannot be fetched ({type(error).__name__}: {what}); {HINT}") from None
        return path

    def _open(self) -> Sequence[Row]:
        where = f"{self.root}/{self.folder}"
        index = self._json(f"{self.folder}/index.json", "the store is not complete; call prepare again")
        try:
            leaves, chunks = index["config"]["data_format"], index["chunks"]
            sizes = {str(chunk["filename"]): int(chunk["chunk_size"]) for chunk in chunks}
            plain = not any(index["config"].get(name) for name in ("compression", "encryption"))
            plain = plain and all(Path(name).name == name for name in sizes)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise LabError(f"{where}/index.json: is no index of a store; prepare it anew") from None
        count = sum(sizes.values())
        if leaves != LEAVES or count != self.count or min(sizes.values(), default=0) < 1 or not plain:
            raise LabError(f"{where}: holds {count} rows of {leaves}, not {self.count} faces; prepare it anew")
        if not self.remote:
            return ChunkFiles(Path(where), sizes)
        from litdata import StreamingDataset  # takes seconds, and only stores elsewhere need it

        return StreamingDataset(where, shuffle=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_rows": None}

    def __len__(self) -> int:
        return self.count

    def shapes(self) -> np.ndarray:
        with tempfile.TemporaryDirectory() as scratch:
            found = read_array(self._file(f"{self.folder}/{POINTS}", scratch), "prepare it anew")
        if found.shape != (self.count, self.scheme.num_points, self.dims) or found.dtype.kind != "f":
            raise LabError(f"{self.root}/{self.folder}/{POINTS}: holds {found.dtype} {found.shape}; prepare it anew")
        return found

    def __getitem__(self, index: int) -> FaceSample:
        if self._rows is None or self._rows[0] != os.getpid():
            self._rows = (os.getpid(), self._open())
        if not 0 <= index < self.count:
            raise IndexError(index)
        where = f"{self.root}/{self.folder}: face {index}"
        try:
            row = self._rows[1][index]
        except (OSError, ValueError, IndexError, RuntimeError, struct.error) as error:
            raise LabError(f"{where}: cannot be read ({type(error).__name__}); copy the store again") from None
        return decode(row, self.scheme.num_points, self.dims, self.raw, where)
