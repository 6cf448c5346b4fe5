"""The whole network: stem, stacks, heads.

Input: RGB crops, normalised inside the network. Output: one raw map per landmark and stack.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sdu3d.blocks import BLOCKS, ConvUnit, batch_norm, make_block
from sdu3d.deform import BORDERS, DeformableConv, SpatialTransformer
from sdu3d.topologies import Hourglass, ScaleAggregation, init_he

TOPOLOGIES = ("hourglass", "sat", "sat_gate")
# Where deformable convolutions stand: in the heads, between the stacks, or both (official net_dcn 2, 1, 3).
INSIDE = ("none", "dcn_join", "dcn_heads", "dcn", "stn")
STEMS = ("blocks", "strided")
PIXEL_MEAN, PIXEL_SCALE = 127.5, 0.0078125
FULL_WIDTH = 256
MIN_WIDTH = 32  # of the stem's first stages


class Maps(NamedTuple):
    """Output of the network: maps of each stack (B, L, S / 2, S / 2), and of the depth head or None."""

    heatmaps: list[Tensor]
    depth: Tensor | None


class SduNet(nn.Module):
    """Two (or more) U-shaped networks one after the other, with maps after each.

    Args:
        num_points: landmarks L.
        topology: hourglass, sat, or sat_gate.
        block: see `sdu3d.blocks.BLOCKS`; inside a SAT the blocks are CABs whatever it is.
        depth: times that each U halves its map.
        stacks: U-shaped networks.
        width: features (official: 256); a multiple of 32 keeps all halvings whole.
        stride: crop pixels a map cell, 2 (official) or 4.
        inside: none, dcn_join (deformable convolution between stacks), dcn_heads (deformable heads), dcn (both), or
            stn (spatial transformer round each stack).
        border: border rule of deformable convolutions, mxnet for official weights.
        depth_head: one more map per landmark, of depth (not in the official code).
        stem: blocks, as published, at twice the maps' side, or strided (with a stride of 4): two strided 3x3
            convolutions, which are at the maps' side at once.
        growth: channels that each level of an hourglass has more than the one outside it (official: 0).

    Raises:
        ValueError: a choice or a size is unknown.
    """

    def __init__(
        self,
        num_points: int = 68,
        topology: str = "hourglass",
        block: str = "cab",
        depth: int = 3,
        stacks: int = 2,
        width: int = FULL_WIDTH,
        stride: int = 2,
        inside: str = "none",
        border: str = "mxnet",
        depth_head: bool = False,
        stem: str = "blocks",
        growth: int = 0,
    ) -> None:
        super().__init__()
        _check(topology, block, inside, border, stride, width, depth, stacks)
        _check_stem(stem, stride, growth, topology)
        self.num_points, self.topology, self.depth, self.stacks = num_points, topology, depth, stacks
        self.heads_deform = border if inside in ("dcn_heads", "dcn") else None
        self.join = inside in ("dcn_join", "dcn")
        self.refine = self.join and topology == "hourglass"
        self.stride, self.border = stride, border
        self.strided, self.growth = stem == "strided", growth
        self._stem(block, width)
        for i in range(stacks):
            self._stack(i, block, width, inside == "stn")
        self.depth_maps = nn.Conv2d(width, num_points, 1) if depth_head else None
        init_he(self)
        for module in self.modules():  # offsets and transformers must start from nothing again
            if isinstance(module, DeformableConv):
                nn.init.zeros_(module.offset.weight)
        if self.depth_maps is not None:
            nn.init.zeros_(self.depth_maps.weight)  # a flat face to begin with

    def _stem(self, block: str, width: int) -> None:
        small, middle = max(width // 4, MIN_WIDTH), max(width // 2, MIN_WIDTH)
        kernel, stride = (3, 1) if self.stride == 2 else (7, 2)
        self.conv0 = nn.Conv2d(3, small, kernel, stride, kernel // 2, bias=False)
        self.bn0 = batch_norm(small)
        self.res0 = make_block(block, small, middle, match=small == middle)
        if self.strided:
            self.conv0 = nn.Conv2d(3, small, 3, 2, 1, bias=False)
            self.res0 = nn.Conv2d(small, middle, 3, 2, 1, bias=False)
        self.res1 = make_block(block, middle, middle)
        self.res2 = make_block(block, middle, width, match=False)

    def _stack(self, i: int, block: str, width: int, stn: bool) -> None:
        last, points = i == self.stacks - 1, self.num_points
        if self.topology == "hourglass":
            self.add_module(f"stack{i}_hg", Hourglass(block, width, self.depth, self.growth))
        else:
            self.add_module(f"sat{i}", ScaleAggregation(width, self.depth, self.topology == "sat_gate"))
        self.add_module(f"stack{i}_unit0", make_block(block, width, width))
        self.add_module(f"stack{i}_ll", ConvUnit(width, width, deform=self.heads_deform))
        head: nn.Module = (
            DeformableConv(width, points, border=self.border) if self.heads_deform else nn.Conv2d(width, points, 1)
        )
        self.add_module(self.head_name(i), head)
        if stn:
            self.add_module(f"stack{i}_stn", SpatialTransformer(width))
        if last and not self.refine:
            return
        self.add_module(f"stack{i}_ll2", nn.Conv2d(width, width, 1))
        self.add_module(f"stack{i}_out2", nn.Conv2d(points, width, 1))
        if self.join:
            out = points if self.refine else width
            self.add_module(f"stack{i}_out3", DeformableConv(width, out, border=self.border))
        if self.refine and not last:
            self.add_module(f"stack{i}_body", nn.Conv2d(points, width, 1))

    def head_name(self, i: int) -> str:
        """Return the official name of stack i's last layer; the last one has no number."""
        return "heatmap" if i == self.stacks - 1 else f"heatmap{i}"

    def stem(self, image: Tensor) -> Tensor:
        """Return features (B, width, S / 2, S / 2) of RGB crops (B, 3, S, S), uint8 or float in 0..255."""
        x = (image.to(self.conv0.weight.dtype) - PIXEL_MEAN) * PIXEL_SCALE
        x = self.res0(F.relu(self.bn0(self.conv0(x))))
        x = self.res1(x if self.strided else F.max_pool2d(x, 2))
        y: Tensor = self.res2(x)
        return y

    def forward(self, image: Tensor, released: bool = False) -> Maps:
        """Return the maps of RGB crops (B, 3, S, S), uint8 or float in 0..255.

        Args:
            image: crops.
            released: with deformable joins of hourglasses, return the last map before its refinement, as the
                official test does; by default it is the refined map, which is the one that is trained.
        """
        x = self.stem(image)
        maps: list[Tensor] = []
        features = x
        for i in range(self.stacks):
            x, features, heatmap = self._run_stack(i, x, released)
            maps.append(heatmap)
        return Maps(maps, None if self.depth_maps is None else self.depth_maps(features))

    def _run_stack(self, i: int, x: Tensor, released: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next stack's input, this stack's features and its maps."""
        name, last = f"stack{i}", i == self.stacks - 1
        part = self.get_submodule
        u = part(f"{name}_hg" if self.topology == "hourglass" else f"sat{i}")
        stn = getattr(self, f"{name}_stn", None)
        inner, pose = (x, None) if stn is None else stn(x)
        ll: Tensor = part(f"{name}_ll")(part(f"{name}_unit0")(u(inner)))
        if stn is not None:
            ll = stn.back(ll, pose)
        out: Tensor = part(self.head_name(i))(ll)
        if last and (not self.refine or released):
            return x, ll, out
        joined = x + part(f"{name}_ll2")(ll) + part(f"{name}_out2")(out)
        if not self.join:
            return joined, ll, out
        refined: Tensor = part(f"{name}_out3")(joined)
        if not self.refine:
            return refined, ll, out
        return (joined, ll, refined) if last else (part(f"{name}_body")(refined), ll, out)


def _check(
    topology: str, block: str, inside: str, border: str, stride: int, width: int, depth: int, stacks: int
) -> None:
    choices = {"topology": (topology, TOPOLOGIES), "block": (block, BLOCKS), "inside": (inside, INSIDE),
               "border": (border, BORDERS), "stride": (stride, (2, 4))}  # fmt: skip
    for name, (value, known) in choices.items():
        if value not in known:  # type: ignore[operator]
            raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value}")  # type: ignore[arg-type]
    if width % 8 or width < MIN_WIDTH or depth < 1 or stacks < 1:
        raise ValueError(f"width must be a multiple of 8 from {MIN_WIDTH} on, depth and stacks at least 1: "
                         f"{width}, {depth}, {stacks}")  # fmt: skip


def _check_stem(stem: str, stride: int, growth: int, topology: str) -> None:
    if stem not in STEMS or (stem == "strided" and stride != 4):
        raise ValueError(f"stem must be one of {', '.join(STEMS)}, strided with a stride of 4: {stem}, {stride}")
    if growth < 0 or growth % 8 or (growth and topology != "hourglass"):
        raise ValueError(f"growth must be a multiple of 8 and is for hourglasses: {growth}, {topology}")


def count_running(net: nn.Module) -> int:
    """Return the number of running statistics (without step counters)."""
    return sum(b.numel() for n, b in net.named_buffers() if not n.endswith("num_batches_tracked"))
