"""A picture of synthetic faces, to be looked at.

Run: python -m benchmarks.studies.synthetic_grid [--seed 0] [--landmarks] [--out docs/pictures/synthetic_faces.jpg]
     python -m benchmarks.studies.synthetic_grid --methods --count 6 --cell 160 --out docs/pictures/five_methods.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.provenance import ROOT
from common.data.synthetic import SyntheticFaces
from common.files.images import write_image
from common.methods import METHODS
from common.prediction.inference import Predictor
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


def draw_methods(names: Sequence[str], count: int, seed: int, cell: int) -> np.ndarray:
    """Return the same faces with the predictions of each method's embedded weights from their boxes, a row a method.

    The picture is (methods * cell, count * cell, 3) RGB uint8.
    """
    faces = SyntheticFaces(count, scheme="ibug68", seed=seed)
    cells = []
    for name in names:
        predictor = Predictor.from_pretrained(name)
        for index in range(count):
            sample = faces[index]
            points = predictor(sample.image, sample.box[None]).points[0]
            image = draw_landmarks(sample.image, np.asarray(points), predictor.scheme)
            cells.append(cv2.resize(image, (cell, cell), interpolation=cv2.INTER_AREA))
        title = METHODS[name].title
        (width, height), base = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        cv2.rectangle(cells[-count], (0, 0), (width + 6, height + base + 4), (0, 0, 0), -1)
        cv2.putText(cells[-count], title, (3, height + 3), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255,) * 3, 1, cv2.LINE_AA)
    return grid(cells, count)


def main(args: list[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.synthetic_grid", description=__doc__)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--cell", type=int, default=96, help="pixels a face")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--landmarks", action="store_true", help="draw the landmarks too")
    parser.add_argument("--methods", nargs="*", metavar="NAME",
                        help="a row for each method (default: all that have weights) with its predictions")  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(args)
    if options.methods is None:
        picture = draw(options.count, options.seed, options.cell, options.columns, options.landmarks)
    else:
        names = options.methods or [name for name in METHODS if METHODS[name].weights()]
        picture = draw_methods(names, options.count, options.seed, options.cell)
    write_image(options.out, picture)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
