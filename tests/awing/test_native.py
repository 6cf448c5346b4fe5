"""Targets drawn by compiled loops: the same as the tensors' path draws, call after call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from awing import native
from awing.targets import AWingTargets
from common.schemes import get_scheme

pytestmark = pytest.mark.skipif(not native.available, reason="the extra `fast` is not installed (numba)")

MOST_DIFFERING = 2e-3  # share of the boundary's cells: those of samples that fall on a whole number


def _faces(count: int, scheme: str, seed: int, size: float = 256) -> torch.Tensor:
    """Return smooth lines (count, L, 2), some of them partly or wholly beside the map."""
    rng = np.random.default_rng(seed)
    found = get_scheme(scheme)
    points = rng.uniform(-0.1 * size, 1.1 * size, (count, found.num_points, 2))
    for curve in found.curves:
        t = np.linspace(0, 1, len(curve.points))[None, :, None]
        start, span = rng.uniform(0, 0.9 * size, (count, 1, 2)), rng.uniform(-0.3 * size, 0.5 * size, (count, 1, 2))
        points[:, list(curve.points)] = start + span * t + rng.uniform(-20, 20, (count, 1, 2)) * np.sin(np.pi * t)
    return torch.from_numpy(points).float()


def _compare(targets: AWingTargets, points: torch.Tensor) -> None:
    expected, found = targets.heatmaps(points), targets.heatmaps(points, reuse=True)
    landmarks = points.shape[1]
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert torch.equal(found[:, :landmarks], expected[:, :landmarks])
    if found.shape[1] > landmarks:
        assert (found[:, landmarks:] != expected[:, landmarks:]).float().mean() <= MOST_DIFFERING


@pytest.mark.parametrize("scheme", ["wflw98", "ibug68", "cofw29", "aflw19"])
@pytest.mark.parametrize("legacy", [False, True])
def test_values_are_those_of_the_tensors(scheme: str, legacy: bool) -> None:
    targets = AWingTargets(scheme, legacy_border=legacy)
    for seed, count in enumerate((5, 3, 7)):  # memory is used again, in part, and made anew
        _compare(targets, _faces(count, scheme, seed))


@pytest.mark.parametrize(
    "options",
    [
        {"boundary": False},
        {"x_shift": 0, "quantise": False},
        {"map_size": 24, "stride": 3.2},
        {"radius": 1, "sigma": 1.0},
    ],
)
def test_options_reach_the_loops(options: dict[str, Any]) -> None:
    targets = AWingTargets("wflw98", **options)
    _compare(targets, _faces(6, "wflw98", 3, targets.map_size * targets.stride))


def test_degenerate_faces() -> None:
    points = _faces(5, "wflw98", 4)
    points[0] = 40.5  # everything in one cell
    points[1, ::3] = points[1, :1]
    points[2, 5] = torch.nan
    points[3, 60] = torch.inf
    points[4] = 1e9
    _compare(AWingTargets("wflw98"), points)


def test_a_stale_use_in_a_backward_pass_is_an_error() -> None:
    targets = AWingTargets("ibug68")
    scale = torch.ones((), requires_grad=True)
    loss = (targets.heatmaps(_faces(2, "ibug68", 5), reuse=True) * scale).sum()
    targets.heatmaps(_faces(2, "ibug68", 6), reuse=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_the_package_the_tensors_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", False)
    targets, points = AWingTargets("ibug68"), _faces(2, "ibug68", 7)
    assert torch.equal(targets.heatmaps(points, reuse=True), targets.heatmaps(points))
    with pytest.raises(RuntimeError, match="install the extra"):
        native.Canvas(64, 1.75, 3, False)


def test_maps_made_in_inference_are_drawn_into_in_training() -> None:
    targets = AWingTargets("ibug68")
    with torch.inference_mode():
        targets.heatmaps(_faces(2, "ibug68", 5), reuse=True)
    scale = torch.ones(1, requires_grad=True)
    (targets.heatmaps(_faces(2, "ibug68", 6), reuse=True) * scale).sum().backward()
    assert scale.grad is not None
