"""Data sets made from others: with depth, kept in memory, in another scheme, with fewer points, several mixed.

Landmarks with depth have x and y in image pixels, z in the same unit towards the viewer, relative to the face's mean.

Depth has no natural zero in a photograph, so every 3D data set returns z with mean 0 over the face's landmarks.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.data.base import FaceDataset, own_norm
from common.errors import LabError
from common.schemes import LandmarkScheme
from common.types import FaceSample


def centre_depth(points: np.ndarray) -> np.ndarray:
    """Return points (..., L, 3) with z moved to mean 0 over the landmarks."""
    moved = points.copy()
    moved[..., 2] -= moved[..., 2].mean(axis=-1, keepdims=True)
    return moved


class Wrapped(FaceDataset):
    """Another data set's faces; a subclass changes what it is for."""

    def __init__(self, faces: FaceDataset) -> None:
        self.faces = faces
        self.name, self.scheme, self.subset_names = faces.name, faces.scheme, faces.subset_names

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> FaceSample:
        return self.faces[index]

    def shapes(self) -> np.ndarray | None:
        return self.faces.shapes()

    def points3d(self, index: int) -> np.ndarray:
        return self.faces.points3d(index)

    def per_epoch(self) -> int:
        return self.faces.per_epoch()

    def drawn(self, seed: int, epoch: int) -> np.ndarray:
        return self.faces.drawn(seed, epoch)


class WithDepth(Wrapped):
    """Another data set's faces with 3D landmarks (L, 3) in place of 2D ones.

    Args:
        faces: a data set that offers `points3d(index)`.
    """

    def __init__(self, faces: FaceDataset) -> None:
        super().__init__(faces)
        self.name = f"{faces.name}-3d"

    def shapes(self) -> None:
        return None

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        return replace(sample, points=centre_depth(self.faces.points3d(index)).astype(np.float32))


class ByBox(Wrapped):
    """Another data set's faces, whose errors are divided by the root of the area of the landmarks' tight box."""

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        known = np.ones(len(sample.points), bool) if sample.annotated is None else sample.annotated
        return replace(sample, norm=own_norm(sample.points[:, :2], known, self.scheme, "box", sample.id))


class CachedFaces(Wrapped):
    """Keeps the samples of another data set in memory once they were asked for."""

    def __init__(self, faces: FaceDataset) -> None:
        super().__init__(faces)
        self._kept: dict[int, FaceSample] = {}

    def __getitem__(self, index: int) -> FaceSample:
        if index not in self._kept:
            self._kept[index] = self.faces[index]
        return self._kept[index]


class MappedFaces(Wrapped):
    """Another data set's faces in another landmark scheme. A point of which a part is not annotated is not.

    Args:
        faces: the data set.
        scheme: wanted.

    Raises:
        LabError: no map between the schemes is known.
    """

    def __init__(self, faces: FaceDataset, scheme: LandmarkScheme) -> None:
        super().__init__(faces)
        self.map, self.scheme = faces.scheme.map_to(scheme), scheme

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        known = sample.annotated
        return replace(
            sample,
            points=self.map.apply(sample.points),
            visible=self._all(sample.visible),
            annotated=None if known is None else self._all(known),
        )

    def _all(self, flags: np.ndarray) -> np.ndarray:
        return np.array([flags[list(group)].all() for group in self.map.indices])

    def shapes(self) -> np.ndarray | None:
        points = self.faces.shapes()
        return None if points is None else self.map.apply(points)

    def points3d(self, index: int) -> np.ndarray:
        return self.map.apply(self.faces.points3d(index))


class MaskedFaces(Wrapped):
    """Another data set's faces, of which some points count; the others are as if they were not annotated.

    Args:
        faces: the data set.
        counts: (L,) bool.
    """

    def __init__(self, faces: FaceDataset, counts: np.ndarray) -> None:
        super().__init__(faces)
        self.counts = counts

    def __getitem__(self, index: int) -> FaceSample:
        sample = self.faces[index]
        known = self.counts if sample.annotated is None else sample.annotated & self.counts
        return replace(sample, annotated=known)

    def shapes(self) -> np.ndarray | None:
        points = self.faces.shapes()
        return None if points is None else np.where(self.counts[:, None], points, np.nan)


class Mixture(FaceDataset):
    """Faces of several data sets of one scheme. A face that an epoch sees twice has two places, so that its
    augmentation differs.

    Each set goes through its faces in rounds, each round in an order of its own; an epoch takes up where the former
    stopped. So all faces are seen equally often, and an epoch is a function of (seed, epoch) alone.

    Args:
        parts: data sets and how often each of their faces is seen in an epoch.
    """

    def __init__(self, parts: Sequence[tuple[FaceDataset, float]]) -> None:
        self.parts = [faces for faces, _ in parts]
        self.counts = [max(1, round(weight * len(faces))) for faces, weight in parts]
        whole = [count % len(faces) == 0 for faces, count in zip(self.parts, self.counts, strict=True)]
        # An epoch that does not begin with a round touches one round more.
        self.rounds = [-(-count // len(faces)) + (not even)
                       for faces, count, even in zip(self.parts, self.counts, whole, strict=True)]  # fmt: skip
        sizes = [len(faces) * rounds for faces, rounds in zip(self.parts, self.rounds, strict=True)]
        self.starts = np.cumsum([0, *sizes])
        self.name, self.scheme = "+".join(faces.name for faces in self.parts), self.parts[0].scheme
        self.subset_names = tuple(dict.fromkeys(name for faces in self.parts for name in faces.subset_names))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, index: int) -> tuple[int, int]:
        """Return the data set of a face and its place there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return part, (index - int(self.starts[part])) % len(self.parts[part])

    def __getitem__(self, index: int) -> FaceSample:
        part, row = self.place(index)
        return self.parts[part][row]

    def per_epoch(self) -> int:
        return sum(self.counts)

    def drawn(self, seed: int, epoch: int) -> np.ndarray:
        rows = []
        for part, (faces, count, start) in enumerate(zip(self.parts, self.counts, self.starts, strict=False)):
            turns = np.arange(epoch * count, (epoch + 1) * count)
            number, first = turns // len(faces), epoch * count // len(faces)
            orders = {k: np.random.default_rng([seed, part, k]).permutation(len(faces)) for k in np.unique(number)}
            chosen = np.array([orders[k][place] for k, place in zip(number, turns % len(faces), strict=True)])
            rows.append(start + (number - first) * len(faces) + chosen)
        return np.concatenate(rows)

    def shapes(self) -> np.ndarray | None:
        found = [faces.shapes() for faces in self.parts]
        if any(points is None for points in found):
            return None
        return np.concatenate([np.tile(points, (k, 1, 1)) for points, k in zip(found, self.rounds, strict=True)
                               if points is not None])  # fmt: skip

    def points3d(self, index: int) -> np.ndarray:
        part, row = self.place(index)
        return self.parts[part].points3d(row)


def chosen_points(names: Sequence[str], scheme: LandmarkScheme) -> np.ndarray:
    """Return which points (L,) bool of a scheme are named, by their own names or those of curves.

    Raises:
        LabError: a name is neither.
    """
    curves = {curve.name: curve.points for curve in scheme.curves}
    places = {name: (place,) for place, name in enumerate(scheme.names)}
    counts = np.zeros(scheme.num_points, bool)
    for name in names:
        if name not in curves and name not in places:
            known = [*curves, *scheme.names]
            near = difflib.get_close_matches(name, known, 1)
            more = f"did you mean {near[0]}?" if near else f"it has {', '.join(known[:8])}, ..."
            raise LabError(f"--data.mix: scheme {scheme.name} has no point or curve {name}; {more}")
        counts[list(places.get(name) or curves[name])] = True
    return counts
