"""Train on landmarks of your own: a scheme in YAML, faces in CSV, then any method by its command line.

python examples/train_your_own_landmarks.py [FOLDER] [METHOD]

Twelve points on drawn faces stand for yours; docs/your_landmarks.md explains the two files.
"""

import csv
import importlib
import sys
from pathlib import Path

import cv2

from common.data.synthetic.dataset import SyntheticFaces
from common.predict import main as predict

# Name of each point, and where the drawn faces have it among their 68.
POINTS = {
    "brow_l": 19, "brow_r": 24, "eye_l_out": 36, "eye_l_in": 39, "eye_r_in": 42, "eye_r_out": 45, "nose_tip": 30,
    "mouth_l": 48, "mouth_top": 51, "mouth_r": 54, "mouth_low": 57, "chin": 8,
}  # fmt: skip
SCHEME = """\
name: face12
points: [brow_l, brow_r, eye_l_out, eye_l_in, eye_r_in, eye_r_out, nose_tip,
         mouth_l, mouth_top, mouth_r, mouth_low, chin]
mirror:
- [brow_l, brow_r]
- [eye_l_out, eye_r_out]
- [eye_l_in, eye_r_in]
- [mouth_l, mouth_r]
normaliser: [eye_l_out, eye_r_out]  # errors are divided by their distance
eyes: [[eye_l_out, eye_l_in], [eye_r_in, eye_r_out]]
curves:
  left_eye: [brow_l, eye_l_out, eye_l_in]
  right_eye: [eye_r_in, eye_r_out, brow_r]
  mouth: {points: [mouth_l, mouth_top, mouth_r, mouth_low], closed: true}
"""


def write_faces(folder: Path, train: int, test: int) -> None:
    """Write the scheme, the photographs and the table; the first face lacks its chin."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "face12.yaml").write_text(SCHEME)
    with (folder / "faces.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", *(f"{name}_{axis}" for name in POINTS for axis in "xy")])
        for split, count, seed in (("train", train, 1), ("val", test, 2), ("test", test, 3)):
            faces = SyntheticFaces(count, seed=seed)
            for index in range(count):
                sample, image = faces[index], f"{split}_{index}.png"
                cv2.imwrite(str(folder / image), sample.image[..., ::-1])
                row = [f"{value:.2f}" for point in POINTS.values() for value in sample.points[point].tolist()]
                table.writerow([image, split, *(row if index else [*row[:-2], "", ""])])


def main(folder: Path, method: str = "awing", train: int = 400, test: int = 40, options: tuple[str, ...] = ()) -> None:
    """Write a folder of faces, train a method on them, test it, and predict a photograph with it."""
    write_faces(folder, train, test)
    run = folder / method
    cli = importlib.import_module(f"{method}.cli").main
    words = ["--config", f"{method}/smoke.yaml", "--data.dataset", "csv", "--data.root", str(folder)]
    words += ["--data.scheme", str(folder / "face12.yaml"), "--run", str(run), *options]
    cli(["fit", *words])
    last = str(run / "checkpoints" / "last.ckpt")
    cli(["test", *words, "--ckpt_path", last])
    predict([str(folder / "test_1.png"), "--weights", last, "--box", "40", "40", "220", "220",
             "--out", str(run / "predicted")])  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/your_landmarks"), *sys.argv[2:3])
