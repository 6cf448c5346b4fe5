"""How sure a mean is: bootstrap intervals over faces, seeded."""

from __future__ import annotations

import numpy as np

RESAMPLES = 4000


def bootstrap_interval(
    values: np.ndarray, level: float = 95.0, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean of values (N,); pass differences for a paired comparison.

    Raises:
        ValueError: no values, or a level outside (0, 100).
    """
    if len(values) == 0 or not 0 < level < 100:
        raise ValueError(f"needs values and a level in (0, 100), got {len(values)} values and level {level}")
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    tail = (100 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
