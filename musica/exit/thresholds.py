"""Choice of the thresholds: every combination is scored on recorded errors, without running the network again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from common.errors import LabError

USUAL_LEVELS = 41  # thresholds per iteration: one for every fortieth of the faces
MOST_COMBINATIONS = 200_000  # of thresholds, before a sweep takes minutes


@dataclass(frozen=True)
class Sweep:
    """Scores of threshold combinations; K combinations, T iterations.

    Attributes:
        exit_below: (K, T - 1).
        nme: (K,) mean over faces, percent.
        cost: (K,) mean over faces, multiply-adds.
    """

    exit_below: np.ndarray
    nme: np.ndarray
    cost: np.ndarray

    def front(self) -> np.ndarray:
        """Return the rows that no other one beats in both cost and NME, cheapest first."""
        order = np.lexsort((self.nme, self.cost))
        best, rows = np.inf, []
        for row in order:
            if self.nme[row] < best - 1e-12:
                best = self.nme[row]
                rows.append(row)
        return np.array(rows)


def usual_levels(iterations: int) -> int:
    """Return how many thresholds per iteration are tried, so that a sweep takes seconds."""
    return min(USUAL_LEVELS, int(MOST_COMBINATIONS ** (1 / (iterations - 1))))


def exit_iteration(predicted: np.ndarray, exit_below: np.ndarray) -> np.ndarray:
    """Return the index (n,) of the iteration after which each face leaves, for predicted errors (n, T)."""
    leaves = np.concatenate([predicted[:, :-1] < exit_below, np.ones((len(predicted), 1), bool)], axis=1)
    return leaves.argmax(1)


def sweep(nme: np.ndarray, predicted: np.ndarray, levels: int, costs: Sequence[float]) -> Sweep:
    """Score all combinations of `levels` thresholds an iteration, from nobody leaves to everybody leaves.

    Args:
        nme: (n, T) percent.
        predicted: (n, T).
        levels: thresholds per iteration; they are quantiles of the predicted error.
        costs: (T,) multiply-adds of a face that leaves after each iteration.
    """
    faces, iterations = nme.shape
    if faces == 0:
        raise LabError("no face to choose thresholds on")
    if levels < 2:
        raise LabError(f"levels must be at least 2 (nobody leaves, everybody leaves), got {levels}")
    grids = []
    for t in range(iterations - 1):
        values = predicted[:, t]
        spread = max(float(np.ptp(values)), 1e-6)
        inner = np.quantile(values, np.linspace(0, 1, levels)[1:-1])
        grids.append(np.concatenate([[values.min() - spread], inner, [values.max() + spread]]))
    # Sums over faces are matrix products of who is still there (n, combinations so far) and who leaves (n, levels).
    there, total, taken = np.ones((faces, 1)), np.zeros(1), np.zeros(1)
    for t, grid in enumerate(grids):
        leaves = (predicted[:, t, None] < grid).astype(float)
        stays = 1 - leaves
        gain, spent = leaves * nme[:, t, None], leaves * costs[t]
        if t == iterations - 2:
            gain, spent = gain + stays * nme[:, -1:], spent + stays * costs[-1]
        total = (total[:, None] + there.T @ gain).reshape(-1)
        taken = (taken[:, None] + there.T @ spent).reshape(-1)
        if t < iterations - 2:
            there = (there[:, :, None] * stays[:, None]).reshape(faces, -1)
    return Sweep(np.array(list(product(*grids))), total / faces, taken / faces)


def choose(found: Sweep, full_nme: float, max_loss: float) -> int:
    """Return the cheapest row whose NME is at most (1 + max_loss) times the full cascade's."""
    allowed = np.flatnonzero(found.nme <= full_nme * (1 + max_loss))
    if len(allowed) == 0:
        raise LabError(f"no thresholds keep the loss of NME under {max_loss:.1%}; allow more with --max_loss")
    return int(allowed[np.lexsort((found.nme[allowed], found.cost[allowed]))[0]])


def best_saving(nme: np.ndarray, max_loss: float, costs: Sequence[float]) -> float:
    """Return the share of multiply-adds that a rule which knew every face's true errors could save: no rule saves more.

    Each face leaves where its NME plus a price of its cost is least. A higher price saves more and costs more NME;
    between the two prices next to the limit the saving is at most on the line between them.

    Args:
        nme: (n, T) percent.
        max_loss: the mean NME may be (1 + max_loss) times the full cascade's.
        costs: (T,) multiply-adds of a face that leaves after each iteration.
    """
    faces, shares = np.arange(len(nme)), np.array(costs) / costs[-1]
    # The prices at which a face's choice changes: two of its iterations are worth the same.
    pairs = [(nme[:, a] - nme[:, b]) / (shares[b] - shares[a]) for a, b in combinations(range(nme.shape[1]), 2)]
    prices = np.unique(np.concatenate([[0.0], *(pair[pair > 0] for pair in pairs)])) + 1e-9

    def at(price: float) -> tuple[float, float]:
        out = (nme + price * shares).argmin(1)
        return float(nme[faces, out].mean()), 1 - float(shares[out].mean())

    limit = (1 + max_loss) * float(nme[:, -1].mean())
    above = bisect_right(prices, limit, key=lambda price: at(price)[0])  # the first one that costs too much
    if above == len(prices):
        return at(prices[-1])[1]
    (worse, more), (better, saving) = at(prices[above]), at(prices[above - 1])
    return saving + (more - saving) * (limit - better) / (worse - better)


def failure_threshold(nme: np.ndarray, predicted: np.ndarray, failed_above: float) -> float:
    """Return the last predicted error above which a face is flagged.

    It is the threshold with the largest difference of hit rate and false alarms (Youden's J) for faces with an NME
    above `failed_above`; without such faces, the largest predicted error that was seen.

    Args:
        nme: (n,) of the returned points.
        predicted: (n,) their predicted errors.
        failed_above: percent.
    """
    failed = nme > failed_above
    if not failed.any() or failed.all():
        return float(predicted.max())
    order = np.sort(np.unique(predicted))
    between = np.concatenate([[order[0] - 1e-6], (order[1:] + order[:-1]) / 2])
    hits = np.array([(predicted[failed] > level).mean() for level in between])
    alarms = np.array([(predicted[~failed] > level).mean() for level in between])
    return float(between[int(np.argmax(hits - alarms))])
