"""DPR equals its official implementation: each network alone, picture and box to points, maps of trained weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from common.schemes import WFLW98
from dpr.convert import assemble, convert_state_dict
from dpr.network import DPRNet, Stages
from dpr.original import predict_official
from dpr.regress import LocalRegress
from dpr.transform import invert, move_points
from tests.golden.values import furthest, load, photograph, picture, tensors, weights

pytestmark = pytest.mark.golden
PARTS = ("left_eye", "right_eye", "nose", "mouth")
PIXELS, PART_PIXELS, NET, SHARE = 0.02, 0.1, 1e-4, 1e-3  # SHARE: of the largest value, for the filled network


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("dpr")


class Recorded(torch.nn.Module):
    """A network that returns what the official one returned, whatever it is given."""

    def __init__(self, *outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, given: Tensor) -> Tensor | list[Tensor]:
        """Return the recording."""
        return self.outputs[0] if len(self.outputs) == 1 else list(self.outputs)


def replay(golden: dict[str, np.ndarray], local: list[Tensor]) -> Stages:
    """Return all stages of the five faces, networks replaced by recordings; the picture itself then plays no part."""
    given = tensors({key: value for key, value in golden.items() if value.dtype.kind == "f"})
    net = DPRNet(WFLW98, given["mean_face"]).eval()
    net.global_reinit = Recorded(given["global_reinit_out"].unflatten(1, (2, 3)))  # type: ignore[assignment]
    net.global_regress = Recorded(given["global_regress_out"].unflatten(1, (98, 2)))  # type: ignore[assignment]
    net.local_reinit = Recorded(given["local_reinit_out"].unflatten(2, (2, 3)))  # type: ignore[assignment]
    net.local_regress = Recorded(*local)  # type: ignore[assignment]
    with torch.inference_mode():
        return net(torch.zeros(5, 3, 64, 64, dtype=torch.uint8), given["rect"])


def offsets(golden: dict[str, np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(golden[f"fill_local_out_{part}"]).unflatten(1, (-1, 2)) for part in PARTS]


def test_maps_and_points_of_all_stages(golden: dict[str, np.ndarray]) -> None:
    stages = replay(golden, offsets(golden))
    assert furthest(stages.box_map, golden["T0"]) <= 1e-9
    there = move_points(torch.from_numpy(golden["T"]), torch.from_numpy(golden["gsr_pts"]))
    ours = move_points(stages.face_map, torch.from_numpy(golden["gsr_pts"]))
    assert furthest(ours, there.numpy()) <= PIXELS
    back = move_points(torch.from_numpy(golden["T_inv"]), there)
    assert furthest(move_points(invert(stages.face_map), there), back.numpy()) <= PIXELS
    assert furthest(stages.face_points, golden["gsr_pts_crop256"]) <= 256 * NET
    assert furthest(stages.global_points, golden["gsr_pts"]) <= PIXELS
    assert stages.part_map is not None
    assert furthest(stages.part_map, golden["part_T"]) <= 128 * NET
    assert furthest(stages.points, golden["fill_glsr_pts"]) <= PART_PIXELS


def test_points_with_a_regressor_of_zeros(golden: dict[str, np.ndarray]) -> None:
    stages = replay(golden, [torch.zeros_like(part) for part in offsets(golden)])
    assert furthest(stages.points, golden["zero_glsr_pts"]) <= PIXELS
    moved = np.abs(golden["zero_glsr_pts"] - golden["gsr_pts"]).max(-1)
    assert (moved[:, 33:] > 0).all() and not moved[:, :33].any()  # every point but the contour's is refined


def test_mean_parts_follow_from_the_mean_face(golden: dict[str, np.ndarray]) -> None:
    net = DPRNet(WFLW98, torch.from_numpy(golden["mean_face"]))
    for part, ours in zip(PARTS, net.mean_parts(), strict=True):
        assert furthest(ours, golden[f"mean_{part}"]) <= 1e-6


def test_local_regression_network(golden: dict[str, np.ndarray]) -> None:
    _, state = convert_state_dict(tensors(weights(golden)))
    net = LocalRegress([18, 18, 9, 20]).eval()
    net.load_state_dict({key.removeprefix("local_regress."): value for key, value in state.items()}, strict=True)
    crops = [torch.from_numpy(picture(13 + k, (2, 3, 128, 128)) * 2 - 1).flip(1) for k in range(4)]  # recorded as BGR
    with torch.inference_mode():
        found = net(torch.stack(crops, dim=1))
    for part, ours in zip(PARTS, found, strict=True):
        official = golden[f"det_fill_local_out_{part}"]
        assert furthest(ours.flatten(1), official) <= SHARE * np.abs(official).max()


@pytest.fixture(scope="module")
def filled() -> dict[str, np.ndarray]:
    return load("dpr_filled")


@pytest.fixture(scope="module")
def filled_net(filled: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> DPRNet:
    """All four networks with weights by formula; the converter takes them for official ones."""
    networks = dict([convert_state_dict(tensors(weights(golden)))])
    for kind in ("global_reinit", "global_regress", "local_reinit"):
        own = {key.removeprefix(kind + ":"): value for key, value in filled.items() if key.startswith(kind + ":")}
        networks |= dict([convert_state_dict(tensors(weights(own)))])
    return assemble(networks, golden["mean_face"])[0].eval()


@torch.inference_mode()
def test_networks_alone(filled_net: DPRNet, filled: dict[str, np.ndarray]) -> None:
    small, face = (torch.from_numpy(picture(seed, (2, 3, side, side)) * 2 - 1).flip(1) for seed, side in
                   ((11, 128), (12, 256)))  # fmt: skip
    assert furthest(filled_net.global_reinit(small).flatten(1), filled["alone_global_reinit_out"]) <= NET
    assert furthest(filled_net.global_regress(face).flatten(1), filled["alone_global_regress_out"]) <= NET
    assert filled_net.local_reinit is not None
    maps = filled_net.local_reinit((filled_net.mean_face * 256).float()[None])[0]
    assert furthest(maps.flatten(1), filled["alone_local_reinit_out"]) <= NET


def test_from_picture_and_box_to_points(filled_net: DPRNet, filled: dict[str, np.ndarray]) -> None:
    image = photograph(41, 240, 300)[..., ::-1].copy()  # recorded with OpenCV's channel order
    found = predict_official(filled_net, image, filled["rect"][None])
    assert furthest(found.steps[0][0], filled["gsr_pts"]) <= PIXELS
    assert furthest(found.points[0], filled["glsr_pts"]) <= PART_PIXELS
    assert np.linalg.norm(filled["glsr_pts"] - filled["gsr_pts"], axis=1).max() > 1  # the local stage does something
