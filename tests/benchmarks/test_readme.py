"""Scripts change the generated part of a document and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.readme import NOT_MEASURED, fill, split_at_marks, table
from common.errors import LabError

BEGIN, END = "<!-- begin -->", "<!-- end -->"


def test_the_text_around_the_marks_is_kept(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):  # a second time changes nothing
        fill(document, BEGIN, END, "new")
        assert document.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert split_at_marks(document, BEGIN, END) == ("before\n", "\nnew\n", "\nafter\n")


def test_figures_are_not_dropped_with_their_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DPR's table of the ablation became "not run yet" when its speed was measured on another machine."""
    document = tmp_path / "page.md"
    document.write_text(f"{BEGIN}\nintro\n\n### Speed\n\n1 ms\n\n### Ablation\n\n7.5 %\n\n### Size\n\n3 M\n{END}\n")
    fill(document, BEGIN, END, f"new\n\n### Speed\n\n2 ms\n\n### Ablation\n\n{NOT_MEASURED}: `command`.\n")
    assert document.read_text() == (
        f"{BEGIN}\nnew\n\n### Speed\n\n2 ms\n\n### Ablation\n\n7.5 %\n\n### Size\n\n3 M\n{END}\n"
    )
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "not all of 'Ablation' is measured here" in said[0] and "'Size'" in said[1]


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_missing_marks_are_told_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    document = tmp_path / "README.md"
    document.write_text(text)
    with pytest.raises(LabError, match=r"README.md: the marks"):
        fill(document, BEGIN, END, "new")
    assert document.read_text() == text
    with pytest.raises(LabError, match=r"other.md: is missing"):
        fill(tmp_path / "other.md", BEGIN, END, "new")


def test_tables_are_padded_and_escaped() -> None:
    text = table(["method", "NME"], [["a|b\nc", 4.5], ["longer name", 10]], align="lr")
    assert text.splitlines() == [
        "| method      | NME |",
        "|-------------|----:|",
        "| a\\|b c      | 4.5 |",
        "| longer name |  10 |",
    ]
    assert table(["a", "b"], [], "c").splitlines() == ["| a | b |", "|:-:|---|"]
    with pytest.raises(ValueError, match="argument"):
        table(["a", "b"], [["one"]])
    for wrong in ("x", "lll"):
        with pytest.raises(ValueError, match="align must hold l, r or c for at most 2 columns"):
            table(["a", "b"], [["1", "2"]], align=wrong)
