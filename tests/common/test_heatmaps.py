"""Rendering and decoding of heatmaps against golden data and against values known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from common.heatmaps import (
    cells_to_crop,
    crop_to_cells,
    decode_argmax,
    decode_quarter,
    decode_window,
    merge_heatmaps,
    render_gaussians,
    soft_argmax,
)
from tests.conftest import SHARED, needs_shared

PATCH: dict[str, Any] = {"size": 64, "sigma": 1.75, "radius": 3}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(SHARED / "golden" / "awing" / "ops.npz", allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


@needs_shared
def test_gaussians_with_legacy_border_match_golden(golden: dict[str, np.ndarray]) -> None:
    cells = torch.from_numpy(golden["gauss_points"])[None] / 4
    maps = render_gaussians(cells, **PATCH, legacy_border=True)[0]
    np.testing.assert_allclose(maps.numpy(), golden["gauss"], atol=1e-6)
    # Rows 3 to 7 lie near the left and top border, the others need no legacy option.
    centred = render_gaussians(cells, **PATCH)[0].numpy()
    far = [0, 1, 2, 8, 9, 10, 11]
    np.testing.assert_allclose(centred[far], golden["gauss"][far], atol=1e-6)
    assert all(abs(centred[i] - golden["gauss"][i]).max() > 0.05 for i in range(3, 8))


@needs_shared
def test_two_points_of_one_map_are_added_and_clipped(golden: dict[str, np.ndarray]) -> None:
    cells = torch.tensor([[[80.0, 80.0], [92.0, 80.0]]]) / 4
    merged = merge_heatmaps(render_gaussians(cells, **PATCH))[0]
    np.testing.assert_allclose(merged.numpy(), golden["gauss_two"], atol=1e-6)
    assert merged.max() == 1


@needs_shared
@pytest.mark.parametrize("count", [98, 68])
def test_peaks_and_sums_match_golden(golden: dict[str, np.ndarray], count: int) -> None:
    cells = torch.from_numpy(golden[f"landmarks{count}"])[None] / 4
    maps = render_gaussians(cells, **PATCH, legacy_border=True)
    peaks = (decode_argmax(maps)[0] - 0.5).long().numpy()
    np.testing.assert_array_equal(peaks[:, ::-1], golden[f"heatmap_peaks{count}"])
    np.testing.assert_allclose(maps.sum((2, 3))[0].numpy(), golden[f"heatmap_sums{count}"], atol=1e-5)


@needs_shared
def test_quarter_decoding_matches_golden(golden: dict[str, np.ndarray]) -> None:
    cells = decode_quarter(torch.from_numpy(golden["dec_heatmaps"]))
    np.testing.assert_array_equal(cells.numpy(), golden["dec_preds"])


@needs_shared
@pytest.mark.parametrize(("count", "first", "last"), [(98, 60, 72), (68, 36, 42), (29, 16, 17)])
def test_nme_of_decoded_maps_matches_golden(golden: dict[str, np.ndarray], count: int, first: int, last: int) -> None:
    cells = torch.from_numpy(golden[f"nme{count}_cells"]).long()
    maps = torch.zeros(*cells.shape[:2], 64, 64)
    image, point = torch.meshgrid(torch.arange(2), torch.arange(count), indexing="ij")
    maps[image, point, cells[..., 1], cells[..., 0]] = 1.0
    right = cells[..., 0] + 1
    fits = right < 64
    maps[image[fits], point[fits], cells[..., 1][fits], right[fits]] = 0.4
    decoded = cells_to_crop(decode_quarter(maps), 4, pixel_offset=0.0).double().numpy()
    truth = golden[f"landmarks{count}"]
    if count == 68:  # the released code has the inter-pupil distance active
        norm = np.linalg.norm(truth[36:42].mean(0) - truth[42:48].mean(0))
    else:
        norm = np.linalg.norm(truth[first] - truth[last])
    each = np.linalg.norm(decoded - truth, axis=-1).mean(1) / norm
    np.testing.assert_allclose(each, golden[f"nme{count}_each"], atol=1e-6)
    np.testing.assert_allclose(each.sum(), golden[f"nme{count}_sum"], atol=1e-6)


@needs_shared
def test_nme_of_19_points_uses_the_box(golden: dict[str, np.ndarray]) -> None:
    cells = torch.from_numpy(golden["nme19_cells"][0, :19]).long()
    maps = torch.zeros(1, 19, 64, 64)
    point = torch.arange(19)
    maps[0, point, cells[:, 1], cells[:, 0]] = 1.0
    maps[0, point, cells[:, 1], (cells[:, 0] + 1).clamp(max=63)] = torch.where(cells[:, 0] < 63, 0.4, 1.0)
    decoded = cells_to_crop(decode_quarter(maps), 4, pixel_offset=0.0)[0].double().numpy()
    truth, (low, high) = golden["nme19_gt"][:19], golden["nme19_gt"][19:]
    norm = np.sqrt(abs(np.prod(high - low)))
    nme = np.linalg.norm(decoded - truth, axis=-1).mean() / norm
    np.testing.assert_allclose(nme, golden["nme19_sum"], atol=1e-6)


def test_ties_go_to_the_first_cell_in_row_major_order() -> None:
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, 5, 1] = maps[0, 0, 2, 6] = 1.0
    assert decode_argmax(maps)[0].tolist() == [[6.5, 2.5], [0.5, 0.5]]


def test_a_peak_on_the_border_is_not_moved_on_either_axis() -> None:
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 0, 4], maps[0, 0, 0, 5] = 1.0, 0.5
    assert decode_quarter(maps)[0, 0].tolist() == [4.5, 0.5]


def test_crop_conversions_are_inverse_and_place_cell_centres() -> None:
    points = torch.tensor([[0.0, 0.0], [37.25, 101.5]])
    torch.testing.assert_close(cells_to_crop(crop_to_cells(points)), points)
    # Cell 0 covers pixels 0..3, whose middle is 1.5 between pixel centres and 2 between pixel corners.
    assert cells_to_crop(torch.tensor([0.5, 0.5])).tolist() == [1.5, 1.5]
    assert cells_to_crop(torch.tensor([0.5, 0.5]), pixel_offset=0.0).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("decode", [lambda m: soft_argmax(m, 0.02), decode_window])
def test_integral_decoders_recover_unquantised_centres(decode) -> None:  # type: ignore[no-untyped-def]
    points = torch.tensor([[[25.5, 12.5], [40.5, 33.5], [8.5, 50.5]]])
    maps = render_gaussians(points, **PATCH)
    torch.testing.assert_close(decode(maps), points, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("beta", "x", "y"), [(1, 31.96, 31.89), (5, 31.0, 29.1), (10, 26.0, 14.0), (15, 25.505, 12.516)]
)
def test_soft_argmax_is_pulled_to_the_middle_when_it_is_too_warm(beta: float, x: float, y: float) -> None:
    maps = render_gaussians(torch.tensor([[[25.5, 12.5]]]), **PATCH)
    found = soft_argmax(maps, 1 / beta)[0, 0]
    assert found.tolist() == pytest.approx([x, y], abs=0.06)


def test_window_falls_back_to_the_peak_of_a_negative_map() -> None:
    maps = torch.full((1, 1, 8, 8), -1.0)
    maps[0, 0, 3, 5] = -0.5
    assert decode_window(maps)[0, 0].tolist() == [5.5, 3.5]


def test_points_off_the_map_and_nan_draw_no_nan() -> None:
    cells = torch.tensor([[[-500.0, 3.0], [float("nan"), 5.0], [1e30, 1e30], [66.5, 10.0], [-1.5, 20.0]]])
    maps = render_gaussians(cells, **PATCH)[0]
    assert torch.isfinite(maps).all()
    assert [bool(m.any()) for m in maps] == [False, False, False, True, True]


def test_unquantised_peak_follows_the_point() -> None:
    point = torch.tensor([[[20.8, 30.3]]])
    maps = render_gaussians(point, 64, 1.5, 6, quantise=False)
    torch.testing.assert_close(decode_window(maps, 6), point, atol=0.02, rtol=0)


def test_a_patch_wider_than_the_map_is_cut() -> None:
    maps = render_gaussians(torch.tensor([[[1.5, 2.5], [9.5, 0.5]]]), 5, 2.0, 4)[0]
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    torch.testing.assert_close(maps[0], torch.exp(-((columns - 1) ** 2 + (rows - 2) ** 2) / 8.0))
    assert not maps[1].any()


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="-1"):
        render_gaussians(torch.zeros(1, 1, 2), 64, -1.0, 3)
    with pytest.raises(ValueError, match="quantise=False"):
        render_gaussians(torch.zeros(1, 1, 2), 64, 1.0, 3, legacy_border=True, quantise=False)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        soft_argmax(torch.zeros(1, 1, 4, 4), 0)
    with pytest.raises(ValueError, match="got -2"):
        decode_window(torch.zeros(1, 1, 4, 4), -2)


def test_window_takes_positive_cells_as_far_as_its_radius() -> None:
    maps = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    maps[0, 0, 3, 3], maps[0, 0, 3, 4], maps[0, 0, 4, 3], maps[0, 0, 3, 5], maps[0, 0, 3, 2] = 4, 2, 2, 1, -3
    assert decode_window(maps, 1)[0, 0].tolist() == [(4 * 3.5 + 2 * 4.5 + 2 * 3.5) / 8, (6 * 3.5 + 2 * 4.5) / 8]
    wide = [(4 * 3.5 + 2 * 4.5 + 2 * 3.5 + 5.5) / 9, (7 * 3.5 + 2 * 4.5) / 9]
    assert decode_window(maps, 2)[0, 0].tolist() == pytest.approx(wide, abs=1e-12)
    assert decode_window(maps, 0)[0, 0].tolist() == [3.5, 3.5]


@pytest.mark.parametrize("radius", [0, 5, 40])
def test_points_far_off_a_map_of_one_cell_draw_nothing(radius: int) -> None:
    far = torch.tensor([[[1e30, 0.5], [0.5, 1e30], [-1e30, 0.5], [0.5, -1e30], [float("inf"), 0.5]]])
    assert not render_gaussians(far, 1, 3.0, radius).any()
    assert render_gaussians(torch.tensor([[[0.5, 0.5]]]), 1, 3.0, radius).tolist() == [[[[1.0]]]]
