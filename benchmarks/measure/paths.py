"""The default path of a method on a CPU beside its network: milliseconds of both, one run, one timer, one thread.

`python -m benchmarks paths musica awing awing:wflw` times what `Predictor` runs: crops in, points out, of DPR whole
photographs; embedded weights, or made-up ones of a recipe's size. Milliseconds are of the processor, so that other
processes of the machine hardly count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.made_up import make_task
from benchmarks.measure.timing import count_parameters, median_ms
from benchmarks.readme import fill, table
from common.data.crops import CropConfig
from common.errors import LabError, check_range
from common.export.fast import opened
from common.export.method import TOLERANCE, largest_difference
from common.export.runtime import installed_runtimes
from common.export.work import Case, Run, Work
from common.files.provenance import machine
from common.methods import METHODS, method_weights
from common.prediction.inference import Predictor

BATCHES = (1, 8)
BEGIN, END = "<!-- paths: begin -->", "<!-- paths: end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("trials", nargs="+", help="METHOD, its embedded weights; or METHOD:RECIPE, such as awing:wflw")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all ways")
    parser.add_argument("--document", type=Path, help=f"write the table between {BEGIN} and {END} of this file")


def load(trial: str) -> Work[Any]:
    """Return the work of METHOD or METHOD:RECIPE.

    Raises:
        LabError: there is no such method, recipe or file of weights.
    """
    method, _, recipe = trial.partition(":")
    if not recipe:
        return Predictor.load(method_weights(method), backend="eager").work
    if method not in METHODS or recipe not in METHODS[method].recipes:
        raise LabError(f"{trial}: no such method and recipe; give METHOD or METHOD:RECIPE")
    task = make_task(method, recipe)
    return Predictor(task, CropConfig(size=task.input_size), backend="eager").work


@torch.inference_mode()
def ways_ms(work: Work[Case], files: Mapping[str, bytes], rounds: int) -> dict[int, dict[str, float]]:
    """Return batch size -> milliseconds a face of the network and of each runtime whose points are the network's.

    Args:
        work: the method with its weights.
        files: its graphs; made outside of inference mode, in which the exporter keeps the batch's size.
        rounds: turns of all ways.
    """
    found = {}
    cases = work.cases(BATCHES)
    wanted = [work.by_network(case) for case in cases]
    ways: dict[str, Run[Case]] = {name: opened(work, files, name, "float32") for name in installed_runtimes()}
    ways = {name: run for name, run in ways.items() if largest_difference(wanted, run, cases) <= TOLERANCE}
    for count, case in zip(BATCHES, cases, strict=True):
        calls = {name: partial(run, case) for name, run in {"eager": work.by_network, **ways}.items()}
        found[count] = {way: took / count for way, took in median_ms(calls, rounds, clock=time.process_time).items()}
    return found


def row(trial: str, rounds: int) -> list[str]:
    """Return a line of the table: what is timed, and for each batch size all ways and how much the fastest gains."""
    work = load(trial)
    cells = [f"{METHODS[work.task.METHOD].title}, {trial.partition(':')[2] or 'embedded'}"]
    cells.append(f"{count_parameters(work.task.network()) / 1e6:.1f} M")
    for took in ways_ms(work, work.export(), rounds).values():
        best = min(took, key=lambda way: took[way])
        cells += [f"{took[way]:.1f}" if way in took else "-" for way in ("eager", "onnx", "openvino")]
        cells.append(f"{took['eager'] / took[best]:.2f} ({best})")
    print(*cells, flush=True)
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
