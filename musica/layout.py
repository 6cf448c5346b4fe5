"""How weights lie in memory: input by input, where the compiled loops read them once from one end to the other.

What a few patches bring to the hidden layer is then one piece of memory, and a convolution's weights for all channels
of its answer lie side by side. Shapes and values are the same as ever; only strides are others.
"""

from __future__ import annotations

from torch import Tensor, nn


def inputs_first(weight: Tensor) -> Tensor:
    """Return a view of weights (O, I) as (I, O), of (O, I, h, w) as (h, w, I, O)."""
    return weight.t() if weight.dim() == 2 else weight.permute(2, 3, 1, 0)


def lay_inputs_first(layer: nn.Linear | nn.Conv2d) -> None:
    """Move a layer's weights in memory so that `inputs_first` is one piece."""
    piece = inputs_first(layer.weight.detach()).contiguous()
    layer.weight = nn.Parameter(piece.t() if piece.dim() == 2 else piece.permute(3, 2, 0, 1))
