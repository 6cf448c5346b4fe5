"""What grows with the number of faces: a loader's memory over an epoch; time and memory of `benchmarks score`.

Run: python -m benchmarks.studies.growth --document BENCHMARKS.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from benchmarks.readme import fill, table
from benchmarks.studies.store_speed import Again, lengthen, memory_mb
from common.data.base import begin_worker
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, CroppedFace
from common.data.packed.layout import Packing
from common.data.packed.read import PackedFaces
from common.data.packed.write import prepare
from common.data.synthetic import SyntheticFaces
from common.errors import LabError, check_range

BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
DRAWN, BATCH, POINTS = 16, 50, 68  # synthetic faces in the store, faces a batch, landmarks a face
CROP = CropConfig(size=64, rotation=30, scale=0.1, shift=0.05, flip=0.5)
AROUND = 10  # batches whose least memory counts: one on its way to the main process is in the worker's memory too
FLAT, SECONDS, MEGABYTES = 1.1, 10.0, 400.0  # goals: growth of the loader; processor time and memory of the scoring

# In a small process of its own: a child's peak counts what its parent held when it was made.
MEASURED = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def loader_memory(marks: Sequence[int]) -> list[float]:
    """Return the memory (MB) that a loader's worker alone holds when so many faces of a packed store have been read."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        prepare("synthetic", lambda split: SyntheticFaces(DRAWN), store, Packing(), ["train"], 1)
        lengthen(store, max(marks))
        faces = Again(PackedFaces(str(store), "train"), max(marks))
        loader: DataLoader[CroppedFace] = DataLoader(
            CroppedFaces(faces, CROP, seed=0), BATCH, num_workers=1, shuffle=True, worker_init_fn=begin_worker,
            collate_fn=Collate(faces.subset_names),
        )  # fmt: skip
        found, served = dict.fromkeys(marks, float("inf")), 0
        for batch in loader:
            served += len(batch)
            (worker,) = multiprocessing.active_children()
            for mark in marks:
                if mark - AROUND * BATCH < served <= mark:
                    found[mark] = min(found[mark], memory_mb(worker.pid or 0)[0])
    return list(found.values())


def score_costs(faces: int) -> tuple[float, float]:
    """Return the processor time (s) and the peak memory (MB) of scoring so many faces from files.

    Raises:
        LabError: the command failed.
    """
    draws = np.random.default_rng(0)
    truth = draws.uniform(0, 256, (faces, POINTS, 2)).astype(np.float32)
    ids = np.array([f"face-{row}" for row in range(faces)])
    with tempfile.TemporaryDirectory() as scratch:
        files = [str(Path(scratch) / name) for name in ("mine.npz", "truth.npz")]
        np.savez(files[0], ids=ids, points=truth + draws.normal(0, 3, truth.shape).astype(np.float32))
        np.savez(files[1], ids=ids, points=truth)
        words = [sys.executable, "-c", MEASURED, sys.executable, "-m", "benchmarks", "score", files[0]]
        done = subprocess.run([*words, "--truth", files[1]], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LabError(f"benchmarks score ended with {done.returncode} for {faces} faces")
    took, peak = map(float, done.stdout.split())
    return took, peak


def main(args: list[str] | None = None) -> None:
    """Measure, print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.growth", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000, 50_000], help="read by the loader")
    parser.add_argument("--faces", type=int, nargs="+", default=[100, 5_000, 50_000], help="scored")
    parser.add_argument("--document", type=Path, help=f"write the tables between {BEGIN} and {END} of this file")
    options = parser.parse_args(args)
    check_range("--samples", options.samples, "[1, inf)")
    check_range("--faces", options.faces, "[1, inf)")
    memory = loader_memory(options.samples)
    costs = [score_costs(faces) for faces in options.faces]
    grown, (seconds, peak) = max(memory) / memory[0], map(max, zip(*costs, strict=True))
    goals = (f"Goals: the worker's memory flat within 10 % ({'reached' if grown <= FLAT else 'not reached'}), scoring "
             f"below {SECONDS:g} s and {MEGABYTES:g} MB "
             f"({'reached' if seconds < SECONDS and peak < MEGABYTES else 'not reached'}).")  # fmt: skip
    body = "\n\n".join([
        table(["faces read", "loader's worker, MB"], [(f"{mark:,}", f"{mb:.0f}")
              for mark, mb in zip(options.samples, memory, strict=True)], "rr"),
        table(["faces scored", "processor time, s", "peak, MB"], [(f"{faces:,}", f"{took:.1f}", f"{mb:.0f}")
              for faces, (took, mb) in zip(options.faces, costs, strict=True)], "rrr"),
        goals,
    ])  # fmt: skip
    print(body)
    if options.document is not None:
        fill(options.document, BEGIN, END, body)


if __name__ == "__main__":
    main()
