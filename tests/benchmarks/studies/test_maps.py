"""Heatmaps drawn over faces: of every method that has them, named in one line for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.maps import main, maps_grid
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.show import CELL
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.images import read_image
from tests.test_contract import make_task

KINDS = {"awing": ("points", "boundary"), "spiga": ("points", "edges"), "sdu3d": ("points",)}


@pytest.mark.parametrize("name", KINDS)
def test_targets_peak_at_the_points_and_are_drawn_beside_the_answers(name: str) -> None:
    task = make_task(name).eval()
    faces = CroppedFaces(SyntheticFaces(2, scheme=task.scheme.name, seed=5), CropConfig(size=task.input_size))
    seen: list[dict[str, torch.Tensor]] = []
    drawn = task.maps
    task.maps = lambda batch: seen.append(drawn(batch)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    picture = maps_grid(task, faces, [0, 1])
    assert picture.shape == (2 * CELL, (1 + 2 * len(KINDS[name])) * CELL, 3)
    (maps,) = seen
    assert list(maps) == [f"{kind}{more}" for kind in KINDS[name] for more in (", target", "")]
    assert all(value.ndim == 4 and torch.isfinite(value).all() for value in maps.values())
    for kind in KINDS[name]:
        assert maps[kind].shape == maps[f"{kind}, target"].shape
    target = maps["points, target"]
    side, width = target.shape[-1], CELL / target.shape[-1]
    for number in range(2):
        places = target[number].flatten(1).argmax(1)
        cells = np.stack([places % side, places // side], 1) + 0.5
        wanted = (faces[number].points[:, :2] + 0.5) * side / task.input_size
        assert np.abs(cells - wanted).max() < 1.01, "within a cell"
        cell = picture[number * CELL : (number + 1) * CELL, CELL : 2 * CELL].astype(int).sum(-1)
        x, y = (cells[30] * width).astype(int)
        assert cell[y, x] > 500, "bright at a landmark"


def test_a_method_without_maps_is_one_line() -> None:
    task = make_task("dpr").eval()
    faces = CroppedFaces(SyntheticFaces(1, scheme=task.scheme.name), CropConfig(size=task.input_size))
    with pytest.raises(LabError, match="dpr has no heatmaps"):
        maps_grid(task, faces, [0])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "maps.png"
    assert main(["sdu3d", "--count", "1", "--out", str(out)]) == 0
    assert read_image(out).shape == (CELL, 3 * CELL, 3)
    assert main(["sdu3d", "--count", "0"]) == 2 and "--count" in capsys.readouterr().err
