"""What flows through the laboratory: samples, batches, predictions.

Frames: *image pixels* are those of the photograph as it lies on disk; *crop pixels* are those of the square that a
network sees. In both, x runs right, y runs down, and the centre of the first pixel is (0, 0).
Symbols: B batch, L landmarks, D coordinates (2 or 3), S crop side, K subsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor


@dataclass
class FaceSample:
    """One annotated face of a photograph, before any crop.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        points: (L, D) float32, image pixels.
        visible: (L,) bool; False where the point is occluded or not annotated.
        box: (4,) float32, x0 y0 x1 y1 in image pixels.
        pose: (3,) float32 yaw, pitch, roll in degrees, or None where unknown.
        subsets: names of the test subsets that the face belongs to.
        id: stable name, unique in its data set.
        annotated: (L,) bool, False where `points` says nothing; None where all are annotated.
        norm: normaliser of this face's errors in image pixels; None for the distance of the outer eye corners.
    """

    image: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    pose: np.ndarray | None = None
    subsets: tuple[str, ...] = ()
    id: str = ""
    annotated: np.ndarray | None = None
    norm: float | None = None


@dataclass
class FaceBatch:
    """Faces cropped to one size.

    Attributes:
        image: (B, 3, S, S) uint8, RGB.
        points: (B, L, D) float32, crop pixels.
        weight: (B, L) float32; 0 for points without annotation.
        image_points: (B, L, D) float32, ground truth in image pixels.
        to_image: (B, 2, 3) float32, affine map from crop to image pixels.
        norm: (B,) float32, the data set's normaliser in image pixels (outer eye corners unless stated otherwise).
        visible: (B, L) bool.
        subsets: (B, K) bool, membership in `subset_names`.
        ids: B stable names.
        pose: (B, 3) yaw, pitch, roll in degrees, NaN where unknown.
        box: (B, 4) x0 y0 x1 y1, the data set's box in crop pixels: its centre moved and its sides scaled with the
            crop, its edges upright; None where a batch was made without boxes.
        rows: (B,) int64 place in the data set, -1 where a face is of none; None where a batch was made without.
    """

    image: Tensor
    points: Tensor
    weight: Tensor
    image_points: Tensor
    to_image: Tensor
    norm: Tensor
    visible: Tensor
    subsets: Tensor
    pose: Tensor
    ids: list[str] = field(default_factory=list)
    subset_names: tuple[str, ...] = ()
    box: Tensor | None = None
    rows: Tensor | None = None

    def __len__(self) -> int:
        return int(self.image.shape[0])

    def _map(self, fn: Callable[[Tensor], Tensor]) -> FaceBatch:
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content |= {name: fn(value) for name, value in content.items() if isinstance(value, Tensor)}
        return FaceBatch(**content)

    def __getstate__(self) -> dict[str, object]:
        # What a loader's worker sends: each tensor would take a file of shared memory, and a call to fetch it.
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.numpy() if isinstance(v, Tensor) and k != "image" and v.is_cpu else v for k, v in content.items()}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in state.items()}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FaceBatch:
        """Return the batch with every tensor on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> FaceBatch:
        """Return the batch in page-locked memory; called by the data loader."""
        return self._map(lambda tensor: tensor.pin_memory())


@dataclass
class Prediction:
    """What a method returns for a batch, in the batch's crop pixels.

    Attributes:
        points: (B, L, D).
        score: (B, L) confidence, larger is surer, or None.
        pose: (B, 3) yaw, pitch, roll in degrees, or None.
        steps: intermediate answers (B, L, D), first to last, for cascades and stacks.
        translation: (B, 3) x right, y down, z away from the viewer: where the head's origin lies from the camera of the
            crop (focal length 1.5 times its side, axis through its middle), in the unit of the method's mean face, or
            None.
    """

    points: Tensor
    score: Tensor | None = None
    pose: Tensor | None = None
    steps: list[Tensor] = field(default_factory=list)
    translation: Tensor | None = None
