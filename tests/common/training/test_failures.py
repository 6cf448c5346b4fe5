"""What is no defect of the project is one line, and neither a picture nor a score of NaN does harm."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch._utils import ExceptionWrapper

from common.errors import LabError
from common.training import callbacks
from common.training.callbacks import FiniteBest, PredictionPictures
from common.training.failures import check_safe, check_trainer, told_in_one_line

FULL = OSError(errno.ENOSPC, "No space left on device", "run/config.yaml")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (FULL, "run/config.yaml: No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (MisconfigurationException("no\n such   setting"), "trainer: no such setting"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "fewer --data.num_workers"),
    ],
)
def test_what_the_system_refuses_is_one_line(raised: Exception, said: str) -> None:
    with pytest.raises(LabError) as told, told_in_one_line():
        raise raised
    assert said in str(told.value) and "\n" not in str(told.value)


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes"), told_in_one_line():
        raise RuntimeError("shapes differ")


def test_a_loader_s_process_tells_a_mistake_as_the_main_process_does() -> None:
    """Its whole traceback came in one line of 1,700 letters."""
    try:
        raise LabError("list.txt:7: face 3 has no eye distance")
    except LabError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(LabError) as told:
        wrapped.reraise()
    assert str(told.value) == "list.txt:7: face 3 has no eye distance"


def trainer(**options: Any) -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)


def test_settings_that_cannot_work_are_refused() -> None:
    check_trainer(trainer(precision="bf16-mixed"))
    for precision in ("bf16-true", "16-true", "64-true"):
        with pytest.raises(LabError, match=rf"trainer.precision {precision} is not supported"):
            check_trainer(trainer(precision=precision))
    many = (os.cpu_count() or 1) + 1
    with pytest.raises(LabError, match=f"trainer.devices {many}: this machine has"):
        check_trainer(trainer(devices=many))


def test_unsafe_loading_is_refused_at_any_depth() -> None:
    check_safe({"weights_only": None, "trainer": {"callbacks": [{"init_args": {"weights_only": True}}]}})
    with pytest.raises(LabError, match=r"^trainer.callbacks.0.init_args.weights_only: false would let"):
        check_safe({"trainer": {"callbacks": [{"init_args": {"weights_only": False}}]}})


def test_a_picture_that_cannot_be_written_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(callbacks, "write_image", full)
    pictures = PredictionPictures()
    pictures._cells = [np.zeros((8, 8, 3), np.uint8)]
    run: Any = SimpleNamespace(default_root_dir=tmp_path, is_global_zero=True, fast_dev_run=False, loggers=[])
    pictures._write(run, "val-0004")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "val-0004.png" in said[0] and "No space left" in said[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_never_the_best(value: float) -> None:
    best, run = FiniteBest(monitor="val/nme", mode="min"), cast(L.Trainer, SimpleNamespace())
    assert not best.check_monitor_top_k(run, torch.tensor(value))
    assert best.check_monitor_top_k(run, torch.tensor(3.0))
    assert best.state_key == ModelCheckpoint(monitor="val/nme", mode="min").state_key
