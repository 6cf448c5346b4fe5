"""The command line imports what its command needs, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES, PLANS, main


def test_scoring_imports_no_network_and_no_pictures(tmp_path: Path) -> None:
    """NumPy, and SciPy's bootstrap: no torch, no OpenCV, no plotting, which would take ten times as long."""
    faces = [{"id": str(k), "points": [[x, x * k % 7] for x in range(68)]} for k in range(1, 4)]
    (tmp_path / "points.json").write_text(json.dumps(faces))
    program = (
        "import sys; from benchmarks.__main__ import main; main(sys.argv[1:]); "
        "print('imported', *(name for name in ('torch', 'cv2', 'lightning', 'pydantic', 'matplotlib') "
        "if name in sys.modules))"
    )
    path = str(tmp_path / "points.json")
    words = [sys.executable, "-c", program, "score", path, "--truth", path]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "imported"


def test_every_command_is_listed_without_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and all(f"    {name} " in text for name in (*MODULES, *PLANS)) and "adopt" not in text


@pytest.mark.parametrize("name", list(MODULES))
def test_every_command_has_options_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0 and len(capsys.readouterr().out.splitlines()) > 5
