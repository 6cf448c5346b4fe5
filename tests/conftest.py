"""What all tests share: where the reference data are, one store of machine code, a clean global state for each test."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = (ROOT / ".." / "shared").resolve()
_HAS_SHARED = SHARED.is_dir()
_IN_CI = os.environ.get("CI", "").lower() in ("true", "1")
# Before the first import of numba, which reads it once: all workers share the machine code of compiled loops.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))

# Graphs are built by the tests that mean to, not by whichever test predicts long enough on a busy machine.
os.environ.setdefault("FACE_ALIGNMENT_BACKEND", "eager")

# In CI a missing folder is a failure, not a skip: a green run must mean that the golden figures were compared.
needs_shared = pytest.mark.skipif(
    not _HAS_SHARED and not _IN_CI, reason="the reference data (../shared beside the repository) are not here"
)


def pytest_configure(config: pytest.Config) -> None:
    """Let the workers of `-n` compile one after the other, so that each loop is compiled once and then read."""
    if hasattr(config, "workerinput"):
        compile_in_turns(Path(os.environ["NUMBA_CACHE_DIR"]) / "lock")


def compile_in_turns(lock: Path) -> None:
    """Hold a file's lock while this process looks for machine code in the store, compiles it and keeps it there."""
    try:
        import fcntl

        from numba.core import event
    except ImportError:  # no numba, or no such locks: nothing is compiled, or each process compiles for itself
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("w")

    class Turns(event.Listener):
        depth = 0  # numba's own lock, whose events these are, can be taken several times

        def on_start(self, event: Any) -> None:
            if self.depth == 0:
                fcntl.flock(file, fcntl.LOCK_EX)
            self.depth += 1

        def on_end(self, event: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                fcntl.flock(file, fcntl.LOCK_UN)

    event.register("numba:compiler_lock", Turns())


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of reference data; without it, skip, and under CI fail."""
    if not _HAS_SHARED:
        message = "the reference data (../shared beside the repository) are not here"
        if _IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(autouse=True)
def _wandb_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test talks to a tracking server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    """Seed every test alike, and put back what a test may change: dtype, threads, determinism, seeds."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
