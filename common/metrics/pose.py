"""Head-pose metrics: angles in degrees, columns yaw, pitch, roll."""

from __future__ import annotations

from typing import Any

import numpy as np

LABELS = np.arange(-90, 91, 15)  # centres of the pose bins
SUCCESS_LEVELS = (2.5, 5, 10, 15, 30)
SUCCESS_BINS = 1000
ANGLES = ("yaw", "pitch", "roll")


def angle_errors(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return absolute differences (N, 3); angles are not wrapped, as in the published reports."""
    pred, gt = np.asarray(pred, np.float64)[:, :3], np.asarray(gt, np.float64)[:, :3]
    if pred.shape != gt.shape:
        raise ValueError(f"prediction {pred.shape} and ground truth {gt.shape} differ in shape")
    return np.abs(pred - gt)


def pose_labels(angles: np.ndarray) -> np.ndarray:
    """Return the nearest of LABELS for each angle (the lower one on a tie)."""
    return LABELS[np.abs(np.asarray(angles)[..., None] - LABELS).argmin(axis=-1)]


def label_accuracy(pred: np.ndarray, gt: np.ndarray) -> tuple[float, float]:
    """Return the shares of equal labels and of labels at most one row apart in the confusion matrix.

    The matrix has rows only for labels that occur, so that neighbours in it may be further apart in degrees.
    """
    rows = {label: row for row, label in enumerate(np.union1d(pred, gt).tolist())}
    distance = np.abs(np.array([rows[p] for p in pred.tolist()]) - np.array([rows[g] for g in gt.tolist()]))
    return float((distance == 0).mean()), float((distance <= 1).mean())


def success_rates(errors: np.ndarray) -> dict[str, float]:
    """Return the share of errors (N,) below each level, read from a histogram as the published reports do."""
    counts, edges = np.histogram(errors, bins=SUCCESS_BINS)
    y, x = np.cumsum(counts) / len(errors), edges[:-1]
    rates = {}
    for level in SUCCESS_LEVELS:
        if errors.max() <= level:
            rates[f"{level:g}"] = 1.0
            continue
        above = np.flatnonzero(x > level)
        index = int(above[0]) - 1 if above.size else len(x) - 1
        rates[f"{level:g}"] = float(y[max(index, 0)])
    return rates


def pose_report(pred: np.ndarray, gt: np.ndarray) -> dict[str, Any]:
    """Return mean absolute errors, label accuracies and success rates of poses (N, 3 or more)."""
    errors = angle_errors(pred, gt)
    accuracy = [label_accuracy(pose_labels(pred[:, k]), pose_labels(gt[:, k])) for k in range(3)]
    report = {
        "mae_ypr": errors.mean(axis=0).tolist(),
        "mae_mean": float(errors.mean(axis=0).mean()),
        "acc_label": [equal for equal, _ in accuracy],
        "acc_adj_label": [near for _, near in accuracy],
    }
    return report | {f"sr_{name}": success_rates(errors[:, k]) for k, name in enumerate(ANGLES)}
