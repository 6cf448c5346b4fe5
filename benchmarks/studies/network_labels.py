"""Label photographs without hand labels by trained networks, for pretraining and mixtures.

python -m benchmarks.studies.network_labels awing sdu3d --faces FOLDER/faces.zip --out runs/labels/wflw

Reads a zip of crops and the npz of the same name beside it (`filename`; `box_crop` or `landmarks_crop`, whose tight box
is taken) and writes OUT/train.zip and OUT/train.npz, a set that `--data.dataset crops` and a source of
`--data.mix` read. A label is the mean of the networks' points, each found twice: from the face's box, then from the
box of the first mean. A face is left out where the networks disagree by more than `--limit`, percent of the outer eye
corners' distance: one of them is wrong. What is trained with such labels is in rows of its own in every table.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import LabError, check_range, command
from common.files.arrays import DAMAGED, read_arrays, read_member
from common.files.images import decode_image
from common.geometry import tight_box
from common.metrics.functional import nme, normaliser, point_errors
from common.prediction.inference import Predictor

LIMIT = 8.0  # percent of the eye distance; hand-labelled validation faces are mostly below 6
LEAST = 16.0  # pixels of the outer eye corners' distance


def read_boxes(table: Path) -> tuple[list[str], np.ndarray]:
    """Return names and boxes (N, 4), crop pixels, of a table of crops.

    Raises:
        LabError: the file is missing or damaged, or has no column of names, or none of boxes or points.
    """
    arrays = read_arrays(table)
    if "filename" not in arrays or not {"box_crop", "landmarks_crop"} & set(arrays):
        raise LabError(f"{table}: needs filename, and box_crop or landmarks_crop; has {', '.join(sorted(arrays))}")
    if "box_crop" in arrays:
        boxes = np.asarray(arrays["box_crop"], np.float64)
    else:
        boxes = np.stack([tight_box(points) for points in np.asarray(arrays["landmarks_crop"], np.float64)])
    return [str(name) for name in arrays["filename"]], boxes


def label(predictors: Sequence[Predictor], image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Return the mean points (L, 2) of a face, image pixels, and the networks' disagreement in percent.

    The disagreement is the largest of the networks' mean distances from the mean, over the outer eye corners' distance.
    None where the box holds no face of a usable size within the picture.
    """
    start = box
    for _ in range(2):
        inside = np.minimum(start[2:], image.shape[1::-1]) - np.maximum(start[:2], 0)
        if not (inside >= LEAST).all():  # NaN is no face either
            return None
        found = np.stack([predictor(image, start).points[0, :, :2].numpy() for predictor in predictors])
        mean = found.mean(axis=0)
        start = tight_box(mean)
    distance = normaliser("corners", mean[None], predictors[0].scheme)
    if not distance[0] >= LEAST:
        return None
    apart = nme(point_errors(found, np.broadcast_to(mean, found.shape), np.repeat(distance, len(found))))
    return mean, float(apart.max())


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except DAMAGED as error:
        raise LabError(f"{path}: no zip of crops ({error})") from None


def write_labels(predictors: Sequence[Predictor], faces: Path, out: Path, limit: float) -> tuple[int, int]:
    """Label the crops of a zip; return how many were kept, of how many.

    Raises:
        LabError: see `read_boxes`; the zip lacks a file; or OUT holds labels already.
    """
    names, boxes = read_boxes(faces.with_suffix(".npz"))
    if any((out / f"train.{kind}").exists() for kind in ("zip", "npz")):
        raise LabError(f"{out}: holds labels already; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    kept: list[tuple[str, np.ndarray, float]] = []
    part = out / "train.zip.part"
    with _open(faces) as source, zipfile.ZipFile(part, "w") as target:
        for name, box in zip(names, boxes, strict=True):
            try:
                content = read_member(source, name)
            except KeyError:
                raise LabError(f"{faces}: has no file {name}, which its table names") from None
            except DAMAGED as error:
                raise LabError(f"{faces}: {name} cannot be read ({error}); copy it again") from None
            found = label(predictors, decode_image(content, f"{faces}: {name}"), box)
            if found is not None and found[1] <= limit:
                kept.append((name, *found))
                target.writestr(name, content)
    if not kept:
        part.unlink()
        raise LabError(f"{faces}: the networks agree on no face; --limit is {limit} percent")
    np.savez(out / "train.npz", filename=np.array([name for name, *_ in kept]),
             landmarks_crop=np.array([points for _, points, _ in kept], np.float32),
             disagreement=np.array([much for *_, much in kept], np.float32))  # fmt: skip
    part.replace(out / "train.zip")
    return len(kept), len(names)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the labelled set."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.network_labels", description="Networks' labels."
    )
    parser.add_argument("weights", nargs="+", help="two or more files of weights, or methods with embedded ones")
    parser.add_argument("--faces", type=Path, required=True, help="zip of crops; its table is the npz of the same name")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"percent of the eye distance; default {LIMIT}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the labelled set")
    options = parser.parse_args(arguments)
    check_range("--limit", options.limit, "(0, 100]")
    if len(options.weights) < 2:
        raise LabError("one network cannot disagree: name two or more")
    predictors = [Predictor.from_pretrained(name) for name in options.weights]
    if len({predictor.scheme.name for predictor in predictors}) > 1:
        raise LabError(
            "the networks are of different landmark schemes: " + ", ".join(p.scheme.name for p in predictors)
        )
    kept, count = write_labels(predictors, options.faces, options.out, options.limit)
    print(f"{options.out}: {kept} of {count} faces labelled by {', '.join(options.weights)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
