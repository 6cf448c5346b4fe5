"""Faults that a long training must survive, made on purpose: kills, kills inside saves, a full disk, signals.

Each function trains until it is done, in spite of the faults, and returns the folder, to be compared with that of an
uninterrupted run.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from common.files.checkpoint_io import WholeCheckpoints
from common.files.checksum import is_sound
from common.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
# More epochs than twenty kills let pass: a kill that comes too late would show nothing, and is reported.
SMALL = {
    "awing": "--data.crop.size 64 --model.width 16 --model.depth 2 --trainer.max_epochs 48",
    "musica": "--data.crop.size 64 --model.net.units 16 --model.train.ema 0.9 --trainer.max_epochs 96",
    "spiga": "--data.crop.size 64 --model.stacks 1 --model.width 32 --model.depth 2 --model.graph.steps 2 "
    "--trainer.max_epochs 48 --model.stage_epochs=[12,16]",
}
PATIENCE = 1200.0  # seconds
FACES = ROOT / ".cache" / "faces"  # drawn once for all runs


def command(method: str, run: Path, *more: str) -> list[str]:
    """Return the words of a small deterministic training."""
    return ["fit", "--config", "smoke", *SMALL[method].split(), "--data.train_count", "16", "--data.val_count", "8",
            "--data.batch_size", "8", "--data.num_workers", "1", "--data.synthetic.store", str(FACES),
            "--trainer.accelerator", "cpu", "--trainer.deterministic", "true", "--track", "false",
            "--trainer.enable_progress_bar", "false", "--trainer.num_sanity_val_steps", "0", "--run", str(run),
            *more]  # fmt: skip


def start(method: str, words: list[str], said: Path) -> ForkServerProcess:
    """Start a training in its own process, forked from one that has imported the methods; `said` gets what it says."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["common.training.cli", *(f"{name}.module" for name in SMALL)])
    process = context.Process(target=_train, args=(method, words, said))
    process.start()
    return process


def _train(method: str, words: list[str], said: Path) -> None:
    with said.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(1)
    METHODS[method].main()(words)


def ended(process: ForkServerProcess, said: Path) -> int | None:
    """Wait for the end of a training and return its exit code."""
    process.join(PATIENCE)
    assert process.exitcode is not None, said.read_text()[-2000:]
    return process.exitcode


def trained(method: str, run: Path, *more: str) -> Path:
    """Train a method, or go on, to its end, which must succeed; return the run."""
    said = run.with_suffix(".txt")
    assert ended(start(method, command(method, run, *more), said), said) == 0, said.read_text()[-2000:]
    return run


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def written(run: Path) -> int:
    """Return when the run's last checkpoint was written; 0 for never."""
    return last(run).stat().st_mtime_ns if last(run).is_file() else 0


def wait_for_save(process: ForkServerProcess, run: Path, before: int = 0) -> None:
    """Wait until a training has written a checkpoint, which it must."""
    while written(run) == before:
        assert process.is_alive(), run.with_suffix(".txt").read_text()[-2000:]
        time.sleep(0.005)


def seconds_an_epoch(run: Path) -> float:
    found = json.loads((run / "results.json").read_text())["fit"]
    return float(found["seconds"] / found["epochs"])


def resume_words(run: Path) -> list[str]:
    return ["--resume", "true"] if last(run).is_file() else ["--overwrite"]


def killed_at_random(method: str, run: Path, kills: int, epoch: float, seed: int = 0) -> None:
    """Train a method to its end; the process is killed `kills` times.

    One kill of six falls in the start, the others within an epoch and a half after the process's first checkpoint.

    Args:
        method: name.
        run: folder.
        kills: number.
        epoch: seconds that one takes.
        seed: of the times.
    """
    rng = random.Random(seed)
    for _ in range(kills):
        process = start(method, command(method, run, *resume_words(run)), run.with_suffix(".txt"))
        if rng.random() >= 1 / 6:
            wait_for_save(process, run, written(run))
        time.sleep(rng.uniform(0, 1.5 * epoch))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the training had ended before it was killed"
        assert not last(run).is_file() or is_sound(last(run))
    trained(method, run, *resume_words(run))


def told_to_end(method: str, run: Path) -> int | None:
    """Send SIGTERM in the middle of the training, then train to the end; return the exit code of the first part."""
    said = run.with_suffix(".txt")
    process = start(method, command(method, run), said)
    wait_for_save(process, run)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    code = ended(process, said)
    trained(method, run, "--resume", "true")
    return code


def killed_inside_saves(path: Path, kills: int, megabytes: int, seed: int = 0) -> int:
    """Kill processes that write one checkpoint again and again; return how many left no sound one."""
    rng, broken = random.Random(seed), 0
    content = {"state_dict": {"weight": torch.zeros(megabytes << 18)}, "epoch": 0}
    WholeCheckpoints().save_checkpoint(content, path)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            while True:
                WholeCheckpoints().save_checkpoint(content, path)
        time.sleep(rng.uniform(0.0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        broken += is_sound(path) is not True
    WholeCheckpoints().save_checkpoint(content, path)
    return broken


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a file system of a few megabytes; answer whether that was allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def curve(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's one curve, without the speed, which no two runs share."""
    (path,) = run.glob("logs/*/metrics.csv")
    with path.open(newline="") as file:
        return [{key: row[key] for key in row if "per_second" not in key} for row in csv.DictReader(file)]


def differences(run: Path, whole: Path) -> list[str]:
    """Return in what two finished runs differ: rows of the curve, tensors of both checkpoints, files left behind."""
    found = ["curve"] if curve(run) != curve(whole) else []
    for name in ("last", "best"):
        one, other = (torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for folder in (run, whole))
        found += [f"{name} epoch"] if one["epoch"] != other["epoch"] else []
        found += [
            f"{name} {key}"
            for key, value in other["state_dict"].items()
            if not torch.equal(one["state_dict"][key], value)
        ]
    return found + [str(path) for path in run.rglob("*.part")]
