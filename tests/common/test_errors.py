"""What command lines tell of mistakes: one line and an exit code; defects keep their traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import USER_ERROR, LabError, command


@command
def main(path: Path, words: str = "") -> int:
    """Read a file, or say why not."""
    if words:
        raise LabError(words)
    path.read_text()
    return 0


def test_a_mistake_is_one_line_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, "faces.csv:3:\n  no such scheme") == USER_ERROR != 0
    shown = capsys.readouterr()
    assert shown.err == "error: faces.csv:3: no such scheme\n" and shown.out == ""


def test_a_file_that_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == USER_ERROR
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"


def test_defects_and_successes_pass(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(tmp_path / "file") == 0 and main.__doc__ == "Read a file, or say why not."

    @command
    def wrong(error: Exception) -> int:
        raise error

    for error in (KeyError("points"), OSError("no file has to do with it")):
        with pytest.raises(type(error)):
            wrong(error)
