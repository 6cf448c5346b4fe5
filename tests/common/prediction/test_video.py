"""Following faces: identities stay, new faces are met, smoothing calms a still face and follows a moving one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from common.errors import LabError
from common.prediction.detection import BoxMap, Detections, FaceFinder
from common.prediction.video import FaceTracker, OneEuro, Smoother, frames
from common.schemes import COFW29
from common.types import Prediction

SHAPE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]])


@dataclass
class Squares:
    """Boxes that the test moves; also the method: five points on the square that is nearest to the box asked for."""

    corners: np.ndarray
    side: float = 40.0
    name: str = "squares"
    looks: int = 0
    scheme = COFW29  # no 3D mean face: no pose

    def detect(self, image: np.ndarray) -> Detections:
        self.looks += 1
        return Detections.of(np.concatenate([self.corners, self.corners + self.side], 1), np.ones(len(self.corners)))

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> Prediction:
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        nearest = [np.linalg.norm(self.corners + self.side / 2 - c, axis=1).argmin() for c in centers]
        return Prediction(points=torch.from_numpy(self.corners[nearest][:, None] + SHAPE * self.side))


def tracker(scene: Squares, **more: Any) -> FaceTracker:
    return FaceTracker(scene, FaceFinder(scene, turned=False), BoxMap(), **more)  # type: ignore[arg-type]


def test_identities_stay_while_faces_move_come_and_go() -> None:
    scene = Squares(np.array([[20.0, 30], [200, 100]]))
    follow, frame = tracker(scene, every=5), np.zeros((300, 400, 3), np.uint8)
    first = dict(follow(frame, 0.04))
    assert sorted(first) == [1, 2]
    for _ in range(12):
        scene.corners = scene.corners + [3.0, 1.0]
        found = dict(follow(frame, 0.04))
        assert sorted(found) == [1, 2]
        np.testing.assert_allclose(found[1].points, scene.corners[0] + SHAPE * 40, atol=1e-9)
    assert scene.looks <= 4, "the detector looks every fifth frame only"
    scene.corners = np.concatenate([scene.corners[1:], [[20.0, 200]]])
    for _ in range(20):
        found = dict(follow(frame, 0.04))
    assert sorted(found) == [2, 3], "a face that comes gets a number of its own"


class Doubting(Squares):
    """Slips off the face from the moment that the test says, unless the box asked for is the finder's own."""

    slips: bool = False
    sure: Any = SimpleNamespace(expected=lambda score: (score[:, 0], score))

    @property
    def confidence(self) -> Any:
        return self.sure

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> Prediction:
        found = super().__call__(image, boxes).points
        exact = np.array([(np.abs(self.corners - box[:2]).max(1) < 1e-6).any() for box in boxes])
        off = torch.from_numpy(~exact & self.slips)
        score = torch.where(off, 9.0, 3.0)[:, None].expand(found.shape[:2])
        return Prediction(points=found + 6.0 * off[:, None, None], score=score)


def test_the_finder_looks_again_when_confidence_falls_or_a_face_is_lost() -> None:
    scene = Doubting(np.array([[20.0, 30], [200, 100]]))
    follow, frame = tracker(scene, every=1000), np.zeros((300, 400, 3), np.uint8)
    for _ in range(6):
        follow(frame, 0.04)
    assert scene.looks == 1, "the first frame only: nothing changed"
    scene.slips, scene.corners = True, scene.corners + [1.0, 0.0]
    found = dict(follow(frame, 0.04))
    assert scene.looks == 2 and sorted(found) == [1, 2]
    np.testing.assert_allclose(found[1].points, scene.corners[0] + SHAPE * 40, atol=1e-9)
    assert found[1].expected_error == 3.0, "of the two predictions the surer one"
    scene.slips, scene.corners = False, np.array([[21.0, 30], [330.0, 220]])  # the second one jumps: lost, met anew
    assert sorted(dict(follow(frame, 0.04))) == [1, 3] and scene.looks == 3
    for _ in range(5):
        follow(frame, 0.04)
    assert scene.looks == 3


def test_smoothing_calms_a_still_face_and_follows_a_moving_one() -> None:
    rng, seconds = np.random.default_rng(0), 1 / 30
    shape = SHAPE * 100 + 50
    still = Smoother(OneEuro())
    noisy = [shape + rng.normal(0, 0.7, shape.shape) for _ in range(120)]
    calm = np.stack([still(points, seconds) for points in noisy])[30:]
    before = np.diff(np.stack(noisy)[30:], axis=0).std()
    assert np.diff(calm, axis=0).std() < 0.5 * before
    moving = Smoother(OneEuro())
    path = [shape + [4.0 * step, 0] for step in range(60)]  # 1.2 face sizes a second
    lag = [points[:, 0] - moving(points, seconds)[:, 0] for points in path]
    assert 0 <= np.mean(lag[30:]) < 8, "at most two frames behind"
    with pytest.raises(LabError, match="positive"):
        OneEuro(min_cutoff=0)


def test_frames_are_read_and_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert film.isOpened()
    for index in range(5):
        film.write(np.full((48, 64, 3), (0, 0, 50 * index), np.uint8))
    film.release()
    read = list(frames(path))
    assert len(read) == 5 and read[0][1] == pytest.approx(0.1) and read[4][0].shape == (48, 64, 3)
    assert abs(float(read[4][0][..., 0].mean()) - 200) < 5, "red comes first"
    with pytest.raises(LabError, match="missing"):
        next(frames(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(LabError, match="no frame"):
        next(frames(tmp_path / "text.mp4"))
    monkeypatch.setattr("common.prediction.video.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(LabError, match=r"film\.avi: frames of 64 x 48 pixels are too large"):
        next(frames(path))
