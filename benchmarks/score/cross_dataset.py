"""`python -m benchmarks cross WEIGHTS`: a trained model on a data set that it was not trained on.

    python -m benchmarks cross runs/benchmark/awing/synthetic/smoke/0/checkpoints/last.ckpt \\
        --dataset crops --root ../shared/data/crops_300w --name helen

The model sees each test face as it would see a photograph: its own crop about the data set's box. Points of another
scheme go through the scheme map, whose own error stands beside the figures. The figures become a row of the report
among the models that were trained on that data, marked by what their protocol cards do not share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.record import append_record
from benchmarks.score.cross_scheme import source_scheme, through
from benchmarks.score.formats import Faces
from benchmarks.score.score import Task, all_scores, card, floor_of, intervals, map_text, record
from benchmarks.score.text import figures_text, matrix_text, protocols_text
from common.data.base import FaceDataset
from common.data.datamodule import DATASETS, FaceDataModule
from common.data.options import SyntheticConfig
from common.errors import check_range
from common.evaluation import evaluate
from common.files.provenance import commit, machine
from common.files.recipes import read_recipe
from common.methods import METHODS
from common.metrics.protocols import PROTOCOLS, Plain
from common.prediction.inference import Predictor
from common.schemes import SCHEMES

DIGITS = 3  # printed after the point


def trained_on(weights: Path, config: Path | None) -> str:
    """Return the data set that a run was trained on by its configuration, "not stated" where there is none."""
    path = config or weights.resolve().parents[1] / "config.yaml"
    if not path.is_file():
        return "not stated"
    data = read_recipe(path).get("data") or {}
    return str(data.get("dataset", "not stated"))


def predict_faces(predictor: Predictor, faces: FaceDataset, count: int | None = None) -> tuple[np.ndarray, Faces]:
    """Return the model's points (N, L, 2) in image pixels, in its own scheme, and the truth of the same faces."""
    found = evaluate(predictor, faces, count=count)
    assert found.box is not None  # of a data set's faces
    box = np.concatenate([found.box[:, :2], found.box[:, 2:] - found.box[:, :2]], axis=1).astype(np.float64)
    subsets = {name: rows for name, rows in found.subsets.items() if rows.any()}
    truth = found.annotated_truth[..., :2]
    return found.points[..., :2], Faces(Path(faces.name), list(found.ids), truth, box, found.visible * 1.0, subsets)


def make_task(predictor: Predictor, faces: FaceDataset, name: str, count: int | None) -> Task:
    """Return predictions beside their truth, mapped where the schemes differ.

    Raises:
        LabError: no map between the schemes is known.
    """
    found, truth = predict_faces(predictor, faces, count)
    source = None
    if found.shape[1] != faces.scheme.num_points:
        source = source_scheme(found.shape[1], faces.scheme, predictor.scheme.name)
        found = through(found, source, faces.scheme)
    return Task(found, truth, faces.scheme, name, truth.subsets, source)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("weights", type=Path, help=".ckpt of a run, or .safetensors")
    parser.add_argument("--weights-config", type=Path, help="config.yaml of the run, if it is not next to it")
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS), help="reader of the data set")
    parser.add_argument("--root", help="folder of the data set")
    parser.add_argument("--scheme", default="ibug68", choices=sorted(SCHEMES), help="of the data set")
    parser.add_argument("--eval-split", help="where the data set has several test lists")
    parser.add_argument("--box", default="dataset", help="as --data.box: dataset, gt, detector or file:PATH")
    parser.add_argument("--name", help="of the data set in tables; default the reader's")
    parser.add_argument("--faces", type=int, help="first faces of the test set only")
    parser.add_argument("--protocol", default="canonical", choices=sorted(PROTOCOLS), help="how it is scored")
    parser.add_argument("--all", action="store_true", help="print the score by every protocol and normaliser; no row")
    parser.add_argument("--title", help="name of the row; default the method's, and what it was trained on")
    parser.add_argument("--level", type=float, default=95.0, help="of the intervals, percent")
    parser.add_argument("--record", type=Path, metavar="FOLDER", default=Path("runs/benchmark"),
                        help="folder of the report that gets the row")  # fmt: skip


def _facts(predictor: Predictor, data: FaceDataModule, options: argparse.Namespace) -> dict[str, Plain]:
    return {
        "box": data.crop_words(),
        "decode": str(getattr(predictor.task, "decode", "of the method")), "flip": "none",
        "checkpoint": options.weights.name, "trained on": trained_on(options.weights, options.weights_config),
    }  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Score weights on a data set, print the figures and add them to the report.

    Raises:
        LabError: weights or data set cannot be read, or no map between their schemes is known.
    """
    check_range("--faces", options.faces, "[1, inf)")
    check_range("--level", options.level, "(0, 100)")
    predictor = Predictor.load(options.weights, options.weights_config)
    drawn = SyntheticConfig(test_count=options.faces) if options.faces else SyntheticConfig()
    data = FaceDataModule(options.dataset, options.root, options.scheme, predictor.crop, eval_split=options.eval_split,
                          synthetic=drawn, box=options.box)  # fmt: skip
    faces = data.cropped("test").faces
    task = make_task(predictor, faces, options.name or options.dataset, options.faces)
    if options.all:
        scores = all_scores(task)
        print(f"{protocols_text(scores, DIGITS)}\n\n{matrix_text(scores, DIGITS)}")
        return
    found = task.evaluate(options.protocol)
    facts = _facts(predictor, data, options)
    floor = floor_of(task, found["norm"])
    if floor is not None:
        facts |= floor.facts()
    face = card(task, options.protocol, found, facts)
    print(figures_text(found, face, intervals(found, task, options.level), options.level, DIGITS))
    if floor is not None:
        print("\n" + map_text(task, floor, found["nme"]))
    method = predictor.task.METHOD
    title = METHODS[method].title if method in METHODS else method
    options.official = None
    options.title = options.title or f"{title}, trained on {facts['trained on']}"
    origin = {"method": method, "recipe": str(options.weights), "commit": commit(), "device": machine()["device"]}
    append_record(options.record / "records.jsonl", record(task, options, found, face).model_copy(update=origin))
    print(f"\nrecorded in {options.record / 'records.jsonl'}; `python -m benchmarks report` shows it")
