"""The transformers inside the network: deformable convolution (two border rules) and a spatial transformer.

Offsets are in map cells; of the 2 * k * k channels, 2t is the shift down and 2t + 1 the shift right of tap t
(row by row).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BORDERS = ("mxnet", "torchvision")
SCALE_LIMIT, TURN_LIMIT, SHIFT_LIMIT = 0.4, 1.0, 0.3  # of the spatial transformer: log scale, radians, half sides


def tap_places(offset: Tensor, kernel: int, padding: int) -> tuple[Tensor, Tensor]:
    """Return the rows and columns (B, k * k, H', W'), in cells, that the taps of a stride-1 convolution sample."""
    rows = torch.arange(offset.shape[-2], device=offset.device, dtype=offset.dtype) - padding
    columns = torch.arange(offset.shape[-1], device=offset.device, dtype=offset.dtype) - padding
    tap = torch.arange(kernel, device=offset.device, dtype=offset.dtype)
    down, right = torch.meshgrid(tap, tap, indexing="ij")
    return offset[:, 0::2] + down.reshape(-1, 1, 1) + rows[:, None], offset[:, 1::2] + right.reshape(-1, 1, 1) + columns


def inside_mask(offset: Tensor, kernel: int, padding: int, height: int, width: int) -> Tensor:
    """Return (B, k * k, H', W') which taps of a stride-1 convolution sample inside [0, height) x [0, width)."""
    y, x = tap_places(offset, kernel, padding)
    return (y >= 0) & (y < height) & (x >= 0) & (x < width)


def deformable_by_sampling(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, border: str = "mxnet"
) -> Tensor:
    """Return what `deformable` does, by one sampling of all taps and a product: faster on CPUs, above all backwards.

    It keeps the k * k samples of every cell, which is why accelerators use the kernel of their own.
    """
    height, width, kernel = x.shape[-2], x.shape[-1], weight.shape[-1]
    rows, columns = tap_places(offset, kernel, padding)
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1).flatten(1, 2)
    outside = "zeros" if border == "torchvision" else "border"
    taps = F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode=outside, align_corners=False)
    taps = taps.unflatten(2, (kernel * kernel, -1))
    if border != "torchvision":
        taps = taps * inside_mask(offset, kernel, padding, height, width)[:, None].to(x.dtype)
    return F.conv2d(taps.flatten(1, 2), weight.reshape(len(weight), -1, 1, 1), bias)


def deformable(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, border: str = "mxnet"
) -> Tensor:
    """Return a deformable convolution of stride 1 and one offset group.

    Args:
        x: (B, C, H, W).
        offset: (B, 2 * k * k, H', W').
        weight: (O, C, k, k).
        bias: (O,) or None.
        padding: cells of zeros on each side.
        border: "mxnet": a sample outside [0, H) x [0, W) is 0, one between the last two lines repeats the last;
            "torchvision": samples blend with zeros over one cell on each side.
    """
    if x.device.type == "cpu" and offset.dtype in (torch.float32, torch.float64):
        return deformable_by_sampling(x, offset, weight, bias, padding, border)
    return deformable_by_kernel(x, offset, weight, bias, padding, border)


def deformable_by_kernel(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, border: str = "mxnet"
) -> Tensor:
    """Return what `deformable` does, by torchvision's kernel."""
    from torchvision.ops import deform_conv2d  # here, since the CPU's way does without that library

    if border == "torchvision":
        return deform_conv2d(x, offset, weight, bias, padding=(padding, padding))
    # The same kernel, written otherwise: one repeated line below and right gives the clamped blend, and the mask takes
    # away what lies outside. The enlarged input asks for one more row and column of offsets, which are cut off again.
    mask = inside_mask(offset, weight.shape[-1], padding, x.shape[-2], x.shape[-1]).to(x.dtype)
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    offset, mask = F.pad(offset, (0, 1, 0, 1)), F.pad(mask, (0, 1, 0, 1))
    return deform_conv2d(x, offset, weight, bias, padding=(padding, padding), mask=mask)[..., :-1, :-1]


class DeformableConv(nn.Module):
    """Deformable 3x3 convolution that learns its offsets from its input; they start at 0.

    Args:
        inputs, outputs: channels.
        bias: learn a bias.
        border: see `deformable`.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True, border: str = "mxnet") -> None:
        super().__init__()
        if border not in BORDERS:
            raise ValueError(f"border must be one of {', '.join(BORDERS)}, got {border}")
        self.border = border
        self.offset = nn.Conv2d(inputs, 18, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_normal_(self.weight)
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W) of features (B, inputs, H, W)."""
        return deformable(x, self.offset(x), self.weight, self.bias, 1, self.border)


class SpatialTransformer(nn.Module):
    """Turns, scales and shifts features to a frame that the network chooses, and back (the paper's STN comparison).

    A similarity in place of a general affine map, so that the way back always exists; it starts as the identity.
    """

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.localise = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * hidden, 4),
        )  # fmt: skip
        nn.init.zeros_(self.localise[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.localise[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the warped features (B, C, H, W) and the similarity (B, 4) that `back` needs.

        The similarity is log scale, turn in radians, shift right and down in half sides of the map.
        """
        limits = x.new_tensor([SCALE_LIMIT, TURN_LIMIT, SHIFT_LIMIT, SHIFT_LIMIT])
        values = torch.tanh(self.localise(x)) * limits
        return warp_similarity(x, values), values

    def back(self, x: Tensor, values: Tensor) -> Tensor:
        """Return features (B, C, H, W) of the chosen frame in the frame of the input."""
        return warp_similarity(x, values, inverse=True)


def similarity_grid(values: Tensor, inverse: bool = False) -> Tensor:
    """Return affine matrices (B, 2, 3) in half sides of a square map for similarities (B, 4)."""
    scale, turn, shift = values[:, 0].exp(), values[:, 1], values[:, 2:]
    if inverse:
        scale, turn = 1 / scale, -turn
    cos, sin = scale * turn.cos(), scale * turn.sin()
    linear = torch.stack([cos, -sin, sin, cos], 1).unflatten(1, (2, 2))
    if inverse:
        shift = -(linear @ shift[..., None])[..., 0]
    return torch.cat([linear, shift[..., None]], 2)


def warp_similarity(x: Tensor, values: Tensor, inverse: bool = False) -> Tensor:
    """Sample features (B, C, H, W) at the places that the similarity (B, 4) gives; zeros outside."""
    grid = F.affine_grid(similarity_grid(values, inverse).to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", align_corners=False)
