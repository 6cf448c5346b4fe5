"""A picture of synthetic faces, to be looked at.

Run: python -m benchmarks.studies.synthetic_grid [--seed 0] [--landmarks] [--out docs/pictures/synthetic_faces.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.provenance import ROOT
from common.data.synthetic import SyntheticFaces
from common.files.images import write_image
from common.prediction.plotting import TRUE, draw_landmarks, grid

OUT = ROOT / "docs/pictures/synthetic_faces.jpg"


def draw(count: int, seed: int, cell: int, columns: int, landmarks: bool) -> np.ndarray:
    """Return the picture (H, W, 3) RGB uint8 of the first faces of a seed, `cell` pixels a face."""
    faces = SyntheticFaces(count, seed=seed)
    cells = []
    for index in range(count):
        sample = faces[index]
        image = draw_landmarks(sample.image, sample.points, faces.scheme, TRUE) if landmarks else sample.image
        cells.append(cv2.resize(image, (cell, cell), interpolation=cv2.INTER_AREA))
    return grid(cells, columns)


def main(args: list[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.synthetic_grid", description=__doc__)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--cell", type=int, default=96, help="pixels a face")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--landmarks", action="store_true", help="draw the landmarks too")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(args)
    write_image(options.out, draw(options.count, options.seed, options.cell, options.columns, options.landmarks))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
