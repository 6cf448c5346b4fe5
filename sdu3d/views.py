"""The transformer outside the network: a second, transformed view of the same faces.

The official code compared halves of a batch that held different faces; here the views are made from the batch itself,
on its device, so they are truly of the same faces: mirrored, turned and scaled copies of the crops.

Maps and crops of any size share one frame: both sides run from -1 to 1 over the outer edges of the square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """Transforms of a batch.

    Attributes:
        matrix: (B, 2, 3) from places of the view to places of the original, both in -1..1.
        mirrored: (B,) bool, left and right were exchanged.
        scale: (B,) size of the view's content over the original's.
    """

    matrix: Tensor
    mirrored: Tensor
    scale: Tensor

    def picture(self, x: Tensor) -> Tensor:
        """Return crops or features (B, C, H, W), square, as the views show them; zeros outside."""
        grid = F.affine_grid(self.matrix.to(x.dtype), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def maps(self, maps: Tensor, mirror: tuple[int, ...]) -> Tensor:
        """Return landmark maps (B, L, H, W) in the views' frame, channels exchanged where a view is mirrored."""
        return self.reorder(self.picture(maps), mirror)

    def reorder(self, values: Tensor, mirror: tuple[int, ...]) -> Tensor:
        """Return values (B, L, ...) with the landmarks of mirrored views exchanged."""
        chosen = self.mirrored.view(-1, *[1] * (values.ndim - 1))
        return torch.where(chosen, values[:, list(mirror)], values)

    def points(self, points: Tensor, size: int, mirror: tuple[int, ...]) -> Tensor:
        """Return landmarks of the views.

        Args:
            points: (B, L, D) x, y in crop pixels, and depth, which is scaled.
            size: side of the crops in pixels.
            mirror: the scheme's mirror index.
        """
        place = (2 * points[..., :2] + 1) / size - 1
        linear, shift = self.matrix[..., :2].to(points.dtype), self.matrix[..., 2].to(points.dtype)
        back = torch.linalg.inv(linear)
        moved = (place - shift[:, None]) @ back.transpose(1, 2)
        xy = ((moved + 1) * size - 1) / 2
        moved = torch.cat([xy, points[..., 2:] * self.scale.to(points.dtype)[:, None, None]], -1)
        return self.reorder(moved, mirror)

    def inside(self, size: int) -> Tensor:
        """Return (B, 1, size, size): 1 where the views show a part of the original crops, less at its border."""
        whole = torch.ones((len(self.scale), 1, size, size), device=self.matrix.device, dtype=self.matrix.dtype)
        return self.picture(whole)


def draw_views(
    count: int,
    rotation: float = 30.0,
    scale: float = 0.2,
    flip: float = 0.5,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Views:
    """Return random transforms for `count` crops.

    Args:
        count: B.
        rotation: largest turn in degrees, either way.
        scale: largest relative change of size, either way.
        flip: chance of a mirrored view.
        generator: source of the draws, which are made on the CPU.
        device: where the result lies.
    """
    draws = torch.rand((3, count), generator=generator)
    turn = torch.deg2rad((2 * draws[0] - 1) * rotation)
    size = 1 + (2 * draws[1] - 1) * scale
    mirrored = draws[2] < flip
    return make_views(turn, size, mirrored, device)


def make_views(turn: Tensor, size: Tensor, mirrored: Tensor, device: torch.device | str = "cpu") -> Views:
    """Return views turned by radians (B,), `size` (B,) times as large, and mirrored where asked (B,)."""
    cos, sin = turn.cos() / size, turn.sin() / size
    sign = torch.where(mirrored, -1.0, 1.0)
    zero = torch.zeros_like(cos)
    rows = [cos * sign, -sin, zero, sin * sign, cos, zero]
    matrix = torch.stack(rows, 1).unflatten(1, (2, 3))
    return Views(matrix.to(device), mirrored.to(device), size.to(device))
