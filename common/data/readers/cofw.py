"""COFW: MATLAB 7.3 (HDF5) files with 29 points and their occlusion (Burgos-Artizzu et al., ICCV 2013)."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import h5py
import numpy as np

from common.data.base import FaceDataset, check_box, check_points, check_root, each
from common.errors import LabError
from common.files.arrays import DAMAGED, NUMBERS
from common.schemes import COFW29
from common.types import FaceSample

FILES = {"train": "COFW_train_color.mat", "test": "COFW_test_color.mat"}
SUFFIX = {"train": "Tr", "test": "T"}  # the variables are IsTr, phisTr, bboxesTr and IsT, phisT, bboxesT
LARGEST = 1 << 28  # bytes of one array
DEFLATE = h5py.h5z.FILTER_DEFLATE
PACKINGS = {DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}  # each keeps a chunk's size, or says it
CHECKSUM = 4  # bytes that one of them adds
L = COFW29.num_points


class COFW(FaceDataset):
    """COFW in its published colour files.

    Points are read 1-based and returned 0-based. Boxes are the file's detector boxes (x, y, width, height). The last
    third of phis is 1 for a hidden point, which keeps its estimated place, and 0 for a visible one. The official splits
    have 1,345 faces (train) and 507 (test), and no subsets.

    Args:
        root: folder that holds the `.mat` files.
        split: train or test, or the path of a file in the test file's format.

    Raises:
        LabError: the file is missing, is no MATLAB 7.3 file or lacks a variable, or a face in it is wrong.
    """

    def __init__(self, root: str, split: str = "train") -> None:
        folder = check_root(root, "cofw")
        if split not in FILES and not split.endswith(".mat"):
            raise LabError(f"cofw has the splits {', '.join(FILES)}, not {split}")
        self.path = Path(split) if split.endswith(".mat") else folder / FILES[split]
        if not self.path.is_file():
            raise LabError(f"{self.path}: missing; it is one of the two colour files of COFW")
        self.name, self.scheme, tail = f"cofw/{split}", COFW29, SUFFIX.get(split, "T")
        self.images_key = f"Is{tail}"
        with self._open() as file:
            names = self._names(file)
            for key in (self.images_key, f"phis{tail}", f"bboxes{tail}"):
                if key not in names:
                    raise LabError(f"{self.path}: variable {key} is missing; it has {', '.join(map(str, names))}")
            phis, boxes = (self._values(file, f"{name}{tail}", NUMBERS).T for name in ("phis", "bboxes"))
            count = self._values(file, self.images_key, "O").size
        if phis.shape != (count, 3 * L) or boxes.shape != (count, 4):
            raise LabError(f"{self.path}: {count} images, but landmarks {phis.shape} and boxes {boxes.shape}")

        def face(row: int) -> tuple[int, np.ndarray, np.ndarray]:
            where = f"{self.path}: face {row + 1}"
            xy = np.stack([phis[row, :L], phis[row, L : 2 * L]], axis=1) - 1
            x, y, width, height = boxes[row]
            box = check_box(np.array([x - 1, y - 1, x - 1 + width, y - 1 + height]), where)
            return row, check_points(xy, COFW29, where), box

        read = each(face, range(count))
        self.rows = [row for row, _, _ in read]
        self.points, self.boxes = [points for _, points, _ in read], [box for *_, box in read]
        self.visible = phis[self.rows, 2 * L :] < 0.5

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r")
        except OSError:
            with self.path.open("rb") as file:
                former = file.read(10) == b"MATLAB 5.0"
            what = "is a MATLAB 5 file, where version 7.3 is expected; save it with -v7.3"
            if not former:
                what = "is no MATLAB 7.3 (HDF5) file, or is damaged; copy it again"
            raise LabError(f"{self.path}: {what}") from None

    def _names(self, file: h5py.File) -> list[str]:
        try:
            return list(file)
        except (OSError, *DAMAGED):
            raise LabError(f"{self.path}: is damaged; copy it again") from None

    def _values(self, file: h5py.File, key: str | h5py.Reference, kinds: str) -> np.ndarray:
        """Return an array of the file, whose size is looked at first: HDF5 fills in what the file does not hold.

        Raises:
            LabError: it is damaged, too large, of another kind, or not in this file.
        """
        try:
            if isinstance(key, str) and not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise TypeError("lies in another file")
            found = file[key]
            if not isinstance(found, h5py.Dataset) or found.dtype.kind not in kinds:
                raise TypeError("is no array of the right kind")
            room = found.dtype.itemsize * max(found.size or 0, math.prod(found.chunks or ()))
            if room > LARGEST or found.is_virtual or found.external:
                raise ValueError(f"{found.shape} is too large, or elsewhere")
            _check_chunks(found.id, self.path.stat().st_size)
            return np.asarray(found)
        except (OSError, *DAMAGED) as error:
            what = key if isinstance(key, str) else "a picture"
            raise LabError(f"{self.path}: {what} cannot be read ({error}); copy the file again") from None

    def __len__(self) -> int:
        return len(self.points)

    def shapes(self) -> np.ndarray:
        return np.stack(self.points)

    def __getitem__(self, index: int) -> FaceSample:
        with self._open() as file:  # opened anew: HDF5 handles do not survive a fork
            reference = self._values(file, self.images_key, "O").reshape(-1)[self.rows[index]]
            stored = self._values(file, reference, "uif")
        return FaceSample(
            image=_picture(stored, f"{self.path}: face {self.rows[index] + 1}"),
            points=self.points[index],
            visible=self.visible[index],
            box=self.boxes[index],
            id=f"{self.path.name}/{self.rows[index] + 1}",
        )


def _check_chunks(stored: h5py.h5d.DatasetID, file_size: int) -> None:
    """Raise a ValueError if a chunk would unpack to more than a chunk holds: HDF5 takes as much memory as it gives."""
    made = stored.get_create_plist()
    filters = [made.get_filter(place)[0] for place in range(made.get_nfilters())]
    if len(set(filters)) < len(filters) or not set(filters) <= PACKINGS:
        raise ValueError("is packed by another way than deflate")
    if DEFLATE not in filters:
        return
    found: list[h5py.h5d.StoreInfo] = []
    stored.chunk_iter(found.append)
    most = stored.get_type().get_size() * math.prod(made.get_chunk()) + CHECKSUM
    for chunk in found:
        if chunk.size > file_size:
            raise ValueError("has a chunk that is larger than the file")
        if chunk.filter_mask & 1 << filters.index(DEFLATE):
            continue  # stored as it is
        content = stored.read_direct_chunk(chunk.chunk_offset)[1]
        if len(zlib.decompressobj().decompress(content, most + 1)) > most:
            raise ValueError("has a chunk that unpacks to more than its shape holds")


def _picture(stored: np.ndarray, where: str) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 of an HDF5 array.

    Raises:
        LabError: its shape or its values are not a picture's.
    """
    # MATLAB stores columns first: (3, W, H) in HDF5 is (H, W, 3) there; grey pictures have no third axis, or one of 1.
    image = stored.T if stored.ndim == 3 else stored.T[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise LabError(f"{where}: a picture of shape {stored.shape}; expected grey values or three colours")
    if image.dtype.kind == "f" and image.size and 0 <= image.min() and image.max() <= 1:
        image = image * 255  # as MATLAB's im2double leaves it
    if image.dtype != np.uint8 and not (image.size and 0 <= image.min() and image.max() <= 255):
        raise LabError(f"{where}: a picture of {image.dtype} values outside 0..255; convert it to 8 bits")
    whole = image if image.dtype == np.uint8 else np.rint(image).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(whole, (*whole.shape[:2], 3)))
