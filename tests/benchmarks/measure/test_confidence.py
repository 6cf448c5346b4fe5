"""`python -m benchmarks confidence`: maps are fitted and stored, the weights' numbers stay."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from awing.module import AWingTask
from benchmarks.__main__ import main
from benchmarks.measure import confidence
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.files.checkpoints import read_state_dict, save_safetensors
from common.packing import Description, describe, read_metadata
from common.prediction.detection import Detections

FACES = 14


class Shifted:
    """Finds the face of a crop at the landmarks' box, as a detector would whose boxes are a fifth taller upwards."""

    name = "yunet"

    def __init__(self, boxes: dict[int, np.ndarray]) -> None:
        self.boxes = boxes

    def detect(self, image: np.ndarray) -> Detections:
        x0, y0, x1, y1 = self.boxes[int(image.sum())]
        return Detections.of(np.array([[x0, y0 - 0.25 * (y1 - y0), x1, y1]]), np.ones(1))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Prepared crops of drawn faces: train and val."""
    for split, offset in (("train", 0), ("val", 50)):
        faces, names, points = SyntheticFaces(FACES, seed=2, offset=offset, size=96), [], []
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as file:
            for index in range(FACES):
                sample = faces[index]
                names.append(f"{index}.png")
                points.append(sample.points)
                file.writestr(names[-1], cv2.imencode(".png", sample.image[..., ::-1])[1].tobytes())
        np.savez(tmp_path / f"{split}.npz", filename=np.array(names), landmarks_crop=np.stack(points))
    return tmp_path


def test_maps_are_stored_and_numbers_stay(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    settings: dict[str, Any] = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}
    path = data / "small.safetensors"
    about = Description("awing", settings, CropConfig(size=64)).metadata() | {"terms": "none"}
    save_safetensors(AWingTask(**settings).state_dict(), path, about)
    before = read_state_dict(path)
    boxes: dict[int, np.ndarray] = {}
    for split in ("train", "val"):
        crops = confidence.PreparedCrops(str(data), split)
        boxes |= {int(crops[row].image.sum()): crops.boxes[row] for row in range(len(crops))}
    monkeypatch.setattr(confidence, "open_detector", lambda choice: Shifted(boxes))
    picture = data / "curve.png"
    main(["confidence", str(path), "--data", str(data), "--picture", str(picture), "--write"])
    after, found = read_state_dict(path), describe(path)
    assert before.keys() == after.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert found.confidence is not None and found.confidence.faces == 2 * FACES
    assert read_metadata(path)["terms"] == "none", "what else the file says stays"
    box_map = found.box_maps["yunet"]
    fitted = [box_map.right, box_map.down, box_map.width, box_map.height]
    np.testing.assert_allclose(fitted, [0, 0.1, 1, 0.8], atol=1e-3)
    printed = capsys.readouterr().out
    assert "14 of 14 validation faces" in printed and "YuNet's box" in printed and picture.stat().st_size > 1000
