"""Callbacks of every run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.training.callbacks import PredictionPictures


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
