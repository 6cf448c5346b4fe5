"""Files that prediction writes: each picture's faces as soon as they are known, so that nothing is lost by a stop.

`json` and `coco` files are whole after every picture; `jsonl` and `csv` grow by lines; `pts` writes one file a face.
A file that exists is added to if it is of the same weights, and pictures that it holds are not predicted again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np

from common.errors import LabError
from common.prediction.faces import Face
from common.prediction.sources import output_names

FORMATS = ("json", "jsonl", "csv", "pts", "coco")
FRAME = (
    "image pixels, x right, y down, centre of the first pixel is (0, 0); angles in degrees: yaw turns the nose to the "
    "picture's right, pitch raises it, roll turns the head clockwise; translation of the head from the camera of the "
    "method's square crop (focal length 1.5 sides, axis through its middle) in units of its mean face: x right, y "
    "down, z away; expected errors in percent of the distance of the outer eye corners"
)
Header = dict[str, str]
Size = tuple[int, ...]  # height and width


class Results(Protocol):
    """Where predictions go."""

    done: set[str]

    def add(self, picture: str, size: Size, faces: list[Face], ids: Sequence[int] = ()) -> None:
        """Write the faces of one picture of this height and width."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def _words(about: Mapping[str, object]) -> str:
    return ", ".join(str(about[key]) for key in ("weights", "settings") if about.get(key))


def _same_run(path: Path, found: object, header: Header) -> None:
    keys = ("weights", "method", "scheme", "settings")  # the last where --set was given
    kept = {key: found.get(key) for key in keys} if isinstance(found, dict) else {}
    wanted = {key: header.get(key) for key in keys}
    if kept != wanted:
        raise LabError(
            f"{path}: holds predictions of {kept.get('method')} with {_words(kept)}, not of {header['method']} with "
            f"{_words(header)}; choose another --out, or --overwrite"
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, UnicodeDecodeError):
        raise LabError(f"{path}: exists and is not a file of predictions; choose another --out") from None


class JsonResults:
    """One JSON object that is closed after every picture: the next one is written over the closing brackets."""

    END = "\n]}\n"

    def __init__(self, path: Path, header: Header) -> None:
        self.done: set[str] = set()
        start = json.dumps({**header, "frame": FRAME})[:-1] + ', "pictures": ['
        if path.exists():
            found = _read_json(path)
            _same_run(path, found, header)
            try:
                self.done = {str(entry["picture"]) for entry in found["pictures"]}
                content = path.read_text(encoding="utf-8").rstrip()
                start = content[: content.rindex("]")].rstrip()
            except (ValueError, KeyError, TypeError):
                raise LabError(f"{path}: exists and is not a file of predictions; choose another --out") from None
        self._path = path
        self._start = start
        self._file: BinaryIO | None = None
        self._empty = not self.done

    def _open(self) -> BinaryIO:
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(self._start + self.END, encoding="utf-8")
        os.replace(part, path)
        file = path.open("r+b")
        file.seek(-len(self.END), os.SEEK_END)
        return file

    def add(self, picture: str, size: Size, faces: list[Face], ids: Sequence[int] = ()) -> None:
        """Write the faces of one picture."""
        entry = {"picture": picture, "faces": _records(faces, ids)}
        if self._file is None:  # only now: a run that fails at once leaves no empty file
            self._file = self._open()
        text = ("\n" if self._empty else ",\n") + json.dumps(entry) + self.END
        self._file.write(text.encode("utf-8"))
        self._file.flush()
        self._file.seek(-len(self.END), os.SEEK_CUR)
        self._empty = False
        self.done.add(picture)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class JsonLines:
    """A header line, then one line a picture."""

    def __init__(self, path: Path, header: Header) -> None:
        from common.files.validation import read_text  # here: its library takes time to import

        self.done: set[str] = set()
        lines = read_text(path).splitlines() if path.exists() else []
        if lines:
            try:
                entries = [json.loads(line) for line in lines]
                self.done = {str(entry["picture"]) for entry in entries[1:]}
            except (ValueError, KeyError, TypeError, RecursionError):
                raise LabError(f"{path}: exists and is not a file of predictions; choose another --out") from None
            _same_run(path, entries[0], header)
        self._path = path
        self._first = None if lines else {**header, "frame": FRAME}
        self._file: TextIO | None = None

    def _write(self, entry: object) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
            if self._first is not None:
                self._file.write(json.dumps(self._first) + "\n")
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def add(self, picture: str, size: Size, faces: list[Face], ids: Sequence[int] = ()) -> None:
        """Write the faces of one picture."""
        self._write({"picture": picture, "faces": _records(faces, ids)})
        self.done.add(picture)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class CsvResults:
    """One row a face: picture, face, box, detector's score, expected error, pose, then x and y of every landmark."""

    def __init__(self, path: Path, header: Header, points: int) -> None:
        names = ["picture", "face", "x0", "y0", "x1", "y1", "detector_score", "expected_error", "yaw", "pitch", "roll"]
        names += [f"{axis}_{index}" for index in range(points) for axis in ("x", "y")]
        self.done: set[str] = set()
        if path.exists() and path.stat().st_size:
            from common.files.validation import read_text

            try:
                rows = list(csv.reader(io.StringIO(read_text(path), newline="")))
            except csv.Error as error:
                raise LabError(f"{path}: is no table ({error}); choose another --out, or --overwrite") from None
            if not rows or rows[0] != names:
                raise LabError(f"{path}: exists with other columns; choose another --out, or --overwrite")
            self.done = {row[0] for row in rows[1:] if row}
        self._path = path
        self._names = names
        self._file: TextIO | None = None

    def add(self, picture: str, size: Size, faces: list[Face], ids: Sequence[int] = ()) -> None:
        """Write the faces of one picture."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", newline="", encoding="utf-8")
            if not self._file.tell():
                csv.writer(self._file).writerow(self._names)
        rows = csv.writer(self._file)
        for index, face in enumerate(faces):
            known = ["" if value is None else round(value, 3) for value in (face.detector_score, face.expected_error)]
            pose = ["", "", ""] if face.pose is None else _flat(face.pose)
            rows.writerow([picture, index, *_flat(face.box), *known, *pose, *_flat(face.points)])
        if not faces:  # a row without numbers, so that the picture is known to have been looked at
            rows.writerow([picture, *[""] * (len(self._names) - 1)])
        self._file.flush()
        self.done.add(picture)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class PtsFiles:
    """One .pts file a face, counted from 1 as 300W's are: NAME.pts, NAME-face2.pts, ..."""

    def __init__(self, folder: Path, overwrite: bool = False) -> None:
        self.done: set[str] = set()
        self._folder = folder
        self._overwrite = overwrite
        self._stems: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, picture: str, size: Size, faces: list[Face], ids: Sequence[int] = ()) -> None:
        """Write the faces of one picture."""
        self._stems.append(Path(picture).stem)
        stem = output_names([Path(name) for name in self._stems])[-1]
        for index, face in enumerate(faces):
            name = stem + (f"-face{index + 1}" if index else "")
            text = io.StringIO()
            text.write(f"version: 1\nn_points: {len(face.points)}\n{{\n")
            text.writelines(f"{x:.3f} {y:.3f}\n" for x, y in face.points[:, :2] + 1)
            text.write("}\n")
            target = self._folder / f"{name}.pts"
            if target.exists() and not self._overwrite:
                raise LabError(f"{target}: exists; choose another --out, or --overwrite")
            target.write_text(text.getvalue(), encoding="ascii")
        self.done.add(picture)

    def close(self) -> None:
        """Nothing is open."""


class CocoFile:
    """COCO's keypoint annotations; written whole by `close` and after every hundredth picture."""

    EVERY = 100

    def __init__(self, path: Path, header: Header, names: Iterable[str]) -> None:
        self.done: set[str] = set()
        self._path = path
        category = {"id": 1, "name": "face", "keypoints": list(names), "skeleton": []}
        self._content: dict[str, Any] = {"info": {**header, "frame": FRAME}, "images": [], "annotations": []}
        self._content["categories"] = [category]
        if path.exists():
            found = _read_json(path)
            _same_run(path, found.get("info"), header)
            self._content = found
            self.done = {str(entry["file_name"]) for entry in found["images"]}

    def add(self, picture: str, size: Size, faces: list[Face], ids: Sequence[int] = ()) -> None:
        """Write the faces of one picture."""
        images, annotations = self._content["images"], self._content["annotations"]
        number = len(images) + 1
        images.append({"id": number, "file_name": picture, "height": size[0], "width": size[1]})
        for face in faces:
            x0, y0, x1, y1 = face.box.tolist()
            triples = np.concatenate([face.points[:, :2], np.full((len(face.points), 1), 2.0)], axis=1)
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": _flat(np.array([x0, y0, x1 - x0, y1 - y0])),
                "area": round((x1 - x0) * (y1 - y0), 3),
                "iscrowd": 0,
                "num_keypoints": len(face.points),
                "keypoints": _flat(triples),
            }
            if face.detector_score is not None:
                entry["score"] = round(face.detector_score, 3)
            if face.expected_error is not None:
                entry["expected_error"] = round(face.expected_error, 2)
            annotations.append(entry)
        self.done.add(picture)
        if number % self.EVERY == 0:
            self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_text(json.dumps(self._content), encoding="utf-8")
        os.replace(part, self._path)

    def close(self) -> None:
        """Write the file."""
        if self._content["images"]:
            self._write()


def _records(faces: list[Face], ids: Sequence[int]) -> list[dict[str, object]]:
    """Return the records of faces, with identities where a video gives them."""
    records = [face.record() for face in faces]
    return [{"id": number, **record} for number, record in zip(ids, records, strict=True)] if ids else records


def _flat(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.round(values, 3).ravel()]


def open_results(kind: str, folder: Path, header: Header, names: tuple[str, ...], overwrite: bool) -> Results:
    """Return the writer of a format in a folder.

    Args:
        kind: one of FORMATS.
        folder: where files go.
        header: weights, method and scheme, by which a file is recognised.
        names: names of the landmarks.
        overwrite: begin anew where a file exists.

    Raises:
        LabError: a file of other weights exists, or one that is no file of predictions.
    """
    ending = {"coco": "coco.json"}.get(kind, kind)
    path = folder / f"predictions.{ending}"
    if overwrite and kind != "pts":
        path.unlink(missing_ok=True)
    match kind:
        case "json":
            return JsonResults(path, header)
        case "jsonl":
            return JsonLines(path, header)
        case "csv":
            return CsvResults(path, header, len(names))
        case "pts":
            return PtsFiles(folder, overwrite)
        case "coco":
            return CocoFile(path, header, names)
    raise LabError(f"--format must be one of {', '.join(FORMATS)}, got {kind}")
