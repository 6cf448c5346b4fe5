"""Turn official weights (a TensorFlow checkpoint, or an .npz exported from one) into this project's format.

python -m musica.convert model.ckpt-21300 OUT.safetensors --mean_shape mean_shape.npy
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.crops import CropConfig
from common.errors import LabError, command
from common.files.arrays import read_numbers, read_weights
from common.files.checkpoints import check_content
from common.files.converting import Converted, OfficialFiles, check_target, conclude, converter_parser
from common.schemes import scheme_of_size
from musica.network import CHANNELS, FEATURES, LEVELS
from musica.original import BOX_SIDE, MARGIN
from musica.patches import NAMED, RULES, patch_indices

TASK_PREFIX = "net."  # where the task holds its network, so that --init_from takes the converted file
AVERAGE = "/ExponentialMovingAverage"
# The optimiser's and the schedule's own variables, which a network does not need.
OTHERS = re.compile(r".*/Adam(_1)?|beta[12]_power|global_step|.*/Momentum")
KERNEL = (3, 3)
FILES = OfficialFiles(
    method="musica",
    keys=(r"Conv/weights(/ExponentialMovingAverage)?",),
    names=r"model\.ckpt-\d+.*",
    usage="OUT.safetensors --mean_shape mean_shape.npy",
    origin="the checkpoint and its mean shape, linked in the README of ligaripash/MuSiCa on GitHub",
)


def _numbered(kind: str, index: int) -> str:
    return f"{kind}_{index}" if index else kind


def name_table(iterations: int) -> dict[str, str]:
    """Return official variable -> ours; official names count up over all iterations, index 0 without a suffix."""
    table = {}
    for t in range(iterations):
        layers = [("Conv", 2 * t, "conv1"), ("Conv", 2 * t + 1, "conv2"), ("FC", 3 * t, "attention"),
                  ("FC", 3 * t + 1, "hidden"), ("FC", 3 * t + 2, "output")]  # fmt: skip
        for kind, index, ours in layers:
            table[f"{_numbered(kind, index)}/weights"] = f"stages.{t}.{ours}.weight"
            table[f"{_numbered(kind, index)}/biases"] = f"stages.{t}.{ours}.bias"
    return table


def expected_shapes(patches: int, points: int, units: int) -> dict[str, tuple[int, ...]]:
    """Return our layer's part of the name -> shape of the official variable."""
    return {
        "conv1.weight": (*KERNEL, 3, CHANNELS),
        "conv2.weight": (*KERNEL, CHANNELS, CHANNELS),
        "attention.weight": (FEATURES, FEATURES),
        "hidden.weight": (FEATURES * patches + units, units),
        "output.weight": (units, 2 * points + 1),
        "conv1.bias": (CHANNELS,),
        "conv2.bias": (CHANNELS,),
        "attention.bias": (FEATURES,),
        "hidden.bias": (units,),
        "output.bias": (2 * points + 1,),
    }


def choose_average(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return name -> value of the network's variables: the moving averages where there are any.

    Raises:
        LabError: only some of the variables have an average.
    """
    plain = {k: v for k, v in variables.items() if not k.endswith(AVERAGE) and not OTHERS.fullmatch(k)}
    averaged = {k.removesuffix(AVERAGE): v for k, v in variables.items() if k.endswith(AVERAGE)}
    if not averaged:
        return plain
    lacking = sorted(set(plain) - set(averaged))
    if lacking:
        raise LabError(
            f"{len(lacking)} variables have no moving average ({', '.join(lacking[:5])}); is the file whole?"
        )
    return averaged


def describe(variables: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return iterations, patches, points and units that the variables fit.

    Raises:
        LabError: the hidden or output layer of the first iteration is missing or of an impossible shape.
    """
    hidden, output = variables.get("FC_1/weights"), variables.get("FC_2/weights")
    if hidden is None or output is None or hidden.ndim != 2 or output.ndim != 2:
        raise LabError("variables FC_1/weights and FC_2/weights are missing; give an official checkpoint")
    units = hidden.shape[1]
    patches, rest = divmod(hidden.shape[0] - units, FEATURES)
    points, odd = divmod(output.shape[1] - 1, 2)
    if rest or odd or patches < 1 or points < 1:
        raise LabError(f"FC_1/weights {hidden.shape} and FC_2/weights {output.shape} are not of this method")
    found = sum(bool(re.fullmatch(r"FC(_\d+)?/weights", name)) for name in variables)
    iterations = found // 3
    if found % 3 or iterations not in LEVELS:
        raise LabError(f"{found} dense layers make no cascade of {', '.join(map(str, LEVELS))} iterations of 3 each")
    return {"iterations": iterations, "patches": patches, "points": points, "units": units}


def convert_variables(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return our state (without `start`) for official variables; the moving averages are taken where there are any.

    Kernels go from (row, column, in, out) to (out, in, row, column), matrices from (in, out) to (out, in).

    Raises:
        LabError: a variable is missing, unknown or of another shape; all are named.
    """
    chosen = choose_average(variables)
    size = describe(chosen)
    table = name_table(size["iterations"])
    shapes = expected_shapes(size["patches"], size["points"], size["units"])
    missing = sorted(set(table) - set(chosen))
    unknown = sorted(set(chosen) - set(table))
    differ = []
    for name, ours in table.items():
        wanted = shapes[ours.split(".", 2)[2]]
        if name in chosen and chosen[name].shape != wanted:
            differ.append(f"{name} is {chosen[name].shape}, not {wanted}")
    found = (("missing", missing), ("unknown", unknown), ("of another shape", differ))
    problems = [f"{len(names)} {what} ({', '.join(names[:5])})" for what, names in found if names]
    if problems:
        raise LabError(f"variables do not fit the network ({size}): {'; '.join(problems)}")
    state = {}
    for name, ours in table.items():
        value = torch.from_numpy(np.array(chosen[name], np.float32))
        axes = (3, 2, 0, 1) if value.ndim == 4 else tuple(reversed(range(value.ndim)))
        state[ours] = value.permute(axes).contiguous()
    return state


def read_variables(source: Path) -> dict[str, np.ndarray]:
    """Return the variables of a TensorFlow checkpoint (V1 or V2, by its prefix) or of an exported .npz.

    Raises:
        LabError: the file is missing, damaged or something else (see `check_content`), or TensorFlow is needed and not
            installed.
    """
    if source.suffix == ".npz":
        return read_weights(source)
    if not list(source.parent.glob(source.name + "*")):
        raise LabError(f"{source}: no such checkpoint; give the prefix, such as model.ckpt-21300, or an .npz")
    if source.is_file():  # a checkpoint of TensorFlow's first version, or something else
        check_content(source)
    try:
        import tensorflow as tf
    except ImportError:
        raise LabError(
            f"{source}: reading it needs TensorFlow; install the extra: pip install 'face-alignment-lab[tensorflow]', "
            "or export the variables to an .npz elsewhere (see musica/README.md)"
        ) from None
    prefix = str(source)
    for ending in (".index", ".meta"):
        prefix = prefix.removesuffix(ending)
    try:
        reader = tf.train.load_checkpoint(prefix)
        return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise LabError(f"{source}: damaged or no checkpoint ({str(error).splitlines()[0][:120]})") from None


def read_mean_shape(path: Path, points: int) -> Tensor:
    """Return the start shape (N, 2) row, column of an .npy file.

    Raises:
        LabError: the file is no such array, or has another number of points.
    """
    if path.suffix != ".npy":
        raise LabError(f"{path}: the start shape must be an .npy file; see musica/README.md for the export of a pickle")
    shape = read_numbers(path)
    if shape.shape != (points, 2) or not np.isfinite(shape).all():
        raise LabError(f"{path}: start shape is {shape.shape}, but the weights are for ({points}, 2) finite numbers")
    return torch.from_numpy(np.asarray(shape, np.float32))


def guess_patches(count: int, points: int) -> str:
    """Return the name of the set of so many patches, since the weights do not say which landmarks these are of.

    Raises:
        LabError: no set has so many.
    """
    named = [name for name, (made_for, _) in NAMED.items() if made_for == points]
    for name in (*RULES, *named):
        if len(patch_indices(name, points)) == count:
            return name
    raise LabError(f"{count} patches of {points} landmarks are no known set; give --patches with their landmarks")


def convert(source: Path, mean_shape: Path | None = None, patches: str | Sequence[int] | None = None) -> Converted:
    """Return official weights as entries and settings of `MusicaTask`.

    Args:
        source: prefix of the TensorFlow checkpoint, or .npz of its variables.
        mean_shape: the start shape that the weights were trained with; without it they can start a training, but not
            predict.
        patches: landmarks that got a patch, or the name of a set; None for the named set of so many.

    Raises:
        LabError: a file cannot be read or does not fit.
    """
    variables = read_variables(source)
    try:
        state = convert_variables(variables)
        size = describe(choose_average(variables))
        scheme = scheme_of_size(size["points"]).name
        chosen = patches or guess_patches(size["patches"], size["points"])
        indices = patch_indices(chosen, size["points"])
        if len(indices) != size["patches"]:
            raise LabError(f"the weights are for {size['patches']} patches, --patches names {len(indices)}")
    except LabError as error:
        raise LabError(f"{source}: {error}") from None
    lacking = ""
    if mean_shape is None:
        lacking = (
            "convert it again with --mean_shape mean_shape.npy, the start shape that the weights were trained with"
        )
    else:
        state["start"] = read_mean_shape(mean_shape, size["points"])
    side = round(BOX_SIDE * (1 + 2 * MARGIN))
    settings: dict[str, object] = {
        "scheme": scheme,
        "input_size": side,
        "patches": chosen if isinstance(chosen, str) else list(chosen),
        "iterations": size["iterations"],
        "units": size["units"],
        "sampling": "official",
        "origin": "box",
        "ema_decay": 0.0,  # they are averages already
    }
    return Converted(
        method="musica",
        state={TASK_PREFIX + key: value for key, value in state.items()},
        settings=settings,
        crop=CropConfig(size=side, box_scale=1 + 2 * MARGIN),
        lacking=lacking,
    )


def read_patches(text: str) -> str | list[int]:
    """Return what --patches says: a name, or landmarks with commas between them."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        return text


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = converter_parser(FILES, "prefix of a TensorFlow checkpoint, or an .npz of its variables")
    parser.add_argument("--mean_shape", type=Path, help="official start shape, .npy, written into the weights")
    parser.add_argument("--patches", type=read_patches, help="patch set, or its landmarks as 0,4,8,...; default: the "
                        "named set of so many patches")  # fmt: skip
    options = parser.parse_args(arguments)
    check_target(options.target, options.overwrite)
    conclude(convert(options.source, options.mean_shape, options.patches), options.target, options.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
