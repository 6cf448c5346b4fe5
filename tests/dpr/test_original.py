"""The official demo's command: boxes and truths beside the pictures, errors beside the drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.schemes import IBUG68
from common.types import Prediction
from dpr import original
from dpr.original import demo, main, read_points

FACE = SyntheticFaces(1)[0]


class Shifted:
    """Predicts the truth, two pixels too far to the right."""

    scheme = IBUG68

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> Prediction:
        np.testing.assert_allclose(boxes, [[10, 20, 90, 100]])
        return Prediction(torch.from_numpy(FACE.points + np.array([2.0, 0]))[None])


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), FACE.image[..., ::-1])
    path.with_suffix(".rct").write_text("10 20 90 100\n")
    rows = "".join(f"{x!r} {y!r}\n" for x, y in FACE.points.tolist())
    path.with_suffix(".txt").write_text(f"68\n{rows}")
    return path


def test_errors_are_printed_beside_the_drawing(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor: Any = Shifted()
    monkeypatch.setattr(original.Predictor, "load", lambda *_, **__: predictor)
    expected = 200 / np.linalg.norm(FACE.points[36] - FACE.points[45])
    assert main(["weights.safetensors", str(sample), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{sample}: {expected:.2f} %", f"mean of 1: {expected:.2f} %"]
    drawn = cv2.imread(str(tmp_path / "out/a.png"))
    assert drawn.shape == FACE.image.shape and (drawn != FACE.image[..., ::-1]).any()
    sample.with_suffix(".txt").unlink()
    assert demo(predictor, sample, tmp_path / "out") is None


@pytest.mark.parametrize("text", ["67\n1 2\n", "68\nx y\n", ""])
def test_wrong_truths_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(LabError, match="a.txt: expected"):
        read_points(tmp_path / "a.txt", IBUG68)
