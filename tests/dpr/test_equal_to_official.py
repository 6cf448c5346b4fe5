"""DPR equals its official implementation: each network alone, and from a picture and a box to points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpr.convert import assemble, convert_state_dict
from dpr.network import DPRNet
from dpr.original import predict_official
from dpr.stages.regress import LocalRegress
from tests.golden.values import furthest, load, made_up_face, photograph, picture, tensors, weights

pytestmark = pytest.mark.golden
PARTS = ("left_eye", "right_eye", "nose", "mouth")
PIXELS, PART_PIXELS, NET, SHARE = 0.02, 0.1, 1e-4, 1e-3  # SHARE: of the largest value, for the filled network


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("dpr")


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
    """All four networks with weights and mean face by formula; the converter takes them for official ones."""
    networks = dict([convert_state_dict(tensors(weights(golden)))])
    for kind in ("global_reinit", "global_regress", "local_reinit"):
        own = {key.removeprefix(kind + ":"): value for key, value in filled.items() if key.startswith(kind + ":")}
        networks |= dict([convert_state_dict(tensors(weights(own)))])
    return assemble(networks, made_up_face())[0].eval()


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
