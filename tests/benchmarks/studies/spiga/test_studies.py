"""Commands beside training: steps of the cascade, pictures of attention and pose, the released crop, mean faces."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.spiga import attention, steps
from benchmarks.studies.spiga.evaluate import find_poses
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.data.readers.crops import PreparedCrops
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.evaluation import evaluate
from common.files.checkpoints import save_safetensors
from common.files.images import read_image, write_image
from common.metrics.functional import nme, normaliser, point_errors
from common.packing import Description
from common.pose import Camera, project
from common.predict import main as predict
from common.prediction.inference import Predictor
from common.prediction.plotting import TRUE, draw_landmarks
from common.schemes import IBUG68, get_scheme
from common.task import make_task
from spiga import mean_face
from spiga.module import SpigaTask
from spiga.original import SIZE, crop_map, move_points
from spiga.schemes import NOSE_TIP
from tests.conftest import SHARED, needs_shared
from tests.spiga import golden

SMALL = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 32, "depth": 2, "steps": 2}
CROP = CropConfig(size=64, box_scale=1.6)


def make(**changes: object) -> SpigaTask:
    torch.manual_seed(0)
    return make_task(SpigaTask, {**SMALL, **changes}, "test").eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed file of small random weights."""
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_safetensors(make().state_dict(), file, Description("spiga", dict(SMALL), CROP).metadata())
    return file


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A picture on the disk and its box (4,)."""
    sample = SyntheticFaces(1, scheme="ibug68", seed=2)[0]
    file = tmp_path_factory.mktemp("picture") / "face.png"
    write_image(file, sample.image)
    return file, np.asarray(sample.box)


def test_the_table_of_steps_is_what_predictions_score(weights: Path, tmp_path: Path) -> None:
    document, out = tmp_path / "README.md", tmp_path / "steps.json"
    document.write_text(f"before {steps.BEGIN}\nnone yet\n{steps.END} after")
    run = [str(weights), "--dataset", "synthetic", "--split", "val", "--count", "6", "--out", str(out)]
    assert steps.main([*run, "--document", str(document)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == ["mean face", "projected mean face", "step 1", "step 2"]
    # The last row is the task's own validation figure.
    predictor = Predictor.load(weights)
    data = FaceDataModule(
        "synthetic", None, "ibug68", predictor.crop, num_workers=0, synthetic=SyntheticConfig(val_count=6)
    )
    found = evaluate(predictor.task, data, "val")
    assert rows["step 2"]["nme"] == pytest.approx(float(found.nme.mean()), rel=1e-4)
    text = re.sub(" +", " ", document.read_text())
    assert text.startswith("before") and text.endswith("after") and "none yet" not in text
    assert f"| step 2 | {rows['step 2']['nme']:.2f} |" in text and "6 faces of the val split of synthetic" in text


def test_a_step_is_better_when_its_paired_interval_says_so() -> None:
    base = np.linspace(4, 8, 50)
    found = steps.summarise({"a": base, "b": base - 1, "c": base - 1 + np.tile([1, -1], 25), "d": base})
    assert "better" not in found["a"] and found["b"]["better"] and found["b"]["change"] == pytest.approx(-1)
    assert not found["c"]["better"] and not found["d"]["better"]
    assert found["a"]["fr8"] == 0 and found["a"]["median"] == pytest.approx(6) and found["a"]["n"] == 50
    lines = re.sub(" +", " ", steps.step_table(found)).splitlines()
    assert len(lines) == 6 and all(line.count("|") == 8 for line in lines) and "-1.00 [-1.00, -1.00] | yes" in lines[3]


def test_the_mean_face_is_laid_into_the_box() -> None:
    net = make().net
    boxes = torch.tensor([[10.0, 20, 50, 60], [0, 0, 30, 20]])
    face = steps.lay_mean_face(net, boxes)
    low, high = face.amin(1), face.amax(1)
    torch.testing.assert_close((low + high) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2)
    torch.testing.assert_close((high - low).amax(1), torch.tensor([40.0, 30.0]))
    assert (face[:, 8, 1] > face[:, 27, 1]).all()  # the chin is below the nose


def test_mistakes_of_the_steps_command(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.main([str(tmp_path / "none.safetensors")]) == 2
    run = [str(weights), "--dataset", "synthetic", "--count", "2", "--out", str(tmp_path / "o.json")]
    (tmp_path / "README.md").write_text("no marks")
    assert steps.main([*run, "--document", str(tmp_path / "README.md")]) == 2
    assert "marks" in capsys.readouterr().err and not (tmp_path / "o.json").exists()


def test_attention_picture(weights: Path, picture: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    file, box = picture
    run = [str(file), "--weights", str(weights), "--box", *map(str, box.tolist())]
    out = tmp_path / "attention.png"
    assert attention.main([*run, "--step", "2", "--layer", "4", "--point", "8", "--out", str(out)]) == 0
    assert out.stat().st_size > 1000
    for wrong in (["--step", "3"], ["--layer", "5"], ["--point", "68"]):
        assert attention.main([*run, *wrong, "--out", str(tmp_path / "no.png")]) == 2
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize("graph", ["complete", "anatomical"])
def test_attention_weights_are_the_layer_s(graph: str) -> None:
    """The weights times the values are the messages that the layer works with."""
    net = make(graph=graph).net
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    layer = net.cascade[1].layers[2]  # type: ignore[union-attr, index]
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        net(image)
        expected = layer.attention(seen[0], net.graph).mean(1)
    found = attention.attention_weights(net, image, step=1, layer=2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 68))
    if net.graph is not None:
        linked = torch.zeros(68, 68, dtype=torch.bool)
        linked[net.graph[1], net.graph[0]] = True
        assert (found[:, ~linked] == 0).all() and (found[:, linked] > 0).all()


def test_predict_gives_points_and_pose_and_draws_the_axes(
    weights: Path, picture: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    file, box = picture
    run = [str(file), "--weights", str(weights), "--box", *map(str, box.tolist())]
    assert predict([*run, "--out", str(tmp_path)]) == 0
    face = json.loads((tmp_path / "predictions.json").read_text())["pictures"][0]["faces"][0]
    assert np.shape(face["points"]) == (68, 2) and np.shape(list(face["pose"].values())) == (3,)
    found = Predictor.load(weights)(file, box)
    assert found.translation is not None and list(face["translation"]) == ["x", "y", "z"]
    np.testing.assert_allclose(list(face["translation"].values()), found.translation[0], atol=6e-4)
    assert face["translation"]["z"] > 0, "in front of the camera"
    frame = json.loads((tmp_path / "predictions.json").read_text())["frame"]
    assert "translation" in frame and "z away" in frame and "units of its mean face" in frame
    drawn = read_image(tmp_path / "face.landmarks.png")
    bare = draw_landmarks(read_image(file), np.array(face["points"]), IBUG68, TRUE)
    tip = np.array(face["points"])[NOSE_TIP["ibug68"]]
    rows, columns = np.nonzero((drawn != bare).any(-1))
    distances = np.hypot(columns - tip[0], rows - tip[1])
    near = distances[distances < 0.25 * np.ptp(np.array(face["points"]), axis=0).max()]  # the box is further away
    assert len(near) > 20 and near.min() < 3  # the axes start at the nose


def test_own_mean_face_is_written_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("face.npy", "face.txt"):
        assert mean_face.main([str(tmp_path / name), "--scheme", "ibug68"]) == 0
        read = mean_face.read_mean_face(tmp_path / name, IBUG68)
        torch.testing.assert_close(read, mean_face.default_mean_face(IBUG68))
    assert mean_face.main([str(tmp_path / "face.npy"), "--scheme", "ibug68"]) == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(LabError, match=r"\.npy or \.txt"):
        mean_face.write_mean_face(tmp_path / "face.obj", read.numpy(), IBUG68)


def test_the_mean_face_is_drawn_from_three_sides(tmp_path: Path) -> None:
    face = mean_face.default_mean_face(IBUG68).numpy()
    np.save(tmp_path / "wide.npy", face * [1, 1.5, 1])
    for name, more in (("own.png", []), ("wide.png", ["--mean_face", str(tmp_path / "wide.npy")])):
        assert mean_face.main([str(tmp_path / name), "--scheme", "ibug68", *more]) == 0
    own, wide = read_image(tmp_path / "own.png"), read_image(tmp_path / "wide.png")
    assert own.shape == (320, 960, 3) and (own != wide).any()
    widths = [np.ptp(np.nonzero((view != 24).any((0, 2)))[0]) for view in np.split(own, 3, axis=1)]
    assert widths[0] > widths[2] > 100, "a head is seen less wide from the side, where its profile shows"
    left = own[:, :320]
    assert (left[:, ::-1] == left).mean() > 0.9, "from the front it is symmetric"


@needs_shared
@pytest.mark.parametrize("name", ["ibug68", "wflw98"])
def test_own_mean_face_is_of_the_official_shape(name: str) -> None:
    """Same origin, axes and unit: no point is further off than a third of the distance of the eyes."""
    ours = mean_face.default_mean_face(get_scheme(name))
    official = golden.mean_face(SHARED, len(ours))
    assert float((ours - official).norm(dim=1).max()) < 0.84 / 3
    assert float((ours - official).norm(dim=1).mean()) < 0.84 / 6


@needs_shared
def test_own_mean_face_fits_photographs_no_worse_than_the_official_one() -> None:
    """Laid onto annotated validation faces by the poses that POSIT finds with it."""
    faces = PreparedCrops(str(SHARED / "data" / "crops_300w"), "val")
    boxes = np.concatenate([faces.boxes[:, :2], faces.boxes[:, 2:] - faces.boxes[:, :2]], axis=1)
    true = np.stack([move_points(crop_map(box), face) for face, box in zip(faces.points, boxes, strict=True)])
    errors = []
    for model in (mean_face.default_mean_face(IBUG68), golden.mean_face(SHARED, 68)):
        poses = torch.from_numpy(find_poses(faces.points, boxes, IBUG68, model))
        laid = project(model, poses, Camera.of_size(SIZE)).numpy()
        errors.append(nme(point_errors(laid, true, normaliser("corners", true, IBUG68))).mean())
    assert errors[0] < errors[1] < 10
