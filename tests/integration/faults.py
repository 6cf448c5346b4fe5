"""Faults that a long training must survive, made on purpose: kills, kills inside saves, a full disk, signals.

Each function trains until it is done, in spite of the faults, and returns the folder, to be compared with that of an
uninterrupted run.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from common.files.checkpoint_io import WholeCheckpoints
from common.files.checksum import is_sound

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "awing": "--data.train_count 48 --data.val_count 16 --trainer.max_epochs 12 --data.batch_size 8",
    "musica": "--data.train_count 64 --data.val_count 16 --trainer.max_epochs 12 --data.batch_size 16 "
    "--model.train.ema 0.99",
    "spiga": "--model.stacks 1 --data.train_count 32 --data.val_count 16 --trainer.max_epochs 9 "
    "--model.stage_epochs=[3,3] --data.batch_size 8",
}
PATIENCE = 1200.0  # seconds


def command(method: str, run: Path, *more: str) -> list[str]:
    """Return the words of a small deterministic training."""
    return [sys.executable, "-W", "ignore", "-m", f"{method}.cli", "fit", "--config", f"{method}/smoke.yaml",
            *SMALL[method].split(), "--trainer.accelerator", "cpu", "--trainer.deterministic", "true", "--track",
            "false", "--trainer.enable_progress_bar", "false", "--data.num_workers", "0", "--run", str(run),
            *more]  # fmt: skip


def start(words: list[str], **env: str) -> subprocess.Popen[str]:
    """Start a training in its own process."""
    given = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"} | env
    return subprocess.Popen(words, cwd=ROOT, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a training and return what it said; it must have succeeded."""
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said[-2000:]
    return said


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def resume_words(run: Path) -> list[str]:
    return ["--resume", "true"] if last(run).is_file() else ["--overwrite"]


def killed_at_random(method: str, run: Path, kills: int, seed: int = 0) -> None:
    """Train a method to its end; `kills` times the process is killed some time after its first new checkpoint."""
    rng = random.Random(seed)
    for _ in range(kills):
        before = last(run).stat().st_mtime_ns if last(run).is_file() else 0
        process = start(command(method, run, *resume_words(run)))
        while process.poll() is None and not (last(run).is_file() and last(run).stat().st_mtime_ns != before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2.0))
        process.kill()
        process.communicate()
        assert is_sound(last(run))
    ended(start(command(method, run, *resume_words(run))))


def told_to_end(method: str, run: Path) -> int:
    """Send SIGTERM in the middle of the training, then train to the end; return the exit code of the first part."""
    process = start(command(method, run))
    while process.poll() is None and not last(run).is_file():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    ended(start(command(method, run, "--resume", "true")))
    return int(process.returncode)


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
    """Return the rows of a run's one curve."""
    (path,) = run.glob("logs/*/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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
