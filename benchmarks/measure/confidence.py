"""What a file of weights predicts from a detector's boxes, and what its scores are worth.

    python -m benchmarks confidence awing/weights/helen_ema.safetensors --detector yunet.onnx --write

From training faces: the map from the detector's box to the landmarks' tight box. From validation faces, as they are and
made harder (covered, blurred, small, with a wrong box): the maps from scores to expected errors. Both go into the
file's metadata with --write; its numbers stay as they are. The test faces are never looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from benchmarks.measure.robustness import PICTURE_KINDS, disturb_box, risk_coverage, stream
from benchmarks.readme import table
from common.data.readers.crops import PreparedCrops
from common.errors import LabError
from common.files.checkpoints import read_state_dict, save_safetensors
from common.metrics.functional import normaliser, point_errors
from common.packing import describe, read_metadata
from common.prediction.confidence import LARGEST_TRUSTED, Confidence
from common.prediction.detection import BoxMap, Detections, Detector, overlap
from common.prediction.detector_file import open_detector
from common.prediction.inference import Predictor
from common.types import FaceSample

HARDER = {"occlusion": (0.03, 0.12), "blur": (0.01, 0.03), "small": (30.0, 75.0), "shift": (0.05, 0.2)}  # least, most
OVERLAP = 0.2  # least intersection over union of a detection with the face that it is taken for
FOLDS = 5
COVERAGES = (100, 90, 75, 50)  # percent


@dataclass(frozen=True)
class Scored:
    """What a method predicts for faces.

    Attributes:
        errors: (N, L) percent of the distance of the outer eye corners.
        score: (N, L) of the method.
    """

    errors: np.ndarray
    score: np.ndarray

    def take(self, rows: np.ndarray) -> Scored:
        """Return the scores of these faces."""
        return Scored(self.errors[rows], self.score[rows])


def fitted(plain: Scored, hard: Scored) -> Confidence:
    """Return the maps of two sets of faces together."""
    score, errors = (np.concatenate(pair) for pair in ((plain.score, hard.score), (plain.errors, hard.errors)))
    return Confidence.fit(score, errors)


def detected(detector: Detector, faces: PreparedCrops) -> np.ndarray:
    """Return the detector's box of each face (N, 4), NaN where it finds none there."""
    boxes = np.full((len(faces), 4), np.nan)
    for row in range(len(faces)):
        sample = faces[row]
        found = detector.detect(sample.image).boxes
        common = overlap(sample.box, found) if len(found) else np.zeros(0)
        if common.max(initial=0) > OVERLAP:
            boxes[row] = found[common.argmax()]
    return boxes


def fit_box_map(detector: Detector, faces: PreparedCrops) -> BoxMap:
    """Return the map from a detector's boxes to the landmarks' tight boxes, of the faces that it finds."""
    boxes = detected(detector, faces)
    known = np.isfinite(boxes).all(axis=1)
    found = BoxMap.fit(boxes[known], np.asarray(faces.boxes, float)[known])
    return BoxMap(*(round(value, 4) for value in dataclasses.astuple(found)))


def harder(sample: FaceSample, row: int) -> FaceSample:
    """Return a face under a disturbance that is drawn from its row; a wrong box goes beside the right picture."""
    kind = list(HARDER)[row % len(HARDER)]
    rng = stream(0, row, kind)
    level = float(rng.uniform(*HARDER[kind]))
    if kind == "shift":
        return disturb_box(sample, kind, level, rng)
    return replace(sample, image=PICTURE_KINDS[kind](sample.image, level, rng))


def scored(predictor: Predictor, samples: list[FaceSample]) -> Scored:
    """Return what a method predicts for faces in their own boxes.

    Raises:
        LabError: the method gives no score.
    """
    errors, scores = [], []
    for sample in samples:
        found = predictor(sample.image, sample.box[None])
        if found.score is None:
            raise LabError(f"method {predictor.task.METHOD} with these settings gives no score; nothing to fit")
        truth = sample.points[None, :, :2]
        norm = normaliser("corners", truth, predictor.scheme)
        points = found.points[..., :2].double().cpu().numpy()
        errors.append(point_errors(points, truth, norm)[0])
        scores.append(found.score[0].double().cpu().numpy())
    return Scored(np.stack(errors), np.stack(scores))


def out_of_fold(plain: Scored, hard: Scored) -> np.ndarray:
    """Return expected errors of the plain faces (N,) by maps that were fitted without the face itself."""
    expected = np.zeros(len(plain.errors))
    fold = np.arange(len(expected)) % FOLDS
    for k in range(FOLDS):
        kept = fold != k
        found = fitted(plain.take(kept), hard.take(kept))
        expected[~kept] = found.expected(plain.score[~kept])[0]
    return expected


def report(given: np.ndarray, plain: Scored, hard: Scored, name: str) -> str:
    """Return the section on boxes and confidence of a model card: `given` are the NMEs from the true boxes (N,)."""
    nme, expected = plain.errors.mean(axis=1), out_of_fold(plain, hard)
    order = np.argsort(expected, kind="stable")
    surest = {share: nme[order[: round(len(order) * share / 100)]].mean() for share in COVERAGES}
    rows = [["the landmarks' box", len(given), f"{given.mean():.2f}"], [f"{name}'s box", len(nme), f"{nme.mean():.2f}"]]
    boxes = table(["validation faces by", "faces", "NME, percent"], rows, "lrr")
    cover = table(["surest faces", *(f"{share} %" for share in COVERAGES)],
                  [["NME, percent", *(f"{value:.2f}" for value in surest.values())]])  # fmt: skip
    area = risk_coverage(nme, -expected)["aurc"]
    ideal = risk_coverage(nme, -nme)["aurc"]
    bad = hard.errors.mean(axis=1) > LARGEST_TRUSTED
    warned = fitted(plain, hard).expected(hard.score)[0] > LARGEST_TRUSTED
    sentences = [
        f"Expected errors are fitted to the scores of {len(nme)} validation faces from {name}'s boxes, as they are and "
        "made harder.",
        f"Five-fold out of sample on the plain faces: mean {expected.mean():.2f} % against {nme.mean():.2f} % found, "
        f"rank correlation {spearmanr(expected, nme).statistic:.2f},",
        f"area under risk-coverage {area:.2f} (chance {nme.mean():.2f}, perfect {ideal:.2f}).",
        f"Of the {int(bad.sum())} harder faces with more than {LARGEST_TRUSTED:g} % error, {int((warned & bad).sum())} "
        f"are warned of, and {int((warned & ~bad).sum())} of the {int((~bad).sum())} others.",
    ]
    return "\n".join([boxes, "", *sentences, "", cover])


def draw(path: Path, nme: np.ndarray, expected: np.ndarray, title: str) -> None:
    """Write the risk-coverage curve of faces with these NMEs and expected errors (N,) as a picture."""
    figure = Figure(figsize=(5, 3.2), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, key in (("by expected error", -expected), ("perfect order", -nme)):
        found = risk_coverage(nme, key)
        axes.plot([100 * share for share in found["coverage"]], found["nme"], label=label)
    axes.axhline(nme.mean(), color="0.6", linestyle=":", label="all faces")
    axes.set(xlabel="surest faces, percent", ylabel="NME, percent", xlim=(0, 100), ylim=(0, None), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})


def store(path: Path, confidence: Confidence, name: str, box_map: BoxMap) -> None:
    """Write the maps into a file's metadata; its tensors and all other entries stay as they are."""
    found = describe(path)
    known = replace(found, confidence=confidence, box_maps={**found.box_maps, name: box_map})
    save_safetensors(read_state_dict(path), path, read_metadata(path) | known.metadata(), overwrite=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("weights", type=Path, help="packed .safetensors file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/crops_300w"), help="folder of prepared crops")
    parser.add_argument("--detector", help="as for python -m common.predict: a YuNet file, or dlib")
    parser.add_argument("--picture", type=Path, help="write the risk-coverage curve to this picture")
    parser.add_argument("--write", action="store_true", help="write the maps into the file's metadata")


@torch.inference_mode()
def main(options: argparse.Namespace) -> None:
    """Fit the maps, print the section of the model card, and store the maps.

    Raises:
        LabError: the weights, the detector or the data cannot be read, or the method gives no score.
    """
    predictor, detector = Predictor.load(options.weights), open_detector(options.detector)
    train, val = (PreparedCrops(str(options.data), split, predictor.scheme.name) for split in ("train", "val"))
    box_map = fit_box_map(detector, train)
    boxes = detected(detector, val)
    known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    mapped = box_map(Detections.of(boxes[known], np.zeros(len(known)))).boxes.astype(np.float32)
    samples = [val[row] for row in known.tolist()]
    given = scored(predictor, samples).errors.mean(axis=1)
    samples = [replace(sample, box=box) for sample, box in zip(samples, mapped, strict=True)]
    plain = scored(predictor, samples)
    hard = scored(predictor, [harder(sample, row) for row, sample in enumerate(samples)])
    confidence = fitted(plain, hard)
    print(f"{detector.name}: {len(known)} of {len(val)} validation faces found; from its box: {box_map}\n")
    print(report(given, plain, hard, {"yunet": "YuNet"}.get(detector.name, detector.name)))
    if options.picture is not None:
        draw(options.picture, plain.errors.mean(axis=1), out_of_fold(plain, hard), predictor.task.METHOD)
    if options.write:
        store(options.weights, confidence, detector.name, box_map)
