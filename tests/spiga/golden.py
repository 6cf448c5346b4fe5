"""The golden weights, images and arrays of SPIGA, as tests use them."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from common.schemes import IBUG68, WFLW98
from spiga.convert import MEAN_FACE, SIZES, constants, convert_state_dict
from spiga.network import SpigaNet
from spiga.schemes import edge_curves

SCHEMES = {"w98": WFLW98, "w68": IBUG68}


@cache
def fill_module(shared: Path) -> ModuleType:
    """Return the script that makes the golden weights and images."""
    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _filled(shared: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
    value: np.ndarray = fill_module(shared).fill(key, shape)  # the two networks share nine tenths of the keys
    return value


def arrays(shared: Path) -> dict[str, np.ndarray]:
    """Return all golden arrays."""
    with np.load(shared / "golden" / "spiga" / "golden.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def describe(shared: Path, name: str) -> dict[str, Any]:
    """Return what keys.json says of w98 or w68."""
    found: dict[str, Any] = json.loads((shared / "golden" / "spiga" / "keys.json").read_text())["configs"][name]
    return found


def mean_face(shared: Path, points: int) -> Tensor:
    """Return the official mean face (L, 3) float64."""
    return torch.from_numpy(np.load(shared / "golden" / "spiga" / f"mean_face_3d_{points}.npy", allow_pickle=False))


def weights(shared: Path, name: str) -> dict[str, Tensor]:
    """Return the golden weights under their official names, constants included, in the official order."""
    about = describe(shared, name)
    fixed = constants(SCHEMES[name])
    state: dict[str, Tensor] = {}
    for key, shape in about["keys"].items():
        if key in about["constant"]:
            state[key] = fixed[key].contiguous()
        elif key in about["set"]:
            state[key] = torch.tensor(about["set"][key], dtype=torch.float32)
        else:
            value = _filled(shared, key, tuple(shape))
            scale = about["scale"].get(key)
            state[key] = torch.from_numpy(np.asarray(value if scale is None else value * np.float32(scale)))
    return state


def network(shared: Path, name: str, official: dict[str, Tensor]) -> SpigaNet:
    """Return the network with golden weights and the official mean face, in evaluation mode."""
    scheme = SCHEMES[name]
    face = mean_face(shared, scheme.num_points)
    with patch("torch.nn.init.kaiming_uniform_", lambda tensor, *args, **more: tensor):  # all of it is overwritten
        net = SpigaNet(scheme.num_points, edge_curves(scheme), scheme.singles, face, **SIZES)
    state, _ = convert_state_dict(official)
    net.load_state_dict({**state, MEAN_FACE: face.float()}, strict=True)
    return net.eval()
