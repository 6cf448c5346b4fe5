"""What a data set is: an index that returns `FaceSample`s; and the checks that every reader shares."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from torch.utils.data import Dataset

from common.errors import LabError
from common.geometry import tight_box
from common.schemes import LandmarkScheme
from common.types import FaceSample

Item = TypeVar("Item")
Made = TypeVar("Made")
_listed: ContextVar[list[str] | None] = ContextVar("_listed", default=None)


@contextmanager
def all_faults() -> Iterator[list[str]]:
    """Make readers list the faults of a set and leave out the faces that have one; else they stop at the first."""
    faults: list[str] = []
    token = _listed.set(faults)
    try:
        yield faults
    finally:
        _listed.reset(token)


def each(parse: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """Return what a reader's `parse` makes of each annotated face; within `all_faults`, of those without a fault."""
    faults = _listed.get()
    if faults is None:
        return [parse(item) for item in items]
    made = []
    for item in items:
        try:
            made.append(parse(item))
        except LabError as error:
            faults.append(str(error))
    return made


class Once:
    """Refuses a face that a list has twice: the same photograph with the same points (and what else is given)."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def check(self, where: str, photograph: str, *values: np.ndarray) -> None:
        """Remember a face at a place of the list.

        Raises:
            LabError: it was there before.
        """
        name = unicodedata.normalize("NFC", photograph).encode(errors="surrogateescape")
        key = hashlib.blake2b(b"\0".join([name, *(value.tobytes() for value in values)]), digest_size=16).digest()
        before = self._seen.setdefault(key, where)
        if before is not where:
            raise LabError(f"{where}: is the same face as {before}; remove one of them")


def one_thread() -> None:
    """Keep OpenCV to one thread in this process: faces are worked on in parallel by processes, one a core."""
    cv2.setNumThreads(0)


def begin_worker(worker: int = 0) -> None:
    """Begin a process of a loader or pool: OpenCV in one thread, and an end when the process that started it is killed.

    By itself it would wait for ever, with its memory, where the kill came while it was writing to a full queue.
    """
    one_thread()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(1)
    os._exit(1)


class FaceDataset(Dataset[FaceSample]):
    """Annotated faces. Knows no augmentation and no network.

    Attributes:
        name: short name for tables.
        scheme: landmark scheme of `FaceSample.points`.
        subset_names: all subsets that samples may name, in the order of tables.
    """

    name: str
    scheme: LandmarkScheme
    subset_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> FaceSample:
        raise NotImplementedError

    def shapes(self) -> np.ndarray | None:
        """Return all landmarks (N, L, D), image pixels, where they are at hand without reading a picture; else None.

        NaN where a point is not annotated.
        """
        return None

    def per_epoch(self) -> int:
        """Return how many faces a training epoch has."""
        return len(self)

    def drawn(self, seed: int, epoch: int) -> np.ndarray:
        """Return the places (per_epoch(),) of an epoch's training faces, before they are shuffled."""
        return np.arange(len(self))

    def points3d(self, index: int) -> np.ndarray:
        """Return the 3D landmarks (L, 3) of a face: image pixels, z to the viewer in the same unit.

        Raises:
            LabError: the data set knows no depth.
        """
        raise LabError(f"data set {self.name} has no depth")


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a glob pattern in order, without the "._" twins that macOS leaves on foreign disks."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("._"))


LEAST_FACE = 4  # pixels; the shorter side of a box that can be meant as a face's


def check_points(points: np.ndarray, scheme: LandmarkScheme, where: str) -> np.ndarray:
    """Return the points as float32 (L, D), or tell what is wrong with them.

    Raises:
        LabError: the count does not fit the scheme, or a coordinate is NaN or infinite.
    """
    if points.ndim != 2 or points.shape[0] != scheme.num_points or points.shape[1] not in (2, 3):
        raise LabError(f"{where}: {points.shape[0]} landmarks, but scheme {scheme.name} has {scheme.num_points}")
    with np.errstate(over="ignore", invalid="ignore"):
        single = points.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single).all(axis=1))
    if bad.size:
        raise LabError(f"{where}: landmark {int(bad[0])} is not finite; correct or remove this face")
    return single


def check_box(box: np.ndarray, where: str) -> np.ndarray:
    """Return the box x0 y0 x1 y1 as float32 (4,).

    Raises:
        LabError: it is not finite or has no area.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        box = np.asarray(box, dtype=np.float32)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise LabError(f"{where}: box {box.tolist()} is not four finite numbers")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise LabError(f"{where}: box {box.tolist()} (x0 y0 x1 y1) has no area")
    return box


def check_box_in(box: np.ndarray, height: int, width: int, where: str) -> np.ndarray:
    """Return the box x0 y0 x1 y1 of a face in a picture, as float32 (4,); a part of it may be outside.

    Raises:
        LabError: as `check_box`; or all of it is outside, it is in shares of the picture, or too small for a face.
    """
    box = check_box(box, where)
    x0, y0, x1, y1 = box.tolist()
    if min(x1 - x0, y1 - y0) < LEAST_FACE:
        shares = min(x0, y0) >= 0 and max(x1, y1) <= 1
        what = "is in shares of the picture" if shares else f"has a side under {LEAST_FACE} pixels"
        raise LabError(f"{where}: box {box.tolist()} {what}; give x0 y0 x1 y1 in pixels, here of {width} x {height}")
    if x1 <= 0 or y1 <= 0 or x0 >= width - 1 or y0 >= height - 1:
        raise LabError(f"{where}: box {box.tolist()} (x0 y0 x1 y1) is outside the picture of {width} x {height} pixels")
    return box


def check_photo(path: Path, where: str) -> Path:
    """Return the path of a photograph that exists.

    Raises:
        LabError: it does not; says so where a file of the same name in another Unicode form does.
    """
    if os.path.isfile(path):  # False for names that the system does not take, too
        return path
    if other_form(path):
        raise LabError(f"{where}: photograph {path} is there under a name that looks the same in another Unicode "
                       "form; rename the file, or write the list in the form of the file's name")  # fmt: skip
    raise LabError(f"{where}: photograph {path} is missing; is the data set complete?")


def other_form(path: Path) -> Path | None:
    """Return the file in a path's folder whose name without its ending differs in Unicode form alone, if there is one.

    Lists and archives from macOS write accents as letter and mark, others as one character.
    """
    if path.stem.isascii() or not os.path.isdir(path.parent):
        return None
    name = unicodedata.normalize("NFC", path.stem)
    twins = (other for other in path.parent.iterdir() if unicodedata.normalize("NFC", other.stem) == name)
    return next((other for other in twins if other.stem != path.stem), None)


NORMS = ("corners", "box")  # what errors of lists of one's own are divided by


def check_norm(norm: str) -> str:
    """Return a name of NORMS, or raise a LabError that lists them."""
    if norm not in NORMS:
        raise LabError(f"--data.norm must be one of {', '.join(NORMS)}, got {norm}")
    return norm


def own_norm(points: np.ndarray, known: np.ndarray, scheme: LandmarkScheme, norm: str, where: str) -> float:
    """Return the normaliser of a face of points (L, 2), image pixels, of which known (L,) bool are annotated.

    Raises:
        LabError: it is 0, or a point that it needs is not annotated.
    """
    if norm == "box":
        x0, y0, x1, y1 = tight_box(points[known]).tolist()
        length = math.sqrt((x1 - x0) * (y1 - y0))
    else:
        left, right = scheme.corners
        length = math.dist(points[left].tolist(), points[right].tolist()) if known[left] and known[right] else 0.0
    if not length > 0:
        raise LabError(f"{where}: its normaliser ({norm}) is 0 or not annotated; try --data.norm box")
    return length


def check_root(root: Path | str | None, what: str) -> Path:
    """Return `root` as a folder that exists.

    Raises:
        LabError: no root was given, or there is no such folder.
    """
    if root is None:
        raise LabError(f"data set {what} needs its folder: give --data.root FOLDER")
    path = Path(root)
    if not path.is_dir():
        raise LabError(f"{path}: no such folder (root of data set {what}); check --data.root")
    return path
