"""What all tests share: where the reference data lie, and a clean global state before and after each test."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = (ROOT / ".." / "shared").resolve()
_HAS_SHARED = SHARED.is_dir()
_IN_CI = os.environ.get("CI", "").lower() in ("true", "1")

# In CI a missing folder is a failure, not a skip: a green run must mean that the golden figures were compared.
needs_shared = pytest.mark.skipif(
    not _HAS_SHARED and not _IN_CI, reason="the reference data (../shared beside the repository) are not here"
)


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
