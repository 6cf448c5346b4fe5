"""Rate at which synthetic faces are drawn on one thread.

Run: python -m benchmarks.studies.synthetic_speed
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from common.data.synthetic.dataset import SyntheticFaces

RECORD = Path("runs/benchmark/synthetic_speed.json")
SEED = 99


def window(faces: SyntheticFaces, first: int, count: int) -> tuple[float, float]:
    """Return faces a second by the wall clock and by the processor time of this thread."""
    wall, own = time.perf_counter(), time.thread_time()
    for index in range(first, first + count):
        faces[index]
    return count / (time.perf_counter() - wall), count / (time.thread_time() - own)


def main(args: list[str] | None = None) -> None:
    """Measure windows of different faces on one thread and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.synthetic_speed", description=__doc__)
    parser.add_argument("--windows", type=int, default=9)
    parser.add_argument("--faces", type=int, default=60, help="faces a window")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args(args)
    faces = SyntheticFaces((options.windows + 1) * options.faces, seed=SEED, size=options.size)
    window(faces, 0, options.faces)  # warm-up; makes the fixed maps too
    rates = [window(faces, (k + 1) * options.faces, options.faces) for k in range(options.windows)]
    record = {
        "faces_per_second": statistics.median(wall for wall, _ in rates),
        "faces_per_processor_second": statistics.median(own for _, own in rates),
        "windows_wall": [round(wall, 2) for wall, _ in rates], "windows_processor": [round(own, 2) for _, own in rates],
        "faces_a_window": options.faces, "size": options.size, "threads": 1,
    }  # fmt: skip
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(record, indent=1))
    print(
        f"{record['faces_per_second']:.1f} faces a second on one thread, "
        f"{record['faces_per_processor_second']:.1f} a second of processor time ({options.size} px)"
    )


if __name__ == "__main__":
    main()
