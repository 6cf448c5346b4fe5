"""`python -m benchmarks.studies.growth`: what grows with the number of faces."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies import growth
from common.errors import LabError


@pytest.mark.slow
def test_tables_hold_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"before\n{growth.BEGIN}\nold\n{growth.END}\nafter\n")
    growth.main(["--samples", "100", "200", "--faces", "20", "--document", str(document)])
    text = document.read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| ")}
    assert [float(rows[faces][0]) > 1 for faces in ("100", "200")] == [True, True]
    seconds, peak = map(float, rows["20"])
    assert 0 < seconds < 10 and 20 < peak < 400 and "old" not in text and text.endswith("\nafter\n")


def test_goals_are_judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    costs = {100: (1.0, 100.0), 5_000: (2.0, 399.0), 50_000: (9.0, 300.0)}
    monkeypatch.setattr(growth, "loader_memory", lambda marks: [50.0, 54.9, 53.0])
    monkeypatch.setattr(growth, "score_costs", costs.__getitem__)
    growth.main([])
    assert capsys.readouterr().out.count("(reached)") == 2
    monkeypatch.setattr(growth, "loader_memory", lambda marks: [50.0, 56.0, 53.0])
    costs[5_000] = (2.0, 401.0)
    growth.main([])
    assert capsys.readouterr().out.count("not reached") == 2


def test_a_scoring_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MEASURED", "import sys; sys.exit(3)")
    with pytest.raises(LabError, match="ended with 3 for 2 faces"):
        growth.score_costs(2)
