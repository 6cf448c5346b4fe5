"""Genuine small files of every kind that a reader of the project takes, and what reads them."""

from __future__ import annotations

import functools
import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import scipy.io
import torch
import yaml
from safetensors.torch import save_file

from benchmarks.measure.robustness import LEVELS, read_settings
from common.data.boxes import read_boxes
from common.data.packed.chunks import HEAD, LEAVES, NAMES
from common.data.packed.layout import ABOUT as STORE
from common.data.packed.layout import FORMAT, POINTS, Packing, encode
from common.data.packed.read import PackedFaces
from common.data.readers._mat import head_pose, landmarks, read_mat
from common.data.readers._pts import read_pts
from common.data.readers.aflw19 import read_numbers
from common.data.readers.coco import CocoFaces
from common.data.readers.cofw import COFW
from common.data.readers.crops import PreparedCrops
from common.data.readers.own_faces import OwnFaces
from common.data.readers.records import RecordFaces
from common.data.readers.wflw import WFLW
from common.data.readers.youtube_faces import TABLES, YouTubeFaces
from common.files.arrays import read_array, read_weights
from common.files.checkpoints import read_state_dict
from common.files.curve import CurveFile
from common.files.images import decode_image
from common.files.recipes import read_recipe
from common.files.validation import read_json
from common.packing import describe
from common.prediction.results import CsvResults, JsonLines, JsonResults
from common.prediction.sources import expand, read_rct
from common.schemes import IBUG68, get_scheme
from common.types import FaceSample
from sdu3d.convert_mxnet import read_params
from spiga.mean_face import default_mean_face, read_mean_face, write_mean_face
from tests.benchmarks.test_broken_files import ABOUT, FACES, READINGS
from tests.reference.sdu3d_weights import write_params

Read = Callable[[Path], Any]
Files = Mapping[str, bytes]  # name -> content of a folder


def written(content: Any, name: str) -> bytes:
    """Return the bytes of JSON or YAML content."""
    text: str = (yaml.safe_dump if name.endswith(".yaml") else json.dumps)(content)
    return text.encode() + b"\n"


def _npy(array: np.ndarray, save: Callable[..., None] = np.save) -> bytes:
    stream = io.BytesIO()
    save(stream, array)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _torch(content: Any, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _zip(members: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _cofw(folder: Path) -> bytes:
    with h5py.File(folder / "seed.mat", "w") as file:
        picture = file.create_dataset("image", data=np.zeros((3, 8, 9), np.uint8))
        file.create_dataset("IsT", (1, 1), h5py.ref_dtype)[0, 0] = picture.ref
        file["phisT"], file["bboxesT"] = np.arange(87.0)[:, None], np.array([[1.0], [1], [5], [5]])
    return (folder / "seed.mat").read_bytes()


def _safetensors(folder: Path, **about: Any) -> bytes:
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    save_file({"a": torch.zeros(2, 2)}, folder / "seed.safetensors", words)
    return (folder / "seed.safetensors").read_bytes()


def _first(faces: Any) -> Any:
    return faces[0] if len(faces) else None


def read_matlab(path: Path) -> None:
    content = read_mat(path)
    landmarks(content, "pt3d_68", path, 3)
    head_pose(content, path)


def read_record(path: Path) -> None:
    path.with_suffix(".idx").write_bytes(b"0\t0\n")
    _first(RecordFaces(str(path)))


def read_any_weights(path: Path) -> None:
    describe(path, path.with_name("config.yaml"))
    read_state_dict(path)


def go_on(path: Path) -> None:
    """Open a file of predictions as a run does that goes on with it."""
    header = {"weights": "w", "method": "m", "scheme": "s"}
    kinds: dict[str, Callable[[], Any]] = {
        ".json": lambda: JsonResults(path, header), ".jsonl": lambda: JsonLines(path, header),
        ".csv": lambda: CsvResults(path, header, 1),
    }  # fmt: skip
    kinds[path.suffix]()


def read_packed(path: Path, name: str, rest: Files) -> None:
    """Read a prepared store of one face, one file of which is the changed one."""
    root = path.parent / "packed"
    for file, content in {**rest, name: path.read_bytes()}.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    found = PackedFaces(str(root), "train")
    found.shapes()
    _first(found)


def _packed() -> dict[str, Any]:
    """Return the files of a prepared store of one face: bytes, or what JSON holds."""
    picture, points = np.full((64, 64, 3), 99, np.uint8), np.arange(136, dtype=np.float32).reshape(68, 2) % 37
    sample = FaceSample(
        picture, points, np.ones(68, bool), np.array([2, 2, 50, 50], np.float32), id="ä", subsets=("s",)
    )
    row, kept = encode(sample, True, Packing(size=32, raw=True))
    data = HEAD.pack(*(len(row[name]) for name in NAMES)) + b"".join(row[name] for name in NAMES)
    split = {"folder": "train", "name": "a/train", "count": 1, "subset_names": ["s"], "dims": 2, "raw": True}
    return {
        STORE: {"format": FORMAT, "dataset": "a", "scheme": "ibug68", "room": 2.0, "splits": {"train": split}},
        "train/index.json": {"chunks": [{"filename": "chunk-0-0.bin", "chunk_size": 1}],
                             "config": {"data_format": LEAVES, "compression": None, "encryption": None}},
        "train/chunk-0-0.bin": struct.pack("<III", 1, 12, 12 + len(data)) + data,
        f"train/{POINTS}": _npy(kept[None]),
    }  # fmt: skip


SCHEME = {"name": "face4", "points": ["a", "b", "c", "d"], "mirror": [["a", "b"]], "normaliser": ["a", "b"],
          "curves": {"k": {"points": ["a", "c", "b"], "closed": True}, "l": ["a", "d"]}}  # fmt: skip
OWN = {"image": "one.png", "points": {"a": [1, 2], "b": [30, 2], "c": [3, 40], "d": [5, 6.5]}, "hidden": ["d"],
       "split": "train", "subset": ["hard"]}  # fmt: skip
TABLE = (b"image,split,a_x,a_y,b_x,b_y,c_x,c_y,d_x,d_y,d_visible,subset\n"
         b"one.png,train,1,2,30,2,3,40,5,6.5,0,hard dark\none.png,train,2,2,31,2,4,40,6,6.5,,\n")  # fmt: skip
COCO = {"images": [{"id": 1, "file_name": "one.png"}],
        "annotations": [{"image_id": 1, "keypoints": [1, 2, 2, 30, 2, 2, 3, 40, 1, 5, 6, 0], "bbox": [0, 0, 9, 9]}],
        "categories": []}  # fmt: skip
RECIPE = {"data": {"dataset": "synthetic", "crop": {"size": 64}}, "model": {"train": {"milestones": [1, 2]}}}
SETTINGS = {"stacks": 1, "loss": {"kind": "awing"}, "threshold": 10.0}
FALLING = {"scores": [0.1, 0.5], "errors": [9.0, 3.0]}
CONFIDENCE = {"face": FALLING, "point": FALLING, "shares": [1.0] * 68, "faces": 9}
CROP = {"size": 64, "box_scale": 1.2, "rotation": 0.0}
RESULTS = (b"picture,face,x0,y0,x1,y1,detector_score,expected_error,yaw,pitch,roll,x_0,y_0\n"
           b"a.jpg,0,1,1,9,9,,,,,,2,3\n")  # fmt: skip
PREDICTED = {"weights": "w", "method": "m", "scheme": "s", "frame": "f",
             "pictures": [{"picture": "a.jpg", "faces": [{"points": [[1, 2]]}]}]}  # fmt: skip


@functools.cache
def targets(folder: Path) -> dict[str, tuple[str, Any, Read]]:
    """Return kind -> name of its file, its genuine content (bytes, or what JSON or YAML holds), and what reads it.

    Args:
        folder: in which the files lie; what belongs to them is written.
    """
    picture = np.random.default_rng(0).integers(0, 255, (50, 40, 3), np.uint8)
    coded = {end: cv2.imencode(end, picture)[1].tobytes() for end in (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm")}
    (folder / "one.png").write_bytes(coded[".png"])
    (folder / "a.jpg").write_bytes(coded[".jpg"])
    (folder / "WFLW_images").mkdir(exist_ok=True)
    (folder / "WFLW_images/a.jpg").write_bytes(coded[".jpg"])
    (folder / "frames/training").mkdir(parents=True, exist_ok=True)
    (folder / "frames/training/a_1.jpg").write_bytes(coded[".jpg"])
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"crop": CROP}}))
    for name, content in (("db_info.json", ABOUT), ("test.json", FACES)):
        (folder / name).write_text(json.dumps(content))
    one = np.arange(136.0).reshape(1, 68, 2)
    crops = _npz(filename=np.array(["a.jpg"]), landmarks_crop=one, subset=np.array(["s"]))
    (folder / "z.npz").write_bytes(crops)
    (folder / "n.zip").write_bytes(_zip({"a.jpg": coded[".jpg"]}))
    points = b"version: 1\nn_points: 5\n{\n" + b"".join(b"%d.5 %d\n" % (k, 2 * k) for k in range(5)) + b"}\n"
    line = b" ".join([b"%.3f" % (k * 1.5 % 37) for k in range(196)] + b"1 1 40 45 0 1 0 0 1 0 a.jpg".split()) + b"\n"
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"pt3d_68": np.ones((3, 68)), "Pose_Para": np.ones((1, 7))}, do_compression=True)
    record = struct.pack("<IfQQ", 136, 0.0, 0, 0) + np.arange(136, dtype="<f4").tobytes() + coded[".jpg"]
    whole = {"state_dict": {"a": torch.zeros(2, 2)}, "method": "awing", "hyper_parameters": SETTINGS, "epoch": 1}
    scheme = json.dumps(SCHEME)
    write_mean_face(folder / "mean.txt", default_mean_face(IBUG68).numpy(), IBUG68, overwrite=True)
    packed = _packed()
    store = {name: part if isinstance(part, bytes) else written(part, name) for name, part in packed.items()}
    weights = {"method": "awing", "hyper_parameters": SETTINGS, "crop": CROP, "confidence": CONFIDENCE,
               "box_maps": {"yunet": {"right": 0.1, "width": 1.2}}}  # fmt: skip
    found: dict[str, tuple[str, Any, Read]] = {
        "pts": ("a.pts", points, lambda path: read_pts(path, 5)),
        "wflw": ("list.txt", line + b"9" + line, lambda path: _first(WFLW(str(folder), str(path)))),
        "mat": ("a.mat", stream.getvalue(), read_matlab),
        "cofw": ("c.mat", _cofw(folder), lambda path: _first(COFW(str(folder), str(path)))),
        "crops zip": ("z.zip", _zip({"a.jpg": coded[".jpg"]}), lambda path: _first(PreparedCrops(str(folder), "z"))),
        "crops npz": ("n.npz", crops, lambda path: _first(PreparedCrops(str(folder), "n"))),
        "own table": ("faces.csv", TABLE, lambda path: _first(OwnFaces(str(path.parent), "train", scheme))),
        "own list": ("faces.json", [OWN], lambda path: _first(OwnFaces(str(path.parent), "train", scheme))),
        "coco": ("coco.json", COCO, lambda path: _first(CocoFaces(str(folder), str(path), scheme))),
        "scheme": ("own.yaml", SCHEME, lambda path: get_scheme(str(path))),
        "recipe": ("recipe.yaml", RECIPE, read_recipe),
        "boxes": ("boxes.csv", b"id,x0,y0,x1,y1\na.jpg,1,2,3,4.5\n", read_boxes),
        "numbers": ("a.pts", b"1 2 1\n3 4.5 0\n", lambda path: read_numbers(path, 3)),
        "frames": (TABLES["train"][0], b"name" + b"," * 136 + b"\na_1.jpg," + b",".join(b"%d" % k for k in range(136)),
                   lambda path: [YouTubeFaces(str(path.parent), split) for split in ("train", "val")]),
        "levels": ("levels.yaml", yaml.safe_load(LEVELS.read_text()), read_settings),
        "curve": ("metrics.csv", b"epoch,step,val/nme\n0,3,\n0,4,5.5\n", lambda path: CurveFile(path, 9)),
        "mean face": ("mean.txt", (folder / "mean.txt").read_bytes(), lambda path: read_mean_face(path, IBUG68)),
        "record": ("a.rec", struct.pack("<II", 0xCED7230A, len(record)) + record, read_record),
        "box": ("a.rct", b"1 2 30.5 40\n", read_rct),
        "list": ("list.lst", b"one.png\na/b.jpg\n", lambda path: expand([], path)),
        "npy": ("a.npy", _npy(np.ones((4, 2))), read_array),
        "npz weights": ("w.npz", _npz(a=np.ones((2, 2)), b=np.arange(3)), read_weights),
        "npz points": ("p.npz", _npz(ids=np.array(["a", "b"]), points=np.ones((2, 3, 2)), subset_a=np.array([0])),
                       READINGS["predictions"][3]),
        "params": ("a.params", write_params({"arg:a": np.ones((2, 3), np.float32)}), read_params),
        "checkpoint": ("a.ckpt", _torch(whole, True), read_any_weights),
        "old checkpoint": ("b.ckpt", _torch(whole, False), read_any_weights),
        "safetensors": ("a.safetensors", _safetensors(folder, **weights), read_any_weights),
        "safetensors about": ("b.json", weights, lambda path: read_about(path, folder)),
        "checkpoint about": ("c.json", whole | {"state_dict": {}}, lambda path: read_content(path, folder)),
        "results json": ("r.json", PREDICTED, go_on),
        "results jsonl": ("r.jsonl", json.dumps(PREDICTED | {"pictures": 0}).encode() + b'\n{"picture": "a"}\n', go_on),
        "results csv": ("r.csv", RESULTS, go_on),
    }  # fmt: skip
    for name, part in packed.items():
        reader = functools.partial(read_packed, name=name, rest=store)
        found[f"packed {name}"] = (f"p{Path(name).suffix}", part, reader)
    for end, data in coded.items():
        found[f"picture {end}"] = (f"a{end}", data, lambda path: decode_image(path.read_bytes(), str(path)))
    return found | {name: (file, content, read) for name, (file, content, _, read) in READINGS.items()}


def read_about(path: Path, folder: Path) -> None:
    """Put JSON content into the metadata of a file of weights, and read that."""
    content = read_json(path)
    target = folder / "about.safetensors"
    target.write_bytes(_safetensors(folder, **content) if isinstance(content, dict) else b"")
    describe(target)


def read_content(path: Path, folder: Path) -> None:
    """Put JSON content into a checkpoint, and read that."""
    torch.save(read_json(path), folder / "content.ckpt")
    read_any_weights(folder / "content.ckpt")
