"""The published predictions give the published reports: landmarks, subsets, head pose, label accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.spiga.evaluate import FIGURES, find_poses, main, read_predictions, report
from common.errors import LabError
from common.schemes import IBUG68
from tests.conftest import SHARED, needs_shared
from tests.spiga import golden

EXACT = 1e-9  # percent and degrees
METRICS = SHARED / "golden" / "metrics"


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(("dataset", "threshold"), [("300wpublic", 8), ("300wprivate", 7), ("cofw68", 7)])
def test_published_predictions_give_the_published_report(dataset: str, threshold: int, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert main([str(METRICS / f"spiga_{dataset}_test.npz"), "--dataset", dataset, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    published = json.loads((METRICS / f"spiga_{dataset}_test_metrics.json").read_text())
    landmarks = published["landmarks"]
    assert found["normaliser"] == landmarks["nme_norm"] and found["threshold"] == landmarks["nme_thr"] == threshold
    for name in FIGURES:
        assert found["full"][name] == pytest.approx(landmarks[name], abs=EXACT)
    assert set(found["subset"]) == set(landmarks.get("subset", {}))
    for subset, figures in landmarks.get("subset", {}).items():
        for name in FIGURES:
            assert found["subset"][subset][name] == pytest.approx(figures[name], abs=EXACT)
    for name, value in published["headpose"].items():
        assert found["headpose"][name] == pytest.approx(value, abs=EXACT)


@needs_shared
@pytest.mark.golden
def test_poses_are_found_where_the_file_has_none() -> None:
    """The annotated poses are POSIT's of the annotated points, so that the report is the same without them."""
    arrays = read_predictions(METRICS / "spiga_cofw68_test.npz")
    model = golden.mean_face(SHARED, 68)
    np.testing.assert_allclose(find_poses(arrays["gt"], arrays["bbox"], IBUG68, model), arrays["headpose_gt"],
                               rtol=0, atol=EXACT)  # fmt: skip
    known = report(arrays, "cofw68")["headpose"]
    del arrays["headpose_gt"]
    again = report(arrays, "cofw68", model)["headpose"]
    assert again["n"] == known["n"] == 507
    assert again["mae_ypr"] == pytest.approx(known["mae_ypr"], abs=EXACT)


def made_up(count: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = 50 + 100 * rng.random((count, 68, 2))
    low, high = truth.min(1), truth.max(1)
    return {"gt": truth, "pred": truth + 1, "bbox": np.concatenate([low, high - low], 1),
            "subset_first": np.array([0, 1])}  # fmt: skip


def test_a_face_without_pose_is_left_out_of_the_pose_figures() -> None:
    arrays = made_up()
    arrays["headpose_pred"] = np.zeros((4, 3))
    arrays["headpose_gt"] = np.array([[1.0, 2, 3], [3, 2, 1], [np.nan] * 3, [2, 2, 2]])
    found = report(arrays, "300w")
    assert found["headpose"]["n"] == 3 and found["headpose"]["mae_ypr"] == pytest.approx([2, 2, 2])
    assert found["n"] == 4 and set(found["subset"]) == {"first"}
    assert "headpose" not in report(made_up(), "300w")


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.npz"
    assert main([str(file), "--dataset", "300w"]) == 2
    assert "predictions are missing" in capsys.readouterr().err
    file.write_bytes(b"PK nothing")
    assert main([str(file), "--dataset", "300w"]) == 2
    assert "damaged" in capsys.readouterr().err
    np.savez(file, gt=np.zeros((1, 68, 2)))
    assert main([str(file), "--dataset", "300w"]) == 2
    assert "array pred is missing" in capsys.readouterr().err
    np.savez(file, **made_up())  # type: ignore[arg-type]
    assert main([str(file), "--dataset", "aflw"]) == 2
    assert "--dataset must be one of" in capsys.readouterr().err
    with pytest.raises(LabError, match="do not fit data set wflw"):
        report(made_up(), "wflw")
