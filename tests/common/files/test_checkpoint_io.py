"""Checkpoints are written whole or not at all, wherever the folder of temporary files is, and damage is noticed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import LabError
from common.files.checkpoint_io import WholeCheckpoints
from common.files.checkpoints import read_checkpoint
from common.files.checksum import is_sound

CONTENT: dict[str, Any] = {"state_dict": {"weight": torch.arange(1000.0)}, "epoch": 3}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    return path


def test_a_checkpoint_carries_its_checksum_and_any_reader_takes_it(saved: Path) -> None:
    assert is_sound(saved) is True
    for content in (WholeCheckpoints().load_checkpoint(saved), torch.load(saved, weights_only=True)):
        assert content["epoch"] == 3 and torch.equal(content["state_dict"]["weight"], torch.arange(1000.0))
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    """A weight of another value was loaded: torch does not look at the checksums of the zip format."""
    sound = saved.read_bytes()
    for place in range(100, len(sound) - 80, 211):
        saved.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(LabError, match=r"last.ckpt: checkpoint is damaged"):
            read_checkpoint(saved)


def test_a_file_without_checksum_still_loads(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "former.ckpt")
    assert is_sound(tmp_path / "former.ckpt") is None
    assert read_checkpoint(tmp_path / "former.ckpt")["epoch"] == 3


def test_nothing_is_written_to_the_folder_of_temporary_files(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    WholeCheckpoints().save_checkpoint({**CONTENT, "epoch": 4}, saved)
    assert read_checkpoint(saved)["epoch"] == 4


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_former_file(saved: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if call == "write":
            patched.setattr(Path, "open", full)
        else:
            patched.setattr(os, call, full)
        with pytest.raises(LabError, match=r"last.ckpt: cannot be written \(No space left on device\); the former"):
            WholeCheckpoints().save_checkpoint({**CONTENT, "epoch": 4}, saved)
    assert read_checkpoint(saved)["epoch"] == 3
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_an_unsafe_reading_cannot_be_asked_for(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(LabError, match="refused"):
        WholeCheckpoints().load_checkpoint(tmp_path / "bomb.ckpt", None, False)
    assert not (tmp_path / "ran").exists()
