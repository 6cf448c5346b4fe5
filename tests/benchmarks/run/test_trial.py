"""Training processes of the runner: they end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.run import trial
from benchmarks.run.plan import Trial
from benchmarks.run.trial import run_children
from common.errors import LabError

PARENT = """
import sys
from pathlib import Path
from benchmarks.run.trial import run_children
child = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
run_children([[sys.executable, "-c", child, sys.argv[1]]])
"""


def test_the_exit_code_of_the_child_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run_children([[sys.executable, "-c", "raise SystemExit(3)"], [sys.executable, "-c", ""]]) == [3, 0]
    assert signal.getsignal(signal.SIGTERM) == before


def _wait_for(path: Path) -> int:
    for _ in range(600):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise AssertionError("the child did not start")


def test_a_runner_that_is_told_to_end_ends_its_child_first(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(note)], cwd=Path(__file__).parents[3])
    try:
        child = _wait_for(note)
        parent.terminate()
        assert parent.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        parent.kill()
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return
    raise AssertionError("the child goes on")


def test_a_training_that_is_told_to_end_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped training had ended with 0, and its trial was marked as finished."""
    one = Trial("awing", "synthetic", "smoke", 0, ("awing/smoke.yaml",))
    monkeypatch.setattr(trial, "run_children", lambda *_: [143])
    with pytest.raises(LabError, match="training ended with exit code 143"):
        trial.train(tmp_path, one)
    assert not list(tmp_path.rglob("finished"))
