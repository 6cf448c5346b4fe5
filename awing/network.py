"""Network of "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression" (Wang, Bo, Li, ICCV 2019,
arXiv 1904.07399): stacked hourglasses of FAN blocks with CoordConv and a boundary channel (sec. 4 and 5).

Differences from the official implementation: any width, depth and number of stacks; coordinate maps follow the
input's size; the second return value (the last two input channels of each CoordConv) is not returned.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from awing.layers import CoordConv, Hourglass, MultiScaleBlock

STEMS = ("residual", "strided")
FOCAL_PRIOR = -2.19  # bias of a head of logits: a cell is a landmark with chance 0.1 before training


class Stack(nn.Module):
    """CoordConv, hourglass, head; and the way back into the running features unless it is the last stack."""

    def __init__(
        self, width: int, maps: int, depth: int, coord_conv: bool, boundary: bool, last: bool, growth: int = 0
    ) -> None:
        super().__init__()
        self.coord = CoordConv(width, width, boundary=boundary) if coord_conv else None
        self.hourglass = Hourglass(depth, width, growth)
        self.top = MultiScaleBlock(width, width)
        self.conv, self.bn = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, maps, 1)
        self.merge_features = None if last else nn.Conv2d(width, width, 1)
        self.merge_maps = None if last else nn.Conv2d(maps, width, 1)

    def forward(self, previous: Tensor, boundary: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the running features (B, C, H, W) for the next stack and this one's maps (B, L + 1, H, W)."""
        x = previous if self.coord is None else self.coord(previous, boundary if self.coord.boundary else None)
        features = F.relu(self.bn(self.conv(self.top(self.hourglass(x)))))
        maps = self.head(features)
        if self.merge_features is not None and self.merge_maps is not None:
            # The sum starts from the features before the CoordConv, as the official code does.
            previous = previous + self.merge_features(features) + self.merge_maps(maps)
        return previous, maps


class AWingNet(nn.Module):
    """Stacked hourglass with boundary channel.

    Args:
        num_points: landmarks L; the maps have one more channel, the boundary, as the last.
        stacks: hourglasses.
        width: features (official: 256); stem channels are a quarter and a half of it. A multiple of 16.
        depth: levels of each hourglass.
        coord_conv: CoordConv in the stem and before each hourglass; off: plain FAN.
        boundary: from the second stack on, add the coordinates masked by the former stack's boundary.
        logits: the maps are logits (focal loss): the boundary goes through a sigmoid before it masks.
        stem: residual, as published (a block at half the crop's side), or strided: two strided 3x3 convolutions, which
            are at the maps' side after a fifth of the time.
        growth: channels that each level of an hourglass has more than the one outside it (official: 0).
    """

    def __init__(
        self,
        num_points: int,
        stacks: int = 4,
        width: int = 256,
        depth: int = 4,
        coord_conv: bool = True,
        boundary: bool = True,
        logits: bool = False,
        stem: str = "residual",
        growth: int = 0,
    ) -> None:
        super().__init__()
        if stem not in STEMS or growth < 0 or growth % 4:
            raise ValueError(f"stem must be one of {', '.join(STEMS)} and growth a multiple of 4: {stem}, {growth}")
        if width % 16 or stacks < 1 or depth < 1:
            raise ValueError(f"width must be a multiple of 16, stacks and depth at least 1: {width}, {stacks}, {depth}")
        self.num_points, self.logits = num_points, logits
        first, middle, side = width // 4, width // 2, 7 if stem == "residual" else 3
        self.stem: nn.Module = CoordConv(3, first, side, 2) if coord_conv else nn.Conv2d(3, first, side, 2, side // 2)
        self.bn = nn.BatchNorm2d(first)
        self.block1: nn.Module = MultiScaleBlock(first, middle)
        if stem == "strided":
            self.block1 = nn.Conv2d(first, middle, 3, 2, 1, bias=False)
        self.block2 = MultiScaleBlock(middle, middle)
        self.block3 = MultiScaleBlock(middle, width)
        masked = coord_conv and boundary
        self.stacks = nn.ModuleList(
            Stack(width, num_points + 1, depth, coord_conv, masked and i > 0, i == stacks - 1, growth)
            for i in range(stacks)
        )
        if logits:
            for stack in self.stacks:
                assert isinstance(stack, Stack)
                nn.init.constant_(stack.head.get_parameter("bias"), FOCAL_PRIOR)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return each stack's maps (B, L + 1, S / 4, S / 4) of RGB crops (B, 3, S, S), uint8 or float in [0, 1]."""
        x = image.float() / 255 if image.dtype == torch.uint8 else image
        x = F.relu(self.bn(self.stem(x)))  # (B, 64, S/2, S/2) at full width, as below
        x = self.block1(x)
        x = F.avg_pool2d(x, 2) if x.shape[-1] * 2 == image.shape[-1] else x  # (B, 128, S/4, S/4)
        previous = self.block3(self.block2(x))  # (B, 256, S/4, S/4)
        boundary: Tensor | None = None
        outputs: list[Tensor] = []
        for stack in self.stacks:
            previous, maps = stack(previous, boundary)
            boundary = maps[:, -1].sigmoid() if self.logits else maps[:, -1]
            outputs.append(maps)
        return outputs
