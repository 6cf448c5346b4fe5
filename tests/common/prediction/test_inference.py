"""Weights that say what they are, and the way from a photograph to its landmarks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from awing.module import AWingTask
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import save_safetensors
from common.files.checksum import ENTRY
from common.files.images import write_image
from common.methods import METHODS, default_weights
from common.packing import Description, describe, halved, main, read_metadata
from common.prediction.inference import Predictor, load_task, usable_device

CROP = CropConfig(size=64, box_scale=1.3)
SETTINGS: dict[str, Any] = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}


@pytest.fixture(scope="module")
def task() -> AWingTask:
    torch.manual_seed(3)
    return AWingTask(**SETTINGS).eval()


@pytest.fixture(scope="module")
def weights(task: AWingTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_safetensors(task.state_dict(), path, Description("awing", SETTINGS, CROP).metadata())
    return path


def checkpoint(folder: Path, task: AWingTask, crop: bool = True) -> Path:
    """Write what a run leaves: its checkpoint and its configuration."""
    path = folder / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"method": "awing", "hyper_parameters": SETTINGS, "state_dict": task.state_dict()}, path)
    data = {"crop": {"size": 64, "box_scale": 1.3, "rotation": 30}} if crop else {}
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
    return path


def test_packed_weights_say_what_they_are(weights: Path) -> None:
    found = describe(weights)
    assert (found.method, found.hyper_parameters, found.crop) == ("awing", SETTINGS, CROP)
    assert isinstance(load_task(weights), AWingTask)


def test_a_checkpoint_packs_into_the_same_predictor(task: AWingTask, tmp_path: Path) -> None:
    source, target = checkpoint(tmp_path, task), tmp_path / "out.safetensors"
    assert main([str(source), str(target)]) == 0
    faces = SyntheticFaces(2, seed=8)
    for index in range(2):
        sample = faces[index]
        one, two = (Predictor.load(path)(sample.image, sample.box[None]) for path in (source, target))
        assert torch.equal(one.points, two.points)
    # What changes at random in training stays at rest for prediction.
    assert Predictor.load(source).crop == CROP.still()
    found = load_task(source, threshold=8.0)
    assert isinstance(found, AWingTask) and found.threshold == 8


def test_points_are_those_of_the_crop_in_image_pixels(task: AWingTask, weights: Path) -> None:
    """A face moved by whole pixels in a larger photograph gets its points moved by as much."""
    sample = SyntheticFaces(1, seed=8)[0]
    wide = np.zeros((400, 500, 3), np.uint8)
    wide[100:356, 200:456] = sample.image
    predictor = Predictor.load(weights)
    shift = np.array([200, 100])
    here = predictor(sample.image, sample.box[None]).points
    there = predictor(wide, sample.box[None] + np.tile(shift, 2)).points
    inside = (here > 12).all(-1) & (here < 243).all(-1)
    assert inside.sum() > 20
    assert (there - here - torch.from_numpy(shift))[inside].abs().max() < 1e-2
    batch = predictor.batch(sample.image, sample.box[None])
    crop_points = task.predict_batch(batch).points.double()
    back = crop_points @ batch.to_image[0, :, :2].double().T + batch.to_image[0, :, 2].double()
    assert torch.allclose(back, here.double(), atol=1e-4)


def test_repeats_are_equal_and_threads_change_nothing(weights: Path) -> None:
    predictor, sample = Predictor.load(weights, backend="eager"), SyntheticFaces(1, seed=8)[0]
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 1, 2, 2):
            torch.set_num_threads(count)
            found.append(predictor(sample.image, sample.box[None]).points)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3])
    assert (found[0] - found[2]).abs().max() < 1e-4


@pytest.mark.parametrize("box", [[10, 10, 10, 60], [0, 0, np.nan, 60]])
def test_a_box_without_area_is_refused(weights: Path, box: list[float]) -> None:
    with pytest.raises(LabError, match="face 1"):
        Predictor.load(weights)(np.zeros((80, 80, 3), np.uint8), np.array([[5, 5, 60, 60], box], np.float64))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([2000, 2000, 2300, 2300], "is outside the picture of 100 x 80 pixels"),
        ([-900, -900, -500, -500], "is outside the picture"),
        ([10, 79, 60, 200], "is outside the picture"),
        ([0.13, 0.22, 0.57, 0.67], "is in shares of the picture; give x0 y0 x1 y1 in pixels, here of 100 x 80"),
        ([30, 30, 30.0001, 30.0001], "has a side under 4 pixels"),
    ],
)
def test_a_box_that_is_no_face_s_is_refused(weights: Path, box: list[float], message: str) -> None:
    predictor, image = Predictor.load(weights), np.zeros((80, 100, 3), np.uint8)
    with pytest.raises(LabError, match=message):
        predictor(image, np.array([box]))
    assert predictor(image, np.array([[-30.0, 20, 40, 90]])).points.shape == (1, 68, 2)  # partly outside


def test_pictures_and_boxes_in_any_form(weights: Path, tmp_path: Path) -> None:
    predictor, sample = Predictor.load(weights), SyntheticFaces(1, seed=8)[0]
    expected = predictor(sample.image, sample.box[None]).points
    write_image(tmp_path / "face.png", sample.image)
    alpha = np.concatenate([sample.image, np.full_like(sample.image[..., :1], 9)], axis=2)
    for image in (alpha, tmp_path / "face.png", str(tmp_path / "face.png")):
        assert torch.equal(predictor(image, sample.box).points, expected)
    gray = sample.image[..., 1]
    grays = [predictor(image, sample.box).points for image in (gray, gray[..., None], np.stack([gray] * 3, axis=2))]
    assert torch.equal(grays[0], grays[1]) and torch.equal(grays[0], grays[2])
    assert predictor(sample.image, np.zeros((0, 4))).points.shape == (0, 68, 2)  # of a picture without faces
    assert repr(predictor) == "Predictor(awing, 68 points, 64 px, cpu)"
    for wrong, message in (
        (sample.image / 255, "uint8, 0 to 255, or a path; this one is float64"),  # points were 36 px off
        (sample.image[..., :2], r"\(H, W, 3\), RGB; this one has \(256, 256, 2\)"),
        (sample.image[:0], "shape"),
        (None, "this one is NoneType"),
    ):
        with pytest.raises(LabError, match=message):
            predictor(wrong, sample.box)  # type: ignore[arg-type]


def test_a_list_of_pictures_gives_a_list(weights: Path, tmp_path: Path) -> None:
    predictor, faces = Predictor.load(weights), SyntheticFaces(2, seed=8)
    pictures, boxes = [faces[0].image, faces[1].image], [faces[0].box, np.stack([faces[1].box] * 2)]
    found = predictor([*pictures, pictures[0]], [*boxes, np.zeros((0, 4))])
    assert [len(one.points) for one in found] == [1, 2, 0]
    for one, picture, own in zip(found, pictures, boxes, strict=False):
        assert torch.equal(one.points, predictor(picture, own).points)
    write_image(tmp_path / "face.png", pictures[0])
    (path,) = predictor((tmp_path / "face.png",), boxes[0][None])
    assert torch.equal(path.points, found[0].points) and predictor([], []) == []
    mistakes: list[tuple[Any, Any, str]] = [
        (pictures, boxes[0][None], "2 pictures, but boxes of 1; give a list with the boxes of each"),
        ([pictures[0]] * 4, boxes[0], r"picture 0: boxes of a picture have the shape \(N, 4\) or \(4,\).*have \(\)"),
        ([pictures[0], "none.png"], boxes, "picture 1: none.png: image is missing"),
        (np.stack(pictures), boxes, r"\(H, W, 3\), RGB; this one has \(2, 256"),
    ]
    for mistake, given, message in mistakes:
        with pytest.raises(LabError, match=message):
            predictor(mistake, given)


def test_auto_takes_a_gpu_that_computes_and_else_the_processor(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Predictor.load(weights, device="auto").device.type == "cpu"


@pytest.mark.parametrize("device", ["gpu", "CPU", "meta", "cuda:77"])
def test_a_device_that_cannot_be_used(weights: Path, device: str) -> None:
    with pytest.raises(LabError, match=f"device {device} cannot be used here .*; use cpu") as raised:
        Predictor.load(weights, device=device)
    assert "\n" not in str(raised.value)


def test_half_the_bytes_give_the_same_points(weights: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    assert main([str(weights), str(small), "--half"]) == 0
    assert small.stat().st_size < 0.75 * weights.stat().st_size
    whole, half = load_file(weights), load_file(small)
    assert {value.dtype for key, value in half.items() if value.ndim > 1} == {torch.float16}
    assert all(torch.equal(half[key], value.half()) for key, value in whole.items() if value.ndim > 1)
    assert all(torch.equal(half[key], value) for key, value in whole.items() if value.ndim < 2)
    predictor = Predictor.load(small)
    assert {p.dtype for p in predictor.task.parameters()} == {torch.float32}
    large = {"a": torch.full((2, 2), 1e6)}
    assert torch.equal(halved(large)["a"], large["a"])  # what float16 cannot hold stays


def test_a_folder_keeps_a_predictor(task: AWingTask, weights: Path, tmp_path: Path) -> None:
    first = Predictor.load(weights)
    file = first.save_pretrained(tmp_path / "awing")
    again = Predictor.from_pretrained(tmp_path / "awing")
    assert (again.crop, again.official, again.task.METHOD) == (first.crop, False, "awing")
    sample = SyntheticFaces(1, seed=8)[0]
    one, two = (predictor(sample.image, sample.box[None]).points for predictor in (first, again))
    assert torch.equal(one, two)
    assert torch.equal(Predictor.from_pretrained(file)(sample.image, sample.box[None]).points, one)
    with pytest.raises(LabError, match="exists already"):
        again.save_pretrained(tmp_path / "awing")
    again.save_pretrained(tmp_path / "awing", overwrite=True)
    with pytest.raises(LabError, match="no folder with model.safetensors"):
        Predictor.from_pretrained(tmp_path)


def test_a_name_is_a_method_with_embedded_weights() -> None:
    for path in (path for method in METHODS.values() for path in method.weights()):
        assert Predictor.from_pretrained(path.parent.parent.name).task.METHOD == path.parent.parent.name
    with pytest.raises(LabError, match="nothing_here: is no file of weights, no folder"):
        Predictor.from_pretrained("nothing_here")


def test_the_model_hub_gives_the_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if repository == "owner/none":
            raise hub.errors.LocalEntryNotFoundError("no network\nand more")
        return str(weights)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert Predictor.from_pretrained("owner/awing-small").task.METHOD == "awing"
    assert asked == [("owner/awing-small", "model.safetensors")]
    with pytest.raises(LabError, match=r"owner/none: cannot be had from the model hub \(no network\)"):
        Predictor.from_pretrained("owner/none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LabError, match=r"face-alignment-lab\[hub\]"):
        Predictor.from_pretrained("owner/awing-small")


def test_files_that_do_not_say_what_they_are(task: AWingTask, weights: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(weights), bare)
    with pytest.raises(LabError, match=r"bare\.safetensors: does not say what network"):
        describe(bare)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(LabError, match="truncated or damaged"):
        describe(cut)
    with pytest.raises(LabError, match="weights are missing"):
        describe(tmp_path / "none.safetensors")
    with pytest.raises(LabError, match=r"config\.yaml: has no data\.crop"):
        describe(checkpoint(tmp_path, task, crop=False))
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(LabError, match="no checkpoint of this project"):
        describe(foreign)


def test_files_of_others_are_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.5"}, tmp_path / "last.ckpt")
    with pytest.raises(LabError, match="a Lightning checkpoint of another program"):
        Predictor.load(tmp_path / "last.ckpt")
    for name in ("model.ckpt-21300.index", "model.ckpt-21300.meta", "model-0000.params"):
        (tmp_path / name).write_bytes(b"no pickle")
    for name, method in (("model.ckpt-21300", "musica"), ("model-0000.params", "sdu3d")):
        with pytest.raises(LabError, match=f"official weights of {method}.*python -m {method}.convert .*{name} OUT"):
            Predictor.load(tmp_path / name)


@pytest.mark.parametrize("name", ["common", "../awing", "os", "nothing_here"])
def test_only_methods_of_this_project_are_imported(name: str, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    metadata = {**read_metadata(weights), "method": name}
    save_file(load_file(weights), path, metadata)
    with pytest.raises(LabError, match="is not installed"):
        Predictor.load(path)


def test_settings_that_do_not_fit(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    metadata = {**read_metadata(weights), "hyper_parameters": json.dumps({**SETTINGS, "wings": 2})}
    save_file(load_file(weights), path, metadata)
    with pytest.raises(LabError, match="SHA-256 differs"):
        Predictor.load(path)
    save_file(load_file(weights), path, {key: value for key, value in metadata.items() if key != ENTRY})
    with pytest.raises(LabError, match="was made with wings, which awing does not know"):
        Predictor.load(path)
    assert main([str(path), str(tmp_path / "out.bin")]) == 2


def test_embedded_weights_are_small_and_one_method_is_the_default() -> None:
    found = [path for method in METHODS.values() for path in method.weights()]
    assert all(path.stat().st_size < 10e6 for path in found)
    for path in found:
        Predictor.load(path)
    (default,) = (method for method in METHODS.values() if method.default)
    assert default_weights() == default.weights()[0]
    card = f"{default.name}/weights/README.md"
    for name in ("README.md", "docs/predict.md", "docs/quick_start.md"):
        assert card in (default.folder.parent / name).read_text(encoding="utf-8"), f"{name} describes another default"
