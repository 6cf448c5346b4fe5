"""Readers of anyone's landmark predictions and truths (JSON, CSV, npz, a folder of .pts) and their match by id.

Points come back in pixels with the centre of the first pixel at (0, 0). A face without a prediction (left out, or null
coordinates) is a failure, not an error. Whatever is wrong with a file is reported in one line with file and line.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from benchmarks.score.json_files import load_json, one_face_each
from common.errors import LabError
from common.files.arrays import read_arrays

ID_KEYS = ("id", "imgpath", "image", "image_path", "name", "file")
POINT_KEYS = {
    "prediction": ("points", "pred", "prediction", "landmarks"),
    "truth": ("truth", "gt", "landmarks", "points"),
}
BOX_KEYS = ("bbox", "box")
VISIBLE_KEYS = ("visible", "vis")
Value = TypeVar("Value")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".pts", ".mat")


@dataclass
class Faces:
    """Points of faces under their ids.

    Attributes:
        path: where they were read.
        ids: N names.
        points: (N, L, 2) float64; NaN where a face has no prediction, or a true point is not annotated.
        bbox: (N, 4) x, y, width, height, or None.
        visible: (N, L) 1 or 0, or None.
        subsets: name -> (N,) mask.
    """

    path: Path
    ids: list[str]
    points: np.ndarray
    bbox: np.ndarray | None = None
    visible: np.ndarray | None = None
    subsets: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class _Item:
    """One face as it is in a file."""

    where: str
    id: str
    points: object
    bbox: object = None
    visible: object = None
    subsets: Sequence[str] = ()
    gaps: bool = False  # points may be NaN: not annotated


def read_faces(path: Path, role: str, origin: int | None = None, signed: bool = False) -> Faces:
    """Return the faces of a file or folder.

    Args:
        path: .json or .jsonl (what `common.predict` writes, a list of objects with id and points, or an object id ->
            points), .csv (columns id, x0, y0, x1,
            ...), .npz (ids and points), or a folder of .pts files (the id is the path without extension).
        role: "prediction" or "truth": which array is meant where a file holds both; truth must have all points.
        origin: coordinate of the first pixel's centre in the file; None takes 1 for .pts and 0 for all others.
        signed: .pts files mark hidden points by minus signs, as MERL-RAV's do.

    Raises:
        LabError: the file is missing, or something in it is wrong.
    """
    if path.is_dir():
        faces = _collect(path, role, list(_pts_items(path, signed)))
        return _shifted(faces, 1 if origin is None else origin)
    if not path.is_file():
        raise LabError(f"{path}: no such file or folder of {role}s")
    match path.suffix.lower():
        case ".json" | ".jsonl":
            faces = _collect(path, role, list(_json_items(path, role)))
        case ".csv":
            faces = _collect(path, role, list(_csv_items(path)))
        case ".npz":
            faces = _read_npz(path, role)
        case _:
            raise LabError(f"{path}: {role}s must be .json, .csv, .npz or a folder of .pts")
    return _shifted(faces, origin or 0)


def _shifted(faces: Faces, origin: int) -> Faces:
    faces.points = faces.points - origin
    if faces.bbox is not None:
        faces.bbox = faces.bbox - [origin, origin, 0, 0]
    return faces


def _collect(path: Path, role: str, items: list[_Item]) -> Faces:
    """Return the faces of items, with every check that all formats share."""
    if not items:
        raise LabError(f"{path}: holds no face")
    first: dict[str, str] = {}
    for item in items:
        if item.id in first:
            raise LabError(f"{item.where}: face {item.id} is there a second time (first at {first[item.id]})")
        first[item.id] = item.where
    arrays = [None if item.points is None else _points(item) for item in items]
    known = [(array, item) for array, item in zip(arrays, items, strict=True) if array is not None]
    if not known:
        raise LabError(f"{path}: no face has points")
    count = len(known[0][0])
    for array, item in known:
        if len(array) != count:
            raise LabError(f"{item.where}: face {item.id} has {len(array)} points, the first face has {count}")
    if role == "truth" and len(known) < len(items):
        item = next(item for item, array in zip(items, arrays, strict=True) if array is None)
        raise LabError(f"{item.where}: true face {item.id} has no points")
    empty = np.full((count, 2), np.nan)
    points = np.stack([empty if array is None else array for array in arrays])
    names = sorted({name for item in items for name in item.subsets})
    subsets = {name: np.array([name in item.subsets for item in items]) for name in names}
    return Faces(path, [item.id for item in items], points, _optional(items, "bbox", (4,)),
                 _optional(items, "visible", (count,)), subsets)  # fmt: skip


def _points(item: _Item) -> np.ndarray:
    """Return an item's points (L, 2)."""
    try:
        array = np.asarray(item.points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise LabError(f"{item.where}: face {item.id}: points are not a list of x, y pairs of numbers") from None
    if array.ndim == 1 and array.size and array.size % 2 == 0:
        array = array.reshape(-1, 2)
    if array.ndim != 2 or array.shape[1] < 2 or not len(array):
        raise LabError(f"{item.where}: face {item.id}: points have shape {array.shape}, expected (points, 2)")
    bad = np.flatnonzero(~np.isfinite(array[:, :2]).all(axis=1))
    if bad.size and not (item.gaps and len(bad) < len(array)):
        raise LabError(f"{item.where}: face {item.id}: point {int(bad[0])} is not finite; leave a face out, or write "
                       "null for its points, where there is no prediction")  # fmt: skip
    return array[:, :2]


def _optional(items: list[_Item], name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the arrays of an optional field that all items have, None where one lacks it."""
    values = [getattr(item, name) for item in items]
    if any(value is None for value in values):
        return None
    for item, value in zip(items, values, strict=True):
        try:
            right = np.asarray(value, dtype=np.float64).shape == shape and np.isfinite(np.asarray(value, float)).all()
        except (TypeError, ValueError, OverflowError):
            right = False
        if not right:
            raise LabError(f"{item.where}: face {item.id}: {name} must be {shape[0]} finite numbers")
    return np.asarray(values, dtype=np.float64)


def _get(entry: Mapping[str, Value], keys: Sequence[str]) -> Value | None:
    return next((entry[key] for key in keys if key in entry), None)


def _json_items(path: Path, role: str) -> Iterator[_Item]:
    content = load_json(path)
    if isinstance(content, dict) and isinstance(content.get("pictures"), list):
        content = one_face_each(path, content["pictures"])
    if not isinstance(content, list | dict):
        raise LabError(f"{path}: must be a list of faces or an object that maps ids to points")
    if isinstance(content, dict):
        content = [{"id": name} | (value if isinstance(value, dict) else {POINT_KEYS[role][0]: value})
                   for name, value in content.items()]  # fmt: skip
    for number, entry in enumerate(content, 1):
        if not isinstance(entry, dict):
            raise LabError(f"{path}: entry {number}: a face must be an object with id and points")
        yield _json_item(f"{path}: entry {number}", entry, role)


def _json_item(where: str, entry: Mapping[str, object], role: str) -> _Item:
    name = _get(entry, ID_KEYS)
    if not isinstance(name, str | int) or name == "":
        raise LabError(f"{where}: face has no id (one of {', '.join(ID_KEYS)})")
    if not any(key in entry for key in POINT_KEYS[role]):
        raise LabError(f"{where}: face {name} has no points (one of {', '.join(POINT_KEYS[role])})")
    subsets = entry.get("subsets") or ()
    if not isinstance(subsets, list | tuple) or not all(isinstance(subset, str) for subset in subsets):
        raise LabError(f"{where}: face {name}: subsets must be a list of names")
    return _Item(where, str(name), _get(entry, POINT_KEYS[role]), _get(entry, BOX_KEYS), _get(entry, VISIBLE_KEYS),
                 subsets)  # fmt: skip


def _csv_items(path: Path) -> Iterator[_Item]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [(number, row) for number, row in enumerate(csv.reader(stream), 1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabError(f"{path}: is not a CSV file: {error}") from None
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    column = next((header.index(key) for key in ID_KEYS if key in header), None)
    places = {name.replace("_", ""): place for place, name in enumerate(header)}
    count = sum(f"x{k}" in places for k in range(len(header)))
    if column is None or not count or any(f"{axis}{k}" not in places for k in range(count) for axis in "xy"):
        raise LabError(f"{path}:1: the header must be id,x0,y0,x1,y1,... with one pair a point")
    wanted = [places[f"{axis}{k}"] for k in range(count) for axis in "xy"]
    boxes = [places[f"box{part}"] for part in "xywh" if f"box{part}" in places]
    groups = {name.removeprefix("subset/"): place for place, name in enumerate(header) if name.startswith("subset/")}
    for number, row in rows[1:]:
        where = f"{path}:{number}"
        if len(row) != len(header):
            raise LabError(f"{where}: {len(row)} columns, the header has {len(header)}")
        texts = [row[place].strip() for place in wanted]
        points = None if not any(texts) else [_float(where, text) for text in texts]
        bbox = [_float(where, row[place]) for place in boxes] if len(boxes) == 4 else None
        subsets = [name for name, place in groups.items() if row[place].strip().lower() in ("1", "true", "yes")]
        if not row[column].strip():
            raise LabError(f"{where}: the face has no id")
        yield _Item(where, row[column].strip(), points, bbox, None, subsets)


def _float(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LabError(f"{where}: {text.strip()!r} is not a number") from None


def _pts_items(folder: Path, signed: bool) -> Iterator[_Item]:
    # Here: the readers' package imports torch, which takes seconds.
    from common.data.base import files_in
    from common.data.readers._pts import read_pts, signed_points

    files = files_in(folder, "**/*.pts")
    if not files:
        raise LabError(f"{folder}: holds no .pts file")
    count = 0
    for file in files:
        count = count or _declared_points(file)
        name = file.relative_to(folder).with_suffix("").as_posix()
        points = read_pts(file, count, headerless=True)
        if signed:
            places, known, seen = signed_points(points)
            points = np.where(known[:, None], places, np.nan)
            yield _Item(str(file), name, points, visible=seen, gaps=True)
        else:
            yield _Item(str(file), name, points)


def _declared_points(file: Path) -> int:
    """Return how many points a .pts file has: by its header, else by its lines."""
    from common.data.readers._pts import pts_lines

    lines = [line for line in pts_lines(file) if line]
    for number, line in enumerate(lines, 1):
        if line.startswith("n_points"):
            text = line.partition(":")[2].strip()
            if not text.isdigit() or text == "0":
                raise LabError(f"{file}:{number}: n_points must be a positive whole number, got {text!r}")
            return int(text)
    return len(lines)


def _read_npz(path: Path, role: str) -> Faces:
    table = read_arrays(path)
    ids, points = _get(table, ("ids", *ID_KEYS)), _get(table, POINT_KEYS[role])
    if ids is None or points is None:
        raise LabError(f"{path}: needs ids (or {', '.join(ID_KEYS)}) and points ({', '.join(POINT_KEYS[role])}), "
                       f"has {', '.join(table)}")  # fmt: skip
    if ids.ndim != 1:
        raise LabError(f"{path}: ids {ids.shape} must be a list")
    if points.ndim != 3 or points.shape[2] < 2 or len(points) != len(ids) or points.dtype.kind not in "fiu":
        raise LabError(f"{path}: points {points.shape} must be ({len(ids)} faces, points, 2) numbers")
    names = [str(name) for name in ids.tolist()]
    missing = np.isnan(points[..., :2]).all(axis=(1, 2)) if points.dtype.kind == "f" else np.zeros(len(ids), bool)
    boxes, visible = _get(table, BOX_KEYS), _get(table, VISIBLE_KEYS)
    for part, array in (("box", boxes), ("visible", visible)):
        if array is not None and (array.ndim != 2 or len(array) != len(ids)):
            raise LabError(f"{path}: {part} {array.shape} must have a row for each of {len(ids)} faces")
    items = [_Item(f"{path}: row {row}", name, None if missing[row] else points[row, :, :2],
                   None if boxes is None else boxes[row], None if visible is None else visible[row])
             for row, name in enumerate(names)]  # fmt: skip
    faces = _collect(path, role, items)
    for key, value in table.items():
        if key.startswith(("subset_", "subset/")):
            mask = np.zeros(len(ids), bool)
            try:
                mask[value] = True
            except (IndexError, TypeError, ValueError):
                raise LabError(f"{path}: {key} must be a mask of the faces, or name rows that are there") from None
            faces.subsets[key[len("subset_") :]] = mask
    return faces


def read_subsets(path: Path, truth: Faces) -> dict[str, np.ndarray]:
    """Return name -> mask (N,) from a JSON object that maps subset names to lists of face ids.

    Raises:
        LabError: the file is not of that form, or names an unknown face.
    """
    from common.files.validation import (  # here: only this needs the library, and its import takes time
        read_json,
        validated,
    )

    content = validated(dict[str, list[str]], read_json(path), f"{path}: must map subset names to lists of face ids")
    rows = {name: row for row, name in enumerate(truth.ids)}
    masks = {}
    for name, ids in content.items():
        unknown = [face for face in ids if face not in rows]
        if unknown:
            raise LabError(f"{path}: subset {name} names face {unknown[0]}, which {truth.path} does not have")
        masks[name] = np.isin(np.arange(len(rows)), [rows[face] for face in ids])
    return masks


def match(predictions: Faces, truth: Faces, ignore_extra: bool = False) -> np.ndarray:
    """Return the predictions (N, L, 2) in the order of the truth, NaN for faces without a prediction.

    Ids must be equal; where none is, names are compared without folders and extensions, if those are unique.

    Raises:
        LabError: no id fits, or a prediction is for a face that the truth does not have.
    """
    wanted, given = truth.ids, predictions.ids
    if not set(wanted) & set(given):
        wanted, given = [stem(name) for name in wanted], [stem(name) for name in given]
        if len(set(wanted)) < len(wanted) or len(set(given)) < len(given) or not set(wanted) & set(given):
            raise LabError(f"{predictions.path}: no id fits {truth.path}: {predictions.ids[0]} there, "
                           f"{truth.ids[0]} here; write the same ids")  # fmt: skip
    known = set(wanted)
    extra = [] if ignore_extra else [name for name in given if name not in known]
    if extra:
        raise LabError(f"{predictions.path}: {len(extra)} predictions are for faces that {truth.path} does not have, "
                       f"first {extra[0]}; correct the id or pass --ignore-extra")  # fmt: skip
    rows = {name: row for row, name in enumerate(given)}
    order = np.array([rows.get(name, -1) for name in wanted])
    result = predictions.points[order]
    result[order < 0] = np.nan
    return result


def stem(name: str) -> str:
    """Return a face's name without folders and the extension of its file."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name
