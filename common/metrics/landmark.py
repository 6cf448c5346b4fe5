"""What an evaluation finds: points, truth and errors of each face; and how faces are gathered from all devices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch.distributed as dist
from torch import Tensor

from common.data.crops import move_box
from common.errors import LabError
from common.files.whole import save_arrays
from common.geometry import apply_affine
from common.metrics.functional import auc_exact, failure_rate, nme, normaliser, percentiles, point_errors
from common.schemes import LandmarkScheme
from common.types import FaceBatch, Prediction

Part = TypeVar("Part")


@dataclass(frozen=True)
class Evaluation:
    """The faces of an evaluation, in the data set's order; image pixels. N faces, L landmarks, D coordinates, T steps.

    Points without annotation (weight 0) count nowhere. A face whose prediction is not finite is a failure.

    Attributes:
        scheme: of the true points.
        ids: N names; two faces may have the same.
        points: (N, L, D) predicted.
        truth: (N, L, D); points of weight 0 say nothing.
        weight: (N, L), 0 or 1.
        norm: (N,) the data set's normaliser.
        subsets: name -> (N,) bool.
        steps: (T, N, L, D) intermediate predictions; T may be 0.
        score: (N, L) confidence, larger is surer, or None.
        pose: (N, 3) true yaw, pitch, roll in degrees, NaN where unknown.
        visible: (N, L) bool.
        box: (N, 4) x0 y0 x1 y1, the data set's, where batches had one; upright crops only keep it exactly.
        threshold: of FR and AUC, percent.
    """

    scheme: LandmarkScheme
    ids: tuple[str, ...]
    points: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    norm: np.ndarray
    subsets: dict[str, np.ndarray]
    steps: np.ndarray
    score: np.ndarray | None
    pose: np.ndarray
    visible: np.ndarray
    box: np.ndarray | None
    threshold: float

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def nme(self) -> np.ndarray:
        """Each face's mean error (N,), percent of its normaliser."""
        return self.errors(self.points)

    @cached_property
    def step_nme(self) -> np.ndarray:
        """Each face's mean error after each step (N, T), percent of its normaliser."""
        return np.stack([self.errors(step) for step in self.steps], axis=1)

    @property
    def annotated_truth(self) -> np.ndarray:
        """True points (N, L, D), NaN where a point is not annotated."""
        return np.where(self.weight[..., None] > 0, self.truth, np.nan)

    def errors(self, points: np.ndarray, norm: str | None = None, dims: slice = slice(None)) -> np.ndarray:
        """Return the mean error (N,) in percent of points (N, L, D) over the annotated points of each face.

        Args:
            points: image pixels.
            norm: name of a normaliser that the true points give; None for the data set's.
            dims: coordinates that are compared; default all.

        Raises:
            LabError: shapes differ, or a face has no such normaliser.
        """
        points, truth = points[..., dims], self.truth[..., dims]
        if points.shape != truth.shape:
            raise LabError(f"predicted points are {points.shape[1:]} a face, the data set's {truth.shape[1:]}: "
                           "choose data of the model's scheme and dimensions")  # fmt: skip
        length = self.norm if norm is None else normaliser(norm, self.annotated_truth, self.scheme)
        if not (length > 0).all():
            face = self.ids[int(np.argmin(length > 0))]
            raise LabError(f"{face}: has no length to divide its errors by; are its outer eye corners annotated?")
        return nme(point_errors(points, truth, length), self.weight)

    def subset(self, name: str) -> np.ndarray:
        """Return the NMEs of the faces of a subset (n,), percent.

        Raises:
            LabError: there is no such subset.
        """
        if name not in self.subsets:
            raise LabError(f"no subset {name}; there are {', '.join(self.subsets) or 'none'}")
        return np.asarray(self.nme[self.subsets[name]])

    def failure_rate(self, threshold: float | None = None) -> float:
        """Return the share of faces above the threshold, percent; a NaN is above."""
        return failure_rate(self.nme, self.threshold if threshold is None else threshold)

    def auc(self, threshold: float | None = None) -> float:
        """Return the exact area under the cumulative error curve up to the threshold, percent."""
        return auc_exact(self.nme, self.threshold if threshold is None else threshold)

    def metrics(self) -> dict[str, float]:
        """Return nme, fr, auc, nme_p90, p95, p99, and NAME/nme, NAME/fr, NAME/auc of every subset with a face."""
        result = self._summary(self.nme) | percentiles(self.nme)
        for name, rows in self.subsets.items():
            if rows.any():
                result |= {f"{name}/{key}": value for key, value in self._summary(self.nme[rows]).items()}
        return result

    def _summary(self, nmes: np.ndarray) -> dict[str, float]:
        rate, area = failure_rate(nmes, self.threshold), auc_exact(nmes, self.threshold)
        return {"nme": float(nmes.mean()), "fr": rate, "auc": area}

    def save(self, path: Path) -> None:
        """Write ids, points, nme and subset/NAME to an .npz file; its folder is made."""
        members = {f"subset/{name}": rows for name, rows in self.subsets.items()}
        points = self.points.astype(np.float32)
        save_arrays(path, ids=np.array(self.ids), points=points, nme=self.nme, **members)


def gathered(parts: list[Part]) -> list[Part]:
    """Return the parts of all devices, those of the first one first."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return parts
    every: list[list[Part]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, parts)
    return [part for device in every for part in device]


def distinct_rows(rows: np.ndarray) -> np.ndarray:
    """Return where each data set's row (N,) stands first, in the data set's order.

    A distributed sampler repeats faces until all devices have equally many. Rows are compared, not names: two faces
    may have one name.
    """
    if (rows < 0).any():
        raise ValueError("faces of several devices need their rows in the data set")
    return np.unique(rows, return_index=True)[1]


class FaceCollector:
    """Collects predictions and truth, batch by batch, in float64 on the CPU, whatever the network's precision.

    Args:
        scheme: of the true points.
        threshold: of FR and AUC, percent of the normaliser.
    """

    def __init__(self, scheme: LandmarkScheme, threshold: float = 10.0) -> None:
        if threshold <= 0:
            raise ValueError(f"threshold must be positive, got {threshold}")
        self.scheme, self.threshold = scheme, threshold
        self._parts: list[dict[str, Any]] = []

    def add(self, batch: FaceBatch, prediction: Prediction, frame: Literal["crop", "image"] = "crop") -> None:
        """Add a batch and what was predicted for it, in crop or in image pixels.

        Raises:
            LabError: a face has no annotated point.
        """

        def array(tensor: Tensor) -> np.ndarray:
            return np.asarray(tensor.detach().cpu().double().numpy())

        to_image = array(batch.to_image)

        def placed(points: Tensor) -> np.ndarray:
            return array(points) if frame == "image" else apply_affine(to_image, array(points))

        weight = (array(batch.weight) > 0).astype(np.float64)
        for row, name in enumerate(batch.ids):
            if not weight[row].any():
                raise LabError(f"{name}: no point is annotated, so it cannot be scored; remove this face")
        rows = batch.rows
        self._parts.append(
            {
                "rows": np.full(len(batch), -1) if rows is None else rows.cpu().numpy(),
                "ids": list(batch.ids),
                "points": placed(prediction.points),
                "truth": array(batch.image_points),
                "weight": weight,
                "norm": array(batch.norm),
                "members": batch.subsets.bool().cpu().numpy(),
                "steps": [placed(step) for step in prediction.steps],
                "score": None if prediction.score is None else array(prediction.score),
                "pose": array(batch.pose),
                "visible": batch.visible.cpu().numpy(),
                "box": None if batch.box is None else move_box(to_image, array(batch.box)),
                "names": batch.subset_names,
            }
        )

    def clear(self) -> None:
        """Forget all faces."""
        self._parts = []

    def result(self) -> Evaluation:
        """Return the faces of all devices, each once; to be called on every device.

        Raises:
            LabError: no face was added.
        """
        parts = gathered(self._parts)
        if not parts:
            raise LabError("there is no face to evaluate")

        def joined(name: str, axis: int = 0) -> np.ndarray:
            return np.concatenate([part[name] for part in parts], axis=axis)

        rows = joined("rows")
        order = np.arange(len(rows)) if len(parts) == len(self._parts) else distinct_rows(rows)
        ids = [name for part in parts for name in part["ids"]]
        members, steps = joined("members")[order], [joined_step[order] for joined_step in _joined_steps(parts)]
        points = joined("points")[order]
        return Evaluation(
            scheme=self.scheme,
            ids=tuple(ids[row] for row in order),
            points=points,
            truth=joined("truth")[order],
            weight=joined("weight")[order],
            norm=joined("norm")[order],
            subsets={name: members[:, column] for column, name in enumerate(parts[0]["names"])},
            steps=np.stack(steps) if steps else np.zeros((0, *points.shape)),
            score=None if parts[0]["score"] is None else joined("score")[order],
            pose=joined("pose")[order],
            visible=joined("visible")[order],
            box=None if parts[0]["box"] is None else joined("box")[order],
            threshold=self.threshold,
        )


def _joined_steps(parts: list[dict[str, Any]]) -> list[np.ndarray]:
    return [np.concatenate(step) for step in zip(*(part["steps"] for part in parts), strict=True)]
