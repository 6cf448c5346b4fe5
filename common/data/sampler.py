"""The order of training faces: a function of (seed, epoch), so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from common.data.batching import CroppedFaces


class EpochSampler(Sampler[int]):
    """Shuffles anew each epoch, from the seed and the data set's epoch alone."""

    def __init__(self, cropped: CroppedFaces, seed: int) -> None:
        self.cropped, self.seed, self.epoch = cropped, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before an epoch's first batch, also after a resume."""
        self.epoch = epoch
        self.cropped.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.cropped)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch, len(self.cropped)]).permutation(len(self.cropped))
        return iter(order.tolist())
