"""Labels by networks: kept where they agree, left out where not, and a set that training reads."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
import torch

from benchmarks.studies import network_labels
from common.data.readers.crops import PreparedCrops
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.prediction.inference import Predictor
from common.schemes import get_scheme

FACES = SyntheticFaces(3, scheme="ibug68", seed=4)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three faces in a zip with their boxes; the second box is of nothing."""
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for number, face in enumerate(FACES[row] for row in range(3)):
            archive.writestr(f"{number}.png", cv2.imencode(".png", face.image[..., ::-1])[1].tobytes())
    boxes = np.stack([FACES[row].box for row in range(3)])
    boxes[1] = np.nan
    np.savez(tmp_path / "faces.npz", filename=np.array(["0.png", "1.png", "2.png"]), box_crop=boxes)
    return tmp_path / "faces.zip"


class Network:
    """Stand-in whose points are the true ones of the face that it sees, the third face's moved to the right."""

    scheme = get_scheme("ibug68")

    def __init__(self, moved: float) -> None:
        self.moved = moved

    def __call__(self, image: np.ndarray, box: np.ndarray) -> SimpleNamespace:
        (row,) = [row for row in range(3) if np.array_equal(FACES[row].image, image)]
        shift = torch.tensor([self.moved if row == 2 else 0.0, 0.0])
        return SimpleNamespace(points=torch.from_numpy(FACES[row].points[None].astype(np.float64)) + shift)


def predictors(moved: float) -> list[Predictor]:
    return [cast(Predictor, Network(by)) for by in (0.0, moved)]


def test_labels_are_the_mean_where_networks_agree(crops: Path, tmp_path: Path) -> None:
    eyes = float(np.linalg.norm(FACES[2].points[36] - FACES[2].points[45]))
    assert network_labels.write_labels(predictors(0.1 * eyes), crops, tmp_path / "a", 8.0) == (2, 3)
    found = PreparedCrops(str(tmp_path / "a"))
    assert len(found) == 2
    np.testing.assert_allclose(found[0].points, FACES[0].points, atol=1e-3)
    np.testing.assert_allclose(found[1].points - FACES[2].points, [[0.05 * eyes, 0.0]] * 68, atol=1e-3)
    apart = np.load(tmp_path / "a/train.npz")["disagreement"]
    np.testing.assert_allclose(apart, [0.0, 5.0], atol=1e-3)  # each network is half of 10 % from the mean
    assert network_labels.write_labels(predictors(0.2 * eyes), crops, tmp_path / "b", 8.0) == (1, 3)


def test_labels_are_not_replaced_and_one_network_is_refused(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network_labels.write_labels(predictors(0.0), crops, tmp_path / "a", 8.0)
    with pytest.raises(LabError, match="holds labels already"):
        network_labels.write_labels(predictors(0.0), crops, tmp_path / "a", 8.0)
    np.savez(crops.with_suffix(".npz"), filename=np.array(["9.png"]), box_crop=np.zeros((1, 4)))
    with pytest.raises(LabError, match="has no file 9.png"):
        network_labels.write_labels(predictors(0.0), crops, tmp_path / "c", 8.0)
    np.savez(crops.with_suffix(".npz"), filename=np.array(["0.png"]))
    with pytest.raises(LabError, match="needs filename"):
        network_labels.read_boxes(crops.with_suffix(".npz"))
    assert network_labels.main(["awing", "--faces", str(crops), "--out", str(tmp_path / "d")]) == 2
    assert "name two or more" in capsys.readouterr().err
