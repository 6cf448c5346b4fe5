"""`python -m common.data prepare w300 --format crops`: the crops that the `helen` recipes read, made from 300W's tree.

Training and validation faces are those listed in `helen_split.yaml` (HELEN trainset and AFW; no photograph is in both);
the test faces are the whole HELEN testset. A crop is the square of 1.875 times the longer side of the landmarks' box,
in whole pixels of the photograph and black outside it, resampled by areas to 320 pixels: its middle 256 pixels are the
square of 1.5 times that side.
"""

from __future__ import annotations

import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from common.data.base import check_points, check_root
from common.data.readers._pts import read_pts
from common.data.readers.w300 import IMAGE_SUFFIXES
from common.errors import LabError
from common.files.images import read_image
from common.files.validation import Strict, read_yaml_as
from common.geometry import tight_box
from common.schemes import IBUG68

SIZE, ROOM, QUALITY = 320, 1.875, 90
FOLDERS = {"afw": "afw", "helen_train": "helen/trainset", "helen_test": "helen/testset"}
SPLIT = Path(__file__).with_name("helen_split.yaml")
REPORT = 2.0  # seconds between two lines of progress


class Names(Strict):
    """helen_split.yaml: the faces of training and of validation by folder, as words."""

    train: dict[str, str]
    val: dict[str, str]


def write_crops(root: str, out: Path) -> dict[str, int]:
    """Write train, val and test of the `crops` data set from a 300W tree; return the faces of each.

    Args:
        root: folder that holds helen and afw.
        out: folder of the crops; a split that is complete there is not done again.

    Raises:
        LabError: a folder, a photograph or a landmark file is missing or wrong.
    """
    listed, folder = read_yaml_as(Names, SPLIT), check_root(root, "w300")
    tests = sorted(path.stem for path in (folder / FOLDERS["helen_test"]).glob("*.pts"))
    if not tests:
        raise LabError(f"{folder / FOLDERS['helen_test']}: no .pts file; give the folder that holds helen and afw")
    wanted = {"train": listed.train, "val": listed.val, "test": {"helen_test": " ".join(tests)}}
    out.mkdir(parents=True, exist_ok=True)
    return {split: _write_split(folder, out, split, names) for split, names in wanted.items()}


def _write_split(root: Path, out: Path, split: str, names: dict[str, str]) -> int:
    faces = [(subset, name) for subset in names for name in names[subset].split()]
    table, archive = out / f"{split}.npz", out / f"{split}.zip"
    if table.is_file() and archive.is_file():
        print(f"{split}: is in {out} already", file=sys.stderr)
        return len(faces)
    rows: dict[str, list[object]] = {}
    part = out / f".{split}.zip.part"
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as members:
        for data, row in _crops(root, split, faces):
            members.writestr(zipfile.ZipInfo(str(row["filename"])), data)  # without a date: the same bytes every time
            for key, value in row.items():
                rows.setdefault(key, []).append(value)
    part.replace(archive)
    arrays = {key: np.array(values) for key, values in rows.items()}
    np.savez_compressed(table, allow_pickle=False, **arrays)
    return len(faces)


def _crops(root: Path, split: str, faces: list[tuple[str, str]]) -> Iterator[tuple[bytes, dict[str, object]]]:
    last = time.monotonic()
    for done, (subset, name) in enumerate(faces, 1):
        yield _crop(root, subset, name)
        if time.monotonic() - last > REPORT or done == len(faces):
            last = time.monotonic()
            print(f"\r{split}: {done}/{len(faces)} faces", end="\n" if done == len(faces) else "", file=sys.stderr)


def _crop(root: Path, subset: str, name: str) -> tuple[bytes, dict[str, object]]:
    """Return the bytes of a face's crop and its row of the table."""
    path = root / FOLDERS[subset] / f"{name}.pts"
    points = check_points(read_pts(path, IBUG68.num_points) - 1, IBUG68, str(path))
    files = [path.with_suffix(suffix) for suffix in IMAGE_SUFFIXES]
    image = read_image(next((file for file in files if file.is_file()), files[0]))
    box = tight_box(points)
    side = int(np.round(np.float32((box[2:] - box[:2]).max()) * ROOM))
    centre = ((box[:2] + box[2:]) / 2).astype(np.float64)
    x0, y0 = np.round(centre - side / 2 + 0.5).astype(int).tolist()
    height, width = image.shape[:2]
    pad = [max(0, -x0), max(0, -y0), max(0, x0 + side - width), max(0, y0 + side - height)]
    inside = image[y0 + pad[1] : y0 + side - pad[3], x0 + pad[0] : x0 + side - pad[2]]
    square = cv2.copyMakeBorder(inside, pad[1], pad[3], pad[0], pad[2], cv2.BORDER_CONSTANT)
    crop = cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    moved = (points.astype(np.float64) - [x0, y0] + 0.5) * SIZE / side - 0.5
    return data.tobytes(), {
        "filename": f"{subset}/{name}.jpg",
        "subset": subset,
        "name": name,
        "identity": name.rpartition("_")[0],  # number of the photograph
        "landmarks_image": points,
        "landmarks_crop": moved.astype(np.float32),
        "bbox_image": box,
        "crop_x0_y0_side": np.array([x0, y0, side], np.int32),
        "image_hw": np.array([height, width], np.int32),
        "pad_ltrb": np.array(pad, np.int32),
    }
