"""A smaller hidden layer for a trained cascade: its matrix, most of the weights, becomes a product of two thin ones.

python -m musica.shrink runs/musica/helen/checkpoints/best.ckpt SMALL.ckpt --rank 64 --config musica/helen.yaml

No training is needed. The layer's answers on training faces lie near a flat of few dimensions; the projection on their
first principal axes is the best approximation of that rank for those answers (in the sense of squares), which the
singular vectors of the matrix alone are not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor, nn

from common.errors import LabError, command
from common.task import load_task
from common.types import FaceBatch
from musica.evaluation import batches, load_data
from musica.module import MusicaTask
from musica.network import CascadeNet

EVAL_BATCH = 32


class Answers(NamedTuple):
    """Of one iteration's hidden layer, before its tanh, over faces.

    Attributes:
        mean: (U,).
        axes: (U, U) principal axes as columns, the widest first.
    """

    mean: Tensor
    axes: Tensor


@torch.inference_mode()
def hidden_answers(net: CascadeNet, faces: Iterable[FaceBatch]) -> list[Answers]:
    """Return mean and principal axes of every iteration's hidden layer, all iterations, on crops of `faces`."""
    seen: list[list[Tensor]] = [[] for _ in net.stage_list]
    handles = [
        stage.hidden.register_forward_hook(lambda _, __, answer, rows=rows: rows.append(answer.double()))
        for stage, rows in zip(net.stage_list, seen, strict=True)
    ]
    kept, net.exit_below = net.exit_below, None
    try:
        for batch in faces:
            net(batch.image)
    finally:
        net.exit_below = kept
        for handle in handles:
            handle.remove()
    result = []
    for rows in seen:
        answers = torch.cat(rows)
        mean = answers.mean(0)
        _, axes = torch.linalg.eigh((answers - mean).T @ (answers - mean))
        result.append(Answers(mean, axes.flip(1)))
    return result


def shrink(task: MusicaTask, answers: Sequence[Answers], rank: int) -> MusicaTask:
    """Return a task whose hidden layers go through `rank` numbers; its network is the one that predicts in `task`.

    Args:
        task: trained, with whole hidden layers, whose start shape counts from the crop.
        answers: from `hidden_answers` of its network.
        rank: at most the number of hidden units.

    Raises:
        LabError: the rank is out of range, or the layers are small already.
    """
    net = task.evaluated()
    units = net.stage_list[0].units
    if not 1 <= rank <= units:
        raise LabError(f"rank must be from 1 to the {units} hidden units, got {rank}")
    if task.hparams["rank"]:
        raise LabError(f"the hidden layers have rank {task.hparams['rank']} already; start from the whole ones")
    values: dict[str, Any] = {key: value for key, value in task.hparams.items() if key != "_instantiator"}
    small = MusicaTask(**(values | {"rank": rank, "ema_decay": 0.0}))
    state = net.state_dict()
    for t, (mean, axes) in enumerate(answers):
        weight, bias = (state.pop(f"stages.{t}.hidden.{kind}").double() for kind in ("weight", "bias"))
        first = axes[:, :rank]
        state[f"stages.{t}.squeeze.weight"] = first.T @ weight
        state[f"stages.{t}.hidden.weight"] = first
        state[f"stages.{t}.hidden.bias"] = mean + first @ (first.T @ (bias - mean))
    small.net.load_state_dict(state, strict=True)
    return small.eval()


def parameters(net: nn.Module) -> int:
    """Return the number of weights."""
    return sum(weight.numel() for weight in net.parameters())


def write_checkpoint(task: MusicaTask, path: Path) -> None:
    """Write a checkpoint as `fit` does, but without the optimiser: for validate, test, predict and the commands here.

    Raises:
        LabError: the file exists.
    """
    if path.exists():
        raise LabError(f"{path}: exists already; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({
        "state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "method": task.METHOD,
        "pytorch-lightning_version": lightning.__version__, "epoch": 0, "global_step": 0,
    }, path)  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m musica.shrink", description="Make the hidden layers low-rank.")
    parser.add_argument("source", type=Path, help="checkpoint of `fit`")
    parser.add_argument("target", type=Path, help="checkpoint to write")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True, help="recipe that names the data")
    parser.add_argument("--root", default=None, help="folder of the data")
    options = parser.parse_args(arguments)
    task = load_task(MusicaTask, options.source)
    data = load_data(options.config, options.root, task)
    net = task.evaluated()
    small = shrink(task, hidden_answers(net, batches(data, "train", EVAL_BATCH)), options.rank)
    write_checkpoint(small, options.target)
    count = len(net.level_of)
    print(f"{options.target}: {parameters(net):,} -> {parameters(small.net):,} weights, "
          f"{net.macs(count) / 1e6:.2f} -> {small.net.macs(count) / 1e6:.2f} M multiply-adds")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
