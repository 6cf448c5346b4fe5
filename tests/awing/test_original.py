"""The released crops, conversion, rotation and back-projection against golden data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

from awing.original import crop_window
from common.errors import LabError
from common.schemes import get_scheme
from tests.conftest import SHARED, needs_shared
from tests.reference.awing_original import cells_to_source, convert_wflw, crop_frame, rotate_crop, shift_crop

WINDOWS = [((225, 225), 1.8), ((225, 225), 2.25), ((60, 400), 1.8), ((225.5, 100.25), 1.37), ((225, 225), 2.25)]
POINTS = np.array([[225, 225], [100, 300], [10.5, 440.25], [300.75, 50]])


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(SHARED / "golden" / "awing" / "ops.npz", allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


@pytest.fixture(scope="module")
def picture() -> Callable[[int, int, int], np.ndarray]:
    spec = importlib.util.spec_from_file_location("fill", SHARED / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(seed: int, height: int, width: int) -> np.ndarray:
        return (module.image(seed, (3, height, width)).transpose(1, 2, 0) * 255).astype(np.uint8)

    return make


def _assert_grey_levels(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@needs_shared
@pytest.mark.parametrize("case", range(5))
def test_crop_matches_golden(golden: dict[str, np.ndarray], picture: Callable, case: int) -> None:
    center, scale = WINDOWS[case]
    crop, points = crop_window(picture(21, 450, 450), POINTS, center, scale)
    _assert_grey_levels(crop[::8, ::8], golden[f"crop{case}_image"])
    np.testing.assert_allclose(points, golden[f"crop{case}_landmarks"], atol=1e-9)


@needs_shared
@pytest.mark.parametrize(("case", "divisor"), [(0, 250), (1, 250), (2, 140)])
def test_conversion_matches_golden(golden: dict[str, np.ndarray], picture: Callable, case: int, divisor: float) -> None:
    points, box = golden[f"conv{case}_landmarks_in"], golden[f"conv{case}_bbox"]
    frame, moved, used = convert_wflw(picture(21, 600, 800), points, box)
    assert used == divisor
    np.testing.assert_allclose(moved, golden[f"conv{case}_landmarks_out"], atol=1e-4)
    _assert_grey_levels(frame[::15, ::15], golden[f"conv{case}_image_sub"])


@needs_shared
@pytest.mark.parametrize("case", range(3))
def test_rotation_matches_golden(golden: dict[str, np.ndarray], picture: Callable, case: int) -> None:
    degrees, scale = golden[f"rot{case}_params"]
    image, points = rotate_crop(picture(22, 256, 256), golden["landmarks98"], degrees, scale)
    np.testing.assert_allclose(points, golden[f"rot{case}_landmarks"], atol=1e-4)
    _assert_grey_levels(image[::8, ::8], golden[f"rot{case}_image_sub"])


@needs_shared
def test_back_projection_matches_golden(golden: dict[str, np.ndarray]) -> None:
    found = cells_to_source(golden["dec_preds"], golden["dec_center"], float(golden["dec_scale"]))
    np.testing.assert_allclose(found, golden["dec_preds_orig_untruncated"], atol=1e-4)
    np.testing.assert_array_equal(np.trunc(found), golden["dec_preds_orig"])


@needs_shared
@pytest.mark.parametrize(("count", "name"), [(98, "wflw98"), (68, "ibug68"), (29, "cofw29"), (19, "aflw19")])
def test_mirror_tables_match_golden(golden: dict[str, np.ndarray], count: int, name: str) -> None:
    np.testing.assert_array_equal(get_scheme(name).mirror, golden[f"flip_index{count}"])


def test_back_projection_undoes_the_crop() -> None:
    cells = crop_window(np.zeros((450, 450, 3), np.uint8), POINTS, (225, 225), 1.8)[1] / 4
    np.testing.assert_allclose(cells_to_source(cells, (225, 225), 1.8), POINTS, atol=1e-9)


def test_frame_is_cropped_wider_where_landmarks_come_near_the_border() -> None:
    frame = np.zeros((450, 450, 3), np.uint8)
    assert crop_frame(frame, np.array([[100.0, 100], [350, 350]]))[2] == 1.8
    crop, points, scale = crop_frame(frame, np.array([[50.0, 100], [350, 350]]))
    assert scale == 2.25 and crop.shape == (256, 256, 3)
    np.testing.assert_allclose(points, np.array([[50.0, 100], [350, 350]]) * 256 / 450)


def test_rotation_that_would_lose_a_point_is_left_out() -> None:
    image, points = np.full((256, 256, 3), 7, np.uint8), np.array([[2.0, 2.0], [128, 128]])
    turned, moved = rotate_crop(image, points, 30, 1.0)
    np.testing.assert_array_equal(turned, image)
    np.testing.assert_array_equal(moved, points)


def test_shifted_crop_keeps_the_landmarks_inside() -> None:
    """Small faces move freely; large ones get a wider window, and the whole frame when that does not help."""
    frame = np.zeros((450, 450, 3), np.uint8)
    frame[200:210, 220:230] = 255
    rng = np.random.default_rng(0)
    small = np.array([[200.0, 190.0], [260.0, 250.0]])
    centres = []
    for _ in range(40):
        crop, moved, scale = shift_crop(frame, small, 35, rng)
        assert crop.shape == (256, 256, 3) and scale == 1.8
        centres.append(moved.mean(0))
        spot = moved[0] + (np.array([224.5, 204.5]) - small[0]) * 256 / 360
        assert crop[int(spot[1]), int(spot[0])].min() == 255  # picture and points move together
    spread = np.ptp(centres, axis=0) * 360 / 256
    assert (spread > 50).all() and (spread <= 70).all()
    large = np.array([[60.0, 60.0], [390.0, 390.0]])
    scales = {shift_crop(frame, large, 35, rng)[2] for _ in range(20)}
    assert max(scales) > 1.8
    huge = np.array([[14.0, 14.0], [436.0, 436.0]])
    crop, moved, scale = shift_crop(frame, huge, 35, rng)
    assert scale == 2.25 and (moved > 0).all() and (moved < 256).all()


def test_user_mistakes_are_told() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    with pytest.raises(LabError, match="is empty; it must be x0 y0 x1 y1"):
        convert_wflw(image, POINTS, np.array([200, 100, 100, 200]))
    with pytest.raises(LabError, match="is empty; check the box"):
        crop_window(image, POINTS, (10, 10), 0.0)
    with pytest.raises(LabError, match="holds the landmarks"):
        convert_wflw(image, np.array([[1e6, 0.0]]), np.array([100, 100, 200, 200]))
