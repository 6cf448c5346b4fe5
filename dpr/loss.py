"""Landmark losses with weights that adapt to each landmark's own error, and the objective of all stages.

The paper's abstract says that landmarks' importance changes dynamically with their learning errors, without hand-set
constants; its formula could not be had. Every form below names its source: [2017] official layers of the older
paper, [inferred] reasoned from the abstract, [ours] this project's.
Shapes: B batch, N landmarks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Weighting = Literal["plain", "inverse", "direct"]
ErrorKind = Literal["squared", "distance"]
SMALLEST = 1e-6


class LandmarkLoss(nn.Module):
    """Loss of one stage's offsets.

    Args:
        num_points: N.
        weighting: plain: all landmarks alike [2017];
            inverse: weight N / m_i / sum(1 / m_j), m_i the running mean error of landmark i [inferred, default]:
            what is annotated inconsistently, such as the contour, weighs less;
            direct: weight N m_i / sum(m_j), the hard ones weigh more [inferred, for ablation].
        error: squared: half the squared length [2017]; distance: the length itself, which is what the NME counts and
            which outliers do not dominate [ours].
        momentum: of the running mean.
        plain_steps: steps at equal weights in the beginning, while errors say nothing yet (one epoch).
    """

    mean_error: Tensor
    steps: Tensor

    def __init__(
        self,
        num_points: int,
        weighting: Weighting = "inverse",
        error: ErrorKind = "squared",
        momentum: float = 0.99,
        plain_steps: int = 0,
    ) -> None:
        super().__init__()
        self.weighting = weighting
        self.error = error
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self.plain_steps = plain_steps
        self.register_buffer("mean_error", torch.zeros(num_points))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def _update(self, length: Tensor, use: Tensor) -> None:
        """Move the running mean error of the landmarks that this batch holds; the first batch sets it."""
        count = use.sum(0)
        batch = (length * use).sum(0) / count.clamp(min=SMALLEST)
        kept = torch.where(self.mean_error > 0, self.momentum * self.mean_error + (1 - self.momentum) * batch, batch)
        self.mean_error.copy_(torch.where(count > 0, kept, self.mean_error))
        self.steps += 1

    def weights(self) -> Tensor:
        """Return the landmarks' weights (N,), mean 1; ones before any error is known."""
        known = bool((self.mean_error > 0).all()) and int(self.steps) > self.plain_steps
        if self.weighting == "plain" or not known:
            return torch.ones_like(self.mean_error)
        raw = self.mean_error if self.weighting == "direct" else 1 / self.mean_error.clamp(min=SMALLEST)
        return raw * (raw.numel() / raw.sum())

    def forward(self, residual: Tensor, use: Tensor) -> Tensor:
        """Return the loss: sum over landmarks, mean over samples.

        Args:
            residual: (B, N, 2) predicted minus true offset.
            use: (B, N), 0 for landmarks without annotation.
        """
        residual, use = residual.float(), use.to(residual.device, torch.float32)
        # Unused landmarks may be far off or not finite; a product with 0 would keep their gradient's NaN.
        square = torch.where(use[..., None] > 0, residual, 0.0).square().sum(-1)
        length = (square + SMALLEST**2).sqrt()
        if self.training:
            self._update(length.detach(), use)
        each = self.weights() * (length if self.error == "distance" else 0.5 * square)
        return (each * use).sum(1).mean()


def theta_loss(theta: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the squared error of the six numbers of each map (B, ..., 2, 3), summed, mean over B.

    Maps whose `known` (B, ...) is False have no target and add nothing.
    """
    errors = (theta.float() - target.detach().float()).square().sum((-2, -1))
    errors = errors if known is None else torch.where(known, errors, 0.0)
    return errors.flatten(1).sum(1).mean() if errors.ndim > 1 else errors.mean()
