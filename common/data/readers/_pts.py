"""Parser of `.pts` landmark files, with errors that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import LabError


def read_pts(path: Path, count: int, headerless: bool = False) -> np.ndarray:
    """Return the points (count, 2) float64 as written in the file (300W writes 1-based pixels).

    Args:
        path: the file.
        count: points that it must hold.
        headerless: accept a file that is nothing but lines "x y".

    Raises:
        LabError: the file is missing, its header or a line is wrong, or the count does not fit.
    """
    if not path.is_file():
        raise LabError(f"{path}: landmark file is missing; is the data set complete?")
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except UnicodeDecodeError:
        raise LabError(f"{path}: is not a text file of landmarks") from None
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
        raise LabError(f"{path}:{len(lines)}: ends without '}}'; the file is cut short")
    if len(points) != count:
        raise LabError(f"{path}:{start + len(points)}: {len(points)} landmarks, expected {declared}")
    return np.array(points)


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
