"""The rigid 3D mean face whose projection starts the cascade: our own, or a file.

python -m spiga.mean_face OUT.npy [--scheme wflw98] writes our own, the mean of the synthetic heads, so that it can be
looked at, changed and given back with --model.mean_face; networks take the same face by default. OUT.png draws it from
the front, from half the side and from the side; --mean_face FILE takes the face of a file, such as an official one.

Frame of `common.pose`: first axis minus the depth, second to the subject's right, third down; origin at the tip of the
nose; the unit makes the distance of the outer eye corners 0.84, as the official models have it.

For a scheme of the user's own the face is an estimate: across, the mean shape of the training set, made symmetric; in
depth, the surface of the mean synthetic head where a point lies once the eyes are laid on each other. It is meant for
points on a face whose eyes the scheme names; for others give a face by --model.mean_face.
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

from common.data.shapes import mean_shape
from common.data.synthetic import mean_face
from common.errors import LabError, command
from common.files.arrays import read_numbers
from common.files.images import write_image
from common.geometry import apply_affine, fit_similarity
from common.schemes import IBUG68, WFLW98, LandmarkScheme, get_scheme
from spiga.drawing import draw_face_views
from spiga.schemes import check_scheme, identifiers, origin

EYE_DISTANCE = 0.84
NEAR, FALL = 0.02, 4  # of the weights by which the head's depth is interpolated, distance in eye distances
SUFFIXES = (".npy", ".txt")
PICTURE = ".png"


@lru_cache
def _default(name: str) -> np.ndarray:
    scheme = check_scheme(get_scheme(name))
    x, y, z = mean_face(WFLW98.name if scheme.num_points == WFLW98.num_points else IBUG68.name).T
    return normalise(np.column_stack([z, -x, y]), scheme)


def normalise(points: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return a face (L, 3) that equals its mirror image, with the official origin and unit."""
    mirrored = points[list(scheme.mirror)] * [1, -1, 1]
    points = (points + mirrored) / 2
    points = points - points[list(origin(scheme))].mean(0)
    left, right = scheme.corners
    return points * (EYE_DISTANCE / float(np.linalg.norm(points[left] - points[right])))


def default_mean_face(scheme: LandmarkScheme) -> Tensor:
    """Return this project's own mean face (L, 3) float64: the mean of the synthetic heads, all looking straight.

    A scheme of the user's own gets points on a circle until `estimated_face` is known.
    """
    if scheme.text:
        angle = np.linspace(0, 2 * np.pi, scheme.num_points, endpoint=False)
        face = np.stack([np.zeros_like(angle), np.cos(angle), np.sin(angle)], axis=1) * EYE_DISTANCE / 2
        return torch.from_numpy(face)
    return torch.from_numpy(_default(scheme.name).copy())


def estimated_face(shapes: np.ndarray, scheme: LandmarkScheme) -> Tensor:
    """Return a mean face (L, 3) float64 from shapes (N, L, 2) in image pixels; see above.

    Raises:
        LabError: the two points of the scheme's normaliser coincide in the mean shape.
    """
    flat, head = mean_shape(shapes), mean_face(WFLW98.name)
    corners = tuple((point,) for point in scheme.corners)
    same = WFLW98.pupils if scheme.pupils != corners else tuple((point,) for point in WFLW98.corners)
    ends = [np.stack([points[list(eye), :2].mean(0) for eye in eyes])
            for points, eyes in ((flat, scheme.pupils), (head, same))]  # fmt: skip
    left, right = scheme.corners
    if np.allclose(ends[0][0], ends[0][1]) or np.allclose(flat[left], flat[right]):
        raise LabError(f"scheme {scheme.name}: {scheme.names[left]} and {scheme.names[right]} coincide in the mean of "
                       "the training set; choose two other points as normaliser")  # fmt: skip
    across = apply_affine(fit_similarity(*ends), flat)
    distance = np.linalg.norm(across[:, None] - head[None, :, :2], axis=-1)
    weight = 1 / (distance + NEAR) ** FALL
    depth = weight @ head[:, 2] / weight.sum(1)
    return torch.from_numpy(normalise(np.column_stack([depth, -across[:, 0], across[:, 1]]), scheme))


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
    points = read_numbers(path) if path.suffix == ".npy" else _read_text(path, scheme)
    if points.shape != (scheme.num_points, 3) or not np.isfinite(points).all():
        raise LabError(f"{path}: holds an array {points.shape} where {(scheme.num_points, 3)} finite numbers of scheme "
                       f"{scheme.name} were expected")  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))


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


def write_mean_face(path: Path, face: np.ndarray, scheme: LandmarkScheme, overwrite: bool = False) -> None:
    """Write a mean face (L, 3): `.npy`, `.txt` in the official axes and lines, or a picture of it, `.png`.

    Raises:
        LabError: the file is of another kind, or exists and `overwrite` is off.
    """
    if path.suffix not in (*SUFFIXES, PICTURE):
        raise LabError(f"{path}: a mean face is a {' or '.join(SUFFIXES)} file, and its picture a {PICTURE} file")
    if path.exists() and not overwrite:
        raise LabError(f"{path}: exists already; choose another name or add --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == PICTURE:
        write_image(path, draw_face_views(face, scheme))
        return
    if path.suffix == ".npy":
        np.save(path, face)
        return
    rows = zip(identifiers(scheme), face.tolist(), strict=True)
    # Inverse of what `_read_text` does to the axes.
    path.write_text("".join(f"{name}|{-y!r}|{-z!r}|{x!r}\n" for name, (x, y, z) in rows), encoding="ascii")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the mean face."""
    parser = argparse.ArgumentParser(prog="python -m spiga.mean_face", description="Write or draw a 3D mean face.")
    parser.add_argument("out", type=Path, help=".npy, .txt in the official form, or .png for a picture of it")
    parser.add_argument("--mean_face", type=Path, help="file of the face; default: our own")
    parser.add_argument("--scheme", default=WFLW98.name)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    options = parser.parse_args(arguments)
    scheme = check_scheme(get_scheme(options.scheme))
    given = options.mean_face
    face = _default(scheme.name) if given is None else read_mean_face(given, scheme).numpy()
    write_mean_face(options.out, face, scheme, options.overwrite)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
