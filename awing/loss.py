"""Training objective of Adaptive Wing: the weighted loss map summed over the stacks (sec. 4), and its variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from common.errors import check_ranges
from common.losses import AdaptiveWingLoss, focal_heatmap_loss, integral_loss


@dataclass(frozen=True)
class LossConfig:
    """Training objective.

    Attributes:
        kind: awing (weighted adaptive wing, sec. 4.2) or focal (penalty-reduced, for networks that return logits).
        integral_weight: factor of the soft-arg-max's mean coordinate error in cells; 0 switches it off.
        integral_beta: sharpness of that soft-arg-max; below about 20 the background pulls it to the middle.
        map_weight: W of the weighted loss map (sec. 4.3); focal does not use it.
        subcell: centre the target's peaks on the points, not on the middles of their cells as the paper does [ours].

    Raises:
        LabError: a value is out of its range.
    """

    kind: Literal["awing", "focal"] = "awing"
    integral_weight: float = 0.0
    integral_beta: float = 25.0
    map_weight: float = 10.0
    subcell: bool = False

    def __post_init__(self) -> None:
        check_ranges("loss", self, integral_weight="[0, inf)", integral_beta="(0, inf)", map_weight="[0, inf)")


class AWingObjective(nn.Module):
    """Sum over the stacks of a heatmap loss, optionally with a coordinate term."""

    def __init__(self, config: LossConfig = LossConfig()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.config = config
        self.awing = AdaptiveWingLoss(map_weight=config.map_weight)

    def forward(
        self,
        stacks: Sequence[Tensor],
        heatmaps: Tensor,
        weight_map: Tensor | None,
        cells: Tensor,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the named parts of the loss; "loss" is what to minimise.

        Args:
            stacks: one (B, L + 1, S, S) output per stack, boundary last; logits with the focal loss.
            heatmaps: (B, L + 1, S, S) targets, the same for each stack.
            weight_map: (B, L + 1, S, S) foreground, or None.
            cells: (B, L, 2) true points in map cells, not rounded; for the coordinate term.
            weight: (B, L), 0 for points that are not annotated: their channels give no gradient. None for all.

        Returns:
            "loss", and per stack i "stack{i}" (heatmaps) and, where it is on, "integral{i}" (before its factor).
        """
        if not stacks:
            raise ValueError("the network returned no map, the loss needs one or more")
        total = heatmaps.new_zeros(())
        parts: dict[str, Tensor] = {}
        for i, maps in enumerate(stacks):
            if weight is not None:
                taught = pad(weight > 0, (0, maps.shape[1] - weight.shape[1]), value=True)
                maps = torch.where(taught[..., None, None], maps, maps.detach())
            focal = self.config.kind == "focal"
            part = focal_heatmap_loss(maps, heatmaps) if focal else self.awing(maps, heatmaps, weight_map)
            parts[f"stack{i}"] = part
            total = total + part
            if self.config.integral_weight:
                landmarks = maps[:, : cells.shape[1]]
                landmarks = landmarks.float().sigmoid() if focal else landmarks
                parts[f"integral{i}"] = integral_loss(landmarks, cells, self.config.integral_beta)
                total = total + self.config.integral_weight * parts[f"integral{i}"]
        return {"loss": total, **parts}
