"""Small files in the place of what readers of the pages have: photographs, data sets, predictions, plans, weights."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from awing.network import AWingNet
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.files.checkpoints import save_safetensors
from common.files.images import write_image
from common.methods import METHODS
from common.packing import Description
from sdu3d.network import SduNet
from tests.benchmarks import made_up
from tests.benchmarks.published.test_lint import HEADER
from tests.pages import ROOT
from tests.reference.awing_weights import official_state_dict
from tests.reference.sdu3d_weights import released_arrays, write_params
from tests.test_recipes_run import SMALL, TINY


def write_tree(root: Path, parts: dict[str, int], scheme: str = "ibug68") -> None:
    """Write faces as 300W has them, NAME.png beside NAME.pts."""
    faces, index = SyntheticFaces(sum(parts.values()), scheme), 0
    for part, count in parts.items():
        for number in range(count):
            sample, file = faces[index], root / part / f"{part.replace('/', '_')}_{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_image(file, sample.image)
            rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in sample.points + 1)
            file.with_suffix(".pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
            index += 1


def write_w300(root: Path) -> None:
    write_tree(root, {"afw": 1, "helen/trainset": 2, "lfpw/trainset": 1, "helen/testset": 2, "lfpw/testset": 1,
                      "ibug": 1, "300W/01_Indoor": 1, "300W/02_Outdoor": 1})  # fmt: skip


def write_wflw(root: Path) -> None:
    lists = root / "WFLW_annotations/list_98pt_rect_attr_train_test"
    lists.mkdir(parents=True)
    for split, count, seed in (("train", 4, 1), ("test", 2, 3)):
        faces, rows = SyntheticFaces(count, "wflw98", seed=seed), []
        for index in range(count):
            sample, name = faces[index], f"{split}/{index}.png"
            (root / "WFLW_images" / split).mkdir(parents=True, exist_ok=True)
            write_image(root / "WFLW_images" / name, sample.image)
            numbers = [*sample.points.reshape(-1).round(3).tolist(), *sample.box.round().astype(int).tolist()]
            rows.append(" ".join(map(str, [*numbers, 0, 0, 0, 0, 0, 0, name])))
        (lists / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(rows) + "\n")


def write_crops(root: Path) -> None:
    root.mkdir(parents=True)
    for split, count, seed in (("train", 4, 1), ("val", 2, 2), ("test", 2, 3)):
        faces = SyntheticFaces(count, seed=seed)
        with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
            for index in range(count):
                coded = cv2.imencode(".jpg", faces[index].image[..., ::-1])[1]
                archive.writestr(f"{index}.jpg", coded.tobytes())
        points = np.stack([faces[index].points for index in range(count)])
        np.savez(root / f"{split}.npz", filename=[f"{k}.jpg" for k in range(count)], landmarks_crop=points)


TREES: dict[str, Callable[[Path], None]] = {"w300": write_w300, "wflw": write_wflw, "crops": write_crops}


def write_once(kind: str, root: str = "") -> None:
    """Write a data set where it is not there yet."""
    if not Path(root or f"data/{kind}").is_dir():
        TREES[kind](Path(root or f"data/{kind}"))


def write_pictures(folder: Path) -> None:
    """Write what a reader would have: photographs, a film, a list, predictions and truths, small weights."""
    sample = SyntheticFaces(1, seed=7)[0]
    for name in ("photo.jpg", "holiday/a.jpg", "more/b.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, sample.image)
    (folder / "pictures.txt").write_text("photo.jpg\n")
    film = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (256, 256))
    for _ in range(3):
        film.write(np.ascontiguousarray(sample.image[..., ::-1]))
    film.release()
    task_class: Any = METHODS["awing"].task_class()
    settings = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}
    task = task_class(**settings)
    about = Description("awing", settings, CropConfig(size=64))
    save_safetensors(task.state_dict(), folder / "OUT.safetensors", about.metadata())
    torch.save(official_state_dict(AWingNet(98, stacks=1, width=16, depth=2).state_dict()), folder / "WFLW_4HG.pth")
    (folder / "model-0000.params").write_bytes(write_params(released_arrays(SduNet(68, width=32, depth=2))))


def write_scores(folder: Path) -> None:
    """Write the predictions and truths of five faces in every form that the pages name."""
    faces = SyntheticFaces(5, seed=2)
    points = np.stack([faces[index].points for index in range(5)]).astype(np.float64)
    wide = np.stack([SyntheticFaces(5, "wflw98", seed=2)[index].points for index in range(5)]).astype(np.float64)
    ids = np.array([f"face{index}" for index in range(5)])
    for name, values in (("mine", points + 1), ("predictions", points + 1), ("truth", points), ("truth68", points),
                         ("mine98", wide)):  # fmt: skip
        np.savez(folder / f"{name}.npz", ids=ids, points=values)
    faces_of = [{"id": str(name), "points": row.tolist()} for name, row in zip(ids, points, strict=True)]
    for name in ("mine.json", "other.json"):
        (folder / name).write_text(json.dumps(faces_of))
    head = ",".join(["id", *(f"{axis}{index}" for index in range(68) for axis in "xy")])
    rows = [",".join([str(name), *map(str, row.reshape(-1).tolist())]) for name, row in zip(ids, points, strict=True)]
    for name in ("mine.csv", "truth.csv"):
        (folder / name).write_text("\n".join([head, *rows]) + "\n")
    names = ["helen_testset_0", "helen_testset_1", "lfpw_testset_0", "ibug_0"]
    faces_of = [{"id": name, "points": row.tolist()} for name, row in zip(names, points, strict=False)]
    (folder / "w300.json").write_text(json.dumps(faces_of))
    (folder / "figures.csv").write_text(f"{HEADER}\na,WFLW,,,10,4.36,2.84,,,,,\n")
    (folder / "pts").mkdir()
    for name, row in zip(ids, points, strict=True):
        lines = "\n".join(f"{x} {y}" for x, y in (row + 1).tolist())
        (folder / "pts" / f"{name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")


def write_plans(folder: Path) -> None:
    """Write the plans with a single small training each."""
    (folder / "benchmarks").mkdir()
    shutil.copytree(ROOT / "benchmarks/published", folder / "benchmarks/published")
    write_crops(folder / "crops")
    args = [*TINY, *SMALL["awing"], "--data.dataset", "synthetic", "--trainer.max_epochs", "1"]
    for name in ("smoke", "faces", "full", "embedded"):
        plan = yaml.safe_load((ROOT / f"benchmarks/{name}.yaml").read_text())
        small = {"dataset": "synthetic", "recipe": "smoke", "args": args}
        if name == "embedded":
            small = {"dataset": "synthetic", "recipe": "embedded", "args": ["--data.test_count", "2"]}
        (folder / f"benchmarks/{name}.yaml").write_text(
            yaml.safe_dump({**plan, "folder": f"runs/{name}", "jobs": [small]})
        )
    levels = yaml.safe_load((ROOT / "benchmarks/robustness.yaml").read_text())
    levels["kinds"] = {name: {**kind, "levels": kind["levels"][:2]} for name, kind in levels["kinds"].items()}
    levels["flicker"] = {"faces": 2, "crops": 2}
    (folder / "levels.yaml").write_text(yaml.safe_dump(levels))
    (folder / "runs").mkdir()
    shutil.move(made_up.write_benchmark(folder / "made"), folder / "runs/benchmark")
