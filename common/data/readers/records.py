"""Faces in MXNet's indexed RecordIO, `NAME.rec` next to `NAME.idx`, as programs in MXNet keep faces."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, check_box, check_points, check_root
from common.errors import LabError
from common.files.images import decode_image
from common.geometry import tight_box
from common.schemes import IBUG68
from common.types import FaceSample

MAGIC = 0xCED7230A
LENGTH_BITS = 29
HEAD = struct.Struct("<IfQQ")  # flag, label, two numbers


def read_index(path: Path) -> list[tuple[int, int]]:
    """Return (key, byte offset) of each line `key<TAB>offset`.

    Raises:
        LabError: the file is missing or a line is something else.
    """
    if not path.is_file():
        raise LabError(f"{path}: missing; a record file needs its .idx beside it")
    entries = []
    seen: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split("\t")
        if len(words) != 2 or not all(word.strip().isdigit() for word in words):
            raise LabError(f"{path}:{number}: expected 'key<TAB>offset', got {line[:40]!r}")
        entry = (int(words[0]), int(words[1]))
        for place, (what, value) in enumerate(zip(("key", "offset"), entry, strict=True)):
            before = seen[place].setdefault(value, number)
            if before != number:
                raise LabError(f"{path}:{number}: {what} {value} is that of line {before}; remove one of them")
        entries.append(entry)
    return entries


def read_payload(data: bytes, offset: int, where: str) -> bytes:
    """Return the payload of the record that starts at a byte.

    Raises:
        LabError: there is no record, it is a part of one, or it ends after the file.
    """
    if offset + 8 > len(data):
        raise LabError(f"{where}: byte {offset} is after the file's {len(data)} bytes; the .idx belongs to another")
    magic, word = struct.unpack_from("<II", data, offset)
    if magic != MAGIC:
        raise LabError(f"{where}: byte {offset}: starts with {magic:#x} instead of {MAGIC:#x}; no record is there")
    length, part = word & ((1 << LENGTH_BITS) - 1), word >> LENGTH_BITS
    if part:
        raise LabError(f"{where}: byte {offset}: a record in several parts is not supported")
    if offset + 8 + length > len(data):
        raise LabError(f"{where}: byte {offset}: the record claims {length} bytes; the file is truncated")
    return data[offset + 8 : offset + 8 + length]


def unpack(payload: bytes, where: str) -> tuple[np.ndarray, bytes]:
    """Return labels (n,) float32 and the encoded picture of a payload.

    Raises:
        LabError: it is shorter than it says.
    """
    if len(payload) < HEAD.size:
        raise LabError(f"{where}: record of {len(payload)} bytes has no head; the file is damaged")
    count, single = HEAD.unpack_from(payload)[:2]
    end = HEAD.size + 4 * count
    if end > len(payload):
        raise LabError(f"{where}: record claims {count} labels but has {len(payload)} bytes; the file is damaged")
    labels = np.frombuffer(payload[HEAD.size : end], "<f4") if count else np.array([single], np.float32)
    return labels, payload[end:]


class RecordFaces(FaceDataset):
    """Faces of a record file: 68 points (row, column) and a picture each; the box is the tight box of the points.

    Points are taken as they are, 0-based; all count as visible. A file is a split; there are no subsets.

    Args:
        path: the .rec file, or the folder that holds it.
        split: name of the file in the folder, without .rec.

    Raises:
        LabError: a file is missing or damaged, or labels are not 68 finite points.
    """

    def __init__(self, path: str, split: str | None = None) -> None:
        file = Path(path) if split is None else check_root(path, "records") / f"{split}.rec"
        if not file.is_file():
            hint = "check the path" if split is None else "--data.train_split and --data.eval_split name others"
            raise LabError(f"{file}: record file is missing; {hint}")
        self.name, self.scheme, self.path = file.stem, IBUG68, file
        self.entries = read_index(file.with_suffix(".idx"))
        self._data = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> FaceSample:
        key, offset = self.entries[index]
        where = f"{self.path}: record {key}"
        head = bytes(self._data[offset : offset + 8])
        length = struct.unpack("<I", head[4:])[0] & ((1 << LENGTH_BITS) - 1) if len(head) == 8 else 0
        end = min(offset + 8 + length, len(self._data))
        payload = read_payload(bytes(self._data[offset:end]), 0, where)
        labels, picture = unpack(payload, where)
        if labels.size != 2 * self.scheme.num_points:
            raise LabError(f"{where}: {labels.size} labels, but {self.scheme.num_points} points need twice as many")
        points = check_points(labels.reshape(-1, 2)[:, ::-1].copy(), self.scheme, where)
        return FaceSample(
            image=decode_image(picture, where),
            points=points,
            visible=np.ones(len(points), dtype=bool),
            box=check_box(tight_box(points), where),
            id=f"{self.name}-{key}",
        )
