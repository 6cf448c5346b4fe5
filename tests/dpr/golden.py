"""What several tests share: golden data as tensors, released and surrogate weights, pictures (no test by itself)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from torch import Tensor

from dpr.convert import assemble, convert_state_dict, read_mean, read_released
from dpr.network import DPRNet

PARTS = ("left_eye", "right_eye", "nose", "mouth")
TRAINED = ("global_reinit", "global_regress", "local_reinit")
LAST_SCALE = np.float32(1e-4)  # of the surrogate's last layers, as the golden README says


def fill_module(shared: Path) -> ModuleType:
    """Return the script that makes surrogate weights and pictures."""
    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def surrogate(shared: Path) -> dict[str, Tensor]:
    """Return the surrogate weights of the local regression under their official names."""
    keys = json.loads((shared / "golden/dpr/98_points_local_regress_keys.json").read_text())["keys"]
    fill = fill_module(shared).fill
    return {
        key: torch.from_numpy(np.asarray(fill(key, tuple(shape)) * (LAST_SCALE if "_loc.4." in key else 1)))
        for key, shape in keys.items()
    }


def official_net(shared: Path) -> DPRNet:
    """Return the released networks with the surrogate in the place of the one that cannot be had."""
    folder = shared / "golden/dpr"
    networks = dict(convert_state_dict(read_released(folder / f"98_points_{kind}.npz")) for kind in TRAINED)
    networks |= dict([convert_state_dict(surrogate(shared))])
    return assemble(networks, read_mean(folder / "mean_98_face.npy"))[0].eval()


def arrays(shared: Path) -> dict[str, np.ndarray]:
    """Return golden.npz."""
    with np.load(shared / "golden/dpr/golden.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def picture(shared: Path, name: str) -> np.ndarray:
    """Return a sample photograph (H, W, 3) uint8, RGB."""
    image = cv2.imread(str(shared / "golden/dpr/samples" / str(name)))
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def shake(layer: torch.nn.Module, deviation: float) -> None:
    """Draw a layer's weights anew."""
    assert isinstance(layer.weight, Tensor)
    torch.nn.init.normal_(layer.weight, 0.0, deviation)
