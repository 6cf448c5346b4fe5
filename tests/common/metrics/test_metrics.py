"""Metrics against published reports (golden/metrics), against the official evaluator, and by their properties."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from common.metrics import landmark
from common.metrics.functional import (
    HISTOGRAM_BINS,
    NORMALISERS,
    auc_exact,
    auc_fr_histogram,
    ced,
    failure_rate,
    nme,
    normaliser,
    point_errors,
    simpson_average,
)
from common.metrics.landmark import FaceCollector
from common.metrics.pose import SUCCESS_BINS, label_accuracy, pose_report, success_rates
from common.metrics.protocols import PROTOCOLS, evaluate
from common.metrics.stats import bootstrap_interval
from common.schemes import AFLW19, COFW29, IBUG68, WFLW98
from common.types import FaceBatch, Prediction
from tests.common.evaluations import evaluation
from tests.conftest import SHARED, needs_shared

LIMIT = 1e-9
SETS = ("300wpublic", "300wprivate", "cofw68")


def load(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    folder = SHARED / "golden" / "metrics"
    arrays = dict(np.load(folder / f"spiga_{name}_test.npz", allow_pickle=False))
    return arrays, json.loads((folder / f"spiga_{name}_test_metrics.json").read_text())


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", SETS)
def test_every_published_landmark_figure(name: str) -> None:
    arrays, published = load(name)
    subsets = {key.removeprefix("subset_"): value for key, value in arrays.items() if key.startswith("subset_")}
    found = evaluate("spiga", arrays["pred"], arrays["gt"], IBUG68, name, arrays["bbox"], arrays["visible"], subsets)
    expected = published["landmarks"]
    assert found["norm"] == expected["nme_norm"] and found["threshold"] == expected["nme_thr"]
    np.testing.assert_allclose(found["per_image"], arrays["nme_per_image"], atol=LIMIT, rtol=0)
    for key in ("nme", "nme_p90", "nme_p95", "nme_p99", "auc", "fr"):
        assert found[key] == pytest.approx(expected[key], abs=LIMIT), key
    assert set(expected.get("subset", {})) == set(subsets)
    for subset, figures in expected.get("subset", {}).items():
        for key, value in figures.items():
            assert found["subset"][subset][key] == pytest.approx(value, abs=LIMIT), (subset, key)
    ids = [str(i) for i in arrays["landmark_ids"]]
    tables = {"nme_per_ldm": "nme_per_point"} | {f"npe{q}_per_ldm": f"npe{q}_per_point" for q in (90, 95, 99)}
    for theirs, ours in tables.items():
        assert set(expected[theirs]) == set(ids)
        np.testing.assert_allclose(found[ours], [expected[theirs][i] for i in ids], atol=LIMIT, rtol=0)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", SETS)
def test_every_published_pose_figure(name: str) -> None:
    arrays, published = load(name)
    found, expected = pose_report(arrays["headpose_pred"], arrays["headpose_gt"]), published["headpose"]
    assert set(expected) == set(found)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert set(value) == set(found[key])
            for level, share in value.items():
                assert found[key][level] == pytest.approx(share, abs=LIMIT), (key, level)
        else:
            np.testing.assert_allclose(found[key], value, atol=LIMIT, rtol=0, err_msg=key)


@needs_shared
@pytest.mark.golden
def test_exact_area_lies_beside_the_histogram_rule() -> None:
    arrays, _ = load("300wpublic")
    found = evaluate("canonical", arrays["pred"], arrays["gt"], IBUG68, "300w")
    assert found["auc"] == pytest.approx(62.720455, abs=1e-6)
    assert found["nme"] == pytest.approx(2.993687267871256, abs=LIMIT)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(("scheme", "count"), [(WFLW98, 98), (IBUG68, 68), (COFW29, 29)])
def test_official_evaluator_of_the_awing_release(scheme: Any, count: int) -> None:
    ops = np.load(SHARED / "golden/awing/ops.npz", allow_pickle=False)
    cells = ops[f"nme{count}_cells"].astype(np.float64)
    pred = (cells + [0.75, 0.5]) * 4  # the right neighbour is higher: a quarter cell to the right
    gt = np.repeat(ops[f"landmarks{count}"][None], 2, axis=0)
    found = evaluate("awing", pred, gt, scheme, "any")
    np.testing.assert_allclose(found["per_image"] / 100, ops[f"nme{count}_each"], atol=1e-6)


@needs_shared
@pytest.mark.golden
def test_official_evaluator_of_the_awing_release_19() -> None:
    ops = np.load(SHARED / "golden/awing/ops.npz", allow_pickle=False)
    gt, corners = ops["nme19_gt"][None, :19], ops["nme19_gt"][19:]
    bbox = np.concatenate([corners[0], corners[1] - corners[0]])[None]
    pred = (ops["nme19_cells"] + [0.75, 0.5]) * 4
    found = evaluate("awing", pred, gt, AFLW19, "any", bbox)
    assert found["per_image"].sum() / 100 == pytest.approx(float(ops["nme19_sum"]), abs=1e-6)


def test_known_figures_by_hand() -> None:
    nmes = np.array([2.0, 4.0, 12.0, np.nan])
    assert failure_rate(nmes, 10) == 50
    assert auc_exact(nmes, 10) == pytest.approx(100 * (0.8 + 0.6) / 4)
    np.testing.assert_array_equal(ced(np.array([1.0, 2, 3]), np.array([0, 2, 9])), [0, 2 / 3, 1])
    with pytest.raises(ValueError, match="no face"):
        failure_rate(np.array([]), 10)
    with pytest.raises(ValueError, match="threshold must be positive, got 0"):
        auc_exact(nmes, 0)


@given(st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_simpson_is_exact_for_parabolas(half: int, seed: int) -> None:
    x = np.sort(np.random.default_rng(seed).uniform(0, 5, 2 * half + 1))
    x[1:] += np.arange(1, len(x)) * 0.01
    exact = (x[-1] ** 3 - x[0] ** 3) / 3
    assert simpson_average(x**2, x) == pytest.approx(exact, rel=1e-9, abs=1e-9)


@given(st.floats(0.1, 50), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_nme_does_not_depend_on_the_scale(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gt, noise = rng.uniform(0, 200, (3, 68, 2)), rng.normal(size=(3, 68, 2))
    box = np.array([[0, 0, 100.0, 80]] * 3)
    for name in NORMALISERS:
        one = nme(point_errors(gt + noise, gt, normaliser(name, gt, IBUG68, box)))
        big, norm = gt * scale, normaliser(name, gt * scale, IBUG68, box * scale)
        np.testing.assert_allclose(nme(point_errors(big + noise * scale, big, norm)), one, rtol=1e-9)
        assert not nme(point_errors(gt, gt, normaliser(name, gt, IBUG68, box))).any()


def test_points_without_weight_and_the_divisor() -> None:
    errors, weight = np.array([[1.0, 3.0, np.nan]]), np.array([[1.0, 1.0, 0.0]])
    assert nme(errors, weight) == 2
    assert nme(errors, weight, divisor=4) == 1
    with pytest.raises(ValueError, match="normaliser of face 1 is not positive"):
        point_errors(np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="normaliser must be one of"):
        normaliser("ears", np.zeros((1, 68, 2)), IBUG68)
    with pytest.raises(ValueError, match="protocol must be one of"):
        evaluate("mine", np.zeros((1, 68, 2)), np.zeros((1, 68, 2)), IBUG68, "x")


def make_batch(gt: np.ndarray, ids: list[str], subsets: np.ndarray) -> FaceBatch:
    points = torch.from_numpy(gt).float()
    n = len(gt)
    norm = torch.from_numpy(normaliser("corners", gt, IBUG68)).float()
    matrix = torch.eye(2, 3).repeat(n, 1, 1)
    return FaceBatch(
        torch.zeros(n, 3, 8, 8, dtype=torch.uint8), points, torch.ones(n, 68), points, matrix, norm,
        torch.ones(n, 68, dtype=torch.bool), torch.from_numpy(subsets), torch.full((n, 3), torch.nan), ids, ("a", "b"),
    )  # fmt: skip


def collected(pred: torch.Tensor, gt: np.ndarray, subsets: np.ndarray, parts: list[slice]) -> FaceCollector:
    collector = FaceCollector(IBUG68, 5)
    for rows in parts:
        batch = make_batch(gt[rows], ["face"] * len(gt[rows]), subsets[rows])
        batch.rows = torch.arange(len(gt))[rows]
        collector.add(batch, Prediction(pred[rows]))
    return collector


def test_figures_are_the_same_in_one_batch_in_many_and_on_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are told apart by their row, not by their name; each counts once, in the data set's order."""
    rng = np.random.default_rng(0)
    gt = rng.uniform(0, 200, (7, 68, 2))
    pred = torch.from_numpy(gt + rng.normal(size=gt.shape) * 4)
    subsets = np.zeros((7, 2), bool)
    subsets[:3, 0] = True
    one = collected(pred, gt, subsets, [slice(0, 7)]).result()
    many = collected(pred, gt, subsets, [slice(0, 2), slice(2, 7)]).result()
    assert len(one) == 7, "equal names are not equal faces"
    assert many.metrics() == pytest.approx(one.metrics())
    expected = evaluate(PROTOCOLS["canonical"], pred.numpy(), gt, IBUG68, "x")
    assert one.metrics()["nme"] == pytest.approx(expected["nme"], rel=1e-5)  # the batch holds float32 points
    assert not any(key.startswith("b/") for key in one.metrics()), "an empty subset is left out"
    assert one.metrics()["a/nme"] == pytest.approx(one.nme[:3].mean()) == pytest.approx(one.subset("a").mean())
    # As a distributed sampler deals them out to two devices: in turn, the first face once more at the end.
    first = collected(pred, gt, subsets, [slice(0, 4, 2), slice(4, 7, 2)])
    second = collected(pred, gt, subsets, [slice(1, 7, 2), slice(0, 1)])
    monkeypatch.setattr(landmark, "gathered", lambda parts: first._parts + second._parts)
    for device in (first, second):
        np.testing.assert_array_equal(device.result().points, one.points)
    with pytest.raises(LabError, match="predicted points are"):
        replace(one, points=one.points[:, :5]).metrics()
    with pytest.raises(ValueError, match="threshold must be positive, got -1"):
        FaceCollector(IBUG68, -1)


def test_no_face_and_a_face_without_points_are_told() -> None:
    with pytest.raises(LabError, match="no face"):
        FaceCollector(IBUG68).result()
    batch = make_batch(np.ones((1, 68, 2)), ["blank"], np.zeros((1, 2), bool))
    batch.weight = torch.zeros(1, 68)
    with pytest.raises(LabError, match="blank: no point is annotated"):
        FaceCollector(IBUG68).add(batch, Prediction(torch.zeros(1, 68, 2)))


def test_a_prediction_that_is_not_finite_is_a_failure() -> None:
    found = evaluation(np.array([1.0, np.nan]), {})
    assert found.failure_rate() == 50 and found.auc() == 45 and found.metrics()["fr"] == 50


def test_bootstrap_interval_holds_the_mean_and_is_repeatable() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high and 0.15 < high - low < 0.25
    assert bootstrap_interval(values) == (low, high)


def test_a_face_at_the_threshold_is_no_failure() -> None:
    assert failure_rate(np.array([10.0, 10.5]), 10) == 50
    assert evaluation(np.array([10.0, 10.0, 10.5]), {}).metrics()["fr"] == pytest.approx(100 / 3)


def test_the_histogram_rule_leaves_out_the_edge_at_the_threshold() -> None:
    """Bins of a quarter: the second face is the first of the bin that begins at 10."""
    nmes = np.array([0.0, 10.0, HISTOGRAM_BINS / 4])
    area, failures = auc_fr_histogram(nmes, 10)
    assert failures == pytest.approx(200 / 3) and area == pytest.approx(9.75 / 10 * 100 / 3)


def test_success_and_labels_at_their_edges() -> None:
    """Bins of a quarter again: an error of 2.5 begins a bin and belongs to the level 2.5."""
    rates = success_rates(np.array([0.0, 2.5, SUCCESS_BINS / 4]))
    assert rates["2.5"] == pytest.approx(2 / 3) and rates["30"] == pytest.approx(2 / 3)
    equal, near = label_accuracy(np.array([0, 15, 30]), np.array([0, 0, 0]))
    assert (equal, near) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_points_without_annotation_do_not_count_and_all_subsets_are_kept() -> None:
    gt = np.random.default_rng(1).uniform(10, 90, (2, 68, 2))
    batch = make_batch(gt, ["a", "b"], np.array([[True, False], [False, True]]))
    assert batch.weight is not None
    batch.weight[:, :20] = 0
    pred = torch.from_numpy(gt)
    pred[:, :20] += 1000
    pred[1, 20:, 0] += 3
    collector = FaceCollector(IBUG68, 5)
    collector.add(batch, Prediction(pred))
    found = collector.result()
    assert found.nme.tolist() == pytest.approx([0, 300 / float(batch.norm[1])], abs=1e-4)
    assert {name: rows.tolist() for name, rows in found.subsets.items()} == {"a": [True, False], "b": [False, True]}
    figures = found.metrics()
    assert [figures["a/nme"], figures["b/nme"]] == pytest.approx(found.nme.tolist())
    assert [figures["a/fr"], figures["b/fr"]] == [0, 100 * (found.nme[1] > 5)]
