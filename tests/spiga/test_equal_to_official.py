"""SPIGA equals its official implementation: from a picture and boxes to landmarks in the picture and head pose."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from common.schemes import WFLW98
from spiga.convert import MEAN_FACE, SIZES, constants, convert_state_dict
from spiga.network import SpigaNet
from spiga.original import Face, crop_face, predict_official
from spiga.schemes import edge_curves
from tests.golden.values import furthest, load, made_up_head, photograph, picture, tensors, weights

pytestmark = pytest.mark.golden
POINTS, RAW, PIXELS = 2e-5, 5e-4, 5e-3


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("spiga") | load("spiga_face")


@pytest.fixture(scope="module")
def net(golden: dict[str, np.ndarray]) -> SpigaNet:
    """The network of the official size with the recorded weights and the made-up face."""
    face = torch.from_numpy(made_up_head())
    with patch("torch.nn.init.kaiming_uniform_", lambda tensor, *args, **more: tensor):  # all of it is overwritten
        made = SpigaNet(98, edge_curves(WFLW98), WFLW98.singles, face, **SIZES)
    fixed = constants(WFLW98)
    for step in range(3):
        assert furthest(fixed[f"theta_S.{step}"], golden[f"theta_S{step}"]) <= 1e-7
    state, _ = convert_state_dict(fixed | tensors(weights(golden)))
    made.load_state_dict({**state, MEAN_FACE: face.float()}, strict=True)
    return made.eval()


def test_from_picture_and_box_to_landmarks_and_pose(net: SpigaNet, golden: dict[str, np.ndarray]) -> None:
    # Recorded with OpenCV's channel order, which the official weights expect; ours is RGB up to the network.
    image, given = photograph(21, 300, 400, rounded=True)[..., ::-1].copy(), golden["crop_bbox_in"]
    for box, cropped in zip(given, golden["crop_bbox_out"], strict=True):
        assert furthest(crop_face(Face(image, np.zeros((1, 2)), box)).box, cropped) <= 1e-9
    found = predict_official(net, image, np.concatenate([given[:, :2], given[:, :2] + given[:, 2:]], axis=1))
    assert found.pose is not None
    assert furthest(found.points, golden["e2e_landmarks"]) <= PIXELS
    assert furthest(found.pose, golden["e2e_headpose"][:, :3]) <= POINTS


def test_every_step_of_the_cascade(net: SpigaNet, golden: dict[str, np.ndarray]) -> None:
    with torch.inference_mode():
        found = net.predict(torch.from_numpy(picture(11, (1, 3, 256, 256))), everything=True)
    steps: list[Tensor] = found.steps
    assert furthest(steps[0], golden["x0"]) <= POINTS
    assert furthest(torch.stack(steps[1:]), golden["landmarks"]) <= POINTS
    assert furthest(torch.stack(found.raw), golden["raw_offset"]) <= RAW
    assert furthest(found.poses[-1], golden["pose"]) <= POINTS
