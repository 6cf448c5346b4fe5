"""The published predictions give the published reports: landmarks, subsets, head pose, label accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.spiga.evaluate import FIGURES, find_poses, main, predict, read_predictions, report
from common.data.datamodule import TEST_OFFSET
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.schemes import IBUG68
from common.task import make_task
from spiga.module import SpigaTask
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


@needs_shared
@pytest.mark.golden
def test_the_official_result_json_gives_the_published_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_predictions(METRICS / "spiga_cofw68_test.npz")
    for name, points, poses in (("pred", "pred", "headpose_pred"), ("true", "gt", "headpose_gt")):
        faces = [{"imgpath": str(image), "bbox": box.tolist(), "landmarks": p.tolist(), "headpose": pose.tolist()}
                 for image, box, p, pose in zip(table["image"], table["bbox"], table[points], table[poses], strict=True)
                 ]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(faces))
    assert main([str(tmp_path / "pred.json"), "--truth", str(tmp_path / "true.json"), "--dataset", "cofw68"]) == 0
    found = json.loads(capsys.readouterr().out)
    published = json.loads((METRICS / "spiga_cofw68_test_metrics.json").read_text())
    assert found["full"]["nme"] == pytest.approx(published["landmarks"]["nme"], abs=EXACT)
    assert found["headpose"]["mae_mean"] == pytest.approx(published["headpose"]["mae_mean"], abs=EXACT)
    (tmp_path / "true.json").write_text(json.dumps(faces[1:]))
    assert main([str(tmp_path / "pred.json"), "--truth", str(tmp_path / "true.json"), "--dataset", "cofw68"]) == 2
    assert "face 0 is not that of" in capsys.readouterr().err


def test_a_model_of_one_s_own_gets_its_pose_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = make_task(SpigaTask, {"scheme": "ibug68", "input_size": 64, "stacks": 2, "width": 32, "depth": 2, "steps": 2,
                                 "stage": 3}, "small")  # fmt: skip
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints/last.ckpt"
    torch.save({"state_dict": task.state_dict(), "method": "spiga", "hyper_parameters": task.settings()}, path)
    (tmp_path / "config.yaml").write_text(
        "data: {dataset: synthetic, test_count: 3, num_workers: 0, crop: {size: 64, box_scale: 1.6}}\n"
    )
    assert main([str(path), "--dataset", "300w"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == found["headpose"]["n"] == 3 and found["headpose"]["mae_mean"] > 0
    arrays = predict(path, None, "test")
    assert arrays["headpose_pred"].shape == (3, 6)
    faces = [SyntheticFaces(3, offset=TEST_OFFSET)[k] for k in range(3)]
    np.testing.assert_allclose(arrays["gt"], np.stack([face.points for face in faces]), atol=1e-3)
    np.testing.assert_allclose(arrays["bbox"][:, :2], np.stack([face.box[:2] for face in faces]), atol=1e-2)


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
    assert "mine.npz: is missing" in capsys.readouterr().err
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
