"""Errors of pictures with their landmarks beside them, as the demos of DPR and MuSiCa have them; drawn, too.

python -m benchmarks.studies.pictures WEIGHTS FOLDER                              NAME.rct and NAME.txt or NAME.pts
python -m benchmarks.studies.pictures WEIGHTS FOLDER --boxes BOXES --list wflw_expressions.txt

Truth: NAME.txt (number of points, then x y from 0, of DPR), else NAME.pts (from 1). Box: NAME.rct, or NAME.pts with
four corners in the folder --boxes, as in MuSiCa's archive. --list counts the pictures that a file names, one a line.
With MuSiCa's official weights and archive the second command prints what its authors give as 0.088.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.boxes import read_boxes
from common.data.readers._pts import read_pts
from common.errors import LabError, command
from common.files.images import read_image, write_image
from common.files.validation import read_text
from common.metrics.functional import nme, normaliser, point_errors
from common.packing import named_values
from common.prediction.detection import Detections
from common.prediction.faces import find_landmarks
from common.prediction.inference import Predictor
from common.prediction.job import draw_faces
from common.prediction.results import PtsFiles
from common.prediction.sources import DRAWN, expand, read_rct
from common.schemes import LandmarkScheme
from common.types import FaceSample


def read_truth(picture: Path, scheme: LandmarkScheme) -> np.ndarray:
    """Return the landmarks (L, 2) beside a picture, image pixels from 0.

    Raises:
        LabError: there is no such file, or it does not hold the scheme's points.
    """
    path = picture.with_suffix(".txt")
    if not path.is_file():
        return read_pts(picture.with_suffix(".pts"), scheme.num_points) - 1
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    try:
        points = np.array([[float(word) for word in line.split()] for line in lines[1:]])
    except ValueError:
        points = np.zeros(0)
    if lines[:1] != [str(scheme.num_points)] or points.shape != (scheme.num_points, 2) or not np.isfinite(points).all():
        raise LabError(f"{path}: expected {scheme.num_points} on the first line, then as many lines x y")
    return points


def chosen(folder: Path, listed: Path | None) -> list[Path]:
    """Return a folder's pictures, or those of them whose names a file lists, with any ending.

    Raises:
        LabError: a listed picture is missing.
    """
    pictures = expand([folder])
    if listed is None:
        return pictures
    by_name = {picture.stem: picture for picture in pictures}
    names = [Path(line.strip()).stem for line in read_text(listed).splitlines() if line.strip()]
    if absent := [name for name in names if name not in by_name]:
        raise LabError(f"{listed}: {len(absent)} of its pictures are not in {folder}, first {absent[0]}")
    return [by_name[name] for name in names]


def run(options: argparse.Namespace) -> float:
    """Predict the pictures, print each one's error and their mean, write drawn pictures and points; return the mean."""
    predictor = Predictor.load(options.weights, settings=named_values(options.set))
    boxes = None if options.boxes is None else read_boxes(options.boxes)
    files, errors = PtsFiles(options.out, overwrite=True), []
    for picture in chosen(options.folder, options.list):
        image, truth = read_image(picture), read_truth(picture, predictor.scheme)
        known = np.ones(len(truth), dtype=bool)
        sample = FaceSample(image, truth, known, np.zeros(4), id=picture.relative_to(options.folder).as_posix())
        box = read_rct(picture.with_suffix(".rct")) if boxes is None else boxes(0, sample)
        faces = find_landmarks(predictor, image, Detections.of(box[None], np.array([np.nan])), str(picture))
        norm = normaliser("corners", truth[None], predictor.scheme)
        errors.append(float(nme(point_errors(faces[0].points[None, :, :2], truth[None], norm))[0]))
        print(f"{picture.name}: {errors[-1]:.2f} %")
        files.add(str(picture), image.shape[:2], faces)
        write_image(options.out / f"{picture.stem}{DRAWN}.png", draw_faces(predictor, image, faces))
    mean = float(np.mean(errors))
    print(
        f"mean of {len(errors)}: {mean:.2f} % ({mean / 100:.4f}) of the outer eye corners' distance; in {options.out}"
    )
    return mean


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the errors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.pictures", description="Errors of pictures.")
    parser.add_argument("weights", type=Path, help="checkpoint or .safetensors, such as converted official ones")
    parser.add_argument("folder", type=Path, help="pictures, with their landmarks beside them")
    parser.add_argument("--boxes", type=Path, help="folder of .pts files of four corners, or a CSV; default NAME.rct")
    parser.add_argument("--list", type=Path, help="text file that names the pictures to count; default all")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as of common.predict")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder of drawn pictures and .pts files")
    run(parser.parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
