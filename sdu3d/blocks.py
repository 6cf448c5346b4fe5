"""Building blocks: bottleneck, HPM, Inception and channel aggregation (CAB).

Sub-modules bear the names of the official parameters: a state key with "." read as "_" is the official name but for
the suffixes of batch normalisation (see `sdu3d.convert`). Maps are (B, C, H, W) throughout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdu3d.deform import DeformableConv

BLOCKS = ("resnet", "inception", "hpm", "cab")
BN_EPS = 2e-5


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with the official epsilon; the official momentum 0.9 is 0.1 here."""
    return nn.BatchNorm2d(channels, eps=BN_EPS)


class ConvUnit(nn.Module):
    """Convolution, batch normalisation, ReLU.

    Args:
        inputs, outputs: channels.
        kernel: side of the kernel, or height and width.
        padding: as nn.Conv2d.
        groups: as nn.Conv2d.
        relu: end with a ReLU.
        dilation: as nn.Conv2d.
        deform: border rule of a deformable 3x3 convolution with a bias, in place of the plain one; None for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        relu: bool = True,
        dilation: int = 1,
        deform: str | None = None,
    ) -> None:
        super().__init__()
        self.conv: nn.Module
        if deform is None:
            self.conv = nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, groups, bias=False)
        else:
            self.conv = DeformableConv(inputs, outputs, border=deform)
        self.bn = batch_norm(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W)."""
        x = self.bn(self.conv(x))
        return F.relu_(x) if self.relu else x  # in place, here and below: what a normalisation gives is used once


def lateral(inputs: int, outputs: int, depthwise: bool = False, dilation: int = 1) -> ConvUnit:
    """Return a 3x3 `ConvUnit` that keeps the map's size."""
    return ConvUnit(inputs, outputs, 3, dilation, groups=outputs if depthwise else 1, dilation=dilation)


def _conv(inputs: int, outputs: int, kernel: int, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)


class ResnetBlock(nn.Module):
    """Pre-activation bottleneck (4.1). Without `match` the shortcut is a 1x1 convolution of the activated input."""

    def __init__(self, inputs: int, outputs: int, match: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.bn1, self.bn2, self.bn3 = batch_norm(inputs), batch_norm(half), batch_norm(half)
        self.conv1 = _conv(inputs, half, 1)
        self.conv2 = _conv(half, half, 3, 1)
        self.conv3 = _conv(half, outputs, 1)
        self.sc = None if match else _conv(inputs, outputs, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W)."""
        a = self.act(self.bn1(x))
        y = self.conv2(self.act(self.bn2(self.conv1(a))))
        y = self.conv3(self.act(self.bn3(y)))
        return y + (x if self.sc is None else self.sc(a))


class HPMBlock(nn.Module):
    """Hierarchical, parallel, multi-scale block (4.2): three 3x3 convolutions in a row, their results side by side.

    Args:
        inputs, outputs: channels.
        match: add the input itself; else a 1x1 convolution of the activated input.
        dilation: of all three convolutions.
        deform: border rule that makes all three deformable, without biases.
    """

    def __init__(self, inputs: int, outputs: int, match: bool, dilation: int = 1, deform: str | None = None) -> None:
        super().__init__()
        half, quarter = outputs // 2, outputs // 4

        def conv(before: int, after: int) -> nn.Module:
            if deform is not None:
                return DeformableConv(before, after, bias=False, border=deform)
            return _conv(before, after, 3, dilation, dilation)

        self.bn1, self.bn2, self.bn3 = batch_norm(inputs), batch_norm(half), batch_norm(quarter)
        self.conv1, self.conv2, self.conv3 = conv(inputs, half), conv(half, quarter), conv(quarter, quarter)
        self.sc = None if match else _conv(inputs, outputs, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W)."""
        a = self.act(self.bn1(x))
        first = self.conv1(a)
        second = self.conv2(self.act(self.bn2(first)))
        third = self.conv3(self.act(self.bn3(second)))
        return torch.cat([first, second, third], 1) + (x if self.sc is None else self.sc(a))


class Inception35(nn.Module):
    """Inception-ResNet block with two 3x3 branches (4.3); post-activation, the branches see the plain input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, middle = channels // 4, int(channels * 0.375)
        self.conv = ConvUnit(channels, quarter)
        self.conv1_0 = ConvUnit(channels, quarter)
        self.conv1_1 = ConvUnit(quarter, quarter, 3, 1)
        self.conv2_0 = ConvUnit(channels, quarter)
        self.conv2_1 = ConvUnit(quarter, middle, 3, 1)
        self.conv2_2 = ConvUnit(middle, channels // 2, 3, 1)
        self.conv_out = ConvUnit(channels, channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        branches = [self.conv(x), self.conv1_1(self.conv1_0(x)), self.conv2_2(self.conv2_1(self.conv2_0(x)))]
        return F.relu(x + self.conv_out(torch.cat(branches, 1)))


class InceptionBlock(nn.Module):
    """`Inception35` under the official name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block35 = Inception35(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        y: Tensor = self.block35(x)
        return y


class _MeanWithCopies(torch.autograd.Function):
    """The mean below with a backward pass that adds the halves instead of summing a broadcast dimension.

    Autograd's own way takes a fifth of a training step on a CPU; the results are the same.
    """

    @staticmethod
    def forward(ctx: object, wide: Tensor, narrow: Tensor) -> Tensor:
        pairs = wide.unflatten(1, (2, narrow.shape[1]))
        return torch.lerp(pairs, narrow[:, None], 0.5).flatten(1, 2)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        half = gradients[0] * 0.5
        first, second = half.chunk(2, dim=1)
        return half, first + second


def mean_with_copies(wide: Tensor, narrow: Tensor) -> Tensor:
    """Return (wide + the narrow map twice over) / 2 for (B, 2C, H, W) and (B, C, H, W), without making the copies."""
    if torch.is_grad_enabled() and wide.requires_grad:
        mean: Tensor = _MeanWithCopies.apply(wide, narrow)  # type: ignore[no-untyped-call]
        return mean
    pairs = wide.unflatten(1, (2, narrow.shape[1]))
    return torch.lerp(pairs, narrow[:, None], 0.5).flatten(1, 2)


class CAB(nn.Module):
    """Channel aggregation block (4.4): a triangular grid over halved channel counts; all merges are means.

    Args:
        channels: in and out; a multiple of 8.
        dilation: of the first convolution.
    """

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        half, quarter, eighth = channels // 2, channels // 4, channels // 8
        self.w3_h4_1 = lateral(channels, half, dilation=dilation)
        self.w2_h4_1 = lateral(half, quarter)
        self.w1_h4_1 = lateral(quarter, eighth)
        self.w2_h3_2 = lateral(half, half, depthwise=True)
        self.w1_h3_2 = lateral(quarter, quarter, depthwise=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        e3 = self.w3_h4_1(x)
        e2 = self.w2_h4_1(e3)
        e1 = self.w1_h4_1(e2)
        a33 = mean_with_copies(x, e3)
        a23 = mean_with_copies(self.w2_h3_2(e3), e2)
        a13 = mean_with_copies(self.w1_h3_2(e2), e1)
        a22 = mean_with_copies(a33, a23)
        a12 = mean_with_copies(a23, a13)
        return mean_with_copies(a22, a12)


def make_block(kind: str, inputs: int, outputs: int, match: bool = True) -> nn.Module:
    """Return the block of a kind, or what the official code falls back to where the kind cannot change the width.

    Args:
        kind: one of BLOCKS.
        inputs, outputs: channels.
        match: the shortcut is the input itself. Inception without it is a bottleneck, CAB is an HPM block.

    Raises:
        ValueError: unknown kind.
    """
    match kind:
        case "resnet":
            return ResnetBlock(inputs, outputs, match)
        case "hpm":
            return HPMBlock(inputs, outputs, match)
        case "inception":
            return InceptionBlock(outputs) if match else ResnetBlock(inputs, outputs, match)
        case "cab":
            return CAB(outputs) if match else HPMBlock(inputs, outputs, match)
    raise ValueError(f"block must be one of {', '.join(BLOCKS)}, got {kind}")
