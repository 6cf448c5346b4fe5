"""`python -m benchmarks speed --train`, and what is compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.measure import train_speed
from benchmarks.measure.made_up import made_up_batch, make_task
from common.methods import METHODS
from common.train_config import TrainConfig


@pytest.mark.slow
def test_all_ways_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_speed, "FACES", 8)
    monkeypatch.setattr(train_speed, "set_allocator", lambda keep: None)  # this process goes on with other tests
    document = tmp_path / "page.md"
    document.write_text(f"before\n{train_speed.BEGIN}\n{train_speed.END}\nafter\n")
    words = "--methods awing --recipe smoke --rounds 1 --steps 1 --loss-steps 2 --ways fused channels_last".split()
    main(["speed", "--train", *words, "--document", str(document)])
    text = document.read_text()
    cells = [cell.strip() for cell in next(line for line in text.splitlines() if "AWing" in line).split("|")[1:-1]]
    assert cells[0].startswith("AWing, smoke (") and float(cells[1]) > 0
    assert cells[2] == cells[5] == cells[6] == "-", "ways that were not asked for"
    assert all(float(cell) > 0 for cell in (cells[3], cells[4], cells[7], cells[8]))
    first, *others = map(float, cells[-1].split(" / "))
    assert others == pytest.approx([first, first], rel=0.01), "these ways change the order of sums alone"
    with pytest.raises(SystemExit):
        main(["speed", "--train", "--methods", "awing", "--recipe", "smoke", "--rounds", "0"])


def test_a_step_is_timed_with_its_waiting() -> None:
    task = make_task("awing", "smoke")
    batch = made_up_batch(task, 2)
    training = train_speed.Training(task, (), iter([batch] * 4))
    before = [parameter.clone() for parameter in task.parameters()]
    for _ in range(3):
        training.step()
    assert training.losses[2] < training.losses[0], "it learns"
    assert all(torch.equal(old, new) for old, new in zip(before, task.parameters(), strict=True)), "of a copy"
    training.seconds = [(1.0, 4.0), (1.0, 2.0), (0.0, 4.0)]
    assert training.images_a_second(16) == 4 and training.waiting() == 20


@pytest.mark.parametrize("method", list(METHODS))
def test_what_is_compiled_is_what_training_calls(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nn.Module.compile` changes calls of the module alone, so parts that are not called would stay as they are."""
    compiled: list[nn.Module] = []
    called: set[int] = set()

    def see(module: nn.Module, inputs: object) -> None:
        called.add(id(module))

    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    for stage in range(len(METHODS[method].stages("smoke"))):
        compiled.clear()
        called.clear()
        task = make_task(method, "smoke", stage).train()
        TrainConfig(compile_net=True).prepare(task.network(), task.compiled_parts())
        for module in task.network().modules():
            module.register_forward_pre_hook(see)
        task.training_loss(made_up_batch(task, 2))
        inside = {id(child) for module in compiled if id(module) in called for child in module.modules()}
        assert inside and called - {id(task.network())} <= inside
