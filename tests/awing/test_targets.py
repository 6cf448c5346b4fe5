"""Targets of Adaptive Wing: boundary, heatmaps and weight maps against golden data; robustness of the batched path."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from awing.boundary import BoundaryRenderer, exact_boundary, interpolate_lines
from awing.curves import AFLW19_LINES, boundary_lines
from awing.loss import AWingObjective, LossConfig
from awing.targets import AWingTargets, weight_map
from common.errors import LabError
from common.heatmaps import render_gaussians, soft_argmax
from common.schemes import get_scheme
from tests.conftest import SHARED, needs_shared

SCHEMES = {98: "wflw98", 68: "ibug68", 29: "cofw29", 19: "aflw19"}
FACES = {**{str(n): name for n, name in SCHEMES.items()}, "98_tiny": "wflw98", "98_right": "wflw98"}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(SHARED / "golden" / "awing" / "ops.npz", allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def _lines(face: str) -> tuple[tuple[int, ...], ...]:
    return boundary_lines(get_scheme(FACES[face]))


@needs_shared
@pytest.mark.parametrize("face", FACES)
def test_exact_boundary_matches_golden_in_every_pixel(golden: dict[str, np.ndarray], face: str) -> None:
    drawn = exact_boundary(golden[f"landmarks{face}"], _lines(face))
    np.testing.assert_array_equal(drawn, golden[f"boundary{face}"])


@needs_shared
@pytest.mark.parametrize("face", FACES)
def test_batched_boundary_is_within_four_percent_of_golden(golden: dict[str, np.ndarray], face: str) -> None:
    truth = golden[f"boundary{face}"]
    points = torch.from_numpy(golden[f"landmarks{face}"])[None].expand(2, -1, -1)
    maps = (BoundaryRenderer(_lines(face))(points) * 255).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(maps[0], maps[1])
    assert set(np.unique(maps)) <= {0, 4, 21, 34, 94, 155, 255}
    assert (maps[0] != truth).mean() < 0.04
    # The line itself stays where it is: each drawn cell has one of the exact drawing within a cell, and vice versa.
    for ours, theirs in ((maps[0], truth), (truth, maps[0])):
        assert (theirs[ours == 255] >= 94).all()


@needs_shared
@pytest.mark.parametrize("count", SCHEMES)
def test_weight_maps_match_golden(golden: dict[str, np.ndarray], count: int) -> None:
    boundary = torch.from_numpy(golden[f"boundary{count}"]).float()[None, None]
    np.testing.assert_array_equal(weight_map(boundary)[0, 0].numpy(), golden[f"weight_map_boundary{count}"] > 0)
    unit = weight_map(boundary / 255)[0, 0].numpy()
    np.testing.assert_array_equal(unit, golden[f"weight_map_boundary_unit_range{count}"] > 0)
    points = torch.from_numpy(golden[f"landmarks{count}"])[None]
    heatmaps, marked = AWingTargets(SCHEMES[count], legacy_border=True).make(points)
    assert heatmaps.shape == marked.shape == (1, count + 1, 64, 64)
    np.testing.assert_array_equal(marked[0, :-1].sum((1, 2)).numpy(), golden[f"weight_map_sums{count}"][:-1])
    if count in (98, 68):
        np.testing.assert_array_equal(marked[0, 0].numpy(), golden[f"weight_map_landmark0_{count}"] > 0)
        np.testing.assert_allclose(heatmaps[0, :-1].sum((1, 2)).numpy(), golden[f"heatmap_sums{count}"], atol=1e-5)


@needs_shared
def test_weight_maps_of_gaussians_match_golden(golden: dict[str, np.ndarray]) -> None:
    cells = torch.from_numpy(golden["gauss_points"])[None] / 4
    maps = render_gaussians(cells, 64, 1.75, 3, legacy_border=True)
    np.testing.assert_array_equal(weight_map(maps)[0].numpy(), golden["weight_map_gauss"] > 0)


def _faces(batch: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 68, 2, generator=torch.Generator().manual_seed(seed)) * 200 + 28


def test_weight_map_of_targets_is_the_dilation_of_their_heatmaps() -> None:
    points = _faces()
    points[0, :3] = torch.tensor([[1.0, 2.0], [255.0, 255.0], [-6.0, 130.0]])
    heatmaps, marked = AWingTargets("ibug68").make(points)
    assert torch.equal(marked[:, :-1], weight_map(heatmaps[:, :-1]))
    assert torch.equal(marked[:, -1:], weight_map(heatmaps[:, -1:], 0.2 / 255))


def test_a_landmark_marks_61_cells_and_peaks_at_one() -> None:
    heatmaps, marked = AWingTargets("ibug68", boundary=False).make(torch.full((1, 68, 2), 130.0))
    assert heatmaps.shape == (1, 68, 64, 64)
    assert marked[0].sum((1, 2)).unique().tolist() == [61]
    assert heatmaps[0, :, 32, 32].unique().tolist() == [1.0]
    assert heatmaps[0, 0].sum().item() == pytest.approx(17.638, abs=1e-3)


@pytest.mark.parametrize(
    "points",
    [
        torch.full((2, 68, 2), 100.0),
        torch.full((2, 68, 2), -1e9),
        torch.full((2, 68, 2), 1e30),
        torch.full((2, 68, 2), float("nan")),
        _faces(2) * 0.01 + 128,
        _faces(2) * 40 - 3000,
    ],
    ids=["coincident", "far outside", "overflow", "nan", "tiny", "huge"],
)
def test_degenerate_faces_give_finite_targets(points: torch.Tensor) -> None:
    heatmaps, marked = AWingTargets("ibug68").make(points)
    assert torch.isfinite(heatmaps).all()
    assert heatmaps.min() >= 0 and heatmaps.max() <= 1
    inside = ((points >= 0) & (points < 256)).all()
    assert bool(heatmaps[:, -1].any()) or not inside
    assert bool(marked.any()) or not inside


def test_a_line_with_nan_is_left_out_and_the_others_stay() -> None:
    points = _faces(1)
    broken = points.clone()
    broken[0, 8] = float("nan")  # chin, on the jaw only
    lines = _lines("68")
    whole, left = BoundaryRenderer(lines)(points), BoundaryRenderer(lines)(broken)
    rest = BoundaryRenderer(lines[1:] if 8 in lines[0] else tuple(line for line in lines if 8 not in line))(points)
    assert torch.equal(left, rest) and not torch.equal(whole, left)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_splines_agree_with_scipy(count: int) -> None:
    from scipy.interpolate import splev, splprep

    points = np.random.default_rng(count).uniform(0, 60, (count, 2))
    knots, _ = splprep(points.T, s=0, k=min(4, count) - 1)
    times = np.arange(100) / 100
    # One repeated point and a padded end must not matter.
    repeated = np.concatenate([points[:1], points[:1], points[1:], points[-1:]])
    found = interpolate_lines(torch.from_numpy(repeated)[None], torch.from_numpy(times))[0]
    np.testing.assert_allclose(found.numpy(), np.stack(splev(times, knots), 1), atol=1e-8)


def test_options_shift_and_quantise() -> None:
    points, lines = _faces(1), _lines("68")
    shifted, centred = BoundaryRenderer(lines)(points), BoundaryRenderer(lines, x_shift=0)(points)
    torch.testing.assert_close(shifted[..., 4:], centred[..., 3:-1])
    smooth = BoundaryRenderer(lines, quantise=False)(points)
    assert (smooth - shifted).abs().max() < 1 / 128 and not torch.equal(smooth, shifted)


def test_batch_equals_single_faces() -> None:
    points, renderer = _faces(4), BoundaryRenderer(_lines("68"))
    together = renderer(points)
    assert all(torch.equal(together[i], renderer(points[i : i + 1])[0]) for i in range(4))


def test_right_brow_of_19_points_is_a_segment_of_two() -> None:
    assert (3, 4) in AFLW19_LINES and not any(5 in line for line in AFLW19_LINES)


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(B, 68, 2\), got \(1, 29, 2\)"):
        AWingTargets("ibug68").make(torch.zeros(1, 29, 2))
    with pytest.raises(ValueError, match="got 0"):
        AWingTargets("ibug68", map_size=0)
    with pytest.raises(ValueError, match="two points"):
        BoundaryRenderer(((1,),))


@pytest.mark.parametrize("loss", ["awing", "focal"])
def test_objective_names_its_parts_and_sums_them(loss: Literal["awing", "focal"]) -> None:
    heatmaps, marked = AWingTargets("ibug68").make(_faces(1))
    stacks = [torch.zeros_like(heatmaps, requires_grad=True) for _ in range(2)]
    parts = AWingObjective(LossConfig(loss, integral_weight=0.5))(stacks, heatmaps, marked, _faces(1) / 4)
    assert set(parts) == {"loss", "stack0", "stack1", "integral0", "integral1"}
    total = sum(parts[f"stack{i}"] + 0.5 * parts[f"integral{i}"] for i in range(2))
    torch.testing.assert_close(parts["loss"], total)
    parts["loss"].backward()
    assert all(s.grad is not None and torch.isfinite(s.grad).all() and s.grad.any() for s in stacks)


def test_objective_of_a_perfect_answer_is_zero() -> None:
    heatmaps, marked = AWingTargets("ibug68").make(_faces(1))
    assert AWingObjective()([heatmaps] * 3, heatmaps, marked, _faces(1) / 4)["loss"].item() == 0
    with pytest.raises(LabError, match="got -1"):
        LossConfig(integral_weight=-1)


def test_subcell_peaks_are_on_their_points() -> None:
    """On 32 x 32 cells the decoded target is a tenth of a pixel off; the official peaks are a quarter of a cell off."""
    points = _faces(4) / 2
    kept: dict[bool, float] = {}
    for subcell in (True, False):
        heatmaps, marked = AWingTargets("ibug68", map_size=32, subcell=subcell).make(points)
        assert torch.equal(marked[:, :-1], weight_map(heatmaps[:, :-1]))
        found = soft_argmax(heatmaps[:, :-1], temperature=1 / 13) * 4
        kept[subcell] = float((found - points).abs().mean())
    assert kept[True] < 0.1 and kept[False] > 0.9


def test_subcell_and_the_official_border_rule_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="choose one of subcell and legacy_border"):
        AWingTargets("ibug68", subcell=True, legacy_border=True)
