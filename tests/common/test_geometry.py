"""The pixel convention and the maps between image and crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry import (
    apply_affine,
    box_center,
    box_sides,
    compose_affine,
    crop_matrix,
    disagreement,
    fit_similarity,
    invert_affine,
    tight_box,
)

number = st.floats(-2000, 2000)


@settings(max_examples=200, deadline=None)
@given(
    number, number, st.floats(8, 3000), st.integers(16, 512), st.floats(-180, 180), st.booleans(), st.integers(0, 99)
)
def test_image_to_crop_and_back(
    x: float, y: float, side: float, size: int, angle: float, flip: bool, seed: int
) -> None:
    matrix = crop_matrix(np.array([x, y]), side, size, angle, flip)
    points = np.random.default_rng(seed).uniform(-1, 1, (20, 2)) * side + [x, y]
    back = apply_affine(invert_affine(matrix), apply_affine(matrix, points))
    assert np.abs(back - points).max() < 1e-3
    tensor = torch.from_numpy(matrix)[None]
    back_t = apply_affine(invert_affine(tensor), apply_affine(tensor, torch.from_numpy(points)[None]))
    assert np.abs(back_t[0].numpy() - points).max() < 1e-3


def test_first_pixel_centre_is_zero() -> None:
    """A crop of the whole image at its own size is the identity; at half size, pixel 0 lies between old 0 and 1."""
    whole = crop_matrix(np.array([31.5, 31.5]), 64, 64)
    np.testing.assert_allclose(whole, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    half = invert_affine(crop_matrix(np.array([31.5, 31.5]), 64, 32))
    np.testing.assert_allclose(apply_affine(half, np.array([[0.0, 0.0]])), [[0.5, 0.5]])


def test_turn_is_counter_clockwise_on_screen() -> None:
    matrix = crop_matrix(np.zeros(2), 2, 3, angle_deg=90)  # centre lands on pixel (1, 1)
    right = apply_affine(matrix, np.array([[1.0, 0.0]]))[0]
    assert right[1] < 1 and abs(right[0] - 1) < 1e-9  # what was right of the centre is now above it


def test_flip_mirrors_about_the_middle() -> None:
    plain, flipped = (crop_matrix(np.array([5.0, 7.0]), 20, 40, 30, f) for f in (False, True))
    points = np.array([[1.0, 2.0], [9.0, 4.0]])
    a, b = apply_affine(plain, points), apply_affine(flipped, points)
    np.testing.assert_allclose(b[:, 0], 39 - a[:, 0])
    np.testing.assert_allclose(b[:, 1], a[:, 1])


def test_composition_and_similarity_fit() -> None:
    first, second = crop_matrix(np.array([3.0, 4.0]), 10, 20, 12), crop_matrix(np.array([1.0, 2.0]), 7, 9, -40)
    points = np.random.default_rng(0).normal(size=(9, 2))
    both = apply_affine(second, apply_affine(first, points))
    np.testing.assert_allclose(apply_affine(compose_affine(second, first), points), both)
    np.testing.assert_allclose(apply_affine(fit_similarity(points, both), points), both, atol=1e-9)


def test_depth_keeps_the_unit_of_the_plane() -> None:
    points = np.array([[1.0, 2.0, 3.0]])
    assert apply_affine(crop_matrix(np.zeros(2), 10, 20), points)[0, 2] == pytest.approx(6)


def test_box_helpers_and_errors() -> None:
    box = tight_box(np.array([[1.0, 5.0], [3.0, 2.0], [np.nan, np.nan]]))
    np.testing.assert_array_equal(box, [1, 2, 3, 5])
    np.testing.assert_array_equal(box_center(box), [2, 3.5])
    with pytest.raises(ValueError, match="singular"):
        invert_affine(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="positive"):
        crop_matrix(np.zeros(2), 0, 10)
    with pytest.raises(ValueError, match="two distinct"):
        fit_similarity(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="positive"):
        crop_matrix(np.zeros(2), 10, 0)
    np.testing.assert_array_equal(box_sides(np.array([1.0, 2, 4, 9])), [3, 7])


def test_tensors_give_what_arrays_give() -> None:
    """One map of unequal axes, determinant 11, and two stacked."""
    one, other = np.array([[2.0, 1, 5], [3, 7, -6]]), np.array([[1.0, -2, 3], [4, 5, 6]])
    points = np.array([[1.0, 2, 3], [4, 5, 6]])
    moved = apply_affine(one, points)
    np.testing.assert_allclose(moved, [[9, 11, 3 * 11**0.5], [18, 41, 6 * 11**0.5]])
    np.testing.assert_allclose(apply_affine(torch.from_numpy(one), torch.from_numpy(points)).numpy(), moved)
    inverse = np.array([[7, -1, -41], [-3, 2, 27]]) / 11
    np.testing.assert_allclose(invert_affine(one), inverse)
    np.testing.assert_allclose(invert_affine(np.stack([other, one]))[1], inverse)
    np.testing.assert_allclose(invert_affine(torch.from_numpy(one)).numpy(), inverse)
    np.testing.assert_allclose(compose_affine(other, one), [[-4, -13, 20], [23, 39, -4]])
    both = compose_affine(torch.from_numpy(other), torch.from_numpy(one))
    np.testing.assert_allclose(both.numpy(), [[-4, -13, 20], [23, 39, -4]])
    with pytest.raises(ValueError, match="singular"):
        invert_affine(np.stack([one, np.zeros((2, 3))]))


def test_small_determinants_are_taken_as_the_least() -> None:
    matrices = torch.tensor([[[1e-3, 0, 0], [0, 1e-3, 0]], [[1e-3, 0, 0], [0, -1e-3, 0]], [[2.0, 0, 0], [0, 1, 0]]])
    found = invert_affine(matrices, least=1e-2)
    assert found[:, 0, 0].tolist() == pytest.approx([0.1, 0.1, 0.5]) and found[1, 1, 1] == pytest.approx(-0.1)


def test_tight_box_of_tensors_leaves_out_what_is_hidden() -> None:
    points = torch.tensor([[1.0, 5.0, 99], [3.0, 2.0, 99], [-7.0, 40.0, 99], [float("nan"), 1.0, 99]])
    use = torch.tensor([True, True, False, True])
    assert tight_box(points, use).tolist() == [1, 1, 3, 5]
    assert tight_box(points[:3]).tolist() == [-7, 2, 3, 40]
    np.testing.assert_array_equal(tight_box(points.numpy(), use.numpy()), [1, 1, 3, 5])


def test_similarity_by_hand_and_with_a_point_left_out() -> None:
    """A quarter turn, twice as large, moved by (10, 20); the last pair is wrong and weighs nothing."""
    source = np.array([[0.0, 0], [1, 0], [0, 3], [5, 5]])
    target = np.array([[10.0, 20], [10, 22], [4, 20], [0, 0]])
    weight = np.array([1.0, 1, 2, 0])
    expected = [[0, -2, 10], [2, 0, 20]]
    np.testing.assert_allclose(fit_similarity(source, target, weight), expected, atol=1e-12)
    found = fit_similarity(*(torch.from_numpy(array)[None] for array in (source, target, weight)))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-12)
    assert fit_similarity(torch.ones(2, 2), torch.full((2, 2), 4.0)).tolist() == [[0, 0, 4], [0, 0, 4]], "a shift"


def test_disagreement_is_a_share_of_the_second_face() -> None:
    other = torch.tensor([[[0.0, 0, 9], [8, 0, 9], [8, 2, 9]]])  # a box of area 16
    one = other + torch.tensor([[3.0, 4.0, 50.0]])
    assert disagreement(one, other).tolist() == [[1.25, 1.25, 1.25]]
