"""The network for inference: BatchNorm folded into its neighbours, channels last, only what the landmarks need."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from spiga.backbone import ConvUnit, Hourglass, Residual
from spiga.graph import PointMLP
from spiga.network import SpigaNet


class FoldedUnit(nn.Module):
    """Convolution with bias and ReLU."""

    def __init__(self, unit: ConvUnit) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(unit.conv, unit.bn)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, out, H / stride, W / stride)."""
        return F.relu_(self.conv(x))


class FoldedResidual(nn.Module):
    """Pre-activation bottleneck of which only the first BatchNorm is left: it follows no convolution."""

    def __init__(self, unit: Residual) -> None:
        super().__init__()
        self.bn1, self.conv3, self.skip = unit.bn1, unit.conv3, unit.skip
        self.conv1 = fuse_conv_bn_eval(unit.conv1, unit.bn2)
        self.conv2 = fuse_conv_bn_eval(unit.conv2, unit.bn3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, out, H, W)."""
        y = self.conv1(F.relu_(self.bn1(x)))
        y = self.conv3(F.relu_(self.conv2(F.relu_(y))))
        result: Tensor = y.add_(self.skip(x))
        return result


def _fold_children(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, ConvUnit):
            setattr(module, name, FoldedUnit(child))
        elif isinstance(child, Residual):
            setattr(module, name, FoldedResidual(child))
        else:
            _fold_children(child)
    if isinstance(module, Hourglass):
        module.up2 = fuse_conv_bn_eval(module.up2, module.bn, transpose=True)
        module.bn = nn.Identity()  # type: ignore[assignment]
    elif isinstance(module, PointMLP):
        for index, (layer, norm) in enumerate(zip(module.layers[:-1], module.norms, strict=True)):
            assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
            module.layers[index] = fuse_linear_bn_eval(layer, norm)
            module.norms[index] = nn.Identity()


def fold_network(net: SpigaNet) -> SpigaNet:
    """Return a copy for inference only, which gives the same answers up to rounding.

    Args:
        net: in evaluation mode; not changed.

    Raises:
        ValueError: the network is in training mode, where BatchNorm cannot be folded.
    """
    if net.training:
        raise ValueError("only a network in evaluation mode can be folded")
    with torch.no_grad():
        folded = copy.deepcopy(net)
        _fold_children(folded)
    folded.requires_grad_(False)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
