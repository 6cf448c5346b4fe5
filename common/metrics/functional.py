"""Landmark metrics as pure functions on NumPy arrays, in float64. N faces, L landmarks. All rates in percent."""

from __future__ import annotations

import numpy as np

from common.schemes import LandmarkScheme

NORMALISERS = ("corners", "pupils", "eye_centres", "lnd_bbox", "bbox", "height", "diagonal")
HISTOGRAM_BINS = 10_000  # of the published histogram rule for the AUC
CURVE_STEP = 0.01  # percent, between the samples of the published step rule for the AUC


def normaliser(name: str, gt: np.ndarray, scheme: LandmarkScheme, bbox: np.ndarray | None = None) -> np.ndarray:
    """Return the length (N,) by which each face's errors are divided, in the points' pixels.

    Args:
        name: corners (outer eye corners), pupils (means of the scheme's eye points), eye_centres (middles of each
            eye's two corners), lnd_bbox (root of the area of the landmarks' tight box), bbox (the same of the given
            box), height or diagonal of the given box.
        gt: (N, L, 2) ground truth; NaN where a point is not annotated.
        scheme: of the points.
        bbox: (N, 4) x, y, width, height; for bbox, height and diagonal.

    Raises:
        ValueError: unknown name, or the box is needed and missing.
    """
    gt = np.asarray(gt, dtype=np.float64)[..., :2]
    match name:
        case "corners":
            left, right = scheme.corners
            return np.linalg.norm(gt[:, left] - gt[:, right], axis=-1)
        case "pupils":
            first, second = (gt[:, list(group)].mean(axis=1) for group in scheme.pupils)
            return np.linalg.norm(first - second, axis=-1)
        case "eye_centres":
            lids = (scheme.curve(f"{side}_eye_upper").points for side in ("left", "right"))
            first, second = ((gt[:, lid[0]] + gt[:, lid[-1]]) / 2 for lid in lids)
            return np.linalg.norm(first - second, axis=-1)
        case "lnd_bbox":
            return np.sqrt(np.prod(np.nanmax(gt, axis=1) - np.nanmin(gt, axis=1), axis=-1))
    if name not in NORMALISERS:
        raise ValueError(f"normaliser must be one of {', '.join(NORMALISERS)}, got {name}")
    if bbox is None:
        raise ValueError(f"normaliser {name} needs bbox (N, 4): x, y, width, height")
    width, height = np.asarray(bbox, dtype=np.float64)[:, 2:].T
    return {"bbox": np.sqrt(width * height), "height": height, "diagonal": np.hypot(width, height)}[name]


def point_errors(pred: np.ndarray, gt: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """Return the error of each point (N, L) in percent of the face's normaliser (N,).

    Raises:
        ValueError: shapes differ, or a normaliser is not positive.
    """
    pred, gt = np.asarray(pred, dtype=np.float64), np.asarray(gt, dtype=np.float64)
    if pred.shape != gt.shape:
        raise ValueError(f"prediction {pred.shape} and ground truth {gt.shape} differ in shape")
    norm = np.asarray(norm, dtype=np.float64)
    if not (norm > 0).all():
        raise ValueError(f"normaliser of face {int(np.argmin(norm > 0))} is not positive")
    return 100 * np.linalg.norm(pred - gt, axis=-1) / norm[:, None]


def nme(errors: np.ndarray, weight: np.ndarray | None = None, divisor: int | None = None) -> np.ndarray:
    """Return each face's mean error (N,).

    Args:
        errors: (N, L).
        weight: (N, L), 0 for points that do not count; None for all.
        divisor: divide the sum by this number instead of by the sum of weights (68 for MERL-RAV, where fewer points
            are annotated).
    """
    if weight is None:
        weight = np.ones_like(errors)
    total = np.where(weight > 0, errors * weight, 0.0).sum(axis=1)
    return total / (weight.sum(axis=1) if divisor is None else divisor)


def failure_rate(nmes: np.ndarray, threshold: float) -> float:
    """Return the share of faces with NME above the threshold; NaN (no prediction) is a failure."""
    _check(nmes, threshold)
    return float(100 * (1 - (nmes <= threshold).mean()))


def auc_exact(nmes: np.ndarray, threshold: float) -> float:
    """Return the exact area under the cumulative error curve from 0 to the threshold, divided by the threshold."""
    _check(nmes, threshold)
    return float(100 * np.nan_to_num(np.clip(1 - nmes / threshold, 0, None)).mean())


def ced(nmes: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the share of faces (in 0..1) whose NME is at most each level."""
    return np.searchsorted(np.sort(nmes), np.asarray(levels), side="right") / len(nmes)


def simpson_average(y: np.ndarray, x: np.ndarray) -> float:
    """Return Simpson's integral of samples at uneven x; for an even count the mean of both ways to end by a trapezoid.

    This is the rule that older numerical libraries had as their default; current ones treat an even count otherwise,
    which changes published AUCs in the fourth digit.
    """
    count = len(x)
    if count < 2:
        return 0.0
    if count % 2:
        return _simpson_odd(y, x)
    first = _simpson_odd(y[:-1], x[:-1]) + 0.5 * (x[-1] - x[-2]) * (y[-1] + y[-2])
    second = _simpson_odd(y[1:], x[1:]) + 0.5 * (x[1] - x[0]) * (y[1] + y[0])
    return 0.5 * (first + second)


def _simpson_odd(y: np.ndarray, x: np.ndarray) -> float:
    """Return the composite Simpson integral of an odd number of samples, each parabola through three of them."""
    if len(x) < 3:
        return 0.0
    step = np.diff(x)
    a, b = step[0::2], step[1::2]
    y0, y1, y2 = y[0:-2:2], y[1:-1:2], y[2::2]
    both = a + b
    return float(np.sum(both / 6 * (y0 * (2 - b / a) + y1 * both**2 / (a * b) + y2 * (2 - a / b))))


def auc_fr_histogram(nmes: np.ndarray, threshold: float, bins: int = HISTOGRAM_BINS) -> tuple[float, float]:
    """Return AUC and FR by the rule of binned reports: a histogram's cumulative curve and Simpson's integral.

    The histogram spans the smallest to the largest NME; each count stands at its bin's left edge, and edges below the
    threshold are kept. The part of the axis below the smallest NME adds nothing, the part from the last kept edge to
    the threshold adds its length when all faces lie below.
    """
    _check(nmes, threshold)
    counts, edges = np.histogram(nmes, bins=bins)
    y, x = np.cumsum(counts) / len(nmes), edges[:-1]
    kept = x < threshold
    x, y = x[kept], y[kept]
    if len(x) == 0:
        return 0.0, 100.0
    area = 100 / threshold * simpson_average(y, x)
    if x[-1] < threshold and y[-1] == 1:
        area += 100 * (threshold - x[-1]) / threshold
    return float(area), float(100 * (1 - y[-1]))


def auc_fr_step(nmes: np.ndarray, threshold: float, step: float = CURVE_STEP) -> tuple[float, float]:
    """Return AUC and FR by the rule that samples the cumulative curve from 0 in steps and integrates by Simpson's rule.

    The samples are those of `arange(0, t + step, step)` on fractions, where rounding may add one beyond the threshold
    (at 5 % it does, at 8 and 10 % it does not); curve, area and FR then reach that far, as in the published figures.
    """
    _check(nmes, threshold)
    levels = np.arange(0, threshold / 100 + step / 100, step / 100)
    curve = ced(np.asarray(nmes) / 100, levels)
    return float(100 * simpson_average(curve, levels) / (threshold / 100)), float(100 * (1 - curve[-1]))


def percentiles(nmes: np.ndarray, levels: tuple[int, ...] = (90, 95, 99)) -> dict[str, float]:
    """Return "nme_p90", ... by linear interpolation."""
    return {f"nme_p{level}": float(np.percentile(nmes, level)) for level in levels}


def _check(nmes: np.ndarray, threshold: float) -> None:
    if len(nmes) == 0:
        raise ValueError("no face to evaluate")
    if threshold <= 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
