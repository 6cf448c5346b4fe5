"""Extract the golden numbers from the complete recordings, which are kept outside of the repository, or check them.

python -m tests.golden.make FOLDER            # writes the .npz files beside this one
python -m tests.golden.make FOLDER --check    # compares them with what is there instead
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.values import AXES, FOLDER, SET, load

Arrays = dict[str, np.ndarray]
PARTS = ("left_eye", "right_eye", "nose", "mouth")


def read(path: Path, keys: Iterable[str] = ()) -> Arrays:
    """Return the named arrays of a file, or all."""
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in keys or file.files}


def table(entries: Iterable[tuple[str, Sequence[int], float]]) -> Arrays:
    """Return names, shapes and factors of parameters as arrays."""
    rows = list(entries)
    padded = [[*shape, *[-1] * (AXES - len(shape))] for _, shape, _ in rows]
    return {
        "names": np.array([name for name, _, _ in rows]),
        "shapes": np.array(padded, np.int32),
        "factors": np.array([factor for _, _, factor in rows], np.float32),
    }


def awing(source: Path) -> Arrays:
    """98 points, four stacks: the maps and points of the first picture; a crop; points back in the picture."""
    about = json.loads((source / "keys.json").read_text())["wflw98_4hg"]
    found = table((name, shape, about["scale"].get(name, 1)) for name, shape in about["keys"].items())
    whole, others = read(source / "golden.npz"), read(source / "ops.npz")
    for stack in range(4):
        for key in (f"hm{stack}_sub", f"preds{stack}", f"preds{stack}_gap"):
            found[key] = whole[f"m98_{key}"][:1]
    found["hm3_boundary"] = whole["m98_hm3_boundary"][:1]
    return found | {
        key: others[key]
        for key in ("crop0_image", "crop0_landmarks", "crop3_image", "crop3_landmarks",
                    "dec_preds", "dec_center", "dec_scale", "dec_preds_orig_untruncated")
    }  # fmt: skip


def spiga(source: Path) -> Arrays:
    """98 points: what does not follow from the mean face: crops and pose of three boxes, pose of a network input."""
    about = json.loads((source / "keys.json").read_text())["configs"]["w98"]
    filled = ((name, shape) for name, shape in about["keys"].items() if name not in about["constant"])
    found = table((name, shape, about["scale"].get(name, 1)) for name, shape in filled)
    found |= {SET + name: np.array(value, np.float32) for name, value in about["set"].items()}
    whole = read(source / "golden.npz")
    found |= {f"theta_S{i}": whole[f"w98_theta_S{i}"] for i in range(3)}
    found |= {"pose": whole["w98_pose"][:1], "e2e_headpose": whole["w98_e2e_headpose"]}
    return found | {key: whole[key] for key in ("crop_bbox_in", "crop_bbox_out")}


def dpr(source: Path) -> Arrays:
    """The local regression with filled weights, alone."""
    keys = json.loads((source / "98_points_local_regress_keys.json").read_text())["keys"]
    found = table((name, shape, 1e-4 if "_loc.4." in name else 1) for name, shape in keys.items())
    return found | read(source / "golden.npz", (f"det_fill_local_out_{part}" for part in PARTS))


def musica(source: Path) -> Arrays:
    """68 points, 19 patches, three iterations: every estimate of two faces; patches at borders; a crop."""
    name = "w300_19_3it"
    shapes = json.loads((source / "keys_variants.json").read_text())[name]
    whole = read(source / "golden.npz")
    found = table((key, shape, 1) for key, shape in shapes.items())
    keys = ["init_shape_0", "image_level_0_stats", *(f"{kind}_{t}" for kind in ("shape", "error") for t in range(3))]
    found |= {key: whole[f"{name}.{key}"] for key in keys}
    found |= {f"edge_{key}": whole[f"op_edge.{key}"] for key in ("image", "centres", "patches")}
    crop = read(source / "preprocess.npz")
    found |= {key: crop[f"over_edge.{key}"] for key in ("bbox_xyxy", "T", "min_xy", "stats")}
    return found | {"crop": crop["over_edge.crop_255"][::8, ::8]}


def sdu3d(source: Path) -> Arrays:
    """SAT2(d=3)-CAB and Hourglass2(d=4)-Resnet: maps and points of one face each; the alignment and the test crop."""
    found: Arrays = {}
    for short, folder in (("sat_cab", "sat2d3-cab"), ("hg_resnet", "hg2d4-resnet")):
        about = json.loads((source / folder / "keys.json").read_text())
        rows = []
        for name, shape, kind in about["params"]:
            factor = 1.0
            for pattern, times in about["scale"].items():
                factor *= times if fnmatchcase(name, pattern) else 1
            rows.append((name, shape, factor, kind))
        whole = read(source / folder / "golden.npz")
        part = table((name, shape, factor) for name, shape, factor, _ in rows)
        part["kinds"] = np.array([kind for *_, kind in rows])
        part |= {key: whole[key][:1] for key in ("heatmap0_sub", "heatmap_sub")}
        part |= {key: whole[key] for key in ("heatmap_full", "landmarks_0", "margin_0")}
        found |= {f"{short}.{key}": value for key, value in part.items()}
    words = json.loads((source / "helpers.json").read_text())
    found |= read(source / "helpers.npz", ("pre_label_in", "pre_label_out", "pre_crop", "t2_ibug_crop"))
    found["align"] = np.array(words["preprocess_384_matrix"])
    return found | {"cut_ibug": np.array(words["transform2"]["ibug"])}


METHODS: dict[str, Callable[[Path], Arrays]] = {
    "awing": awing, "spiga": spiga, "dpr": dpr, "musica": musica, "sdu3d": sdu3d,
}  # fmt: skip


def differences(name: str, source: Path) -> list[str]:
    """Return the arrays of a method that are not what the complete recordings hold."""
    committed, complete = load(name), METHODS[name](source / name)
    keys = sorted(set(committed) | set(complete))
    return [key for key in keys if not (key in committed and key in complete
                                        and committed[key].dtype == complete[key].dtype
                                        and np.array_equal(committed[key], complete[key]))]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; return 1 where one differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the complete recordings: one folder for each method")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args(arguments)
    status = 0
    for name, extract in METHODS.items():
        if not options.check:
            arrays: dict[str, Any] = dict(extract(options.source / name))  # Any: the stub takes the names for options
            np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
        elif wrong := differences(name, options.source):
            print(f"{name}.npz differs in {', '.join(wrong)}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
