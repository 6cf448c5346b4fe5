"""Losses on heatmaps and on the points decoded from them.

Symbols: B batch, L channels, H and W sides of the map in cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.heatmaps import soft_argmax

__all__ = ["AdaptiveWingLoss", "adaptive_wing", "focal_heatmap_loss", "integral_loss"]


def _check_wing(alpha: float, omega: float, epsilon: float, theta: float) -> None:
    if alpha <= 2:
        raise ValueError(f"alpha must be above 2, else the gradient is not 0 at zero error, got {alpha}")
    for name, value in (("omega", omega), ("epsilon", epsilon), ("theta", theta)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def adaptive_wing(
    pred: Tensor,
    target: Tensor,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
) -> Tensor:
    """Return the adaptive wing loss of each element: a wing on high targets, a parabola on low ones.

    With d = |target - pred| and e = alpha - target it is omega * ln(1 + (d / epsilon) ** e) below theta and the
    tangent A * d - C from there on, so value and slope are continuous.

    Args:
        pred: any shape, any floating dtype; computed in float32, or in float64 if it is given.
        target: same shape, in [0, 1]; treated as a constant.
        alpha: largest exponent.
        omega: scale of the loss.
        epsilon: error at which the logarithm bends.
        theta: error from which the loss is linear.

    Returns:
        The losses, of the inputs' shape.
    """
    if pred.device.type != "meta":
        with torch.autocast(pred.device.type, enabled=False):
            return _adaptive_wing(_full_precision(pred), target, alpha, omega, epsilon, theta)
    return _adaptive_wing(_full_precision(pred), target, alpha, omega, epsilon, theta)


def _adaptive_wing(pred: Tensor, target: Tensor, alpha: float, omega: float, epsilon: float, theta: float) -> Tensor:
    target = target.detach().to(pred.dtype)
    error = (target - pred).abs()
    exponent = alpha - target
    # theta / epsilon is a scalar; its powers are per element because the exponent follows the target.
    knee = torch.pow(theta / epsilon, exponent)
    slope = omega * exponent * knee / (theta * (1 + knee))
    offset = theta * slope - omega * torch.log1p(knee)
    # The unused branch must stay finite, too: torch.where multiplies its gradient by 0, and 0 * inf is NaN.
    curve = omega * torch.log1p(torch.pow(error.clamp(max=theta) / epsilon, exponent))
    return torch.where(error < theta, curve, slope * error - offset)


class AdaptiveWingLoss(nn.Module):
    """Mean adaptive wing loss, with foreground cells counting `map_weight` + 1 times.

    Args:
        alpha, omega, epsilon, theta: see `adaptive_wing`.
        map_weight: extra weight of the cells that the weight map marks; 0 is the plain mean.
    """

    def __init__(
        self,
        alpha: float = 2.1,
        omega: float = 14.0,
        epsilon: float = 1.0,
        theta: float = 0.5,
        map_weight: float = 10.0,
    ) -> None:
        super().__init__()
        _check_wing(alpha, omega, epsilon, theta)
        if not map_weight >= 0:
            raise ValueError(f"map_weight must not be negative, got {map_weight}")
        self.shape = {"alpha": alpha, "omega": omega, "epsilon": epsilon, "theta": theta}
        self.map_weight = map_weight

    def extra_repr(self) -> str:
        values = {**self.shape, "map_weight": self.map_weight}
        return ", ".join(f"{name}={value:g}" for name, value in values.items())

    def forward(self, pred: Tensor, target: Tensor, weight_map: Tensor | None = None) -> Tensor:
        """Return the mean over all elements (not divided by the weights) of (B, L, H, W) maps.

        Args:
            pred: (B, L, H, W).
            target: (B, L, H, W) in [0, 1].
            weight_map: (B, L, H, W), 1 or True on the foreground; None for equal weights.
        """
        if pred.shape != target.shape:
            raise ValueError(f"prediction {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        loss = adaptive_wing(pred, target, **self.shape)
        if weight_map is not None and self.map_weight:
            loss = loss * (weight_map.to(loss.dtype) * self.map_weight + 1)
        return loss.mean()


def focal_heatmap_loss(logits: Tensor, target: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Return the penalty-reduced focal loss of heatmaps, summed and divided by the number of peaks.

    Args:
        logits: (B, L, H, W), before the sigmoid.
        target: (B, L, H, W) in [0, 1]; cells that are exactly 1 are the positives.
        alpha: exponent that plays down cells which are already right.
        beta: exponent that plays down negatives near a peak.
    """
    if alpha < 0 or beta < 0:
        raise ValueError(f"alpha and beta must not be negative, got {alpha}, {beta}")
    if logits.shape != target.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} differ in shape")
    logits = _full_precision(logits)
    target = target.detach().to(logits.dtype)
    score = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = target == 1
    positive = (1 - score) ** alpha * score.log()
    negative = (1 - target) ** beta * score**alpha * (1 - score).log()
    return -torch.where(peak, positive, negative).sum() / peak.sum().clamp(min=1)


def integral_loss(maps: Tensor, cells: Tensor, beta: float = 25.0, weight: Tensor | None = None) -> Tensor:
    """Return the mean absolute coordinate error, in cells, of the soft-arg-max of heatmaps.

    Points outside the map are left out: no distribution over its cells has its mean there.

    Args:
        maps: (B, L, H, W).
        cells: (B, L, 2) true points in map cells, not rounded.
        beta: sharpness, softmax(beta * maps).
        weight: (B, L) weights of the points, 0 to leave a point out.
    """
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta}")
    maps = _full_precision(maps)
    size = torch.tensor([maps.shape[-1], maps.shape[-2]], device=maps.device, dtype=maps.dtype)
    cells = cells.to(maps.dtype)
    use = ((cells >= 0) & (cells <= size)).all(-1).to(maps.dtype)
    if weight is not None:
        use = use * weight.to(maps.dtype)
    cells = torch.where((use > 0)[..., None], cells, 0.0)
    error = (soft_argmax(maps, 1 / beta) - cells).abs().mean(-1)
    return (error * use).sum() / use.sum().clamp(min=1)
