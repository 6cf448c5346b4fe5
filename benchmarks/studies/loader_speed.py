"""Rate of the loader, augmentation included, against decoding and one warp alone; memory over the epochs.

The bare way warps by maps of the same kind; pictures lie in memory for it, and nothing else is computed.

Run: python -m benchmarks.studies.loader_speed --root FOLDER_OF_PREPARED_CROPS
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import DataLoader

from benchmarks.measure.timing import ROUNDS, median_ms
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, draw_matrix
from common.data.readers.crops import PreparedCrops
from common.files.images import decode_image

RECORD = Path("runs/benchmark/loader_speed.json")
CONFIG = CropConfig(size=256, box_scale=1.28, rotation=30, scale=0.12, shift=0.05, flip=0.5)


def resident_mb() -> float:
    """Return the memory that this process holds now, in MB (not its peak, which cannot fall)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(args: list[str] | None = None) -> None:
    """Measure in one process and one thread, both ways in turn, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.loader_speed", description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(args)
    faces = PreparedCrops(options.root, options.split)
    cropped = CroppedFaces(faces, CONFIG, seed=0)
    loader = DataLoader(cropped, batch_size=16, collate_fn=Collate(faces.subset_names))
    packed = [faces.read(name) for name in faces.files]  # the bare way is spared the reading of the archive
    draws = np.random.default_rng(0)
    maps = [draw_matrix(box, CONFIG, draws)[0] for box in faces.boxes]  # as the loader draws them: turned, scaled

    def bare() -> None:
        for name, data, matrix in zip(faces.files, packed, maps, strict=True):
            cv2.warpAffine(decode_image(data, name), matrix, (CONFIG.size, CONFIG.size))

    epochs, memory = count(), []

    def full() -> None:
        cropped.set_epoch(next(epochs))
        for _ in loader:
            pass
        memory.append(resident_mb())

    times = median_ms({"full": full, "bare": bare}, options.rounds)
    record = {
        "ratio": times["bare"] / times["full"],
        "crops_per_second": 1000 * len(faces) / times["full"],
        "memory_mb": memory,
        "rounds": options.rounds,
        "faces": len(faces),
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1))
    print(f"loader / (decode + warp): {record['ratio']:.2f}; memory per epoch {memory[0]:.0f} .. {memory[-1]:.0f} MB")


if __name__ == "__main__":
    main()
