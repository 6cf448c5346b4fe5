"""`python -m common.predict`: pictures in, JSON and drawn pictures out, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from awing.module import AWingTask
from common.checkpoints import save_safetensors
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.images import read_image
from common.packing import Description
from common.predict import main, output_names, read_rct

SETTINGS: dict[str, Any] = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(3)
    path = tmp_path / "small.safetensors"
    save_safetensors(
        AWingTask(**SETTINGS).state_dict(), path, Description("awing", SETTINGS, CropConfig(size=64)).metadata()
    )
    return str(path)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pictures of one name in two folders, the boxes beside them."""
    faces, paths = SyntheticFaces(2, seed=1), []
    for index in range(2):
        path = tmp_path / str(index) / "face.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), faces[index].image[..., ::-1])
        path.with_suffix(".rct").write_text(" ".join(f"{v:.1f}" for v in faces[index].box), encoding="ascii")
        paths.append(path)
    return paths


def test_points_and_drawings_are_written(weights: str, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*map(str, pictures), "--weights", weights, "--out", str(out)]) == 0
    content = json.loads((out / "predictions.json").read_text())
    assert (content["method"], content["scheme"], len(content["pictures"])) == ("awing", "ibug68", 2)
    faces = SyntheticFaces(2, seed=1)
    for index, (record, name) in enumerate(zip(content["pictures"], ("face", "face-2"), strict=True)):
        (face,) = record["faces"]
        assert np.array(face["points"]).shape == (68, 2) and np.isfinite(face["points"]).all()
        np.testing.assert_allclose(face["box"], faces[index].box, atol=0.051)
        drawn = read_image(out / f"{name}.png")
        changed = (drawn != faces[index].image).any(-1)
        assert drawn.shape == (256, 256, 3) and 50 < changed.sum() < 256 * 256 / 4


def test_a_box_on_the_command_line(weights: str, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    box = ["--box", "60", "50", "190", "200"]
    assert main([str(pictures[0]), "--weights", weights, "--out", str(out), "--no-pictures", *box]) == 0
    (record,) = json.loads((out / "predictions.json").read_text())["pictures"]
    assert record["faces"][0]["box"] == [60, 50, 190, 200]
    assert [path.name for path in out.iterdir()] == ["predictions.json"]


def test_mistakes_are_one_line(
    weights: str, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken, lone = tmp_path / "broken.png", tmp_path / "lone.png"
    broken.write_bytes(b"no picture")
    lone.write_bytes(pictures[0].read_bytes())
    out = tmp_path / "out"
    cases = {
        ("none.png",): "none.png",
        (str(broken),): "broken.png",
        (str(lone),): "where is the face",
        (str(lone), "--box", "9", "9", "9", "40"): "--box",
        (*map(str, pictures), "--box", "1", "1", "9", "9"): "--box is for one picture",
        (str(lone), "--detector", "none.onnx"): "none.onnx",
        (str(lone), "--weights", "none.safetensors"): "none.safetensors",
    }
    for arguments, word in cases.items():
        given = [] if "--weights" in arguments else ["--weights", weights]
        assert main([*arguments, *given, "--out", str(out)]) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and word in line and line.count("\n") == 1, arguments
        assert not (out / "predictions.json").exists()


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "5 5 5 9", "1 2 nan 4"])
def test_rct_files_are_one_box(text: str, tmp_path: Path) -> None:
    path = tmp_path / "face.rct"
    path.write_text(text, encoding="ascii")
    with pytest.raises(LabError, match=r"face\.rct:1"):
        read_rct(path)


def test_names_of_drawn_pictures_differ() -> None:
    paths = [Path("a/x.png"), Path("b/x.jpg"), Path("x-2.png"), Path("c/x.png")]
    names = output_names(paths)
    assert len(set(names)) == 4 and names[0] == "x"
