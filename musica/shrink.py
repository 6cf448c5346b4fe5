"""A smaller hidden layer for a trained cascade: a product of two thin matrices, or integers of fewer bytes.

python -m musica.shrink runs/musica/helen/checkpoints/best.ckpt SMALL.ckpt --rank 64 --config musica/helen.yaml
python -m musica.shrink runs/musica/helen/checkpoints/best.ckpt SMALL.ckpt --bits 16

The matrix holds most of the weights. No training is needed. Integers are the weights, rounded (`musica.integer`). Thin
matrices do because the layer's answers on training faces lie near a flat of few dimensions; the projection on their
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
from musica.attention import traced
from musica.evaluation import batches, load_data
from musica.integer import TYPES, IntegerLinear
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
    try:
        for batch in faces:
            traced(net, batch.image)
    finally:
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
    _check_whole(task)
    small = _task_like(task, rank=rank)
    state = net.state_dict()
    for t, (mean, axes) in enumerate(answers):
        weight, bias = (state.pop(f"stages.{t}.hidden.{kind}").double() for kind in ("weight", "bias"))
        first = axes[:, :rank]
        state[f"stages.{t}.squeeze.weight"] = first.T @ weight
        state[f"stages.{t}.hidden.weight"] = first
        state[f"stages.{t}.hidden.bias"] = mean + first @ (first.T @ (bias - mean))
    small.net.load_state_dict(state, strict=True)
    return small.eval()


def store_as_integers(task: MusicaTask, bits: int) -> MusicaTask:
    """Return a task whose hidden layers are kept as integers of 8 or 16 bits.

    Raises:
        LabError: there is no such type, or the layers are small already.
    """
    _check_whole(task)
    small = _task_like(task, hidden_bits=bits)
    state = task.evaluated().state_dict()
    for t, stage in enumerate(small.net.stage_list):
        assert isinstance(stage.hidden, IntegerLinear)
        stage.hidden.take(*(state[f"stages.{t}.hidden.{kind}"] for kind in ("weight", "bias")))
        state.update((f"stages.{t}.hidden.{name}", kept) for name, kept in stage.hidden.state_dict().items())
    small.net.load_state_dict(state, strict=True)
    return small.eval()


def _check_whole(task: MusicaTask) -> None:
    if task.hparams["rank"]:
        raise LabError(f"the hidden layers have rank {task.hparams['rank']} already; start from the whole ones")
    if task.hparams["hidden_bits"]:
        raise LabError(f"the hidden layers have {task.hparams['hidden_bits']} bits already; start from the whole ones")


def _task_like(task: MusicaTask, **changes: int) -> MusicaTask:
    """Return a new task with these options changed, which has no moving average: its network is the one to load."""
    values: dict[str, Any] = {key: value for key, value in task.hparams.items() if key != "_instantiator"}
    return MusicaTask(**(values | {"ema_decay": 0.0} | changes))


def parameters(net: nn.Module) -> int:
    """Return the number of weights, those kept as integers too."""
    integers = [layer for layer in net.modules() if isinstance(layer, IntegerLinear)]
    kept = sum(layer.weight.numel() + layer.bias.numel() for layer in integers)
    return kept + sum(weight.numel() for weight in net.parameters())


def weight_bytes(net: nn.Module) -> int:
    """Return the memory that the weights take, those kept as integers with their scales."""
    tensors: list[Tensor] = [*net.parameters()]
    for layer in net.modules():
        if isinstance(layer, IntegerLinear):
            tensors += layer.buffers()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


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
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--rank", type=int, help="numbers between the two thin matrices")
    how.add_argument("--bits", type=int, choices=tuple(TYPES), help="of a weight kept as an integer")
    parser.add_argument("--config", type=Path, default=None, help="recipe that names the data; --rank needs it")
    parser.add_argument("--root", default=None, help="folder of the data")
    options = parser.parse_args(arguments)
    task = load_task(MusicaTask, options.source)
    net = task.evaluated()
    if options.bits:
        small = store_as_integers(task, options.bits)
    elif options.config is None:
        raise LabError("--rank needs --config: the recipe whose training faces show what the layer answers")
    else:
        data = load_data(options.config, options.root, task)
        small = shrink(task, hidden_answers(net, batches(data, "train", EVAL_BATCH)), options.rank)
    write_checkpoint(small, options.target)
    count = len(net.level_of)
    print(f"{options.target}: {parameters(net):,} -> {parameters(small.net):,} weights, "
          f"{weight_bytes(net) / 1e6:.1f} -> {weight_bytes(small.net) / 1e6:.1f} MB, "
          f"{net.macs(count) / 1e6:.2f} -> {small.net.macs(count) / 1e6:.2f} M multiply-adds")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
