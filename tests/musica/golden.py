"""The golden configurations: names, weights, images and what they need of the reference data."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from musica.convert import convert_variables
from musica.network import CascadeNet
from musica.patches import make_level, patch_indices
from musica.pyramid import halvings, normalise
from musica.types import Pyramid


class Config(NamedTuple):
    """One row of the golden table."""

    points: int
    patches: str
    iterations: int
    batch: int
    size: tuple[int, int]
    seed: int


CONFIGS = {
    "wflw49_3it": Config(98, "every_second", 3, 2, (228, 190), 2101),
    "w300_19_3it": Config(68, "w300_19", 3, 2, (182, 227), 2102),
    "wflw98_2it": Config(98, "all", 2, 1, (228, 228), 2103),
    "wflw49_4it": Config(98, "every_second", 4, 1, (227, 200), 2104),
}


@lru_cache
def fill_module(shared: Path) -> ModuleType:
    """Return the script that makes the golden weights and images."""
    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache
def keys(shared: Path, name: str) -> dict[str, list[int]]:
    """Return official variable name -> shape, in creation order."""
    folder = shared / "golden" / "musica"
    if name == "wflw49_3it":
        return dict(json.loads((folder / "keys.json").read_text()))
    return dict(json.loads((folder / "keys_variants.json").read_text())[name])


def official_variables(shared: Path, name: str) -> dict[str, np.ndarray]:
    """Return the golden weights under their official names, HWIO and (in, out)."""
    fill = fill_module(shared).fill
    return {key: fill(key, tuple(shape), layout="HWIO") for key, shape in keys(shared, name).items()}


def make_net(shared: Path, name: str) -> CascadeNet:
    """Return our network with the golden weights, official sampling."""
    config = CONFIGS[name]
    net = CascadeNet(config.points, patch_indices(config.patches, config.points), config.iterations,
                     sampling="official")  # fmt: skip
    state = convert_variables(official_variables(shared, name))
    net.load_state_dict({"start": net.start, **state}, strict=True)
    return net


def golden_images(shared: Path, name: str) -> list[Tensor]:
    """Return the float32 pyramid (B, H, W, 3), finest first, computed in float64 as the recorded one."""
    config = CONFIGS[name]
    image = fill_module(shared).image(config.seed, (config.batch, 3, *config.size)).transpose(0, 2, 3, 1)
    # NumPy's sums, as recorded: another order of summation changes the last bit, and patches are compared exactly.
    faces = np.stack([(face - face.mean()) / face.std() for face in image.astype(np.float64)])
    first = torch.from_numpy(faces)
    torch.testing.assert_close(normalise(torch.from_numpy(image.copy())).double(), first, rtol=0, atol=1e-5)
    return [level.image.float() for level in halvings(first, 3)]


def golden_pyramid(shared: Path, name: str) -> Pyramid:
    """Return the levels that the official network saw: the recorded ones where there are any, else ours.

    Ours agree to 1e-6 (tested); the patches are compared to the last bit, so they are cut from the recorded levels.
    """
    images, golden = golden_images(shared, name), golden_arrays(shared, name)
    for level in (1, 2):
        if f"image_level_{level}" in golden:
            images[level] = torch.from_numpy(golden[f"image_level_{level}"])
    return Pyramid([make_level(image) for image in images])


def golden_arrays(shared: Path, name: str, file: str = "golden") -> dict[str, np.ndarray]:
    """Return the arrays of one prefix, without it."""
    with np.load(shared / "golden" / "musica" / f"{file}.npz", allow_pickle=False) as arrays:
        return {key.split(".", 1)[1]: arrays[key] for key in arrays.files if key.startswith(name + ".")}
