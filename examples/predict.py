"""Landmarks of one face in a picture.

python examples/predict.py [PICTURE X0 Y0 X1 Y1]      without arguments: a drawn face, and how far off the prediction is
"""

import sys
from pathlib import Path

import numpy as np

from common.data.synthetic.dataset import SyntheticFaces
from common.files.images import read_image, write_image
from common.methods import default_weights
from common.prediction.inference import Predictor
from common.prediction.plotting import draw_landmarks


def main(arguments: list[str], out: Path = Path("predictions/example.png")) -> np.ndarray:
    """Predict, draw, and return the points (68, 2), image pixels."""
    predictor = Predictor.load(default_weights())
    if arguments:
        image, box = read_image(arguments[0]), np.array(arguments[1:5], float)
    else:
        sample = SyntheticFaces(1, seed=7)[0]
        image, box = sample.image, sample.box
    points = predictor(image, box[None]).points[0].numpy()
    write_image(out, draw_landmarks(image, points, predictor.scheme))
    print(f"{len(points)} landmarks, drawn in {out}")
    if not arguments:
        print(f"mean distance from the truth: {np.linalg.norm(points - sample.points, axis=1).mean():.2f} px")
    return points


if __name__ == "__main__":
    main(sys.argv[1:])
