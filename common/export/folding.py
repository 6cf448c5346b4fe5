"""Networks made ready for inference: batch normalisations folded into the layers before them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from common.errors import LabError

Net = TypeVar("Net", bound=nn.Module)


@torch.no_grad()
def fold_batch_norms(net: Net, pairs: Callable[[nn.Module], Iterable[tuple[str, str]]]) -> Net:
    """Return a copy for inference only, with the same results up to rounding; its parameters take no gradient.

    Args:
        net: in evaluation mode; not changed.
        pairs: for each module inside `net`, the names in it of a layer (a convolution, also transposed, or a linear
            layer; anything with such a weight and bias) and of the normalisation that alone reads its output.

    Raises:
        LabError: the network is in training mode, where its normalisations follow the batch.
    """
    if net.training:
        raise LabError("only a network in evaluation mode can be folded: call eval() first")
    net = copy.deepcopy(net)
    for owner in list(net.modules()):
        for layer_name, norm_name in pairs(owner):
            layer = owner.get_submodule(layer_name)
            norm = owner.get_submodule(norm_name)
            assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
            assert norm.running_mean is not None and norm.running_var is not None
            weight, bias = layer.weight, layer.bias
            assert isinstance(weight, Tensor) and isinstance(bias, Tensor | None)
            layer.weight, layer.bias = fuse_conv_bn_weights(
                weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
                transpose=isinstance(layer, nn.ConvTranspose2d),
            )  # fmt: skip
            owner.set_submodule(norm_name, nn.Identity())
    return net.requires_grad_(False)
