"""Turn official weights (`model-0000.params`) into this project's names and file format, and back.

python -m sdu3d.convert model-0000.params OUT.safetensors
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.data.crops import CropConfig
from common.errors import LabError, command
from common.files.checkpoints import listed
from common.files.converting import Converted, OfficialFiles, check_target, conclude, converter_parser
from common.schemes import scheme_of_size
from sdu3d.convert_mxnet import read_params
from sdu3d.network import SduNet
from sdu3d.original import BOX_FACTOR, CROP

TASK_PREFIX = "net."  # where SduTask holds its network, so that --init_from takes the converted file
COUNTER = "num_batches_tracked"
NORM_SUFFIX = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
MOVING = ("_moving_mean", "_moving_var")
FILES = OfficialFiles(
    method="sdu3d",
    keys=(r"(arg:)?stack0_unit0_.*",),
    names=r".+\.params",
    origin="model-0000.params of each model, linked in the README of deepinx/sdu-face-alignment on GitHub",
)
OLD_PREFIX = re.compile(r"(^|_)sta(?=\d)")  # checkpoints before March 2019 and of the network's first release


@dataclass(frozen=True)
class Size:
    """Arguments of `SduNet` that a file of weights fits; they are recovered from its names and shapes."""

    num_points: int
    topology: str
    block: str
    depth: int
    stacks: int
    width: int
    stride: int
    inside: str


def released_names(net: nn.Module) -> dict[str, str]:
    """Return official name (without arg: and aux:) -> our key, for everything in the network's state but counters."""
    norms = {name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    names = {}
    for key in net.state_dict():
        owner, _, last = key.rpartition(".")
        if last == COUNTER:
            continue
        suffix = NORM_SUFFIX[last] if owner in norms else last
        names[f"{owner}.{suffix}".replace(".", "_")] = key
    return names


def strip_prefixes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays by their names without arg:, aux: and with the present topology prefix.

    Raises:
        LabError: a running statistic is stored as a learned value or the other way round, or two names become one.
    """
    result: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        kind, _, bare = name.rpartition(":")
        if kind not in ("arg", "aux", ""):
            raise LabError(f"weights: {name} starts with neither arg: nor aux:; give an official parameter file")
        if kind and (kind == "aux") != bare.endswith(MOVING):
            raise LabError(f"weights: {name} should be stored as {'arg' if kind == 'aux' else 'aux'}")
        bare = OLD_PREFIX.sub(r"\1sat", bare)
        if bare in result:
            raise LabError(f"weights: two arrays have the name {bare}")
        result[bare] = array
    return result


def describe(arrays: Mapping[str, np.ndarray]) -> Size:
    """Return the network that weights belong to, from names without prefixes.

    The second form of SAT (gate) has the same weights as the first and cannot be reported from it.

    Raises:
        LabError: the weights belong to something else.
    """
    needed = ("heatmap_weight", "conv0_weight")
    absent = [name for name in needed if name not in arrays]
    stacks = {int(found[1]) for name in arrays if (found := re.match(r"stack(\d+)_unit0_", name))}
    if absent or not stacks or arrays["heatmap_weight"].ndim != 4 or arrays["conv0_weight"].ndim != 4:
        raise LabError(f"weights: arrays such as {', '.join(absent) or 'stack0_unit0_...'} are missing or of another "
                       "shape; give an official file of this method")  # fmt: skip
    sat = any(name.startswith("sat0_") for name in arrays)
    if sat:
        cells = (re.match(r"sat0_w\d+_h(\d+)_", name) for name in arrays)
        depth = max((int(found[1]) for found in cells if found), default=1) - 1
    else:
        places = (re.match(r"stack0_hg((?:_\d)*)_up1_0", name) for name in arrays)
        depth = max((len(found[1]) // 2 for found in places if found), default=-1) + 1
    first = arrays.get("stack0_unit0_conv1_weight")
    if any(name.startswith("stack0_unit0_w3_h4_1_") for name in arrays):
        block = "cab"
    elif any(name.startswith("stack0_unit0_block35_") for name in arrays):
        block = "inception"
    else:
        block = "hpm" if first is not None and first.shape[-1:] == (3,) else "resnet"
    heads, join = "heatmap_offset_weight" in arrays, "stack0_out3_weight" in arrays
    inside = {(True, True): "dcn", (True, False): "dcn_heads", (False, True): "dcn_join"}.get((heads, join), "none")
    return Size(
        num_points=int(arrays["heatmap_weight"].shape[0]),
        topology="sat" if sat else "hourglass",
        block=block,
        depth=max(1, min(depth, 8)),
        stacks=min(len(stacks), 16),
        width=int(arrays["heatmap_weight"].shape[1]),
        stride=2 if arrays["conv0_weight"].shape[-1] == 3 else 4,
        inside=inside,
    )


def build(size: Size) -> SduNet:
    """Return the network of that size.

    Raises:
        LabError: there is none.
    """
    try:
        return SduNet(**{field.name: getattr(size, field.name) for field in fields(size)})
    except ValueError as error:
        raise LabError(f"weights: {error}; give an official file of this method") from None


def convert_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Tensor], Size]:
    """Return weights of `SduNet` (our keys, float32) and its size, for official arrays.

    Raises:
        LabError: an array is missing or unknown, or its shape differs; all are named.
    """
    given = strip_prefixes(arrays)
    size = describe(given)
    with torch.device("meta"):
        net = build(size)
    names, shapes = released_names(net), {key: tuple(value.shape) for key, value in net.state_dict().items()}
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    differ = [
        f"{name} is {given[name].shape}, not {shapes[key]}"
        for name, key in names.items()
        if name in given and given[name].shape != shapes[key]
    ]
    reported = (("missing", missing), ("unknown", unknown), ("of another shape", differ))
    problems = [f"{len(found)} arrays {what} ({listed(found)})" for what, found in reported if found]
    if problems:
        raise LabError(f"weights do not fit this network ({size}): {'; '.join(problems)}")
    state = {key: torch.from_numpy(np.array(given[name], np.float32)) for name, key in names.items()}
    counters = {key: torch.zeros((), dtype=torch.int64) for key in shapes if key.endswith(COUNTER)}
    return {key: {**state, **counters}[key] for key in shapes}, size


def convert(source: Path) -> Converted:
    """Return official weights as entries and settings of `SduTask`.

    Raises:
        LabError: the file cannot be read or does not fit.
    """
    arrays = read_params(source)
    try:
        state, size = convert_arrays(arrays)
        network = asdict(size)
        scheme = scheme_of_size(network.pop("num_points")).name
    except LabError as error:
        raise LabError(f"{source}: {error}") from None
    return Converted(
        method="sdu3d",
        state={TASK_PREFIX + key: value for key, value in state.items()},
        settings={"scheme": scheme, "input_size": CROP, **network, "border": "mxnet", "official_frame": True},
        crop=CropConfig(size=CROP, box_scale=BOX_FACTOR),
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    options = converter_parser(FILES, "official file, such as model-0000.params").parse_args(arguments)
    check_target(options.target, options.overwrite)
    conclude(convert(options.source), options.target, options.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
