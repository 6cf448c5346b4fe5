"""Turn the weights that were released for this method into this project's names and file format.

python -m awing.convert WFLW_4HG.pth wflw_4hg.safetensors
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from awing.network import AWingNet
from common.checkpoints import read_state_dict, save_safetensors
from common.errors import LabError, command

TASK_PREFIX = "net."  # where AWingTask holds its network, so that --init_from takes the converted file
COUNTER = "num_batches_tracked"  # BatchNorm's step counter, which PyTorch 0.4.0 and earlier did not store
HEAD = re.compile(r"l(\d+)\.weight")
LEVEL = re.compile(r"m0\.b1_(\d+)\.")


def prefix_table(stacks: int, depth: int) -> dict[str, str]:
    """Return released prefix -> ours, for every module that holds weights."""
    table = {"conv1.conv": "stem.conv", "bn1": "bn", "conv2": "block1", "conv3": "block2", "conv4": "block3"}
    for i in range(stacks):
        ours = f"stacks.{i}"
        table[f"m{i}.coordconv.conv"] = f"{ours}.coord.conv"
        hourglass = f"{ours}.hourglass"
        for level in range(depth, 0, -1):  # the released code counts from the innermost level
            table[f"m{i}.b1_{level}"] = f"{hourglass}.skip"
            table[f"m{i}.b2_{level}"] = f"{hourglass}.down"
            table[f"m{i}.b3_{level}"] = f"{hourglass}.up"
            hourglass += ".inner"
        table[f"m{i}.b2_plus_1"] = hourglass
        parts = {"top_m_": "top", "conv_last": "conv", "bn_end": "bn", "l": "head"}
        if i < stacks - 1:
            parts |= {"bl": "merge_features", "al": "merge_maps"}
        table |= {f"{theirs}{i}": f"{ours}.{part}" for theirs, part in parts.items()}
    return table


def describe(official: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `AWingNet` (num_points, stacks, width, depth) that released weights fit.

    Raises:
        LabError: the weights have no head or no hourglass, so they belong to something else.
    """
    heads = [int(found[1]) for key in official if (found := HEAD.fullmatch(key))]
    levels = [int(found[1]) for key in official if (found := LEVEL.match(key))]
    if not heads or not levels or "l0.weight" not in official or official["l0.weight"].ndim != 4:
        raise LabError("weights: keys such as l0.weight and m0.b1_4 are missing; give a released file of this method")
    maps, width = official["l0.weight"].shape[:2]
    # Bounded, so that a stray key such as l99999.weight is told as unknown instead of filling the memory.
    return {
        "num_points": maps - 1,
        "stacks": len(set(heads)),
        "width": width,
        "depth": min(max(levels), len(set(levels))),
    }


def _official_names(net: AWingNet, stacks: int, depth: int) -> dict[str, str]:
    """Return released key -> ours for each entry of the network's state."""
    longest_first = sorted(
        ((ours, theirs) for theirs, ours in prefix_table(stacks, depth).items()), key=lambda pair: -len(pair[0])
    )
    names = {}
    for key in net.state_dict():
        ours, theirs = next(pair for pair in longest_first if key.startswith(pair[0] + "."))
        names[theirs + key[len(ours) :].replace(".shortcut.", ".downsample.")] = key
    return names


def _meta_net(num_points: int, stacks: int, width: int, depth: int) -> AWingNet:
    try:
        with torch.device("meta"):  # only names and shapes are needed
            return AWingNet(num_points, stacks=stacks, width=width, depth=depth)
    except ValueError as error:
        raise LabError(f"weights: {error}; give a released file of this method") from None


def _listed(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename released weights for `AWingNet`; a leading `module.` and missing step counters are tolerated.

    Raises:
        LabError: a key is missing or unknown, two keys become one, or a shape differs; all are named.
    """
    given = {key.removeprefix("module."): value for key, value in official.items()}
    if len(given) < len(official):
        raise LabError("weights: some keys are there both with and without a leading module.; give one set only")
    size = describe(given)
    net = _meta_net(**size)
    names = _official_names(net, size["stacks"], size["depth"])
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    missing = [key for key in names if key not in given and not key.endswith(COUNTER)]
    unknown = [key for key in given if key not in names]
    differ = [
        f"{key} is {tuple(given[key].shape)}, not {shapes[ours]}"
        for key, ours in names.items()
        if key in given and tuple(given[key].shape) != shapes[ours]
    ]
    told = (("missing", missing), ("unknown", unknown), ("of another shape", differ))
    problems = [f"{len(keys)} keys {what} ({_listed(keys)})" for what, keys in told if keys]
    if problems:
        raise LabError(f"weights do not fit this network ({size}): {'; '.join(problems)}")
    return {ours: given[key] if key in given else torch.zeros((), dtype=torch.int64) for key, ours in names.items()}


def official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of an `AWingNet` of the released kind back to the released names.

    Raises:
        LabError: the weights belong to a variant that was never released (no CoordConv, no boundary).
    """
    stacks = sum(bool(re.fullmatch(r"stacks\.\d+\.head\.weight", key)) for key in state)
    depth = sum(bool(re.fullmatch(r"stacks\.0\.hourglass\.(inner\.)*skip\.bn1\.weight", key)) for key in state)
    if not stacks or not depth:
        raise LabError("weights: no stacks or hourglasses among the keys; give the state of an AWingNet")
    maps, width = state["stacks.0.head.weight"].shape[:2]
    names = _official_names(_meta_net(maps - 1, stacks, width, depth), stacks, depth)
    wrong = set(names.values()) ^ set(state)
    if wrong:
        raise LabError(f"weights: {len(wrong)} keys differ from the released kind of network ({_listed(wrong)})")
    return {theirs: state[ours] for theirs, ours in names.items()}


def convert_file(source: Path, target: Path, overwrite: bool = False) -> dict[str, int]:
    """Convert a released file to weights of `AWingTask`, whole or not at all; return the network's size.

    Raises:
        LabError: the file cannot be read or does not fit, or the target exists and `overwrite` is off.
    """
    if target.suffix != ".safetensors":
        raise LabError(f"{target}: the converted file must be named .safetensors")
    if target.exists() and not overwrite:
        raise LabError(f"{target}: exists already; choose another name or add --overwrite")
    try:
        state = convert_state_dict(read_state_dict(source))
    except LabError as error:
        raise error if str(source) in str(error) else LabError(f"{source}: {error}") from None
    stacks = sum(key.endswith(".head.weight") for key in state)
    maps, width = state["stacks.0.head.weight"].shape[:2]
    size = {"num_points": maps - 1, "stacks": stacks, "width": width}
    metadata = {key: str(value) for key, value in size.items()}
    save_safetensors({TASK_PREFIX + key: value for key, value in state.items()}, target, metadata, overwrite=overwrite)
    return size


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m awing.convert", description="Convert released weights.")
    parser.add_argument("source", type=Path, help="released file, such as WFLW_4HG.pth")
    parser.add_argument("target", type=Path, help="file to write; .safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace the target if it exists")
    options = parser.parse_args(arguments)
    size = convert_file(options.source, options.target, options.overwrite)
    print(f"{options.target}: " + ", ".join(f"{key} {value}" for key, value in size.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
