"""The task: what it trains, what it predicts, its start shape, its moving average and its augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.task import load_task, make_task
from common.types import FaceBatch
from musica.augment import PaperAugment, was_augmented
from musica.exit import ExitPolicy
from musica.loss import CascadeLoss, landmark_error
from musica.module import MusicaTask
from musica.targets import default_shape, mean_shape

SMALL: dict[str, Any] = {"scheme": "ibug68", "input_size": 96, "patches": [30, 36, 45, 48, 54], "units": 16}


def made(**changes: Any) -> MusicaTask:
    return make_task(MusicaTask, {**SMALL, **changes}, "test")


CROP = CropConfig(size=96, box_scale=1.6)


def make_batch(count: int = 3, crop: CropConfig = CROP, seed: int | None = None) -> FaceBatch:
    data = CroppedFaces(SyntheticFaces(count, seed=2), crop, seed)
    return Collate()([data[i] for i in range(count)])


def test_steps_end_in_the_answer_and_score_is_the_predicted_error() -> None:
    task, batch = made().eval(), make_batch()
    torch.nn.init.ones_(task.net.stage_list[2].output.bias)
    with torch.inference_mode():
        prediction = task.predict_batch(batch)
    assert len(prediction.steps) == 3 and torch.equal(prediction.steps[-1], prediction.points)
    assert prediction.score is not None
    torch.testing.assert_close(prediction.score, -torch.ones(3, 68), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        prediction.steps[2], prediction.steps[1] + 1, rtol=0, atol=1e-2
    )  # x, y: the last level is the crop's


def test_untrained_network_answers_the_start_shape_in_x_y_order() -> None:
    task, batch = made().eval(), make_batch()
    for stage in task.net.stage_list:
        torch.nn.init.zeros_(stage.output.weight)
    with torch.inference_mode():
        points = task.predict_batch(batch).points
    torch.testing.assert_close(points[0], task.net.start.flip(-1))
    assert points[0, 8, 1] > points[0, 27, 1] and points[0, 45, 0] > points[0, 36, 0]  # chin below, eyes in order


def test_start_shape_is_the_training_set_s_mean() -> None:
    data = CroppedFaces(SyntheticFaces(5, seed=2), CropConfig(size=96, box_scale=1.6, rotation=30, shift=0.2), 0)
    still = CroppedFaces(data.faces, CROP)
    expected = np.mean([still[i].points for i in range(5)], axis=0)[:, ::-1]
    np.testing.assert_allclose(mean_shape(data.faces, data.config, 100), expected, atol=1e-4)
    guess = default_shape(data.faces.scheme, 96)
    assert (guess - torch.from_numpy(expected.copy())).norm(dim=1).mean() < 6
    from common.schemes import get_scheme

    assert torch.equal(default_shape(get_scheme("cofw29"), 96), torch.full((29, 2), 47.5))


def test_origin_box_counts_from_the_box_s_corner() -> None:
    task, batch = made(origin="box").eval(), make_batch()
    task.net.start.zero_()
    for stage in task.net.stage_list:
        torch.nn.init.zeros_(stage.output.weight)
    assert batch.box is not None
    with torch.inference_mode():
        points = task.predict_batch(batch).points
    torch.testing.assert_close(points[:, 0], batch.box[:, :2])
    batch.box = None
    with pytest.raises(LabError, match="boxes"):
        task.predict_batch(batch)


@pytest.mark.parametrize("rank", [0, 4])
def test_each_iteration_and_layer_learns_at_its_own_rate(rank: int) -> None:
    task = made(rank=rank, iteration_lr=[4, 2, 1], hidden_lr=0.25, output_lr=[1, 0.5, 2], lr=2e-3)
    groups = {group["name"]: group for group in task.parameter_groups()}
    rates = {name: group["lr"] / 2e-3 for name, group in groups.items()}
    expected: dict[str, list[float]] = {"hidden": [0.25] * 3, "output": [1, 0.5, 2], "iteration": [4, 2, 1]}
    assert rates == {f"{name}{t}": pytest.approx(shares[t - 1]) for name, shares in expected.items() for t in (1, 2, 3)}
    inputs = 256 * 5 + 16  # five patches and the state
    for t, stage in enumerate(task.net.stage_list, 1):
        (matrix,) = groups[f"hidden{t}"]["params"]
        assert inputs in matrix.shape
        assert {id(p) for p in groups[f"output{t}"]["params"]} == {id(p) for p in stage.output.parameters()}
    taken = [id(p) for group in groups.values() for p in group["params"]]
    assert len(taken) == len(set(taken)) and set(taken) == {id(p) for p in task.net.parameters()}
    assert len(made().parameter_groups()) == 1


def test_bilinear_training_passes_a_gradient_through_the_patches() -> None:
    """Iteration 0's answer decides where iteration 1 looks; only bilinear sampling tells it how to look better."""
    batch = make_batch()
    norms = {}
    for sampling in ("bilinear", "official"):
        torch.manual_seed(0)
        task = made(sampling=sampling)
        for parameter in task.net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        for stage in task.net.stage_list:
            torch.nn.init.normal_(stage.hidden.weight[:, -16:], std=0.1)
        run = task(batch)
        # The last iteration's own answer, without the sum that carries earlier displacements along.
        (gradient,) = torch.autograd.grad(run.errors[-1].sum(), task.net.stage_list[0].output.weight, allow_unused=True)
        norms[sampling] = 0.0 if gradient is None else float(gradient.norm())
    assert norms["bilinear"] > 0 and norms["official"] == 0


def test_loss_weights_and_dead_zone() -> None:
    truth = torch.rand(2, 68, 2) * 50
    points = truth + 0.004
    assert landmark_error(points, truth, (36, 45)).tolist() == [0, 0]  # 0.008 px in L1 counts as none
    points = truth + 1
    weight = torch.ones(2, 68)
    torch.testing.assert_close(
        landmark_error(points, truth, (36, 45), weight=weight), landmark_error(points, truth, (36, 45))
    )
    weight[0, 10:] = 0
    points[0, 10:] += 100
    unit = 2 / (truth[:, 36] - truth[:, 45]).abs().sum(-1)
    torch.testing.assert_close(landmark_error(points, truth, (36, 45), weight=weight), unit)
    parts = CascadeLoss((36, 45), error_share=0.25)([points] * 2, [torch.zeros(2)] * 2, truth, weight)
    torch.testing.assert_close(parts["landmark"], 2 * 0.75 * unit.mean())
    torch.testing.assert_close(parts["error"], 2 * 0.25 * unit.mean())
    for wrong in ({"kind": "l2"}, {"error_share": 2.0}):
        with pytest.raises(LabError):
            CascadeLoss((36, 45), **wrong)  # type: ignore[arg-type]


def test_paper_augmentation_changes_what_the_crop_changed() -> None:
    crop = CropConfig(size=96, box_scale=1.6, rotation=30, shear=0.3, stretch=0.4, chance=0.5)
    batch = make_batch(12, crop, seed=1)
    changed = was_augmented(batch.to_image)
    assert 0 < int(changed.sum()) < 12
    augment = PaperAugment()
    one, two = (augment(batch, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.image, two.image) and torch.equal(one.points, batch.points)
    gray = (one.image[:, 0] == one.image[:, 1]).flatten(1).all(1)
    assert 0 < int(gray.sum()) < 12
    for row in range(12):
        same = torch.equal(one.image[row], batch.image[row])
        assert same == (not changed[row] and not gray[row])
    assert was_augmented(make_batch(3).to_image).tolist() == [False] * 3


def test_policy_marks_failures_and_is_no_hyper_parameter(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    ExitPolicy((10.0, 10.0), 0.5, 3, "ibug68").write(path)
    task, batch = made(policy=str(path)).eval(), make_batch()
    assert "policy" not in task.settings()
    for stage in task.net.stage_list:
        torch.nn.init.zeros_(stage.output.weight)
    with torch.inference_mode():
        row = task.predict_step(batch, 0)
        assert row["iterations"].tolist() == [1] * 3 and row["failed"].tolist() == [False] * 3
        task.net.stage_list[0].output.bias[-1] = 0.7
        assert task.predict_step(batch, 0)["failed"].tolist() == [True] * 3
        task.net.stage_list[0].output.bias[-1] = float("nan")
        task.net.stage_list[2].output.bias[-1] = float("nan")
        task.net.stage_list[1].output.bias[-1] = float("nan")
        row = task.predict_step(batch, 0)
    assert row["failed"].tolist() == [True] * 3 and row["iterations"].tolist() == [3] * 3


def test_a_checkpoint_with_unknown_options_is_told(tmp_path: Path) -> None:
    path, values = tmp_path / "other.ckpt", SMALL | {"shake": 0.1, "spin": 2}
    torch.save({"state_dict": {}, "hyper_parameters": values, "method": "musica"}, path)
    with pytest.raises(LabError, match=r"other.ckpt: was made with shake, spin, which musica does not know"):
        load_task(MusicaTask, path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ema_decay": 1.0},
        {"origin": "eye"},
        {"patches": "some"},
        {"loss": "l3"},
        {"iteration_lr": -1.0},
        {"output_lr": [1.0, 1.0, 0.0]},
        {"hidden_lr": 0.0},
        {"hidden_lr": [1.0, 0.5]},
    ],
)
def test_wrong_options_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(LabError, match=next(iter(wrong)).removesuffix("_lr").removesuffix("_decay")):
        made(**wrong)
