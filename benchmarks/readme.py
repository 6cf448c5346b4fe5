"""Generated parts of Markdown documents: tables, and what is written between two marks, the text around it kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import LabError

NOT_MEASURED = "not measured yet"


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

    Sections (`### title`) of which the new part has no figures, or which it lacks, are kept with a word on the screen:
    figures are not dropped because a record is on another machine.

    Raises:
        LabError: as `split_at_marks`; the document is then left as it was.
    """
    head, old, tail = split_at_marks(document, begin, end)
    former, new = _sections(old), _sections(body)
    for title, text in former.items():
        if title and NOT_MEASURED not in text and NOT_MEASURED in new.get(title, NOT_MEASURED):
            print(f"{document}: not all of {title!r} is measured here; its figures stay as they are", file=sys.stderr)
            new[title] = text
    whole = "\n\n".join(f"### {title}\n\n{text}" if title else text for title, text in new.items() if title or text)
    document.write_text(f"{head}{begin}\n{whole}\n{end}{tail}", encoding="utf-8")


def _sections(part: str) -> dict[str, str]:
    """Return the text below each title; that before the first has the title ""."""
    first, *rest = re.split(r"^### ", part, flags=re.M)
    titled = (section.partition("\n") for section in rest)
    return {"": first.strip("\n")} | {title.strip(): text.strip("\n") for title, _, text in titled}


_RULES = {"l": ("", ""), "r": ("", ":"), "c": (":", ":")}
_PAD = {"l": str.ljust, "r": str.rjust, "c": str.center}


def table(header: Sequence[object], rows: Iterable[Sequence[object]], align: str = "") -> str:
    """Return a Markdown table whose columns are padded to one width, so that it reads well as plain text too.

    Args:
        header: one entry a column.
        rows: each as long as the header; an entry is written as `str` gives it, on one line, its pipes escaped.
        align: a letter for each column: l(eft), r(ight) or c(entre); columns beyond its end are left-aligned.

    Raises:
        ValueError: a row is not as long as the header, or a letter is unknown.
    """
    sides = align.ljust(len(header), "l")
    if len(sides) > len(header) or not set(sides) <= set(_PAD):
        raise ValueError(f"align must hold l, r or c for at most {len(header)} columns, got {align!r}")
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(_PAD[side](cell, width) for cell, side, width in zip(row, sides, widths, strict=True)) + " |"
        for row in cells
    ]
    rules = (_RULES[side] for side in sides)
    parts = (f"{a}{'-' * (width + 2 - len(a + b))}{b}" for (a, b), width in zip(rules, widths, strict=True))
    lines.insert(1, "|" + "|".join(parts) + "|")
    return "\n".join(lines)
