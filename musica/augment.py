"""The official training's changes of colour and content, for a batch of crops; geometry is the crop's.

The official implementation tosses one coin a sample and applies geometry, colour and occlusion together. Here the
geometry is drawn by the crop (with the same chance, `crop.chance`), so the coin is read off the crop's map: an
augmented crop is turned or sheared, a plain one is upright.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.types import FaceBatch

LOW, HIGH = (0.0, 0.4), (0.6, 1.0)  # ranges of the colour limits of each channel, of the full scale
OCCLUDER_SIDE = 0.5  # largest side of the noise rectangle over the crop's
GRAY_CHANCE = 0.5
LUMA = (0.2989, 0.5870, 0.1140)
UPRIGHT = 1e-6  # a map is upright when its off-diagonal entries are smaller, relative to its scale


def was_augmented(to_image: Tensor) -> Tensor:
    """Return which crops (B,) bool were turned or sheared, from their maps (B, 2, 3)."""
    scale = to_image[:, [0, 1], [0, 1]].abs().amax(1)
    return to_image[:, [0, 1], [1, 0]].abs().amax(1) > UPRIGHT * scale


class PaperAugment(nn.Module):
    """Colour limits and a rectangle of noise for crops that the geometry changed; grey for half of all crops."""

    @torch.no_grad()
    def forward(self, batch: FaceBatch, generator: torch.Generator | None = None) -> FaceBatch:
        """Return the batch with new images (B, 3, S, S) uint8; the other fields are shared."""
        image = batch.image.float().div_(255)
        changed = self._occlude(self._limits(image, generator), generator)
        image = torch.where(was_augmented(batch.to_image)[:, None, None, None], changed, image)
        luma = (image * image.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        image = torch.where(self._uniform(image, generator, 1) < GRAY_CHANCE, luma, image)
        result = batch.to(batch.image.device)
        result.image = image.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
        return result

    def _uniform(self, image: Tensor, generator: torch.Generator | None, n: int) -> Tensor:
        """Return (B, n, 1, 1) numbers in [0, 1)."""
        device = generator.device if generator is not None else image.device
        return torch.rand((image.shape[0], n, 1, 1), generator=generator, device=device).to(image.device)

    def _limits(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """Per channel: values under a low limit become 0, over a high one 1; then (v - min) / max."""
        low = LOW[0] + (LOW[1] - LOW[0]) * self._uniform(image, generator, 3)
        high = HIGH[0] + (HIGH[1] - HIGH[0]) * self._uniform(image, generator, 3)
        cut = torch.where(image < low, torch.zeros_like(image), image)
        cut = torch.where(image > high, torch.ones_like(image), cut)
        largest = cut.amax((2, 3), keepdim=True).clamp_min(1 / 255)
        return (cut - cut.amin((2, 3), keepdim=True)) / largest

    def _occlude(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay a rectangle of noise over the crop; its centre is uniform, so it may stick out."""
        size = image.shape[-1]
        draws = self._uniform(image, generator, 4)
        side = (draws[:, :2] * OCCLUDER_SIDE * size).clamp_min(1).floor()
        start = draws[:, 2:] * size - side / 2
        axis = torch.arange(size, device=image.device)
        inside_x = (axis >= start[:, :1]) & (axis < start[:, :1] + side[:, :1])  # (B, 1, 1, S)
        inside_y = ((axis >= start[:, 1:]) & (axis < start[:, 1:] + side[:, 1:])).transpose(-1, -2)
        device = generator.device if generator is not None else image.device
        noise = torch.rand(image.shape, generator=generator, device=device).to(image.device)
        return torch.where(inside_x & inside_y, noise, image)
