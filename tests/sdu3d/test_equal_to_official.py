"""SDU equals its official implementation: alignment and test crop, maps of both stacks, points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.geometry import apply_affine
from sdu3d.convert import build, convert_arrays
from sdu3d.decode import decode_released
from sdu3d.original import RECORD, align_matrix, forehead_box, released_test_crop, square_matrix, warp
from tests.golden.values import furthest, load, photograph, picture, weights

pytestmark = pytest.mark.golden
SHARE, MARGIN = 1e-5, 1e-4  # of the largest value; of points whose peak stands out by less than MARGIN some may differ
MATRIX, PIXELS, LEVELS = 1e-4, 1e-3, 4


def network(name: str) -> dict[str, np.ndarray]:
    """Return the recorded arrays of one network."""
    return {key.removeprefix(name + "."): value for key, value in load("sdu3d").items() if key.startswith(name)}


@pytest.mark.parametrize("name", ["sat_cab", "hg_resnet"])
def test_maps_and_points(name: str) -> None:
    golden = network(name)
    values = weights(golden)
    kinds = dict(zip(golden["names"].tolist(), golden["kinds"].tolist(), strict=True))
    state, size = convert_arrays({f"{kinds[key]}:{key}": value for key, value in values.items()})
    net = build(size)
    net.load_state_dict(state)
    with torch.inference_mode():
        first, last = net.eval()(255 * torch.from_numpy(picture(7, (1, 3, 128, 128)))).heatmaps
    for maps, key in ((first[:, :, 1::8, 2::8], "heatmap0_sub"), (last[:, :, 1::8, 2::8], "heatmap_sub"),
                      (last[0, [0, 30, 36, 67]], "heatmap_full")):  # fmt: skip
        assert furthest(maps, golden[key]) <= SHARE * np.abs(golden[key]).max()
    points = (decode_released(last) * 2 - 0.5).round().numpy()[0]
    clear = golden["margin_0"] > MARGIN * float(last.abs().max())
    assert clear.sum() > 60
    np.testing.assert_array_equal(points[clear], golden["landmarks_0"][clear])


def test_alignment_and_test_crop() -> None:
    golden = load("sdu3d")
    image, given = photograph(31, 384, 384), golden["pre_label_in"].astype(np.float64)
    matrix = align_matrix(golden["pre_label_in"])
    assert furthest(matrix, golden["align"]) <= MATRIX
    assert furthest(apply_affine(matrix, given), golden["pre_label_out"]) <= PIXELS
    assert furthest(warp(image, matrix, RECORD)[::8, ::8], golden["pre_crop"].astype(float)) <= LEVELS
    cut = square_matrix(forehead_box(golden["pre_label_out"], "ibug"))
    assert furthest(cut, golden["cut_ibug"]) <= MATRIX
    crop = released_test_crop(image, given, "ibug")[0]
    assert furthest(crop[::4, ::4], golden["t2_ibug_crop"].astype(float)) <= LEVELS
