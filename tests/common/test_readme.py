"""Scripts change the generated part of a document and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import LabError
from common.readme import fill, split_at_marks

BEGIN, END = "<!-- begin -->", "<!-- end -->"


def test_the_text_around_the_marks_is_kept(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):  # a second time changes nothing
        fill(document, BEGIN, END, "new")
        assert document.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert split_at_marks(document, BEGIN, END) == ("before\n", "\nnew\n", "\nafter\n")


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_missing_marks_are_told_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    document = tmp_path / "README.md"
    document.write_text(text)
    with pytest.raises(LabError, match=r"README.md: the marks"):
        fill(document, BEGIN, END, "new")
    assert document.read_text() == text
    with pytest.raises(LabError, match=r"other.md: is missing"):
        fill(tmp_path / "other.md", BEGIN, END, "new")
