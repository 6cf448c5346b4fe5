"""Prepared crops: `NAME.zip` of JPEG members beside `NAME.npz` with their landmarks, one pair per split."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, Once, check_box, check_points, check_root, each
from common.errors import LabError
from common.files.arrays import DAMAGED, MAX_MEMBER, NUMBERS, read_arrays, read_member
from common.files.images import decode_image
from common.geometry import tight_box
from common.schemes import get_scheme
from common.types import FaceSample

FIELDS = ("filename", "landmarks_crop")


class PreparedCrops(FaceDataset):
    """Faces cut out beforehand; image pixels are those of the prepared crop, 0-based.

    All points count as visible; the box is their tight box. Subsets are what the column of that name holds.

    Args:
        root: folder with SPLIT.zip and SPLIT.npz.
        split: train, val or test.
        scheme: landmark scheme of the arrays.

    Raises:
        LabError: a file is missing or damaged, an array is missing, a member of the zip is missing or unnamed,
            landmarks do not fit the scheme or are not finite.
    """

    def __init__(self, root: str, split: str = "train", scheme: str = "ibug68") -> None:
        folder = check_root(root, "crops")
        self.name, self.scheme = f"{folder.name}/{split}", get_scheme(scheme)
        self.zip_path, table = folder / f"{split}.zip", folder / f"{split}.npz"
        self.zip_name = str(self.zip_path)
        for path in (self.zip_path, table):
            if not path.is_file():
                raise LabError(f"{path}: missing; a split of prepared crops is a .zip and a .npz of one name")
        arrays = _read_table(table)
        self.files: list[str] = [str(name) for name in arrays["filename"]]
        landmarks = arrays["landmarks_crop"]

        once = Once()

        def face(row: int) -> tuple[int, np.ndarray, np.ndarray]:
            points = check_points(landmarks[row], self.scheme, f"{table}: row {row}")
            once.check(f"{table}: row {row}", self.files[row], points)  # a picture may hold several faces, each once
            return row, points, check_box(tight_box(points), f"{table}: row {row}")

        read = each(face, range(len(landmarks)))
        rows = [row for row, _, _ in read]
        self.points = np.array([points for _, points, _ in read]).reshape(-1, self.scheme.num_points, 2)
        self.boxes = np.array([box for *_, box in read])
        self.files = [self.files[row] for row in rows]
        subset = arrays.get("subset")
        self.subsets = [str(subset[row]) for row in rows] if subset is not None else [""] * len(self.files)
        self.subset_names = tuple(sorted(set(self.subsets) - {""}))
        self.identities = [str(arrays["identity"][row]) for row in rows] if "identity" in arrays else list(self.files)
        self.visible = np.ones(self.scheme.num_points, dtype=bool)
        self._stored: dict[str, tuple[int, int, int]] = {}  # member -> offset, length and CRC of its bytes
        self._sound: set[str] = set()  # members whose bytes this process has checked
        self._check_members()
        self._archive: tuple[int, zipfile.ZipFile] | None = None

    def _check_members(self) -> None:
        try:
            with self.zip_path.open("rb") as file, zipfile.ZipFile(file) as archive:
                members = set(archive.namelist())
                for info in archive.infolist():
                    # An image that is stored as it is can be read in one call; zipfile takes a tenth of a crop's time.
                    if info.compress_type == zipfile.ZIP_STORED and info.file_size <= MAX_MEMBER:
                        archive.open(info).close()  # checks the local header and leaves the file after it
                        self._stored[info.filename] = (file.tell(), info.file_size, info.CRC)
        except (OSError, *DAMAGED):
            raise LabError(f"{self.zip_path}: damaged or no zip file; copy it again") from None
        absent = [name for name in self.files if name not in members]
        if absent:
            raise LabError(f"{self.zip_path}: {len(absent)} images of the table are missing, first {absent[0]}")

    def __len__(self) -> int:
        return len(self.files)

    def shapes(self) -> np.ndarray:
        return self.points

    def read(self, name: str) -> bytes:
        """Return the bytes of one image file of the archive."""
        # One handle a process: a handle shared over a fork would mix the readers' positions.
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = (os.getpid(), zipfile.ZipFile(self.zip_path))
        stored = self._stored.get(name)
        if stored is None:
            return read_member(self._archive[1], name)
        offset, length, crc = stored
        assert self._archive[1].fp is not None
        data = os.pread(self._archive[1].fp.fileno(), length, offset)
        if name not in self._sound:  # once a run: the sum costs half as much again as the read
            if zlib.crc32(data) != crc:
                raise zipfile.BadZipFile(f"bad checksum of {name}")
            self._sound.add(name)
        return data

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None}

    def __getitem__(self, index: int) -> FaceSample:
        name, subset = self.files[index], self.subsets[index]
        where = f"{self.zip_name}: member {name}"
        try:
            data = self.read(name)
        except (OSError, *DAMAGED) as error:
            raise LabError(f"{where}: cannot be read ({error}); the zip file is damaged") from None
        return FaceSample(
            image=decode_image(data, where),
            points=self.points[index],
            visible=self.visible,
            box=self.boxes[index],
            subsets=(subset,) if subset else (),
            id=name,
        )


def _read_table(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a split's table: a row of each for every face.

    Raises:
        LabError: as `read_arrays`; an array is missing, is not of the kind that it should be, or has too few rows.
    """
    arrays = read_arrays(path)
    for field in FIELDS:
        if field not in arrays:
            raise LabError(f"{path}: array {field} is missing; it has {', '.join(arrays) or 'none'}")
    count = len(arrays["filename"]) if arrays["filename"].ndim else -1
    kinds = {"filename": (1, "US"), "landmarks_crop": (3, NUMBERS), "subset": (1, "US"), "identity": (1, "USiu")}
    for name in kinds.keys() & arrays.keys():
        (axes, kind), array = kinds[name], arrays[name]
        if array.ndim != axes or len(array) != count or array.dtype.kind not in kind:
            what = "numbers (faces, points, 2)" if axes == 3 else "one word a face"
            raise LabError(f"{path}: {name} is {array.dtype} {array.shape}, not {what}, for {count} file names")
    return arrays
