"""The file of a run's curves: one for all its starts, without rows that are made again."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from common.files.curve import CurveFile


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "metrics.csv"
    first = CurveFile(path)
    for step in range(3):
        first.log_metrics({"val/nme": step / 2, "epoch": step}, step)
        first.save()
    again = CurveFile(path, steps=2)  # the checkpoint holds two steps; the third is made again
    again.log_metrics({"val/nme": 1.0, "epoch": 2, "val/fr": 4.0}, 2)
    again.save()
    found = rows(path)
    assert [row["step"] for row in found] == ["0", "1", "2"] and [row["val/fr"] for row in found] == ["", "", "4.0"]
    anew = CurveFile(path)
    anew.log_metrics({"epoch": 0}, 0)
    anew.finalize("success")
    assert rows(path) == [{"epoch": "0", "step": "0"}]


@pytest.mark.parametrize("content", [b"epoch\n1\n", b"step\nx\n", b'step\n"1', b"step\n\xff\n"])
def test_a_damaged_curve_is_set_aside(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    curve = CurveFile(path, steps=2)
    assert "kept as metrics.damaged" in capsys.readouterr().err
    curve.log_metrics({"epoch": 1}, 2)
    curve.save()
    assert rows(path) == [{"epoch": "1", "step": "2"}]
    assert (tmp_path / "metrics.damaged").read_bytes() == content


def test_a_curve_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("a file in the folder's place")
    curve = CurveFile(tmp_path / "logs" / "metrics.csv")
    for step in range(2):
        curve.log_metrics({"epoch": step}, step)
        curve.save()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "the curve cannot be written" in said[0]
