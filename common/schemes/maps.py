"""How one scheme's points give another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")
Indices = tuple[int, ...]


def span(first: int, last: int) -> Indices:
    """Return first..last with both ends, upwards or downwards."""
    return tuple(range(first, last + 1)) if first <= last else tuple(range(first, last - 1, -1))


@dataclass(frozen=True)
class SchemeMap:
    """How one scheme's points give another's: each target point is the mean of some source points.

    Attributes:
        source: name of the scheme that is given.
        target: name of the scheme that is wanted.
        indices: for each target point, its source points.
        meaning: what is exact and what is only close.
        error: mean error of the map alone, percent of the outer eye corners' distance, on 100 synthetic faces; None
            where there are no faces with both schemes.
    """

    source: str
    target: str
    indices: tuple[Indices, ...]
    meaning: str
    error: float | None = None

    def words(self) -> str:
        """Return what was mapped and how well, for protocol cards."""
        own = "not measured" if self.error is None else f"{self.error:.2f} % of the eye corners' distance"
        return f"{self.source} to {self.target}: {self.meaning}; the map's own error: {own}"

    def apply(self, points: Array) -> Array:
        """Return target points (..., L', D) for source points (..., L, D)."""
        columns = [points[..., list(group), :].mean(-2) for group in self.indices]
        if isinstance(points, np.ndarray):
            return np.stack(columns, axis=-2)
        import torch  # here: scoring files needs NumPy alone, and torch takes seconds and hundreds of megabytes

        return torch.stack(columns, dim=-2)


def _picks(*parts: Indices) -> tuple[Indices, ...]:
    return tuple((point,) for part in parts for point in part)


_JAW68 = tuple(range(0, 33, 2))
_IDENTITY68 = _picks(span(0, 67))
MAPS: dict[tuple[str, str], SchemeMap] = {
    ("ibug68", "merlrav68"): SchemeMap("ibug68", "merlrav68", _IDENTITY68, "the same points under other names", 0.0),
    ("merlrav68", "ibug68"): SchemeMap("merlrav68", "ibug68", _IDENTITY68, "the same points under other names", 0.0),
    ("wflw98", "ibug68"): SchemeMap(
        "wflw98",
        "ibug68",
        _picks(_JAW68, span(33, 37), span(42, 46), span(51, 59), (60, 61, 63, 64, 65, 67),
               (68, 69, 71, 72, 73, 75), span(76, 95)),
        "every second jaw point; brows by their upper edge; lids by the nearest of the eight eye points",
        0.26,
    ),
    ("lapa106", "ibug68"): SchemeMap(
        "lapa106",
        "ibug68",
        _picks(_JAW68, span(33, 37), span(42, 46), span(51, 54), span(58, 62), (66, 67, 69, 70, 71, 73),
               (75, 76, 78, 79, 80, 82), span(84, 103)),
        "every second jaw point; brows by their upper edge; base of the nose by its five middle points",
    ),
}  # fmt: skip
