"""The hidden layer, whose weights are stored input by input.

What a few patches bring to the layer is then one piece of memory, which `musica.native.cascade` reads once from one
end to the other. In files the weights have the shape that every linear layer's have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEW_FACES = 8  # for which a product in pieces is faster: libraries share one row's product badly among threads
PIECES = 16


class HiddenLinear(nn.Module):
    """As `torch.nn.Linear`: returns (A, U) for inputs (A, I).

    Args:
        inputs: I.
        units: U.
        bias: whether there is one.

    Attributes:
        kernel: (I, U), under the name `weight` and as (U, I) in a state dict.
        bias: (U,) or None.
    """

    def __init__(self, inputs: int, units: int, bias: bool = True) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(inputs, units))
        self.bias = nn.Parameter(torch.zeros(units)) if bias else None
        self.register_state_dict_post_hook(_to_file)
        self.register_load_state_dict_pre_hook(_from_file)

    @property
    def weight(self) -> Tensor:
        """The weights (U, I), a view."""
        return self.kernel.t()

    def forward(self, x: Tensor) -> Tensor:
        """Return (A, U)."""
        faces, inputs = x.shape
        if faces > FEW_FACES or inputs % PIECES:
            return x @ self.kernel if self.bias is None else torch.addmm(self.bias, x, self.kernel)
        pieces = x.view(faces, PIECES, -1).transpose(0, 1), self.kernel.view(PIECES, inputs // PIECES, -1)
        product = torch.bmm(*pieces).sum(0)
        return product if self.bias is None else product + self.bias


def _to_file(module: nn.Module, state: dict[str, Any], prefix: str, local: dict[str, Any]) -> None:
    state[f"{prefix}weight"] = state.pop(f"{prefix}kernel").t()


def _from_file(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if f"{prefix}weight" in state:
        state[f"{prefix}kernel"] = state.pop(f"{prefix}weight").t()
