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
    auc_fr_step,
    failure_rate,
    nme,
    normaliser,
    percentiles,
    point_errors,
)
from common.schemes import LandmarkScheme

Plain = str | bool | int | float | None  # a field of a protocol card
Figures = dict[str, Any]  # one protocol's, see `evaluate`

# Names that papers and files give to a data set -> the one by which measures are found.
ALIASES: Mapping[str, str] = {
    "300wpublic": "300w", "300w_public": "300w", "300w_full": "300w", "w300": "300w",
    "300wprivate": "300w_private", "ibug": "300w", "cofw_68": "cofw68", "merl_rav": "merlrav", "w300lp": "300w_lp",
    "aflw2000_3d": "aflw2000",
}  # fmt: skip
SPACES: Mapping[str, str] = {
    "image": "original image pixels", "stretched to box": "image stretched until its box is a square",
    "stretched to landmarks": "image stretched until the landmarks' box is a square",
}  # fmt: skip


def dataset_key(name: str) -> str:
    """Return the name by which measures of a data set are found: lower case, one spelling."""
    key = name.lower().replace("-", "_").replace(" ", "_")
    return ALIASES.get(key, key)


@dataclass(frozen=True)
class Measure:
    """How the errors of one data set are measured.

    Attributes:
        norm: normaliser, see `functional.normaliser`.
        threshold: of FR and AUC, percent.
        divisor: a face's errors are summed and divided by this number; None for the number of points.
        truth: "float", or "integer" where true coordinates are cut to whole pixels first.
        space: "image", or "stretched": both axes are first divided by the sides of a box, so that the box is a
            square; "stretched to box" takes the given box, "stretched to landmarks" the true points' tight box.
        levels: percent; the share of faces at or below each is reported.
    """

    norm: str
    threshold: float
    divisor: int | None = None
    truth: str = "float"
    space: str = "image"
    levels: tuple[float, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol.

    Attributes:
        name: key in PROTOCOLS.
        default: measure of data sets that are not named.
        measures: data set, or "points68" for any with 68 points -> measure.
        auc_rule: exact; histogram (cumulative histogram and Simpson's rule; FR is read from the same curve); or step
            (samples of the curve and Simpson's rule; FR is the last sample's).
        visibility: leave out points that are not visible.
        box: where the crop's box comes from.
        failures: what happens to faces without a prediction, in words.
        missing: "fail" (they count as failures) or "drop" (they are left out of n).
        skip_first: so many faces at the head of the list are never seen.
        nme_offset, fr_offset: the sum of NMEs and the number of failures are divided by n plus this.
        decimals: predictions are rounded to so many decimals first; None leaves them.
        decode: how points are read off the network's answer.
        flip: whether the mirrored image takes part.
        checkpoint: which training state is scored.
        notes: what else a reader must know.
    """

    name: str
    default: Measure
    measures: Mapping[str, Measure] = field(default_factory=dict)
    auc_rule: str = "exact"
    visibility: bool = False
    box: str = "as stated with the figure"
    failures: str = "count as failures"
    missing: str = "fail"
    skip_first: int = 0
    nme_offset: int = 0
    fr_offset: int = 0
    decimals: int | None = None
    decode: str = "of the method"
    flip: str = "none"
    checkpoint: str = "as stated with the figure"
    notes: str = ""

    def measure(self, dataset: str, num_points: int) -> Measure:
        """Return the measure of a data set; else one by the number of points ("points68"); else the default."""
        return self.measures.get(dataset_key(dataset), self.measures.get(f"points{num_points}", self.default))

    def card(self, dataset: str, num_points: int, **more: Plain) -> dict[str, Plain]:
        """Return the protocol card: everything besides the points that decides a figure.

        Args:
            dataset: name in `measures`.
            num_points: of the landmark scheme.
            more: fields to add or to state more closely (n, box, checkpoint, ...).
        """
        found = self.measure(dataset, num_points)
        counting = [f"first {self.skip_first} left out"] * bool(self.skip_first)
        counting += [f"NME over n{self.nme_offset:+d}"] * bool(self.nme_offset)
        counting += [f"FR over n{self.fr_offset:+d}"] * bool(self.fr_offset)
        counting += [f"errors over {found.divisor} points"] * bool(found.divisor)
        counting += ["visible points only"] * self.visibility
        own: dict[str, Plain] = {
            "protocol": self.name, "data": dataset, "landmarks": f"{num_points} points", "space": SPACES[found.space],
            "truth": found.truth, "normaliser": found.norm, "threshold": found.threshold, "auc_rule": self.auc_rule,
            "counting": ", ".join(counting) or "all faces, all points", "failures": self.failures, "box": self.box,
            "decode": self.decode, "flip": self.flip, "checkpoint": self.checkpoint, "notes": self.notes,
        }  # fmt: skip
        return own | more


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
                "300w": Measure("corners", 8),
                "300w_private": Measure("lnd_bbox", 7),
                "cofw68": Measure("lnd_bbox", 7),
                "merlrav": Measure("lnd_bbox", 7, divisor=68),
            },
            auc_rule="histogram",
            box="tight box of the landmarks, square of 1.6 times",
            failures="none dropped",
            decode="coordinates by regression",
            checkpoint="released weights",
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
            failures="none dropped",
            decode="maximum of a 64-px heat map, a quarter cell towards the higher neighbour",
            checkpoint="released weights",
            notes="errors in the 256-px crop; 68 points by the mean of six eye points, though the paper's headline "
            "figures are by the corners",
        ),
        Protocol(
            "sdu",
            Measure("eye_centres", 10),
            {"aflw2000": Measure("lnd_bbox", 10), "300w_lp": Measure("lnd_bbox", 10)},
            box="faces turned upright by five true points; box of the true points, raised for the forehead by a number "
            "of pixels that depends on the test set, square of 1.2 times",
            failures="none arise; with a detector, faces that it misses are left out",
            notes="true points are floored (2D) or rounded (AFLW2000-3D) in the 128-px crop before they are compared, "
            "which the method's own evaluator does and points alone cannot show; AFLW2000-3D is one mean over all "
            "faces, x and y only; no FR and AUC were published",
        ),
        Protocol(
            "dpr",
            Measure("corners", 10),
            fr_offset=1,
            box="rectangle of a detector from a file, stretched to a square without margin",
            failures="unknown, only demonstration code was released",
            decode="coordinates by regression",
            checkpoint="released weights",
            notes="all test faces of WFLW; the number of failures was divided by 2501",
        ),
        Protocol(
            "musica",
            Measure("corners", 8, levels=(5, 6, 8)),
            box="detector's rectangle from a file",
            failures="faces without a file are left out",
            missing="drop",
            decimals=3,
            decode="coordinates of the cascade",
            notes="pupils instead of corners as an option for 68 points; faces may also be kept by predicted error",
        ),
        Protocol(
            "hrnet",
            Measure("corners", 10, levels=(8, 10)),
            {"points19": Measure("bbox", 10, levels=(8, 10))},
            box="centre and scale from a file, square of 1.25 times",
            failures="none dropped",
            decode="maximum of a 64-px heat map, a quarter cell towards the higher neighbour",
            checkpoint="best epoch on the test split",
            notes="no AUC was computed; 19 points by the box size of the file",
        ),
        Protocol(
            "mmpose",
            Measure("corners", 10),
            {"points19": Measure("bbox", 10)},
            box="centre and scale from a file, square of 1.25 times",
            failures="none dropped",
            decode="as configured, heat map with a shift where the mirrored image takes part",
            flip="mean with the mirrored image",
            checkpoint="best epoch on the test split",
            notes="NME only, no FR and no AUC were computed",
        ),
        Protocol(
            "pipnet",
            Measure("corners", 10, space="stretched to box"),
            {
                "points68": Measure("corners", 10, truth="integer", space="stretched to landmarks"),
                "points19": Measure("bbox", 10, space="stretched to box"),
            },
            auc_rule="step",
            box="68 points: tight box of the true landmarks, 1.1 times; 98 points: official box, 1.2 times; both cut "
            "to the image and stretched to a square",
            failures="none dropped",
            decode="cell of the highest score and its offset, mean with the neighbours' answers",
            checkpoint="last epoch",
            notes="true points are cut to whole pixels for 68 points only; the box's own rounding and its cut at the "
            "image's edge are not imitated",
        ),
        Protocol(
            "star",
            Measure("corners", 10),
            {"points68": Measure("corners", 5), "points29": Measure("pupils", 10)},
            auc_rule="step",
            skip_first=1,
            box="centre and scale from a file",
            failures="none dropped",
            decode="expectation over the heat map, moving average of the weights",
            checkpoint="best epoch on the test split",
            notes="the list's first line is read as a header, so that the first face is never seen",
        ),
        Protocol(
            "adnet",
            Measure("corners", 10),
            {"points29": Measure("pupils", 10)},
            nme_offset=-1,
            box="centre and scale from a file",
            failures="none dropped",
            decode="expectation over the heat map",
            checkpoint="released weights",
            notes="the sum of NMEs is divided by the last index",
        ),
    )
}


def summary(protocol: Protocol, nmes: np.ndarray, threshold: float) -> dict[str, float]:
    """Return n, and nme, its percentiles, auc and fr of faces' NMEs (N,), all in percent.

    NaN is a face without a prediction: it is a failure and adds nothing to the area; NME and percentiles are those of
    the other faces.

    Raises:
        ValueError: no face was predicted.
    """
    nmes = np.asarray(nmes, dtype=np.float64)
    answered = nmes[np.isfinite(nmes)]
    if protocol.auc_rule == "histogram":
        auc, rate = auc_fr_histogram(answered, threshold)
    elif protocol.auc_rule == "step":
        auc, rate = auc_fr_step(answered, threshold)
    else:
        auc, rate = auc_exact(answered, threshold), failure_rate(answered, threshold)
    count, share = len(nmes), len(answered) / len(nmes)
    if share < 1:
        auc, rate = auc * share, 100 - (100 - rate) * share
    if protocol.fr_offset:
        rate *= count / (count + protocol.fr_offset)
    mean = float(answered.mean())
    if protocol.nme_offset:
        divided = len(answered) + protocol.nme_offset
        mean = mean * len(answered) / divided if divided > 0 else float("nan")  # as that evaluator: one face has none
    return {"n": count, "nme": mean, **percentiles(answered), "auc": auc, "fr": rate}


def evaluate(
    protocol: Protocol | str,
    pred: np.ndarray,
    gt: np.ndarray,
    scheme: LandmarkScheme,
    dataset: str,
    bbox: np.ndarray | None = None,
    visible: np.ndarray | None = None,
    subsets: Mapping[str, np.ndarray] | None = None,
    norm: str | None = None,
) -> Figures:
    """Score points by a protocol.

    Args:
        protocol: the protocol or its name.
        pred: (N, L, 2) predicted points, original image pixels; NaN for a face without a prediction.
        gt: (N, L, 2) true points; NaN where a point is not annotated, which then counts nowhere.
        scheme: of the points.
        dataset: name in the protocol's measures.
        bbox: (N, 4) x, y, width, height, for normalisers and spaces that need the box.
        visible: (N, L), used where the protocol looks at visibility.
        subsets: name -> indices or mask of faces.
        norm: another normaliser than the protocol's.

    Returns:
        protocol, norm, threshold, n, missing (faces without a prediction), the figures of `summary`, subset -> figures
        (of the subsets with a predicted face), "nme_per_point" (L,) and "npe90_per_point", ... (L,) of predicted faces,
        "per_image" (n,), "kept" (N,) bool, faces that count, and "share" level -> percent of faces at or below it.

    Raises:
        ValueError: unknown protocol, no face left, or arrays that do not fit.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol}")
        protocol = PROTOCOLS[protocol]
    measure = protocol.measure(dataset, scheme.num_points)
    pred, truth, bbox = measured(protocol, measure, pred, gt, bbox)
    errors = point_errors(pred, truth, normaliser(norm or measure.norm, truth, scheme, bbox))
    weight = np.isfinite(truth).all(axis=-1).astype(np.float64)
    if visible is not None and protocol.visibility:
        weight = weight * np.asarray(visible, np.float64)
    nmes = nme(errors, weight, measure.divisor)
    nmes[np.isnan(pred).any(axis=(1, 2))] = np.nan
    kept = np.arange(len(nmes)) >= protocol.skip_first
    if protocol.missing == "drop":
        kept &= np.isfinite(nmes)
    masks = {name: kept & _mask(rows, len(nmes)) for name, rows in (subsets or {}).items()}
    masks = {name: mask for name, mask in masks.items() if np.isfinite(nmes[mask]).any()}
    answered = errors[kept & np.isfinite(nmes)]
    if not len(answered):
        raise ValueError("no face to evaluate")
    report: Figures = {
        "protocol": protocol.name, "norm": norm or measure.norm, "threshold": measure.threshold,
        "missing": int(np.isnan(nmes[kept]).sum()),
        **summary(protocol, nmes[kept], measure.threshold),
        "subset": {k: summary(protocol, nmes[mask], measure.threshold) for k, mask in masks.items()},
        "nme_per_point": np.nanmean(answered, axis=0),
        "per_image": nmes[kept],
        "kept": kept,
        "share": {level: float(100 * (nmes[kept] <= level).mean()) for level in measure.levels},
    }  # fmt: skip
    return report | {f"npe{q}_per_point": np.nanpercentile(answered, q, axis=0) for q in (90, 95, 99)}


def measured(
    protocol: Protocol, measure: Measure, pred: np.ndarray, gt: np.ndarray, bbox: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return predictions, truth (N, L, 2) and boxes (N, 4) as a protocol compares them.

    Raises:
        ValueError: the space needs boxes and there are none.
    """
    pred, gt = np.asarray(pred, dtype=np.float64), np.asarray(gt, dtype=np.float64)
    if protocol.decimals is not None:
        pred = np.round(pred, protocol.decimals)
    if measure.truth == "integer":
        gt = np.trunc(gt)
    if measure.space == "image":
        return pred, gt, bbox
    if measure.space == "stretched to landmarks":
        sides = np.nanmax(gt, axis=1) - np.nanmin(gt, axis=1)
    elif bbox is None:
        raise ValueError(f"protocol {protocol.name} needs bbox (N, 4): x, y, width, height")
    else:
        sides = np.asarray(bbox, dtype=np.float64)[:, 2:]
    stretched = None if bbox is None else np.asarray(bbox, dtype=np.float64) / np.tile(sides, 2)
    return pred / sides[:, None], gt / sides[:, None], stretched


def _mask(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the mask (count,) of faces that are given by indices or by a mask."""
    rows = np.asarray(rows)
    if rows.dtype == bool:
        return rows
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    return mask
