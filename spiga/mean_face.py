"""The rigid 3D mean face whose projection starts the cascade: our own, or a file.

python -m spiga.mean_face OUT.npy [--scheme wflw98] writes our own, the mean of the synthetic heads, so that it can be
looked at, changed and given back with --model.mean_face; networks take the same face by default.

Frame of `common.pose`: first axis minus the depth, second to the subject's right, third down; origin at the tip of the
nose; the unit makes the distance of the outer eye corners 0.84, as the official models have it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.synthetic import mean_face
from common.errors import LabError, command
from common.schemes import IBUG68, WFLW98, LandmarkScheme, get_scheme
from spiga.schemes import NOSE_TIP, check_scheme, identifiers

EYE_DISTANCE = 0.84
SUFFIXES = (".npy", ".txt")


@lru_cache
def _default(name: str) -> np.ndarray:
    scheme = check_scheme(get_scheme(name))
    x, y, z = mean_face(WFLW98.name if scheme.num_points == WFLW98.num_points else IBUG68.name).T
    return normalise(np.column_stack([z, -x, y]), scheme)


def normalise(points: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return a face (L, 3) that equals its mirror image, with the official origin and unit."""
    mirrored = points[list(scheme.mirror)] * [1, -1, 1]
    points = (points + mirrored) / 2
    points = points - points[NOSE_TIP[scheme.name]]
    left, right = scheme.corners
    return points * (EYE_DISTANCE / float(np.linalg.norm(points[left] - points[right])))


def default_mean_face(scheme: LandmarkScheme) -> Tensor:
    """Return this project's own mean face (L, 3) float64: the mean of the synthetic heads, all looking straight."""
    return torch.from_numpy(_default(scheme.name).copy())


def read_mean_face(path: Path | str, scheme: LandmarkScheme) -> Tensor:
    """Return the mean face (L, 3) float64 of a file, rows in the scheme's order.

    Args:
        path: `.npy`, (L, 3) in the frame above; or an official `.txt`, lines of id|x|y|z in the official axes.
        scheme: of the points; a text file may hold more than its points.

    Raises:
        LabError: the file is missing, damaged, or does not hold the scheme's points.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise LabError(f"{path}: a mean face is a {' or '.join(SUFFIXES)} file")
    if not path.is_file():
        raise LabError(f"{path}: mean face is missing; check --model.mean_face")
    points = _read_array(path) if path.suffix == ".npy" else _read_text(path, scheme)
    if points.shape != (scheme.num_points, 3) or not np.isfinite(points).all():
        raise LabError(f"{path}: holds an array {points.shape} where {(scheme.num_points, 3)} finite numbers of scheme "
                       f"{scheme.name} were expected")  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (ValueError, OSError, EOFError):
        raise LabError(f"{path}: is damaged or no array of numbers") from None


def _read_text(path: Path, scheme: LandmarkScheme) -> np.ndarray:
    rows: dict[int, list[float]] = {}
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError:
        raise LabError(f"{path}: is no text file of id|x|y|z lines") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name, x, y, z = line.split("|")
            # Official axes: x to the subject's left, y up, z to the viewer.
            rows[int(name)] = [float(z), -float(x), -float(y)]
        except ValueError:
            raise LabError(f"{path}:{number}: expected id|x|y|z, got {line.strip()[:60]!r}") from None
    absent = [i for i in identifiers(scheme) if i not in rows]
    if absent:
        raise LabError(f"{path}: {len(absent)} points of scheme {scheme.name} are missing, first id {absent[0]}")
    return np.array([rows[i] for i in identifiers(scheme)])


def write_mean_face(path: Path, scheme: LandmarkScheme, overwrite: bool = False) -> None:
    """Write this project's own mean face: `.npy` (L, 3), or `.txt` in the official axes and lines.

    Raises:
        LabError: the file is of another kind, or exists and `overwrite` is off.
    """
    if path.suffix not in SUFFIXES:
        raise LabError(f"{path}: a mean face is a {' or '.join(SUFFIXES)} file")
    if path.exists() and not overwrite:
        raise LabError(f"{path}: exists already; choose another name or add --overwrite")
    face = _default(scheme.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, face)
        return
    rows = zip(identifiers(scheme), face.tolist(), strict=True)
    # Inverse of what `_read_text` does to the axes.
    path.write_text("".join(f"{name}|{-y!r}|{-z!r}|{x!r}\n" for name, (x, y, z) in rows), encoding="ascii")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the mean face."""
    parser = argparse.ArgumentParser(prog="python -m spiga.mean_face", description="Write our own 3D mean face.")
    parser.add_argument("out", type=Path, help=".npy, or .txt in the official form")
    parser.add_argument("--scheme", default=WFLW98.name)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    options = parser.parse_args(arguments)
    write_mean_face(options.out, check_scheme(get_scheme(options.scheme)), options.overwrite)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
