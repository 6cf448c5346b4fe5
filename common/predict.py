"""Landmarks of photographs: `python -m common.predict PICTURE... [--weights FILE] [--box ... | --detector FILE]`.

Boxes come from --box, from a file NAME.rct beside the picture (one line: x0 y0 x1 y1), or from a face detector.
Writes predictions.json and the drawn pictures to the folder --out. Coordinates are image pixels, x right, y down,
the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.base import check_box
from common.errors import LabError, command
from common.images import read_image, write_image
from common.inference import FaceDetector, Predictor, default_weights
from common.plotting import TRUE, draw_landmarks

DECIMALS = 3


def read_rct(path: Path) -> np.ndarray:
    """Return the box x0 y0 x1 y1 (4,) of a .rct file.

    Raises:
        LabError: the file is not one line of four numbers, or the box has no area.
    """
    try:
        words = path.read_text(encoding="ascii").split()
        values = [float(word) for word in words]
    except (OSError, UnicodeDecodeError, ValueError):
        raise LabError(f"{path}:1: expected four numbers x0 y0 x1 y1") from None
    if len(values) != 4:
        raise LabError(f"{path}:1: expected four numbers x0 y0 x1 y1, got {len(values)}")
    return check_box(np.array(values), f"{path}:1")


def find_boxes(
    picture: Path, image: np.ndarray, box: Sequence[float] | None, detector: FaceDetector | None
) -> np.ndarray:
    """Return the boxes (N, 4) of a picture: given, from its .rct file, or detected (then N may be 0).

    Raises:
        LabError: there is no box, no .rct file and no detector.
    """
    if box is not None:
        return check_box(np.array(box), "--box")[None]
    beside = picture.with_suffix(".rct")
    if detector is None and beside.is_file():
        return read_rct(beside)[None]
    if detector is None:
        raise LabError(f"{picture}: where is the face? Give --box X0 Y0 X1 Y1, a file {beside.name} beside it, or "
                       "--detector FILE")  # fmt: skip
    return detector(image)


def predict_picture(
    predictor: Predictor, picture: Path, box: Sequence[float] | None, detector: FaceDetector | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the record of one picture and the drawn picture (H, W, 3)."""
    image = read_image(picture)
    boxes = find_boxes(picture, image, box, detector)
    faces: list[dict[str, Any]] = []
    if len(boxes):
        found = predictor(image, boxes)
        points = found.points.double().cpu().numpy()
        if not np.isfinite(points).all():
            raise LabError(f"{picture}: the network gave no finite landmarks; are the weights trained?")
        for index in range(len(boxes)):
            face: dict[str, Any] = {"box": _rounded(boxes[index]), "points": _rounded(points[index])}
            if found.score is not None:
                face["score"] = _rounded(found.score[index].double().cpu().numpy())
            pose = None if found.pose is None else found.pose[index].double().cpu().numpy()
            if pose is not None:
                face["pose"] = _rounded(pose)
            faces.append(face)
            image = draw_landmarks(image, points[index], predictor.scheme, TRUE)
            image = predictor.task.decorate(image, points[index], pose)
    return {"picture": str(picture), "faces": faces}, image


def _rounded(values: np.ndarray) -> Any:
    return np.round(np.asarray(values, np.float64), DECIMALS).tolist()


def output_names(pictures: Sequence[Path]) -> list[str]:
    """Return a different name for each drawn picture: the stem, numbered where it is taken."""
    names: list[str] = []
    for picture in pictures:
        name, count = picture.stem, 1
        while name in names:
            count += 1
            name = f"{picture.stem}-{count}"
        names.append(name)
    return names


def run(options: argparse.Namespace) -> Path:
    """Predict all pictures; write and return the JSON file."""
    weights = options.weights or default_weights()
    predictor = Predictor.load(weights, options.config, options.device)
    detector = FaceDetector(options.detector) if options.detector else None
    if options.box is not None and len(options.pictures) > 1:
        raise LabError("--box is for one picture; put .rct files beside several, or give --detector")
    records = []
    for picture, name in zip(options.pictures, output_names(options.pictures), strict=True):
        record, drawn = predict_picture(predictor, picture, options.box, detector)
        records.append(record)
        if not options.no_pictures:
            write_image(options.out / f"{name}.png", drawn)
        print(f"{picture}: {len(record['faces'])} faces")
    options.out.mkdir(parents=True, exist_ok=True)
    target: Path = options.out / "predictions.json"
    scheme = predictor.scheme
    content = {"weights": Path(weights).name, "method": predictor.task.METHOD, "scheme": scheme.name,
               "frame": "image pixels, x right, y down, centre of the first pixel is (0, 0)",
               "pictures": records}  # fmt: skip
    target.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return target


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m common.predict", description="Landmarks of photographs.")
    parser.add_argument("pictures", type=Path, nargs="+", help="photographs")
    parser.add_argument("--weights", type=Path, help=".safetensors or .ckpt; default: the embedded weights")
    parser.add_argument("--config", type=Path, help="config.yaml of the run that made the weights, if they need it")
    parser.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="face of one picture")
    parser.add_argument("--detector", type=Path, help="model file for OpenCV's FaceDetectorYN")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write to")
    parser.add_argument("--device", default="cpu", help="device that the network runs on")
    parser.add_argument("--no-pictures", action="store_true", help="write the JSON file only")
    options = parser.parse_args(arguments)
    target = run(options)
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
