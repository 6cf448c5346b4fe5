"""Trainings that are killed, stopped or starved end as the uninterrupted ones; the long versions are slow."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from common.files.checkpoint_io import WholeCheckpoints
from common.files.checksum import is_sound
from common.files.whole import write_whole
from tests.integration import faults

KILLS = int(os.environ.get("FAULT_KILLS", "20"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_inside_saves_leave_a_sound_checkpoint(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven of twenty left half a file where temporary files lay on another file system."""
    if Path("/dev/shm").is_dir():
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert faults.killed_inside_saves(path, kills, megabytes=2 * kills) == 0
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a method's uninterrupted run, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("whole")
    return functools.cache(lambda method: faults.trained(method, folder / method))


@pytest.mark.slow
@pytest.mark.parametrize("method", faults.SMALL)
def test_random_kills_change_nothing(method: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    faults.killed_at_random(method, tmp_path / "run", KILLS, faults.seconds_an_epoch(whole(method)))
    assert faults.differences(tmp_path / "run", whole(method)) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", faults.SMALL)
def test_sigterm_changes_nothing(method: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    assert faults.told_to_end(method, tmp_path / "run") == 143
    assert faults.differences(tmp_path / "run", whole(method)) == []


def test_a_full_disk_keeps_the_former_checkpoint(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", 1) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        path = tmp_path / "disk" / "last.ckpt"
        WholeCheckpoints().save_checkpoint({"epoch": 1}, path)
        with pytest.raises(Exception, match=r"last.ckpt: cannot be written \(No space left on device\)"):
            WholeCheckpoints().save_checkpoint({"epoch": 2, "more": bytes(1 << 21)}, path)
        with pytest.raises(OSError, match="No space left"):  # left a configuration of no bytes
            write_whole(path.with_name("config.yaml"), bytes(1 << 21))
        assert is_sound(path) and [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_full_disk_stops_a_training_in_one_line(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", 3) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        run, said = tmp_path / "disk" / "run", tmp_path / "said.txt"
        assert faults.ended(faults.start("awing", faults.command("awing", run), said), said) == 2
        text = said.read_text()
        assert "Traceback" not in text and "No space left on device" in text.splitlines()[-1]
        assert all(file.stat().st_size for file in run.rglob("*") if file.is_file() and file.suffix != ".csv")


@pytest.mark.slow
def test_a_killed_loader_stops_a_training_in_one_line(whole: Callable[[str], Path], tmp_path: Path) -> None:
    run, said = tmp_path / "run", tmp_path / "run.txt"
    process = faults.start("awing", faults.command("awing", run), said)
    faults.wait_for_save(process, run)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    assert listed.stdout.split()
    for child in listed.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    assert faults.ended(process, said) == 2
    text = said.read_text()
    assert "Traceback" not in text and "--resume" in text.splitlines()[-1]
    faults.trained("awing", run, "--resume", "true")
    assert faults.differences(run, whole("awing")) == []
