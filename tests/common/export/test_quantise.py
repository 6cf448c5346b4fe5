"""Graphs in 8 bits keep the points, or are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.export import quantise
from common.export.__main__ import main
from common.export.method import checked_export
from common.export.runtime import graph_metadata
from common.prediction.inference import Predictor
from common.task import LandmarkTask
from tests.common.export.small import crop_of, small_task
from tests.common.export.test_method import saved


@pytest.fixture(scope="module")
def task() -> LandmarkTask:
    return small_task("awing")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of drawn faces as prepared crops."""
    folder = tmp_path_factory.mktemp("crops")
    for split, count, seed in (("train", 6, 1), ("val", 4, 2)):
        faces = SyntheticFaces(count, seed=seed)
        samples = [faces[row] for row in range(count)]
        names = [f"{row}.png" for row in range(count)]
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for name, sample in zip(names, samples, strict=True):
                archive.writestr(name, cv2.imencode(".png", sample.image[..., ::-1])[1].tobytes())
        points = np.stack([sample.points[:, :2] for sample in samples])
        np.savez(folder / f"{split}.npz", filename=np.array(names), landmarks_crop=points)
    return folder


def test_a_file_in_8_bits(
    task: LandmarkTask, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "small.onnx"
    words = ["--weights", str(saved(task, tmp_path / "w.safetensors")), "--out", str(out), "--precision", "int8"]
    monkeypatch.setattr(quantise, "DEAREST", 5.0)  # random weights: their error means nothing
    monkeypatch.setattr(quantise, "CALIBRATED", 4)
    assert main([*words, "--calibrate", str(crops)]) == 0
    said = capsys.readouterr().out
    assert "awing, 8 bits" in said and "on 4 validation faces" in said
    about = graph_metadata(out)
    assert about["precision"] == "int8" and about["method"] == "awing"
    model = onnx.load(str(out))
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}  # every convolution's weights
    sample = SyntheticFaces(1, seed=2)[0]
    exact = Predictor(task, crop_of(task), backend="eager")(sample.image, sample.box[None]).score
    found = Predictor.load(out, backend="onnx")(sample.image, sample.box[None]).score
    assert exact is not None and found is not None
    assert 0 < (exact - found).abs().max() < 0.05 * exact.abs().max()


def test_a_dear_one_is_refused(task: LandmarkTask, crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "quantise", lambda content, batches: content)
    monkeypatch.setattr(quantise, "DEAREST", -0.1)
    with pytest.raises(LabError, match=r"^awing: in 8 bits the error of 4 validation faces is [\d.]+ % instead of "):
        quantise.int8_export(task, crop_of(task), checked_export(task, crop_of(task))[0], crops)


@pytest.mark.parametrize("words", [["--precision", "int8"], ["--calibrate", "x"]])
def test_int8_needs_faces(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--method", "awing", *words]) == 2
    assert "belong together" in capsys.readouterr().err
