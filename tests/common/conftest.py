"""A small network's weights and two pictures, for what predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from awing.module import AWingTask
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.files.checkpoints import save_safetensors
from common.packing import Description

SETTINGS: dict[str, Any] = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(3)
    path = tmp_path / "small.safetensors"
    save_safetensors(
        AWingTask(**SETTINGS).state_dict(), path, Description("awing", SETTINGS, CropConfig(size=64)).metadata()
    )
    return str(path)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pictures of one name in two folders, the boxes beside them."""
    faces, paths = SyntheticFaces(2, seed=1), []
    for index in range(2):
        path = tmp_path / str(index) / "face.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), faces[index].image[..., ::-1])
        path.with_suffix(".rct").write_text(" ".join(f"{v:.1f}" for v in faces[index].box), encoding="ascii")
        paths.append(path)
    return paths
