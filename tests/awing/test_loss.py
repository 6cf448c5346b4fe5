"""Points without annotation teach nothing."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from awing.loss import AWingObjective, LossConfig


@pytest.mark.parametrize(("loss", "integral"), [("awing", 0.0), ("awing", 0.5), ("focal", 0.0), ("focal", 0.5)])
def test_channels_of_unknown_points_get_no_gradient(loss: Literal["awing", "focal"], integral: float) -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 4, 16, 16, requires_grad=True)
    target, marked = torch.rand(2, 4, 16, 16), torch.rand(2, 4, 16, 16) > 0.5
    cells = torch.rand(2, 3, 2) * 16
    weight = torch.ones(2, 3)
    weight[0, 1] = 0
    objective = AWingObjective(LossConfig(loss, integral_weight=integral))
    objective([maps], target, marked, cells, weight)["loss"].backward()
    assert maps.grad is not None
    assert maps.grad[0, 1].abs().max() == 0
    known = maps.grad.clone()
    maps = maps.detach().requires_grad_()
    objective([maps], target, marked, cells)["loss"].backward()
    assert maps.grad is not None
    assert maps.grad[0, 1].abs().max() > 0
    maps.grad[0, 1] = 0
    torch.testing.assert_close(maps.grad, known)
