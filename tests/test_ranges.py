"""Values that cannot be: one line that names the option, the value and its range, before anything is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import common.predict
from awing.cli import main
from awing.loss import LossConfig as AWingLoss
from awing.module import AWingTask
from awing.module import ExtraConfig as AWingExtra
from awing.module import OfficialConfig as AWingOfficial
from common.data.augment import PhotometricAugment
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.options import MixConfig, SyntheticConfig
from common.data.packed.layout import Packing
from common.errors import LabError, check_range
from common.train_config import TrainConfig
from dpr.boxes import BoxJitter
from dpr.module import DprTask
from dpr.options import CurriculumConfig
from dpr.options import LossConfig as DprLoss
from dpr.options import NetworkConfig as DprNetwork
from musica.module import MusicaTask, RateConfig
from musica.module import NetworkConfig as MusicaNetwork
from sdu3d.module import LossConfig as SduLoss
from sdu3d.module import NetworkConfig as SduNetwork
from sdu3d.module import SduTask, ViewConfig
from spiga.module import ExtraConfig as SpigaExtra
from spiga.module import GraphConfig, LossWeights, SpigaTask

NAN, INF = math.nan, math.inf
HUGE = 1_000_000_000


def rates(**given: Any) -> object:
    """Return MuSiCa's rates of three iterations."""
    return RateConfig(**given).each(3)


# Constructor, group that its messages name, and the values that each option refuses.
REFUSED: list[tuple[Callable[..., Any], str, dict[str, list[Any]]]] = [
    (TrainConfig, "train", {
        "lr": [-1.0, NAN, INF, 1e12], "weight_decay": [-1.0, NAN, INF], "momentum": [-0.1, 1.0, NAN],
        "gamma": [-0.1, 0.0, 2.0, NAN], "milestones": [(-3,), (2, HUGE)], "warmup_steps": [-3, HUGE],
        "ema": [-0.1, 1.0, 1.5, NAN]}),
    (PhotometricAugment, "augment", {
        "blur": [-0.1, 2.0, NAN], "gray": [1.5], "noise": [-1.0], "occlusion": [2.0], "brightness": [-0.1, 2.0, NAN],
        "contrast": [-1.0, NAN], "saturation": [INF], "hsv": [NAN], "gamma": [-0.5, 99.0, NAN],
        "blur_sigma": [0.0, -1.0, NAN], "noise_sigma": [-1.0, 9.0], "occlusion_side": [-0.1, NAN],
        "occlusion_least": [-0.1, 0.9, NAN]}),
    (CropConfig, "crop", {
        "size": [0, -64, 7, HUGE], "box_scale": [0.0, -1.0, NAN, INF, 1e6], "rotation": [-1.0, 400.0, NAN],
        "scale": [-0.1, 1.0, NAN], "shift": [-0.1, 10.0, NAN], "flip": [-0.1, 1.1, NAN], "shear": [1.0],
        "stretch": [-0.1], "chance": [1.5]}),
    (SyntheticConfig, "data.synthetic", {
        "train_count": [0, -1, 1_000_001], "val_count": [0], "test_count": [-3, HUGE], "seed": [-1, 1 << 32]}),
    (FaceDataModule, "data", {
        "batch_size": [0, -1, HUGE], "eval_batch_size": [0, HUGE], "num_workers": [-1, 100_000],
        "seed": [-1, 1 << 32]}),
    (Packing, "packing", {"size": [0, HUGE], "room": [0.5, NAN], "quality": [0, 101], "face": [0, -1]}),
    (MixConfig, "--data.mix:", {"weight": [0.0, -1.0, NAN, 1000.0]}),
    (AWingTask, "model", {
        "stacks": [0, -1, HUGE], "width": [0, -16, HUGE], "depth": [-1, 0, HUGE], "input_size": [0, 32, HUGE],
        "threshold": [0.0, -5.0, NAN, INF]}),
    (AWingLoss, "loss", {
        "integral_weight": [-1.0, NAN, INF], "integral_beta": [0.0, NAN], "map_weight": [-1.0, NAN, INF]}),
    (AWingExtra, "extra", {"growth": [-4, HUGE, 6]}),
    (AWingOfficial, "official", {"boundary_shift": [-HUGE, 17]}),
    (SpigaTask, "model", {
        "stacks": [0, HUGE], "width": [0, HUGE], "depth": [-1, HUGE], "threshold": [0.0, NAN], "input_size": [-256]}),
    (GraphConfig, "graph", {"steps": [0, -1, HUGE]}),
    (LossWeights, "loss", {"coordinate": [-1.0, NAN], "attention": [INF], "pose": [-1.0]}),
    (SpigaExtra, "extra", {"growth": [-32, HUGE]}),
    (DprTask, "model", {"box_grow": [0.0, -1.0, NAN, 99.0], "threshold": [0.0], "input_size": [0]}),
    (DprNetwork, "net", {
        "face_size": [0, -1, HUGE], "part_size": [0], "theta_gradient": [-0.1, 2.0, NAN], "point_gradient": [NAN],
        "context": [0.0, NAN, INF]}),
    (DprLoss, "loss", {"plain_steps": [-1], "reinit_weight": [-1.0, NAN, INF]}),
    (CurriculumConfig, "curriculum", {
        "point_noise": [-0.1, NAN], "reinit_lr": [-1.0, NAN], "global_lr": [INF], "teacher_until": [-1],
        "local_from": [-1]}),
    (BoxJitter, "jitter", {
        "given": [1.5, NAN], "small": [-0.1, NAN], "low": [0.0, 2.0, NAN], "high": [INF], "shift": [-0.1, NAN]}),
    (MusicaTask, "model", {"start_faces": [0, -1], "threshold": [-1.0], "input_size": [HUGE]}),
    (MusicaNetwork, "net", {
        "iterations": [-1, 0, 1, 6], "units": [0, HUGE], "rank": [-1], "attention_rank": [-1],
        "dropout": [-0.1, 1.0, NAN]}),
    (rates, "rates", {"iteration": [0.0, NAN, [1.0, -1.0, 1.0]], "hidden": [INF], "output": [[1.0, NAN, 1.0]]}),
    (SduTask, "model", {"threshold": [0.0], "input_size": [0]}),
    (SduNetwork, "net", {"depth": [-1, 0, -2000, HUGE], "stacks": [0, HUGE], "width": [0, HUGE], "growth": [-8]}),
    (SduLoss, "loss", {
        "sigma": [-1.0, NAN], "peak": [0.0, NAN], "depth_weight": [-1.0, INF], "integral_weight": [NAN]}),
    (ViewConfig, "views", {
        "weight": [-1.0, NAN], "rotation": [-1.0, NAN], "scale": [-0.1, 1.0], "flip": [1.5]}),
]  # fmt: skip


@pytest.mark.parametrize(("made", "group", "values"), REFUSED, ids=lambda given: getattr(given, "__name__", ""))
def test_a_value_out_of_its_range_is_named(made: Callable[..., Any], group: str, values: dict[str, list[Any]]) -> None:
    for name, wrong in values.items():
        for value in wrong:
            with pytest.raises(LabError) as told:
                made(**{name: value})
            said = str(told.value)
            assert said.startswith(group) and name in said and "got " in said, (name, value, said)


def test_the_borders_of_a_range() -> None:
    for value, interval in ((0, "[0, 1)"), (1, "(0, 1]"), (None, "(0, 1)"), ((1, 2), "[1, 2]"), (INF, "[0, inf]")):
        check_range("x", value, interval)
    for wrong, interval in ((0, "(0, 1]"), (1, "[0, 1)"), (NAN, "[0, inf]"), (INF, "[0, inf)"), ([1, 3], "[1, 2]")):
        with pytest.raises(LabError, match="x must be in"):
            check_range("x", wrong, interval)


@pytest.mark.parametrize(
    ("name", "value"),
    [("score", "1.5"), ("score", "nan"), ("min-face", "0"), ("faces", "0"), ("frames", "-1"), ("every", "0"),
     ("camera", "-2")],
)  # fmt: skip
def test_prediction(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert common.predict.main(["none.png", f"--{name}={value}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --{name} must be in ")


TINY = ["fit", "--config", "smoke", "--data.crop.size", "64", "--model.width", "16", "--model.stacks", "1",
        "--model.depth", "2", "--data.num_workers", "0", "--data.train_count", "2", "--data.val_count", "2",
        "--data.batch_size", "2", "--trainer.accelerator", "cpu", "--track", "false", "--trainer.max_epochs", "1",
        "--trainer.enable_progress_bar", "false"]  # fmt: skip
WRONG = {
    "--model.stacks": ["0", "-1", "x", "1.5"],
    "--model.width": ["0", "20", "-16"],
    "--model.depth": ["-1"],
    "--model.threshold": ["0", "-5", "nan"],
    "--model.train.lr": ["-1", "nan"],
    "--model.train.warmup_steps": ["-3"],
    "--model.train.milestones": ["[-3]"],
    "--model.train.ema": ["1.5"],
    "--model.train.augment": ['{"x": 1}', '{"blur": 2}'],
    "--model.backbone": ["none"],
    "--data.crop.size": ["32", "0", "-64", "100000"],
    "--data.crop.box_scale": ["0", "nan"],
    "--data.batch_size": ["0"],
    "--data.eval_batch_size": ["0"],
    "--data.num_workers": ["-1", "100000"],
    "--data.seed": ["-1"],
    "--data.train_count": ["0", "2000000"],
    "--data.dataset": ["nothing"],
    "--data.scheme": ["ears"],
    "--data.store": ["/proc/none"],
    "--seed_everything": ["-1"],
    "--trainer.gradient_clip_val": ["-1", "nan"],
    "--trainer.devices": ["99", "0", "-3"],
    "--trainer.max_epochs": ["-7"],
    "--trainer.max_steps": ["-5"],
    "--trainer.check_val_every_n_epoch": ["0"],
    "--trainer.accumulate_grad_batches": ["0"],
    "--trainer.limit_train_batches": ["-1", "0"],
    "--trainer.precision": ["64-true"],
    "--checkpoint.save_top_k": ["-5"],
    "--init_from": ["[]", "none.ckpt"],
    "--run": ["/proc/none"],
}
QUICK = ("--seed_everything", "--data.crop.size", "--trainer.gradient_clip_val")  # their first value


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(name, value, marks=() if name in QUICK and value == values[0] else pytest.mark.slow)
     for name, values in WRONG.items() for value in values],
)  # fmt: skip
def test_command_line(name: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*TINY, "--run", str(tmp_path / "run"), f"{name}={value}"])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 2 and len(said) == 1 and len(said[0]) < 300, said
    assert not list(tmp_path.iterdir())
