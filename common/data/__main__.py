"""`python -m common.data COMMAND`: look at a data set, check a copy of it, prepare it for fast reading.

python -m common.data doctor wflw --root data/wflw
python -m common.data prepare wflw --root data/wflw --out store/wflw
python -m common.data show wflw --root data/wflw --out faces.png
python -m common.data boxes wflw --root data/wflw --out boxes.csv
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from common.data.batching import CroppedFaces
from common.data.boxes import write_boxes
from common.data.crops import CropConfig
from common.data.datamodule import DATASETS, FaceDataModule
from common.data.packed.layout import Packing
from common.data.packed.w300_crops import write_crops
from common.data.packed.write import prepare as write_store
from common.data.show import data_grid, spread
from common.errors import LabError, check_range, command
from common.files.images import write_image

SPLITS = ("train", "val", "test")
SHOWN = CropConfig(box_scale=1.4, rotation=30, scale=0.15, shift=0.05, flip=0.5)  # of `show`


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog="python -m common.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="list everything that is wrong with a copy of a data set")
    doctor.add_argument(
        "--manifest", type=Path, help="SHA-256 of every file: compared with this file, or written to it"
    )
    doctor.add_argument("--all", action="store_true", help="list all faults, not the first ten of each kind")
    prepare = commands.add_parser("prepare", help="pack a data set for fast reading")
    prepare.add_argument("--out", type=Path, required=True, help="folder of the store or the crops")
    prepare.add_argument("--format", choices=("store", "crops"), default="store",
                         help="store: for --data.dataset store; crops: of w300, for the helen recipes")  # fmt: skip
    for field in fields(Packing):
        if field.name not in ("exact", "raw"):
            prepare.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    prepare.add_argument("--jpeg", action="store_true", help="training crops as JPEG: a fourteenth of the disk, half "
                         "as fast to read")  # fmt: skip
    prepare.add_argument("--compact", action="store_true", help="JPEG crops for val and test, too")
    show = commands.add_parser("show", help="write a grid of faces, as annotated and as training sees them")
    show.add_argument("--out", type=Path, default=Path("faces.png"), help="the picture; default faces.png")
    show.add_argument("--count", type=int, default=16, help="faces of each split; default 16")
    boxes = commands.add_parser("boxes", help="write a face detector's boxes, for --data.box file:FILE.csv")
    boxes.add_argument("--out", type=Path, required=True, help="file to write; .csv")
    boxes.add_argument("--detector", help="dlib, or a YuNet model file; default YuNet, else dlib")
    for each in (doctor, prepare, show, boxes):
        _add_data(each)
        each.add_argument("--workers", type=int, help="processes that read pictures; default one a core")
    return result


def _add_data(one: argparse.ArgumentParser) -> None:
    one.add_argument("name", help=f"as --data.dataset takes it: {', '.join(DATASETS)}")
    one.add_argument("--root", help="folder of the data set")
    one.add_argument("--scheme", default="ibug68", help="landmark scheme, where the set has not its own")
    one.add_argument("--norm", default="corners", help="normaliser of data set json: corners or box")
    one.add_argument("--train-split", help="as --data.train_split")
    one.add_argument("--eval-split", help="as --data.eval_split")
    one.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS, help="default all three")


def prepare(options: argparse.Namespace) -> int:
    """Write a store, or the crops of the helen recipes."""
    if options.format == "crops":
        if options.name != "w300":
            raise LabError(f"prepare --format crops makes the helen recipes' crops of w300, not of {options.name}")
        written = write_crops(options.root, options.out)
        kind = "crops"
    else:
        packing = Packing(options.size, options.room, options.quality, options.face, exact=not options.compact,
                          raw=not options.jpeg)  # fmt: skip
        faces = data_module(options).faces
        about = write_store(options.name, faces, options.out, packing, options.splits, options.workers)
        written, kind = {split: own.count for split, own in about.splits.items()}, "store"
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    counts = ", ".join(f"{split} {count}" for split, count in written.items())
    use = f"use it by --data.dataset {kind} --data.root {options.out}"
    print(f"{options.out}: {counts} faces, {size / 1e9:.3g} GB; {use}")
    return 0


def show(options: argparse.Namespace) -> int:
    """Write one picture a split: faces as annotated, and to the right of each as training changes them."""
    if options.count < 1:
        raise LabError(f"--count must be at least 1, got {options.count}")
    data = data_module(options, crop=SHOWN)
    for split in options.splits:
        faces = data.faces(split)
        cropped = CroppedFaces(faces, SHOWN, data.seed)
        path = options.out.with_stem(f"{options.out.stem}-{split}")
        write_image(path, data_grid(cropped, spread(len(faces), options.count)))
        print(f"{path}: {min(options.count, len(faces))} of {len(faces)} faces")
    return 0


def boxes(options: argparse.Namespace) -> int:
    """Write a face detector's boxes of a data set."""
    data, workers = data_module(options), os.cpu_count() or 1 if options.workers is None else options.workers
    counts = write_boxes(options.out, {split: data.faces(split) for split in options.splits}, options.detector, workers)
    print("\n".join([*counts, f"use them by --data.box file:{options.out}"]))
    return 0


def data_module(options: argparse.Namespace, **more: Any) -> FaceDataModule:
    """Return the data module that the options of `_add_data` name."""
    return FaceDataModule(
        options.name,
        options.root,
        scheme=options.scheme,
        norm=options.norm,
        train_split=options.train_split,
        eval_split=options.eval_split,
        num_workers=0,
        **more,
    )


def doctor(options: argparse.Namespace) -> int:
    """Examine a data set; return 0 where it is sound, else 1."""
    from common.data.doctor import diagnose

    report = diagnose(data_module(options), options.splits, options.workers, manifest=options.manifest)
    print(report.text(None if options.all else 10))
    return 0 if report.sound else 1


@command
def main(args: list[str] | None = None) -> int:
    """Run a command; a user's mistake is printed as one line, exit code 2."""
    options = parser().parse_args(args)
    check_range("--workers", options.workers, "[0, 256]")
    check_range("--count", getattr(options, "count", None), "[1, 1000]")
    return {"doctor": doctor, "prepare": prepare, "show": show, "boxes": boxes}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
