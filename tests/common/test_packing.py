"""Packing weights with other settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import LabError
from common.files.checkpoints import read_state_dict, save_safetensors
from common.methods import METHODS
from common.packing import describe, main, read_metadata
from common.prediction.inference import Predictor

AWING = METHODS["awing"].weights()[0]
FALLING = {"scores": [0.1, 0.5], "errors": [9.0, 3.0]}


def test_a_setting_can_be_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe(AWING).hyper_parameters["extra"]["flip_test"] is True
    target = tmp_path / "plain.safetensors"
    assert main([str(AWING), str(target), "--set", "extra.flip_test=false"]) == 0
    found = describe(target)
    assert found.hyper_parameters["extra"]["flip_test"] is False
    assert found.hyper_parameters["stacks"] == describe(AWING).hyper_parameters["stacks"]


@pytest.mark.parametrize(
    "given, said",
    [("extra.flip=true", "--set extra.flip: its awing has no such setting; it has"),
     ("extra.growth.more=1", "has no such setting"),
     ("flip_test", "must be NAME=VALUE"),
     ("decode=best", "decode"),
     ("stacks=2", "stacks.1"),
     ("stacks=[", "--set stacks: the value cannot be read")],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    target = tmp_path / "packed.safetensors"
    assert main([str(AWING), str(target), "--set", given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"box_maps": {"yunet": {"right": float("nan")}}}, "does not say what network"),
        ({"box_maps": {"yunet": {"width": "wide"}}}, "does not say what network"),
        (
            {"confidence": {"face": FALLING, "point": FALLING, "shares": [1.0] * 3, "faces": 9}},
            "sure it is of 3",
        ),
    ],
)
def test_what_a_file_says_of_boxes_and_confidence_is_checked(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    """A text in place of a number came up as a TypeError, at the first picture."""
    about = read_metadata(AWING) | {name: json.dumps(value) for name, value in change.items()}
    save_safetensors(read_state_dict(AWING), tmp_path / "w.safetensors", about)
    with pytest.raises(LabError, match=rf"w.safetensors: .*{said}"):
        Predictor.load(tmp_path / "w.safetensors")
