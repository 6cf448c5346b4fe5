"""Photometric changes and occluders, drawn and applied in batch on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import LabError, check_range, check_ranges
from common.types import FaceBatch

LAST_HUE = 179 / 30  # the largest hue of 8-bit pictures, in sixths of the circle
BLUR_RADIUS = 4  # taps each side; holds 99 % of a Gaussian of sigma 1.5


@dataclass(frozen=True)
class PhotometricAugment:
    """Changes colours, sharpness and content of a batch of uint8 crops; never their geometry.

    Attributes:
        brightness: largest additive change, as a share of the full range.
        contrast: largest relative change of contrast round the crop's mean.
        saturation: largest relative change of saturation.
        gamma: largest change of the exponent, in powers of two (0.5: from 0.71 to 1.41).
        gray: chance of a grey picture.
        blur: chance of a Gaussian blur.
        blur_sigma: its largest sigma, crop pixels.
        noise: chance of Gaussian noise.
        noise_sigma: its largest sigma, as a share of the full range.
        occlusion: chance of one rectangle of noise or of one colour.
        occlusion_side: its largest side, as a share of the crop's or the box's.
        hsv: largest relative change of hue, saturation and value, drawn apart; the hue does not wrap.
        occlusion_least: the occluder's smallest side, as occlusion_side.
        occlusion_in: what it is placed in: crop, or box (the data set's box of the face).
        occlusion_fill: mixed (noise or one colour) or color (always one colour).

    Raises:
        LabError: a value is out of its range.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: float = 1.5
    noise: float = 0.0
    noise_sigma: float = 0.03
    occlusion: float = 0.0
    occlusion_side: float = 0.3
    hsv: float = 0.0
    occlusion_least: float = 0.0
    occlusion_in: Literal["crop", "box"] = "crop"
    occlusion_fill: Literal["mixed", "color"] = "mixed"

    def __post_init__(self) -> None:
        share, strength = "[0, 1]", "[0, 10]"
        check_ranges("augment", self, gray=share, blur=share, noise=share, occlusion=share, brightness=share,
                     contrast=strength, saturation=strength, hsv=strength, gamma=strength, blur_sigma="(0, 10]",
                     noise_sigma=share, occlusion_side="[0, 10]")  # fmt: skip
        check_range("augment.occlusion_least", self.occlusion_least, f"[0, {self.occlusion_side}]")

    @torch.no_grad()
    def __call__(self, batch: FaceBatch, generator: torch.Generator | None = None) -> FaceBatch:
        """Return the batch with new images (B, 3, S, S) uint8; the other fields are shared with the old one."""
        image = batch.image.float().div_(255)
        with torch.autocast(image.device.type, enabled=False):  # a trainer's, of bf16-mixed, would round the picture
            for step in (self._color, self._blur, self._noise):
                image = step(image, generator)
            image = self._occlude(image, generator, batch.box)
        result = batch.to(batch.image.device)
        result.image = image.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
        return result

    def _draw(self, image: Tensor, generator: torch.Generator | None, low: float = -1.0, n: int = 1) -> Tensor:
        """Return (B, n, 1, 1) uniform numbers in [low, 1)."""
        device = generator.device if generator is not None else image.device
        values = torch.rand((image.shape[0], n, 1, 1), generator=generator, device=device).to(image.device)
        return low + (1 - low) * values

    def _color(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.gamma:
            image = image.clamp(min=1e-3) ** torch.exp2(self._draw(image, generator) * self.gamma)
        gain, offset, grayness = image.new_ones(1, 1, 1, 1), image.new_zeros(1, 1, 1, 1), image.new_zeros(1, 1, 1, 1)
        if self.contrast:
            gain = 1 + self._draw(image, generator) * self.contrast
            offset = image.mean(dim=(1, 2, 3), keepdim=True) * (1 - gain)
        if self.brightness:
            offset = offset + self._draw(image, generator) * self.brightness
        if self.hsv:
            image = change_hsv(image * gain + offset, 1 + self._draw(image, generator, n=3) * self.hsv)
            gain, offset = torch.ones_like(gain), torch.zeros_like(offset)
        if self.saturation:
            grayness = -self._draw(image, generator) * self.saturation
        if self.gray:
            grayness = torch.where(self._draw(image, generator, 0.0) < self.gray, 1.0, grayness)
        if not (self.contrast or self.brightness or self.saturation or self.gray):
            return image
        return mix_channels(image, gain, offset, grayness)

    def _blur(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.blur:
            return image
        chosen = self._draw(image, generator, 0.0)[:, 0, 0, 0] < self.blur
        sigma = self._draw(image, generator, 0.0)[:, 0, 0, 0].clamp(min=0.05) * self.blur_sigma
        rows = chosen.nonzero()[:, 0]
        if rows.numel() == 0:
            return image
        taps = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=image.device, dtype=image.dtype)
        kernel = torch.softmax(-(taps**2) / (2 * sigma[rows, None] ** 2), dim=1)  # (R, taps)
        size, picked = image.shape[-1], image[rows].flatten(0, 1)[None]  # (1, 3R, S, S)
        kernel = kernel.repeat_interleave(3, dim=0)[:, None]  # (3R, 1, taps)
        pad = (BLUR_RADIUS,) * 4
        padded = F.pad(picked, pad, mode="replicate")
        smooth = F.conv2d(padded, kernel[:, :, None, :], groups=kernel.shape[0])
        smooth = F.conv2d(smooth, kernel[:, :, :, None], groups=kernel.shape[0])
        image = image.clone()
        image[rows] = smooth[0].unflatten(0, (-1, 3))[..., :size, :size]
        return image

    def _noise(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.noise:
            return image
        chosen = self._draw(image, generator, 0.0) < self.noise
        sigma = self._draw(image, generator, 0.0) * self.noise_sigma
        rows = chosen.flatten().nonzero()[:, 0]
        if rows.numel() == 0:
            return image
        image = image.clone()
        image[rows] += sigma[rows] * self._grain(image[rows], generator, torch.randn)
        return image

    def _grain(self, image: Tensor, generator: torch.Generator | None, draw: Callable[..., Tensor]) -> Tensor:
        """Return a random number for each value of `image`; drawing them costs more than all the rest."""
        device = generator.device if generator is not None else image.device
        return draw(image.shape, generator=generator, device=device).to(image.device)

    def _place(self, image: Tensor, draws: Tensor, box: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return start and extent (B, 2, 1, 1) of the occluders, crop pixels, from draws (B, 4, 1, 1) in [0, 1)."""
        size = float(image.shape[-1])
        corner, side = image.new_zeros(len(image), 2), image.new_full((len(image), 2), size)
        if self.occlusion_in == "box":
            if box is None:
                raise LabError("augmentation: occlusion_in box needs batches with boxes")
            corner, side = box[:, :2], box[:, 2:] - box[:, :2]
        share = self.occlusion_least + (self.occlusion_side - self.occlusion_least) * draws[:, :2]
        extent = share * side[..., None, None]
        return corner[..., None, None] + draws[:, 2:] * (side[..., None, None] - extent), extent

    def _occlude(self, image: Tensor, generator: torch.Generator | None, box: Tensor | None) -> Tensor:
        if not self.occlusion:
            return image
        draws = self._draw(image, generator, 0.0, 9)
        rows = (draws[:, 0] < self.occlusion).flatten().nonzero()[:, 0]
        if rows.numel() == 0:
            return image
        draws, picked = draws[rows], image[rows]
        start, extent = self._place(picked, draws[:, 1:5], None if box is None else box[rows])
        axis = torch.arange(image.shape[-1], device=image.device)
        inside_x = (axis >= start[:, :1]) & (axis < start[:, :1] + extent[:, :1])  # (R, 1, 1, S)
        inside_y = ((axis >= start[:, 1:]) & (axis < start[:, 1:] + extent[:, 1:])).transpose(-1, -2)
        fill = draws[:, 5:8]
        if self.occlusion_fill == "mixed":
            fill = torch.where(draws[:, 8:9] < 0.5, self._grain(picked, generator, torch.rand), fill)
        image = image.clone()
        image[rows] = torch.where(inside_x & inside_y, fill, picked)
        return image


def mix_channels(image: Tensor, gain: Tensor, offset: Tensor, grayness: Tensor) -> Tensor:
    """Return gain * (image + grayness * (luma - image)) + offset in one pass; luma is the mean of the channels.

    Args:
        image: (B, 3, H, W); fastest with its channels last in memory.
        gain, offset, grayness: (B or 1, 1, 1, 1); a negative grayness makes colours stronger.
    """
    eye, mean = torch.eye(3, device=image.device), torch.full((3, 3), 1 / 3, device=image.device)
    matrix = (gain * (eye + grayness * (mean - eye)))[:, 0].expand(len(image), 3, 3)
    pixels = image.permute(0, 2, 3, 1).flatten(1, 2)
    mixed = torch.bmm(pixels, matrix.to(pixels)).add_(offset[:, 0])
    return mixed.unflatten(1, image.shape[-2:]).permute(0, 3, 1, 2)


def change_hsv(image: Tensor, factors: Tensor) -> Tensor:
    """Return RGB pictures (B, 3, H, W) in [0, 1] with hue, saturation and value times factors (B, 3, 1, 1), clipped.

    The hue ends just below the full circle, as 8-bit pictures have it, and does not wrap.
    """
    value, channel = image.max(dim=1, keepdim=True)
    chroma = value - image.min(dim=1, keepdim=True).values
    red, green, blue = image.split(1, dim=1)
    ahead = torch.where(channel == 0, green - blue, torch.where(channel == 1, blue - red, red - green))
    hue = (ahead / chroma.clamp(min=1e-6) + 2.0 * channel) % 6
    saturation = chroma / value.clamp(min=1e-6)
    hue = (hue * factors[:, :1]).clamp(max=LAST_HUE)
    saturation = (saturation * factors[:, 1:2]).clamp(max=1)
    value = (value * factors[:, 2:]).clamp(max=1)
    sector = (hue + image.new_tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    return value - value * saturation * torch.minimum(sector, 4 - sector).clamp(0, 1)
