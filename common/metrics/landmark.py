"""One metric that keeps each face's errors and derives NME, FR, AUC and every subset from them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from common.types import FaceBatch


def stable_hash(name: str) -> int:
    """Return a 63-bit number for a sample's name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


class LandmarkMetric(Metric):
    """NME, FR and AUC over the faces of an evaluation, in percent.

    Errors are kept for each face in float64, so that no mean of batch means arises; a face that is seen twice (as a
    distributed sampler pads) counts once. FR is the share of faces with NME above the threshold, AUC the exact area
    mean(max(0, 1 - NME / threshold)).

    Args:
        threshold: of FR and AUC, percent of the batch's normaliser.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    errors: list[Tensor]
    hashes: list[Tensor]
    members: list[Tensor]

    def __init__(self, threshold: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if threshold <= 0:
            raise ValueError(f"threshold must be positive, got {threshold}")
        self.threshold = threshold
        self.subset_names: tuple[str, ...] = ()
        for name in ("errors", "hashes", "members"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, points: Tensor, batch: FaceBatch) -> None:
        """Add predictions.

        Args:
            points: (B, L, D) in image pixels.
            batch: ground truth, normaliser, names and subsets. Points of weight 0 are left out.
        """
        if points.shape != batch.image_points.shape:
            raise ValueError(f"prediction {tuple(points.shape)}, ground truth {tuple(batch.image_points.shape)}")
        difference = points.detach().double() - batch.image_points.double()
        distance = difference.norm(dim=-1) / batch.norm.double()[:, None]
        weight = (batch.weight > 0).double()
        self.errors.append(100 * (distance * weight).sum(1) / weight.sum(1))
        self.hashes.append(torch.tensor([stable_hash(name) for name in batch.ids], device=points.device))
        self.members.append(batch.subsets.bool())
        self.subset_names = batch.subset_names

    def _gather(self) -> tuple[np.ndarray, np.ndarray]:
        def joined(state: Any) -> np.ndarray:
            tensor = torch.cat(list(state)) if isinstance(state, list) else state
            return np.asarray(tensor.cpu().numpy())

        if isinstance(self.errors, list) and not self.errors:
            raise ValueError("no face was evaluated")
        _, first = np.unique(joined(self.hashes), return_index=True)
        first.sort()
        return joined(self.errors)[first], joined(self.members)[first]

    def per_image(self) -> dict[str, np.ndarray]:
        """Return "nme" (N,) in percent and "subset/NAME" (N,) bool of every face seen so far."""
        errors, members = self._gather()
        return {"nme": errors} | {f"subset/{name}": members[:, k] for k, name in enumerate(self.subset_names)}

    def compute(self) -> dict[str, float]:
        """Return nme, fr, auc, nme_p90, p95, p99, and NAME/nme, NAME/fr, NAME/auc of every subset with a face."""
        errors, members = self._gather()
        result = self._summary(errors)
        result |= {f"nme_p{q}": float(np.percentile(errors, q)) for q in (90, 95, 99)}
        for k, name in enumerate(self.subset_names):
            if members[:, k].any():
                result |= {f"{name}/{key}": value for key, value in self._summary(errors[members[:, k]]).items()}
        return result

    def _summary(self, errors: np.ndarray) -> dict[str, float]:
        area = np.clip(1 - errors / self.threshold, 0, None).mean()
        return {
            "nme": float(errors.mean()),
            "fr": float(100 * (errors > self.threshold).mean()),
            "auc": float(100 * area),
        }
