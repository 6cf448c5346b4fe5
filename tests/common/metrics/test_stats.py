"""Uncertainty against hand-made numbers: intervals, paired comparison, least detectable difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.metrics.protocols import evaluate
from common.metrics.stats import (
    bootstrap_interval,
    figures_per_face,
    least_difference,
    metric_intervals,
    paired_bootstrap,
)
from common.schemes import IBUG68
from tests.conftest import SHARED, needs_shared


def test_the_draws_are_those_of_all_records() -> None:
    """Figures that were written before keep their intervals; written by a loop over the generator's row numbers."""
    values = np.random.default_rng(0).gamma(2, 2, 330)
    assert bootstrap_interval(values, resamples=10_000) == pytest.approx((3.5805591921602344, 4.144341487814134))
    assert bootstrap_interval(values[:1]) == (values[0], values[0])


def test_bounds_of_two_faces() -> None:
    """Of two faces, 0 and 10, a resample's mean is 0, 5 or 10 with chances 1/4, 1/2, 1/4."""
    assert bootstrap_interval(np.array([0.0, 10.0]), level=40) == (5.0, 5.0)
    assert bootstrap_interval(np.array([0.0, 10.0]), level=60) == (0.0, 10.0)


def test_interval_is_that_of_the_normal_law() -> None:
    """For many faces of standard deviation 2 the interval is the mean +- 1.96 * 2 / sqrt(n)."""
    values = np.random.default_rng(4).normal(5, 2, 1600)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 40
    assert low == pytest.approx(values.mean() - half, abs=0.008)
    assert high == pytest.approx(values.mean() + half, abs=0.008)
    narrow = bootstrap_interval(values, level=50.0)
    assert (narrow[1] - narrow[0]) / (high - low) == pytest.approx(0.6745 / 1.96, abs=0.03)
    with pytest.raises(ValueError, match="needs values and a level"):
        bootstrap_interval(np.array([]))
    with pytest.raises(ValueError, match="needs values and a level"):
        bootstrap_interval(values, level=100)


def test_a_face_without_answer_fails_and_adds_no_area() -> None:
    parts = figures_per_face(np.array([2.0, 4.0, 12.0, np.nan]), 10)
    np.testing.assert_allclose(parts[:, 1], [0, 0, 100, 100])
    np.testing.assert_allclose(parts[:, 2], [80, 60, 0, 0])
    assert np.isnan(parts[3, 0])


def test_intervals_of_all_figures_hold_them() -> None:
    nmes = np.concatenate([np.random.default_rng(2).gamma(4, 1.0, 300), [30.0, np.nan]])
    found = metric_intervals(nmes, 8)
    parts = figures_per_face(nmes, 8)
    for column, name in enumerate(("nme", "fr", "auc")):
        low, high = found[name]
        assert low < np.nanmean(parts[:, column]) < high, name


def test_intervals_of_answered_faces_are_those_of_each_figure() -> None:
    nmes = np.random.default_rng(3).gamma(4, 1.0, 50)
    found = metric_intervals(nmes, 4)
    for column, name in enumerate(("nme", "fr", "auc")):
        assert found[name] == pytest.approx(bootstrap_interval(figures_per_face(nmes, 4)[:, column]), rel=1e-12), name


def test_no_failure_is_not_a_failure_rate_of_nought() -> None:
    """0 of 100 faces: the exact 95 % bound is 1 - 0.025 ** (1 / 100) = 3.62 %; a resample would say 0."""
    assert metric_intervals(np.full(100, 3.0), 8)["fr"] == pytest.approx((0.0, 3.6217), abs=1e-3)
    assert metric_intervals(np.full(100, 9.0), 8)["fr"] == pytest.approx((96.3783, 100.0), abs=1e-3)
    with pytest.raises(ValueError, match="needs values"):
        metric_intervals(np.full(3, np.nan), 8)


def test_paired_differences_are_sharper_than_intervals() -> None:
    """Methods 0.3 apart on faces of spread 3 overlap by far, yet the difference on the same faces is certain."""
    hard = np.random.default_rng(6).gamma(2, 2.0, 400)
    first, second = hard + np.random.default_rng(7).normal(0, 0.2, 400) + 0.3, hard
    found = paired_bootstrap(first, second, 10)["nme"]
    assert (
        found.difference == pytest.approx(0.3, abs=0.03)
        and found.separable
        and found.verdict == "significantly different"
    )
    assert found.low == pytest.approx(found.difference - 1.96 * (first - second).std() / 20, abs=0.003)
    assert found.correlation > 0.99 and found.n == 400
    assert bootstrap_interval(first)[0] < bootstrap_interval(second)[1]


def test_equal_methods_are_not_separable() -> None:
    rng = np.random.default_rng(8)
    hard = rng.gamma(2, 2.0, 300)
    found = paired_bootstrap(hard + rng.normal(0, 1, 300), hard + rng.normal(0, 1, 300), 10)
    assert all(
        part.verdict == "not significantly different" and part.low <= part.difference <= part.high
        for part in found.values()
    )
    same = paired_bootstrap(hard, hard, 10)["nme"]
    assert (same.difference, same.low, same.high) == (0, 0, 0) and not same.separable


def test_paired_failures_by_hand() -> None:
    """Two of four faces fail for one method and none for the other: 50 points; NME is over faces both answered."""
    found = paired_bootstrap(np.array([1.0, 2, 11, np.nan]), np.array([1.0, 1, 3, 3]), 10)
    assert found["fr"].difference == pytest.approx(50) and found["fr"].n == 4
    assert found["nme"].difference == pytest.approx((0 + 1 + 8) / 3) and found["nme"].n == 3
    assert found["auc"].difference == pytest.approx((0 - 10 - 70 - 70) / 4)
    assert math.isnan(found["fr"].correlation)
    with pytest.raises(ValueError, match="same faces, got 4 and 3"):
        paired_bootstrap(np.ones(4), np.ones(3), 10)
    with pytest.raises(ValueError, match="same faces, got 3 and 4"):
        paired_bootstrap(np.ones(3), np.ones(4), 10)


def test_least_difference_by_hand() -> None:
    """Spread 2 (n - 1) over 100 faces: 1.96 * 0.2 alone, times sqrt(2 (1 - r)) for a pair."""
    values = np.tile([1.0, 5.0], 50)
    spread = values.std(ddof=1)
    assert least_difference(values) == pytest.approx(1.95996 * spread / 10, rel=1e-5)
    assert least_difference(values, 0.0) == pytest.approx(1.95996 * spread / 10 * math.sqrt(2), rel=1e-5)
    assert least_difference(values, 0.92) == pytest.approx(1.95996 * spread / 10 * 0.4, rel=1e-5)
    assert least_difference(values, count=400) == pytest.approx(1.95996 * spread / 20, rel=1e-5)
    assert least_difference(values, 1.0) == 0
    with pytest.raises(ValueError, match="correlation must lie in"):
        least_difference(values, 1.5)


@needs_shared
@pytest.mark.golden
def test_what_the_test_sets_can_show() -> None:
    """The figures that design/field.md measured: challenge +-0.26 alone, 0.12 to 0.20 paired; full 0.097."""
    table = np.load(SHARED / "golden/metrics/spiga_300wpublic_test.npz", allow_pickle=False)
    nmes = evaluate("canonical", table["pred"], table["gt"], IBUG68, "300w")["per_image"]
    hard = nmes[table["subset_ibug"]]
    assert least_difference(hard) == pytest.approx(0.26, abs=6e-3) and least_difference(nmes) == pytest.approx(
        0.097, abs=1e-3
    )
    assert (least_difference(hard, 0.9), least_difference(hard, 0.7)) == pytest.approx((0.12, 0.20), abs=6e-3)
    found = metric_intervals(hard, 8)
    assert found["nme"] == pytest.approx((4.41, 4.93), abs=0.015) and found["fr"] == pytest.approx((0.7, 7.4), abs=0.05)
