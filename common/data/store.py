"""Faces that are drawn or decoded once and then read from a local folder by every run.

A store is `images.npy` (N, S, S, 3) uint8, mapped into memory, so that all loader processes share its pages, and
`faces.npz` with the annotations. It is written beside its final place and moved there when complete: a folder that
exists is whole. Its name carries a digest of everything that decides its content, so that a stale one is never read.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, begin_worker
from common.errors import LabError
from common.files.arrays import DAMAGED, read_arrays
from common.types import FaceSample

IMAGES, FACES = "images.npy", "faces.npz"
REPORT = 2.0  # seconds between two lines of progress
_source: FaceDataset  # of a worker process


class StoredFaces(FaceDataset):
    """Faces of a store.

    Args:
        folder: written by `build`.
        like: the data set that the store was built from; gives name, scheme and subset names, and is drawn no more.

    Raises:
        LabError: the store is missing or damaged, or does not have the data set's faces.
    """

    def __init__(self, folder: Path, like: FaceDataset) -> None:
        self.folder, self.like = folder, like
        self.name, self.scheme, self.subset_names = like.name, like.scheme, like.subset_names
        try:
            self.faces = read_arrays(folder / FACES)
            self._images: np.ndarray | None = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
            shapes = {name: values.shape[1:] for name, values in self.faces.items()}
            wanted = {"visible": (like.scheme.num_points,), "box": (4,), "pose": (3,), "id": (),
                      "subsets": (len(like.subset_names),), "points": shapes["points"]}  # fmt: skip
            sound = shapes == wanted and self._images.ndim == 4 and self._images.dtype == np.uint8
            sound = sound and len({len(values) for values in self.faces.values()}) == 1
        except (LabError, OSError, *DAMAGED):
            sound = False
        if not sound:
            raise LabError(f"{folder}: the store is damaged; remove the folder, and it is written anew")
        assert self._images is not None
        if len(self._images) != len(like) or len(self.faces["id"]) != len(like):
            raise LabError(f"{folder}: holds {len(self._images)} faces, not {len(like)}; remove the folder")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_images": None}  # a spawned process maps the file itself

    def __len__(self) -> int:
        return len(self.faces["id"])

    def shapes(self) -> np.ndarray:
        return self.faces["points"]

    def points3d(self, index: int) -> np.ndarray:
        return self.like.points3d(index)

    def __getitem__(self, index: int) -> FaceSample:
        if self._images is None:
            self._images = np.load(self.folder / IMAGES, mmap_mode="r", allow_pickle=False)
        row = {name: array[index] for name, array in self.faces.items()}
        pose = row["pose"]
        return FaceSample(
            image=np.asarray(self._images[index]),
            points=row["points"],
            visible=row["visible"],
            box=row["box"],
            pose=None if np.isnan(pose).all() else pose,
            subsets=tuple(name for name, flag in zip(self.subset_names, row["subsets"], strict=True) if flag),
            id=str(row["id"]),
        )


def digest(content: dict[str, object]) -> str:
    """Return a short digest of settings."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _start(source: FaceDataset) -> None:
    global _source
    _source = source
    begin_worker()


def _draw(index: int) -> FaceSample:
    return _source[index]


def _samples(source: FaceDataset, workers: int) -> Iterator[FaceSample]:
    if workers <= 1:
        yield from (source[index] for index in range(len(source)))
        return
    with multiprocessing.get_context("fork").Pool(workers, _start, (source,)) as pool:
        yield from pool.imap(_draw, range(len(source)), chunksize=8)


def build(source: FaceDataset, folder: Path, workers: int = 0) -> StoredFaces:
    """Write the faces of a data set, all of one picture size, to a store, unless it is there; return the store.

    Several processes may call it at once for the same folder: the first to finish wins, the others' work is dropped.

    Args:
        source: data set that is drawn or decoded.
        folder: of the store.
        workers: processes that draw; 0 or 1 for none but this one.

    Raises:
        LabError: pictures differ in size.
    """
    if folder.is_dir():
        return StoredFaces(folder, source)
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        _write(source, scratch, workers)
        try:
            scratch.replace(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return StoredFaces(folder, source)


def _write(source: FaceDataset, folder: Path, workers: int) -> None:
    rows: dict[str, list[object]] = {name: [] for name in ("points", "visible", "box", "pose", "subsets", "id")}
    images, count, start, reported = None, len(source), time.monotonic(), time.monotonic()
    for index, sample in enumerate(_samples(source, workers)):
        if images is None:
            shape = (count, *sample.image.shape)
            images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=shape)
        if sample.image.shape != images.shape[1:]:
            raise LabError(f"{sample.id}: picture of {sample.image.shape[:2]}, the first has {images.shape[1:3]}")
        images[index] = sample.image
        unknown = np.full(3, np.nan, np.float32)
        rows["points"].append(sample.points)
        rows["visible"].append(sample.visible)
        rows["box"].append(sample.box)
        rows["pose"].append(unknown if sample.pose is None else sample.pose)
        rows["subsets"].append([name in sample.subsets for name in source.subset_names])
        rows["id"].append(sample.id)
        if time.monotonic() - reported > REPORT or index + 1 == count:
            reported = time.monotonic()
            rate = (index + 1) / (reported - start)
            print(f"\r{source.name}: {index + 1}/{count} faces, {rate:.0f} a second", end="", file=sys.stderr)
    print(file=sys.stderr)
    if images is not None:
        images.flush()
    np.savez(folder / FACES, allow_pickle=False, **{name: np.array(values) for name, values in rows.items()})
