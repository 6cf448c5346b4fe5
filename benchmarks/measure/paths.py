"""The default path of a method on a CPU beside its network: milliseconds of both, one run, one timer, one thread.

`python -m benchmarks paths musica awing awing:wflw` times what `Predictor` runs, crops in, points out: embedded
weights, or made-up ones of a recipe's size.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure.made_up import make_task
from benchmarks.measure.timing import count_parameters, median_ms
from benchmarks.readme import fill, table
from common.data.crops import CropConfig
from common.errors import LabError, check_range
from common.export.method import TOLERANCE, check_batches, export_task, largest_difference
from common.export.runtime import GraphRunner, installed_runtimes, open_session
from common.files.provenance import machine
from common.methods import METHODS, method_weights
from common.prediction.inference import Predictor
from common.task import LandmarkTask

BATCHES = (1, 8)
BEGIN, END = "<!-- paths: begin -->", "<!-- paths: end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("trials", nargs="+", help="METHOD, its embedded weights; or METHOD:RECIPE, such as awing:wflw")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all ways")
    parser.add_argument("--document", type=Path, help=f"write the table between {BEGIN} and {END} of this file")


def load(trial: str) -> tuple[LandmarkTask, CropConfig]:
    """Return the task and the crop of METHOD or METHOD:RECIPE.

    Raises:
        LabError: there is no such method, recipe or file of weights.
    """
    method, _, recipe = trial.partition(":")
    if not recipe:
        predictor = Predictor.load(method_weights(method), backend="eager")
        return predictor.task, predictor.crop
    if method not in METHODS or recipe not in METHODS[method].recipes:
        raise LabError(f"{trial}: no such method and recipe; give METHOD or METHOD:RECIPE")
    task = make_task(method, recipe).eval()
    return task, CropConfig(size=task.input_size)


@torch.inference_mode()
def ways_ms(task: LandmarkTask, crop: CropConfig, content: bytes, rounds: int) -> dict[int, dict[str, float]]:
    """Return batch size -> milliseconds a face of the network and of each runtime whose points are the network's.

    Args:
        task: the method with its weights.
        crop: that it is given.
        content: its graph; made outside of inference mode, in which the exporter keeps the batch's size.
        rounds: turns of all ways.
    """
    found = {}
    batches = check_batches(task, crop, BATCHES)
    wanted = [task.predict_batch(batch) for batch in batches]
    runners = {name: GraphRunner(open_session(content, name)) for name in installed_runtimes()}
    equal = {name: run for name, run in runners.items() if largest_difference(wanted, run, batches) <= TOLERANCE}
    for count, batch in zip(BATCHES, batches, strict=True):
        calls = {"eager": partial(task.predict_batch, batch)}
        calls |= {name: partial(runner, batch) for name, runner in equal.items()}
        found[count] = {way: took / count for way, took in median_ms(calls, rounds).items()}
    return found


def row(trial: str, rounds: int) -> list[str]:
    """Return a line of the table: what is timed, and for each batch size all ways and how much the fastest gains."""
    task, crop = load(trial)
    cells = [f"{METHODS[task.METHOD].title}, {trial.partition(':')[2] or 'embedded'}"]
    cells.append(f"{count_parameters(task.network()) / 1e6:.1f} M")
    for took in ways_ms(task, crop, export_task(task, crop), rounds).values():
        best = min(took, key=lambda way: took[way])
        cells += [f"{took[way]:.1f}" if way in took else "-" for way in ("eager", "onnx", "openvino")]
        cells.append(f"{took['eager'] / took[best]:.2f} ({best})")
    return cells


def main(options: argparse.Namespace) -> None:
    """Time the ways of some methods, print the table, and write it where asked.

    Raises:
        LabError: see `load` and `export_task`; or the document lacks its marks.
    """
    check_range("--rounds", options.rounds, "[1, inf)")
    torch.set_num_threads(1)
    header = ["network", "parameters", *(f"{way} b{count}" for count in BATCHES
                                         for way in ("eager", "onnx", "openvino", "gain"))]  # fmt: skip
    lines = [row(trial, options.rounds) for trial in options.trials]
    card = machine()
    made = table(header, lines, "lr" + "rrrl" * 2)
    body = f"{made}\n\n{card['device']}, {card['threads']} thread, torch {card['torch']}."
    print(body)
    if options.document is not None:
        fill(options.document, BEGIN, END, body)
