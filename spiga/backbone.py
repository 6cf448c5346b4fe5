"""Backbone of SPIGA (sec. 3.1): stacked hourglasses with attention of points and edges, and a pose branch.

Maps have a cell for every 4 x 4 crop pixels. A point p, as a share of the crop's side, lies at p * M cells where cell
centres are whole numbers. Symbols: B batch, C width, E edges, L landmarks, M side of the maps, S side of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.schemes import Indices

RADIUS_CENTRE = 0.5  # of the third coordinate plane (official): neither the middle nor a corner of the picture
STEMS = ("residual", "strided")
CORE = 4  # side of the innermost maps, from which the pose is read


class ConvUnit(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, out, H / stride, W / stride)."""
        return F.relu_(self.bn(self.conv(x)))  # in place, here and below: what a normalisation gives is used once


class Residual(nn.Module):
    """Pre-activation bottleneck; the shortcut is a 1x1 convolution only where the channels change."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        half = out // 2
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, half, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(half), nn.Conv2d(half, out, 1, bias=False)
        self.skip: nn.Module = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, out, H, W)."""
        y = self.conv1(F.relu_(self.bn1(x)))
        y = self.conv2(F.relu_(self.bn2(y)))
        result: Tensor = self.conv3(F.relu_(self.bn3(y))) + self.skip(x)
        return result


class Hourglass(nn.Module):
    """Recursive hourglass that also returns its innermost maps, of width + depth * growth channels.

    Args:
        depth: times that the map is halved.
        width: channels in and out.
        growth: channels that each level has more than the one outside it (official: 0).
    """

    def __init__(self, depth: int, width: int, growth: int = 0) -> None:
        super().__init__()
        inside = width + growth
        self.up1, self.pool, self.low1 = Residual(width, width), ConvUnit(width, inside, 2, 2), Residual(inside, inside)
        self.inner: nn.Module = Hourglass(depth - 1, inside, growth) if depth > 1 else Residual(inside, inside)
        self.low3 = Residual(inside, inside)
        self.up2 = nn.ConvTranspose2d(inside, width, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, M, M) to the same shape and the innermost (B, C, M / 2^depth, M / 2^depth)."""
        low = self.inner(self.low1(self.pool(x)))
        low, core = low if isinstance(self.inner, Hourglass) else (low, low)
        up = F.relu_(self.bn(self.up2(self.low3(low))))
        return self.up1(x) + up, core


class Heads(nn.Module):
    """Maps of one stack: points, edges and the attended product of both with a free map."""

    def __init__(self, width: int, num_points: int, num_edges: int) -> None:
        super().__init__()
        self.points = nn.Conv2d(width, num_points, 1, bias=False)
        self.edges = nn.Conv2d(width, num_edges, 1, bias=False)
        self.features = nn.Conv2d(width, num_points, 1, bias=False)

    def forward(self, x: Tensor, membership: Tensor) -> StackMaps:
        """Return the maps of features (B, C, M, M); `membership` (L, E + 1) as in `Backbone`."""
        points, edges, raw = self.points(x).sigmoid(), self.edges(x).sigmoid(), self.features(x)
        near = F.conv2d(edges, membership[:, :-1, None, None].to(edges.dtype)) + membership[:, -1, None, None]
        near = near.clamp(max=1)
        return StackMaps(points, edges, raw, near, raw * points * near)


@dataclass
class StackMaps:
    """Maps of one stack: points P (B, L, M, M), edges (B, E, M, M), raw, nearness A and attended R = raw P A."""

    points: Tensor
    edges: Tensor
    raw: Tensor
    near: Tensor
    attended: Tensor


@dataclass
class Features:
    """What the backbone returns; lists run over the stacks, empty or shorter where a part was not asked for."""

    maps: list[Tensor] = field(default_factory=list)  # (B, C, M, M)
    cores: list[Tensor] = field(default_factory=list)  # (B, C)
    heads: list[StackMaps] = field(default_factory=list)


def _stem(kind: str, width: int) -> nn.Sequential:
    """Return the layers from the crop and its coordinates, 6 channels, to maps of a quarter of its side."""
    quarter, half = width // 4, width // 2
    if kind == "strided":
        return nn.Sequential(ConvUnit(6, quarter, 3, 2), ConvUnit(quarter, half, 3, 2), Residual(half, half),
                             Residual(half, width))  # fmt: skip
    return nn.Sequential(ConvUnit(6, quarter, 7, 2), Residual(quarter, half), ConvUnit(half, half, 2, 2),
                         Residual(half, half), Residual(half, width))  # fmt: skip


class Backbone(nn.Module):
    """Stacked hourglasses.

    Args:
        num_points: landmarks L.
        edges: points of each of the E edges.
        always: points whose nearness is 1 everywhere, since they lie on no edge.
        stacks: hourglasses.
        width: channels C of the maps.
        depth: levels of each hourglass.
        last_head: give the last stack maps of its own, which only training reads.
        stem: residual, as published, or strided: two strided 3x3 convolutions, at the maps' side in a fraction of the
            time.
        growth: of the hourglasses.
    """

    membership: Tensor

    def __init__(
        self, num_points: int, edges: tuple[Indices, ...], always: Indices, stacks: int, width: int, depth: int,
        last_head: bool, stem: str = "residual", growth: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = _stem(stem, width)
        self.hourglasses = nn.ModuleList(Hourglass(depth, width, growth) for _ in range(stacks))
        self.tops = nn.ModuleList(nn.Sequential(Residual(width, width), ConvUnit(width, width)) for _ in range(stacks))
        inner = width + depth * growth
        self.cores = nn.ModuleList(
            nn.Sequential(Residual(inner, inner), ConvUnit(inner, inner, 2, 2), Residual(inner, inner),
                          ConvUnit(inner, width, 2, 2)) for _ in range(stacks)
        )  # fmt: skip
        heads = stacks if last_head else stacks - 1
        self.heads = nn.ModuleList(Heads(width, num_points, len(edges)) for _ in range(heads))
        self.merge_maps = nn.ModuleList(nn.Conv2d(num_points, width, 1, bias=False) for _ in range(stacks - 1))
        self.merge_features = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(stacks - 1))
        table = torch.zeros(num_points, len(edges) + 1)
        for column, members in enumerate((*edges, always)):
            table[list(members), column] = 1
        self.register_buffer("membership", table, persistent=False)

    @staticmethod
    def with_coordinates(image: Tensor) -> Tensor:
        """Return the picture (B, 3, S, S) with planes of row, column and radius, (B, 6, S, S)."""
        size = image.shape[-1]
        line = torch.arange(size, dtype=torch.float32, device=image.device) / (size - 1) * 2 - 1
        rows, columns = line[:, None].expand(size, size), line.expand(size, size)
        radius = ((rows - RADIUS_CENTRE) ** 2 + (columns - RADIUS_CENTRE) ** 2).sqrt()
        planes = torch.stack([rows, columns, radius]).to(image.dtype)
        return torch.cat([image, planes.expand(image.shape[0], -1, -1, -1)], dim=1)

    def forward(self, image: Tensor, cores: str = "all", last_head: bool = True) -> Features:
        """Run the stacks on BGR pictures (B, 3, S, S) in [0, 1].

        Args:
            image: S = 4 M.
            cores: which stacks' pose features to compute: all, last or none.
            last_head: compute the last stack's maps if it has any.
        """
        x = self.stem(self.with_coordinates(image))
        found, count = Features(), len(self.hourglasses)
        for i, (hourglass, top, core) in enumerate(zip(self.hourglasses, self.tops, self.cores, strict=True)):
            y, inner = hourglass(x)
            y = top(y)
            found.maps.append(y)
            last = i == count - 1
            if cores == "all" or (cores == "last" and last):
                found.cores.append(core(inner).flatten(1))
            if i < len(self.heads) and (last_head or not last):
                found.heads.append(self.heads[i](y, self.membership))
            if not last:
                x = x + self.merge_maps[i](found.heads[i].attended) + self.merge_features[i](y)
        return found
