"""Low-rank layers of a trained cascade."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.errors import LabError
from common.evaluation import batches, load_data
from common.task import load_task
from musica.compress import layer_outputs, main, parameters, shrink
from musica.exit.records import collect
from musica.module import MusicaTask
from musica.types import FEATURES
from tests.musica.test_choose_exit import trained  # noqa: F401 - a fixture


def test_full_rank_changes_nothing_and_less_rank_is_the_best_subspace(trained: tuple[Path, Path]) -> None:  # noqa: F811
    checkpoint, recipe = trained
    task = load_task(MusicaTask, checkpoint)
    faces = list(batches(load_data(recipe, None, task), "val", 12))
    outputs = layer_outputs(task.net, faces)
    before = collect(task, faces)
    same = collect(shrink(task, outputs, 16), faces)
    assert abs(before.nme - same.nme).max() < 1e-3
    # Eleven axes hold twelve faces' centred outputs, so nothing is lost on these faces either.
    exact = shrink(task, outputs, 11)
    assert abs(before.nme - collect(exact, faces).nme).max() < 1e-2
    assert abs(before.nme - collect(shrink(task, outputs, 1), faces).nme).max() > 0.1
    small = shrink(task, outputs, 4)
    assert parameters(small.net) < parameters(exact.net) < parameters(task.net)
    assert small.net.macs(3) < task.net.macs(3)
    stage = small.net.stage_list[0]
    seen: list[torch.Tensor] = []
    handle = stage.hidden.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    with torch.inference_mode():
        small.net(faces[0].image)
    handle.remove()
    # The outputs keep their mean, and are in a subspace of four dimensions.
    torch.testing.assert_close(seen[0].mean(0).double(), outputs[0].hidden.mean, rtol=0, atol=1e-4)
    assert torch.linalg.matrix_rank((seen[0] - seen[0].mean(0)).double(), rtol=1e-5) == 4


def test_thin_attention_is_the_whole_one_at_full_rank_and_costs_less(trained: tuple[Path, Path]) -> None:  # noqa: F811
    checkpoint, recipe = trained
    task = load_task(MusicaTask, checkpoint)
    faces = list(batches(load_data(recipe, None, task), "val", 12))
    outputs, before = layer_outputs(task.net, faces), collect(task, faces)
    assert abs(before.nme - collect(shrink(task, outputs, 16, FEATURES), faces).nme).max() < 1e-3
    thin = shrink(task, outputs, 16, 8)
    after = collect(thin, faces)
    assert 1e-4 < abs(before.nme - after.nme).max() < 5
    saved = shrink(task, outputs, 16).net.macs(3) - thin.net.macs(3)
    assert saved == 3 * 5 * (FEATURES**2 - 2 * 8 * FEATURES)  # iterations, patches
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        thin.net(faces[0].image[:1])
    assert counter.get_total_flops() == 2 * thin.net.macs(3)
    seen: list[torch.Tensor] = []
    thin.net.stage_list[0].attention.register_forward_hook(lambda _, __, output: seen.append(output.double()))
    with torch.inference_mode():
        thin.net(faces[0].image)
    mean = outputs[0].attention.mean
    torch.testing.assert_close(seen[0].mean(0), mean, rtol=0, atol=1e-4)
    assert torch.linalg.matrix_rank(seen[0] - mean, rtol=1e-5) == 8


def test_command_writes_a_checkpoint(
    trained: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, recipe = trained
    target = tmp_path / "run" / "small.ckpt"
    arguments = [str(checkpoint), str(target), "--rank", "3", "--config", str(recipe)]
    assert main(arguments) == 0
    assert "multiply-adds" in capsys.readouterr().out
    small = load_task(MusicaTask, target)
    assert small.net.state_dict()["stages.0.squeeze.weight"].shape[0] == 3 and small.train_config.ema is None
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([str(target), str(tmp_path / "x.ckpt"), "--rank", "2", "--config", str(recipe)]) == 2
    assert "rank 3 already" in capsys.readouterr().err
    task = load_task(MusicaTask, checkpoint)
    for rank, gates in ((0, 0), (17, 0), (3, -1), (3, FEATURES + 1)):
        with pytest.raises(LabError, match="rank"):
            shrink(task, [], rank, gates)
    thin = tmp_path / "thin.ckpt"
    assert main([str(checkpoint), str(thin), "--rank", "3", "--attention_rank", "2", "--config", str(recipe)]) == 0
    assert load_task(MusicaTask, thin).net.state_dict()["stages.2.attention.0.weight"].shape == (2, FEATURES)
