"""Parts of the official SDU training and of its unused blocks, for recorded figures that contain them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdu3d.blocks import ConvUnit
from sdu3d.loss import coherent_loss


class BiasedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose running variance follows the biased batch variance, as MXNet's on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised maps; in training the running figures are updated."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        with torch.no_grad():
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance, self.momentum or 0.0)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """Replace every nn.BatchNorm2d inside `module` by this class, weights kept; return the module."""
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                other = cls(child.num_features, child.eps, child.momentum)
                other.load_state_dict(child.state_dict())
                setattr(module, name, other.train(child.training))
            else:
                cls.convert(child)
        return module


class Inception17(nn.Module):
    """Inception-ResNet block with a 1x7 and 7x1 branch, which no official network uses.

    The official paddings (1, 2) and (2, 1) are kept: they add up to the map's own size only together.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvUnit(channels, 192)
        self.conv1_0 = ConvUnit(channels, 129)
        self.conv1_1 = ConvUnit(129, 160, (1, 7), (1, 2))
        self.conv1_2 = ConvUnit(160, 192, (7, 1), (2, 1))
        self.conv_out = ConvUnit(384, channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        branches = torch.cat([self.conv(x), self.conv1_2(self.conv1_1(self.conv1_0(x)))], 1)
        return F.relu(x + self.conv_out(branches))


def halves_coherent_loss(maps: Tensor, mirror: tuple[int, ...]) -> Tensor:
    """Return the official coherent loss: the batch's second half are the mirrored pictures of the first."""
    first, second = maps.chunk(2)
    return coherent_loss(mirror_maps(first, mirror), second)


def mirror_maps(maps: Tensor, mirror: tuple[int, ...]) -> Tensor:
    """Return maps of the mirrored picture: columns reversed, channels of left and right exchanged."""
    return maps.flip(-1)[:, list(mirror)]
