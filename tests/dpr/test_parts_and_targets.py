"""Parts from the scheme, the normalised state, reinitialisation targets, training boxes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.geometry import compose_affine, fit_similarity, tight_box
from common.schemes import COFW29, IBUG68, LAPA106, WFLW98, Curve, LandmarkScheme
from dpr.boxes import BoxJitter, MapNoise, grow
from dpr.loss import theta_loss
from dpr.parts import mean_part, neutral_face, part_indices
from dpr.stages.reinit import SIZE
from dpr.targets import (
    MEAN_BOX,
    average_face,
    normalising_map,
    offset_target,
    part_target,
    reinit_target,
)
from dpr.transform import box_map, move_points, theta_map


@functools.cache
def _shapes() -> np.ndarray:
    faces = SyntheticFaces(6, scheme="ibug68", seed=3)
    return np.stack([faces[i].points for i in range(6)])


def shapes(count: int = 6) -> Tensor:
    """Return landmarks (N, 68, 2) of synthetic faces, image pixels."""
    return torch.from_numpy(_shapes()[:count]).double()


def mean68() -> Tensor:
    return torch.from_numpy(average_face(neutral_face(IBUG68)[None], neutral_face(IBUG68), IBUG68.mirror))


def test_parts_of_98_points_are_the_published_ones() -> None:
    left, right, nose, mouth = part_indices(WFLW98)
    assert left == (*range(33, 42), *range(60, 68), 96)
    assert right == (*range(42, 51), *range(68, 76), 97)
    assert nose == tuple(range(51, 60)) and mouth == tuple(range(76, 96))


def test_parts_of_68_and_106_points_have_the_published_sizes() -> None:
    assert [len(part) for part in part_indices(IBUG68)] == [11, 11, 9, 20]
    assert [len(part) for part in part_indices(LAPA106)] == [19, 19, 15, 20]


@pytest.mark.parametrize("scheme", [WFLW98, IBUG68, LAPA106, COFW29])
def test_parts_mirror_to_parts(scheme: LandmarkScheme) -> None:
    left, right, nose, mouth = (set(part) for part in part_indices(scheme))
    assert {scheme.mirror[i] for i in left} == right
    assert {scheme.mirror[i] for i in nose} == nose and {scheme.mirror[i] for i in mouth} == mouth


def test_a_scheme_without_a_mouth_is_refused() -> None:
    scheme = LandmarkScheme("two", 2, ("left_eye_0", "left_eye_1"), (1, 0), (0, 1), ((0,), (1,)), (Curve("a", (0, 1)),))
    with pytest.raises(LabError, match="landmarks in part right_eye"):
        part_indices(scheme)


def test_similarity_fit_finds_known_maps() -> None:
    points = shapes(2)
    similar = torch.tensor([[[1.2, -0.4, 3.0], [0.4, 1.2, -7.0]]]).double().expand(2, 2, 3)
    assert torch.allclose(fit_similarity(points, move_points(similar, points)), similar, atol=1e-9)


def test_a_point_of_weight_0_does_not_count() -> None:
    points, weight = shapes(2), torch.ones(2, 68)
    spoilt = points.clone()
    spoilt[:, 5] += 500
    weight[:, 5] = 0
    expected = normalising_map(points, mean68(), weight)
    assert torch.allclose(normalising_map(spoilt, mean68(), weight), expected, atol=1e-9)


def test_normalised_faces_stand_upright_in_the_mean_s_box() -> None:
    """Whatever turn, stretch along its own axes and place a face had."""
    points, mean = shapes(), mean68()
    angle = torch.tensor(0.6).double()
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    turned = points @ turn.T * 0.7 + torch.tensor([200.0, -50.0])
    for given in (points, turned):
        done = move_points(normalising_map(given, mean), given)
        low, high = done.amin(1), done.amax(1)
        assert torch.allclose(low, mean.amin(0).expand_as(low)) and torch.allclose(high, mean.amax(0).expand_as(high))
    assert torch.allclose(move_points(normalising_map(turned, mean), turned),
                          move_points(normalising_map(points, mean), points), atol=1e-9)  # fmt: skip


def test_mean_face_is_symmetric_and_in_the_released_box() -> None:
    mean = average_face(shapes().numpy(), neutral_face(IBUG68), IBUG68.mirror)
    np.testing.assert_allclose([*mean.min(0), *mean.max(0)], MEAN_BOX, atol=1e-9)
    mirrored = mean[list(IBUG68.mirror)] * [-1, 1] + [MEAN_BOX[0] + MEAN_BOX[2], 0]
    np.testing.assert_allclose(mirrored, mean, atol=1e-6)


def test_the_wanted_theta_brings_points_to_the_normalised_state() -> None:
    points, mean = shapes(), mean68()
    box = grow(tight_box(points, torch.ones(6, 68) > 0), 1.3) + 9
    to_box = box_map(box, SIZE)
    theta = reinit_target(points, to_box, mean)
    there = move_points(compose_affine(theta_map(theta, SIZE), to_box), points) / SIZE
    assert torch.allclose(there, move_points(normalising_map(points, mean), points), atol=1e-9)


def test_the_wanted_part_maps_are_similarities_onto_the_mean_parts() -> None:
    mean = mean68()
    parts, face = part_indices(IBUG68), mean[None] * 256
    means = [mean_part(mean, part) for part in parts]
    theta, known = part_target(face, parts, means, 128)
    assert known.all() and known.shape == (1, len(parts))
    assert torch.allclose(theta[..., 0, 0], theta[..., 1, 1]) and torch.allclose(theta[..., 0, 1], -theta[..., 1, 0])
    maps = theta_map(theta, 128)
    for k, (part, wanted) in enumerate(zip(parts, means, strict=True)):
        assert torch.allclose(move_points(maps[:, k], face[:, list(part)])[0], wanted * 128, atol=1e-6)


def test_points_without_annotation_do_not_move_the_part_maps() -> None:
    """They lie at 0 in a partly annotated face, and turned and shrank the wanted maps."""
    mean = mean68()
    parts, face = part_indices(IBUG68), mean[None].repeat(2, 1, 1) * 256
    means = [mean_part(mean, part) for part in parts]
    wanted, _ = part_target(face, parts, means, 128)
    weight = torch.ones(2, 68)
    weight[0, parts[0][0]] = 0
    weight[1, list(parts[0][1:])] = 0  # one point gives no similarity
    found, known = part_target(face * weight[..., None], parts, means, 128, weight)
    assert known[0].all() and known[1].tolist() == [k > 0 for k in range(len(parts))]
    assert torch.allclose(found[known], wanted[known], atol=1e-5)
    loss = theta_loss(found, wanted, known)
    assert loss < 1e-6 < theta_loss(found, wanted)


def test_offsets_are_in_half_sides() -> None:
    mean = torch.tensor([[0.25, 0.5]])
    assert torch.equal(offset_target(torch.tensor([[96.0, 64.0]]), mean, 128), torch.tensor([[1.0, 0.0]]))


def test_training_boxes_cover_their_range_and_no_more() -> None:
    faces = SyntheticFaces(4, scheme="ibug68", seed=3)
    crops = CroppedFaces(faces, CropConfig(size=192, box_scale=1.5))
    drawn = [crops[i] for i in range(4)]
    batch = Collate()(drawn * 16)
    jitter = BoxJitter(given=0.0, low=0.85, high=1.4, shift=0.15)
    generator = torch.Generator().manual_seed(0)
    tight = tight_box(batch.points, batch.weight > 0)
    ratios, shifts = [], []
    for _ in range(8):
        box = jitter(batch, tight, generator)
        side = tight[:, 2:] - tight[:, :2]
        ratios.append((box[:, 2:] - box[:, :2]) / side)
        shifts.append(((box[:, :2] + box[:, 2:]) - (tight[:, :2] + tight[:, 2:])) / (2 * side))
    ratio, shift = torch.cat(ratios), torch.cat(shifts)
    assert 0.85 <= ratio.min() < 0.88 and 1.37 < ratio.max() <= 1.4001
    assert -0.1501 <= shift.min() < -0.14 and 0.14 < shift.max() <= 0.1501  # downwards as well as upwards
    assert abs(float(torch.corrcoef(ratio.T)[0, 1])) < 0.15  # width and height on their own
    near = BoxJitter(given=1.0, small=0.0)(batch, tight, generator)
    assert torch.allclose(near, tight, atol=1e-4)


def test_the_data_set_s_box_follows_the_crop() -> None:
    faces = SyntheticFaces(2, scheme="ibug68", seed=3)
    crops = CroppedFaces(faces, CropConfig(size=192, box_scale=1.5, rotation=30, shift=0.1, flip=0.5), seed=1)
    batch = Collate()([crops[0], crops[1]])
    assert batch.box is not None
    for i in range(2):
        corner = faces[i].box
        side = torch.linalg.det(batch.to_image[i, :, :2].double()).abs().sqrt()
        ours = (batch.box[i, 2:] - batch.box[i, :2]) * side
        assert torch.allclose(ours.float(), torch.from_numpy(corner[2:] - corner[:2]), rtol=1e-3)
        middle = move_points(batch.to_image[i].double(), (batch.box[i, :2] + batch.box[i, 2:])[None] / 2)[0]
        mirrored = torch.from_numpy((corner[:2] + corner[2:]) / 2).double()
        assert torch.allclose(middle, mirrored, atol=1e-2)


def test_map_noise_is_small_and_leaves_the_middle_s_neighbourhood() -> None:
    size, count = 96, 400
    still = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).double().expand(count, 2, 3)
    noisy = MapNoise(turn=4, scale=0.04, shift=0.025)(still, size, torch.Generator().manual_seed(0))
    middle = move_points(noisy, torch.full((count, 1, 2), size / 2).double())[:, 0] / size - 0.5
    assert torch.allclose(middle.std(0), torch.tensor([0.025, 0.025]).double(), rtol=0.15)
    turn = torch.atan2(noisy[:, 1, 0], noisy[:, 1, 1]).rad2deg()
    assert 3.4 < float(turn.std()) < 4.6


@pytest.mark.parametrize("wrong", [{"given": 1.5}, {"low": 0.0}, {"low": 1.5, "high": 1.0}, {"shift": -0.1}])
def test_senseless_jitter_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(LabError, match="jitter"):
        BoxJitter(**wrong)
