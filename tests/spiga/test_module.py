"""Stages, frozen parts, warm starts, prediction and pictures of SPIGA's task."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import load_weights, read_state_dict, save_safetensors
from common.prediction.inference import Predictor
from common.task import make_task
from common.types import FaceBatch
from spiga.cli import main
from spiga.convert import TASK_PREFIX
from spiga.drawing import axis_ends, draw_attention, draw_pose_axes
from spiga.mean_face import default_mean_face, read_mean_face
from spiga.module import ExtraConfig, SpigaTask
from spiga.schemes import NOSE_TIP, identifiers

SMALL = {"scheme": "ibug68", "input_size": 64, "stacks": 2, "width": 32, "depth": 2, "steps": 2}
TINY_RUN = ["--data.train_count", "4", "--data.val_count", "2", "--data.batch_size", "2", "--data.eval_batch_size", "2",
            "--data.num_workers", "0", "--data.crop.size", "64", "--model.depth", "2", "--model.graph.steps", "2",
            "--model.width", "32", "--model.stacks", "1", "--track", "false", "--trainer.max_epochs", "1",
            "--trainer.enable_progress_bar", "false"]  # fmt: skip


def make(**changes: object) -> SpigaTask:
    torch.manual_seed(0)
    return make_task(SpigaTask, {**SMALL, **changes}, "test")


@pytest.fixture(scope="module")
def faces() -> FaceBatch:
    crops = CroppedFaces(SyntheticFaces(3, scheme="ibug68", seed=2), CropConfig(size=64, box_scale=1.6))
    return Collate(())([crops[i] for i in range(3)])


def train_steps(task: SpigaTask, batch: FaceBatch, count: int = 2) -> None:
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=1e-2, weight_decay=0.1)
    task.train()
    for _ in range(count):
        optimizer.zero_grad()
        task.training_loss(batch)["loss"].backward()
        optimizer.step()


@pytest.mark.parametrize("answer", ["maps", "pose", "cascade"])
def test_flip_test_gives_mirrored_crops_mirrored_points(faces: FaceBatch, answer: str) -> None:
    mirrored = replace(faces, image=faces.image.flip(-1))
    plain, both = make(answer=answer).eval(), make(answer=answer, extra=ExtraConfig(flip_test=True)).eval()
    with torch.inference_mode():
        one, two, mean = (task.predict_batch(batch) for task, batch in
                          ((plain, faces), (plain, mirrored), (both, faces)))  # fmt: skip
        back = both.predict_batch(mirrored)
    torch.testing.assert_close(mean.points, (one.points + plain.mirror_back(two.points)) / 2)
    torch.testing.assert_close(back.points, both.mirror_back(mean.points))
    torch.testing.assert_close(mean.steps[-1], mean.points)
    other = plain.mirror_back(two.points)
    sides = other.amax(1) - other.amin(1)
    apart = (one.points - other).norm(dim=-1) / (sides[:, 0] * sides[:, 1]).sqrt()[:, None]
    assert mean.score is not None
    torch.testing.assert_close(mean.score, -apart)
    assert (one.points - mean.points).abs().max() > 1e-3


def changed(task: SpigaTask, before: dict[str, Tensor]) -> set[str]:
    """Return the first parts of the names of all entries, BatchNorm statistics included, that are not bit-equal."""
    after = task.net.state_dict()
    names = [name for name, value in before.items() if not torch.equal(after[name], value)]
    return {".".join(name.split(".")[: 2 if name.startswith("backbone") else 1]) for name in names}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_stage_changes_only_what_it_trains(stage: int, faces: FaceBatch) -> None:
    task = make(stage=stage)
    before = copy.deepcopy(task.net.state_dict())
    train_steps(task, faces)
    found = changed(task, before)
    backbone = {"backbone.stem", "backbone.hourglasses", "backbone.tops", "backbone.heads", "backbone.merge_maps",
                "backbone.merge_features"}  # fmt: skip
    expected = {1: backbone, 2: backbone | {"backbone.cores", "pose"}, 3: {"cascade"}}[stage]
    assert found == expected


def test_the_frozen_backbone_is_bit_equal_through_the_trainer(tmp_path: Path) -> None:
    """Stage 1, 2 and 3 by the command line; stage 3 leaves backbone and statistics as stage 2 wrote them."""
    before, source = tmp_path, tmp_path
    for stage in (1, 2, 3):
        run = tmp_path / f"helen_stage{stage}"
        more = ["--init_from", str(source)] if stage > 1 else []
        main(["fit", "--config", str(Path(__file__).parents[2] / "spiga" / f"helen_stage{stage}.yaml"), *TINY_RUN,
              "--data.dataset", "synthetic", "--data.cache", "false", "--run", str(run),
              "--trainer.check_val_every_n_epoch", "1", *more])  # fmt: skip
        before, source = source, run / "checkpoints" / "last.ckpt"
    old, new = read_state_dict(before), read_state_dict(source)
    assert old.keys() == new.keys()
    same = {key: torch.equal(old[key], new[key]) for key in old}
    frozen = [key for key in old if key.startswith(("net.backbone.", "net.pose.", "net.mean_face"))]
    assert any("running_mean" in key for key in frozen) and all(same[key] for key in frozen)
    assert not all(same[key] for key in old if key.startswith("net.cascade."))


def test_a_missing_former_stage_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "stage2" / "checkpoints" / "last.ckpt"
    recipe = str(Path(__file__).parents[2] / "spiga" / "helen_stage3.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", recipe, *TINY_RUN, "--data.dataset", "synthetic", "--run", str(tmp_path / "run"),
              "--init_from", str(source)])  # fmt: skip
    said = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    command = "python -m spiga.cli fit --config spiga/stage2.yaml --data.dataset synthetic"
    assert said[-1] == f"error: {source}: weights to start from are missing; run this first: {command}"


def test_one_run_goes_through_the_stages(faces: FaceBatch) -> None:
    task = make(stage_epochs=(2, 1))
    stages = []
    for epoch in range(5):
        type(task).current_epoch = property(lambda self, e=epoch: e)  # type: ignore[method-assign, assignment, misc]
        try:
            task.on_train_epoch_start()
        finally:
            del type(task).current_epoch
        stages.append(task.stage)
        assert task.net.pose.weight.requires_grad == (task.stage == 2)
    assert stages == [1, 1, 2, 3, 3]
    with pytest.raises(LabError, match="stage_epochs"):
        make(stage=2, stage_epochs=(1, 1))


def test_predictions_are_the_stage_s_and_lie_in_crop_pixels(faces: FaceBatch) -> None:
    for stage, steps in ((1, 2), (2, 1), (3, 3)):
        task = make(stage=stage).eval()
        with torch.inference_mode():
            found = task.predict_batch(faces)
        assert len(found.steps) == steps and found.points.shape == (3, 68, 2)
        assert (found.pose is None) == (stage == 1)
        torch.testing.assert_close(found.points, found.steps[-1])
    # The projected mean face of a frontal pose looks out of the middle of the crop: its nose tip lies there.
    middle = (task.net.map_size * 4 - 1) / 2
    with torch.inference_mode():
        tip = task.net.place(torch.tensor([[0.0, 0, 0, 0, 0, 3]]))[0, NOSE_TIP["ibug68"]] * 64 - 0.5
    torch.testing.assert_close(tip, torch.full((2,), middle), atol=1e-4, rtol=0)


def test_prediction_of_a_photograph_has_points_and_pose_in_image_pixels(faces: FaceBatch) -> None:
    task = make(stage=3).eval()
    sample = SyntheticFaces(1, scheme="ibug68", seed=2)[0]
    crop = CropConfig(size=64, box_scale=1.6)
    found = Predictor(task, crop)(sample.image, sample.box[None])
    with torch.inference_mode():
        inside = task.predict_batch(faces)
    expected = task.to_image_pixels(inside.points, faces)[0]
    torch.testing.assert_close(found.points[0].float(), expected, atol=1e-2, rtol=0)
    assert found.pose is not None
    torch.testing.assert_close(found.pose[0], inside.pose[0], atol=1e-3, rtol=0)  # type: ignore[index]
    row = task.eval().predict_step(faces, 0)
    assert row["pose"].shape == (3, 3) and row["points"].shape == (3, 68, 2)


def test_weights_carry_their_mean_face_and_a_file_replaces_it(tmp_path: Path, faces: FaceBatch) -> None:
    own = default_mean_face(make().scheme)
    file = tmp_path / "face.npy"
    np.save(file, own.numpy() * 1.1)
    task = make(mean_face=str(file))
    torch.testing.assert_close(task.net.mean_face, own.float() * 1.1)
    weights = tmp_path / "weights.safetensors"
    save_safetensors(task.state_dict(), weights, {})
    again = make()
    load_weights(again, read_state_dict(weights), str(weights))  # the file of the face need not be there any more
    torch.testing.assert_close(again.net.mean_face, own.float() * 1.1)
    assert "mean_face" not in task.hparams


def test_mean_faces_are_read_from_text_and_mistakes_are_told(tmp_path: Path) -> None:
    scheme = make().scheme
    own = default_mean_face(scheme)
    assert own.shape == (68, 3) and own[NOSE_TIP["ibug68"]].abs().max() == 0
    left, right = scheme.corners
    assert float((own[left] - own[right]).norm()) == pytest.approx(0.84)
    torch.testing.assert_close(own[list(scheme.mirror)] * torch.tensor([1.0, -1, 1]), own)
    lines = [f"{name}|{-y}|{-z}|{x}" for name, (x, y, z) in zip(identifiers(scheme), own.tolist(), strict=True)]
    file = tmp_path / "face.txt"
    file.write_text("\n".join(lines))
    torch.testing.assert_close(read_mean_face(file, scheme), own)
    file.write_text("\n".join(lines[:-1]))
    with pytest.raises(LabError, match="1 points of scheme ibug68 are missing"):
        read_mean_face(file, scheme)
    file.write_text("\n".join([lines[0], "7|1|2"]))
    with pytest.raises(LabError, match=r"face\.txt:2: expected id"):
        read_mean_face(file, scheme)
    with pytest.raises(LabError, match="missing"):
        read_mean_face(tmp_path / "none.npy", scheme)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": 4}, "stage must be 1, 2 or 3"),
        ({"scheme": "cofw29"}, "knows the schemes"),
        ({"last_head": False, "stage": 1}, "last_head"),
        ({"input_size": 96}, "depth 2"),
        ({"graph": "knn", "knn": 68}, "knn must be in 1 ... 67"),
    ],
)
def test_wrong_settings_are_told(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=message):
        make(**changes)


def test_pose_axes_and_attention_are_drawn() -> None:
    ends = axis_ends(np.zeros(3), 10.0)
    np.testing.assert_allclose(ends, [[0, 0], [10, 0], [0, -10]], atol=1e-9)  # to the viewer, subject's left, up
    assert axis_ends(np.array([30.0, 0, 0]), 10.0)[0, 0] > 4  # a nose that turns to the image's right
    blank = np.zeros((60, 60, 3), np.uint8)
    points = np.stack([np.linspace(10, 50, 68), np.full(68, 30.0)], 1)
    drawn = make().decorate(blank, points, np.array([10.0, 5, 0]))
    assert drawn.any() and not blank.any()
    np.testing.assert_array_equal(make().decorate(blank, points, None), blank)
    lost = draw_pose_axes(blank, np.array([np.nan, 0, 0]), points, points[30])
    assert not lost.any()
    weights = np.zeros(68)
    weights[40] = 1
    picture = draw_attention(blank, points, weights, 0)
    x, y = points[40].round().astype(int)
    assert picture[y, x].tolist() == [255, 235, 60] and not blank.any()


def test_converted_prefix_is_where_the_task_holds_its_network() -> None:
    assert all(key.startswith(TASK_PREFIX) for key in make().state_dict() if not key.startswith(("val_", "test_")))
