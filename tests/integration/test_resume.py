"""A resumed training is the uninterrupted one: the same faces, weights, best checkpoint and curve."""

from __future__ import annotations

import csv
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from awing.cli import main
from awing.module import AWingTask
from common.training.stopping import requeued_file
from common.types import FaceBatch

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--config", str(ROOT / "awing/smoke.yaml"), "--data.crop.size", "40", "--model.width", "16", "--model.stacks", "1",
    "--model.depth", "1", "--data.num_workers", "1", "--data.train_count", "20", "--data.val_count", "6",
    "--data.batch_size", "4", "--data.eval_batch_size", "3", "--trainer.accelerator", "cpu", "--track", "false",
    "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.deterministic",
    "true", "--model.train.channels_last", "false", "--model.train.ema", "0.9", "--model.train.schedule", "constant",
    "--trainer.max_epochs", "3",
]  # fmt: skip
Seen = list[tuple[int, list[int]]]  # epoch and rows of each batch
Fit = Callable[..., int]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Return the list of what is trained on."""
    found: Seen = []
    real = AWingTask.training_step

    def spy(task: AWingTask, batch: FaceBatch, index: int) -> torch.Tensor:
        assert batch.rows is not None
        found.append((task.current_epoch, batch.rows.tolist()))
        return real(task, batch, index)

    monkeypatch.setattr(AWingTask, "training_step", spy)
    return found


def fit(folder: Path, *more: str) -> int:
    """Train and return the exit code."""
    try:
        main(["fit", *TINY, "--run", str(folder), *more])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def told_to_end(monkeypatch: pytest.MonkeyPatch, step: str, epoch: int, index: int) -> None:
    """Let the process get a SIGTERM within a batch of an epoch's training or validation."""
    real = getattr(AWingTask, step)

    def told(task: AWingTask, batch: FaceBatch, number: int) -> Any:
        if (task.current_epoch, number) == (epoch, index) and not task.trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(task, batch, number)

    monkeypatch.setattr(AWingTask, step, told)


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
    return content


def assert_same(folder: Path, whole: Path) -> None:
    """Compare the tensors of both checkpoints, and the curve's text."""
    for name in ("last", "best"):
        found, right = checkpoint(folder, name), checkpoint(whole, name)
        assert found["epoch"] == right["epoch"] and found["global_step"] == right["global_step"]
        for key in ("state_dict", "current_model_state"):
            for place, value in right[key].items():
                assert torch.equal(found[key][place], value), (name, key, place)
    assert curve(folder) == curve(whole)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def curve(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's curve, without the speed, which no two runs share."""
    (path,) = folder.glob("logs/*/metrics.csv")
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if "per_second" not in key} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert fit(folder) == 0
    return folder


@pytest.mark.parametrize(("step", "index"), [("training_step", 2), ("training_step", 4), ("validation_step", 0)])
def test_a_stopped_run_goes_on_at_the_next_face(
    step: str, index: int, whole: Path, tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    """In the middle of an epoch, after its last batch, and in the middle of its validation.

    With a worker, which begins to load before Lightning has said which epoch it is, they were the first epoch's faces.
    """
    with pytest.MonkeyPatch.context() as patched:
        told_to_end(patched, step, 1, index)
        assert fit(tmp_path) == 143  # 0 was taken for a finished run
    said = [line for line in capsys.readouterr().err.splitlines() if "stopped by SIGTERM" in line]
    assert len(said) == 1 and "last.ckpt" in said[0] and "--resume" in said[0]
    assert fit(tmp_path, "--resume", "true", "--trainer.enable_progress_bar", "true") == 0
    for epoch in range(3):
        assert sorted(row for number, rows in seen for row in rows if number == epoch) == list(range(20))
    assert_same(tmp_path, whole)
    losses = [row["train/loss"] for row in curve(whole) if row["train/loss"]]
    lines = re.findall(r"epoch 2 of 3: loss (\S+), .*, \d+ s, \d+ s left", capsys.readouterr().out)
    assert lines == [f"{float(losses[1]):.4g}"]
    assert not [str(warning.message) for warning in recwarn if "not resumable" in str(warning.message)]


def test_a_job_that_slurm_stopped_goes_on(
    whole: Path, tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command goes on from Lightning's file; outside of a Slurm job it began anew, over the former run."""
    fit(tmp_path, "--trainer.max_epochs", "2")
    last, requeued = tmp_path / "checkpoints/last.ckpt", tmp_path / "hpc_ckpt_1.ckpt"
    sound = last.read_bytes()
    requeued.write_bytes(sound[:5000] + b"?" + sound[5001:])
    assert fit(tmp_path) == 2
    assert "hpc_ckpt_1.ckpt: checkpoint is damaged" in capsys.readouterr().err
    requeued.write_bytes(sound)
    del seen[:]
    assert fit(tmp_path) == 0
    assert [epoch for epoch, _ in seen] == [2] * 5
    assert not requeued.exists()
    assert_same(tmp_path, whole)
    requeued.touch()
    os.utime(requeued, (0, 0))  # left over by a kill
    assert requeued_file(tmp_path) == last and requeued_file(tmp_path / "none") is None


def test_another_batch_size_leaves_no_face_out(tmp_path: Path, seen: Seen) -> None:
    """Half an epoch was trained on twice, the other half never; a finished one was opened again."""
    fit(tmp_path, "--trainer.max_steps", "7")  # two of the five batches of epoch 1
    assert checkpoint(tmp_path)["position"] == {"epoch": 1, "faces": 8, "validate": False}
    fit(tmp_path, "--resume", "true", "--data.batch_size", "2", "--trainer.max_epochs", "2")
    assert sorted(row for epoch, rows in seen for row in rows if epoch == 1) == list(range(20))
    del seen[:]
    fit(tmp_path, "--resume", "true", "--data.batch_size", "5")
    assert [epoch for epoch, _ in seen] == [2] * 4


def test_a_run_with_more_validations_than_epochs_is_gone_on_with(tmp_path: Path, seen: Seen) -> None:
    more = ("--trainer.val_check_interval", "0.4", "--trainer.max_epochs", "1")
    fit(tmp_path / "whole", *more)
    right = list(seen)
    del seen[:]
    fit(tmp_path / "part", *more, "--trainer.max_steps", "2")
    fit(tmp_path / "part", *more, "--resume", "true")
    assert seen == right
    found, whole = curve(tmp_path / "part"), curve(tmp_path / "whole")
    assert [row for row in whole if row not in found] == []


def test_resuming_never_worsens_the_best_checkpoint(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """last.ckpt held the best score of the epoch before, so that the next epoch after a resume replaced best.ckpt."""
    fit(tmp_path, "--trainer.max_epochs", "2")
    assert fit(tmp_path, "--resume", "true", "--trainer.max_epochs", "1") == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "2 epochs are done, and --trainer.max_epochs is 1" in line
    assert fit(tmp_path, "--resume", "true", "--trainer.max_epochs", "2") == 0
    assert "nothing is left to train: 2 of 2 epochs are done" in capsys.readouterr().out
    fit(tmp_path, "--resume", "true")  # one epoch more, worse than the second
    assert checkpoint(whole, "best")["epoch"] == 1
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("more", [("--trainer.check_val_every_n_epoch", "2"), ("--trainer.limit_val_batches", "0")])
def test_last_is_the_last_epoch_whether_validated_or_not(more: tuple[str, str], tmp_path: Path) -> None:
    fit(tmp_path, *more)
    assert checkpoint(tmp_path)["epoch"] == 2


def test_a_damaged_last_checkpoint_falls_back_and_former_ones_load(
    whole: Path, tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, "--trainer.max_epochs", "1")
    last, best = tmp_path / "checkpoints/last.ckpt", tmp_path / "checkpoints/best.ckpt"
    former = checkpoint(tmp_path, "best")
    for key in ("position", "train_means"):
        del former[key]
    torch.save(former, best)  # as a former version wrote it, without checksum, in the middle of Lightning's hooks
    content = last.read_bytes()
    last.write_bytes(content[:5000] + b"?" + content[5001:])
    del seen[:]
    assert fit(tmp_path, "--resume", "true") == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert "going on from best.ckpt, epoch 0" in said
    assert [epoch for epoch, _ in seen] == [1] * 5 + [2] * 5
    assert_same(tmp_path, whole)
