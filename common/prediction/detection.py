"""Face detectors with one small interface, and the search that makes one of them find faces of every size and turn.

A `Detector` looks at one picture once. `FaceFinder` asks it at several scales (a detector has a range of face sizes),
turns its candidates by quarter turns to see which way up they are, and removes repeats. A detector's box is not the
box that a landmark network was trained on: `BoxMap` moves the one to the other.

Frames: image pixels, x right, y down, the centre of the first pixel is (0, 0). Angles are degrees, clockwise in the
picture; a face with roll 90 has its chin on the left of the picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from common.data.crops import warp_image
from common.errors import LabError
from common.files.checkpoints import check_content
from common.geometry import apply_affine, crop_matrix, invert_affine

SCORE = 0.6  # lowest score of a face, of 0..1
SIDE = 640  # longer side of the first look, pixels
CLOSE_UP_SIDE = 200  # longer side of the second look for faces that fill the frame
SMALLEST_SHOWN = 20  # a face's side after shrinking, pixels, that detectors still find
SMALLEST_FACE, SMALLEST_SHARE = 32, 1 / 90  # smallest face looked for: pixels, and share of the longer side
OVERLAP = 0.4  # intersection over union from which two boxes are one face
PATCH_SIDE = 128  # side of the patch in which a candidate is turned, pixels
PATCH_SCALE = 2.0  # side of that patch over the box's longer side
SURE = 0.9  # score from which a face that looks upright is taken for upright without looking in other directions
ROLLS = (0.0, 45.0, 90.0, 135.0, 180.0, -135.0, -90.0, -45.0)  # directions in which an unsure face is looked at
REFINEMENTS = 3
TURN_MARGIN = 0.02  # by how much the surest direction must be surer than the first look
LEVEL_ROLL = 30.0  # degrees up to which a face counts as upright, so that its box needs no second look


@dataclass(frozen=True)
class Detections:
    """Faces of one picture, surest first.

    Attributes:
        boxes: (N, 4) x0 y0 x1 y1, image pixels, in the frame that is turned by `roll` about each box's own centre;
            with roll 0 an ordinary upright box.
        scores: (N,) in 0..1.
        roll: (N,) degrees that the face is turned clockwise, in (-180, 180].
        five: (N, 5, 2) x, y of the subject's right eye, left eye, nose tip, right and left corner of the mouth, image
            pixels; NaN where the detector gives none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    roll: np.ndarray
    five: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: Sequence[int] | np.ndarray) -> Detections:
        """Return the faces of these rows, in their order."""
        index = np.asarray(rows, dtype=int)
        return Detections(self.boxes[index], self.scores[index], self.roll[index], self.five[index])

    @classmethod
    def of(cls, boxes: np.ndarray, scores: np.ndarray, five: np.ndarray | None = None) -> Detections:
        """Return upright detections, surest first, from boxes (N, 4), scores (N,) and perhaps five points (N, 5, 2)."""
        count = len(boxes)
        if five is None:
            five = np.full((count, 5, 2), np.nan)
        found = cls(
            np.asarray(boxes, float).reshape(count, 4), np.asarray(scores, float), np.zeros(count), np.asarray(five)
        )
        return found.take(np.argsort(-found.scores, kind="stable"))

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """Return the faces of several looks, surest first."""
        names = ("boxes", "scores", "roll", "five")
        found = cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        return found.take(np.argsort(-found.scores, kind="stable"))


class Detector(Protocol):
    """What finds upright faces in one picture at its own scale."""

    name: str

    def detect(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB picture (H, W, 3) uint8; N may be 0."""
        ...


class YuNet:
    """OpenCV's FaceDetectorYN with a model file; its range is faces of about 10 to 300 px.

    Args:
        model: the ONNX file.
        score: lowest score that is returned, 0..1.

    Raises:
        LabError: the file is missing, see `check_content`, or no model for this detector (an empty picture is tried).
    """

    name = "yunet"

    def __init__(self, model: Path | str, score: float = SCORE) -> None:
        if not Path(model).is_file():
            raise LabError(f"{model}: detector model is missing; check --detector")
        check_content(Path(model))
        try:
            self._net = cv2.FaceDetectorYN.create(str(model), "", (64, 64), score)
            self._net.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error:
            raise LabError(f"{model}: is no YuNet model for OpenCV's FaceDetectorYN") from None

    def detect(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB picture (H, W, 3) uint8 with five points each."""
        height, width = image.shape[:2]
        self._net.setInputSize((width, height))
        found = self._net.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return Detections.of(np.zeros((0, 4)), np.zeros(0))
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        return Detections.of(corners, found[:, 14], found[:, 4:14].reshape(-1, 5, 2))


class DlibDetector:
    """dlib's frontal face detector (HOG and a linear classifier), whose model is compiled into the library.

    It needs no file and no network; it finds upright frontal faces from about 80 px on (40 with one doubling), and
    gives no points.

    Args:
        score: lowest score that is returned; dlib's margin is squashed to 0..1.
        cache: folder that keeps the model once it is unpacked, which takes more than a second.

    Raises:
        LabError: dlib is not installed.
    """

    name = "dlib"

    def __init__(self, score: float = SCORE, cache: Path | None = None) -> None:
        try:
            import dlib
        except ImportError:
            raise LabError(
                "no face detector: give --detector FILE (a YuNet model) or install dlib: pip install "
                "'face-alignment-lab[detector]'"
            ) from None
        kept = None if cache is None else _kept_model(cache, f"dlib-{dlib.__version__}-")
        self._find = dlib.get_frontal_face_detector() if kept is None else dlib.fhog_object_detector(str(kept))
        self._score = score
        if cache is not None and kept is None:
            with contextlib.suppress(OSError, RuntimeError):  # without room the next start is slow, too
                self._keep(cache, f"dlib-{dlib.__version__}-")

    def _keep(self, cache: Path, name: str) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            part = Path(scratch) / "model"
            self._find.save(str(part))
            part.replace(cache / f"{name}{hashlib.sha256(part.read_bytes()).hexdigest()}.svm")

    def detect(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB picture (H, W, 3) uint8; their five points are NaN."""
        small = max(image.shape[:2]) < SIDE
        rectangles, margins, _ = self._find.run(np.ascontiguousarray(image), int(small), -0.2)
        scores = 1 / (1 + np.exp(-4 * np.asarray(margins, float)))  # margin 0 is 0.5, 0.5 is 0.88
        boxes = np.array([[r.left(), r.top(), r.right(), r.bottom()] for r in rectangles], float).reshape(-1, 4)
        kept = scores >= self._score
        return Detections.of(boxes[kept], scores[kept])


def _kept_model(cache: Path, name: str) -> Path | None:
    """Return the file of a folder that begins with a name and ends with the SHA-256 of what it holds; None without."""
    for path in cache.glob(f"{name}*.svm"):
        if path.stem == name + hashlib.sha256(path.read_bytes()).hexdigest():
            return path
    return None


@dataclass(frozen=True)
class BoxMap:
    """How a detector's box becomes the box that a network was trained on; fitted on training photographs.

    Attributes:
        right, down: shift of the centre as shares of the box's width and height, in the face's own frame.
        width, height: factors of the sides.
    """

    right: float = 0.0
    down: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def __call__(self, found: Detections) -> Detections:
        """Return the detections with mapped boxes."""
        boxes = found.boxes
        size = boxes[:, 2:] - boxes[:, :2]
        shift = size * np.array([self.right, self.down])
        radians = np.radians(found.roll)
        cos, sin = np.cos(radians), np.sin(radians)  # the shift is along the turned face's axes
        turned = np.stack([cos * shift[:, 0] - sin * shift[:, 1], sin * shift[:, 0] + cos * shift[:, 1]], axis=1)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2 + turned
        half = size * np.array([self.width, self.height]) / 2
        return replace(found, boxes=np.concatenate([center - half, center + half], axis=1))

    @classmethod
    def fit(cls, found: np.ndarray, wanted: np.ndarray) -> BoxMap:
        """Return the map between boxes (N, 4) and the boxes (N, 4) wanted: medians, so that outliers do not count."""
        size, size_wanted = found[:, 2:] - found[:, :2], wanted[:, 2:] - wanted[:, :2]
        moved = (wanted[:, :2] + wanted[:, 2:] - found[:, :2] - found[:, 2:]) / 2 / size
        right, down = np.median(moved, axis=0).tolist()
        width, height = np.median(size_wanted / size, axis=0).tolist()
        return cls(right, down, width, height)


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union (N,) of a box (4,) with boxes (N, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - common
    return common / np.maximum(area, 1e-12)


def without_repeats(found: Detections, limit: float = OVERLAP) -> Detections:
    """Return the detections without those that overlap a surer one by more than `limit`."""
    kept: list[int] = []
    for row in range(len(found)):
        if not kept or overlap(found.boxes[row], found.boxes[kept]).max() <= limit:
            kept.append(row)
    return found.take(kept)


def roll_of(five: np.ndarray) -> float:
    """Return the degrees that a face with five points (5, 2) is turned clockwise, from its eyes and mouth; 0 if NaN."""
    if not np.isfinite(five).all():
        return 0.0
    down = five[3:].mean(axis=0) - five[:2].mean(axis=0)
    across = five[1] - five[0]  # the subject's left eye is on the right of an upright picture
    axis = down / max(float(np.hypot(*down)), 1e-9) + np.array([-across[1], across[0]]) / max(np.hypot(*across), 1e-9)
    return math.degrees(math.atan2(-axis[0], axis[1]))


def upright_matrix(box: np.ndarray, roll: float, scale: float, size: int) -> np.ndarray:
    """Return the map image -> square patch (2, 3) in which a face of this box (4,) and roll is upright.

    Args:
        box: x0 y0 x1 y1, image pixels.
        roll: degrees that the face is turned clockwise.
        scale: side of the patch over the box's longer side.
        size: side of the patch in its own pixels.
    """
    x0, y0, x1, y1 = box.tolist()
    side = max(x1 - x0, y1 - y0) * scale
    return crop_matrix(((x0 + x1) / 2, (y0 + y1) / 2), side, size, roll)


class FaceFinder:
    """Finds the faces of photographs of any size, upright or turned.

    Args:
        detector: what looks at one picture.
        smallest: smallest side of a face that is looked for, image pixels; None: 32, or a 90th of the longer side.
        turned: look for faces that are turned by quarter turns, too.
        most: how many faces are returned at most.
    """

    def __init__(
        self, detector: Detector, smallest: float | None = None, turned: bool = True, most: int | None = None
    ) -> None:
        self.detector = detector
        self.smallest = smallest
        self.turned = turned
        self.most = most

    def detect(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB picture (H, W, 3) uint8, surest first; N may be 0.

        It is looked at with its longer side at 640 px, and larger where small faces are looked for; with nothing
        found once more at 200 px, at twice the largest scale, and turned.
        """
        scales = self._scales(image)
        found = without_repeats(Detections.join([self._look(image, scale) for scale in scales]))
        # Not every face of SMALLEST_SHOWN pixels is found; what twice the scale costs is paid only without any.
        for scale in (min(1.0, CLOSE_UP_SIDE / max(image.shape[:2])), min(1.0, 2 * scales[-1])):
            if not len(found) and scale not in scales:
                found = self._look(image, scale)
        if self.turned and (not len(found) or found.scores.min() < SURE):
            # Trained on upright faces, the detector is very sure of those alone: the picture is turned for the others.
            found = without_repeats(Detections.join([found, self._quarter_turns(image)]))
            found = self._way_up(image, found)
        found = without_repeats(found)
        return found if self.most is None else found.take(range(min(self.most, len(found))))

    def _scales(self, image: np.ndarray) -> list[float]:
        longer = max(image.shape[:2])
        first = min(1.0, SIDE / longer)
        smallest = self.smallest or max(SMALLEST_FACE, longer * SMALLEST_SHARE)
        fine = min(1.0, SMALLEST_SHOWN / smallest)
        return [first, fine] if fine > 1.3 * first else [first]

    def _look(self, image: np.ndarray, scale: float, turns: int = 0) -> Detections:
        """Return what the detector finds in the picture shrunk by `scale`, then turned as np.rot90 does.

        Pixels are the picture's own, those of `np.rot90(image, turns)`.
        """
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if size != (width, height) else image
        found = self.detector.detect(np.ascontiguousarray(np.rot90(small, turns)))
        # Pixel areas are scaled on each other, so centres shift by half the difference of the pixels' sides.
        ratio = np.array([width / size[0], height / size[1]])
        ratio = ratio[::-1] if turns % 2 else ratio
        return replace(
            found, boxes=(found.boxes + 0.5) * np.tile(ratio, 2) - 0.5, five=(found.five + 0.5) * ratio - 0.5
        )

    def _quarter_turns(self, image: np.ndarray) -> Detections:
        """Return what is found in the picture turned by 90, 180 and 270 degrees."""
        parts = []
        height, width = image.shape[:2]
        for turns in (1, 2, 3):
            found = self._look(image, min(1.0, SIDE / max(height, width)), turns)
            # np.rot90 turns anticlockwise: what is upright then was turned clockwise by as much.
            parts.append(_turned_back(found, turns, width, height))
        return Detections.join(parts)

    def _way_up(self, image: np.ndarray, found: Detections) -> Detections:
        """Return the faces with the roll at which the detector is surest of each."""
        settled = []
        for row in range(len(found)):
            here = found.take([row])
            sure = here.scores[0] >= SURE
            rolls = (float(here.roll[0]),) if sure and here.roll[0] else () if sure else ROLLS
            settled.append(self._turned(image, here, rolls))
        return Detections.join(settled) if settled else found

    def _turned(self, image: np.ndarray, face: Detections, rolls: Sequence[float]) -> Detections:
        """Return one face with its roll, found from looks in these directions, and its box with the face upright."""
        looks = [look for roll in rolls if len(look := self._in_patch(image, face.boxes[0], roll))]
        best = max(looks, key=lambda look: float(look.scores[0]), default=None)
        if best is None or best.scores[0] < face.scores[0] + (TURN_MARGIN if len(rolls) > 1 else -1):
            return face
        for _ in range(REFINEMENTS):  # the five points of a turned face are drawn towards an upright one
            again = self._in_patch(image, best.boxes[0], float(best.roll[0]))
            if not len(again):
                break
            best = again
        return best if abs(best.roll[0]) > LEVEL_ROLL else replace(face, scores=best.scores)

    def _in_patch(self, image: np.ndarray, box: np.ndarray, roll: float) -> Detections:
        """Return the surest face (at most one) of the patch round a box in which a face of this roll is upright."""
        matrix = upright_matrix(box, roll, PATCH_SCALE, PATCH_SIDE)
        found = self.detector.detect(warp_image(image, matrix, PATCH_SIDE))
        near = [row for row in range(len(found)) if _holds_middle(found.boxes[row])]
        if not near:
            return found.take([])
        found = found.take(near[:1])
        back = invert_affine(matrix)
        five = apply_affine(back, found.five[0])
        exact = roll_of(five) if np.isfinite(five).all() else roll
        center = apply_affine(back, (found.boxes[:, :2] + found.boxes[:, 2:]) / 2)
        half = (found.boxes[:, 2:] - found.boxes[:, :2]) / 2 * math.sqrt(abs(np.linalg.det(back[:, :2])))
        return Detections(
            np.concatenate([center - half, center + half], axis=1), found.scores, np.array([exact]), five[None]
        )


def _holds_middle(box: np.ndarray) -> bool:
    middle = (PATCH_SIDE - 1) / 2
    return bool((box[:2] < middle).all() and (box[2:] > middle).all())


def _turned_back(found: Detections, turns: int, width: int, height: int) -> Detections:
    """Return faces found in `np.rot90(image, turns)` in the pixels of the image (height, width)."""
    center = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    half = (found.boxes[:, 2:] - found.boxes[:, :2]) / 2

    def back(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        match turns:
            case 1:
                return np.stack([width - 1 - y, x], axis=-1)
            case 2:
                return np.stack([width - 1 - x, height - 1 - y], axis=-1)
            case _:
                return np.stack([y, height - 1 - x], axis=-1)

    center = back(center)
    roll = np.full(len(found), {1: 90.0, 2: 180.0, 3: -90.0}[turns])
    return Detections(np.concatenate([center - half, center + half], axis=1), found.scores, roll, back(found.five))
