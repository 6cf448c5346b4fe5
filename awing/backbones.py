"""Encoders from timm, and a U-Net decoder that brings their features back to stride 4."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import timm
import torch
import torch.nn.functional as F
from timm.models import FeatureInfo
from torch import Tensor, nn

from common.errors import LabError

STRIDES = (4, 8, 16, 32)


class TimmEncoder(nn.Module):
    """Features of a timm network at strides 4, 8, 16 and 32.

    Args:
        name: of the timm network, such as dla34, resnet50 or mobilenetv3_large_100.
        pretrained: start from its published weights, which timm downloads or finds in its cache.
        size: side of the pictures, which networks of windows are built for; None for that of their published weights.

    Attributes:
        channels: of the four features, finest first.

    Raises:
        LabError: the network is unknown, has no features at these strides, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, pretrained: bool = False, size: int | None = None) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise LabError(f"backbone {name}: timm has no such network; try dla34, resnet50 or mobilenetv3_large_100")
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        create = partial(timm.create_model, name, pretrained=pretrained, features_only=True)
        fixed = size is not None and config is not None and config.fixed_input_size
        try:
            self.body = create(img_size=size) if fixed else create()
        except Exception as error:  # timm, its hub client and the network each raise errors of their own
            if pretrained:
                raise LabError(
                    f"backbone {name}: its pretrained weights cannot be had ({type(error).__name__}: {error}); "
                    "go online once, or set pretrained to false"
                ) from error
            if isinstance(error, (RuntimeError, NotImplementedError, AttributeError)):
                raise LabError(f"backbone {name}: timm cannot give its features ({error}); choose another") from error
            raise
        info = self.body.feature_info
        assert isinstance(info, FeatureInfo)
        strides, channels = list(info.reduction()), list(info.channels())
        if any(strides.count(stride) != 1 for stride in STRIDES):
            raise LabError(f"backbone {name}: features at strides 4, 8, 16, 32 are needed, it has {strides}")
        self.picked = tuple(strides.index(stride) for stride in STRIDES)
        self.channels = tuple(channels[i] for i in self.picked)
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
        mean, std = (config.mean, config.std) if config is not None else ((0.5,) * 3, (0.5,) * 3)
        # Not stored with the weights: they follow from the name.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return four features (B, C, S / stride, S / stride), finest first, of RGB images (B, 3, S, S) in [0, 1]."""
        features = self.body((image - self.mean) / self.std)
        picked = [features[i] for i in self.picked]
        return [feature.permute(0, 3, 1, 2) for feature in picked] if self.channels_last else picked


class UpBlock(nn.Module):
    """One step of the decoder: coarse features twice as large, beside the finer ones, through two convolutions."""

    def __init__(self, coarse: int, fine: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(coarse + fine, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
        )  # fmt: skip

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (B, coarse, H, W) and (B, fine, 2 H, 2 W) to (B, out, 2 H, 2 W)."""
        larger = F.interpolate(coarse, scale_factor=2, mode="nearest")
        result: Tensor = self.layers(torch.cat([larger, fine], dim=1))
        return result


class UNetDecoder(nn.Module):
    """U-Net decoder.

    Args:
        channels: of the encoder's features, finest first, each half the size of the one before.
        widths: channels after each step, coarsest first; the last is the result's. One fewer than `channels`.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int] = (256, 128, 64)) -> None:
        super().__init__()
        if len(widths) != len(channels) - 1:
            raise ValueError(f"{len(channels)} features need {len(channels) - 1} widths, got {len(widths)}")
        self.out_channels = widths[-1]
        fine = list(channels)[-2::-1]
        coarse = [channels[-1], *widths[:-1]]
        self.steps = nn.ModuleList(UpBlock(c, f, w) for c, f, w in zip(coarse, fine, widths, strict=True))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to (B, widths[-1], H, W) of the finest one's size."""
        x = features[-1]
        for step, fine in zip(self.steps, list(features)[-2::-1], strict=True):
            x = step(x, fine)
        return x
