"""Landmark and error loss of every iteration (as in the official training)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import LabError

KINDS = ("l1", "rmse")
DEAD_ZONE = 0.01  # pixels; an error below it counts as none
SQUARED_OFFSET = 1e-3  # pixels squared, added inside the root of the Euclidean variant


def landmark_error(
    points: Tensor, truth: Tensor, corners: tuple[int, int], kind: str = "l1", weight: Tensor | None = None
) -> Tensor:
    """Return each face's mean landmark error (B,) over the distance of its outer eye corners, as a fraction.

    Args:
        points: (B, N, 2) in any frame.
        truth: (B, N, 2) in the same frame.
        corners: the two eye corners' landmarks.
        kind: l1 takes sums of absolute differences for both the errors and the distance (so it is no NME: about 1.27
            times as large, and it depends on the head's roll); rmse takes Euclidean lengths.
        weight: (B, N), 0 for landmarks without annotation; None counts all alike.
    """
    left, right = corners
    eyes = truth[:, left] - truth[:, right]
    if kind == "l1":
        errors = (points - truth).abs().sum(-1)
        errors = errors * (errors >= DEAD_ZONE)
        distance = eyes.abs().sum(-1)
    else:
        errors = ((points - truth).square().sum(-1) + SQUARED_OFFSET).sqrt()
        distance = eyes.square().sum(-1).sqrt()
    if weight is None:
        return errors.mean(-1) / distance
    return (errors * weight).sum(-1) / (weight.sum(-1).clamp_min(1) * distance)


class CascadeLoss(nn.Module):
    """Sum over iterations of (1 - share) * landmark error + share * |landmark error - predicted error|.

    Nothing is detached: the error term also pushes the landmarks, and gradients run back through the iterations.

    Args:
        corners: outer eye corners of the scheme.
        kind: l1 (official) or rmse.
        error_share: weight of the error term (official: 0.05).

    Raises:
        LabError: the kind is unknown or the share is outside [0, 1].
    """

    def __init__(self, corners: tuple[int, int], kind: str = "l1", error_share: float = 0.05) -> None:
        super().__init__()
        if kind not in KINDS:
            raise LabError(f"loss must be one of {', '.join(KINDS)}, got {kind}")
        if not 0 <= error_share <= 1:
            raise LabError(f"error_share must be in [0, 1], got {error_share}")
        self.corners, self.kind, self.error_share = corners, kind, error_share

    def forward(
        self, points: Sequence[Tensor], errors: Sequence[Tensor], truth: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return "loss" and its two parts, as they were added.

        Args:
            points: per iteration (B, N, 2).
            errors: per iteration (B,) predicted errors.
            truth: (B, N, 2).
            weight: (B, N) or None.
        """
        true = torch.stack([landmark_error(p, truth, self.corners, self.kind, weight) for p in points])  # (T, B)
        landmark = (1 - self.error_share) * true.mean(1).sum()
        error = self.error_share * (true - torch.stack(list(errors))).abs().mean(1).sum()
        return {"loss": landmark + error, "landmark": landmark, "error": error}
