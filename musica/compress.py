"""Low-rank layers for a trained cascade: each is replaced by the product of two small matrices.

python -m musica.compress runs/musica/helen/checkpoints/best.ckpt SMALL.ckpt --rank 64 --attention_rank 32 \\
    --config musica/helen.yaml

The hidden layers' matrices hold most of the weights; the attention's take a seventh of the multiply-adds. No training
is needed: on training faces a layer's outputs are close to a low-dimensional subspace. The projection on their first
principal axes is the best approximation of that rank for those outputs in the sense of squares, which the singular
vectors of the matrix alone do not give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from torch import Tensor, nn

from common.errors import LabError, command
from common.evaluation import batches, load_data
from common.task import load_task, make_task
from common.types import FaceBatch
from musica.module import MusicaTask
from musica.network import CascadeNet
from musica.types import FEATURES

EVAL_BATCH = 32


class Outputs(NamedTuple):
    """Statistics of a linear layer's U outputs, before its activation, over faces or patches.

    Attributes:
        mean: (U,).
        axes: (U, U) principal axes as columns, the widest first.
    """

    mean: Tensor
    axes: Tensor


class StageOutputs(NamedTuple):
    """Statistics of one iteration's layers: the hidden layer over faces, the attention over patches."""

    hidden: Outputs
    attention: Outputs


class _Moments:
    """Sums over a layer's outputs, from which mean and axes follow without keeping the outputs."""

    def __init__(self) -> None:
        self.count, self.total, self.products = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, layer: nn.Module, given: object, output: Tensor) -> None:
        rows = output.double()
        self.count += len(rows)
        self.total, self.products = self.total + rows.sum(0), self.products + rows.T @ rows

    def outputs(self) -> Outputs:
        mean = self.total / self.count
        _, axes = torch.linalg.eigh(self.products / self.count - torch.outer(mean, mean))
        return Outputs(mean, axes.flip(1))


@torch.inference_mode()
def layer_outputs(net: CascadeNet, faces: Iterable[FaceBatch]) -> list[StageOutputs]:
    """Return mean and principal axes of every iteration's layers, all iterations, on crops of `faces`."""
    seen = [(_Moments(), _Moments()) for _ in net.stage_list]
    handles = [
        layer.register_forward_hook(moments)
        for stage, pair in zip(net.stage_list, seen, strict=True)
        for layer, moments in zip((stage.hidden, stage.attention), pair, strict=True)
    ]
    try:
        for batch in faces:
            net.traced(batch.image)
    finally:
        for handle in handles:
            handle.remove()
    return [StageOutputs(*(moments.outputs() for moments in pair)) for pair in seen]


def low_rank_factors(weight: Tensor, bias: Tensor, outputs: Outputs, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first matrix (rank, I), the second one (U, rank) and its bias (U,) that approximate a layer."""
    weight, bias, first = weight.double(), bias.double(), outputs.axes[:, :rank]
    return first.T @ weight, first, outputs.mean + first @ (first.T @ (bias - outputs.mean))


def shrink(task: MusicaTask, outputs: Sequence[StageOutputs], rank: int, attention_rank: int = 0) -> MusicaTask:
    """Return a task whose layers are products of two; its network is the one that predicts in `task`.

    Args:
        task: trained, with whole layers, whose start shape counts from the crop.
        outputs: from `layer_outputs` of its network.
        rank: of the hidden layers, at most the number of hidden units.
        attention_rank: of the attention, at most `FEATURES`; 0 leaves it whole.

    Raises:
        LabError: a rank is out of range, or the layers are small already.
    """
    net = task.net
    units = net.stage_list[0].units
    if not 1 <= rank <= units:
        raise LabError(f"rank must be from 1 to the {units} hidden units, got {rank}")
    if not 0 <= attention_rank <= FEATURES:
        raise LabError(f"attention_rank must be from 0 to {FEATURES}, got {attention_rank}")
    _check_whole(task)
    small = _task_like(task, rank=rank, attention_rank=attention_rank)
    state = net.state_dict()
    for t, stage in enumerate(outputs):
        layers = [("hidden", stage.hidden, rank, "squeeze", "hidden")]
        if attention_rank:
            layers.append(("attention", stage.attention, attention_rank, "attention.0", "attention.1"))
        for name, found, size, first, second in layers:
            weight, bias = (state.pop(f"stages.{t}.{name}.{kind}") for kind in ("weight", "bias"))
            keys = (f"{first}.weight", f"{second}.weight", f"{second}.bias")
            factors = low_rank_factors(weight, bias, found, size)
            state |= {f"stages.{t}.{key}": value for key, value in zip(keys, factors, strict=True)}
    small.net.load_state_dict(state, strict=True)
    return small.eval()


def _check_whole(task: MusicaTask) -> None:
    if task.net_config.rank:
        raise LabError(f"the hidden layers have rank {task.net_config.rank} already; start from the whole ones")
    if task.net_config.attention_rank:
        raise LabError(f"the attention has rank {task.net_config.attention_rank} already; start from the whole one")


def _task_like(task: MusicaTask, **changes: int) -> MusicaTask:
    """Return a new task with these options changed, which has no moving average: its network is the one to load."""
    return make_task(MusicaTask, {**task.settings(), "ema_decay": None, **changes}, "the smaller version")


def parameters(net: nn.Module) -> int:
    """Return the number of weights."""
    return sum(weight.numel() for weight in net.parameters())


def weight_bytes(net: nn.Module) -> int:
    """Return the memory that the weights take."""
    return sum(weight.numel() * weight.element_size() for weight in net.parameters())


def write_checkpoint(task: MusicaTask, path: Path) -> None:
    """Write a checkpoint as `fit` does, but without the optimiser: for validate, test, predict and the commands here.

    Raises:
        LabError: the file exists.
    """
    if path.exists():
        raise LabError(f"{path}: exists already; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({
        "state_dict": task.state_dict(), "hyper_parameters": task.settings(), "method": task.METHOD,
        "pytorch-lightning_version": lightning.__version__, "epoch": 0, "global_step": 0,
    }, path)  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m musica.compress", description="Make a trained cascade's layers smaller."
    )
    parser.add_argument("source", type=Path, help="checkpoint of `fit`")
    parser.add_argument("target", type=Path, help="checkpoint to write")
    parser.add_argument("--rank", type=int, required=True, help="rank of the hidden layers")
    parser.add_argument("--attention_rank", type=int, default=0, help="rank of the attention; 0 leaves it whole")
    parser.add_argument("--config", type=Path, required=True,
                        help="recipe that names the data; its training faces show what the layers return")  # fmt: skip
    parser.add_argument("--root", default=None, help="folder of the data")
    options = parser.parse_args(arguments)
    task = load_task(MusicaTask, options.source)
    net = task.net
    data = load_data(options.config, options.root, task)
    outputs = layer_outputs(net, batches(data.cropped("train"), size=EVAL_BATCH))
    small = shrink(task, outputs, options.rank, options.attention_rank)
    write_checkpoint(small, options.target)
    count = len(net.level_of)
    print(f"{options.target}: {parameters(net):,} -> {parameters(small.net):,} weights, "
          f"{weight_bytes(net) / 1e6:.1f} -> {weight_bytes(small.net) / 1e6:.1f} MB, "
          f"{net.macs(count) / 1e6:.2f} -> {small.net.macs(count) / 1e6:.2f} M multiply-adds")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
