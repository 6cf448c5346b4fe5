"""MuSiCa equals its official implementation: crop, patches at borders, every estimate of the cascade."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musica.convert import convert_variables
from musica.network import CascadeNet
from musica.original import official_crop
from musica.patches import cut_patches, make_level, patch_indices
from musica.pyramid import halvings
from musica.types import Pyramid
from tests.golden.values import furthest, load, photograph, picture, weights

pytestmark = pytest.mark.golden
POINTS, ERROR = 1e-4, 2e-5


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("musica")


def pyramid(golden: dict[str, np.ndarray]) -> Pyramid:
    """Return the levels of the two recorded faces, each of mean 0 and deviation 1, computed in float64."""
    faces = picture(2102, (2, 3, 182, 227)).transpose(0, 2, 3, 1).astype(np.float64)
    faces = np.stack([(face - face.mean()) / face.std() for face in faces])
    levels = [level.image.float() for level in halvings(torch.from_numpy(faces), 3)]
    first = levels[0].numpy()
    stats = [first.mean(dtype=np.float64), first.std(dtype=np.float64), first.min(), first.max(), first[0, 5, 7, 1],
             first[-1, -1, -1, -1]]  # fmt: skip
    assert furthest(np.array(stats), golden["image_level_0_stats"]) <= 1e-6
    return Pyramid([make_level(level) for level in levels])


def test_every_estimate(golden: dict[str, np.ndarray]) -> None:
    net = CascadeNet(68, patch_indices("w300_19", 68), 3, sampling="official")
    net.load_state_dict({"start": net.start, **convert_variables(weights(golden, inputs_first=True))}, strict=True)
    with torch.no_grad():
        done = net.run(pyramid(golden), torch.from_numpy(golden["init_shape_0"]))
    for t in range(3):
        assert furthest(done.points[t], golden[f"shape_{t}"]) <= POINTS
        assert furthest(done.errors[t], golden[f"error_{t}"]) <= ERROR


def test_patches_at_the_border(golden: dict[str, np.ndarray]) -> None:
    level = make_level(torch.from_numpy(golden["edge_image"]))
    patches = cut_patches(level, torch.from_numpy(golden["edge_centres"]), 14, "official")
    np.testing.assert_array_equal(patches.permute(0, 2, 3, 1).numpy(), golden["edge_patches"][0])


def test_crop(golden: dict[str, np.ndarray]) -> None:
    crop = official_crop(photograph(3102, 240, 200), golden["bbox_xyxy"])
    np.testing.assert_array_equal(crop.corner, golden["min_xy"])
    assert furthest(crop.matrix, golden["T"]) <= 1e-9
    assert furthest(crop.pixels[::8, ::8], golden["crop"]) <= 2e-3
    unit = crop.pixels / 255
    assert furthest(np.array([unit.mean(), unit.std()]), golden["stats"]) <= 1e-6
