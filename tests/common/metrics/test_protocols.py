"""Protocols: each one's habits against hand-made numbers, released figures, and the sizes measured for this project."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.metrics.functional import auc_fr_step
from common.metrics.protocols import PROTOCOLS, SPACES, Measure, dataset_key, evaluate, summary
from common.schemes import AFLW19, COFW29, IBUG68, WFLW98, LandmarkScheme
from tests.conftest import SHARED, needs_shared

SEEDS_AND_PEERS = ("canonical", "spiga", "awing", "dpr", "musica", "sdu", "hrnet", "pipnet", "star", "mmpose")


def flat_faces(scheme: LandmarkScheme, errors: list[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and truths (N, L, 2) whose NMEs by the outer eye corners are `errors`; None has no answer.

    The corners lie 100 pixels apart, so that a shift of 1 pixel is 1 percent.
    """
    truth = np.random.default_rng(3).uniform(20, 80, (scheme.num_points, 2)).round(2)
    left, right = scheme.corners
    truth[left], truth[right] = (10, 50), (110, 50)
    gt = np.repeat(truth[None], len(errors), 0)
    moves = np.array([np.nan if error is None else error for error in errors])
    return gt + np.stack([moves, 0 * moves], 1)[:, None], gt


@pytest.fixture(scope="module")
def public() -> dict[str, np.ndarray]:
    return dict(np.load(SHARED / "golden/metrics/spiga_300wpublic_test.npz", allow_pickle=False))


def score(protocol: str, table: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    subsets = {key.removeprefix("subset_"): value for key, value in table.items() if key.startswith("subset_")}
    return evaluate(protocol, table["pred"], table["gt"], IBUG68, "300w", table["bbox"], subsets=subsets, **more)


def test_all_protocols_are_there_and_have_whole_cards() -> None:
    assert set(SEEDS_AND_PEERS) <= set(PROTOCOLS)
    wanted = {"protocol", "data", "landmarks", "space", "truth", "normaliser", "threshold", "auc_rule", "counting",
              "failures", "box", "decode", "flip", "checkpoint", "notes", "n"}  # fmt: skip
    for name, protocol in PROTOCOLS.items():
        card = protocol.card("wflw", 98, n=2500)
        assert set(card) == wanted and card["protocol"] == name and card["n"] == 2500
        assert card["space"] in SPACES.values()
        assert all(card[key] for key in ("box", "failures", "flip", "decode", "checkpoint", "counting"))


def test_names_of_data_sets_have_one_spelling() -> None:
    assert dataset_key("300W private") == dataset_key("300wprivate") == dataset_key("300w-private") == "300w_private"
    assert PROTOCOLS["awing"].measure("any", 5) == Measure("corners", 10)
    assert dataset_key("MERL-RAV") == "merlrav" and dataset_key("WFLW") == "wflw"
    assert PROTOCOLS["canonical"].measure("300W", 68) == PROTOCOLS["canonical"].measure("300wpublic", 68)


@pytest.mark.parametrize(
    ("protocol", "dataset", "scheme", "norm", "threshold"),
    [
        ("canonical", "wflw", WFLW98, "corners", 10),
        ("canonical", "300w", IBUG68, "corners", 8),
        ("canonical", "300w_private", IBUG68, "corners", 8),
        ("spiga", "wflw", WFLW98, "corners", 10),
        ("spiga", "any", COFW29, "corners", 10),
        ("spiga", "300w", IBUG68, "corners", 8),
        ("spiga", "300w_private", IBUG68, "lnd_bbox", 7),
        ("spiga", "cofw68", IBUG68, "lnd_bbox", 7),
        ("spiga", "merlrav", IBUG68, "lnd_bbox", 7),
        ("awing", "wflw", WFLW98, "corners", 10),
        ("awing", "300w", IBUG68, "pupils", 10),
        ("awing", "cofw", COFW29, "pupils", 10),
        ("awing", "aflw", AFLW19, "bbox", 10),
        ("dpr", "wflw", WFLW98, "corners", 10),
        ("musica", "300w", IBUG68, "corners", 8),
        ("sdu", "300w_private", IBUG68, "eye_centres", 10),
        ("sdu", "aflw2000", IBUG68, "lnd_bbox", 10),
        ("sdu", "300w_lp", IBUG68, "lnd_bbox", 10),
        ("hrnet", "aflw", AFLW19, "bbox", 10),
        ("mmpose", "aflw", AFLW19, "bbox", 10),
        ("pipnet", "300w", IBUG68, "corners", 10),
        ("pipnet", "aflw", AFLW19, "bbox", 10),
        ("adnet", "wflw", WFLW98, "corners", 10),
        ("adnet", "cofw", COFW29, "pupils", 10),
        ("hrnet", "wflw", WFLW98, "corners", 10),
        ("pipnet", "wflw", WFLW98, "corners", 10),
        ("star", "300w", IBUG68, "corners", 5),
        ("star", "wflw", WFLW98, "corners", 10),
        ("star", "cofw", COFW29, "pupils", 10),
        ("mmpose", "wflw", WFLW98, "corners", 10),
    ],
)
def test_normaliser_and_threshold(
    protocol: str, dataset: str, scheme: LandmarkScheme, norm: str, threshold: float
) -> None:
    found = PROTOCOLS[protocol].measure(dataset, scheme.num_points)
    assert (found.norm, found.threshold) == (norm, threshold)


def test_canonical_by_hand() -> None:
    """Errors 2, 4, 12 and no answer: NME of the answered, FR and AUC of all four."""
    pred, gt = flat_faces(WFLW98, [2, 4, 12, None])
    found = evaluate("canonical", pred, gt, WFLW98, "wflw", subsets={"easy": np.array([0, 1])})
    assert found["nme"] == pytest.approx(6) and found["fr"] == pytest.approx(50) and found["missing"] == 1
    assert found["auc"] == pytest.approx(100 * (0.8 + 0.6) / 4) and found["n"] == 4
    assert found["subset"]["easy"]["nme"] == pytest.approx(3) and found["subset"]["easy"]["fr"] == 0


def test_star_never_sees_the_first_face() -> None:
    pred, gt = flat_faces(WFLW98, [50, 2, 4, 12])
    found = evaluate("star", pred, gt, WFLW98, "wflw", subsets={"pose": np.array([0, 3])})
    assert found["n"] == 3 and found["nme"] == pytest.approx(6) and found["fr"] == pytest.approx(100 / 3)
    assert found["subset"]["pose"]["nme"] == pytest.approx(12), "the subset loses the same face"


def test_dpr_divides_failures_by_one_too_many() -> None:
    """The released rates are 154 and 171 failures of 2500 faces, over 2501."""
    for failures, printed in ((154, 6.157537), (171, 6.837265)):
        nmes = np.full(2500, 3.0)
        nmes[:failures] = 11.0
        assert summary(PROTOCOLS["dpr"], nmes, 10)["fr"] == pytest.approx(printed, abs=5e-7)
        assert summary(PROTOCOLS["canonical"], nmes, 10)["fr"] == pytest.approx(failures / 25)


def test_adnet_divides_the_sum_by_the_last_index() -> None:
    pred, gt = flat_faces(WFLW98, [2, 4, 12])
    assert evaluate("adnet", pred, gt, WFLW98, "wflw")["nme"] == pytest.approx(18 / 2)


def test_musica_drops_absent_faces_and_rounds() -> None:
    pred, gt = flat_faces(WFLW98, [2.0004, 4, None, 7])
    found = evaluate("musica", pred, gt, WFLW98, "wflw")
    assert found["n"] == 3 and found["missing"] == 0 and found["nme"] == pytest.approx(13 / 3, abs=1e-9)
    assert found["share"] == pytest.approx({5: 200 / 3, 6: 200 / 3, 8: 100}) and found["kept"].tolist() == [1, 1, 0, 1]
    assert evaluate("canonical", pred, gt, WFLW98, "wflw")["nme"] == pytest.approx(13.0004 / 3)


def test_hrnet_reports_two_shares_and_mmpose_the_plain_mean() -> None:
    pred, gt = flat_faces(WFLW98, [2, 9, 11])
    found = evaluate("hrnet", pred, gt, WFLW98, "wflw")
    assert found["share"] == pytest.approx({8: 100 / 3, 10: 200 / 3}) and found["fr"] == pytest.approx(100 / 3)
    assert evaluate("mmpose", pred, gt, WFLW98, "wflw")["nme"] == pytest.approx(22 / 3)
    assert "mirrored" in PROTOCOLS["mmpose"].flip and PROTOCOLS["hrnet"].flip == "none"
    assert all("test split" in PROTOCOLS[name].checkpoint for name in ("hrnet", "mmpose", "star"))


def test_pipnet_stretches_and_cuts_to_whole_pixels() -> None:
    """A box of 200 x 100: x counts half, so a shift of 1 pixel in x is 0.5 of corners that are 50 apart."""
    pred, gt = flat_faces(WFLW98, [1, 1])
    box = np.array([[0, 0, 200, 100.0]] * 2)
    assert evaluate("pipnet", pred, gt, WFLW98, "wflw", box)["nme"] == pytest.approx(1.0)
    upright = gt + [0, 1.0]
    assert evaluate("pipnet", upright, gt, WFLW98, "wflw", box)["nme"] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="protocol pipnet needs bbox"):
        evaluate("pipnet", pred, gt, WFLW98, "wflw")
    pred, gt = flat_faces(IBUG68, [0])
    cut = np.trunc(gt)
    sides = cut[0].max(0) - cut[0].min(0)
    expected = np.linalg.norm((gt - cut) / sides, axis=-1) / np.linalg.norm(((cut[:, 45] - cut[:, 36]) / sides)[0])
    assert evaluate("pipnet", pred, gt, IBUG68, "300w")["nme"] == pytest.approx(100 * expected.mean())


def test_merlrav_divides_by_all_68_points() -> None:
    """With 51 points seen, the sum of 51 errors is divided by 68 points."""
    pred, gt = flat_faces(IBUG68, [4.0])
    pred[:, 51:] = gt[:, 51:]
    found = evaluate("spiga", pred, gt, IBUG68, "merlrav")
    sides = gt[0].max(0) - gt[0].min(0)
    assert found["nme"] == pytest.approx(100 * 4 * 51 / 68 / np.sqrt(sides.prod()))


def test_step_rule_overshoots_at_five_percent_only() -> None:
    """`arange(0, t + step, step)` has one sample too many at 5 %: worth 0.2 percent of the curve's end."""
    nmes = np.zeros(10)
    assert auc_fr_step(nmes, 8)[0] == pytest.approx(100) and auc_fr_step(nmes, 10)[0] == pytest.approx(100)
    assert auc_fr_step(nmes, 5)[0] == pytest.approx(100 * 0.0501 / 0.05)


@needs_shared
@pytest.mark.golden
def test_sizes_of_the_traps_on_released_predictions(public: dict[str, np.ndarray]) -> None:
    """The figures that design/field.md measured on SPIGA's predictions for 300W public."""
    base = score("canonical", public)
    assert base["nme"] == pytest.approx(2.994, abs=5e-4)
    for norm, value in (("pupils", 4.203), ("eye_centres", 4.234), ("lnd_bbox", 1.74), ("diagonal", 1.23)):
        assert score("canonical", public, norm=norm)["nme"] == pytest.approx(value, abs=6e-3), norm
    assert score("star", public)["fr"] == pytest.approx(8.27, abs=0.02)  # one face less
    assert score("hrnet", public)["fr"] == pytest.approx(0.29, abs=5e-3)
    exact = 100 * np.clip(1 - base["per_image"] / 5, 0, None).mean()
    assert exact == pytest.approx(42.0, abs=0.05)
    assert auc_fr_step(base["per_image"], 5)[0] - exact == pytest.approx(0.18, abs=0.01)
    assert score("pipnet", public)["nme"] == pytest.approx(3.005 + 0.03, abs=6e-3)
    assert np.mean([base["subset"][name]["nme"] for name in ("common", "ibug")]) == pytest.approx(3.62, abs=6e-3)
    pupils = score("awing", public)
    for name, ratio in (("common", 1.387), ("ibug", 1.444)):
        assert pupils["subset"][name]["nme"] / base["subset"][name]["nme"] == pytest.approx(ratio, abs=5e-4)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(("name", "subset", "value"), [
    ("300wpublic", "ibug", 6.77), ("300wprivate", None, 5.03), ("cofw68", None, 5.56),
])  # fmt: skip
def test_released_predictions_under_the_sdu_normaliser(name: str, subset: str | None, value: float) -> None:
    table = dict(np.load(SHARED / f"golden/metrics/spiga_{name}_test.npz", allow_pickle=False))
    rows = np.arange(len(table["gt"])) if subset is None else table[f"subset_{subset}"]
    found = evaluate("sdu", table["pred"][rows], table["gt"][rows], IBUG68, name)
    assert found["nme"] == pytest.approx(value, abs=5e-3)


@needs_shared
@pytest.mark.golden
def test_official_evaluator_of_the_musica_release() -> None:
    table = np.load(SHARED / "golden/musica/golden.npz", allow_pickle=False)
    for name, scheme in (("eval68", IBUG68), ("eval98", WFLW98)):
        pair = table[f"{name}.pred_xy"][None], table[f"{name}.gt_xy"][None]
        found = evaluate("musica", *pair, scheme, "any")
        assert found["nme"] / 100 == pytest.approx(float(table[f"{name}.nme_ocular"]), rel=1e-6)
        if scheme is IBUG68:
            pupil = evaluate("musica", *pair, scheme, "any", norm="pupils")
            assert pupil["nme"] / 100 == pytest.approx(float(table["eval68.nme_pupil"]), rel=1e-6)


@needs_shared
@pytest.mark.golden
def test_nmes_of_the_dpr_release() -> None:
    table = np.load(SHARED / "golden/dpr/golden.npz", allow_pickle=False)
    for name in ("gsr", "zero_glsr", "fill_glsr"):
        found = evaluate("dpr", table[f"{name}_pts"], table["gt"], WFLW98, "wflw")
        np.testing.assert_allclose(found["per_image"] / 100, table[f"nme_{name}"], rtol=1e-9)


def test_a_protocol_of_visible_points_leaves_out_the_others() -> None:
    pred, gt = flat_faces(WFLW98, [2, 4])
    pred[:, :40] += 1000
    visible = np.ones((2, 98))
    visible[:, :40] = 0
    seen = evaluate(replace(PROTOCOLS["canonical"], visibility=True), pred, gt, WFLW98, "wflw", visible=visible)
    assert seen["nme"] == pytest.approx(3)
    assert evaluate("canonical", pred, gt, WFLW98, "wflw", visible=visible)["nme"] > 300
