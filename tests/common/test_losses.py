"""Heatmap losses against golden data, finite differences and values known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.heatmaps import render_gaussians
from common.losses import AdaptiveWingLoss, adaptive_wing, focal_heatmap_loss, integral_loss
from tests.conftest import SHARED, needs_shared


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(SHARED / "golden" / "awing" / "ops.npz", allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def _curve(golden: dict[str, np.ndarray], dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    pred = torch.from_numpy(golden["curve_pred"]).to(dtype).requires_grad_()
    target = torch.from_numpy(golden["curve_target"])[:, None].to(dtype).expand_as(pred)
    loss = adaptive_wing(pred, target)
    loss.sum().backward()
    assert pred.grad is not None
    return loss.detach().numpy(), pred.grad.numpy()


@needs_shared
def test_curves_match_golden_in_double_precision(golden: dict[str, np.ndarray]) -> None:
    loss, grad = _curve(golden, torch.float64)
    np.testing.assert_allclose(loss, golden["curve_loss"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(grad, golden["curve_grad"], atol=1e-9, rtol=0)


@needs_shared
def test_curves_match_golden_in_single_precision(golden: dict[str, np.ndarray]) -> None:
    loss, grad = _curve(golden, torch.float32)
    np.testing.assert_allclose(loss, golden["curve_loss"], atol=1e-5, rtol=0)
    tiny = np.isclose(abs(golden["curve_delta"]), 1e-6)
    np.testing.assert_allclose(grad[:, ~tiny], golden["curve_grad"][:, ~tiny], atol=1e-4, rtol=0)


@needs_shared
def test_tangent_matches_golden(golden: dict[str, np.ndarray]) -> None:
    target = torch.from_numpy(golden["curve_target"])
    one, two = adaptive_wing(target + 1, target), adaptive_wing(target + 2, target)
    np.testing.assert_allclose((two - one).numpy(), golden["curve_A"], atol=1e-9)
    np.testing.assert_allclose((two - 2 * one).numpy(), golden["curve_C"], atol=1e-9)


@needs_shared
def test_weighted_loss_and_gradient_match_golden(golden: dict[str, np.ndarray]) -> None:
    pred = torch.from_numpy(golden["loss_pred"]).double().requires_grad_()
    target = torch.from_numpy(golden["loss_target"]).double()
    marked = torch.from_numpy(golden["loss_map"])
    each = adaptive_wing(pred, target).detach()
    np.testing.assert_allclose(each.numpy(), golden["loss_unweighted"], atol=1e-5)
    assert AdaptiveWingLoss()(pred, target).item() == pytest.approx(float(golden["loss_unweighted_mean"]), abs=1e-6)
    loss = AdaptiveWingLoss(map_weight=10)(pred, target, marked)
    assert loss.item() == pytest.approx(float(golden["loss_weighted_mean"]), abs=1e-6)
    loss.backward()
    assert pred.grad is not None
    # The gradient of a mean over 12288 elements is small: compare it on the scale of the sum, too.
    np.testing.assert_allclose(pred.grad.numpy(), golden["loss_weighted_grad"], atol=1e-5 / each.numel())
    sums = (each * (10 * marked + 1)).sum((0, 2, 3)).numpy()
    np.testing.assert_allclose(sums, golden["loss_weighted_sum_per_channel"], rtol=1e-6)
    np.testing.assert_allclose(each.sum((0, 2, 3)).numpy(), golden["loss_unweighted_sum_per_channel"], rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "slope", "offset"), [(0, 11.121422, 2.625476), (0.5, 11.112673, 1.565127), (1, 9.79785, -0.461533)]
)
def test_published_check_values(target: float, slope: float, offset: float) -> None:
    y = torch.tensor(target, dtype=torch.float64)
    far = [adaptive_wing(y - d, y).item() for d in (1.0, 3.0)]
    assert (far[1] - far[0]) / 2 == pytest.approx(slope, abs=1e-6)
    assert far[0] == pytest.approx(slope - offset, abs=2e-6)


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    target = torch.rand(40, dtype=torch.float64)
    pred = (target + torch.linspace(-1.1, 1.13, 40, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: adaptive_wing(p, target), (pred,))


def test_no_gradient_at_zero_error_and_none_is_nan_far_away() -> None:
    target = torch.tensor([0.0, 0.5, 1.0, 0.0, 1.0])
    pred = torch.tensor([0.0, 0.5, 1.0, 1e30, -1e30], requires_grad=True)
    loss = adaptive_wing(pred, target)
    loss.sum().backward()
    assert pred.grad is not None
    assert loss[:3].tolist() == [0, 0, 0] and pred.grad[:3].tolist() == [0, 0, 0]
    assert torch.isfinite(loss).all() and torch.isfinite(pred.grad).all()


def test_half_precision_is_computed_in_single() -> None:
    pred, target = torch.rand(64).bfloat16(), torch.rand(64)
    loss = adaptive_wing(pred, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, adaptive_wing(pred.float(), target))


def test_map_weight_multiplies_marked_cells() -> None:
    pred, target = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    marked = target > 0
    plain, weighted = AdaptiveWingLoss()(pred, target), AdaptiveWingLoss(map_weight=4)(pred, target, marked)
    assert weighted.item() == pytest.approx(5 * plain.item())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 2.0}, "alpha must be above 2.*got 2.0"),
        ({"omega": 0}, "omega must be positive, got 0"),
        ({"epsilon": -1}, "epsilon must be positive, got -1"),
        ({"theta": float("nan")}, "theta must be positive, got nan"),
        ({"map_weight": -3}, "map_weight must not be negative, got -3"),
    ],
)
def test_wrong_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveWingLoss(**options)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\).*\(1, 3, 4, 4\)"):
        AdaptiveWingLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="differ in shape"):
        focal_heatmap_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4))


def test_focal_loss_of_one_peak_by_hand() -> None:
    target = torch.tensor([[[[1.0, 0.5]]]])
    logits = torch.tensor([[[[0.0, 0.0]]]])
    # score 0.5 everywhere: (0.5)^2 ln 0.5 at the peak and (0.5)^4 (0.5)^2 ln 0.5 beside it.
    expected = -np.log(0.5) * (0.25 + 0.25 * 0.0625)
    assert focal_heatmap_loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(focal_heatmap_loss(torch.full((1, 1, 4, 4), 1e4), torch.zeros(1, 1, 4, 4)))


def test_integral_loss_leaves_out_points_off_the_map() -> None:
    cells = torch.tensor([[[20.5, 30.5], [70.0, 10.0], [float("nan"), 3.0]]])
    maps = render_gaussians(torch.tensor([[[20.5, 30.5]] * 3]), 64, 1.75, 3).requires_grad_()
    loss = integral_loss(maps, cells, beta=40)
    loss.backward()
    assert maps.grad is not None
    assert loss.item() == pytest.approx(0.0, abs=1e-3) and torch.isfinite(maps.grad).all()
    moved = integral_loss(maps, cells + torch.tensor([1.0, 3.0]), beta=40)
    assert moved.item() == pytest.approx(2.0, abs=1e-3)
    assert integral_loss(maps, cells, weight=torch.zeros(1, 3)).item() == 0
    with pytest.raises(ValueError, match="beta must be positive, got 0"):
        integral_loss(maps, cells, beta=0)


def test_focal_loss_of_logits_that_are_sure_is_cut_at_one_in_ten_thousand() -> None:
    logits, target = torch.tensor([20.0, 20.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    right = -((1e-4) ** 2 * math.log(1 - 1e-4) + (1 - 1e-4) ** 2 * math.log(1e-4))
    assert float(focal_heatmap_loss(logits.double(), target.double())) == pytest.approx(right, rel=1e-9)


def test_integral_loss_counts_points_on_every_border() -> None:
    """A map of 6 x 4 equal cells has its mean at (3, 2); all four corners are on the map, a little beyond is not."""
    maps = torch.zeros(1, 1, 4, 6, dtype=torch.float64)
    for x, y in ((0.0, 0.0), (6.0, 0.0), (0.0, 4.0), (6.0, 4.0)):
        assert float(integral_loss(maps, torch.tensor([[[x, y]]]))) == pytest.approx(2.5, abs=1e-12)
    for x, y in ((6.001, 2.0), (3.0, 4.001), (-0.001, 2.0)):
        assert float(integral_loss(maps, torch.tensor([[[x, y]]]))) == 0
