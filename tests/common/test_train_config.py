"""Optimiser, schedule and moving average: what the options say is what the weights see."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, CroppedFace
from common.data.synthetic.dataset import SyntheticFaces
from common.errors import LabError
from common.frame import MovingAverage
from common.task import LandmarkTask
from common.train_config import TrainConfig
from common.types import FaceBatch, Prediction

SIZE, FACES = 32, 16


class Tiny(LandmarkTask):
    """A linear layer from the picture's mean to points."""

    METHOD = "tiny"

    def __init__(self, scheme: str = "ibug68", input_size: int = SIZE, threshold: float = 10.0,
                 train: TrainConfig = TrainConfig()) -> None:  # noqa: B008  # fmt: skip
        super().__init__(scheme, input_size, threshold, train)
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, 136), nn.BatchNorm1d(136))

    def network(self) -> nn.Module:
        return self.net

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        points: Tensor = self.net(batch.image.float().mean((2, 3))).view(-1, 68, 2)
        return Prediction(points=points)

    def training_loss(self, batch: FaceBatch) -> dict[str, Tensor]:
        loss = (self.predict_batch(batch).points - batch.points).abs().mean()
        return {"loss": loss}


class Rates(Callback):
    """Notes the learning rate of every step by epoch, and the weights after it."""

    def __init__(self) -> None:
        self.rates: dict[int, set[float]] = {}
        self.weights: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rates.setdefault(trainer.current_epoch, set()).add(round(rate, 9))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append(pl_module.net[0].weight.detach().clone())


@functools.cache
def crops() -> list[CroppedFace]:
    faces = CroppedFaces(SyntheticFaces(FACES, seed=1), CropConfig(size=SIZE))
    return [faces[index] for index in range(FACES)]


def loader(batch_size: int = 4) -> DataLoader[Any]:
    return DataLoader(crops(), batch_size=batch_size, collate_fn=Collate(()))  # type: ignore[arg-type]


def fit(folder: Path, train: TrainConfig, batch_size: int = 4, ckpt_path: Path | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    task, rates = Tiny(train=train), Rates()
    trainer = L.Trainer(
        default_root_dir=folder, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[rates], enable_checkpointing=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(task, loader(batch_size), loader(8), ckpt_path=ckpt_path, weights_only=True)
    return trainer, task, rates


FALLS = TrainConfig(optimizer="sgd", lr=1e-3, schedule="multistep", milestones=(2, 3))
RIGHT = {0: {1e-3}, 1: {1e-3}, 2: {1e-4}, 3: {1e-5}}


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 4},
        {"max_epochs": 100, "max_steps": 16},
        {"max_epochs": -1, "max_steps": 16},
        {"max_epochs": 4, "accumulate_grad_batches": 3},
        {"max_epochs": 4, "limit_train_batches": 2},
    ],
)
def test_rate_falls_at_the_epochs_named(tmp_path: Path, options: dict[str, Any]) -> None:
    assert fit(tmp_path, FALLS, **options)[2].rates == RIGHT


def test_falls_keep_their_epochs_after_a_resume_with_another_batch_size(tmp_path: Path) -> None:
    trainer, _, rates = fit(tmp_path, FALLS, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again = fit(tmp_path, FALLS, batch_size=2, ckpt_path=tmp_path / "half.ckpt", max_epochs=4)[2]
    assert rates.rates | again.rates == RIGHT


def test_a_rate_that_is_changed_for_a_resume_is_used(tmp_path: Path) -> None:
    """The checkpoint said the new rate, and the steps went on at the former one."""
    trainer, _, _ = fit(tmp_path, FALLS, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    slower = dataclasses.replace(FALLS, lr=2e-4, weight_decay=0.5)
    again, _, rates = fit(tmp_path, slower, ckpt_path=tmp_path / "half.ckpt", max_epochs=4)
    assert rates.rates == {1: {2e-4}, 2: {2e-5}, 3: {2e-6}}
    assert again.optimizers[0].param_groups[0]["weight_decay"] == 0.5


def test_a_cosine_without_an_end_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="--trainer.max_epochs"):
        fit(tmp_path, TrainConfig(schedule="cosine"), max_epochs=-1, max_time={"seconds": 5})


def test_warm_up_and_cosine() -> None:
    train = TrainConfig(schedule="cosine", warmup_steps=4)
    assert [train.rate_factor(step, 0, 1e9) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert train.rate_factor(50, 0, 100) == pytest.approx(0.5) and train.rate_factor(100, 0, 100) == 0


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw", "nadam", "sgd"])
def test_every_optimiser_steps(tmp_path: Path, name: Any) -> None:
    trainer, _, rates = fit(tmp_path, TrainConfig(optimizer=name, lr=0.1), max_epochs=1)
    assert (rates.weights[0] - rates.weights[1]).abs().max() > 0
    assert trainer.optimizers[0].defaults.get("fused") == (True if name in ("adam", "adamw") else None) or name not in (
        "adam", "adamw")  # fmt: skip


def test_fused_steps_give_way_to_clipping_under_mixed_precision(tmp_path: Path) -> None:
    options: dict[str, Any] = {"precision": "bf16-mixed", "gradient_clip_val": 1.0}
    assert fit(tmp_path, TrainConfig(), max_epochs=1, **options)[0].global_step == 4


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"ema": 1.0}, {"warmup_steps": -2}])
def test_values_out_of_range_are_reported(wrong: dict[str, Any]) -> None:
    with pytest.raises(LabError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_average_has_the_official_warm_up_and_is_what_is_validated_and_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = Tiny().net[0].weight.detach().clone()
    trainer, task, rates = fit(tmp_path, TrainConfig(lr=0.5, ema=0.5), max_epochs=3)
    for step, weight in enumerate(rates.weights):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]["net.0.weight"]
    torch.testing.assert_close(saved, expected)
    before = float(trainer.callback_metrics["val/nme"])
    assert float(trainer.validate(task, loader(8), verbose=False)[0]["val/nme"]) == pytest.approx(before, rel=1e-5)
    torch.testing.assert_close(task.net[0].weight, expected)


def test_a_resumed_average_goes_on_exactly(tmp_path: Path) -> None:
    train = TrainConfig(lr=0.1, ema=0.9, schedule="multistep", milestones=(2,))
    whole = fit(tmp_path, train, max_epochs=4)[1]

    class Keep(Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "two.ckpt")

    torch.manual_seed(0)
    L.Trainer(default_root_dir=tmp_path, logger=False, enable_progress_bar=False, enable_model_summary=False,
              accelerator="cpu", callbacks=[Keep()], enable_checkpointing=False, max_epochs=2).fit(
        Tiny(train=train), loader(), loader(8))  # fmt: skip
    resumed = fit(tmp_path, train, ckpt_path=tmp_path / "two.ckpt", max_epochs=4)[1]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_no_average_without_a_decay() -> None:
    assert Tiny().configure_callbacks() == [] and Tiny(train=TrainConfig(ema=0.0)).configure_callbacks() == []
    assert isinstance(Tiny(train=TrainConfig(ema=0.9)).configure_callbacks()[0], MovingAverage)
