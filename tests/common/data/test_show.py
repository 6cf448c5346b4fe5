"""The grid of faces: size, and that its second column is augmented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
from lightning.pytorch.loggers import WandbLogger

from common.data.__main__ import main
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.data.show import CELL, data_grid, spread
from common.data.synthetic import SyntheticFaces
from common.files.images import read_image
from common.training.callbacks import PredictionPictures


def test_faces_are_shown_before_and_after_augmentation() -> None:
    faces, config = SyntheticFaces(2), CropConfig(size=64, rotation=30, flip=1.0)
    picture = data_grid(CroppedFaces(faces, config, seed=0), [0, 1], columns=2)
    assert picture.shape == (2 * CELL, 2 * CELL, 3)
    assert np.abs(picture[:, :CELL].astype(int) - picture[:, CELL:]).mean() > 5
    still = data_grid(CroppedFaces(faces, config.still()), [0, 1], columns=2)
    label = CELL - 20  # below it are the words
    np.testing.assert_array_equal(still[:label, :CELL], still[:label, CELL:])


def test_places_are_spread() -> None:
    assert spread(10, 3) == [0, 4, 9] and spread(2, 5) == [0, 1]


def test_the_command_writes_a_picture_a_split(tmp_path: Path) -> None:
    args = ["show", "synthetic", "--splits", "val", "--count", "2", "--out", str(tmp_path / "faces.png")]
    assert main(args) == 0
    assert read_image(tmp_path / "faces-val.png").shape == (CELL, 4 * CELL, 3)
    assert [main([*args, "--count", count]) for count in ("0", "-5")] == [2, 2]


def test_a_run_begins_with_its_training_faces(tmp_path: Path) -> None:
    data = FaceDataModule(synthetic=SyntheticConfig(2), num_workers=0)
    sent: list[tuple[str, list[str]]] = []
    logger = Mock(WandbLogger, log_image=lambda key, images: sent.append((key, images)))
    trainer: Any = SimpleNamespace(datamodule=data, is_global_zero=True, fast_dev_run=False, loggers=[logger],
                                   default_root_dir=str(tmp_path))  # fmt: skip
    PredictionPictures().on_fit_start(trainer, Any)  # type: ignore[arg-type]
    path = tmp_path / "pictures" / "data.png"
    assert read_image(path).shape == (CELL, 4 * CELL, 3) and sent == [("pictures/data", [str(path)])]
    assert np.array_equal(read_image(path), data_grid(data.cropped("train"), [0, 1]))  # that of `show`
