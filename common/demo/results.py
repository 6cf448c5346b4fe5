"""What the page shows of one picture: drawn points and a table, for one method. It knows nothing of browsers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np

from common.errors import LabError
from common.files.images import decode_image
from common.methods import METHODS
from common.prediction.detection import FaceFinder
from common.prediction.faces import Face, find_landmarks
from common.prediction.inference import Predictor
from common.prediction.job import draw_faces

MOST_PIXELS = 25_000_000  # of a picture; the project's own reader allows more
COLUMNS = ["face", "yaw", "pitch", "roll", "expected error, %", "detector", "notes"]
Row = list[str]
Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Result:
    """What one method found.

    Attributes:
        picture: (H, W, 3) uint8, RGB, with the points drawn.
        rows: a row of COLUMNS for each face.
        line: method, faces and times in words.
    """

    picture: np.ndarray
    rows: list[Row]
    line: str


@dataclass
class Methods:
    """Methods with weights, each loaded when first asked for.

    Attributes:
        finder: finds the faces for all of them.
        device: that networks run on.
    """

    finder: FaceFinder
    device: str = "cpu"
    loaded: dict[str, Predictor] = field(default_factory=dict)
    turn: Lock = field(default_factory=Lock)  # visitors take turns: neither detector nor networks serve two at once

    @staticmethod
    def names() -> list[str]:
        """Return the methods whose weights are embedded."""
        return [name for name, method in METHODS.items() if method.weights()]

    def predictor(self, name: str) -> Predictor:
        """Return a method's predictor.

        Raises:
            LabError: it has no weights.
        """
        if name not in self.names():
            raise LabError(f"method {name[:40]!r} has no embedded weights; choose of {', '.join(self.names())}")
        if name not in self.loaded:
            self.loaded[name] = Predictor.from_pretrained(name, self.device)
        return self.loaded[name]

    def predict(self, name: str, image: np.ndarray) -> Result:
        """Return what a method finds in a picture (H, W, 3) uint8, RGB.

        Raises:
            LabError: the method has no weights, or see `find_landmarks`.
        """
        with self.turn:
            return self._predict(name, image)

    def _predict(self, name: str, image: np.ndarray) -> Result:
        predictor = self.predictor(name)
        found, seconds = timed(lambda: self.finder.detect(image))
        mapped = predictor.box_maps[self.finder.detector.name](found)
        faces, own = timed(lambda: find_landmarks(predictor, image, mapped, "picture"))
        count = f"{len(faces)} face{'' if len(faces) == 1 else 's'}"
        line = f"{METHODS[name].title}: {count}, detector {1000 * seconds:.0f} ms, landmarks {1000 * own:.0f} ms"
        rows = [row(index, face) for index, face in enumerate(faces, 1)]
        return Result(draw_faces(predictor, image, faces), rows, line)


def timed(work: Callable[[], Answered]) -> tuple[Answered, float]:
    """Return what a function returns, and its seconds."""
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


def row(index: int, face: Face) -> Row:
    """Return a face's row of COLUMNS."""
    pose = ["", "", ""] if face.pose is None else [f"{angle:+.0f}°" for angle in face.pose]
    expected = "" if face.expected_error is None else f"{face.expected_error:.1f}"
    detector = "" if face.detector_score is None else f"{face.detector_score:.2f}"
    return [str(index), *pose, expected, detector, "; ".join(face.warnings)]


def read_upload(path: Path, most_bytes: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8, RGB, that was uploaded, upright as its EXIF mark says.

    Raises:
        LabError: it has too many bytes or pixels, or is none.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise LabError(f"the picture has {size / 1e6:.1f} MB; at most {most_bytes / 1e6:.0f} MB are taken")
    return decode_image(path.read_bytes(), "picture", follow_orientation=True, most_pixels=MOST_PIXELS)
