"""Rows of the HELEN table as records of a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.record import Result, append_record
from benchmarks.report import build
from benchmarks.report.model import read_report
from benchmarks.studies.helen import as_record


def test_a_row_becomes_a_record_under_the_canonical_protocol(tmp_path: Path) -> None:
    record = as_record("PFLD network (public ONNX)", np.array([2.0, 4.0, 12.0, 6.0]))
    assert record.metrics["nme"] == 6.0 and record.metrics["fr"] == 25.0
    assert record.metrics["auc"] == pytest.approx(100 * (0.8 + 0.6 + 0.0 + 0.4) / 4)
    low, high = record.intervals["nme"]
    assert 2 <= low < 6 < high <= 12 and record.card["n"] == 4 and record.card["threshold"] == 10


def test_a_row_shares_the_table_of_trials(tmp_path: Path) -> None:
    """Same protocol, faces, landmarks, normaliser, threshold: one table, ordered by the error."""
    other = as_record("mean face", np.array([17.0, 18.0]))
    trial = Result(trial="awing/helen/embedded/0", method="awing", title="AWing", dataset="helen", protocol="canonical",
                   card=other.card, metrics={"nme": 3.4, "fr": 0.0, "auc": 66.0})  # fmt: skip
    for record in (trial, other):
        append_record(tmp_path / "records.jsonl", record)
    (comparison,) = read_report(tmp_path).comparisons
    assert [entry.label for entry in comparison.entries] == ["AWing", "mean face"]


def test_one_document_can_be_filled_alone(tmp_path: Path) -> None:
    """The README's table may come from other records than BENCHMARKS.md, which then stays as it is."""
    append_record(tmp_path / "records.jsonl", as_record("mean face", np.array([17.0, 18.0])))
    for name in ("README.md", "BENCHMARKS.md"):
        (tmp_path / name).write_text(f"before\n{build.BEGIN}\nold\n{build.END}\nafter\n")
    build.write(tmp_path, tmp_path, names=["README.md"])
    assert "old" in (tmp_path / "BENCHMARKS.md").read_text()
    text = (tmp_path / "README.md").read_text()
    assert "<!-- shows: helen -->" in text and "| 17.50 |" in text and "old" not in text
