"""Points of one landmark scheme scored on the truth of another, through the scheme map, beside the map's own error.

A map has an error of its own: the 68-point scheme has no point where the nearest of the 98 lies. That floor is
measured where both truths exist: synthetic faces have the points of both schemes for the same face. On photographs the
annotators' habits differ as well, which no map knows, so the floor is what a perfect 98-point model gets at best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.readme import table
from benchmarks.score.text import NONE
from common.errors import LabError
from common.metrics.functional import nme, normaliser, point_errors
from common.metrics.protocols import Plain
from common.metrics.stats import bootstrap_interval
from common.schemes import SCHEMES, LandmarkScheme, SchemeMap

FLOOR_FACES = 100  # synthetic faces of a floor
FLOOR_SEED = 7
DRAWN = ("wflw98", "ibug68")  # schemes whose points synthetic faces have
# Parts of a face: words in the names of a scheme's curves.
PARTS: dict[str, tuple[str, ...]] = {
    "jaw": ("jaw",), "brows": ("brow",), "nose": ("nose",), "eyes": ("eye",), "mouth": ("lip", "mouth"),
}  # fmt: skip


@dataclass(frozen=True)
class Floor:
    """The error of a map alone.

    Attributes:
        source, target: names of the schemes.
        norm: normaliser.
        nmes: (N,) percent, of the faces it was measured on.
        parts: part of the face -> mean error of its points, percent.
    """

    source: str
    target: str
    norm: str
    nmes: np.ndarray
    parts: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean NME of the map, percent."""
        return float(self.nmes.mean())

    @property
    def words(self) -> str:
        """The floor for a protocol card."""
        low, high = bootstrap_interval(self.nmes)
        return f"{self.mean:.2f} % [{low:.2f}, {high:.2f}] on {len(self.nmes)} synthetic faces"

    def facts(self) -> dict[str, Plain]:
        """Return what a protocol card says of the map."""
        return {"mapped from": self.source, "map floor": self.words}


def through(points: np.ndarray, source: LandmarkScheme, target: LandmarkScheme) -> np.ndarray:
    """Return points (N, L', 2) of the target scheme for points (N, L, 2) of the source; NaN stays NaN.

    Raises:
        LabError: no map from the one to the other is known.
    """
    return np.asarray(source.map_to(target).apply(np.asarray(points, np.float64)))


def source_scheme(count: int, target: LandmarkScheme, where: str) -> LandmarkScheme:
    """Return the scheme of `count` points from which a map to the target is known.

    Raises:
        LabError: there is none.
    """
    fitting = [scheme for scheme in SCHEMES.values() if scheme.num_points == count]
    for scheme in fitting:
        try:
            scheme.map_to(target)
        except LabError:
            continue
        return scheme
    names = ", ".join(scheme.name for scheme in fitting) or "none"
    raise LabError(f"{where}: {count} points a face ({names}) and no map from them to {target.name} is known")


def both_truths(source: str, target: str, count: int, seed: int = FLOOR_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (N, L, 2) and (N, L', 2) of both schemes for the same synthetic faces, picture pixels.

    Raises:
        LabError: synthetic faces have not both schemes.
    """
    if source not in DRAWN or target not in DRAWN:
        raise LabError(f"no faces with both {source} and {target} are known; synthetic faces have {', '.join(DRAWN)}")
    from common.data.synthetic import SyntheticFaces  # here: drawing takes imports that scoring does not need

    sets = [SyntheticFaces(count, scheme=name, seed=seed) for name in (source, target)]
    first, second = ([faces.points3d(k)[:, :2] for k in range(count)] for faces in sets)
    return np.stack(first).astype(np.float64), np.stack(second).astype(np.float64)


def part_rows(scheme: LandmarkScheme) -> dict[str, list[int]]:
    """Return part of the face -> its points."""
    return {part: rows for part, words in PARTS.items() if (rows := sorted(
        {point for curve in scheme.curves if any(word in curve.name for word in words) for point in curve.points}
    ))}  # fmt: skip


def part_errors(errors: np.ndarray, scheme: LandmarkScheme) -> dict[str, float]:
    """Return the mean of errors (N, L) over each part's points; a NaN (no prediction, no annotation) is left out."""
    return {part: float(np.nanmean(errors[:, rows])) for part, rows in part_rows(scheme).items()}


@lru_cache(maxsize=16)
def map_floor(found: SchemeMap, target: LandmarkScheme, norm: str, count: int = FLOOR_FACES) -> Floor:
    """Return the error of a map on synthetic faces by a normaliser that needs no box from outside.

    Raises:
        LabError: synthetic faces have not both schemes.
    """
    given, truth = both_truths(found.source, found.target, count)
    low = truth.min(axis=1)
    box = np.concatenate([low, truth.max(axis=1) - low], axis=1)
    errors = point_errors(found.apply(given), truth, normaliser(norm, truth, target, box))
    return Floor(found.source, found.target, norm, nme(errors), part_errors(errors, target))


def bounds(value: float, floor: Floor) -> tuple[float, float]:
    """Return the range of the NME in the model's own scheme, if the map errs as on the floor's faces.

    Triangle inequality: the map moves each point by its own error, so the mean moves by the floor at most.
    """
    return max(0.0, value - floor.mean), value + floor.mean


def floor_text(floor: Floor, value: float | None = None, parts: dict[str, float] | None = None) -> str:
    """Return the floor of a map, beside a model's figures where they are given."""
    rows: list[Sequence[str]] = [["all", f"{floor.mean:.3f}", NONE if value is None else f"{value:.3f}"]]
    rows += [[name, f"{error:.3f}", f"{parts[name]:.3f}" if parts else NONE] for name, error in floor.parts.items()]
    kept = 3 if value is not None else 2
    head = ["points", "map alone", "predictions"][:kept]
    meaning = SCHEMES[floor.source].map_to(floor.target).meaning
    body = table(head, [list(row)[:kept] for row in rows])
    text = (
        f"Mapped from {floor.source} to {floor.target}: {meaning}. The map's own error, percent of {floor.norm}: "
        f"{floor.words}\n\n{body}"
    )
    if value is None:
        return text
    low, high = bounds(value, floor)
    return text + (
        f"\n\nIf the map errs here as on those faces, the error in {floor.source} itself lies between {low:.2f} and "
        f"{high:.2f}; differences below {floor.mean:.2f} from a model that was trained on {floor.target} say nothing."
    )
