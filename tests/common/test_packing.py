"""Packing weights with other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.methods import METHODS
from common.packing import describe, main

AWING = METHODS["awing"].weights()[0]


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
     ("stacks=2", "stacks.1")],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    target = tmp_path / "packed.safetensors"
    assert main([str(AWING), str(target), "--set", given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert not target.exists()
