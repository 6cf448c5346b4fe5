"""Rate at which synthetic faces are drawn on one thread.

Run: python -m benchmarks.studies.synthetic_speed
"""

from __future__ import annotations

import argparse
import json
from itertools import count
from pathlib import Path

from benchmarks.measure.timing import median_ms
from common.data.synthetic import SyntheticFaces

RECORD = Path("runs/benchmark/synthetic_speed.json")
SEED, LARGEST = 99, 10**6


def main(args: list[str] | None = None) -> None:
    """Measure windows of different faces on one thread and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.synthetic_speed", description=__doc__)
    parser.add_argument("--windows", type=int, default=9)
    parser.add_argument("--faces", type=int, default=60, help="faces a window")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args(args)
    numbers = count()

    def window() -> None:
        first = options.faces * next(numbers)  # never the same faces twice
        for index in range(first, first + options.faces):
            faces[index]

    faces = SyntheticFaces(LARGEST, seed=SEED, size=options.size)
    record = {
        "faces_per_second": 1000 * options.faces / median_ms({"window": window}, options.windows)["window"],
        "windows": options.windows,
        "faces_a_window": options.faces,
        "size": options.size,
        "threads": 1,
    }
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(record, indent=1))
    print(f"{record['faces_per_second']:.1f} faces a second on one thread ({options.size} px)")


if __name__ == "__main__":
    main()
