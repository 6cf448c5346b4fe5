"""Blocks that several networks are built of. Symbols: B batch, C channels, H W map size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def coordinate_maps(height: int, width: int, like: Tensor) -> Tensor:
    """Return (3, H, W): vertical and horizontal coordinate in [-1, 1], ends included, and the radius, 1 in the corners.

    The vertical one comes first, which matters for converted weights.
    """
    vertical = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)[:, None].expand(height, width)
    horizontal = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)[None, :].expand(height, width)
    radius = (vertical**2 + horizontal**2).sqrt()
    return torch.stack([vertical, horizontal, radius / radius.max()])


class CoordConv(nn.Module):
    """Convolution over the features, the coordinates and, on demand, the coordinates inside a boundary.

    Args:
        channels: of the features.
        out: of the result.
        kernel: side of the kernel.
        stride: of the convolution.
        boundary: whether `forward` gets a boundary map, whose inside adds two coordinate channels.
        threshold: a cell is on the boundary where the map is above it.
    """

    def __init__(
        self, channels: int, out: int, kernel: int = 1, stride: int = 1, boundary: bool = False, threshold: float = 0.05
    ) -> None:
        super().__init__()
        self.boundary, self.threshold = boundary, threshold
        self.conv = nn.Conv2d(channels + (5 if boundary else 3), out, kernel, stride, kernel // 2)

    def coordinates(self, x: Tensor, boundary: Tensor | None) -> Tensor:
        """Return the (B, 3 or 5, H, W) channels that are appended to features (B, C, H, W)."""
        maps = coordinate_maps(x.shape[-2], x.shape[-1], x)
        batch = maps.expand(x.shape[0], -1, -1, -1)
        if not self.boundary:
            return batch
        if boundary is None:
            raise ValueError("this layer was made for a boundary map (B, H, W), but got none")
        # A hard mask of constants: no gradient goes back to the map that drew the boundary.
        inside = (boundary.detach().clamp(0, 1) > self.threshold)[:, None].to(x.dtype)
        return torch.cat([batch, batch[:, :2] * inside], dim=1)

    def forward(self, x: Tensor, boundary: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W), with a boundary (B, H, W) if made for one, to (B, out, H / stride, W / stride)."""
        result: Tensor = self.conv(torch.cat([x, self.coordinates(x, boundary)], dim=1))
        return result


class MultiScaleBlock(nn.Module):
    """Residual block of three 3x3 convolutions whose outputs lie side by side (Bulat and Tzimiropoulos, ICCV 2017).

    The three branches give a half, a quarter and a quarter of `out`; BatchNorm and ReLU come before each convolution.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        if out % 4:
            raise ValueError(f"the output channels must be a multiple of 4, got {out}")
        half, quarter = out // 2, out // 4
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, half, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(quarter), nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if channels != out:
            self.shortcut = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W); no activation after the sum."""
        a = self.conv1(F.relu(self.bn1(x)))
        b = self.conv2(F.relu(self.bn2(a)))
        c = self.conv3(F.relu(self.bn3(b)))
        result: Tensor = torch.cat([a, b, c], dim=1) + self.shortcut(x)
        return result


class Hourglass(nn.Module):
    """Recursive hourglass: average pooling down, nearest neighbour up, one block on every path.

    Args:
        depth: levels; the innermost map is 2 ** depth smaller.
        channels: of the outermost level.
        growth: channels that each level has more than the one outside it (official: 0). Small maps are cheap, and
            what must be known of the whole face is decided there.
    """

    def __init__(self, depth: int, channels: int, growth: int = 0) -> None:
        super().__init__()
        inner = channels + growth
        self.skip = MultiScaleBlock(channels, channels)
        self.down = MultiScaleBlock(channels, inner)
        self.inner: nn.Module = Hourglass(depth - 1, inner, growth) if depth > 1 else MultiScaleBlock(inner, inner)
        self.up = MultiScaleBlock(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        low = self.up(self.inner(self.down(F.avg_pool2d(x, 2))))
        result: Tensor = self.skip(x) + F.interpolate(low, scale_factor=2, mode="nearest")
        return result
