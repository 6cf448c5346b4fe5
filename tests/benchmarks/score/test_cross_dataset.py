"""A model on another data set: the same points as its own test gives, maps between schemes, rows of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from awing.module import AWingTask
from benchmarks.__main__ import main
from benchmarks.measure.robustness import errors
from benchmarks.report.model import read_report
from benchmarks.score.cross_dataset import make_task, predict_faces, trained_on
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import save_safetensors
from common.metrics.functional import NORMALISERS
from common.metrics.protocols import PROTOCOLS
from common.packing import Description
from common.prediction.inference import Predictor

CROP = CropConfig(size=64, box_scale=1.3)
COUNT = 5


def weights(folder: Path, scheme: str) -> Path:
    """Write a small network with random weights."""
    torch.manual_seed(5)
    settings: dict[str, Any] = {"scheme": scheme, "input_size": 64, "stacks": 1, "width": 16, "depth": 2}
    path = folder / f"{scheme}.safetensors"
    save_safetensors(AWingTask(**settings).state_dict(), path, Description("awing", settings, CROP).metadata())
    return path


def test_points_are_those_of_the_method_s_own_test(tmp_path: Path) -> None:
    predictor, faces = Predictor.load(weights(tmp_path, "ibug68")), SyntheticFaces(COUNT, seed=3)
    found, truth = predict_faces(predictor, faces)
    cropped = CroppedFaces(faces, CROP)
    expected = errors(predictor.task, [cropped[k] for k in range(COUNT)], faces.subset_names, 2)
    np.testing.assert_allclose(found, expected.points, atol=1e-3)
    task = make_task(predictor, faces, "synthetic", None)
    np.testing.assert_allclose(task.evaluate("canonical")["per_image"], expected.nme, rtol=1e-5)
    assert truth.ids == [faces[k].id for k in range(COUNT)] and truth.bbox is not None
    np.testing.assert_allclose(truth.bbox[0, 2:], faces[0].box[2:] - faces[0].box[:2], rtol=1e-5)
    assert set(truth.subsets) == {name for k in range(COUNT) for name in faces[k].subsets}


def test_another_scheme_goes_through_the_map(tmp_path: Path) -> None:
    faces = SyntheticFaces(2, scheme="ibug68", seed=3)
    task = make_task(Predictor.load(weights(tmp_path, "wflw98")), faces, "synthetic", None)
    assert task.pred.shape == (2, 68, 2) and task.source is not None and task.source.name == "wflw98"
    backward = Predictor.load(weights(tmp_path, "ibug68"))
    with pytest.raises(LabError, match="no map from them to wflw98"):
        make_task(backward, SyntheticFaces(1, scheme="wflw98"), "synthetic", None)


def test_the_command_adds_rows_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scheme in ("ibug68", "wflw98"):
        main(["cross", str(weights(tmp_path, scheme)), "--dataset", "synthetic", "--faces", str(COUNT), "--record",
              str(tmp_path), "--name", "drawn", "--title", scheme])  # fmt: skip
    out = capsys.readouterr().out
    assert "- trained on: not stated" in out and "- mapped from: wflw98" in out and "The map's own error" in out
    (table,) = read_report(tmp_path).comparisons
    assert table.dataset == "drawn" and {entry.label for entry in table.entries} == {"ibug68", "wflw98"}
    assert {"mapped from", "map floor", "checkpoint"} == set(table.differing) and table.card["n"] == COUNT
    assert table.card["box"] == "data set's box, longer side times 1.3, crop 64 px"
    assert (0, 1) in table.differences


def test_one_command_scores_a_model_by_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every protocol and every normaliser of one model, and no row in the report."""
    path = str(weights(tmp_path, "ibug68"))
    main(["cross", path, "--dataset", "synthetic", "--faces", "2", "--record", str(tmp_path), "--all"])
    out = capsys.readouterr().out
    for protocol in PROTOCOLS:
        assert out.count(f"| {protocol} ") == 2, protocol
    assert all(norm in out for norm in NORMALISERS) and not (tmp_path / "records.jsonl").exists()


def test_what_a_run_was_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "run/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    assert trained_on(path, None) == "not stated"
    (tmp_path / "run/config.yaml").write_text("data: {dataset: crops}\n")
    assert trained_on(path, None) == "crops"


def test_missing_weights_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["cross", str(tmp_path / "no.safetensors"), "--dataset", "synthetic"])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
