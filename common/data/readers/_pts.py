"""Parser of `.pts` landmark files, with errors that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import LabError

SELF_HIDDEN = -1.0  # MERL-RAV: both coordinates of a point that the head itself hides


def read_pts(path: Path, count: int, headerless: bool = False) -> np.ndarray:
    """Return the points (count, 2) float64 as written in the file (300W writes 1-based pixels).

    Args:
        path: the file.
        count: points that it must hold.
        headerless: accept a file that is nothing but lines "x y".

    Raises:
        LabError: the file is missing, its header or a line is wrong, or the count does not fit.
    """
    lines = pts_lines(path)
    has_header = any(line == "{" for line in lines)
    if not has_header and not headerless:
        raise LabError(f"{path}:1: expected the header 'version: 1', 'n_points: {count}', '{{'")
    start = lines.index("{") + 1 if has_header else 0
    declared = _declared(path, lines[:start], count)
    points, closed = [], False
    for number, line in enumerate(lines[start:], start + 1):
        if line == "}":
            closed = True
            break
        if line:
            points.append(_point(path, number, line))
    if has_header and not closed:
        raise LabError(f"{path}:{len(lines)}: ends without '}}'; the file is cut short, copy it again")
    if len(points) != count:
        raise LabError(f"{path}:{start + len(points)}: {len(points)} landmarks, expected {declared}")
    return np.array(points)


def pts_lines(path: Path) -> list[str]:
    """Return the lines of a landmark file, stripped; editors' marks and letters of any alphabet in comments do no harm.

    Raises:
        LabError: the file is missing or no text.
    """
    if not path.is_file():
        raise LabError(f"{path}: landmark file is missing; is the data set complete?")
    data = path.read_bytes()
    if b"\0" in data:
        raise LabError(f"{path}: is not a text file of landmarks")
    return [line.strip() for line in data.decode("utf-8-sig", errors="replace").splitlines()]


def signed_points(given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places (L, 2), which are known (L,), and which are visible (L,), of MERL-RAV's signed coordinates (L, 2).

    A minus before both coordinates marks a point that something else hides; -1 -1 is one that the head itself hides,
    whose place is not known.
    """
    known = ~(given == SELF_HIDDEN).all(axis=1)
    seen = known & ~(given < 0).all(axis=1)
    return np.where((known & ~seen)[:, None], -given, given), known, seen


def _declared(path: Path, header: list[str], count: int) -> int:
    for number, line in enumerate(header, 1):
        key, _, value = line.partition(":")
        if key.strip() == "n_points":
            if value.strip() != str(count):
                raise LabError(f"{path}:{number}: n_points is {value.strip()}, but the scheme has {count}")
    return count


def _point(path: Path, number: int, line: str) -> tuple[float, float]:
    words = line.split()
    try:
        x, y = float(words[0]), float(words[1])
    except (ValueError, IndexError):
        raise LabError(f"{path}:{number}: expected 'x y', got '{line[:40]}'") from None
    if len(words) != 2 or not np.isfinite([x, y]).all():
        raise LabError(f"{path}:{number}: expected two finite numbers, got '{line[:40]}'")
    return x, y
