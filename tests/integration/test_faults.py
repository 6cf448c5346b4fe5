"""Trainings that are killed, stopped or starved end as the uninterrupted ones; the long versions are slow."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from common.files.checkpoint_io import WholeCheckpoints
from common.files.checksum import is_sound
from tests.integration import faults

KILLS = int(os.environ.get("FAULT_KILLS", "20"))
METHODS = list(faults.SMALL)


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
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of uninterrupted runs."""
    folder = tmp_path_factory.mktemp("whole")
    for method in METHODS:
        faults.ended(faults.start(faults.command(method, folder / method)))
    return {method: folder / method for method in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_random_kills_change_nothing(method: str, whole: dict[str, Path], tmp_path: Path) -> None:
    faults.killed_at_random(method, tmp_path / "run", KILLS)
    assert faults.differences(tmp_path / "run", whole[method]) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_sigterm_changes_nothing(method: str, whole: dict[str, Path], tmp_path: Path) -> None:
    assert faults.told_to_end(method, tmp_path / "run") == 143
    assert faults.differences(tmp_path / "run", whole[method]) == []


def test_a_full_disk_keeps_the_former_checkpoint(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", 1) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        path = tmp_path / "disk" / "last.ckpt"
        WholeCheckpoints().save_checkpoint({"epoch": 1}, path)
        with pytest.raises(Exception, match=r"last.ckpt: cannot be written \(No space left on device\)"):
            WholeCheckpoints().save_checkpoint({"epoch": 2, "more": bytes(1 << 21)}, path)
        assert is_sound(path) and [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_full_disk_stops_a_training_in_one_line(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", 3) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        process = faults.start(faults.command("awing", tmp_path / "disk" / "run"))
        said = process.communicate(timeout=faults.PATIENCE)[1]
        assert process.returncode == 2 and "Traceback" not in said
        assert "No space left on device" in said.splitlines()[-1]


@pytest.mark.slow
def test_a_killed_loader_stops_a_training_in_one_line(whole: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = faults.start([*faults.command("awing", run), "--data.num_workers", "1"])
    while process.poll() is None and not faults.last(run).is_file():
        time.sleep(0.01)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    for child in listed.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    said = process.communicate(timeout=faults.PATIENCE)[1]
    assert process.returncode == 2 and "Traceback" not in said and "--resume" in said.splitlines()[-1]
    faults.ended(faults.start(faults.command("awing", run, "--resume", "true")))
    assert faults.differences(run, whole["awing"]) == []
