"""Boxes as detectors would give them: what training does to the box, so that the first network learns to undo it.

The picture is warped once, by the data loader; only the box moves here, so edges stay upright and nothing is sampled
twice. Ranges cover the measured tolerance of the official weights, and downward shifts, at which these
fail.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import LabError, check_ranges
from common.geometry import compose_affine, tight_box
from common.types import FaceBatch


def grow(box: Tensor, factor: Tensor | float) -> Tensor:
    """Return boxes (B, 4) whose sides are `factor` times as long, about their centres."""
    centre, half = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]) / 2 * factor
    return torch.cat([centre - half, centre + half], dim=1)


@dataclass(frozen=True)
class BoxJitter:
    """Draws training boxes.

    Attributes:
        given: share of samples that keep the data set's box, moved a little: normal shift and scale of sd `small`.
        small: share of the box's side [2017: 0.03].
        low: smallest width and height, each on its own, over the landmark box's (other samples).
        high: largest width and height, likewise.
        shift: largest shift on each axis over the landmark box's side (other samples).

    Raises:
        LabError: a value is out of its range, or low is above high.
    """

    given: float = 0.5
    small: float = 0.03
    low: float = 0.85
    high: float = 1.4
    shift: float = 0.15

    def __post_init__(self) -> None:
        check_ranges("jitter", self, given="[0, 1]", small="[0, 1]", low="(0, 10]", high="(0, 10]", shift="[0, 10]")
        if self.low > self.high:
            raise LabError(f"jitter.low must not be above jitter.high, got {self.low} and {self.high}")

    def __call__(self, batch: FaceBatch, given_box: Tensor, generator: torch.Generator) -> Tensor:
        """Return boxes (B, 4), crop pixels.

        Args:
            batch: its points and weights.
            given_box: (B, 4) the boxes that an untouched face would get.
            generator: a CPU generator.
        """
        count, device = len(batch), batch.points.device
        pick = torch.rand((count, 1), generator=generator).to(device) < self.given
        small = torch.randn((count, 4), generator=generator).to(device) * self.small
        wide = torch.rand((count, 4), generator=generator).to(device)
        near = _moved(given_box, small[:, :2], 1 + small[:, 2:])
        far_box = tight_box(batch.points, batch.weight > 0)
        far = _moved(far_box, (2 * wide[:, :2] - 1) * self.shift, self.low + wide[:, 2:] * (self.high - self.low))
        return torch.where(pick, near, far)


def _moved(box: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Return boxes shifted by shares of their sides (B, 2) and scaled on each axis (B, 2)."""
    sides = box[:, 2:] - box[:, :2]
    return grow(box + (shift * sides).repeat(1, 2), factor)


class MapNoise:
    """Draws small affine errors round the true face map, as a trained reinitialisation makes them.

    Args:
        turn: sd of the rotation in degrees.
        scale: sd of each axis' relative size.
        shift: sd of the shift on each axis, in face sides.
    """

    def __init__(self, turn: float = 4.0, scale: float = 0.04, shift: float = 0.025) -> None:
        self.turn, self.scale, self.shift = turn, scale, shift

    def __call__(self, face_map: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Return maps (B, 2, 3) image -> face of `size` pixels with errors about the face's middle."""
        draws = torch.randn((len(face_map), 5), generator=generator).to(face_map)
        angle = draws[:, 0] * (self.turn * torch.pi / 180)
        sides = 1 + draws[:, 1:3] * self.scale
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).unflatten(1, (2, 2))
        linear = sides[:, :, None] * turn
        middle = face_map.new_full((2, 1), size / 2)
        shift = middle - linear @ middle + draws[:, 3:, None] * (self.shift * size)
        return compose_affine(torch.cat([linear, shift], dim=2), face_map)
