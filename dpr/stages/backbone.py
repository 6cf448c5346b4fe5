"""The small MobileNetV2 that both regression stages share.

`groups` networks of one shape run side by side as one network: every convolution is grouped, so that the parts of the
face share no weight and yet need one call. Shapes: B batch, G groups, C channels, S side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import LabError

EXPANSION = (1, 6, 6, 6, 6, 6, 6, 6)
CHANNELS = (8, 12, 16, 24, 32, 48, 64, 80)
REPEATS = (1, 2, 2, 3, 3, 3, 2, 1)
STRIDES = (1, 2, 2, 2, 2, 2, 2, 1)  # with the stem's 2, a total of 128
STEM, OUT = 8, 64
LINEAR_SD = 0.01


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the hidden width is `expansion` times the input's.

    Args:
        inputs: channels that come in, one group.
        outputs: channels that go out, one group.
        stride: of the depthwise filter.
        expansion: 1 leaves the first convolution out.
        groups: networks side by side.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, groups: int = 1) -> None:
        super().__init__()
        hidden = groups * inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(groups * inputs, hidden, 1, groups=groups, bias=False), nn.BatchNorm2d(hidden),
                       nn.ReLU(inplace=True)]  # fmt: skip
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, groups * outputs, 1, groups=groups, bias=False),
            nn.BatchNorm2d(groups * outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class SmallMobileNetV2(nn.Module):
    """Stem, 17 inverted residual blocks, one 1x1 convolution; ReLU (not ReLU6), no pooling.

    Args:
        groups: networks side by side.
        strides: of the first block of each of the eight rows; (1, 2, 2, 2, 2, 2, 2, 1) is the paper's.

    Shapes:
        image: (B, 3 G, S, S), normalised to [-1, 1]; channels of one group lie together.
        output: (B, 64 G, S / total, S / total).
    """

    def __init__(self, groups: int = 1, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        if len(strides) != len(CHANNELS) or not set(strides) <= {1, 2}:
            raise LabError(f"strides must be {len(CHANNELS)} numbers, each 1 or 2, got {list(strides)}")
        self.groups, self.total_stride = groups, 2 * math.prod(strides)
        self.stem = _conv_bn_relu(3, STEM, 3, 2, groups)
        blocks: list[nn.Module] = []
        inputs = STEM
        for expansion, outputs, repeats, stride in zip(EXPANSION, CHANNELS, REPEATS, strides, strict=True):
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, stride if repeat == 0 else 1, expansion, groups))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = _conv_bn_relu(inputs, OUT, 1, 1, groups)
        initialise(self)

    def features(self, size: int) -> int:
        """Return the length of one group's flattened output for crops of `size` pixels.

        Raises:
            LabError: the crop is smaller than the total stride, or no multiple of it.
        """
        if size < self.total_stride or size % self.total_stride:
            raise LabError(f"crops of {size} px do not fit a backbone of total stride {self.total_stride}")
        return OUT * (size // self.total_stride) ** 2

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.last(self.blocks(self.stem(image)))
        return y


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(groups * inputs, groups * outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(groups * outputs),
        nn.ReLU(inplace=True),
    )


class GroupedLinear(nn.Module):
    """G linear layers side by side.

    Shapes:
        x: (B, G, in); output: (B, G, out).
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, outputs, inputs) * LINEAR_SD)
        self.bias = nn.Parameter(torch.zeros(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bgi,goi->bgo", x, self.weight) + self.bias


def initialise(module: nn.Module) -> None:
    """Set the starting weights of the official code: sd sqrt(2 / (k k c_out)) for convolutions, 0.01 for linears.

    `c_out` is that of one network, so that grouped networks start as single ones do.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            depthwise = layer.groups == layer.in_channels
            outputs = layer.out_channels if layer.groups == 1 or depthwise else layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / (layer.kernel_size[0] ** 2 * outputs)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, LINEAR_SD)
            nn.init.zeros_(layer.bias)


def initialise_he(module: nn.Module, slope: float = 0.25) -> None:
    """Set starting weights that keep the size of activations, fan-in by fan-in [ours].

    With the official ones a signal shrinks about sixfold in each linear layer, and hundreds of steps pass before
    anything is learned. Layers whose weights are 0 (the last ones of the reinitialisation) are left alone.

    Args:
        module: its convolutions without BatchNorm after them and its linear layers are drawn anew.
        slope: of the PReLUs after them.
    """
    for layer in module.modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear, GroupedLinear)) or layer.bias is None:
            continue
        if bool((layer.weight == 0).all()):
            continue
        fan_in = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.weight.shape[-1]
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / ((1 + slope**2) * fan_in)))
