"""Size and speed of a network: parameters, multiply-adds, milliseconds, memory. One machine, one run, medians."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.measure import train_speed
from benchmarks.measure.made_up import STEP_FACES, made_up_batch, make_task
from benchmarks.measure.timing import count_macs, count_parameters, median_ms, peak_memory_mb
from benchmarks.record import Timing, append_record
from common.errors import LabError, check_range
from common.files.provenance import commit, machine
from common.methods import METHODS
from common.task import LandmarkTask
from common.types import FaceBatch

BATCHES = (1, 8)
RECORD = "speed.jsonl"


def sizes(net: nn.Module, size: int) -> dict[str, Any]:
    """Return parameters, and MACs of one face, of a network on the CPU that takes uint8 crops (B, 3, size, size)."""
    with torch.inference_mode():
        macs = count_macs(net.eval(), torch.zeros(1, 3, size, size, dtype=torch.uint8))
    return {"parameters": count_parameters(net), "macs": macs}


def measure(
    net: nn.Module,
    size: int,
    batches: tuple[int, ...] = BATCHES,
    device: str = "cpu",
    inference: Callable[[torch.Tensor], object] | None = None,
) -> dict[str, Any]:
    """Return parameters, MACs of one face, ms a face at each batch size, and memory.

    Args:
        net: takes uint8 crops (B, 3, size, size); moved to the device and back to the CPU.
        size: side of the crops in pixels.
        batches: batch sizes that are timed.
        device: cpu or cuda.
        inference: what is timed, see `LandmarkTask.inference`; None for the network.
    """
    call = inference or net
    net.eval().to(device)
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    result: dict[str, object] = {"parameters": count_parameters(net), "macs": count_macs(net, image)}
    with torch.inference_mode():
        result["peak_memory_mb"] = peak_memory_mb(partial(call, image.repeat(max(batches), 1, 1, 1)), device)
        for batch in batches:
            faces = image.repeat(batch, 1, 1, 1)
            result[f"ms_per_face_b{batch}"] = median_ms({"net": partial(call, faces)})["net"] / batch
    net.to("cpu")
    return result | {"machine": machine(device)}


def train_step_ms(task: LandmarkTask, batch: FaceBatch, device: str = "cpu", faces: int = STEP_FACES) -> float | None:
    """Return the median time of one training step (forward, loss, backward, update) in milliseconds.

    The task's parameters are changed by it; call it after all that needs them. None where nothing is trained.
    """
    chosen = torch.arange(faces) % len(batch)
    some = batch._map(lambda tensor: tensor[chosen])
    some.ids = [batch.ids[int(k)] for k in chosen]
    some = some.to(device)
    task.to(device).train()
    groups = [{"params": group["params"]} for group in task.parameter_groups()]
    if not any(group["params"] for group in groups):
        return None
    optimizer = torch.optim.SGD(groups, lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        task.training_loss(some)["loss"].backward()
        optimizer.step()

    with torch.enable_grad():
        took = median_ms({"step": step}, rounds=3)["step"]
    task.to("cpu").eval()
    return took


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("--methods", nargs="+", help="names of methods; default all")
    parser.add_argument("--recipe", help="key in the methods' recipes; default smoke, with --train helen")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"),
                        help="auto: the CPU, and CUDA too where there is one")  # fmt: skip
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--step", action=argparse.BooleanOptionalAction, default=True, help="time a training step too")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    train_speed.add_arguments(parser)


def examine(name: str, recipe: str, batches: tuple[int, ...], device: str, step: bool) -> Timing:
    """Return the record of one method's network with the random weights of a recipe on one device.

    Timings do not depend on weights; a method whose time depends on its input (an early exit) is timed with every
    exit closed, so at its slowest.
    """

    task = make_task(name, recipe)
    found = measure(task.network(), task.input_size, batches, device, task.inference())
    if step:
        found["train_step_ms"] = train_step_ms(task, made_up_batch(task), device)
    return Timing(
        trial=f"{name}/{recipe}/{device}", method=name, title=METHODS[name].title, recipe=recipe,
        pixels=task.input_size, commit=commit(), date=datetime.now(UTC).isoformat(timespec="seconds"), **found,
    )  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Time the networks of a recipe, print and record them.

    Raises:
        LabError: there is no such method, recipe or device.
    """
    from benchmarks.readme import table
    from benchmarks.report.markdown import count, figure

    check_range("--batches", options.batches, "[1, 65536]")
    cuda = torch.cuda.is_available()
    if options.device == "cuda" and not cuda:
        raise LabError("--device cuda: no CUDA device here; use --device cpu")
    names, batches = options.methods or list(METHODS), tuple(options.batches)
    options.recipe = options.recipe or ("helen" if options.train else "smoke")
    for name in names:
        if name not in METHODS or options.recipe not in METHODS[name].recipes:
            raise LabError(f"--methods {name}: no such method with a recipe {options.recipe}")
    if options.train:
        return train_speed.main(options, names)
    for device in [options.device] if options.device != "auto" else ["cpu", *["cuda"] * cuda]:
        rows = []
        for name in names:
            found = examine(name, options.recipe, batches, device, options.step)
            append_record(options.folder / RECORD, found)
            rows.append([found.title, found.pixels, count(found.parameters, 1e6, "M"), count(found.macs, 1e9, "G", 3),
                         *(figure(getattr(found, f"ms_per_face_b{batch}")) for batch in batches),
                         figure(found.train_step_ms, 0), figure(found.peak_memory_mb, 0)])  # fmt: skip
        header = ["method", "px", "parameters", "MACs", *(f"ms/face b{b}" for b in batches), "step, ms", "MB"]
        print(table(header, rows))
        print(json.dumps(machine(device)))
