"""The released preprocessing against recorded crops, metrics, and released weights on a photograph."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from common.data.crops import CropConfig
from common.errors import LabError
from common.files.converting import Converted
from common.metrics.functional import nme, normaliser, point_errors
from common.prediction.inference import Predictor
from common.schemes import IBUG68, WFLW98
from musica.convert import TASK_PREFIX
from musica.convert import main as convert_main
from musica.network import CascadeNet
from musica.original import main, official_crop, round_away, run_official
from musica.patches import make_level
from musica.pyramid import halvings, normalise
from musica.types import Pyramid
from tests.conftest import needs_shared
from tests.musica.golden import fill_module, golden_arrays, make_net, official_variables

SOURCES = {"inside": (3101, (260, 300)), "over_edge": (3102, (240, 200)), "upscaled": (3103, (120, 110))}


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", list(SOURCES))
def test_preprocessing(name: str, shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, name, "preprocess")
    seed, size = SOURCES[name]
    image = (fill_module(shared_dir).image(seed, (3, *size)).transpose(1, 2, 0) * 255).astype(np.uint8)
    crop = official_crop(image, golden["bbox_xyxy"])
    np.testing.assert_array_equal(crop.box, golden["bb_rot"])
    np.testing.assert_array_equal(crop.corner, golden["min_xy"])
    np.testing.assert_array_equal(crop.shift, golden["T0"])
    np.testing.assert_allclose(crop.blur, golden["T1"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(crop.matrix, golden["T"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(crop.pixels, golden["crop_255"], rtol=0, atol=2e-3)
    unit = crop.pixels / 255
    np.testing.assert_allclose([unit.mean(), unit.std()], golden["stats"], rtol=0, atol=1e-6)
    assert set(golden) == {"bbox_xyxy", "crop_255", "T", "T0", "T1", "bb_rot", "min_xy", "stats"}


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(("name", "scheme"), [("eval68", IBUG68), ("eval98", WFLW98)])
def test_released_metric(name: str, scheme: object, shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, name)
    truth, found = golden["gt_xy"][None], golden["pred_xy"][None]
    names = {"nme_ocular": "corners", "nme_pupil": "pupils"}
    for key in set(golden) - {"gt_xy", "pred_xy"}:
        ours = nme(point_errors(found, truth, normaliser(names[key], truth, scheme))) / 100  # type: ignore[arg-type]
        np.testing.assert_allclose(ours[0], golden[key], rtol=1e-6)


def test_rounding_is_away_from_zero() -> None:
    assert [round_away(v) for v in (0.5, 1.5, -0.5, -1.5, 2.4, -2.6)] == [1, 2, -1, -2, 2, -3]


def small_net() -> CascadeNet:
    """Return a small network with large random weights, so that the faces really move."""
    net = CascadeNet(68, (30, 36, 45, 48, 54), 3, units=8, sampling="official").eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net.start.copy_(torch.rand(68, 2) * 100 + 20)
    return net


def photographs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    images = [cv2.GaussianBlur(rng.integers(0, 255, (h, w, 3)).astype(np.uint8), (0, 0), 3) for h, w in
              ((200, 240), (150, 130), (300, 180))]  # fmt: skip
    boxes = [np.array([60.0, 40, 160, 170]), np.array([-10.0, 5, 90, 100]), np.array([30.0, 100, 171, 230])]
    return images, boxes


def test_a_face_s_answer_does_not_depend_on_its_batch() -> None:
    net, (images, boxes) = small_net(), photographs()
    together = run_official(net, images, boxes)
    for row, (image, box) in enumerate(zip(images, boxes, strict=True)):
        alone = run_official(net, [image], [box])
        np.testing.assert_allclose(together.steps[-1][row], alone.steps[-1][0], atol=1e-3)
        np.testing.assert_allclose(together.error[row], alone.error[0], atol=1e-4)


def test_answers_come_back_in_image_pixels() -> None:
    """With a network that moves nothing, the points are the start shape laid into the box."""
    net, (images, boxes) = small_net(), photographs()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    found = run_official(net, images[:1], boxes[:1]).steps[-1][0]
    crop = official_crop(images[0], boxes[0])
    expected = net.start.numpy()[:, ::-1] + crop.corner
    mapped = np.c_[found, np.ones(68)] @ crop.matrix.T
    np.testing.assert_allclose(mapped[:, :2], expected, atol=1e-4)
    # The start shape counts from the box's corner, at 142 px for the longer side.
    np.testing.assert_allclose(found - boxes[0][:2], net.start.numpy()[:, ::-1] * 131 / 142, atol=2.0)


def test_it_is_the_cascade_on_the_released_crop() -> None:
    net, (images, boxes) = small_net(), photographs()
    crop = official_crop(images[0], boxes[0])
    levels = [
        make_level(level.image.float()) for level in halvings(normalise(torch.from_numpy(crop.pixels)[None] / 255), 3)
    ]
    start = net.start[None] + torch.from_numpy(crop.corner[::-1].copy()).float()
    with torch.no_grad():
        run = net.run(Pyramid(levels), start)
    mapped = np.c_[run_official(net, images[:1], boxes[:1]).steps[-1][0], np.ones(68)] @ crop.matrix.T
    np.testing.assert_allclose(mapped[:, :2], run.points[-1][0].flip(-1).numpy(), atol=1e-3)


def test_bad_boxes_and_images_are_told() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    for box in ([3, 3, 3, 9], [0, 0, np.nan, 5]):
        with pytest.raises(LabError, match="box"):
            official_crop(image, np.array(box, float))
    with pytest.raises(LabError, match="bytes"):
        official_crop(image.astype(np.float32), np.array([0.0, 0, 5, 5]))


@needs_shared
@pytest.mark.golden
def test_the_official_network_predicts_a_picture(shared_dir: Path, tmp_path: Path) -> None:
    """Official variables, made-up values, in a file; crop and network are each compared with golden data elsewhere."""
    source, mean, target = tmp_path / "model.npz", tmp_path / "mean.npy", tmp_path / "out.safetensors"
    np.savez(source, **official_variables(shared_dir, "wflw98_2it"))  # type: ignore[arg-type]
    start = np.random.default_rng(0).uniform(0, 142, (98, 2)).astype(np.float32)
    np.save(mean, start)
    assert convert_main([str(source), str(target), "--mean_shape", str(mean)]) == 0
    golden = golden_arrays(shared_dir, "inside", "preprocess")
    image = (fill_module(shared_dir).image(3101, (3, 260, 300)).transpose(1, 2, 0) * 255).astype(np.uint8)
    found = Predictor.load(target)(image, golden["bbox_xyxy"][None].astype(np.float64))
    # The recorded crop through the golden-tested pyramid and cascade.
    net = make_net(shared_dir, "wflw98_2it").eval()
    unit = torch.from_numpy(golden["crop_255"].astype(np.float64))[None] / 255
    levels = [make_level(level.image.float()) for level in halvings(normalise(unit), 2)]
    with torch.no_grad():
        run = net.run(Pyramid(levels), torch.from_numpy(start + golden["min_xy"][::-1])[None].float())
    ours = np.c_[found.points[0].numpy(), np.ones(98)] @ golden["T"].T
    np.testing.assert_allclose(ours[:, :2], run.points[-1][0].flip(-1).numpy(), atol=2e-3)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, (images, boxes) = small_net(), photographs()
    weights, photo = tmp_path / "net.safetensors", tmp_path / "face.png"
    settings = {"scheme": "ibug68", "patches": [30, 36, 45, 48, 54], "units": 8, "sampling": "official",
                "origin": "box", "ema_decay": 0.0}  # fmt: skip
    state = {TASK_PREFIX + key: value for key, value in net.state_dict().items()}
    Converted("musica", state, settings, CropConfig(size=228)).write(weights)
    cv2.imwrite(str(photo), images[0][..., ::-1])
    expected = run_official(net, images[:1], boxes[:1]).steps[-1][0]
    box = [str(v) for v in boxes[0]]
    assert main([str(weights), str(tmp_path / "none.png"), "--box", *box]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main([str(weights), str(photo), "--box", *box]) == 0
    answer = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(answer["points"], expected, atol=1e-4)
    assert answer["iterations"] == 3
