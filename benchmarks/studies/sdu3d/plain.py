"""The official graph, node by node and without any care for speed: what the package's networks are timed against.

It reads arrays by their official names and does what the official symbols say, in eager PyTorch: every copy is made,
every normalisation is a node of its own. Written apart from `sdu3d.network`, it also proves that one again. Networks
without deformable convolutions and binarisation only, as all published ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sdu3d.blocks import BN_EPS
from sdu3d.convert import Size, released_names
from sdu3d.network import PIXEL_MEAN, PIXEL_SCALE, SduNet


class PlainGraph:
    """The official symbols over a table of arrays.

    Args:
        arrays: official name without arg: and aux: -> value.
        size: the network that they belong to.

    Raises:
        ValueError: the network has deformable convolutions.
    """

    def __init__(self, arrays: Mapping[str, Tensor], size: Size) -> None:
        if size.inside != "none":
            raise ValueError("the plain graph has no transformers")
        self.arrays, self.size = arrays, size

    @classmethod
    def of(cls, net: SduNet, size: Size) -> PlainGraph:
        """Return the graph with a network's own arrays."""
        state = net.state_dict()
        return cls({name: state[key] for name, key in released_names(net).items()}, size)

    def conv(self, x: Tensor, name: str, pad: int = 0, stride: int = 1, groups: int = 1) -> Tensor:
        """Return the convolution `name`, with a bias where there is one."""
        return F.conv2d(x, self.arrays[f"{name}_weight"], self.arrays.get(f"{name}_bias"), stride, pad, 1, groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Return the normalisation `name`."""
        table, mean = self.arrays, self.arrays[f"{name}_moving_mean"]
        return F.batch_norm(
            x, mean, table[f"{name}_moving_var"], table[f"{name}_gamma"], table[f"{name}_beta"], eps=BN_EPS
        )

    def act(self, x: Tensor, name: str) -> Tensor:
        """Return ReLU of the normalisation `name`."""
        return F.relu(self.norm(x, name))

    def unit(self, x: Tensor, name: str, pad: int = 0, groups: int = 1) -> Tensor:
        """Return convolution, normalisation and ReLU."""
        return self.act(self.conv(x, f"{name}_conv", pad, 1, groups), f"{name}_bn")

    def block(self, x: Tensor, name: str, match: bool = True) -> Tensor:
        """Return the block `name` of the network's kind, or what stands in for it where the width changes."""
        match (self.size.block, match):
            case ("cab", True):
                return self.cab(x, name)
            case ("inception", True):
                return self.inception(x, f"{name}_block35")
            case ("hpm", _) | ("cab", _):
                return self.hpm(x, name, match)
        return self.resnet(x, name, match)

    def resnet(self, x: Tensor, name: str, match: bool) -> Tensor:
        """Return 4.1."""
        a = self.act(x, f"{name}_bn1")
        y = self.conv(a, f"{name}_conv1")
        y = self.conv(self.act(y, f"{name}_bn2"), f"{name}_conv2", 1)
        y = self.conv(self.act(y, f"{name}_bn3"), f"{name}_conv3")
        return y + (x if match else self.conv(a, f"{name}_sc"))

    def hpm(self, x: Tensor, name: str, match: bool) -> Tensor:
        """Return 4.2."""
        a = self.act(x, f"{name}_bn1")
        first = self.conv(a, f"{name}_conv1", 1)
        second = self.conv(self.act(first, f"{name}_bn2"), f"{name}_conv2", 1)
        third = self.conv(self.act(second, f"{name}_bn3"), f"{name}_conv3", 1)
        return torch.cat([first, second, third], 1) + (x if match else self.conv(a, f"{name}_sc"))

    def inception(self, x: Tensor, name: str) -> Tensor:
        """Return 4.3."""
        first = self.unit(x, f"{name}_conv")
        second = self.unit(self.unit(x, f"{name}_conv1_0"), f"{name}_conv1_1", 1)
        third = self.unit(self.unit(self.unit(x, f"{name}_conv2_0"), f"{name}_conv2_1", 1), f"{name}_conv2_2", 1)
        joined = torch.cat([first, second, third], 1)
        return F.relu(x + self.norm(self.conv(joined, f"{name}_conv_out_conv"), f"{name}_conv_out_bn"))

    def cab(self, x: Tensor, name: str) -> Tensor:
        """Return 4.4, by its rule for the whole grid."""
        cells = {(4, 4): x}
        for w in (3, 2, 1):
            cells[w, 4] = self.unit(cells[w + 1, 4], f"{name}_w{w}_h4_1", 1)
        for h in (3, 2, 1):
            for w in range(h, 0, -1):
                side, below = cells[w + 1, h + 1], cells[w, h + 1]
                if h % 2 == 1 and h != w:
                    side = self.unit(side, f"{name}_w{w}_h{h}_2", 1, side.shape[1])
                cells[w, h] = (side + torch.cat([below, below], 1)) / 2
        return cells[1, 1]

    def hourglass(self, x: Tensor, depth: int, name: str) -> Tensor:
        """Return 5.1."""
        up = self.block(x, f"{name}_up1_0")
        low = self.block(F.max_pool2d(x, 2), f"{name}_low1_0")
        low = self.hourglass(low, depth - 1, f"{name}_{depth - 1}") if depth > 1 else self.block(low, f"{name}_low2_0")
        low = self.block(low, f"{name}_low3_0")
        return up + F.interpolate(low, scale_factor=2.0, mode="nearest")

    def grid(self, x: Tensor, name: str) -> Tensor:
        """Return 5.2."""
        n = self.size.depth + 1
        cells = {(n, n): x}
        for w in range(n - 1, 0, -1):
            large = self.cab(cells[w + 1, n], f"{name}_w{w}_h{n}_1")
            cells[w, n] = self.cab(F.max_pool2d(large, 2), f"{name}_w{w}_h{n}_2")
        for h in range(n - 1, 0, -1):
            for w in range(h, 0, -1):
                side, below = cells[w + 1, h + 1], cells[w, h + 1]
                if h % 2 == 1 and h != w:
                    side = self.unit(side, f"{name}_w{w}_h{h}_x", 1, side.shape[1])
                if w == 1:
                    up = self.cab(F.interpolate(below, scale_factor=2.0, mode="nearest"), f"{name}_w1_h{h}_4")
                else:
                    up = F.conv_transpose2d(below, self.arrays[f"{name}_upsampling_w{w}_h{h}_weight"], stride=2)
                    up = self.act(up, f"{name}_w{w}_h{h}_y_bn")
                cells[w, h] = (side + up) / 2
                if self.size.topology == "sat_gate" and (w, h) == (2, 3):
                    cells[w, h] = cells[w, h] * cells[3, 3].mean((2, 3), keepdim=True)
        return cells[1, 1]

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Return the maps of each stack (B, L, S / 2, S / 2) of crops (B, 3, S, S), 0..255."""
        size = self.size
        x = (image.to(torch.float32) - PIXEL_MEAN) * PIXEL_SCALE
        wide = size.stride == 4
        x = self.act(self.conv(x, "conv0", 3 if wide else 1, 2 if wide else 1), "bn0")
        x = self.block(x, "res0", match="res0_sc_weight" not in self.arrays)
        x = self.block(F.max_pool2d(x, 2), "res1")
        x = self.block(x, "res2", match=False)
        maps = []
        for i in range(size.stacks):
            last = i == size.stacks - 1
            name = f"stack{i}"
            u = self.hourglass(x, size.depth, f"{name}_hg") if size.topology == "hourglass" else self.grid(x, f"sat{i}")
            ll = self.unit(self.block(u, f"{name}_unit0"), f"{name}_ll")
            maps.append(self.conv(ll, "heatmap" if last else f"heatmap{i}"))
            if not last:
                x = x + self.conv(ll, f"{name}_ll2") + self.conv(maps[-1], f"{name}_out2")
        return maps
