"""The order of training faces: a function of (seed, epoch), so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from common.data.batching import CroppedFaces


class EpochSampler(Sampler[int]):
    """Shuffles anew each epoch, from the seed and the data set's epoch alone.

    Args:
        cropped: training faces; they learn the epoch, on which their augmentation depends.
        seed: of the order.
        done: the epoch to begin with, and how many of its faces are trained on already; they come last in it.
    """

    def __init__(self, cropped: CroppedFaces, seed: int, done: tuple[int, int] = (0, 0)) -> None:
        self.cropped, self.seed, self.done = cropped, seed, done
        self.set_epoch(done[0])  # workers load before Lightning says which epoch a resumed run is in

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before an epoch's first batch."""
        self.epoch = epoch
        self.cropped.set_epoch(epoch)

    def __len__(self) -> int:
        return self.cropped.faces.per_epoch()

    def __iter__(self) -> Iterator[int]:
        rows = self.cropped.faces.drawn(self.seed, self.epoch)
        order = rows[np.random.default_rng([self.seed, self.epoch, len(rows)]).permutation(len(rows))]
        return iter(np.roll(order, -self.done[1] if self.epoch == self.done[0] else 0).tolist())
