"""Moving average of the weights, with the released warm-up; evaluation uses the averaged weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedNet(nn.Module):
    """A network beside the one that is trained, whose weights follow it slowly.

    decay = min(`decay`, (1 + step) / (10 + step)), so that the first steps are not held back by the initial weights.

    Args:
        net: the network that is trained; copied.
        decay: largest decay (released: 0.9999).
    """

    steps: Tensor

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def started(self) -> bool:
        """Whether the average holds anything yet."""
        return bool(self.steps)

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move towards the network's weights; before the first update the average is what it was made from."""
        step = int(self.steps)
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        own: list[Tensor] = list(self.net.parameters())
        given: list[Tensor] = list(net.parameters())
        torch._foreach_lerp_(own, given, share)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)
        self.steps += 1
