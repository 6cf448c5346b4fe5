"""Crop and augmentation against the golden arrays of the released loader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import LabError
from common.schemes import COFW29, IBUG68, MERLRAV68, WFLW98, LandmarkScheme
from spiga.original import SIZE, Face, crop_face, crop_map, round_points
from spiga.schemes import NOSE_TIP, POSE_POINTS, check_scheme, edge_curves, identifiers
from tests.conftest import needs_shared
from tests.reference.spiga_original import (
    blur,
    change_light,
    draw_light,
    draw_motion,
    flip_face,
    move_face,
    occlude,
)
from tests.spiga import golden

EXACT = 1e-9
TURNED_PIXELS = 0.005  # share of pixels of a turned image that may differ, as the golden README allows
MAP = 64


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> dict[str, np.ndarray]:
    return golden.arrays(shared_dir)


@pytest.fixture(scope="module")
def base(shared_dir: Path, arrays: dict[str, np.ndarray]) -> Face:
    image = np.round(255 * golden.fill_module(shared_dir).image(31, (3, 200, 260))).astype(np.uint8)
    box = np.array([70.0, 50, 90, 100])
    return Face(np.ascontiguousarray(image.transpose(1, 2, 0)), arrays["aug_landmarks_in"], box)


def close(ours: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=EXACT)


def differing(ours: np.ndarray, expected: np.ndarray) -> float:
    assert ours.shape == expected.shape
    return float((ours != expected).any(axis=-1).mean())


@needs_shared
def test_crop_and_rounding_of_annotated_faces(arrays: dict[str, np.ndarray], shared_dir: Path) -> None:
    table = np.load(shared_dir / "golden" / "metrics" / "spiga_300wpublic_test.npz", allow_pickle=False)
    rows = arrays["posit_index_in_300wpublic_test"]
    np.testing.assert_array_equal(table["gt"][rows], arrays["posit_landmarks_image"])
    np.testing.assert_array_equal(table["bbox"][rows], arrays["posit_bbox_image"])
    nothing = np.zeros((1, 1, 3), np.uint8)
    for k in range(len(rows)):
        found = crop_face(Face(nothing, arrays["posit_landmarks_image"][k], arrays["posit_bbox_image"][k]))
        close(found.box, arrays["posit_bbox_crop"][k])
        for size in (SIZE, MAP):
            close(found.points * (size / SIZE), arrays[f"posit_landmarks{size}_float"][k])
            whole, mask = round_points(found.points, size)
            np.testing.assert_array_equal(whole, arrays[f"posit_landmarks{size}"][k])
            np.testing.assert_array_equal(mask, arrays[f"posit_mask{size}"][k] > 0)


@needs_shared
def test_points_outside_the_crop(arrays: dict[str, np.ndarray]) -> None:
    face = Face(np.zeros((1, 1, 3), np.uint8), arrays["posit_landmarks_image"][0], arrays["clip_bbox_in"])
    found = crop_face(face, target_dist=1.0)
    close(found.box, arrays["clip_bbox_crop"])
    close(found.points * (MAP / SIZE), arrays["clip_landmarks64_float"])
    whole, mask = round_points(found.points, MAP)
    np.testing.assert_array_equal(whole, arrays["clip_landmarks64"])
    np.testing.assert_array_equal(mask, arrays["clip_mask"] > 0)
    stays = mask & (found.points < 0).any(axis=1)
    assert stays.sum() == 1 and not mask.all()  # the point at -0.34 pixels


@needs_shared
def test_flip(arrays: dict[str, np.ndarray], base: Face) -> None:
    found = flip_face(base, IBUG68.mirror)
    np.testing.assert_array_equal(found.image[::20, ::20], arrays["aug_flip_image_sub"])
    close(found.points, arrays["aug_flip_landmarks"])
    close(found.box, arrays["aug_flip_bbox"])


@needs_shared
def test_turn_scale_shift_and_the_crop_behind_it(arrays: dict[str, np.ndarray], base: Face) -> None:
    drawn = draw_motion(np.random.RandomState(5))
    sides = np.array([base.box[2], base.box[3], 1, 1])  # the shifts are recorded in pixels
    close(np.array(drawn) * sides, arrays["aug_rst_params_tx_ty_scale_deg"])
    moved = move_face(base, *drawn)
    close(moved.points, arrays["aug_rst_landmarks"])
    close(moved.box, arrays["aug_rst_bbox"])
    assert moved.box[2] > base.box[2]  # a turn enlarges the box
    assert differing(moved.image[::10, ::10], arrays["aug_rst_image_sub"]) <= TURNED_PIXELS
    cropped = crop_face(moved)
    close(cropped.points * (MAP / SIZE), arrays["aug_rst_crop_landmarks64_float"])
    close(cropped.box, arrays["aug_rst_crop_bbox"])
    assert differing(cropped.image[::16, ::16], arrays["aug_rst_crop_image_sub"]) <= TURNED_PIXELS


@needs_shared
def test_occluder(arrays: dict[str, np.ndarray], base: Face) -> None:
    found, rectangle, visible = occlude(base, np.random.RandomState(6))
    np.testing.assert_array_equal(rectangle, arrays["aug_occ_rect_x0y0x1y1"])
    np.testing.assert_array_equal(visible, arrays["aug_occ_visible"] > 0)
    x0, y0, x1, y1 = rectangle
    assert (found.image[y0:y1, x0:x1] == arrays["aug_occ_colour"]).all()
    found.image[y0:y1, x0:x1] = base.image[y0:y1, x0:x1]
    np.testing.assert_array_equal(found.image, base.image)  # nothing else was painted, and the base is as it was


@needs_shared
def test_light_and_blur(arrays: dict[str, np.ndarray], base: Face) -> None:
    factors = draw_light(np.random.RandomState(7))
    close(factors, arrays["aug_light_factors_hsv"])
    np.testing.assert_array_equal(change_light(base.image, factors)[::10, ::10], arrays["aug_light_image_sub"])
    for kernel in (1, 3, 5):
        np.testing.assert_array_equal(blur(base.image, kernel)[::10, ::10], arrays[f"aug_blur{kernel}_image_sub"])


@needs_shared
@pytest.mark.parametrize("scheme", [IBUG68, WFLW98])
def test_schemes_are_the_released_ones(shared_dir: Path, scheme: LandmarkScheme) -> None:
    text = (shared_dir / "golden" / "spiga" / "landmark_schemes_spiga.json").read_text()
    released = json.loads(text)["schemes"][str(scheme.num_points)]
    assert list(identifiers(scheme)) == [point["id"] for point in released["points"]]
    assert [list(curve) for curve in edge_curves(scheme)] == released["boundary_curves"]
    *members, always = (sorted(m) for m in released["edge_matrix_members"])
    assert [sorted(set(curve)) for curve in edge_curves(scheme)] == members
    assert sorted(scheme.singles) == always
    assert list(POSE_POINTS[scheme.name]) == released["posit_indices"]
    assert list(scheme.mirror) == released["flip_order"]
    assert identifiers(scheme)[NOSE_TIP[scheme.name]] == 17


def test_other_schemes_are_refused() -> None:
    assert check_scheme(MERLRAV68) is MERLRAV68
    with pytest.raises(LabError, match="cofw29"):
        check_scheme(COFW29)


def test_a_crop_is_centred_and_bad_boxes_are_refused() -> None:
    matrix = crop_map(np.array([10.0, 20, 40, 80]))
    np.testing.assert_allclose(matrix @ [30, 60, 1], [SIZE / 2, SIZE / 2])
    np.testing.assert_allclose(matrix[0, 0], SIZE / (1.6 * 80))
    with pytest.raises(LabError, match="no area"):
        crop_map(np.array([10.0, 20, 0, 0]))
    face = Face(np.zeros((9, 9, 3), np.uint8), np.zeros((1, 2)), np.array([1.0, 1, 2, 2]))
    with pytest.raises(LabError, match="too small"):
        occlude(face, np.random.RandomState(0))


def test_what_lies_outside_the_image_is_black() -> None:
    face = Face(np.full((8, 8, 3), 200, np.uint8), np.zeros((1, 2)), np.array([0.0, 0, 8, 8]))
    image = crop_face(face, target_dist=2.0).image
    inside = (image == 200).all(-1)
    assert inside[64:192, 64:192].all() and inside.sum() == 128 * 128 and (image[~inside] == 0).all()
