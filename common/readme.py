"""Generated parts of Markdown documents: what a script writes between two marks, the text around it kept."""

from __future__ import annotations

from pathlib import Path

from common.errors import LabError


def split_at_marks(document: Path, begin: str, end: str) -> tuple[str, str, str]:
    """Return a document's text before the generated part, the part itself without its marks, and the text after it.

    Raises:
        LabError: the document or a mark is missing, or the marks stand in the wrong order.
    """
    if not document.is_file():
        raise LabError(f"{document}: is missing")
    head, first, rest = document.read_text(encoding="utf-8").partition(begin)
    old, second, tail = rest.partition(end)
    if not first or not second:
        raise LabError(
            f"{document}: the marks {begin} and {end} are missing, or stand in the wrong order; "
            "write both, each on a line of its own"
        )
    return head, old, tail


def fill(document: Path, begin: str, end: str, body: str) -> None:
    """Write a document's generated part anew.

    Raises:
        LabError: as `split_at_marks`; the document is then left as it was.
    """
    head, _, tail = split_at_marks(document, begin, end)
    document.write_text(f"{head}{begin}\n{body}\n{end}{tail}", encoding="utf-8")
