"""How sure a figure is: bootstrap over faces (seeded), paired comparison, least detectable difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 4000


def bootstrap_interval(
    values: np.ndarray, level: float = 95.0, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean of values (N,); pass differences for a paired comparison.

    Raises:
        ValueError: no values, or a level outside (0, 100).
    """
    values = np.asarray(values)
    _check(len(values), level)
    ((low, high),) = _intervals(values[:, None], level, resamples, seed)
    return low, high


def figures_per_face(nmes: np.ndarray, threshold: float) -> np.ndarray:
    """Return each face's part (N, 3) in NME, FR and AUC: their means over faces are the figures, in percent.

    NaN is a face without a prediction: a failure that adds nothing to the area. It has no error to be averaged, so it
    stays NaN in the first column.
    """
    nmes = np.asarray(nmes, dtype=np.float64)
    failed = ~(nmes <= threshold)
    area = np.nan_to_num(np.clip(1 - nmes / threshold, 0, None))
    return np.stack([nmes, 100.0 * failed, 100 * area], axis=1)


def metric_intervals(
    nmes: np.ndarray, threshold: float, level: float = 95.0, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the intervals of "nme", "fr" and "auc" of faces' NMEs (N,), percent; all from the same resamples.

    NME is that of predicted faces. Where no face or every face failed, resamples cannot differ; FR then gets the
    exact binomial bound (at 0 of n faces: 100 (1 - tail^(1/n))). AUC is the exact area.

    Raises:
        ValueError: no face was predicted, or a level outside (0, 100).
    """
    parts = figures_per_face(nmes, threshold)
    answered = parts[np.isfinite(parts[:, 0]), :1]
    _check(len(answered), level)
    columns = [1, 2] if len(answered) < len(parts) else [1, 2, 0]  # where all are, NMEs have the same draws
    rate, area, *own = _intervals(parts[:, columns], level, resamples, seed)
    mean = own[0] if own else bootstrap_interval(answered[:, 0], level, resamples, seed)
    found = {"nme": mean, "fr": rate, "auc": area}
    failures = int((parts[:, 1] > 0).sum())
    bound = 100 * ((100 - level) / 200) ** (1 / len(parts))
    if failures == 0:
        found["fr"] = (0.0, 100 - bound)
    elif failures == len(parts):
        found["fr"] = (bound, 100.0)
    return found


@dataclass(frozen=True)
class Paired:
    """Comparison of two methods on the same faces: first minus second, in percent.

    Attributes:
        difference: mean difference.
        low, high: its interval.
        correlation: of the two methods' figures over faces; NaN where one does not vary.
        n: faces.
    """

    difference: float
    low: float
    high: float
    correlation: float
    n: int

    @property
    def separable(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """What a table prints."""
        return "significantly different" if self.separable else "not significantly different"


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, threshold: float, level: float = 95.0, resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Paired]:  # fmt: skip
    """Compare two methods on the same faces.

    Args:
        first: (N,) NMEs in percent; NaN for a face without a prediction.
        second: (N,) of the same faces in the same order.
        threshold: of FR and AUC.
        level: of the intervals, percent.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        "nme" (over faces that both predicted), "fr" and "auc" (over all faces).

    Raises:
        ValueError: the numbers of faces differ, or no face was predicted by both.
    """
    if len(first) != len(second):
        raise ValueError(f"a paired comparison needs the same faces, got {len(first)} and {len(second)}")
    one, two = figures_per_face(first, threshold), figures_per_face(second, threshold)
    both = np.isfinite(one[:, 0]) & np.isfinite(two[:, 0])
    _check(int(both.sum()), level)
    return {
        "nme": _paired(one[both, 0], two[both, 0], level, resamples, seed),
        "fr": _paired(one[:, 1], two[:, 1], level, resamples, seed),
        "auc": _paired(one[:, 2], two[:, 2], level, resamples, seed),
    }


def _paired(first: np.ndarray, second: np.ndarray, level: float, resamples: int, seed: int) -> Paired:
    low, high = bootstrap_interval(first - second, level, resamples, seed)
    varies = first.std() > 0 and second.std() > 0
    correlation = float(np.corrcoef(first, second)[0, 1]) if varies else math.nan
    return Paired(float((first - second).mean()), low, high, correlation, len(first))


def least_difference(
    nmes: np.ndarray, correlation: float | None = None, level: float = 95.0, count: int | None = None
) -> float:
    """Return the least difference of mean NME that a test set can show.

    Args:
        nmes: (N,) NMEs of a method on the set, for their spread.
        correlation: None: against a single printed figure, without its faces (half the interval of this method's
            mean). A number: against a method of equal spread whose NMEs correlate with these by so much over the same
            faces; 0 is a method on other faces of the same number.
        level: of the interval that must leave out 0, percent.
        count: faces of the test set; None takes N.

    Raises:
        ValueError: fewer than two predicted faces, a level outside (0, 100), or a correlation outside [-1, 1].
    """
    values = np.asarray(nmes, dtype=np.float64)
    values = values[np.isfinite(values)]
    _check(len(values) - 1, level)
    if correlation is not None and not -1 <= correlation <= 1:
        raise ValueError(f"correlation must lie in [-1, 1], got {correlation}")
    half = NormalDist().inv_cdf(0.5 + level / 200) * values.std(ddof=1) / math.sqrt(count or len(values))
    return float(half if correlation is None else half * math.sqrt(2 * (1 - correlation)))


def _intervals(values: np.ndarray, level: float, resamples: int, seed: int) -> list[tuple[float, float]]:
    """Return the interval of the mean of each column of values (N, K), over the same resampled faces for all K.

    The draws depend on N, the number of resamples and the seed only, so that equally long tables are paired.
    """
    if len(values) == 1:
        return [(float(value), float(value)) for value in values[0]]
    rng, count = np.random.default_rng(seed), len(values)
    # How often each face was drawn, times the values: a mean for each column without a copy of the drawn values.
    draws = (np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(resamples))
    # einsum: a product this small would only make the threads of BLAS spin.
    means = np.stack([np.einsum("n,nk->k", drawn, values) for drawn in draws]) / count
    tail = (100 - level) / 2
    return [(float(low), float(high)) for low, high in np.percentile(means, [tail, 100 - tail], axis=0).T]


def _check(count: int, level: float) -> None:
    if count <= 0 or not 0 < level < 100:
        raise ValueError(f"needs values and a level in (0, 100), got {max(count, 0)} values and level {level}")
