"""Landmark losses: each form's formula, its optimum, and what must not move it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpr.loss import LandmarkLoss, theta_loss


def residuals(sds: Tensor, count: int = 4000) -> Tensor:
    """Return errors (B, N, 2) with an sd for each landmark."""
    return torch.randn(count, len(sds), 2) * sds[:, None]


SDS = torch.tensor([0.01, 0.02, 0.04])


def test_plain_loss_is_half_the_squared_length_summed_over_landmarks() -> None:
    error = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]])
    loss = LandmarkLoss(2, weighting="plain")
    assert float(loss(error, torch.ones(2, 2))) == pytest.approx((0.5 * 26 + 0.5 * 4) / 2)
    lengths = LandmarkLoss(2, weighting="plain", error="distance")
    assert float(lengths(error, torch.ones(2, 2))) == pytest.approx((6 + 2) / 2, rel=1e-5)


def test_inverse_weights_settle_at_the_inverse_errors() -> None:
    loss = LandmarkLoss(3, weighting="inverse")
    loss(residuals(SDS), torch.ones(4000, 3))
    expected = (1 / SDS) * 3 / (1 / SDS).sum()
    assert torch.allclose(loss.weights(), expected, rtol=0.05)
    assert float(loss.weights().mean()) == pytest.approx(1.0)


def test_direct_weights_are_the_opposite() -> None:
    loss = LandmarkLoss(3, weighting="direct")
    loss(residuals(SDS), torch.ones(4000, 3))
    assert torch.allclose(loss.weights(), SDS * 3 / SDS.sum(), rtol=0.05)


def test_weights_are_equal_until_plain_steps_are_over() -> None:
    loss, error = LandmarkLoss(3, plain_steps=2), residuals(SDS, 50)
    for _ in range(2):
        loss(error, torch.ones(50, 3))
        assert torch.equal(loss.weights(), torch.ones(3))
    loss(error, torch.ones(50, 3))
    assert float(loss.weights()[0]) > 1.3


def test_evaluation_does_not_move_the_weights_and_they_carry_no_gradient() -> None:
    loss, error = LandmarkLoss(3), residuals(SDS, 50).requires_grad_()
    loss(error, torch.ones(50, 3)).backward()
    before = loss.weights()
    assert not before.requires_grad
    loss.eval()
    loss(error * 7, torch.ones(50, 3))
    assert torch.equal(loss.weights(), before)


def test_landmarks_of_weight_0_count_nowhere_even_if_not_finite() -> None:
    error = residuals(SDS, 8)
    use = torch.ones(8, 3)
    use[:, 2] = 0
    reference = LandmarkLoss(3, weighting="plain")(error * use[..., None], use)
    spoilt = error.clone()
    spoilt[:, 2] = float("nan")
    spoilt.requires_grad_()
    value = LandmarkLoss(3, weighting="plain")(spoilt, use)
    value.backward()
    assert float(value) == pytest.approx(float(reference))
    assert spoilt.grad is not None and torch.isfinite(spoilt.grad).all()


def test_theta_loss_is_the_squared_error_of_six_numbers_and_targets_are_constants() -> None:
    theta = torch.zeros(2, 2, 3, requires_grad=True)
    target = torch.ones(2, 2, 3, requires_grad=True)
    loss = theta_loss(theta, target)
    loss.backward()
    assert float(loss) == 6 and target.grad is None and theta.grad is not None
    assert float(theta_loss(torch.zeros(2, 4, 2, 3), torch.ones(2, 4, 2, 3))) == 24


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="momentum must be in"):
        LandmarkLoss(3, momentum=1.0)
