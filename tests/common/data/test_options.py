"""Options of the data that have moved: files and command lines of former versions go on."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from common.data.datamodule import FaceDataModule
from common.data.options import MOVED, SyntheticConfig, upgrade
from common.evaluation import load_data
from common.training.words import rename_former

FORMER = {
    "dataset": "synthetic", "train_count": 5, "val_count": 4, "test_count": 3, "synthetic_seed": 2, "store": None,
    "crop": {"size": 64, "box": "gt"},
}  # fmt: skip


def test_a_saved_configuration_of_a_former_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": FORMER}))
    data = load_data(path)
    assert data.synthetic == SyntheticConfig(5, 4, 3, 2) and data.box == "gt" and data.crop.size == 64
    assert load_data(path, test_count=9).synthetic == SyntheticConfig(5, 4, 9, 2)


def test_a_present_name_wins() -> None:
    found = upgrade({"train_count": 5, "synthetic": {"train_count": 6}, "box": "detector", "crop": {"box": "dataset"}})
    assert found == {"synthetic": {"train_count": 6}, "box": "detector", "crop": {}}
    assert upgrade(found) == found


@pytest.mark.parametrize("former", MOVED)
def test_typed_options_are_renamed(former: str) -> None:
    words = rename_former([f"--data.{former}", "1", f"--data.{former}=2"], MOVED, "data")
    assert words == [f"--data.{MOVED[former]}", "1", f"--data.{MOVED[former]}=2"]


def test_every_former_place_is_there_today() -> None:
    present = inspect.signature(FaceDataModule.__init__).parameters
    assert all(place.partition(".")[0] in present for place in MOVED.values())
