"""AWing equals its official implementation: crop, maps of every stack, points in cells, points in the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from awing.convert import convert_state_dict
from awing.network import AWingNet
from awing.original import crop_window, window_map
from common.geometry import apply_affine
from common.heatmaps import decode_quarter
from tests.golden.values import furthest, load, photograph, picture, tensors, weights

pytestmark = pytest.mark.golden
MAPS, CLEAR = 2e-5, 1e-4  # absolute; points count where the two largest values of a map are further apart than CLEAR
WINDOWS = {0: ((225, 225), 1.8), 3: ((225.5, 100.25), 1.37)}
POINTS = np.array([[225, 225], [100, 300], [10.5, 440.25], [300.75, 50]])


def test_maps_and_points() -> None:
    golden = load("awing")
    net = AWingNet(98).eval()
    net.load_state_dict(convert_state_dict(tensors(weights(golden))), strict=True)
    with torch.inference_mode():
        outputs = net(torch.from_numpy(picture(9, (1, 3, 256, 256))))
    assert len(outputs) == 4
    for stack, maps in enumerate(outputs):
        assert furthest(maps[:, ::7, ::4, ::4], golden[f"hm{stack}_sub"]) <= MAPS
        clear = golden[f"preds{stack}_gap"] >= CLEAR
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(decode_quarter(maps[:, :-1]).numpy()[clear], golden[f"preds{stack}"][clear])
    assert furthest(outputs[-1][:, -1], golden["hm3_boundary"]) <= MAPS


@pytest.mark.parametrize("case", list(WINDOWS))
def test_crop(case: int) -> None:
    golden = load("awing")
    crop, points = crop_window(photograph(21, 450, 450), POINTS, *WINDOWS[case])
    assert furthest(crop[::8, ::8], golden[f"crop{case}_image"].astype(float)) <= 1
    assert furthest(points, golden[f"crop{case}_landmarks"]) <= 1e-9


def test_points_in_the_picture() -> None:
    golden = load("awing")
    back = window_map(golden["dec_center"], float(golden["dec_scale"]), 64)
    found = apply_affine(back, golden["dec_preds"].astype(np.float64))
    assert furthest(found, golden["dec_preds_orig_untruncated"]) <= 1e-4
