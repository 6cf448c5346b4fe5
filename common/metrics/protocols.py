"""Named evaluation protocols: everything besides the points that decides a figure, in one object each.

`canonical` is this project's own. The others reproduce a paper's evaluator with its habits, so that its published
figures can be checked; figures of different protocols must not share a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.metrics.functional import (
    auc_exact,
    auc_fr_histogram,
    failure_rate,
    nme,
    normaliser,
    percentiles,
    point_errors,
)
from common.schemes import LandmarkScheme


@dataclass(frozen=True)
class Measure:
    """Normaliser and FR/AUC threshold (percent) of one data set."""

    norm: str
    threshold: float
    divisor: int | None = None


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol.

    Attributes:
        name: key in PROTOCOLS.
        default: measure of data sets that are not named.
        measures: data set -> measure.
        auc_rule: exact, or histogram (cumulative histogram and Simpson's rule; FR is read from the same curve).
        visibility: leave out points that are not visible.
        box: where the crop's box comes from.
        failures: what happens to faces without an answer.
        notes: what else a reader must know.
    """

    name: str
    default: Measure
    measures: Mapping[str, Measure] = field(default_factory=dict)
    auc_rule: str = "exact"
    visibility: bool = False
    box: str = "as stated with the figure"
    failures: str = "count as failures"
    notes: str = ""

    def measure(self, dataset: str, num_points: int) -> Measure:
        """Return the measure of a data set; else one by the number of points ("points68"); else the default."""
        return self.measures.get(dataset, self.measures.get(f"points{num_points}", self.default))


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "canonical",
            Measure("corners", 10),
            {"300w": Measure("corners", 8), "300w_private": Measure("corners", 8)},
            notes="original image pixels, float ground truth, no flip, exact area",
        ),
        Protocol(
            "spiga",
            Measure("corners", 10),
            {
                "wflw": Measure("corners", 10),
                "300wpublic": Measure("corners", 8),
                "300wprivate": Measure("lnd_bbox", 7),
                "cofw68": Measure("lnd_bbox", 7),
                "merlrav": Measure("lnd_bbox", 7, divisor=68),
            },
            auc_rule="histogram",
            box="tight box of the landmarks, square of 1.6 times",
            failures="none dropped",
            notes="percentiles beside the mean; the curve's bins are redone for each subset",
        ),
        Protocol(
            "awing",
            Measure("corners", 10),
            {
                "points98": Measure("corners", 10),
                "points68": Measure("pupils", 10),
                "points29": Measure("pupils", 10),
                "points19": Measure("bbox", 10),
            },
            box="official box, enlarged until all landmarks lie inside",
            notes="errors in the 256-px crop; 68 points by the mean of six eye points, though the paper's headline "
            "figures are by the corners",
        ),
        Protocol(
            "sdu",
            Measure("eye_centres", 10),
            {"aflw2000": Measure("lnd_bbox", 10), "w300lp": Measure("lnd_bbox", 10)},
            box="faces turned upright by five true points; box of the true points, raised for the forehead by a number "
            "of pixels that depends on the test set, square of 1.2 times",
            failures="none arise; with a detector, faces that it misses are left out",
            notes="true points are floored (2D) or rounded (AFLW2000-3D) in the 128-px crop before they are compared; "
            "AFLW2000-3D is one mean over all faces, x and y only; no FR and AUC were published",
        ),
    )
}


def summary(protocol: Protocol, nmes: np.ndarray, threshold: float) -> dict[str, float]:
    """Return nme, its percentiles, auc and fr of faces' NMEs (N,), all in percent."""
    if protocol.auc_rule == "histogram":
        auc, rate = auc_fr_histogram(nmes, threshold)
    else:
        auc, rate = auc_exact(nmes, threshold), failure_rate(nmes, threshold)
    return {"nme": float(nmes.mean()), **percentiles(nmes), "auc": auc, "fr": rate}


def evaluate(
    protocol: Protocol | str,
    pred: np.ndarray,
    gt: np.ndarray,
    scheme: LandmarkScheme,
    dataset: str,
    bbox: np.ndarray | None = None,
    visible: np.ndarray | None = None,
    subsets: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Score points by a protocol.

    Args:
        protocol: the protocol or its name.
        pred: (N, L, 2) predicted points, original image pixels.
        gt: (N, L, 2) true points.
        scheme: of the points.
        dataset: name in the protocol's measures.
        bbox: (N, 4) x, y, width, height, for normalisers that need the box.
        visible: (N, L), used where the protocol looks at visibility.
        subsets: name -> indices or mask of faces.

    Returns:
        protocol, norm, threshold, n, the figures of `summary`, subset -> figures, "nme_per_point" (L,) and
        "npe90_per_point", ... (L,), "per_image" (N,).

    Raises:
        ValueError: unknown protocol, or arrays that do not fit.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol}")
        protocol = PROTOCOLS[protocol]
    measure = protocol.measure(dataset, scheme.num_points)
    errors = point_errors(pred, gt, normaliser(measure.norm, gt, scheme, bbox))
    weight = None if visible is None or not protocol.visibility else np.asarray(visible, np.float64)
    nmes = nme(errors, weight, measure.divisor)
    report: dict[str, Any] = {
        "protocol": protocol.name, "norm": measure.norm, "threshold": measure.threshold, "n": len(nmes),
        **summary(protocol, nmes, measure.threshold),
        "subset": {k: summary(protocol, nmes[i], measure.threshold) for k, i in (subsets or {}).items()},
        "nme_per_point": errors.mean(axis=0),
        "per_image": nmes,
    }  # fmt: skip
    return report | {f"npe{q}_per_point": np.percentile(errors, q, axis=0) for q in (90, 95, 99)}
