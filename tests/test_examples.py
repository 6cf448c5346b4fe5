"""The examples run, shortened."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from common.data.readers.json_faces import JsonFaces
from common.data.synthetic.dataset import SyntheticFaces
from common.methods import METHODS
from common.packing import pack
from common.prediction.inference import Predictor

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"predict", "compare", "train_your_own", "train_your_own_landmarks"}
    assert all(f'example("{name}")' in text for name in names)


def test_predict(tmp_path: Path) -> None:
    module, sample = example("predict"), SyntheticFaces(1, seed=7)[0]
    points = module.main([], tmp_path / "drawn.png")
    width = np.linalg.norm(sample.points[45] - sample.points[36])
    assert (
        np.linalg.norm(points - sample.points, axis=1).mean() < 0.1 * width
    )  # 0.038; the weights saw photographs only
    picture = tmp_path / "face.png"
    cv2.imwrite(str(picture), sample.image[..., ::-1])
    again = module.main([str(picture), *map(str, sample.box)], tmp_path / "again.png")
    np.testing.assert_allclose(again, points, atol=1e-4)
    assert cv2.imread(str(tmp_path / "drawn.png")) is not None


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = example("compare").main([], 6)
    assert first.shape == second.shape == (6,) and np.isfinite(first).all()
    shown = capsys.readouterr().out
    assert "box as given" in shown and "difference" in shown


def test_lists_of_your_own_are_read(tmp_path: Path) -> None:
    module = example("train_your_own")
    module.write_lists(tmp_path, 3, 2)
    faces, drawn = JsonFaces(str(tmp_path), "train", norm="box"), SyntheticFaces(3, seed=1)
    assert len(faces) == 3 and len(JsonFaces(str(tmp_path), "test", norm="box")) == 2
    for index in range(3):
        np.testing.assert_array_equal(faces[index].image, drawn[index].image)
        known = faces[index].annotated
        assert known is not None and known.sum() == (68 if index else 67)
        np.testing.assert_allclose(faces[index].points[known], drawn[index].points[known], atol=1e-4)


@pytest.mark.slow
def test_train_your_own(tmp_path: Path) -> None:
    small = ("--data.num_workers", "0", "--data.batch_size", "4", "--model.width", "16", "--model.depth", "2",
             "--data.crop.size", "64", "--trainer.max_epochs", "1", "--track", "false")  # fmt: skip
    example("train_your_own").main(tmp_path / "faces", 8, 4, small)
    assert (tmp_path / "faces/run/checkpoints/last.ckpt").is_file()


WALK = {  # method -> what makes its smoke recipe tiny
    "musica": ("--model.net.units", "16", "--trainer.max_epochs", "1"),
    "awing": ("--model.width", "16", "--model.depth", "2", "--data.crop.size", "64", "--trainer.max_epochs", "1"),
    "dpr": ("--trainer.max_epochs", "1"),
    "sdu3d": ("--model.net.width", "32", "--data.crop.size", "64", "--trainer.max_epochs", "1"),
    "spiga": ("--model.stage_epochs", "[1, 1]", "--model.steps", "2", "--model.depth", "2", "--data.crop.size", "64",
              "--trainer.max_epochs", "3"),
}  # fmt: skip


def walk(folder: Path, method: str) -> Path:
    """Walk through docs/your_landmarks.md with a method; return the packed weights, used without the scheme's file."""
    common = ("--data.num_workers", "0", "--data.batch_size", "4", "--track", "false")
    module, run = example("train_your_own_landmarks"), folder / method
    module.main(folder, method, 8, 2, (*common, *WALK[method]))
    (folder / "face12.yaml").rename(folder / "gone.yaml")
    packed = run / "packed.safetensors"
    pack(run / "checkpoints" / "last.ckpt", packed)
    main = METHODS[method].main()
    tested = main(["test", "--config", f"{method}/smoke.yaml", "--data.dataset", "csv", "--data.root", str(folder),
                   *common, *WALK[method], "--run", str(run / "again"), "--ckpt_path", str(packed)])  # fmt: skip
    assert tested.model.scheme.names[-1] == "chin"
    assert np.load(run / "again" / "test_predictions.npz")["points"].shape == (2, 12, 2)
    return packed


def test_the_page_on_your_landmarks_shows_the_example_s_scheme() -> None:
    page = (EXAMPLES.parent / "docs" / "your_landmarks.md").read_text(encoding="utf-8")
    assert example("train_your_own_landmarks").SCHEME in page


def test_train_your_own_landmarks(tmp_path: Path) -> None:
    packed = walk(tmp_path, "musica")
    written = json.loads((tmp_path / "musica/predicted/predictions.json").read_text())
    assert written["scheme"] == "face12" and len(written["pictures"][0]["faces"][0]["points"]) == 12
    predictor = Predictor.load(packed)
    assert predictor.scheme.name == "face12" and predictor.task.METHOD == "musica"


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in WALK if name != "musica"])
def test_your_own_landmarks_in_every_method(tmp_path: Path, method: str) -> None:
    packed = walk(tmp_path, method)
    if method == "spiga":  # estimated from the faces, not the circle it began with
        face: Any = Predictor.load(packed).task.network().mean_face
        depth = face[:, 0] - face[:, 0].mean()
        assert depth[6] == depth.max() and depth.std() > 0.05  # the tip of the nose is nearest
        assert (face[2, 1] + face[5, 1]).abs() < 1e-5 and torch.isclose(
            torch.dist(face[2], face[5]), torch.tensor(0.84)
        )
