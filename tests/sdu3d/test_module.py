"""The task: options of targets and views, depth, decoding frames, command line, scores of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.studies.sdu3d.evaluate import main as evaluate_main
from benchmarks.studies.sdu3d.evaluate import score_crops
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.data.wrappers import WithDepth
from common.errors import LabError
from common.task import load_task, make_task
from common.types import FaceBatch
from sdu3d.cli import main
from sdu3d.module import SduTask
from sdu3d.optim import SharedNadam

SMALL: dict[str, Any] = {"input_size": 64, "width": 32, "depth": 2, "stride": 4, "peak": 1.0, "quantise": False}


def task(**options: Any) -> SduTask:
    torch.manual_seed(0)
    return make_task(SduTask, {**SMALL, **options}, "test")


@pytest.fixture(scope="module")
def flat() -> FaceBatch:
    faces = SyntheticFaces(4, seed=7, size=96)
    crops = CroppedFaces(faces, CropConfig(size=64, box_scale=1.4))
    return Collate(faces.subset_names)([crops[i] for i in range(4)])


@pytest.fixture(scope="module")
def deep() -> FaceBatch:
    faces = WithDepth(SyntheticFaces(4, seed=7, size=96))
    crops = CroppedFaces(faces, CropConfig(size=64, box_scale=1.4))
    return Collate(faces.subset_names)([crops[i] for i in range(4)])


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "l2", "coherent": 0.001},
        {"loss": "ce", "sigma": 0.0},
        {"loss": "bce", "inside": "stn"},
        {"topology": "sat", "inside": "dcn", "coherent": 0.1},
        {"block": "hpm"},
        {"loss.kind": "ce", "loss.integral_weight": 0.5, "net.stem": "strided", "net.growth": 16},
    ],
)
def test_every_option_gives_a_loss_that_reaches_every_parameter(options: dict[str, Any], flat: FaceBatch) -> None:
    made = task(**options).train()
    parts = made.training_loss(flat)
    torch.testing.assert_close(parts["loss"], torch.stack([v for k, v in parts.items() if k != "loss"]).sum())
    assert ("coherent" in parts) == bool(options.get("coherent"))
    parts["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())
    assert made.eval().predict_batch(flat).points.shape == (4, 68, 2)


def test_the_coordinate_term_is_the_error_of_the_distribution_s_mean(flat: FaceBatch) -> None:
    made = task(**{"loss.kind": "ce", "loss.integral_weight": 2.0, "decode": "soft"}).eval()
    parts = made.training_loss(flat)
    inside = ((flat.points >= -0.5) & (flat.points <= 63.5)).all(-1) & (flat.weight > 0)
    error = (made.predict_batch(flat).points - flat.points).abs().mean(-1)[inside].mean() / 4  # in cells
    torch.testing.assert_close(parts["integral1"], 2.0 * error)
    with pytest.raises(LabError, match="loss.kind ce"):
        task(**{"loss.kind": "l2", "loss.integral_weight": 1.0})


def test_flip_test_gives_mirrored_crops_mirrored_points(flat: FaceBatch) -> None:
    mirrored = replace(flat, image=flat.image.flip(-1))
    plain, both = task(decode="local_soft").eval(), task(decode="local_soft", flip_test=True).eval()
    error = [
        (made.mirror_back(made.predict_batch(mirrored).points) - made.predict_batch(flat).points).abs().max()
        for made in (plain, both)
    ]
    assert error[0] > 1 and error[1] < 1e-3


def test_views_are_of_the_same_faces(flat: FaceBatch) -> None:
    """A network that answers the true maps of whatever it is shown has hardly any coherent loss; a wrong one has."""
    made = task(coherent=1.0, sigma=2.0, quantise=False)
    views = made._draw_views(flat)
    _, points = made._with_views(flat, views)
    maps = made.target_maps(points)
    size = maps.square().mean()
    assert made._coherent([maps], views) < 0.02 * size
    assert made._coherent([torch.cat([maps[:4], maps[4:].roll(1, 0)])], views) > 0.2 * size
    assert (views.points(flat.points, 64, made.scheme.mirror) - flat.points).abs().max() > 5


def test_views_of_a_step_can_be_repeated(flat: FaceBatch) -> None:
    made = task(coherent=1.0)
    assert torch.equal(made._draw_views(flat).matrix, made._draw_views(flat).matrix)


def test_points_without_annotation_do_not_count(flat: FaceBatch) -> None:
    made = task().eval()
    partly = FaceBatch(**{**vars(flat), "weight": flat.weight.clone(), "points": flat.points.clone()})
    partly.weight[:, 5] = 0
    first = made.training_loss(partly)["loss"]
    partly.points[:, 5] += 20
    torch.testing.assert_close(made.training_loss(partly)["loss"], first)
    assert made.training_loss(flat)["loss"] > first


def test_depth_is_learnt_and_answered_in_crop_pixels(deep: FaceBatch) -> None:
    made = task(depth_head=True, decode="local_soft", block="resnet", depth=1).train()
    assert made.new_parts() == ("net.depth_maps.",)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    errors = []
    for _ in range(25):
        optimizer.zero_grad()
        parts = made.training_loss(deep)
        parts["loss"].backward()
        optimizer.step()
        errors.append(parts["depth"].item())
    assert errors[-1] < 0.5 * errors[0]
    made.check_batch(deep)
    prediction = made.predict_batch(deep)
    assert prediction.points.shape == (4, 68, 3) and len(prediction.steps) == 2
    assert prediction.points[..., 2].mean(1).abs().max() < 1e-3
    true = deep.points[..., 2]
    assert (prediction.points[..., 2] - true).abs().mean() < 0.8 * true.abs().mean()
    image = made.to_image_pixels(prediction.points, deep)
    ratio = image[..., 2] / prediction.points[..., 2]
    torch.testing.assert_close(ratio, deep.to_image[:, :1, 0].expand_as(ratio).abs(), rtol=1e-3, atol=1e-3)


def test_data_and_model_must_agree_about_depth(flat: FaceBatch, deep: FaceBatch) -> None:
    with pytest.raises(LabError, match="data has 3 coordinates a landmark, the model predicts 2"):
        task().check_batch(deep)
    with pytest.raises(LabError, match="data has 2 coordinates a landmark, the model predicts 3"):
        task(depth_head=True).check_batch(flat)
    with pytest.raises(LabError, match="data have no depth"):
        task(depth_head=True).training_loss(flat)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("decode", ["released", "argmax", "window", "local_soft"])
def test_targets_and_decoding_share_a_frame(official: bool, decode: str, flat: FaceBatch) -> None:
    """Decoding the targets gives the points back, in the project's frame and in the released one; no bias but one."""
    made = task(official_frame=official, quantise=True, sigma=1.0, decode=decode, peak=20.0, stride=2)
    error = made.decode_maps(made.target_maps(flat.points)) - flat.points
    # Half a cell; the enlarged map may put the first of two equal pixels half a pixel further off.
    assert error.abs().max() <= (1.51 if decode == "released" else 1.01)
    bias = 0.5 if decode == "released" else 0.0  # of two equal pixels, the left and upper one is taken
    assert (error.mean((0, 1)) + bias).abs().max() < 0.15


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_size": 60}, "input_size must be a multiple of 16"),
        ({"loss": "l1"}, "loss.kind: must be one of l2, ce, bce, got l1"),
        ({"decode": "max"}, "decode: must be one of"),
        ({"optimizer": "lion"}, "train.optimizer: must be one of"),
        ({"coherent": -1.0}, "views.weight must be in"),
        ({"block": "vgg"}, "block: must be one of"),
    ],
)
def test_wrong_settings_are_told(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        task(**wrong)


def test_fit_test_and_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of two steps with the released optimiser, its test, and the scores of its checkpoint."""
    run = tmp_path / "run"
    common = [
        "--data.dataset", "synthetic", "--data.train_count", "8", "--data.val_count", "2", "--data.test_count", "2",
        "--data.batch_size", "4", "--data.eval_batch_size", "2", "--data.num_workers", "0", "--data.crop.size", "64",
        "--run", str(run), "--track", "false", "--trainer.enable_progress_bar", "false",
        "--trainer.enable_model_summary", "false",
    ]  # fmt: skip
    model = ["--model.net.width", "32", "--model.net.depth", "1", "--model.net.stride", "4",
             "--model.views.weight", "0.01", "--trainer.max_epochs", "1"]  # fmt: skip
    made = main(["fit", *common, *model])
    assert isinstance(made.trainer.optimizers[0], SharedNadam)
    assert made.trainer.optimizers[0].momentum_product < 1e-3
    checkpoint = run / "checkpoints" / "last.ckpt"
    tested = main(["test", *common, "--ckpt_path", str(checkpoint)])
    again = load_task(SduTask, checkpoint)
    assert again.views.weight == 0.01
    faces = SyntheticFaces(2, offset=2_000_000)
    scores = score_crops(again, faces, CropConfig(size=64))
    assert scores["released"]["corners"] == pytest.approx(float(tested.model.evaluation.nme.mean()), rel=1e-4)
    assert set(scores["argmax"]) == {"corners", "eye_centres", "lnd_bbox"}
    capsys.readouterr()
    assert evaluate_main([str(checkpoint)]) == 2
    assert evaluate_main([str(tmp_path / "none.ckpt"), "--data", str(tmp_path)]) == 2
    assert "checkpoint is missing" in capsys.readouterr().err
    json.dumps(scores)
