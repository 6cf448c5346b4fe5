"""Hidden layers kept as integers: what rounding costs, on either way of multiplying, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch.utils.flop_counter import FlopCounterMode

from common.errors import LabError
from common.task import load_task
from musica.compress import main, store_as_integers
from musica.evaluation import batches, collect, load_data
from musica.integer import IntegerLinear
from musica.module import MusicaTask
from musica.native import loops
from musica.network import CascadeNet
from tests.musica.test_choose_exit import trained  # noqa: F401 - a fixture


def _layer(bits: int, units: int = 22) -> tuple[IntegerLinear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    weight, bias = torch.randn(units, 300) * torch.logspace(-3, 1, units)[:, None], torch.randn(units)
    weight[3] = 0  # a unit that reads nothing
    layer = IntegerLinear(300, units, bits)
    layer.take(weight, bias)
    return layer, weight, bias


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_are_off_by_half_a_step_of_their_row_at_most(bits: int) -> None:
    layer, weight, bias = _layer(bits)
    step = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((layer.weight * layer.scale[:, None] - weight).abs() <= step * 0.501).all()
    assert layer.weight.abs().amax() == 2 ** (bits - 1) - 1 and not layer.weight[3].any()
    torch.testing.assert_close(layer.bias, bias, rtol=0, atol=0)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("faces", [1, 2, 5])
def test_both_ways_multiply_alike(bits: int, faces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty units in fours by the compiled loops, the last two beside them."""
    layer, _, _ = _layer(bits)
    x = torch.randn(faces, 300)
    expected = F.linear(x.double(), layer.weight.double() * layer.scale[:, None].double(), layer.bias.double())
    with torch.inference_mode():
        found = layer(x)
        monkeypatch.setattr(loops, "available", False)
        plain = layer(x)
    for answer in (found, plain):  # limits: single precision's sums of 300 products of up to some tens
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not loops.available, reason="the extra `fast` is not installed (numba)")
def test_one_face_takes_the_compiled_way(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _, _ = _layer(16)
    calls: list[int] = []
    original = loops.integer_linear

    def multiply(*given: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return original(*given)

    monkeypatch.setattr(loops, "integer_linear", multiply)
    with torch.inference_mode():
        layer(torch.randn(1, 300))
        assert calls == [1]
        layer(torch.randn(3, 300))
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(1, 300))
    assert calls == [1] and counter.get_total_flops() == 2 * 22 * 300


def test_a_cascade_of_integers_answers_as_the_whole_one(trained: tuple[Path, Path]) -> None:  # noqa: F811
    checkpoint, recipe = trained
    task = load_task(MusicaTask, checkpoint)
    faces = list(batches(load_data(recipe, None, task), "val", 12))
    whole = collect(task, faces)
    worst = {bits: abs(collect(store_as_integers(task, bits), faces).nme - whole.nme).max() for bits in (8, 16)}
    assert worst[16] < 0.01 and worst[16] < worst[8] < 1  # percent of the eyes' distance
    small = store_as_integers(task, 16)
    assert small.evaluated().macs(3) == task.evaluated().macs(3)
    with pytest.raises(LabError, match="16 bits already"):
        store_as_integers(small, 8)


def test_command_writes_a_checkpoint_that_predicts_and_does_not_train(
    trained: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, recipe = trained
    target = tmp_path / "small.ckpt"
    assert main([str(checkpoint), str(target), "--bits", "8"]) == 0
    assert " MB, " in capsys.readouterr().out
    small = load_task(MusicaTask, target)
    assert small.net.state_dict()["stages.0.hidden.weight"].dtype == torch.int8
    with pytest.raises(LabError, match="can't be trained"):
        Trainer(
            max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
        ).fit(small, datamodule=load_data(recipe, None, small))
    assert main([str(checkpoint), str(tmp_path / "x.ckpt"), "--rank", "4"]) == 2
    assert "--rank needs --config" in capsys.readouterr().err


def test_bits_are_checked() -> None:
    with pytest.raises(LabError, match="hidden_bits must be 0 or one of 8, 16, got 4"):
        CascadeNet(68, [0], 2, hidden_bits=4)
