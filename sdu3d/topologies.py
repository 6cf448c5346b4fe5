"""The two U-shaped topologies: the hourglass and the scale aggregation grid (SAT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdu3d.blocks import CAB, batch_norm, lateral, make_block

GATED_CELL = (2, 3)  # scale and column whose maps the second form of SAT multiplies by the means of (3, 3)


class Hourglass(nn.Module):
    """Symmetric encoder and decoder with a block on each skip (5.1).

    Args:
        kind: block, see `sdu3d.blocks.BLOCKS`.
        channels: in and out.
        depth: times that the map is halved.
        growth: channels that each level has more than the one outside it (official: 0), where blocks that cannot
            change the width become what `make_block` says.
    """

    def __init__(self, kind: str, channels: int, depth: int, growth: int = 0) -> None:
        super().__init__()
        inside, same = channels + growth, growth == 0
        self.up1_0 = make_block(kind, channels, channels)
        self.low1_0 = make_block(kind, channels, inside, same)
        self.inner = str(depth - 1) if depth > 1 else "low2_0"  # official numbers run downwards
        child = Hourglass(kind, inside, depth - 1, growth) if depth > 1 else None
        self.add_module(self.inner, child or make_block(kind, inside, inside))
        self.low3_0 = make_block(kind, inside, channels, same)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W); H and W are multiples of 2 ** depth."""
        low = self.low1_0(F.max_pool2d(x, 2))
        low = self.low3_0(self.get_submodule(self.inner)(low))
        return self.up1_0(x) + F.interpolate(low, scale_factor=2.0, mode="nearest")


class ScaleAggregation(nn.Module):
    """Triangular grid of scales and columns (5.2): every cell is the mean of a lateral and an enlarged neighbour.

    Column n is the encoder; cell (w, h) takes (w + 1, h + 1), of its own size, and (w, h + 1), of half of it. All
    blocks are CABs.

    Args:
        channels: in and out, a multiple of 8.
        depth: times that the map is halved; the grid has depth + 1 scales.
        gate: multiply cell (2, 3) by the channel means of cell (3, 3), the official `net_sat = 2`.
    """

    def __init__(self, channels: int, depth: int, gate: bool = False) -> None:
        super().__init__()
        self.columns, self.gate = depth + 1, gate
        for w in range(depth, 0, -1):
            for place in (1, 2):
                self.add_module(f"w{w}_h{self.columns}_{place}", CAB(channels))
        for w, h in self.cells():
            if self.depthwise(w, h):
                self.add_module(f"w{w}_h{h}_x", lateral(channels, channels, depthwise=True))
            if w == 1:
                self.add_module(f"w1_h{h}_4", CAB(channels))
            else:
                self.add_module(f"upsampling_w{w}_h{h}", nn.ConvTranspose2d(channels, channels, 2, 2, bias=False))
                self.add_module(f"w{w}_h{h}_y_bn", batch_norm(channels))

    def cells(self) -> list[tuple[int, int]]:
        """Return the decoder's cells (w, h) in the order in which they are computed."""
        return [(w, h) for h in range(self.columns - 1, 0, -1) for w in range(h, 0, -1)]

    @staticmethod
    def depthwise(w: int, h: int) -> bool:
        """Return whether the lateral into cell (w, h) is a depthwise convolution, or the identity."""
        return h % 2 == 1 and h != w

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W); H and W are multiples of 2 ** depth."""
        n = self.columns
        maps = {(n, n): x}
        for w in range(n - 1, 0, -1):
            first, second = (self.get_submodule(f"w{w}_h{n}_{place}") for place in (1, 2))
            maps[w, n] = second(F.max_pool2d(first(maps[w + 1, n]), 2))
        for w, h in self.cells():
            side = maps[w + 1, h + 1]
            if self.depthwise(w, h):
                side = self.get_submodule(f"w{w}_h{h}_x")(side)
            below = maps[w, h + 1]
            if w == 1:
                up = self.get_submodule(f"w1_h{h}_4")(F.interpolate(below, scale_factor=2.0, mode="nearest"))
            else:
                up = self.get_submodule(f"upsampling_w{w}_h{h}")(below)
                up = F.relu(self.get_submodule(f"w{w}_h{h}_y_bn")(up))
            cell = (side + up) * 0.5
            if self.gate and (w, h) == GATED_CELL:
                cell = cell * maps[w + 1, h].mean((2, 3), keepdim=True)
            maps[w, h] = cell
        return maps[1, 1]


def init_he(module: nn.Module) -> None:
    """Start convolutions He-normal by fan-in (official), and transposed ones at twice that identity-like scale.

    The official code starts its 2x2 transposed convolutions by a rule for enlargement that makes every output channel
    the same sum; they are He-normal here instead.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight)
        elif isinstance(child, nn.ConvTranspose2d):
            with torch.no_grad():  # stride equals the kernel: each output sees one tap of each input channel
                child.weight.normal_(0.0, (2.0 / child.in_channels) ** 0.5)
        if isinstance(child, (nn.Conv2d, nn.ConvTranspose2d)) and child.bias is not None:
            nn.init.zeros_(child.bias)
