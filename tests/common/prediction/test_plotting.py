"""Points and boxes on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from common.data.synthetic import SyntheticFaces
from common.prediction.plotting import draw_box, draw_landmarks
from common.schemes import get_scheme

BOX = np.array([60.0, 80.0, 140.0, 120.0])


def test_a_box_is_drawn_where_it_is_and_turns_clockwise() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    plain, upright, turned = (draw_box(image, BOX, roll) for roll in (0, 90, 30))
    assert not image.any()
    assert plain[100, 60].any() and plain[100, 140].any() and not plain[100, 80].any()
    assert upright[100, 80].any() and upright[60, 100].any() and not upright[100, 60].any()
    # The middle of the right side, at (140, 100) before the turn, is at (134.6, 120).
    assert turned[118:123, 132:138].any() and not turned[78:83, 132:138].any()


@pytest.mark.parametrize(("side", "most"), [(110, 0.35), (1000, 0.35)])
def test_dots_follow_the_size_of_the_face(side: int, most: float) -> None:
    """In a picture of 4000 pixels, dots of 40 covered a face of 110 wholly."""
    scheme = get_scheme("ibug68")
    face = SyntheticFaces(1, seed=4)[0].points[:, :2].astype(float)
    face = (face - face.min(0)) / np.ptp(face, axis=0).max() * side + 200
    image = np.zeros((1500, 4000, 3), np.uint8)
    changed = draw_landmarks(image, face, scheme).any(-1)
    assert 0.02 < changed.sum() / np.prod(np.ptp(face, axis=0)) < most


def test_a_label_is_inside_the_upper_left_corner_of_what_is_seen() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    for shift in (0, -90):  # the second box begins outside the picture
        box = BOX + shift
        rows, columns = np.nonzero((draw_box(image, box, label="2") != draw_box(image, box)).any(-1))
        left, top = np.maximum(box[:2], 0)
        assert len(rows) > 10 and top <= rows.min() and rows.max() < top + 16
        assert left <= columns.min() and columns.max() < left + 16
