"""The task: stages and what they train, boxes undone by the reinitialisation, end-to-end gradients, mean faces."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.shapes import training_shapes
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.geometry import compose_affine, tight_box
from common.task import make_task
from common.types import FaceBatch
from dpr.boxes import grow
from dpr.module import STAGES, DprTask
from dpr.targets import normalising_map
from dpr.transform import move_points, scaled, theta_map
from tests.conftest import needs_shared
from tests.dpr.golden import arrays, official_net, picture, shake

SMALL: dict[str, Any] = {
    "scheme": "ibug68", "input_size": 128, "face_size": 64, "part_size": 32, "face_strides": (1, 2, 2, 2, 2, 1, 1, 1),
    "part_strides": (1, 2, 2, 2, 1, 1, 1, 1), "reinit_weight": 20.0,
}  # fmt: skip


@functools.cache
def made(count: int = 4) -> FaceBatch:
    faces = SyntheticFaces(count, scheme="ibug68", seed=5)
    crops = CroppedFaces(faces, CropConfig(size=128, box_scale=1.5))
    return Collate(faces.subset_names)([crops[i] for i in range(count)])


def task(**more: Any) -> DprTask:
    torch.manual_seed(0)
    return make_task(DprTask, {**SMALL, **more}, "test")


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_trains_its_networks_and_no_other(stage: str) -> None:
    model = task(stage=stage).train()
    frozen = {name: value.clone() for name, value in model.net.state_dict().items()
              if not name.startswith(STAGES[stage])}  # fmt: skip
    parts = model.training_loss(made())
    parts["loss"].backward()
    assert float(parts["loss"]) == pytest.approx(sum(float(v) for k, v in parts.items() if k != "loss"), rel=1e-5)
    trained = {id(p) for group in model.parameter_groups() for p in group["params"]}
    for name, parameter in model.net.named_parameters():
        wanted = name.startswith(STAGES[stage])
        assert (id(parameter) in trained) == wanted == (parameter.grad is not None), name
    # Frozen BatchNorms keep their statistics.
    assert all(torch.equal(model.net.state_dict()[name], value) for name, value in frozen.items())
    assert (model.net.local_regress is not None) == any(name.startswith("local") for name in STAGES[stage])


def gradients(**more: Any) -> tuple[DprTask, dict[str, Tensor]]:
    """Return a task whose two reinitialisations depend on what they see (they start at constants), and its losses."""
    model = task(stage="glsr", reinit_weight=0.0, **more).train()
    shake(model.net.global_reinit.head[-1], 0.01)
    assert model.net.local_reinit is not None
    shake(model.net.local_reinit.layers[-1], 0.001)
    return model, model.training_loss(made())


def test_the_last_loss_reaches_the_first_network() -> None:
    """Parts' landmarks -> local map -> global landmarks -> face crop -> global map: all differentiable."""
    model, parts = gradients()
    parts["local"].backward()
    for name, module in model.net.named_children():
        first = next(module.parameters())
        assert first.grad is not None and float(first.grad.abs().max()) > 0, name


def test_the_gradient_through_the_crops_can_be_throttled() -> None:
    norms = []
    for factor in (1.0, 0.5, 0.0):
        model, parts = gradients(theta_gradient=factor)
        parts["global"].backward()
        grads = [p.grad for p in model.net.global_reinit.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()) if grads else 0.0)
    assert norms[1] == pytest.approx(0.5 * norms[0], rel=1e-3) and norms[2] == 0.0 < norms[0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_gradient_through_the_points_can_be_cut(share: float) -> None:
    """The local reinitialisation's loss reaches the global regression through the landmarks, or does not."""
    model = task(stage="glsr", point_gradient=share).train()
    assert model.net.local_reinit is not None
    for layer in (model.net.global_regress.head[-1], model.net.local_reinit.layers[-1]):
        shake(layer, 0.1)
    model.training_loss(made())["local_reinit"].backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in model.net.global_regress.parameters()]
    assert any(reached) == bool(share)
    assert all(p.grad is not None for p in model.net.local_reinit.parameters())


def test_a_true_map_and_true_offsets_give_no_loss_and_the_true_points() -> None:
    """Targets, transforms and decoding are one another's inverse."""
    model, batch = task(stage="gsr", weighting="plain"), made()
    image, box = batch.image.float(), model.given_box(batch)
    with torch.no_grad():
        true = normalising_map(batch.points.double(), model.net.mean_face) * model.net.face_size
        stages, _ = model.net.global_stage(image, box, true)
        offsets = 2 * (move_points(true, batch.points) / model.net.face_size - model.net.mean_face)
        found = (0.5 * offsets + model.net.mean_face) * model.net.face_size
        from dpr.transform import invert

        assert torch.equal(stages.face_map, true)
        assert torch.allclose(move_points(invert(true), found), batch.points.double(), atol=1e-6)


def test_local_stage_starts_from_the_global_backbone_and_fitting_maps() -> None:
    model = task(stage="local")
    model.net.start_local()
    assert model.net.local_regress is not None and model.net.local_reinit is not None
    ours, theirs = model.net.local_regress.backbone.state_dict(), model.net.global_regress.backbone.state_dict()
    for key, value in theirs.items():
        if value.ndim:
            assert torch.equal(ours[key], torch.cat([value] * 4)), key
    face = (model.net.mean_face * model.net.face_size)[None]
    maps = theta_map(model.net.local_reinit(face.float()), model.net.part_size)
    for k, (part, mean) in enumerate(zip(model.net.parts, model.net.mean_parts(), strict=True)):
        there = move_points(maps[:, k], face[:, list(part)])[0] / model.net.part_size
        assert torch.allclose(there, mean, atol=1e-4)


def test_grouped_parts_are_four_networks_side_by_side() -> None:
    """Each part's answer depends on its own crop alone."""
    model = task(stage="glsr").eval()
    assert model.net.local_regress is not None
    for layer in model.net.local_regress.last:
        shake(layer, 1.0)
    crops = torch.rand(2, 4, 3, 32, 32)
    with torch.inference_mode():
        before = model.net.local_regress(crops)
        crops[:, 2] += 1
        after = model.net.local_regress(crops)
    for part in range(4):
        assert torch.equal(before[part], after[part]) == (part != 2)


def test_jaw_keeps_gsr_s_points_and_parts_get_their_own() -> None:
    model = task(stage="glsr").eval()
    model.net.local_started.fill_(True)
    assert model.net.local_regress is not None
    for layer in model.net.local_regress.last:
        shake(layer, 0.3)
        assert isinstance(layer.bias, Tensor)
        torch.nn.init.normal_(layer.bias, 0.0, 0.1)
    with torch.inference_mode():
        first, last = model.predict_batch(made()).steps
    refined = sorted(point for part in model.net.parts for point in part)
    jaw = [point for point in range(68) if point not in refined]
    assert torch.equal(first[:, jaw], last[:, jaw])
    assert not torch.isclose(first[:, refined], last[:, refined]).all(-1).any()


def test_the_local_stage_answers_only_once_it_has_begun_to_learn() -> None:
    model = task(stage="glsr", local_from=3).train()
    assert "local" not in model.training_loss(made()) and "local" in task(stage="glsr").training_loss(made())
    model.eval()
    with torch.inference_mode():
        assert len(model.predict_batch(made()).steps) == 1


def test_flip_test_is_symmetric() -> None:
    """A mirrored face gets the mirrored answer, exactly."""
    model, batch = task(stage="gsr", flip_test=True).eval(), made()
    shake(model.net.global_regress.head[-1], 0.3)
    last = batch.image.shape[-1] - 1
    mirrored = batch.to("cpu")
    mirrored.image = batch.image.flip(-1)
    assert batch.box is not None
    mirrored.box = torch.stack([last - batch.box[:, 2], batch.box[:, 1], last - batch.box[:, 0], batch.box[:, 3]], 1)
    with torch.inference_mode():
        one, two = model.predict_batch(batch).points, model.predict_batch(mirrored).points
    back = two[:, list(model.scheme.mirror)] * torch.tensor([-1.0, 1.0]) + torch.tensor([last, 0.0])
    assert torch.allclose(one, back, atol=1e-3)


def spread(maps: Tensor, points: Tensor) -> float:
    """Return how far landmarks lie from their mean place over several boxes of the same faces, in face sides."""
    there = move_points(maps, points)  # (boxes, faces, L, 2)
    return float((there - there.mean(0)).norm(dim=-1).mean())


@torch.no_grad()
def undone(net: Any, image: Tensor, points: Tensor, boxes: list[Tensor]) -> tuple[float, float]:
    """Return the landmarks' spread before and after the reinitialisation, over the given boxes of each face."""
    before, after = [], []
    for box in boxes:
        to_box, theta = net.reinitialise(image, box)
        before.append(scaled(to_box, 1 / 128))
        after.append(scaled(compose_affine(theta_map(theta, 128), to_box), 1 / 128))
    tiled = points.double().expand(len(boxes), -1, -1, -1)
    return spread(torch.stack(before), tiled), spread(torch.stack(after), tiled)


def test_a_trained_reinitialisation_brings_a_perturbed_box_back() -> None:
    """Learnt on a few faces with random boxes; then boxes that it never saw: larger, shifted, stretched."""
    model, batch = task(stage="reinit", jitter={"given": 0.0}, reinit_weight=1.0).train(), made()
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=3e-3)
    image, generator = batch.image.float(), torch.Generator().manual_seed(1)
    assert model.jitter is not None
    for _ in range(300):
        box = model.jitter(batch, model.given_box(batch), generator)
        to_box, theta = model.net.reinitialise(image, box)
        loss = model._reinit_loss(theta, to_box, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tight = tight_box(batch.points, batch.weight > 0)
    side = (tight[:, 2:] - tight[:, :2]).repeat(1, 2)
    boxes = [grow(tight, 1.3), grow(tight, 0.95), tight + 0.1 * side, tight - 0.1 * side,
             grow(tight + side * torch.tensor([0.1, 0.0, 0.1, 0.0]), torch.tensor([1.25, 1.0]))]  # fmt: skip
    before, after = undone(model.net, image, batch.points, boxes)
    assert after < 0.5 * before


@needs_shared
@pytest.mark.golden
def test_the_released_reinitialisation_brings_perturbed_boxes_back(shared_dir: Path) -> None:
    """Released weights, WFLW samples: larger boxes and boxes shifted up or sideways by a tenth."""
    net, golden = official_net(shared_dir), arrays(shared_dir)
    ratios = []
    for index in (0, 2, 4):
        image = torch.from_numpy(picture(shared_dir, golden["names"][index])).permute(2, 0, 1)[None].float()
        box, points = torch.from_numpy(golden["rect"][index])[None], torch.from_numpy(golden["gt"][index])[None]
        side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
        boxes = [box, grow(box, 1.2), box - side * torch.tensor([0.0, 0.1, 0.0, 0.1]),
                 box + side * torch.tensor([0.1, 0.0, 0.1, 0.0])]  # fmt: skip
        before, after = undone(net, image, points, boxes)
        ratios.append(after / before)
    assert max(ratios) < 0.8 and np.mean(ratios) < 0.75


def test_mean_face_comes_from_the_training_set_once() -> None:
    faces = SyntheticFaces(6, scheme="ibug68", seed=5)
    shapes = training_shapes(faces)
    assert shapes.shape == (6, 68, 2) and np.array_equal(shapes[2], faces[2].points[:, :2])


def test_predict_image_is_predict_batch_where_the_image_is_the_crop() -> None:
    model, batch = task(stage="gsr").eval(), made()
    shake(model.net.global_regress.head[-1], 0.1)
    assert batch.box is not None
    found = model.predict_image(batch.image[0].permute(1, 2, 0).numpy(), batch.box[:1].numpy()).points
    with torch.inference_mode():
        assert torch.allclose(found.float(), model.predict_batch(batch).points[:1], atol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"stage": "all"}, "stage: must be one of reinit, regress"),
        ({"part_source": "crop"}, "part_source: must be one of"),
        ({"init": "xavier"}, "init: must be one of"),
        ({"box_grow": 0.0}, "box_grow must be in"),
        ({"face_size": 96}, "do not fit a backbone of total stride 128"),
        ({"face_strides": (1, 2, 2)}, "strides must be 8 numbers"),
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, Any], text: str) -> None:
    settings = {key: value for key, value in SMALL.items() if key != "face_strides"} | {"face_size": 256} | wrong
    with pytest.raises(LabError, match=text):
        make_task(DprTask, settings, "test")
