"""Binarised convolutions with a straight-through gradient (specification, section 15). An option without parity.

The operator mimics a popcount of equal bits: signs of weights and inputs (the sign of 0 is +1, and so is the padding),
then (K + dot) / 2 with K products, which lies in 0..K.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Sign(torch.autograd.Function):
    """Sign with the gradient of the identity where |x| <= 1."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0] * (x.abs() <= 1)


class _Clip(torch.autograd.Function):
    """Identity whose gradient passes only where |x| <= 1; it stands where a real network has its ReLU."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0] * (x.abs() <= 1)


def sign(x: Tensor) -> Tensor:
    """Return +1 where x >= 0, else -1; the gradient is 1 where |x| <= 1, else 0."""
    return _Sign.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class BinaryActivation(nn.Module):
    """Identity forward; the gradient passes only where |x| <= 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        return _Clip.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class BinaryConv2d(nn.Conv2d):
    """Convolution of signs, answered as the number of equal bits (0..K), without a bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H', W') counts of features (B, inputs, H, W)."""
        pad = int(self.padding[0])
        bits = F.pad(sign(x), (pad,) * 4, value=1.0)  # padded zeros have the sign +1
        products = self.weight[0].numel()
        return (F.conv2d(bits, sign(self.weight)) + products) / 2
