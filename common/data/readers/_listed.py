"""What readers share that know all their annotation before a picture is read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, check_box, check_photo, check_points
from common.errors import LabError
from common.files.images import read_image
from common.geometry import tight_box
from common.schemes import LandmarkScheme
from common.types import FaceSample

SUFFIXES = (".jpg", ".png", ".jpeg", ".bmp")


@dataclass(frozen=True)
class Face:
    """An annotated face whose picture is not read yet; fields as in `FaceSample`."""

    image: Path
    points: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    id: str
    annotated: np.ndarray | None = None
    norm: float | None = None
    subsets: tuple[str, ...] = ()


def make_face(
    image: Path,
    points: np.ndarray,
    scheme: LandmarkScheme,
    where: str,
    root: Path,
    box: np.ndarray | None = None,
    annotated: np.ndarray | None = None,
    visible: np.ndarray | None = None,
    norm: float | None = None,
    subsets: Sequence[str] = (),
    number: int | None = None,
) -> Face:
    """Return a checked face; its box is the tight box of the annotated points where none is given.

    Args:
        image: the photograph.
        points: (L, 2) image pixels, 0-based.
        scheme: of the points.
        where: file, or file and line, for messages.
        root: folder that the face's name starts from.
        box: (4,) x0 y0 x1 y1.
        annotated: (L,) bool; None where all are.
        visible: (L,) bool; None for the annotated ones.
        norm: see `FaceSample`.
        subsets: test subsets.
        number: of the face, for its name, where a photograph may hold several.

    Raises:
        LabError: the photograph is missing, no point is annotated, or points or box are wrong.
    """
    check_photo(image, where)
    known = np.ones(len(points), bool) if annotated is None else annotated
    checked = check_points(np.where(known[:, None], points, 0.0), scheme, where)
    found = tight_box(checked[known]) if box is None and known.any() else box
    return Face(
        image=image,
        points=checked,
        visible=known if visible is None else visible & known,
        box=check_box(np.full(4, np.nan) if found is None else found, where),
        id=("" if number is None else f"{number:05d}/") + image.relative_to(root).as_posix(),
        annotated=None if known.all() else known,
        norm=norm,
        subsets=tuple(subsets),
    )


def photo_beside(path: Path) -> Path:
    """Return the photograph of the same name; .jpg where there is none.

    Raises:
        LabError: there are two.
    """
    found = [photo for end in SUFFIXES if (photo := path.with_suffix(end)).is_file()]
    if len(found) > 1:
        raise LabError(f"{found[0]} and {found[1].name}: two photographs of one name; keep one")
    return found[0] if found else path.with_suffix(".jpg")


def one_in(stem: str, many: int) -> bool:
    """Return whether a photograph is one of those that are kept for validation, by the sum of its name."""
    return zlib.crc32(stem.encode(errors="surrogateescape")) % many == 0


class ListedFaces(FaceDataset):
    """A data set whose faces are `faces`."""

    faces: list[Face]

    def __len__(self) -> int:
        return len(self.faces)

    def shapes(self) -> np.ndarray:
        return np.array([
            face.points if face.annotated is None else np.where(face.annotated[:, None], face.points, np.nan)
            for face in self.faces
        ])  # fmt: skip

    def __getitem__(self, index: int) -> FaceSample:
        face = self.faces[index]
        return FaceSample(
            image=read_image(face.image),
            points=face.points,
            visible=face.visible,
            box=face.box,
            subsets=face.subsets,
            id=face.id,
            annotated=face.annotated,
            norm=face.norm,
        )
