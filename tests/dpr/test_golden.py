"""The released weights against every array that the official code gave (Face_Alignment_DPR at 85181f2e)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.metrics.functional import nme, normaliser, point_errors
from common.schemes import WFLW98
from dpr.network import DPRNet, Stages
from dpr.parts import mean_part, part_indices
from dpr.transform import invert, move_points, normalise, theta_map
from tests.conftest import needs_shared
from tests.dpr.golden import PARTS, arrays, fill_module, official_net, picture

pytestmark = [needs_shared, pytest.mark.golden]
NET, LOCAL = 1e-4, 1e-3  # nets alone: absolute for the trained, of the largest value for the surrogate


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, np.ndarray]:
    return arrays(shared_dir)


@pytest.fixture(scope="module")
def net(shared_dir: Path) -> DPRNet:
    torch.set_num_threads(1)
    return official_net(shared_dir)


def run_all(net: DPRNet, shared: Path, golden: dict[str, np.ndarray], rounded: bool) -> list[Stages]:
    net.rounded = rounded
    results = []
    with torch.inference_mode():
        for name, rect in zip(golden["names"], golden["rect"], strict=True):
            image = torch.from_numpy(picture(shared, name)).permute(2, 0, 1)[None]
            results.append(net(image, torch.from_numpy(rect)[None]))
    return results


@pytest.fixture(scope="module")
def rounded(net: DPRNet, shared_dir: Path, golden: dict[str, np.ndarray]) -> list[Stages]:
    """The five samples, crops rounded to 8 bits as the release does."""
    return run_all(net, shared_dir, golden, True)


@pytest.fixture(scope="module")
def floating(net: DPRNet, shared_dir: Path, golden: dict[str, np.ndarray]) -> list[Stages]:
    """The five samples without rounding: the differentiable path."""
    return run_all(net, shared_dir, golden, False)


def crops(values: np.ndarray) -> Tensor:
    """Return golden crops (..., S, S, 3) BGR as network input (..., 3, S, S) RGB."""
    return normalise(torch.from_numpy(values[..., ::-1].copy()).float().movedim(-1, -3))


def apart(ours: Any, theirs: np.ndarray) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max())


def zero_points(net: DPRNet, stages: Stages) -> Tensor:
    """Return GLSR's points (98, 2) with a local regression that answers zeros."""
    assert stages.part_map is not None
    points, to_image, back = stages.global_points[0].clone(), invert(stages.face_map), invert(stages.part_map)
    for k, (part, mean) in enumerate(zip(net.parts, net.mean_parts(), strict=True)):
        points[list(part)] = move_points(to_image, move_points(back[:, k], mean[None] * net.part_size))[0]
    return points


def fractions(points: np.ndarray, gt: np.ndarray) -> np.ndarray:
    return np.asarray(nme(point_errors(points, gt, normaliser("corners", gt, WFLW98)))) / 100


@torch.inference_mode()
def test_networks_alone_on_made_up_input(net: DPRNet, shared_dir: Path, golden: dict[str, np.ndarray]) -> None:
    def image(seed: int, size: int) -> Tensor:
        bgr = fill_module(shared_dir).image(seed, (2, 3, size, size)) * 2 - 1
        return torch.from_numpy(np.ascontiguousarray(bgr[:, ::-1]))

    assert apart(net.global_reinit(image(11, 128)).flatten(1), golden["det_global_reinit_out"]) < NET
    assert apart(net.global_regress(image(12, 256)).flatten(1), golden["det_global_regress_out"]) < NET
    assert net.local_reinit is not None and net.local_regress is not None
    maps = net.local_reinit((net.mean_face * 256).float()[None])[0]
    assert apart(maps.flatten(1), golden["det_local_reinit_out"]) < NET
    found = net.local_regress(torch.stack([image(13 + k, 128) for k in range(4)], dim=1))
    for name, ours in zip(PARTS, found, strict=True):
        theirs = golden[f"det_fill_local_out_{name}"]
        assert apart(ours.flatten(1), theirs) < LOCAL * np.abs(theirs).max()


@torch.inference_mode()
def test_networks_alone_on_the_official_crops(net: DPRNet, golden: dict[str, np.ndarray]) -> None:
    small, face = crops(golden["crop128"]), crops(golden["crop256"])
    assert apart(net.global_reinit.features(small), golden["global_reinit_feat"]) < NET
    assert apart(net.global_reinit(small).flatten(1), golden["global_reinit_out"]) < NET
    assert apart(net.global_regress.features(face), golden["global_regress_feat"]) < NET
    offsets = net.global_regress(face)
    assert apart(offsets.flatten(1), golden["global_regress_out"]) < NET
    assert apart((0.5 * offsets + net.mean_face) * 256, golden["gsr_pts_crop256"]) < 256 * NET
    assert net.local_reinit is not None and net.local_regress is not None
    theta = net.local_reinit(torch.from_numpy(golden["gsr_pts_crop256"]))
    assert apart(theta.flatten(2), golden["local_reinit_out"]) < NET
    assert apart(theta_map(theta, 128), golden["part_T"]) < 128 * NET
    found = net.local_regress(crops(golden["part_crop"]))
    for name, ours in zip(PARTS, found, strict=True):
        theirs = golden[f"fill_local_out_{name}"]
        assert apart(ours.flatten(1), theirs) < LOCAL * np.abs(theirs).max()


def test_gsr_meets_the_official_landmarks(rounded: list[Stages], golden: dict[str, np.ndarray]) -> None:
    for index, stages in enumerate(rounded):
        assert apart(stages.box_map[0], golden["T0"][index]) < 1e-9
        assert apart(stages.theta.flatten(1)[0], golden["global_reinit_out"][index]) < NET
        # Maps are compared by where they put landmarks: their translations alone are thousands of pixels.
        true, theirs = torch.from_numpy(golden["gt"][index]), torch.from_numpy(golden["T"][index])
        there = move_points(theirs, true)
        assert apart(move_points(stages.face_map[0], true), there.numpy()) < 0.02
        back = move_points(torch.from_numpy(golden["T_inv"][index]), there)
        assert apart(move_points(invert(stages.face_map)[0], there), back.numpy()) < 0.02
        assert apart(stages.global_points[0], golden["gsr_pts"][index]) < 0.05
    ours = np.stack([stages.global_points[0].numpy() for stages in rounded])
    values = fractions(ours, golden["gt"])
    assert apart(values, golden["nme_gsr"]) < 1e-4
    assert values.mean() == pytest.approx(0.0518, abs=5e-5)


def test_gsr_without_rounding_is_as_close_as_measured(floating: list[Stages], golden: dict[str, np.ndarray]) -> None:
    ours = np.stack([stages.global_points[0].numpy() for stages in floating])
    assert apart(ours, golden["gsr_pts"]) < 0.2
    assert apart(fractions(ours, golden["gt"]), golden["nme_gsr"]) < 1e-3


def test_glsr_with_a_regressor_of_zeros(net: DPRNet, rounded: list[Stages], floating: list[Stages],
                                        golden: dict[str, np.ndarray]) -> None:  # fmt: skip
    for runs, points, error in ((rounded, 0.1, 0.001), (floating, 0.2, 0.001)):
        ours = np.stack([zero_points(net, stages).numpy() for stages in runs])
        assert apart(ours, golden["zero_glsr_pts"]) < points
        assert apart(fractions(ours, golden["gt"]), golden["nme_zero_glsr"]) < error


def test_glsr_with_surrogate_weights(rounded: list[Stages], floating: list[Stages],
                                     golden: dict[str, np.ndarray]) -> None:  # fmt: skip
    for runs, points, error in ((rounded, 1.5, 0.001), (floating, 3.0, 0.002)):
        ours = np.stack([stages.points[0].numpy() for stages in runs])
        assert apart(ours, golden["fill_glsr_pts"]) < points
        assert apart(fractions(ours, golden["gt"]), golden["nme_fill_glsr"]) < error


@torch.inference_mode()
def test_glsr_from_the_official_intermediates(net: DPRNet, golden: dict[str, np.ndarray]) -> None:
    """Given their face crop, map and landmarks, the local stage's points agree to 0.1 px: its wiring is theirs."""
    net.rounded = True
    face = torch.from_numpy(golden["crop256"][..., ::-1].copy()).float().movedim(-1, 1)
    map_ = torch.from_numpy(golden["T"])
    points = torch.from_numpy(golden["gsr_pts"])
    seen = torch.from_numpy(golden["gsr_pts_crop256"])
    stages = Stages(map_, map_, map_, seen, seen, points, points)
    net.locate_parts(stages)
    cut = net.part_crops(stages, face, face)
    theirs = golden["part_crop"][..., ::-1].astype(np.float64)
    difference = np.abs(cut.movedim(2, -1).numpy() - theirs)
    assert difference.max() <= 2 and difference.mean() < 0.01
    net.refine(stages, face, face)
    assert apart(stages.points, golden["fill_glsr_pts"]) < 0.1


def test_crops_are_the_official_ones(net: DPRNet, shared_dir: Path, rounded: list[Stages],
                                     golden: dict[str, np.ndarray]) -> None:  # fmt: skip
    from dpr.transform import sample

    for index, stages in enumerate(rounded[:2]):
        image = torch.from_numpy(picture(shared_dir, golden["names"][index])).permute(2, 0, 1)[None].float()
        assert tuple(image.shape[-2:]) == tuple(golden["image_hw"][index])
        for key, map_, size in (("crop128", stages.box_map, 128), ("crop256", stages.face_map, 256)):
            ours = sample(image, map_, size, rounded=True)[0].movedim(0, -1).numpy()
            assert np.abs(ours - golden[key][index][..., ::-1]).max() <= 2


def test_another_bilinear_precision_is_within_its_spread(
    net: DPRNet, rounded: list[Stages], golden: dict[str, np.ndarray]
) -> None:
    """OpenCV 4 samples at 1/32 pixel; ours must be no further from it than OpenCV 5 is (golden README)."""
    old = {key.removeprefix("opencv4_10_"): value for key, value in golden.items() if key.startswith("opencv4_10_")}
    ours = np.stack([stages.global_points[0].numpy() for stages in rounded])
    zero = np.stack([zero_points(net, stages).numpy() for stages in rounded])
    full = np.stack([stages.points[0].numpy() for stages in rounded])
    assert apart(ours, old["gsr_pts"]) < 0.2 and apart(zero, old["zero_glsr_pts"]) < 0.3
    assert apart(full, old["fill_glsr_pts"]) < 1.5
    for points, key, bound in (
        (ours, "nme_gsr", 0.0005),
        (zero, "nme_zero_glsr", 0.0005),
        (full, "nme_fill_glsr", 1e-3),
    ):
        assert apart(fractions(points, golden["gt"]), old[key]) < bound
    for name in ("global_reinit_out", "global_regress_out", "local_reinit_out"):
        attribute = {"global_reinit_out": "theta", "global_regress_out": "offsets", "local_reinit_out": "part_theta"}
        found = np.stack([getattr(stages, attribute[name])[0].numpy() for stages in rounded])
        spread = np.abs(golden[name] - old[name]).max()
        assert apart(found.reshape(old[name].shape), old[name]) < 2 * spread


def test_mean_parts_follow_from_the_mean_face(net: DPRNet, shared_dir: Path) -> None:
    for name, part, ours in zip(PARTS, part_indices(WFLW98), net.mean_parts(), strict=True):
        theirs = np.load(shared_dir / f"golden/dpr/mean_98_part_{name}.npy", allow_pickle=False)
        assert apart(ours, theirs) < 1e-6
        assert torch.equal(ours, mean_part(net.mean_face, part))
