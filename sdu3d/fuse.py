"""Normalisations folded into the convolutions before them, for inference: the same maps in less time.

python -m sdu3d.fuse sdu3d/hg2d3-cab.yaml      compares the time of both forms, batch 1, one thread
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from common.errors import LabError
from sdu3d.blocks import ConvUnit, ResnetBlock
from sdu3d.deform import DeformableConv
from sdu3d.network import SduNet
from sdu3d.topologies import ScaleAggregation

ROUNDS = 15


def _fold(owner: nn.Module, conv: str, norm: str) -> None:
    """Replace a convolution by its product with a normalisation, and the normalisation by nothing."""
    first, second = getattr(owner, conv), getattr(owner, norm)
    assert isinstance(second, nn.BatchNorm2d)
    if type(first) is nn.Conv2d:
        setattr(owner, conv, fuse_conv_bn_eval(first, second))
    elif isinstance(first, (nn.ConvTranspose2d, DeformableConv)):
        transposed = isinstance(first, nn.ConvTranspose2d)
        assert second.running_mean is not None and second.running_var is not None
        first.weight, first.bias = fuse_conv_bn_weights(
            first.weight, first.bias, second.running_mean, second.running_var, second.eps, second.weight, second.bias,
            transpose=transposed,
        )  # fmt: skip
    else:
        return
    setattr(owner, norm, nn.Identity())


@torch.no_grad()
def fused(net: SduNet) -> SduNet:
    """Return a copy for inference whose normalisations are folded wherever they follow a convolution directly.

    HPM blocks keep theirs: they stand before the convolutions, and what comes in between is used twice.

    Raises:
        LabError: the network is in training mode, where its normalisations follow the batch.
    """
    if net.training:
        raise LabError("only a network in evaluation mode can be fused: call eval() first")
    net = copy.deepcopy(net)
    _fold(net, "conv0", "bn0")
    for module in net.modules():
        if isinstance(module, ConvUnit):
            _fold(module, "conv", "bn")
        elif isinstance(module, ResnetBlock):
            _fold(module, "conv1", "bn2")
            _fold(module, "conv2", "bn3")
        elif isinstance(module, ScaleAggregation):
            for w, h in module.cells():
                if w > 1:
                    _fold(module, f"upsampling_w{w}_h{h}", f"w{w}_h{h}_y_bn")
    return net


@torch.inference_mode()
def milliseconds(net: SduNet, image: torch.Tensor, rounds: int = ROUNDS) -> float:
    """Return the median time of one pass in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        net(image)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print both times; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sdu3d.fuse", description="Time plain and folded networks.")
    parser.add_argument("recipe", type=Path, help="YAML file of a recipe")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    if not options.recipe.is_file():
        print(f"error: {options.recipe}: no such recipe", file=sys.stderr)
        return 2
    content = yaml.safe_load(options.recipe.read_text(encoding="utf-8"))
    names = ("topology", "block", "depth", "stacks", "width", "stride", "inside", "border")
    net = SduNet(68, **{name: content["model"][name] for name in names if name in content["model"]}).eval()
    torch.set_num_threads(1)
    size = content["data"]["crop"]["size"]
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    plain, folded = net, fused(net)
    times = [milliseconds(which, image, options.rounds) for which in (plain, folded)]
    print(f"{options.recipe.stem}: plain {times[0]:.0f} ms, folded {times[1]:.0f} ms, batch 1, one thread")
    return 0


if __name__ == "__main__":
    sys.exit(main())
