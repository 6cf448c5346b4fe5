"""Turn the official weights of this method into this project's names and file format.

python -m dpr.convert 98_points_global_reinit.pth.tar 98_points_global_regress.pth.tar mean_98_face.npy OUT.safetensors

The files may come in any order; what each is shows by its keys. Without the two files of the local stage the result
is GSR. The official code's pictures are BGR: the first convolutions' input channels are turned, so that ours takes RGB.
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
from common.files.checkpoints import load_weights
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
from dpr.network import DPRNet
from dpr.parts import PREFIXES, neutral_face

TASK_PREFIX = "net."  # where DprTask holds its network, so that --init_from takes the converted file
NETS = ("global_reinit", "global_regress", "local_reinit", "local_regress")
LAST_BLOCK = 17
# Entry that only one of the four networks has -> the network.
MARKS = {
    "fc_loc.2.weight": "global_reinit",
    "pts_net.4.weight": "global_regress",
    "mouth_loc.4.weight": "local_regress",
    "mouth_net.4.weight": "local_reinit",
}
FILES = OfficialFiles(
    method="dpr",
    keys=tuple(re.escape(key) for key in MARKS),
    usage="98_points_global_regress.pth.tar mean_98_face.npy OUT.safetensors",
    origin="the .pth.tar files in models and mean_98_face.npy in data of shaoxiaohu/Face_Alignment_DPR on GitHub",
)
# Settings of DprTask that official weights need.
OFFICIAL: dict[str, object] = {
    "face_size": 256, "part_size": 128, "points_in_pixels": True, "box_grow": 1.0, "rounded": True,
}  # fmt: skip


def strip_parallel(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without the prefix `module.`."""
    return {key.removeprefix(PARALLEL): value for key, value in state.items()}


def kind_of(state: Mapping[str, Tensor], where: str) -> str:
    """Return which of the four networks official weights (without prefix) belong to.

    Raises:
        LabError: none of them.
    """
    for key, kind in MARKS.items():
        if key in state:
            return kind
    raise LabError(f"{where}: keys of none of this method's networks; expected one of {', '.join(MARKS)}")


def backbone_names(theirs: str) -> dict[str, str]:
    """Return prefixes of an official backbone -> ours."""
    table = {f"{theirs}0.": "backbone.stem.", f"{theirs}{LAST_BLOCK + 1}.": "backbone.last."}
    table |= {f"{theirs}{i}.": f"backbone.blocks.{i - 1}." for i in range(1, LAST_BLOCK + 1)}
    return table


def _rename(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the entries under our names; keys that the table does not know keep theirs, and are refused later."""
    longest = sorted(table, key=len, reverse=True)
    result = {}
    for key, value in state.items():
        prefix = next((p for p in longest if key.startswith(p)), "")
        result[table.get(prefix, "") + key.removeprefix(prefix)] = value
    return result


def _single(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if kind == "global_reinit":
        return _rename(state, {"fc_loc.": "head."})
    return _rename(state, {**backbone_names("features."), "pts_net.": "head."})


def _stacked(kind: str, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the four parts' weights as one grouped network's.

    Raises:
        LabError: the parts do not have the same keys.
    """
    parts: list[dict[str, Tensor]] = []
    for name in PREFIXES:
        own = {key: value for key, value in state.items() if key.startswith((f"{name}_net.", f"{name}_loc."))}
        table = {f"{name}_net.": "layers."}
        if kind == "local_regress":
            table = {**backbone_names(f"{name}_net."), f"{name}_loc.": "head."}
        parts.append(_rename(own, table))
    keys = list(parts[0])
    unmatched = {key for part in parts for key in set(part) ^ set(keys)}
    if unmatched or sum(map(len, parts)) != len(state):
        raise LabError(
            f"{where}: the parts do not have the same entries ({', '.join(sorted(unmatched)[:5]) or 'extra'})"
        )
    result: dict[str, Tensor] = {}
    for key in keys:
        values = [part[key] for part in parts]
        if kind == "local_regress" and key.startswith("head.4."):
            result |= {f"last.{k}.{key.removeprefix('head.4.')}": value for k, value in enumerate(values)}
        elif key.startswith(("head.", "layers.")) and values[0].numel() > 1:
            result[key] = torch.stack(values)
        else:
            result[key] = torch.cat(values) if values[0].ndim else values[0]
    return result


def convert_state_dict(state: Mapping[str, Tensor], where: str = "weights") -> tuple[str, dict[str, Tensor]]:
    """Return which network official weights belong to, and the weights under our names, for RGB pictures.

    Raises:
        LabError: they belong to none of the four networks.
    """
    plain = strip_parallel(state)
    kind = kind_of(plain, where)
    ours = _stacked(kind, plain, where) if kind.startswith("local") else _single(kind, plain)
    for first in ("localization.0.weight", "backbone.stem.0.weight"):
        if first in ours:
            ours[first] = ours[first].flip(1)
    return kind, ours


def assemble(networks: Mapping[str, Mapping[str, Tensor]], mean_face: np.ndarray | None) -> tuple[DPRNet, str]:
    """Return the network with official weights, and its scheme's name.

    Args:
        networks: kind -> weights under our names; the local ones may be absent, both together.
        mean_face: (2 L,) or (L, 2), unit square; None takes the neutral face, which gives wrong points.

    Raises:
        LabError: a network is missing, or weights do not fit.
    """
    local = "local_reinit" in networks or "local_regress" in networks
    missing = [kind for kind in (NETS if local else NETS[:2]) if kind not in networks]
    if missing:
        raise LabError(f"weights of {', '.join(missing)} are missing; give these files too")
    points = networks["global_regress"]["head.4.weight"].shape[0] // 2
    scheme = scheme_of_size(points)
    if mean_face is not None and mean_face.size != 2 * points:
        raise LabError(f"the mean face has {mean_face.size // 2} points, the networks {points}")
    face = neutral_face(scheme) if mean_face is None else mean_face
    net = DPRNet(scheme, torch.from_numpy(np.asarray(face, np.float64).reshape(points, 2).copy()), local=local)
    for kind, state in networks.items():
        module = getattr(net, kind)
        load_weights(module, state, kind)
    net.mean_known.fill_(mean_face is not None)
    if local:
        net.local_started.fill_(True)
    return net, scheme.name


def read_mean(path: Path) -> np.ndarray:
    """Return a mean face from an .npy file of plain numbers.

    Raises:
        LabError: the file is missing or damaged, or holds pickled objects.
    """
    return read_numbers(path, "give mean_98_face.npy of the official code")


def read_released(path: Path) -> dict[str, Tensor]:
    """Return official weights: a file of `torch.save` (never running pickled code), or arrays in an .npz.

    Raises:
        LabError: the file is missing, damaged, or holds anything but tensors.
    """
    if path.suffix != ".npz":
        return read_official(path)
    return {key: torch.from_numpy(array) for key, array in read_weights(path).items()}


def convert(sources: Sequence[Path]) -> Converted:
    """Return official weights as entries and settings of `DprTask`.

    Args:
        sources: files of two networks (GSR) or four (GLSR), and the mean face, in any order.

    Raises:
        LabError: a file cannot be read or does not fit, or one is missing.
    """
    networks: dict[str, dict[str, Tensor]] = {}
    mean = None
    for path in sources:
        if path.suffix == ".npy":
            mean = read_mean(path)
            continue
        kind, state = convert_state_dict(read_released(path), str(path))
        if kind in networks:
            raise LabError(f"{path}: weights of {kind} were given twice")
        networks[kind] = state
    if mean is None:
        raise LabError("no mean face was given; add the official mean_98_face.npy (or of another scheme)")
    net, scheme = assemble(networks, mean)
    settings = {"scheme": scheme, **OFFICIAL, "stage": "glsr" if net.local_reinit is not None else "gsr"}
    weights = {TASK_PREFIX + key: value for key, value in net.state_dict().items()}
    # The running errors of a task's losses, which official files do not have, start at 0: so the result is complete.
    weights |= {key: torch.zeros_like(value) for key, value in loss_state(settings).items()}
    return Converted(method="dpr", state=weights, settings=settings, crop=CropConfig(size=256, box_scale=1.0))


def loss_state(settings: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the entries of a new task's losses."""
    from common.task import make_task
    from dpr.module import DprTask

    state = make_task(DprTask, settings, "official settings").state_dict()
    return {key: value for key, value in state.items() if not key.startswith(TASK_PREFIX)}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = converter_parser(FILES, "official files: .pth.tar (or .npz) and mean face .npy", several=True)
    options = parser.parse_args(arguments)
    check_target(options.target, options.overwrite)
    conclude(convert(options.sources), options.target, options.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
