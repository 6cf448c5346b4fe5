"""Photometric changes and occluders, drawn and applied in batch on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import LabError
from common.types import FaceBatch

BLUR_RADIUS = 4  # taps each side; holds 99 % of a Gaussian of sigma 1.5


class PhotometricAugment(nn.Module):
    """Changes colours, sharpness and content of a batch of uint8 crops; never their geometry.

    Args:
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
        occlusion_side: its largest side, as a share of the crop's.

    Raises:
        LabError: a chance is outside [0, 1], or a strength is negative.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        gamma: float = 0.0,
        gray: float = 0.0,
        blur: float = 0.0,
        blur_sigma: float = 1.5,
        noise: float = 0.0,
        noise_sigma: float = 0.03,
        occlusion: float = 0.0,
        occlusion_side: float = 0.3,
    ) -> None:
        super().__init__()
        for name, chance in {"gray": gray, "blur": blur, "noise": noise, "occlusion": occlusion}.items():
            if not 0 <= chance <= 1:
                raise LabError(f"augmentation: {name} is a chance and must be in [0, 1], got {chance}")
        for name, strength in {"brightness": brightness, "contrast": contrast, "saturation": saturation}.items():
            if strength < 0:
                raise LabError(f"augmentation: {name} must not be negative, got {strength}")
        self.brightness, self.contrast, self.saturation, self.gamma = brightness, contrast, saturation, gamma
        self.gray, self.blur, self.blur_sigma = gray, blur, blur_sigma
        self.noise, self.noise_sigma = noise, noise_sigma
        self.occlusion, self.occlusion_side = occlusion, occlusion_side

    @torch.no_grad()
    def forward(self, batch: FaceBatch, generator: torch.Generator | None = None) -> FaceBatch:
        """Return the batch with new images (B, 3, S, S) uint8; the other fields are shared with the old one."""
        image = batch.image.float().div_(255)
        for step in (self._color, self._blur, self._noise, self._occlude):
            image = step(image, generator)
        result = batch.to(batch.image.device)
        result.image = image.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
        return result

    def _draw(self, image: Tensor, generator: torch.Generator | None, low: float = -1.0, n: int = 1) -> Tensor:
        """Return (B, n, 1, 1) uniform numbers in [low, 1)."""
        device = generator.device if generator is not None else image.device
        values = torch.rand((image.shape[0], n, 1, 1), generator=generator, device=device).to(image.device)
        return low + (1 - low) * values

    def _color(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        def draw() -> Tensor:
            return self._draw(image, generator)

        if self.gamma:
            image = image.clamp(min=1e-3) ** torch.exp2(draw() * self.gamma)
        if self.contrast:
            mean = image.mean(dim=(1, 2, 3), keepdim=True)
            image = mean + (image - mean) * (1 + draw() * self.contrast)
        if self.brightness:
            image = image + draw() * self.brightness
        luma = image.mean(dim=1, keepdim=True)
        if self.saturation:
            image = luma + (image - luma) * (1 + draw() * self.saturation)
        if self.gray:
            image = torch.where(self._draw(image, generator, 0.0) < self.gray, luma, image)
        return image

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
        device = generator.device if generator is not None else image.device
        grain = torch.randn(image.shape, generator=generator, device=device).to(image.device)
        return image + chosen * sigma * grain

    def _occlude(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.occlusion:
            return image
        size = image.shape[-1]
        draws = self._draw(image, generator, 0.0, 9)
        chosen, extent = draws[:, :1] < self.occlusion, draws[:, 1:3] * self.occlusion_side * size
        start = draws[:, 3:5] * (size - extent)
        axis = torch.arange(size, device=image.device)
        inside_x = (axis >= start[:, :1]) & (axis < start[:, :1] + extent[:, :1])  # (B, 1, 1, S)
        inside_y = ((axis >= start[:, 1:]) & (axis < start[:, 1:] + extent[:, 1:])).transpose(-1, -2)
        device = generator.device if generator is not None else image.device
        grain = torch.rand(image.shape, generator=generator, device=device).to(image.device)
        fill = torch.where(draws[:, 8:9] < 0.5, grain, draws[:, 5:8])
        return torch.where(chosen & inside_x & inside_y, fill, image)
