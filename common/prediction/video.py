"""Faces followed through a video: boxes from the last frame's points, identities, and smoothing.

A detector is slow and its boxes jitter; the points of the last frame say where a face is now. It is asked again every
few frames, for faces that came, and to drop those that went, and at once when a face is lost or its confidence falls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from common.errors import LabError, check_range
from common.files.images import MAX_PIXELS
from common.geometry import tight_box
from common.prediction.detection import BoxMap, Detections, FaceFinder, overlap
from common.prediction.faces import Face, find_landmarks
from common.prediction.inference import Predictor

VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
SAME_FACE = 0.3  # intersection over union from which a detection is a face that is followed
LARGEST_STEP = 1.6  # factor by which a face's size may change between two frames
LARGEST_JUMP = 1.0  # how far a face may move between two frames, in its own size
TAKEN = 0.6  # intersection over union from which two tracks are of one face
FALLEN = 1.5  # factor by which a face's expected error may grow before the finder looks again
NO_RATE = 30.0  # frames a second where a file does not say


@dataclass(frozen=True)
class OneEuro:
    """The 1-euro filter (Casiez, Roussel, Vogel, CHI 2012): strong smoothing at rest, little lag in motion.

    Points are smoothed in units of the face's size, so that the constants do not depend on the picture's resolution.

    Attributes:
        min_cutoff: cut-off frequency at rest, Hz.
        beta: how fast the cut-off grows with speed (face sizes a second).
        speed_cutoff: cut-off frequency of the speed itself, Hz.
    """

    min_cutoff: float = 1.0
    beta: float = 10.0
    speed_cutoff: float = 1.0

    def __post_init__(self) -> None:
        if self.min_cutoff <= 0 or self.beta < 0 or self.speed_cutoff <= 0:
            raise LabError(f"the filter's frequencies must be positive, got {self.min_cutoff}, {self.speed_cutoff}")


class Smoother:
    """One face's filter: call it with each frame's points."""

    def __init__(self, options: OneEuro) -> None:
        self.options = options
        self._points: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, points: np.ndarray, seconds: float) -> np.ndarray:
        """Return smoothed points (L, 2), image pixels.

        Args:
            points: (L, 2) of this frame, image pixels.
            seconds: time since the last frame.
        """
        if self._points is None or seconds <= 0:
            self._points, self._speed = points, np.zeros_like(points)
            return points
        size = max(float(np.ptp(points, axis=0).max()), 1.0)
        speed = (points - self._points) / (seconds * size)
        rate = _share(self.options.speed_cutoff, seconds)
        self._speed = self._speed + rate * (speed - self._speed)
        moving = np.linalg.norm(self._speed, axis=1, keepdims=True)
        share = _share(self.options.min_cutoff + self.options.beta * moving, seconds)
        self._points = self._points + share * (points - self._points)
        return self._points


def _share(cutoff: np.ndarray | float, seconds: float) -> np.ndarray | float:
    """Return the share of the new value in a first-order low-pass filter of this cut-off frequency (Hz)."""
    step = 2 * math.pi * cutoff * seconds
    return step / (step + 1)


@dataclass
class Track:
    """A face that is followed.

    Attributes:
        number: its identity.
        face: its last landmarks.
        smoother: its filter, or None.
        unseen: looks of the finder in a row that missed it.
        trusted: expected error when the finder looked last, percent; infinite where the method gives none.
    """

    number: int
    face: Face
    smoother: Smoother | None
    unseen: int = 0
    trusted: float = math.inf

    def doubted(self) -> bool:
        """Return whether the confidence fell since the finder looked last."""
        return expected(self.face) > FALLEN * self.trusted


def expected(face: Face) -> float:
    """Return a face's expected error, percent; infinite where it is not known."""
    return math.inf if face.expected_error is None else face.expected_error


class FaceTracker:
    """Follows faces from frame to frame.

    Args:
        predictor: the method.
        finder: finds faces.
        box_map: from the finder's boxes to the method's.
        every: frames between two looks of the finder. It also looks while no face is known, when one is lost, and when
            the expected error of one has grown by half since the last look (methods with a calibrated confidence).
        smooth: filter of the points, or None.
        patience: looks of the finder that may miss a face before it is dropped.
    """

    def __init__(
        self,
        predictor: Predictor,
        finder: FaceFinder,
        box_map: BoxMap,
        every: int = 10,
        smooth: OneEuro | None = None,
        patience: int = 2,
    ) -> None:
        check_range("--every", every, "[1, inf)")
        self.predictor = predictor
        self.finder = finder
        self.box_map = box_map
        self.every = every
        self.smooth = smooth
        self.patience = patience
        self.tracks: list[Track] = []
        self._frame = 0
        self._count = 0

    def __call__(self, frame: np.ndarray, seconds: float, where: str = "frame") -> list[tuple[int, Face]]:
        """Return (identity, face) of each face of the next frame.

        Args:
            frame: (H, W, 3) uint8, RGB.
            seconds: time since the last frame.
            where: name of the frame for messages.
        """
        known = len(self.tracks)
        detect = self._frame % self.every == 0
        self._frame += 1
        self._follow(frame, where)
        if detect or not known or len(self.tracks) < known or any(track.doubted() for track in self.tracks):
            self._meet(frame, where)
        answers = []
        for track in self.tracks:
            if track.smoother is not None:
                points = track.smoother(track.face.points[:, :2], seconds)
                answers.append((track.number, replace(track.face, points=points)))
            else:
                answers.append((track.number, track.face))
        return answers

    def _follow(self, frame: np.ndarray, where: str) -> None:
        """Predict every known face from the box of its last points; drop those that left or lost their shape."""
        if not self.tracks:
            return
        boxes = np.stack([tight_box(track.face.points[:, :2]) for track in self.tracks])
        height, width = frame.shape[:2]
        inside = np.all((boxes[:, :2] < [width - 1, height - 1]) & (boxes[:, 2:] > 0), axis=1)
        kept = [track for track, here in zip(self.tracks, inside.tolist(), strict=True) if here]
        self.tracks = []
        if not kept:
            return
        found = Detections(
            boxes[inside],
            np.array([np.nan if t.face.detector_score is None else t.face.detector_score for t in kept]),
            np.array([track.face.roll for track in kept]),
            np.full((len(kept), 5, 2), np.nan),
        )
        for track, face in zip(kept, find_landmarks(self.predictor, frame, _untilted(found, kept), where), strict=True):
            size = max(float(np.ptp(track.face.points, axis=0).max()), 1e-6)
            change = float(np.ptp(face.points, axis=0).max()) / size
            jump = float(np.linalg.norm(face.points.mean(axis=0) - track.face.points.mean(axis=0))) / size
            if 1 / LARGEST_STEP < change < LARGEST_STEP and jump < LARGEST_JUMP and not self._taken(face):
                track.face = face
                self.tracks.append(track)

    def _taken(self, face: Face) -> bool:
        """Return whether a track that was followed before has come to lie on the same face."""
        others = np.array([tight_box(track.face.points[:, :2]) for track in self.tracks]).reshape(-1, 4)
        return len(others) > 0 and float(overlap(tight_box(face.points[:, :2]), others).max()) > TAKEN

    def _meet(self, frame: np.ndarray, where: str) -> None:
        """Look with the finder: begin a track for each new face, renew doubted ones, drop those missed too often."""
        found = self.box_map(self.finder.detect(frame))
        known = np.array([tight_box(track.face.points[:, :2]) for track in self.tracks]).reshape(-1, 4)
        seen, new = dict[int, int](), []
        for row in range(len(found)):
            common = overlap(found.boxes[row], known)
            if len(known) and common.max() > SAME_FACE:
                seen[int(common.argmax())] = row
            else:
                new.append(row)
        for index, track in enumerate(self.tracks):
            track.unseen = 0 if index in seen else track.unseen + 1
            if index in seen and track.doubted():
                (face,) = find_landmarks(self.predictor, frame, found.take([seen[index]]), where)
                track.face = min(face, track.face, key=expected)
            track.trusted = expected(track.face)
        self.tracks = [track for track in self.tracks if track.unseen <= self.patience]
        for face in find_landmarks(self.predictor, frame, found.take(new), where) if new else []:
            self._count += 1
            smoother = None if self.smooth is None else Smoother(self.smooth)
            self.tracks.append(Track(self._count, face, smoother, trusted=expected(face)))


def _untilted(found: Detections, tracks: list[Track]) -> Detections:
    """Return boxes that hold the points in the frame turned by each face's roll about the box's centre."""
    boxes = found.boxes.copy()
    for row, track in enumerate(tracks):
        if track.face.roll:
            angle = math.radians(track.face.roll)
            turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
            middle = track.face.points[:, :2].mean(axis=0)
            upright = tight_box((track.face.points[:, :2] - middle) @ turn.T)
            center = turn.T @ ((upright[:2] + upright[2:]) / 2) + middle
            half = (upright[2:] - upright[:2]) / 2
            boxes[row] = np.concatenate([center - half, center + half])
    return replace(found, boxes=boxes)


def is_video(path: Path) -> bool:
    """Return whether a file's ending is that of a video."""
    return path.suffix.lower() in VIDEO_ENDINGS


def frames(source: Path | int) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the RGB frames (H, W, 3) uint8 of a video file or of a camera, with the seconds since the one before.

    Raises:
        LabError: the file is missing or no video that OpenCV reads, or there is no such camera.
    """
    if isinstance(source, Path) and not source.is_file():
        raise LabError(f"{source}: video is missing")
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise LabError(f"{source}: frames of {width:.0f} x {height:.0f} pixels are too large; make it smaller")
        done, frame = capture.read()
        if not done:
            what = f"camera {source}" if isinstance(source, int) else str(source)
            raise LabError(f"{what}: no frame can be read; is it there, and of a kind that OpenCV reads?")
        rate = capture.get(cv2.CAP_PROP_FPS)
        seconds = 1 / (rate if 1 <= rate <= 1000 else NO_RATE)
        while done:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), seconds
            done, frame = capture.read()
    finally:
        capture.release()
