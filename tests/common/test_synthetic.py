"""Synthetic faces: the same on every access, exact points, every attribute."""

from __future__ import annotations

import numpy as np
import pytest

from common.data.synthetic import ATTRIBUTES, SyntheticFaces
from common.data.synthetic_head import Head, plane_points, relief, rotation_matrix
from common.errors import LabError
from common.schemes import IBUG68, WFLW98


def test_a_face_depends_on_seed_and_index_alone() -> None:
    forward, backward = SyntheticFaces(4, seed=3), SyntheticFaces(2, seed=3, offset=2)
    late = [backward[1], backward[0]]
    for index, again in zip((3, 2), late, strict=True):
        one = forward[index]
        np.testing.assert_array_equal(one.image, again.image)
        np.testing.assert_array_equal(one.points, again.points)
        assert one.id == again.id and one.subsets == again.subsets
    assert not np.array_equal(forward[0].image, SyntheticFaces(1, seed=4)[0].image)


def test_samples_are_complete() -> None:
    faces = SyntheticFaces(8, scheme="wflw98", seed=1)
    for index in range(8):
        sample = faces[index]
        assert sample.image.shape == (256, 256, 3) and sample.image.dtype == np.uint8
        assert sample.points.shape == (98, 2) and sample.visible.shape == (98,)
        assert sample.points.min() > -20 and sample.points.max() < 276
        np.testing.assert_allclose(faces.points3d(index)[:, :2], sample.points, atol=1e-3)
        assert sample.image.std() > 8


def test_every_attribute_occurs() -> None:
    faces = SyntheticFaces(200, seed=0)
    seen = {name for i in range(200) for name in faces._subsets(*faces._draws(i)[1:3])}
    assert seen == set(ATTRIBUTES)


def test_both_schemes_agree_where_they_share_points() -> None:
    head = Head(mouth_open=0.2, smile=0.1, width=0.05)
    mapped = WFLW98.map_to(IBUG68).apply(plane_points(head, "wflw98"))
    shared = [*range(0, 17, 4), *range(17, 36), 36, 39, 42, 45, *range(48, 68)]
    np.testing.assert_allclose(mapped[shared], plane_points(head, "ibug68")[shared], atol=1e-9)


@pytest.mark.parametrize("scheme", [IBUG68, WFLW98])
def test_the_average_face_is_symmetric(scheme: object) -> None:
    assert scheme in (IBUG68, WFLW98)
    named = IBUG68 if scheme is IBUG68 else WFLW98
    points = plane_points(Head(), named.name)
    np.testing.assert_allclose(points[list(named.mirror)] * [-1, 1], points, atol=1e-9)


def test_yaw_turns_the_nose_to_the_right_and_pitch_up() -> None:
    nose = np.array([0, 0.45, 1.0])
    assert (rotation_matrix(30, 0, 0) @ nose)[0] > 0.3
    assert (rotation_matrix(0, 20, 0) @ nose)[1] < nose[1]
    np.testing.assert_allclose(rotation_matrix(10, 20, 30) @ rotation_matrix(10, 20, 30).T, np.eye(3), atol=1e-12)


def test_the_nose_stands_out_and_the_outside_is_flat() -> None:
    depth = relief(Head(), np.array([0.0, 0.4, 3.0]), np.array([0.44, 0.44, 0.44]))
    assert depth[0] > depth[1] + 0.2 and depth[2] == 0


def test_bad_arguments_are_told() -> None:
    with pytest.raises(LabError, match="not cofw29"):
        SyntheticFaces(3, scheme="cofw29")
    with pytest.raises(LabError, match="count must be at least 1"):
        SyntheticFaces(0)
