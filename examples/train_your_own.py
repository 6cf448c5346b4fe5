"""Train on annotation of one's own: write the lists, then train and test by the command line.

python examples/train_your_own.py [FOLDER]

The photographs are drawn here; put yours into the folder instead. Points that a face lacks are left out of `ids`.
"""

import json
import sys
from pathlib import Path

import cv2

from awing.cli import main as awing
from common.data.synthetic.dataset import SyntheticFaces


def write_split(folder: Path, split: str, count: int, seed: int) -> None:
    """Write photographs and `SPLIT.json`: a list of faces, each with box, ids and landmarks in image pixels."""
    faces, rows = SyntheticFaces(count, seed=seed), []
    for index in range(count):
        sample = faces[index]
        name = f"{split}_{index}.png"
        cv2.imwrite(str(folder / name), sample.image[..., ::-1])
        known = [point for point in range(68) if index or point != 5]  # the first face lacks point 5
        x0, y0, x1, y1 = sample.box.tolist()
        rows.append({
            "imgpath": name,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "ids": known,
            "landmarks": sample.points[known].tolist(),
            "visible": sample.visible[known].astype(int).tolist(),
        })  # fmt: skip
    (folder / f"{split}.json").write_text(json.dumps(rows))


def write_lists(folder: Path, train: int, test: int) -> None:
    """Write both splits and `db_info.json`, which says in which order the points come."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "db_info.json").write_text(json.dumps({"ldm_ids": list(range(68))}))
    write_split(folder, "train", train, seed=1)
    write_split(folder, "test", test, seed=2)


def main(folder: Path, train: int = 400, test: int = 40, options: tuple[str, ...] = ()) -> None:
    """Write a folder of faces, train AWing on them and test it."""
    write_lists(folder, train, test)
    data = ["--data.dataset", "json", "--data.root", str(folder), "--data.norm", "box", "--run", str(folder / "run")]
    awing(["fit", "--config", "awing/smoke.yaml", *data, *options])
    last = folder / "run" / "checkpoints" / "last.ckpt"
    awing(["test", "--config", "awing/smoke.yaml", *data, *options, "--ckpt_path", str(last)])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/your_own"))
