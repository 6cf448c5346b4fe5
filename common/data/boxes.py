"""Which box a face is cropped by (`--data.box`): the data set's, its landmarks', a detector's, or one of a file."""

from __future__ import annotations

import csv
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from torch.utils.data import DataLoader, Dataset

from common.data.base import FaceDataset, begin_worker, check_box
from common.data.readers._pts import read_pts
from common.data.wrappers import Wrapped
from common.errors import LabError
from common.files.validation import read_text
from common.geometry import tight_box
from common.prediction.detection import FaceFinder, overlap
from common.prediction.detector_file import BOX_MAPS, open_detector
from common.types import FaceSample

KINDS = {
    "dataset": "data set's box",
    "gt": "tight box of the landmarks",
    "detector": "box of detector",
    "file": "box of file",
}
LEAST_OVERLAP = 0.3  # intersection over union with the annotated face, from which a detection is that face
HEADING = ["id", "x0", "y0", "x1", "y1"]
HINT = "`python -m common.data boxes NAME --root FOLDER --out FILE.csv` writes such a file"
BoxOf = Callable[[int, FaceSample], np.ndarray]


def check_choice(choice: str) -> tuple[str, str]:
    """Return kind and detail of --data.box.

    Raises:
        LabError: it is none of dataset, gt, detector, detector:MODEL, file:PATH.
    """
    kind, _, detail = choice.partition(":")
    if kind not in KINDS or (kind == "file") != bool(detail) and kind != "detector":
        raise LabError("--data.box must be dataset, gt, detector (or detector:dlib, detector:MODEL.onnx) or "
                       f"file:PATH, got {choice}")  # fmt: skip
    return kind, detail


class BoxedFaces(Wrapped):
    """Another data set's faces with other boxes.

    Args:
        faces: the data set.
        box_of: returns a face's box (4,) x0 y0 x1 y1, image pixels, from its place in the data set and its sample.
        words: what the boxes are, for protocol cards.
    """

    def __init__(self, faces: FaceDataset, box_of: BoxOf, words: str) -> None:
        super().__init__(faces)
        self.box_of, self.words = box_of, words

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        return replace(sample, box=check_box(self.box_of(index, sample), sample.id))


def with_boxes(faces: FaceDataset, choice: str, workers: int = 0) -> FaceDataset:
    """Return the faces with the boxes of --data.box; a detector looks at every photograph once, here.

    Args:
        faces: the data set.
        choice: dataset, gt, detector, detector:MODEL or file:PATH.
        workers: processes that look for faces.

    Raises:
        LabError: the choice, the file or the detector is wrong.
    """
    kind, detail = check_choice(choice)
    match kind:
        case "gt":
            return BoxedFaces(faces, _of_landmarks, KINDS[kind])
        case "file":
            return BoxedFaces(faces, read_boxes(Path(detail)), f"{KINDS[kind]} {Path(detail).name}")
        case "detector":
            found = detected_boxes(faces, detail or None, workers)
            words = f"{KINDS[kind]} {found.detector}, moved to the landmarks'{found.missing()}"
            if found.missing():
                print(f"{faces.name}: {words}", file=sys.stderr)
            return BoxedFaces(faces, found, words)
    return faces


def _of_landmarks(row: int, sample: FaceSample) -> np.ndarray:
    return landmark_box(sample)


def landmark_box(sample: FaceSample) -> np.ndarray:
    """Return the tight box x0 y0 x1 y1 (4,) of a sample's annotated landmarks, image pixels.

    Raises:
        LabError: none is annotated, or they lie on a line.
    """
    points = sample.points if sample.annotated is None else sample.points[sample.annotated]
    if not len(points):
        raise LabError(f"{sample.id}: no landmark is annotated, so that the face has no box (--data.box gt)")
    return check_box(tight_box(points[:, :2]), f"{sample.id}: landmarks")


@dataclass(frozen=True)
class DetectedBoxes:
    """A detector's boxes, moved to the landmarks' boxes; the data set's own of faces that the detector misses.

    Attributes:
        detector: its name.
        boxes: (N, 4) x0 y0 x1 y1, image pixels.
        missed: (N,) bool.
        ids: N names of the faces.
    """

    detector: str
    boxes: np.ndarray
    missed: np.ndarray
    ids: tuple[str, ...]

    def __call__(self, row: int, sample: FaceSample) -> np.ndarray:
        box: np.ndarray = self.boxes[row]
        return box

    def missing(self) -> str:
        """Return in words how many faces are missed; nothing where none is."""
        count = int(self.missed.sum())
        return f" (data set's box for {count} of {len(self.ids)} faces, which it misses)" if count else ""


class _Looks(Dataset[tuple[str, np.ndarray, bool]]):
    """What the detector finds of each face; a process opens the detector at its first face."""

    def __init__(self, faces: FaceDataset, model: str | None) -> None:
        self.faces, self.model = faces, model
        self.finder: FaceFinder | None = None

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, bool]:
        if self.finder is None:
            self.finder = FaceFinder(open_detector(self.model), turned=False)
        sample = self.faces[index]
        known = sample.annotated is None or sample.annotated.any()
        found = BOX_MAPS[self.finder.detector.name](self.finder.detect(sample.image)).boxes
        shared = overlap(landmark_box(sample) if known else sample.box, found)
        if not len(found) or shared.max() < LEAST_OVERLAP:
            return sample.id, sample.box.astype(np.float64), True
        return sample.id, found[int(shared.argmax())], False


def detected_boxes(faces: FaceDataset, model: str | None, workers: int = 0) -> DetectedBoxes:
    """Return a detector's boxes of annotated faces; every photograph is read once.

    Of several detections in a photograph the one that overlaps a face most is its own.

    Args:
        faces: the data set.
        model: see `open_detector`.
        workers: processes.

    Raises:
        LabError: there is no such detector, or a photograph is damaged.
    """
    name = open_detector(model).name
    looks = DataLoader(_Looks(faces, model), None, num_workers=workers, worker_init_fn=begin_worker)
    ids, boxes, missed = zip(*looks, strict=True)
    return DetectedBoxes(name, np.stack([np.asarray(box) for box in boxes]), np.array(missed, bool), ids)


def write_boxes(path: Path, splits: Mapping[str, FaceDataset], model: str | None, workers: int = 0) -> list[str]:
    """Write a detector's boxes of the splits of a data set to a file for --data.box file:PATH.

    Returns:
        a line a split: how many faces there are, and how many the detector misses.
    """
    lines: dict[str, list[float]] = {}
    counts = []
    for split, faces in splits.items():
        found = detected_boxes(faces, model, workers)
        lines |= {name: np.round(box, 3).tolist() for name, box in zip(found.ids, found.boxes, strict=True)}
        counts.append(f"{split}: {len(faces)} faces, detector {found.detector}{found.missing()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADING)
        writer.writerows([name, *box] for name, box in lines.items())
    return counts


def read_boxes(path: Path) -> BoxOf:
    """Return the boxes of a file: a CSV with the heading id,x0,y0,x1,y1, or a folder of `.pts` files of four corners.

    The CSV counts pixels from 0; the `.pts` files, as MDM's of 300W (folder bbs), from 1. A face is looked up by its
    id, in a folder by the id without its ending, else by the photograph's name alone where it is there once.

    Raises:
        LabError: there is no such file, or a line is wrong; on look-up, a face has no box.
    """
    if path.is_dir():
        return _Corners(path)
    try:
        lines = list(csv.reader(read_text(path, HINT).splitlines()))
    except csv.Error as error:
        raise LabError(f"{path}: is not CSV ({error}); {HINT}") from None
    if not lines or [word.strip() for word in lines[0]] != HEADING:
        raise LabError(f"{path}:1: expected the heading {','.join(HEADING)}; {HINT}")
    boxes: dict[str, np.ndarray] = {}
    for number, words in enumerate(lines[1:], 2):
        if not words:
            continue
        where = f"{path}:{number}"
        try:
            name, x0, y0, x1, y1 = words
            box = np.array([float(word) for word in (x0, y0, x1, y1)])
        except ValueError:
            raise LabError(f"{where}: expected an id and four numbers, got {','.join(words)[:60]!r}; {HINT}") from None
        key = unicodedata.normalize("NFC", name)
        if key in boxes:
            raise LabError(f"{where}: face {name} is given twice; remove one of the lines")
        boxes[key] = check_box(box, where)
    return _Table(path, boxes)


class _Table:
    def __init__(self, path: Path, boxes: Mapping[str, np.ndarray]) -> None:
        self.path, self.boxes = path, boxes

    def __call__(self, row: int, sample: FaceSample) -> np.ndarray:
        found = self.boxes.get(unicodedata.normalize("NFC", sample.id))
        if found is None:
            raise LabError(f"{self.path}: has no box of face {sample.id}; {HINT}")
        return found


class _Corners:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_name: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*.pts")):
            self.by_name.setdefault(path.stem, []).append(path)
        if not self.by_name:
            raise LabError(f"{folder}: holds no .pts file of boxes; give the folder bbs of MDM's boxes, or a CSV")

    def __call__(self, row: int, sample: FaceSample) -> np.ndarray:
        name = PurePosixPath(sample.id)
        same = self.by_name.get(name.stem, [])
        path = self.folder / name.with_suffix(".pts")
        if path not in same:
            if len(same) != 1:
                more = ", and its name is there more than once" if same else ""
                raise LabError(f"{path}: box of face {sample.id} is missing{more}; is the folder complete?")
            path = same[0]
        return tight_box(read_pts(path, 4) - 1)
