"""Prepared stores beside the photographs: faces a second with two workers, memory, start of an epoch, long lists.

Photographs of the size of HELEN's are drawn, unless --root names a folder with faces.csv. Rates are also given by the
workers' processor time, which other programs on the machine change little.

Run: python -m benchmarks.studies.store_speed --faces 64 --samples 50000
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader

from common.data.base import FaceDataset, begin_worker
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, CroppedFace
from common.data.packed.chunks import ChunkFiles
from common.data.packed.layout import ABOUT, Packing
from common.data.packed.read import PackedFaces
from common.data.packed.write import prepare
from common.data.readers.own_faces import OwnFaces
from common.data.readers.wflw import LISTS, WFLW
from common.data.synthetic import SyntheticFaces
from common.data.wrappers import Wrapped
from common.schemes import get_scheme
from common.types import FaceSample

RECORD = Path("runs/benchmark/store_speed.json")
PHOTOGRAPH = (1500, 2000)  # height and width of a drawn photograph, pixels
FACE = 900  # side of the face's picture in it
CROP = CropConfig(size=256, box_scale=1.25)
BATCH, FEW, WORKERS = 32, 4, 2  # faces a batch of the store and of photographs
ROWS = 50_000  # of a long list
AROUND = 12  # batches before a mark in which memory is read


class Again(Wrapped):
    """Another data set's faces, over and over."""

    def __init__(self, faces: FaceDataset, count: int) -> None:
        super().__init__(faces)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> FaceSample:
        return self.faces[index % len(self.faces)]


def lengthen(store: Path, count: int) -> None:
    """Let a store of one chunk hold so many faces at least: its chunk once more under other names."""
    split, about = store / "train", json.loads((store / ABOUT).read_text())
    index = json.loads((split / "index.json").read_text())
    (chunk,) = index["chunks"]
    times = -(-count // chunk["chunk_size"])
    for number in range(1, times):
        os.link(split / chunk["filename"], split / f"chunk-0-{number}.bin")
        index["chunks"].append(chunk | {"filename": f"chunk-0-{number}.bin"})
    (split / "index.json").write_text(json.dumps(index))
    about["splits"]["train"]["count"] = times * chunk["chunk_size"]
    (store / ABOUT).write_text(json.dumps(about))


def draw_photographs(folder: Path, count: int) -> None:
    """Write photographs with one face each, and faces.csv."""
    folder.mkdir(parents=True)
    faces, names = SyntheticFaces(count, seed=4), get_scheme("ibug68").names
    noise = np.random.default_rng(0).normal(0, 4, (*PHOTOGRAPH, 3)).astype(np.int16)  # as sensors have
    with (folder / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", *(f"{name}_{axis}" for name in names for axis in "xy")])
        for row in range(count):
            sample = faces[row]
            scale = FACE / sample.image.shape[0]
            photo = cv2.resize(sample.image[:, ::-1, ::-1], PHOTOGRAPH[::-1], interpolation=cv2.INTER_CUBIC)
            photo[300 : 300 + FACE, 500 : 500 + FACE] = cv2.resize(sample.image[..., ::-1], (FACE, FACE))
            photo = np.clip(photo + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{row}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])
            points = (sample.points + 0.5) * scale - 0.5 + np.array([500, 300])
            table.writerow([f"{row}.jpg", "train", *(f"{value:.3f}" for value in points.ravel().tolist())])


def processor_seconds(process: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process: int) -> tuple[float, float]:
    """Return a process's memory, MB: what it alone has, and that with its share of what it has with others."""
    rows = [row.split() for row in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
    sizes = {row[0]: int(row[1]) / 1024 for row in rows}
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"], sizes["Pss:"]


def read_through(faces: FaceDataset, samples: int, batch_size: int, marks: tuple[int, ...] = ()) -> dict[str, float]:
    """Read so many shuffled faces, without augmentation, by a loader of two workers, and return what it took.

    Memory is that of the larger worker when so many faces as a mark says have been read; the least of some readings,
    since a batch on its way to the main process counts for some milliseconds.
    """
    cropped = CroppedFaces(Again(faces, samples), CROP)
    loader: DataLoader[CroppedFace] = DataLoader(
        cropped, batch_size, num_workers=WORKERS, persistent_workers=True, worker_init_fn=begin_worker,
        collate_fn=Collate(faces.subset_names), shuffle=True,
    )  # fmt: skip
    found: dict[str, float] = {}
    began, served, done, start, spent, own = time.perf_counter(), 0, 0, 0.0, 0.0, time.process_time()
    batches = iter(loader)
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for number, batch in enumerate(batches):
        served += len(batch)
        if number == 0:
            found["first epoch's start, s"] = time.perf_counter() - began
            spent = max(map(processor_seconds, workers)) + time.process_time() - own
            found["first epoch's start, s of processor time"] = spent
        if number == WORKERS:  # each has opened its files
            start, spent, own = time.perf_counter(), sum(map(processor_seconds, workers)), time.process_time()
        elif number > WORKERS:
            done += len(batch)
        for mark in marks:
            if mark <= served + AROUND * batch_size and served <= mark:
                sizes = [memory_mb(worker) for worker in workers]
                for key, size in zip(("alone", "shared out"), map(max, zip(*sizes, strict=True)), strict=True):
                    key = f"MB {key} at {mark}"
                    found[key] = min(found.get(key, math.inf), size)
    found["a second"] = done / (time.perf_counter() - start)
    spent, own = sum(map(processor_seconds, workers)) - spent, time.process_time() - own
    found["a second of two workers' processor time"] = WORKERS * done / max(spent, 1e-9)
    found["a second of two cores, the main process included"] = 2 * done / max(spent + own, 1e-9)
    began = time.perf_counter()
    next(iter(loader))
    found["next epoch's start, s"] = time.perf_counter() - began
    return found


def bare_rate(store: PackedFaces, times: int = 8) -> float:
    """Return how many pictures of a store OpenCV alone decodes in a second of two processors, from memory."""
    rows = ChunkFiles(Path(store.root) / store.folder, {"chunk-0-0.bin": len(store)})
    pictures = [np.frombuffer(row["image"], np.uint8) for row in rows]

    def decode_all() -> None:
        for picture in pictures:
            cv2.imdecode(picture, cv2.IMREAD_COLOR)

    return 2 * len(pictures) / min(seconds(decode_all) for _ in range(times))


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes, the least of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def long_list(folder: Path) -> dict[str, float]:
    """Return the seconds of processor time in which lists of ROWS faces are opened."""
    lists, photos = folder / LISTS, folder / "WFLW_images"
    lists.mkdir(parents=True)
    photos.mkdir()
    cv2.imwrite(str(photos / "one.jpg"), np.zeros((300, 300, 3), np.uint8))
    points = SyntheticFaces(1, scheme="wflw98")[0].points
    numbers = " ".join(f"{value:.6f}" for value in points.ravel()[1:].tolist())
    rows = (f"{row / 1000:.6f} {numbers} 20 20 200 200 0 0 0 0 0 0 one.jpg" for row in range(ROWS))
    (lists / "list_98pt_rect_attr_train.txt").write_text("\n".join(rows))
    return {f"WFLW list of {ROWS} rows, s": seconds(lambda: WFLW(str(folder), "train"))}


def add_up(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are compared with what is wanted."""
    key, compared = "a second of two workers' processor time", {}
    for kind in ("jpeg", "raw"):
        own = found[f"store, {kind}"]
        marks = [own[name] for name in own if name.startswith("MB alone")]
        compared[f"store over photographs, {kind}"] = own[key] / found["photographs"][key]
        compared[f"memory at the end over the start, {kind}"] = marks[-1] / marks[0]
    compared["share of bare decoding, jpeg"] = found["store, jpeg"][key] / found["bare decoding, jpeg, a second"]
    return compared


def main(args: list[str] | None = None) -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.store_speed", description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of faces.csv and photographs; default drawn ones")
    parser.add_argument("--faces", type=int, default=64, help="photographs that are drawn")
    parser.add_argument("--samples", type=int, default=50_000, help="faces that are read from a store")
    parser.add_argument("--scheme", default="ibug68")
    options = parser.parse_args(args)
    begin_worker()
    found: dict[str, Any] = {"cores": os.cpu_count(), "load when it began": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or Path(scratch) / "raw"
        if options.root is None:
            draw_photographs(root, options.faces)
        photographs = OwnFaces(str(root), "train", options.scheme)
        found["photographs"] = read_through(photographs, max(40 * FEW, options.samples // 200), FEW)
        for kind in ("jpeg", "raw"):
            path = Path(scratch) / kind
            prepare("csv", lambda split: photographs, path, Packing(raw=kind == "raw"), ["train"], 1)
            if kind == "jpeg":
                found["bare decoding, jpeg, a second"] = bare_rate(PackedFaces(str(path), "train"))
            lengthen(path, options.samples)
            store = PackedFaces(str(path), "train")
            found[f"store, {kind}"] = read_through(store, options.samples, BATCH, (1_000, options.samples))
        found["lists"] = long_list(Path(scratch) / "wflw")
    found["load when it ended"] = os.getloadavg()[0]
    found["compared"] = add_up(found)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
