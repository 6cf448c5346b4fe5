"""Faces of a picture from detections, upright and turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data.synthetic import SyntheticFaces
from common.prediction.detection import Detections
from common.prediction.faces import find_landmarks
from common.prediction.inference import Predictor
from common.types import Prediction


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_face_gets_the_points_of_the_upright_one(turns: int) -> None:
    """A face turned by 90 or 180 degrees ended the run: its box was no row of four numbers."""
    predictor, face = Predictor.from_pretrained("awing"), SyntheticFaces(1, scheme="ibug68", seed=2)[0]
    no_five = np.full((1, 5, 2), np.nan)
    upright = Detections(face.box[None].astype(float), np.ones(1), np.zeros(1), no_five)
    (wanted,) = find_landmarks(predictor, face.image, upright, "upright")
    points, center, side = wanted.points, (face.box[:2] + face.box[2:]) / 2, face.image.shape[0]
    assert face.image.shape[1] == side
    for _ in range(turns):  # clockwise about the picture's centre: x, y -> side - 1 - y, x
        points, center = ((np.stack([side - 1 - xy[..., 1], xy[..., 0]], -1)) for xy in (points, center))
    half = (face.box[2:] - face.box[:2]) / 2
    roll = float((90 * turns + 180) % 360 - 180)
    box = np.concatenate([center - half, center + half])[None]
    image = np.ascontiguousarray(np.rot90(face.image, -turns))
    (found,) = find_landmarks(predictor, image, Detections(box, np.ones(1), np.array([roll]), no_five), "turned")
    size = float(np.linalg.norm(face.box[2:] - face.box[:2]))
    assert np.linalg.norm(found.points - points, axis=1).max() < 0.02 * size
    assert found.roll == roll and any("turned by" in text for text in found.warnings)
    np.testing.assert_allclose(found.box, box[0])


def test_the_head_s_place_is_turned_back_with_the_face() -> None:
    """Seen in the upright patch, right of the camera's axis; in a picture turned clockwise by 90 degrees, below it."""

    class Stub:
        scheme = confidence = None

        def __call__(self, image: np.ndarray, boxes: np.ndarray) -> Prediction:
            points = torch.from_numpy(boxes.reshape(-1, 2, 2).mean(1, keepdims=True))
            return Prediction(points, pose=torch.zeros(1, 3), translation=torch.tensor([[1.0, 0.0, 5.0]]))

    boxes, five = np.array([[20.0, 20, 60, 60]] * 2), np.full((2, 5, 2), np.nan)
    found = find_landmarks(Stub(), np.zeros((80, 80, 3), np.uint8),  # type: ignore[arg-type]
                           Detections(boxes, np.ones(2), np.array([0.0, 90.0]), five), "here")  # fmt: skip
    for face, place, roll in zip(found, ([1, 0, 5], [0, 1, 5]), (0, 90), strict=True):
        assert face.translation is not None and face.pose is not None
        np.testing.assert_allclose(face.translation, place, atol=1e-6)
        assert face.pose[2] == roll
        assert face.record()["translation"] == dict(zip("xyz", place, strict=True))
