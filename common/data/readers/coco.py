"""Keypoints in COCO's JSON, as mmpose's face sets have them: WFLW, COFW, AFLW, LaPa, 300W, 300W-LP, and others'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel

from common.data.base import Once, check_norm, check_root, each, own_norm
from common.data.readers._listed import Face, ListedFaces, make_face
from common.errors import LabError
from common.files.validation import Finite, read_json, validated
from common.schemes import get_scheme

SEEN = 2  # COCO's word for a visible point; 1 is annotated and hidden, 0 not annotated
FOLDERS = ("", "images")


class _Image(BaseModel):
    """What is read of a photograph."""

    id: int | str
    file_name: str


class _Annotation(BaseModel):
    """What is read of a face."""

    image_id: int | str
    keypoints: list[Finite]
    bbox: tuple[Finite, Finite, Finite, Finite] | None = None


class _File(BaseModel):
    """What is read of the file."""

    images: list[_Image]
    annotations: list[_Annotation]


class CocoFaces(ListedFaces):
    """Faces of a COCO keypoints file; photographs are below the folder, or below images.

    Coordinates are 0-based. Of the triples x y v, v is 0 for a point that is not annotated, 1 for a hidden and 2 for a
    visible one; in a file that never says 2, as mmpose's AFLW, 1 is visible. bbox is x, y, width, height; without it
    the box is the tight box of the annotated points. A file is a split; there are no subsets.

    Args:
        root: folder of the file.
        split: its name without .json, such as train or test, or the path of a file.
        scheme: landmark scheme, in the file's order.
        norm: what errors are divided by: corners or box, as in data set json.

    Raises:
        LabError: the file is missing or not sound, or a face or its photograph is wrong or missing (named by number).
    """

    def __init__(self, root: str, split: str, scheme: str, norm: str = "corners") -> None:
        self.root, self.scheme, self.norm = check_root(root, "coco"), get_scheme(scheme), check_norm(norm)
        self.path = Path(split) if split.endswith(".json") else self.root / f"{split}.json"
        self.name = f"{self.root.name}/{self.path.stem}"
        file = validated(_File, read_json(self.path, "a split is SPLIT.json in the folder"), str(self.path))
        self.photos = {image.id: image.file_name for image in file.images}
        self.seen = SEEN if any(SEEN in value.keypoints[2::3] for value in file.annotations) else SEEN - 1
        once = Once()
        self.faces = each(lambda item: self._face(*item, once), list(enumerate(file.annotations)))

    def _face(self, number: int, value: _Annotation, once: Once) -> Face:
        where, count = f"{self.path}: annotations[{number}]", self.scheme.num_points
        if value.image_id not in self.photos:
            raise LabError(f"{where}: image_id {value.image_id} is not among the images")
        if len(value.keypoints) != 3 * count:
            raise LabError(f"{where}: {len(value.keypoints)} numbers in keypoints, but scheme {self.scheme.name} has "
                           f"{count} points, 3 numbers each")  # fmt: skip
        triples = np.array(value.keypoints).reshape(count, 3)
        known = triples[:, 2] > 0
        if not known.any():
            raise LabError(f"{where}: no point is annotated; remove this face")
        name = self.photos[value.image_id]
        once.check(where, name, triples)
        paths = [self.root / folder / name for folder in FOLDERS]
        image = next((path for path in paths if path.is_file()), paths[0])
        box = None
        if value.bbox is not None:
            x, y, width, height = value.bbox
            box = np.array([x, y, x + width, y + height])
        norm = own_norm(triples[:, :2], known, self.scheme, self.norm, where)
        return make_face(image, triples[:, :2], self.scheme, where, self.root, box=box, annotated=known,
                         visible=triples[:, 2] >= self.seen, norm=norm, number=number)  # fmt: skip
