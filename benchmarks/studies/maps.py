"""Picture of heatmaps: each face's crop with its true points, then the targets of training and the network's answers.

python -m benchmarks.studies.maps spiga --dataset crops --root FOLDER --out maps.png

Maps are drawn as the highest of their kind in each place, every map over its own peak.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from common.data.__main__ import SPLITS
from common.data.batching import Collate, CroppedFaces
from common.data.datamodule import DATASETS, FaceDataModule
from common.data.show import CELL, draw_face, spread, write_words
from common.errors import LabError, check_range, command
from common.files.images import write_image
from common.prediction.inference import Predictor
from common.prediction.plotting import grid
from common.task import LandmarkTask

SHARE = 0.85  # of a map's colour at its peak; the rest is the photograph


def overlay(image: np.ndarray, maps: Tensor) -> np.ndarray:
    """Return a crop (S, S, 3) as a cell (CELL, CELL, 3) with maps (C, H, W) of any heights over it."""
    heights = maps.float().clamp(min=0)
    top = (heights / heights.amax((-2, -1), keepdim=True).clamp(min=1e-9)).amax(0).cpu().numpy()
    share = cv2.resize(top, (CELL, CELL), interpolation=cv2.INTER_LINEAR)
    color = cv2.applyColorMap((255 * share).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    canvas = cv2.resize(image, (CELL, CELL), interpolation=cv2.INTER_AREA)
    share = SHARE * share[..., None]
    return np.ascontiguousarray(((1 - share) * canvas + share * color).round().astype(np.uint8))


@torch.inference_mode()
def maps_grid(task: LandmarkTask, faces: CroppedFaces, rows: Sequence[int]) -> np.ndarray:
    """Return a picture with one row a face.

    Args:
        task: a method in evaluation mode.
        faces: cropped as the method knows them.
        rows: places in the data set.

    Raises:
        LabError: the method has no heatmaps.
    """
    cropped = [faces[row] for row in rows]
    found = task.maps(Collate(faces.faces.subset_names)(cropped).to(task.device))
    if not found:
        raise LabError(f"{task.METHOD} has no heatmaps: its networks return points")
    cells = []
    for number, face in enumerate(cropped):
        cells.append(draw_face(face, faces, face.id))
        cells += [write_words(overlay(face.image, maps[number]), name) for name, maps in found.items()]
    return grid(cells, 1 + len(found))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.maps", description="Heatmaps of faces.")
    parser.add_argument("weights", help="file of weights, or a method with embedded ones")
    parser.add_argument("--dataset", choices=DATASETS, default="synthetic", help="default: drawn faces")
    parser.add_argument("--root", help="folder of the data set")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--count", type=int, default=4, help="faces, evenly over the split; default 4")
    parser.add_argument("--out", type=Path, default=Path("maps.png"))
    options = parser.parse_args(arguments)
    check_range("--count", options.count, "[1, 64]")
    predictor = Predictor.from_pretrained(options.weights)
    data = FaceDataModule(options.dataset, options.root, scheme=predictor.scheme.word, num_workers=0)
    faces = CroppedFaces(data.faces(options.split), predictor.crop)
    write_image(options.out, maps_grid(predictor.task, faces, spread(len(faces), options.count)))
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
