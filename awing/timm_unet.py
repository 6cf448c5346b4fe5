"""The same heatmaps from a common encoder: timm features, a U-Net decoder and one head instead of hourglasses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from awing.backbones import TimmEncoder, UNetDecoder
from awing.network import FOCAL_PRIOR


class TimmUNet(nn.Module):
    """Encoder and decoder with the contract of `AWingNet` and a single stage.

    Args:
        name: timm network, such as dla34, resnet50 or mobilenetv3_large_100.
        num_points: landmarks L; the maps have one more channel, the boundary, as the last.
        pretrained: start the encoder from its published weights.
        widths: channels of the decoder's steps, coarsest first.
        logits: the maps are logits (focal loss), so the head starts at a small chance.
        size: side of the crops; None where the network takes any.
    """

    def __init__(
        self,
        name: str,
        num_points: int,
        pretrained: bool = False,
        widths: Sequence[int] = (256, 128, 64),
        logits: bool = False,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.num_points, self.logits = num_points, logits
        self.encoder = TimmEncoder(name, pretrained, size)
        self.decoder = UNetDecoder(self.encoder.channels, widths)
        self.head = nn.Conv2d(self.decoder.out_channels, num_points + 1, 1)
        if logits and self.head.bias is not None:
            nn.init.constant_(self.head.bias, FOCAL_PRIOR)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return [maps (B, L + 1, S / 4, S / 4)] for RGB crops (B, 3, S, S), S a multiple of 32: as `AWingNet`."""
        x = image.float() / 255 if image.dtype == torch.uint8 else image
        maps: Tensor = self.head(self.decoder(self.encoder(x)))
        return [maps]
