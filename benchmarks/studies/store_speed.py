"""A prepared store beside the raw photographs: faces a second with two workers, memory, start of an epoch, long lists.

Photographs of the size of HELEN's are drawn, unless --root names a folder with faces.csv. Rates are also given by the
workers' processor time, which other programs on the machine do not change.

Run: python -m benchmarks.studies.store_speed --faces 64 --samples 50000
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import DataLoader

from common.data.base import FaceDataset, one_thread
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, CroppedFace
from common.data.packed.layout import Packing
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


class Again(Wrapped):
    """Another data set's faces, over and over."""

    def __init__(self, faces: FaceDataset, count: int) -> None:
        super().__init__(faces)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> FaceSample:
        return self.faces[index % len(self.faces)]


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


def resident_mb(process: int) -> float:
    """Return the memory that a process alone has written to, MB: pages shared with its parent do not count."""
    rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_")) / 1024


def read_through(faces: FaceDataset, samples: int, batch_size: int, marks: tuple[int, ...] = ()) -> dict[str, float]:
    """Read so many faces, without augmentation, through a loader of two workers, and return what it took."""
    cropped = CroppedFaces(Again(faces, samples), CROP)
    loader: DataLoader[CroppedFace] = DataLoader(
        cropped, batch_size, prefetch_factor=1, num_workers=WORKERS, persistent_workers=True, worker_init_fn=one_thread,
        collate_fn=Collate(faces.subset_names),
    )  # fmt: skip
    found: dict[str, float] = {}
    began, done, start, spent = time.perf_counter(), 0, 0.0, 0.0
    batches = iter(loader)
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for number, batch in enumerate(batches):
        if number == 0:
            found["first epoch's start, s"] = time.perf_counter() - began
        if number == WORKERS:  # each has opened its files
            start, spent = time.perf_counter(), sum(map(processor_seconds, workers))
        elif number > WORKERS:
            done += len(batch)
        for mark in marks:
            if done >= mark and f"MB at {mark}" not in found:
                found[f"MB at {mark}"] = max(map(resident_mb, workers))
    found["a second"] = done / (time.perf_counter() - start)
    spent = sum(map(processor_seconds, workers)) - spent
    found["a second of both workers' processor time"] = WORKERS * done / max(spent, 1e-9)
    began = time.perf_counter()
    next(iter(loader))
    found["next epoch's start, s"] = time.perf_counter() - began
    return found


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
    numbers = " ".join(f"{value:.6f}" for value in points.ravel().tolist())
    line = f"{numbers} 20 20 200 200 0 0 0 0 0 0 one.jpg\n"
    (lists / "list_98pt_rect_attr_train.txt").write_text(line * ROWS)
    return {f"WFLW list of {ROWS} rows, s": seconds(lambda: WFLW(str(folder), "train"))}


def add_up(raw: dict[str, float], store: dict[str, float]) -> dict[str, float]:
    """Return the figures that are compared with what is wanted."""
    key = "a second of both workers' processor time"
    marks = [store[name] for name in store if name.startswith("MB at ")]
    return {"store over raw": store[key] / raw[key], "memory at the end over the start": marks[-1] / marks[0]}


def main(args: list[str] | None = None) -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.store_speed", description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of faces.csv and photographs; default drawn ones")
    parser.add_argument("--faces", type=int, default=64, help="photographs that are drawn")
    parser.add_argument("--samples", type=int, default=50_000, help="faces that are read from the store")
    parser.add_argument("--size", type=int, default=Packing.size, help="as of prepare")
    parser.add_argument("--room", type=float, default=Packing.room, help="as of prepare")
    parser.add_argument("--quality", type=int, default=Packing.quality, help="as of prepare")
    parser.add_argument("--scheme", default="ibug68")
    options = parser.parse_args(args)
    one_thread()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or Path(scratch) / "raw"
        if options.root is None:
            draw_photographs(root, options.faces)
        raw = OwnFaces(str(root), "train", options.scheme)
        packing = Packing(options.size, options.room, options.quality)
        prepare("csv", lambda split: raw, Path(scratch) / "store", packing, ["train"], 1)
        store = PackedFaces(str(Path(scratch) / "store"), "train")
        found = {
            "raw": read_through(raw, max(40 * FEW, options.samples // 100), FEW),
            "store": read_through(store, options.samples, BATCH, (1_000, options.samples * 9 // 10)),
            "lists": long_list(Path(scratch) / "wflw"),
        }
        found["compared"] = add_up(found["raw"], found["store"])
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
