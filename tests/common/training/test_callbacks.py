"""Callbacks of every run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from common.task import LandmarkTask
from common.training.callbacks import PredictionPictures
from common.training.progress import EpochLog


@pytest.mark.parametrize(
    ("step", "epochs"), [(1, [5, 10, 15, 20, 24]), (4, [8, 12, 16, 20, 24]), (6, [6, 12, 18, 24]), (10, [10, 20])]
)
def test_pictures_come_every_fifth_epoch(step: int, epochs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch had one; later, runs validated at every sixth had one in thirty."""
    pictures, drawn = PredictionPictures(every=5), list[int]()
    monkeypatch.setattr(pictures, "_collect", lambda task, batch, outputs: drawn.append(batch))
    for epoch in range(step, 25, step):
        trainer: Any = SimpleNamespace(current_epoch=epoch - 1, max_epochs=24, check_val_every_n_epoch=step,
                                       state=SimpleNamespace(fn="fit"), sanity_checking=False)  # fmt: skip
        pictures.on_validation_batch_end(trainer, None, None, epoch, 0)  # type: ignore[arg-type]
    assert drawn == epochs


def test_a_resumed_run_knows_the_best_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    """The line of its first epoch called that one the best."""
    log, task = EpochLog(lines=True), LandmarkTask("ibug68", 64)
    for epoch, nme in ((0, 7.5), (1, 8.25)):
        trainer: Any = SimpleNamespace(sanity_checking=False, callback_metrics={"val/nme": nme}, current_epoch=epoch,
                                       is_global_zero=True, max_epochs=2)  # fmt: skip
        log.on_train_epoch_start(trainer, task)
        log.on_validation_end(trainer, task)
        log.on_train_epoch_end(trainer, task)
        state, log = log.state_dict(), EpochLog(lines=True)
        log.load_state_dict(state)
    assert "epoch 2 of 2: val NME 8.25 % (best 7.50 % in epoch 1)" in capsys.readouterr().out
    log.load_state_dict({})  # of a former version


def test_a_resumed_epoch_is_timed_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its time was counted from when the machine was started, and what was left from the second part alone."""
    now, task = 70_000.0, LandmarkTask("ibug68", 64)
    monkeypatch.setattr("common.training.progress.time.monotonic", lambda: now)
    trainer: Any = SimpleNamespace(is_global_zero=True, max_epochs=4, current_epoch=1,
                                   fit_loop=SimpleNamespace(restarted_mid_epoch=False))  # fmt: skip
    log, resumed = EpochLog(lines=True, shown=False), EpochLog(lines=True, shown=False)
    log.on_train_start(trainer, task)
    log.on_train_epoch_start(trainer, task)
    now += 40
    state = log.state_dict()
    now += 5_000
    resumed.load_state_dict(state)
    trainer.fit_loop.restarted_mid_epoch = True
    resumed.on_train_start(trainer, task)
    now += 10
    task.means.add({"train/loss": torch.tensor(2.5)}, 4)
    resumed.on_train_epoch_end(trainer, task)
    assert capsys.readouterr().out == "epoch 2 of 4: loss 2.5, 50 s, 1 min 40 s left\n"
