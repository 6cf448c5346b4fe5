"""Turn the official weights of this method into this project's names and file format.

python -m awing.convert WFLW_4HG.pth wflw_4hg.safetensors
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from awing.network import AWingNet
from awing.original import CROP, DIVISOR, FRAME, NARROW, PAD, UNIT
from common.data.crops import CropConfig
from common.errors import LabError, command
from common.files.checkpoints import listed
from common.files.converting import (
    PARALLEL,
    Converted,
    OfficialFiles,
    check_target,
    conclude,
    converter_parser,
    read_official,
)
from common.schemes import scheme_of_size

TASK_PREFIX = "net."  # where AWingTask holds its network, so that --init_from takes the converted file
COUNTER = "num_batches_tracked"  # BatchNorm's step counter, which PyTorch 0.4.0 and earlier did not store
HEAD = re.compile(r"l(\d+)\.weight")
LEVEL = re.compile(r"m0\.b1_(\d+)\.")
# Side of the official window over the mean side of the box: 2 / 250 of the padded sides' sum for the frame.
BOX_SCALE = 2 * (1 + PAD) * UNIT / DIVISOR * (NARROW * UNIT / FRAME)
FILES = OfficialFiles(
    method="awing",
    keys=(r"m0\.coordconv\.conv\.weight",),
    origin="WFLW_4HG.pth, linked in the README of protossw512/AdaptiveWingLoss on GitHub",
)


def prefix_table(stacks: int, depth: int) -> dict[str, str]:
    """Return official prefix -> ours, for every module that holds weights."""
    table = {"conv1.conv": "stem.conv", "bn1": "bn", "conv2": "block1", "conv3": "block2", "conv4": "block3"}
    for i in range(stacks):
        ours = f"stacks.{i}"
        table[f"m{i}.coordconv.conv"] = f"{ours}.coord.conv"
        hourglass = f"{ours}.hourglass"
        for level in range(depth, 0, -1):  # the official code counts from the innermost level
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
    """Return the arguments of `AWingNet` (num_points, stacks, width, depth) that official weights fit.

    Raises:
        LabError: the weights have no head or no hourglass, so they belong to something else.
    """
    heads = [int(found[1]) for key in official if (found := HEAD.fullmatch(key))]
    levels = [int(found[1]) for key in official if (found := LEVEL.match(key))]
    if not heads or not levels or "l0.weight" not in official or official["l0.weight"].ndim != 4:
        raise LabError("weights: keys such as l0.weight and m0.b1_4 are missing; give an official file of this method")
    maps, width = official["l0.weight"].shape[:2]
    # Bounded, so that a stray key such as l99999.weight is reported as unknown instead of filling the memory.
    return {
        "num_points": maps - 1,
        "stacks": len(set(heads)),
        "width": width,
        "depth": min(max(levels), len(set(levels))),
    }


def _official_names(net: AWingNet, stacks: int, depth: int) -> dict[str, str]:
    """Return official key -> ours for each entry of the network's state."""
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
        raise LabError(f"weights: {error}; give an official file of this method") from None


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename official weights for `AWingNet`; a leading `module.` and missing step counters are tolerated.

    Raises:
        LabError: a key is missing or unknown, two keys become one, or a shape differs; all are named.
    """
    given = {key.removeprefix(PARALLEL): value for key, value in official.items()}
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
    found = (("missing", missing), ("unknown", unknown), ("of another shape", differ))
    problems = [f"{len(keys)} keys {what} ({listed(keys)})" for what, keys in found if keys]
    if problems:
        raise LabError(f"weights do not fit this network ({size}): {'; '.join(problems)}")
    return {ours: given[key] if key in given else torch.zeros((), dtype=torch.int64) for key, ours in names.items()}


def convert(source: Path) -> Converted:
    """Return official weights as entries and settings of `AWingTask`.

    Raises:
        LabError: the file cannot be read or does not fit.
    """
    official = read_official(source)
    try:
        state = convert_state_dict(official)
        size = describe({key.removeprefix(PARALLEL): value for key, value in official.items()})
        scheme = scheme_of_size(size.pop("num_points")).name
    except LabError as error:
        raise LabError(f"{source}: {error}") from None
    return Converted(
        method="awing",
        state={TASK_PREFIX + key: value for key, value in state.items()},
        settings={"scheme": scheme, "input_size": CROP, **size, "official_frame": True},
        crop=CropConfig(size=CROP, box_scale=BOX_SCALE, side_rule="mean"),
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    options = converter_parser(FILES, "official file, such as WFLW_4HG.pth").parse_args(arguments)
    check_target(options.target, options.overwrite)
    conclude(convert(options.source), options.target, options.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
