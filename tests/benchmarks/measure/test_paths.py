"""`python -m benchmarks paths`: the network beside its graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.measure import paths
from common.errors import LabError
from common.methods import Method


def test_ways_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    took = {"eager": 16.0, "onnx": 8.0}
    monkeypatch.setattr(
        paths, "median_ms", lambda calls, rounds, clock: {way: took[way] for way in took if way in calls}
    )
    document = tmp_path / "page.md"
    document.write_text(f"before\n{paths.BEGIN}\nold\n{paths.END}\nafter\n")
    main(["paths", "awing:smoke", "--rounds", "1", "--document", str(document)])
    text = document.read_text()
    cells = [cell.strip() for cell in next(line for line in text.splitlines() if "AWing" in line).split("|")[1:-1]]
    assert cells[0] == "AWing, smoke"
    assert cells[2:] == ["16.0", "8.0", "-", "2.00 (onnx)", "2.0", "1.0", "-", "2.00 (onnx)"]
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text


@pytest.mark.parametrize("trial", ["awing:none", "nobody:smoke", "spiga"])
def test_what_is_not_there_is_told(trial: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Method, "weights", lambda self: [])
    with pytest.raises(LabError, match="no such method|no embedded weights"):
        paths.load(trial)
