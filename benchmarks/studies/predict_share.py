"""Where the time of `common.predict` goes on many photographs: detector and network, reading, drawing and writing.

    python -m benchmarks.studies.predict_share FOLDER --detector YUNET.onnx --document docs/performance.md

Each step of what the command does is timed by itself, on one thread, once the graph of the default path is there.
Seconds are of the processor, so that other processes of the machine hardly count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch

from benchmarks.readme import fill, table
from common.errors import LabError, check_range, command
from common.files.provenance import machine
from common.methods import default_weights
from common.predict import parser as predict_parser
from common.prediction.detection import Detections
from common.prediction.faces import Face
from common.prediction.inference import Predictor
from common.prediction.job import Job, make_finder, predict_picture
from common.prediction.results import open_results
from common.prediction.sources import expand
from common.prediction.video import is_video

BEGIN, END = "<!-- predict-share: begin -->", "<!-- predict-share: end -->"
GOAL = 85.0  # percent of the time that detector and network should take
Given = ParamSpec("Given")
Found = TypeVar("Found")
STEPS = ("detector", "network", "reading", "drawing and writing", "rest")


@dataclass
class TimedJob(Job):
    """A job that knows what each step of a picture took.

    Attributes:
        begun: when the picture was begun, processor's seconds.
        seconds: step -> seconds.
    """

    begun: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.predictor.fast = self.timed("network", self.predictor.fast)  # type: ignore[assignment]

    def timed(self, step: str, call: Callable[Given, Found]) -> Callable[Given, Found]:
        """Return a call that counts its time to a step."""

        def run(*given: Given.args, **more: Given.kwargs) -> Found:
            start = time.process_time()
            found = call(*given, **more)
            self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - start
            return found

        return run

    def detect(self, picture: Path, image: np.ndarray) -> Detections:
        """Return the faces' boxes; what came before is the reading."""
        self.seconds["reading"] = time.process_time() - self.begun
        return self.timed("detector", super().detect)(picture, image)

    def write(self, picture: Path, name: str, image: np.ndarray, faces: list[Face]) -> None:
        """Draw the faces and write the picture."""
        self.timed("drawing and writing", super().write)(picture, name, image, faces)


def measure(job: TimedJob, pictures: Sequence[Path]) -> tuple[np.ndarray, int]:
    """Return the seconds (N, STEPS) of the pictures, and how many faces they hold."""
    rows, faces = [], 0
    for number, picture in enumerate(pictures):
        job.seconds, job.begun = {}, time.process_time()
        faces += predict_picture(job, picture, f"{picture.stem}-{number}")
        whole = time.process_time() - job.begun
        rows.append([job.seconds.get(step, 0.0) for step in STEPS[:-1]])
        rows[-1].append(whole - sum(rows[-1]))
    return np.array(rows), faces


def described(seconds: np.ndarray, faces: int) -> str:
    """Return the table of the seconds (N, STEPS) of pictures with so many faces, and whether the goal is reached."""
    whole = seconds.sum()
    rows = [
        [step, f"{1000 * np.median(took):.1f}", f"{100 * took.sum() / whole:.1f}"]
        for step, took in zip(STEPS, seconds.T, strict=True)
    ]
    share = 100 * seconds[:, :2].sum() / whole
    card = machine()
    return (
        f"{table(['step', 'ms a photograph, median', 'percent of the time'], rows, 'lrr')}\n\n"
        f"Detector and network take {share:.0f} % of the processor's time (goal {GOAL:g}, "
        f"{'reached' if share >= GOAL else 'not reached'}); {len(seconds) / whole:.1f} photographs a second: "
        f"{len(seconds)} photographs, {faces} faces, {card['device']}, {card['threads']} thread."
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.predict_share", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="photographs; taken again until there are enough")
    parser.add_argument("--photographs", type=int, default=300)
    parser.add_argument("--detector", help="as of common.predict")
    parser.add_argument("--weights", type=Path, help="default: the embedded weights of common.predict")
    parser.add_argument("--document", type=Path, help=f"write the table between {BEGIN} and {END} of this file")
    options = parser.parse_args(arguments)
    check_range("--photographs", options.photographs, "[1, inf)")
    found = [path for path in expand(options.folders) if not is_video(path)]
    if not found:
        raise LabError(f"{options.folders[0]}: there is no photograph in it")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        words = [*map(str, found), "--out", folder, *(["--detector", options.detector] if options.detector else [])]
        chosen = predict_parser().parse_args(words)
        predictor = Predictor.load(options.weights or default_weights())
        predictor.fast.prepare()
        results = open_results(chosen.format, chosen.out, {}, predictor.scheme.names, True)
        job = TimedJob(predictor, make_finder(chosen), results, chosen)
        measure(job, found[:1])  # what the first picture alone takes
        body = described(*measure(job, list(islice(cycle(found), options.photographs))))
        results.close()
    print(body)
    if options.document is not None:
        fill(options.document, BEGIN, END, body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
