"""`python -m common.data prepare`: a data set packed into a store, on all cores; what is complete is not done again."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from common.data.base import FaceDataset, begin_worker
from common.data.packed.layout import ABOUT, FORMAT, POINTS, About, Packing, SplitAbout, encode
from common.errors import LabError

CHUNK = 256  # faces of a chunk, some 128 MB, as JPEG 10: what a stopped run loses at most, and what is in memory
REPORT = 2.0  # seconds between two lines of progress
PLAN = "plan.json"  # of an unfinished split: with what it was begun
Packed = tuple[dict[str, bytes], np.ndarray]
_faces: FaceDataset  # of a worker process
_how: tuple[bool, Packing]


def prepare(
    name: str,
    open_split: Callable[[str], FaceDataset],
    out: Path,
    packing: Packing,
    splits: Sequence[str],
    workers: int | None = None,
) -> About:
    """Write the splits of a data set to a store; return what store.json then says.

    The bytes of a store depend on the data set and the packing alone, not on the number of processes or on stops.

    Args:
        name: of the data set.
        open_split: returns a split's faces; a split that the set does not have raises a LabError.
        out: the store's folder.
        packing: how faces are packed.
        splits: of train, val and test.
        workers: processes; None for one a core.

    Raises:
        LabError: a face is damaged, or the folder holds a store of something else.
    """
    done: dict[str, SplitAbout] = {}
    scheme = ""
    for split in splits:
        faces = open_split(split)
        scheme = faces.scheme.word
        train = split == "train"
        plan = {"dataset": name, "faces": faces.name, "count": len(faces), "train": train, "packing": asdict(packing),
                "format": FORMAT, "chunk": CHUNK}  # fmt: skip
        twin = next((other for other in done if other != "train" and done[other].name == faces.name), None)
        folder = done[twin].folder if twin else split
        if twin is None:
            _write_split(faces, out / split, plan, train, packing, workers)
        points = np.load(out / folder / POINTS, mmap_mode="r", allow_pickle=False)
        done[split] = SplitAbout(folder=folder, name=faces.name, count=len(faces),
                                 subset_names=list(faces.subset_names), dims=points.shape[2],
                                 raw=packing.raw and train)  # fmt: skip
    about = About(format=FORMAT, dataset=name, scheme=scheme, room=packing.room, splits=done)
    _replace(out / ABOUT, about.model_dump_json(indent=1))
    return about


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _write_split(
    faces: FaceDataset, folder: Path, plan: dict[str, object], train: bool, packing: Packing, workers: int | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLAN
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != plan:
            raise LabError(f"{folder}: holds faces of another set or packing; remove it, or choose another --out")
    else:
        _replace(path, json.dumps(plan, indent=1))
    if (folder / "index.json").is_file():
        print(f"{faces.name}: {len(faces)} faces are in {folder} already", file=sys.stderr)
        return
    starts = [start for start in range(0, len(faces), CHUNK) if not _part(folder, start).is_file()]
    rows = [row for start in starts for row in range(start, min(start + CHUNK, len(faces)))]
    stream = _progress(_packed(faces, rows, train, packing, workers), faces.name, len(faces) - len(rows), len(faces))
    for start in starts:
        _write_chunk(folder, start, islice(stream, min(CHUNK, len(faces) - start)))
    _finish(folder, len(faces))


def _part(folder: Path, start: int) -> Path:
    """Return the path of what is written last of a chunk, and removed when the split is complete."""
    return folder / f"part-{start // CHUNK}.json"


def _write_chunk(folder: Path, start: int, rows: Iterator[Packed]) -> None:
    from litdata.streaming.writer import BinaryWriter  # takes seconds

    scratch = folder / ".scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    writer = BinaryWriter(str(scratch), chunk_size=CHUNK, chunk_index=start // CHUNK)
    landmarks = []
    for place, (row, points) in enumerate(rows):
        writer.add_item(place, row)
        landmarks.append(points)
    writer.done()
    index = json.loads((scratch / "0.index.json").read_text(encoding="utf-8"))
    for chunk in index["chunks"]:
        (scratch / chunk["filename"]).replace(folder / chunk["filename"])
    np.save(folder / f"points-{start // CHUNK}.npy", np.array(landmarks))
    _replace(_part(folder, start), json.dumps(index))
    shutil.rmtree(scratch)


def _finish(folder: Path, count: int) -> None:
    """Join the parts' indices and landmarks; the index comes last, and says that the split is complete."""
    parts = [_part(folder, start) for start in range(0, count, CHUNK)]
    indices = [json.loads(part.read_text(encoding="utf-8")) for part in parts]
    tables = [folder / f"points-{number}.npy" for number in range(len(parts))]
    points = np.concatenate([np.load(table, allow_pickle=False) for table in tables])
    np.save(folder / POINTS, points)
    index = {"chunks": [chunk for part in indices for chunk in part["chunks"]], "config": indices[0]["config"],
             "updated_at": "0"}  # fmt: skip
    _replace(folder / "index.json", json.dumps(index, sort_keys=True))
    for path in (*parts, *tables):
        path.unlink()


def _start(faces: FaceDataset, train: bool, packing: Packing) -> None:
    global _faces, _how
    _faces, _how = faces, (train, packing)
    begin_worker()


def _one(row: int) -> Packed:
    return encode(_faces[row], *_how)


def _packed(
    faces: FaceDataset, rows: list[int], train: bool, packing: Packing, workers: int | None
) -> Iterator[Packed]:
    count = min(workers or len(os.sched_getaffinity(0)), max(1, len(rows) // 8))
    if count <= 1:
        _start(faces, train, packing)
        yield from map(_one, rows)
        return
    with multiprocessing.get_context("fork").Pool(count, _start, (faces, train, packing)) as pool:
        yield from pool.imap(_one, rows, chunksize=4)


def _progress(stream: Iterator[Packed], title: str, before: int, count: int) -> Iterator[Packed]:
    start = last = time.monotonic()
    for done, item in enumerate(stream, before + 1):
        yield item
        if time.monotonic() - last > REPORT or done == count:
            last = time.monotonic()
            rate = (done - before) / max(last - start, 1e-9)
            left = f", {(count - done) / rate:.0f} s left   " if done < count else "\n"
            print(f"\r{title}: {done}/{count} faces, {rate:.0f} a second{left}", end="", file=sys.stderr, flush=True)
