"""Faces of a picture from detections, upright and turned."""

from __future__ import annotations

import numpy as np
import pytest

from common.data.synthetic import SyntheticFaces
from common.prediction.detection import Detections
from common.prediction.faces import find_landmarks
from common.prediction.inference import Predictor


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
