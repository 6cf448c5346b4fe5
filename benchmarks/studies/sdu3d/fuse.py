"""The network for inference: normalisations folded into the convolutions before them, the same maps in less time."""

from __future__ import annotations

from torch import nn

from common.export.folding import fold_batch_norms
from sdu3d.blocks import ConvUnit, ResnetBlock
from sdu3d.network import SduNet
from sdu3d.topologies import ScaleAggregation


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    match module:
        case SduNet():
            return [("conv0", "bn0")]
        case ConvUnit():
            return [("conv", "bn")]
        case ResnetBlock():
            return [("conv1", "bn2"), ("conv2", "bn3")]
        case ScaleAggregation():
            return [(f"upsampling_w{w}_h{h}", f"w{w}_h{h}_y_bn") for w, h in module.cells() if w > 1]
    return []


def fused(net: SduNet) -> SduNet:
    """Return a copy for inference whose normalisations are folded wherever they follow a convolution directly.

    HPM blocks keep theirs: they are before the convolutions, and what comes in between is used twice.

    Raises:
        LabError: the network is in training mode.
    """
    return fold_batch_norms(net, _pairs)
