"""Speed of training with and without each way to be faster: images a second, waiting for data, memory, the loss.

`python -m benchmarks speed --train` takes the first stage of each method's recipe, on prepared crops (`--root`) or on
synthetic faces kept in memory. All ways take turns in one run; figures are medians over the turns, of processor time on
one thread, which other programs on the machine change little. Batches are loaded in the same process, so that the
share of waiting is what workers would have to hide.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from benchmarks.measure.made_up import make_task
from benchmarks.measure.timing import peak_memory_mb
from benchmarks.readme import fill, table
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.errors import check_range
from common.files.provenance import machine
from common.files.recipes import read_recipe
from common.methods import METHODS
from common.task import LandmarkTask
from common.training.start import keep_freed_memory
from common.types import FaceBatch

WAYS = ("allocator", "channels_last", "fused", "bf16", "compile")
DEFAULTS = ("allocator", "fused")  # what `fit` does by itself; channels_last is the recipe's
GAIN = 1.02  # from which on a way is worth having
FACES = 128  # synthetic ones
BEGIN, END = "<!-- train-speed: begin -->", "<!-- train-speed: end -->"
# glibc's own limits after it has seen large blocks come and go: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD.
_GIVEN_BACK = {-3: 2**25, -1: 2**26, -2: 2**17}


def has_bf16() -> bool:
    """Return whether this processor computes in bfloat16; others imitate it and are slower for it."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.read_text().split()))


def set_allocator(keep: bool) -> None:
    """Let the C library keep freed memory, or give it back as it does by itself."""
    if keep:
        keep_freed_memory()
    else:
        library = ctypes.CDLL(None)
        for option, value in _GIVEN_BACK.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


class Training:
    """A network in training by some of WAYS.

    Args:
        task: with its first weights, which are copied.
        ways: that are used.
        batches: endless.
    """

    def __init__(self, task: LandmarkTask, ways: Collection[str], batches: Iterator[FaceBatch]) -> None:
        self.task, self.ways, self.batches = copy.deepcopy(task).train(), ways, batches
        config = replace(task.train_config, channels_last="channels_last" in ways, compile_net="compile" in ways)
        config.prepare(self.task.network(), self.task.compiled_parts())
        self.optimizer = config.make_optimizer(self.task.parameter_groups(), True if "fused" in ways else None)
        self.seconds: list[tuple[float, float]] = []  # of waiting for data, and of a whole step
        self.losses: list[float] = []

    def step(self) -> None:
        """Make a step as `fit` does, and keep its loss and what it took."""
        began = time.process_time()
        batch = next(self.batches)
        waited = time.process_time() - began
        if self.task.train_config.augment is not None:
            batch = self.task.train_config.augment(batch, torch.Generator().manual_seed(len(self.losses)))
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in self.ways):
            loss = self.task.training_loss(batch)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        self.seconds.append((waited, time.process_time() - began))

    def turn(self, steps: int) -> None:
        """Make some steps with the allocator of these ways; the first one, which fills the memory, counts nowhere."""
        set_allocator("allocator" in self.ways)
        self.step()
        self.seconds.pop()
        for _ in range(steps):
            self.step()

    def images_a_second(self, faces: int) -> float:
        """Return the median over all steps, of batches of so many faces."""
        return faces / statistics.median(whole for _, whole in self.seconds)

    def waiting(self) -> float:
        """Return the share of the steps' time in which the network had no data, percent."""
        return 100 * sum(wait for wait, _ in self.seconds) / sum(whole for _, whole in self.seconds)

    def memory_mb(self) -> float | None:
        """Return by how many MB a step's peak lies above what is held between steps."""
        set_allocator("allocator" in self.ways)
        return peak_memory_mb(self.step, "cpu")


def take_turns(trainings: Collection[Training], rounds: int, steps: int) -> None:
    """Let trainings take turns, after one step each that counts nowhere (it may compile)."""
    for number in range(rounds + 1):
        for training in trainings:
            training.turn(steps if number else 0)


def load_data(method: str, recipe: str, root: Path | None) -> FaceDataModule:
    """Return the recipe's data, on the crops of a folder or on synthetic faces, loaded by this process alone."""
    options = read_recipe(METHODS[method].file(METHODS[method].stages(recipe)[0]))["data"]
    if root is None:
        options |= {"dataset": "synthetic", "root": None, "cache": True}
    else:
        options |= {"dataset": "crops", "root": str(root)}
    kept = {name: options[name] for name in ("dataset", "root", "scheme", "batch_size", "cache") if name in options}
    synthetic = SyntheticConfig(train_count=FACES)
    return FaceDataModule(**kept, crop=CropConfig(**options["crop"]), num_workers=0, synthetic=synthetic)


def endless(data: FaceDataModule) -> Iterator[FaceBatch]:
    """Yield the batches of training, epoch after epoch."""
    loader = data.train_dataloader()
    for _ in count():
        yield from loader


def examine(method: str, options: argparse.Namespace) -> list[str]:
    """Return a line of the table: a method's speed without any way, what each gains alone, and those together."""
    data = load_data(method, options.recipe, options.root)
    data.setup("fit")
    batches, faces = endless(data), data.batch_size
    torch.manual_seed(0)
    task = make_task(method, options.recipe, stage=0)
    task.prepare(data.cropped("train"))
    ways = [way for way in options.ways if way != "bf16" or has_bf16()]
    own = [*DEFAULTS, *["channels_last"] * task.train_config.channels_last]
    plain, default = Training(task, [], batches), Training(task, own, batches)
    alone = {way: Training(task, [way], batches) for way in ways}
    take_turns([plain, default, *alone.values()], options.rounds, options.steps)
    speed = plain.images_a_second(faces)
    gain = {way: training.images_a_second(faces) / speed for way, training in alone.items()}
    best = [way for way in ways if gain[way] >= GAIN]
    again, fastest = Training(task, [], batches), Training(task, best, batches)
    take_turns([again, fastest], options.rounds, options.steps)
    gain |= {"fit": default.images_a_second(faces) / speed}
    gain |= {"best": fastest.images_a_second(faces) / again.images_a_second(faces)}
    memory = [training.memory_mb() for training in (plain, default, fastest)]
    losses = [_last_loss(task, chosen, data, options.loss_steps) for chosen in ([], own, best)]
    return [
        f"{METHODS[method].title}, {options.recipe} ({faces})", f"{speed:.1f}",
        *(f"{gain[way]:.2f}" if way in gain else "-" for way in (*WAYS, "fit", "best")), ", ".join(best) or "-",
        f"{default.waiting():.0f} %", " / ".join("-" if mb is None else f"{mb:.0f}" for mb in memory),
        " / ".join("-" if loss is None else f"{loss:.4g}" for loss in losses),
    ]  # fmt: skip


def _last_loss(task: LandmarkTask, ways: Collection[str], data: FaceDataModule, steps: int) -> float | None:
    """Return the mean loss of the last tenth of a training from the task's weights; None for no steps."""
    if not steps:
        return None
    torch.manual_seed(1)
    training = Training(task, ways, endless(data))
    for _ in range(steps):
        training.step()
    return statistics.mean(training.losses[-max(1, steps // 10) :])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `speed` that belong to `--train`."""
    group = parser.add_argument_group("--train, with --methods and --recipe (default helen)")
    group.add_argument("--train", action="store_true", help="time training with and without each way to be faster")
    group.add_argument("--root", type=Path, help="folder of prepared crops; default synthetic faces")
    group.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS[:-1]),
                       help="default all but compile, which takes a minute or more a network")  # fmt: skip
    group.add_argument("--rounds", type=int, default=5, help="turns of all ways")
    group.add_argument("--steps", type=int, default=2, help="steps a turn")
    group.add_argument("--loss-steps", type=int, default=0, help="compare the loss after so many steps, such as 200")
    group.add_argument("--document", type=Path, help=f"write the table between {BEGIN} and {END} of this file")


def main(options: argparse.Namespace, methods: Sequence[str]) -> None:
    """Time the trainings of some methods, print the table, and write it where asked."""
    check_range("--rounds", options.rounds, "[1, inf)")
    check_range("--steps", options.steps, "[1, inf)")
    check_range("--loss-steps", options.loss_steps, "[0, inf)")
    torch.set_num_threads(1)
    header = ["recipe (batch)", "images/s", *WAYS, "`fit`", "best", "which is", "waiting", "MB", "loss"]
    lines = []
    for method in methods:
        lines.append(examine(method, options))
        print(*lines[-1], sep="; ", file=sys.stderr)
    card = machine()
    body = f"{table(header, lines, 'l' + 'r' * (len(WAYS) + 3))}\n\n{card['device']}, 1 thread, torch {card['torch']}."
    print(body)
    if options.document is not None:
        fill(options.document, BEGIN, END, body)
