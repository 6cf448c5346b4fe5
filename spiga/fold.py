"""The network for inference: BatchNorm folded into its neighbours, channels last, only what the landmarks need."""

from __future__ import annotations

import torch
from torch import nn

from common.export.folding import fold_batch_norms
from spiga.backbone import ConvUnit, Hourglass, Residual
from spiga.graph import PointMLP
from spiga.network import SpigaNet


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    match module:
        case ConvUnit():
            return [("conv", "bn")]
        case Residual():  # pre-activation: its first BatchNorm follows no convolution
            return [("conv1", "bn2"), ("conv2", "bn3")]
        case Hourglass():
            return [("up2", "bn")]
        case PointMLP():
            return [(f"layers.{k}", f"norms.{k}") for k in range(len(module.norms))]
    return []


def fold_network(net: SpigaNet) -> SpigaNet:
    """Return a copy for inference only, which gives the same results up to rounding.

    Args:
        net: in evaluation mode; not changed.

    Raises:
        LabError: the network is in training mode, where BatchNorm cannot be folded.
    """
    folded = fold_batch_norms(net, _pairs)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
