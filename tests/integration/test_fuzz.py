"""No file, however it is damaged, gives an exception that is no LabError; the long version is slow."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from tests.integration import fuzz

CASES = int(os.environ.get("FUZZ_CASES", "100000"))  # of all kinds together
SEED = int(os.environ.get("FUZZ_SEED", "1"))


def all_kinds(each: int, folder: Path) -> dict[str, dict[str, tuple[int, bytes]]]:
    """Return kind -> what was raised, for kinds of which something was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {kind: fuzz.run(kind, each, SEED, folder) for kind in fuzz.targets(folder)}
    return {kind: raised for kind, raised in found.items() if raised}


def test_some_damaged_files_of_each_kind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert all_kinds(6, tmp_path) == {}


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert all_kinds(-(-CASES // len(fuzz.targets(tmp_path))), tmp_path) == {}


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    """Each kind's reader reads its file as it is: what is changed was genuine."""
    for kind in fuzz.targets(tmp_path):
        fuzz.sound(kind, tmp_path)
