"""Two methods on the same faces: errors with intervals, and the paired difference.

python examples/compare.py [FIRST.ckpt SECOND.ckpt]      without arguments: the embedded weights with two sizes of box
"""

import sys

import numpy as np

from common.data.synthetic.dataset import SyntheticFaces
from common.methods import default_weights
from common.metrics.functional import nme, normaliser, point_errors
from common.metrics.stats import bootstrap_interval, paired_bootstrap
from common.prediction.inference import Predictor

FACES = 24


def errors(predictor: Predictor, faces: SyntheticFaces, grow: float = 1.0) -> np.ndarray:
    """Return the NME (N,) of each face, percent of the distance of the outer eye corners."""
    found, truth = [], []
    for sample in (faces[index] for index in range(len(faces))):
        centre, half = (sample.box[:2] + sample.box[2:]) / 2, grow * (sample.box[2:] - sample.box[:2]) / 2
        box = np.concatenate([centre - half, centre + half])
        found.append(predictor(sample.image, box[None]).points[0].double().numpy())
        truth.append(sample.points)
    points = np.stack(truth)
    return nme(point_errors(np.stack(found), points, normaliser("corners", points, predictor.scheme)))


def main(arguments: list[str], count: int = FACES) -> tuple[np.ndarray, np.ndarray]:
    """Print both errors and their difference; return the errors of each face."""
    first, second = [Predictor.load(path) for path in arguments or [str(default_weights())] * 2]
    faces = SyntheticFaces(count, scheme=first.scheme.name, seed=5)
    results = errors(first, faces), errors(second, faces, grow=1.0 if arguments else 1.15)
    for name, values in zip(arguments or ["box as given", "box 15 % larger"], results, strict=True):
        low, high = bootstrap_interval(values)
        print(f"{name}: NME {values.mean():.2f} % [{low:.2f}, {high:.2f}] on {count} faces")
    paired = paired_bootstrap(*results, threshold=10)["nme"]
    print(f"difference {paired.difference:+.2f} % [{paired.low:+.2f}, {paired.high:+.2f}]: {paired.verdict}")
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
