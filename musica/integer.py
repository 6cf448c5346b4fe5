"""A trained hidden layer whose weights are kept as integers of 8 or 16 bits, each unit's row with a scale of its own.

At one face the layer takes as long as reading its weights from memory takes, so fewer bytes are less time. The sums are
of single precision all the same. Ours: neither the paper nor the released program has it.
Letters: A faces, I inputs, U units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import LabError
from musica.native import loops

MOST_FACES = 2  # for the loops, which read the weights anew for each face
TYPES = {8: torch.int8, 16: torch.int16}  # bits of a weight


def check_bits(bits: int) -> None:
    """Raise LabError unless weights of so many bits can be kept; 0 stands for floating point."""
    if bits and bits not in TYPES:
        raise LabError(f"hidden_bits must be 0 or one of {', '.join(map(str, TYPES))}, got {bits}")


class IntegerLinear(nn.Module):
    """As `torch.nn.Linear`, without training: answer = (weight @ x) * scale + bias.

    Args:
        inputs: I.
        units: U.
        bits: of a weight, 8 or 16.

    Attributes:
        weight: (U, I) integers, the largest of a row at the type's limit.
        scale: (U,) what a step of a row's integers is worth.
        bias: (U,).
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, inputs: int, units: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(units, inputs, dtype=TYPES[bits]))
        self.register_buffer("scale", torch.zeros(units))
        self.register_buffer("bias", torch.zeros(units))

    @torch.no_grad()
    def take(self, weight: Tensor, bias: Tensor) -> None:
        """Set from floating-point weights (U, I) and bias (U,), rounded to the nearest step."""
        limit = torch.iinfo(self.weight.dtype).max
        scale = weight.abs().amax(1).clamp_min(torch.finfo(weight.dtype).tiny) / limit
        self.weight.copy_((weight / scale[:, None]).round().clamp(-limit, limit))
        self.scale.copy_(scale)
        self.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the units' answers (A, U) to inputs (A, I)."""
        if len(x) <= MOST_FACES and x.dtype == torch.float32 and loops.usable(x):
            return loops.integer_linear(x, self.weight, self.scale, self.bias)
        return F.linear(x, self.weight.to(x.dtype) * self.scale[:, None], self.bias)
